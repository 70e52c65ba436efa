"""A receiver to try: started on a repository of its own for each case."""

import os
import shutil
import signal
import subprocess
import tempfile

from . import objects as o
from . import wire as w
from .harness import Stream, check

NAME = "project/element/key"


def artifact(files=(("file", b"content"),), **more):
    return o.Artifact(list(files), **more)


class Talk(Stream):
    """One session with the receiver."""

    def __init__(self, command, root):
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command + [root], stdin=subprocess.PIPE, bufsize=0,
                                        stdout=subprocess.PIPE, stderr=self.errors)
        super().__init__(self.process.stdout.fileno(), self.process.stdin.fileno())

    def say(self, *frames):
        self.write(b"".join(frames))

    def hang_up(self):
        """Ends our bytes."""
        self.process.stdin.close()

    def hello(self, **fields):
        self.say(w.PREAMBLE, w.hello(**fields))

    def announce(self, *pairs, options=0, bases=(), detached=None, expected=None):
        """Greets and announces (name, commit)s; returns the fields of RefStatus."""
        refs = [w.update(name, commit, detached, expected) for name, commit in pairs]
        self.hello()
        self.say(w.announce(refs, options, bases))
        self.welcome = self.expect("Welcome")
        return self.expect("RefStatus")

    def accepted(self, one, name=NAME, **more):
        status = self.announce((name, one.commit), **more)
        verdict = status["refs"][0][1]
        check(verdict[0] == "Accepted", "%s where Accepted is due" % (verdict,))
        return status

    def offer(self, ids):
        """Offers ids; returns those wanted."""
        ids, wanted = list(ids), []
        for start in range(0, len(ids), 1024):
            part = ids[start:start + 1024]
            self.say(w.offer(part))
            bits = self.expect("Want")["wanted"]
            check(len(bits) == len(part), "Want of %d bits for %d ids" % (len(bits), len(part)))
            wanted += [i for i, bit in zip(part, bits) if bit]
        return wanted

    def send(self, one, ids):
        for i in ids:
            stored = one.objects[i]
            if len(stored) < 1 << 20:
                self.say(w.pack([(i, stored)]))
                continue
            self.say(w.begin(0, i))
            for start in range(0, len(stored), 1 << 19):
                self.say(w.chunk(0, stored[start:start + (1 << 19)]))
            self.say(w.end(0))

    def finalize(self, *due):
        """Finalizes, and returns the names of the outcomes, which must be those due."""
        self.say(w.frame("Finalize"))
        outcomes = self.expect("Finalized")["refs"]
        names = [name for name, _ in outcomes]
        check(not due or names == list(due), "%s where %s is due" % (outcomes, due))
        return outcomes

    def finish(self):
        """Reads the end of a push that was finalized."""
        self.expect("SummaryDone")
        check(self.next()[0] is None, "the stream goes on after SummaryDone")


class Arena:
    """What a case is given: a repository, and receivers on it."""

    def __init__(self, command):
        self.command = command
        self.dir = tempfile.mkdtemp(prefix="conformance-")
        self.root = o.init(os.path.join(self.dir, "repo"))
        self.talks = []

    def start(self):
        self.talks.append(Talk(self.command, self.root))
        return self.talks[-1]

    def push(self, one, name=NAME, options=0, due="Updated", **more):
        """A whole push, as one does it."""
        talk = self.start()
        talk.accepted(one, name, options=options, **more)
        talk.send(one, talk.offer(one.objects))
        outcomes = talk.finalize(due)
        talk.finish()
        return outcomes

    def refuses(self, one, code, *frames, before=True):
        """A session that is announced, says these frames, and is closed with that code."""
        talk = self.start()
        if before:
            talk.accepted(one)
        talk.say(*frames)
        return talk.expect_close(code)

    def ref(self, name=NAME):
        return o.ref(self.root, name)

    def published(self, one, name=NAME):
        check(self.ref(name) == one.commit, "the ref does not hold the commit")
        check(not o.damage_of(self.root, one), "objects are missing or damaged")

    def remove(self, i):
        os.unlink(o.path(self.root, i))

    def finish(self):
        said = []
        for talk in self.talks:
            talk.process.kill()
            talk.process.wait()
            talk.errors.seek(0)
            said += talk.errors.read(4000).decode(errors="replace").splitlines()
            talk.process.stdout.close()
            talk.errors.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        return said

    @staticmethod
    def stop(talk):
        talk.process.send_signal(signal.SIGTERM)
