"""A client to try: started on a repository with one artifact, with the kit for its server."""

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from . import objects as o
from . import wire as w
from .harness import Failed, Stream, check

REF = "project/element/key"
BRIDGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bridge")


class Talk(Stream):
    """One session with the client."""

    def __init__(self, peer):
        self.peer = peer
        super().__init__(peer.fileno(), peer.fileno())

    def say(self, *frames):
        self.write(b"".join(frames))

    def greet(self, **limits):
        """Reads the first flight and welcomes; returns the announcement."""
        self.expect("Hello")
        announce = self.expect("Announce")
        self.early = None
        self.say(w.PREAMBLE, w.welcome(**limits))
        return announce

    def accept(self, announce, verdict=None, complete=(), current=None):
        states = [(current, verdict or w.ACCEPTED) for _ in announce["refs"]]
        self.say(w.ref_status(states, complete))

    def collect(self, have=(), before=()):
        """Answers offers until Finalize; returns the objects that came and the frames seen."""
        objects, open_, seen = {}, {}, []
        while True:
            name, fields = self.next()
            seen.append((name, fields))
            if name == "Offer":
                self.say(w.want([i not in have for i in fields["ids"]]))
            elif name == "Pack":
                objects.update(fields["objects"])
            elif name == "ObjectBegin":
                open_[fields["stream"]] = (fields["id"], [])
            elif name == "ObjectChunk":
                open_[fields["stream"]][1].append(fields["stored"])
            elif name == "ObjectEnd":
                i, parts = open_.pop(fields["stream"])
                objects[i] = b"".join(parts)
            elif name == "Finalize":
                return objects, seen
            elif name in ("Basis", "Detached"):
                pass
            else:
                what = " (%s: %s)" % (fields["code"], fields["text"]) if name == "Close" else ""
                raise Failed("%s%s where Finalize is due" % (name or "the end of the bytes", what))

    def done(self):
        """Reads the goodbye."""
        name, fields = self.next()
        check(name in (None, "Close"), "%s where Close DONE is due" % name)
        check(name is None or fields["code"] == "DONE", "%s" % fields)

    def hang_up(self):
        self.peer.shutdown(socket.SHUT_RDWR)
        self.ended = True


class Arena:
    """What a case is given: an artifact in a repository, and clients that push it."""

    def __init__(self, command):
        self.command = command
        self.dir = tempfile.mkdtemp(prefix="conformance-")
        self.root = o.init(os.path.join(self.dir, "repo"))
        self.listener = socket.socket(socket.AF_UNIX)
        self.path = os.path.join(self.dir, "socket")
        self.listener.bind(self.path)
        self.listener.listen(4)
        self.talks, self.processes, self.said = [], [], []

    def artifact(self, files=(("file", b"content"),), metadata=None, **more):
        one = o.Artifact(list(files), **more)
        o.store(self.root, one, REF)
        if metadata is not None:
            with open(o.path(self.root, one.id)[:-len("commit")] + "commitmeta", "wb") as out:
                out.write(metadata)
        return one

    def start(self, *words):
        server = "%s %s %s" % (sys.executable, BRIDGE, self.path)
        names = {"{repo}": self.root, "{server}": server, "{ref}": REF}
        command = [names.get(word, word) for word in self.command] + list(words)
        out = tempfile.TemporaryFile()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        process.out = out
        self.processes.append(process)
        return self.accept(), process

    def accept(self, patience=8):
        self.listener.settimeout(patience)
        try:
            peer, _ = self.listener.accept()
        except socket.timeout:
            raise Failed("the client does not connect") from None
        self.talks.append(Talk(peer))
        return self.talks[-1]

    def ends(self, process, well):
        """Waits for the client, which must have ended well or not; returns what it printed."""
        for talk in self.talks:
            try:
                # REQ-31: a server that has said all closes its stream.
                talk.peer.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        try:
            code = process.wait(30)
        except subprocess.TimeoutExpired:
            raise Failed("the client does not end") from None
        process.out.seek(0)
        said = process.out.read().decode(errors="replace")
        check((code == 0) == well, "exit code %d: %s" % (code, said.strip()))
        return said

    def asks_again(self, process):
        """Waits until the client has ended or has come back, and says which."""
        until = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < until:
            if select.select([self.listener], [], [], 0.02)[0]:
                return True
        return False

    def refuses(self, code, *frames, metadata=None):
        """A push that is finalized, whose server says these frames: the client closes so."""
        self.artifact()
        talk, process = self.start()
        talk.accept(talk.greet())
        talk.collect()
        talk.say(*frames)
        talk.expect_close(code)
        talk.hang_up()

    @staticmethod
    def stop(process):
        process.send_signal(signal.SIGTERM)

    def finish(self):
        said = []
        self.listener.close()
        for talk in self.talks:
            talk.peer.close()
        for process in self.processes:
            process.kill()
            process.wait()
            process.out.seek(0)
            said += process.out.read(4000).decode(errors="replace").splitlines()
            process.out.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        return said
