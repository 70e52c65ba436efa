#!/usr/bin/env python3
"""Takes a push into an archive repository: a whole server, written from SPEC.md.

    receiver.py REPOSITORY

Standard input and output are the stream. `stream.py` has its messages and frames, `ostree.py` the
objects and the repository. Everybody may set every ref, no summary is written, and nothing that an
earlier session received is taken over.
"""

import contextlib
import errno
import functools
import os
import shutil
import sys
import tempfile
import threading
from hashlib import sha256

from ostree import (COMMIT, DIRMETA, DIRTREE, FILE, OBJECT_MAX, Repository, TooDeep, members, need,
                    sync, verify)
from stream import CLOSE, FRAME_MAX, PREAMBLE, Gone, Stop, Stream, items, text, u8, u16, u32, u64

NOT_FAST_FORWARD, LOST_RACE, NAME_CONFLICT, BINDING = 2, 3, 4, 5
FORCE, DRY_RUN, UP_TO_DATE, ACCEPTED, REFUSED = 1, 2, 0, 1, 2
UPDATED, UNCHANGED, WOULD_UPDATE = 0, 1, 2
OBJECTS_MAX, BYTES_MAX = 1_000_000, 64 << 30


# The session (SPEC 5.1)
class Session(Stream):
    def __init__(self):
        super().__init__()
        self.refs, self.wanted, self.staged, self.streams, self.attached = [], {}, {}, {}, {}
        self.received = self.bytes = self.verified = self.rounds = self.options = self.ancestors = 0
        self.has_offered = self.has_basis = False

    def run(self, root):
        begun = b""
        while len(begun) < 8 and PREAMBLE.startswith(begun):
            begun += self.take(1)
        if begun != PREAMBLE:
            raise Stop("NOT_THE_PROTOCOL", "the bytes do not begin as this protocol's")
        _, hello = self.next("Hello")
        if not hello["low"] <= 2 <= hello["high"]:
            raise Stop("UNSUPPORTED", "versions 2 2: the client speaks others")
        self.repository = Repository(root)
        try:
            self.limit = FRAME_MAX
            self.say(0x02, u16(2) + u64(0) + u32(FRAME_MAX) + u64(OBJECT_MAX) + u64(OBJECTS_MAX)
                     + u64(BYTES_MAX) + text("receiver.py") + b"\0\0" + u64(0))
            threading.Thread(target=self.live, daemon=True).start()
            self.announced()
            if any(ref.state == ACCEPTED for ref in self.refs):
                while not (self.transfer() and self.finalize()):
                    pass
                stale = os.path.exists(self.repository.at("summary"))
                self.say(0x33, u32(1) + text("this server writes no summary") if stale else u32(0))
        finally:
            shutil.rmtree(self.repository.staging, ignore_errors=True)

    def announced(self):
        bases, seen, more = [], {}, True
        while more:
            _, f = self.next("Announce", "Ping")
            if f["options"] & ~(FORCE | DRY_RUN):
                raise Stop("UNSUPPORTED", "an unknown option")
            if self.refs and f["options"] != self.options or f["more"] and not f["refs"]:
                raise Stop("VIOLATION", "the options differ, or an Announce says nothing")
            self.refs, bases = self.refs + f["refs"], bases + f["bases"]
            self.options, more = f["options"], f["more"]
            ancestors = f["extensions"].get(1, b"")
            self.ancestors = int.from_bytes(ancestors, "little") if len(ancestors) == 4 else 0
            if len(self.refs) > 10_000 or len(bases) > 16:
                raise Stop("LIMIT", "too many refs or bases")
            for ref in f["refs"]:
                if ref.name in seen or seen.setdefault(ref.commit, ref.detached) != ref.detached:
                    raise Stop("VIOLATION", "%s comes twice, or its metadata differs" % ref.name)
                seen[ref.name] = None
        made = set()
        for ref in self.refs:
            self.judge(ref, made)
        values = [(name, value) for name, value in bases if self.repository.ref(name) == value]
        values += [(ref.name, ref.current) for ref in self.refs if ref.current]
        whole = [(value, name) for name, value in values if not self.repository.is_partial(value)]
        self.complete = dict(reversed(whole[:64]))
        self.relied, self.beneath = self.complete, None
        states = [(b"\1" + ref.current if ref.current else b"\0") + u32(ref.state)
                  + (self.refusal(ref) if ref.state == REFUSED else b"") for ref in self.refs]
        for start in range(0, max(1, len(states)), 1000):
            complete = [] if start else self.complete
            self.say(0x04, items(states[start:start + 1000]) + items(complete))

    def judge(self, ref, made):
        ref.current, ref.state, ref.why = self.repository.ref(ref.name), REFUSED, (0, "")
        parents = ref.name.split("/")
        parents = {"/".join(parents[:count]) for count in range(1, len(parents))}
        heads = functools.partial(self.repository.at, "refs/heads")
        if ref.current == ref.commit and self.has_metadata(ref) and self.has_ancestors(ref.commit):
            ref.state = UP_TO_DATE
        elif ref.expect == 1 and ref.current or ref.expect == 2 and ref.current != ref.expected:
            ref.why = LOST_RACE, "the ref holds another commit than is expected"
        elif (os.path.isdir(heads(ref.name)) or ref.name + "/" in made or made & parents
              or any(os.path.isfile(heads(parent)) for parent in parents)):
            ref.why = NAME_CONFLICT, "%s is a directory of other refs, or beneath a ref" % ref.name
        else:
            ref.state = ACCEPTED
            made |= {ref.name} | {parent + "/" for parent in parents}

    def has_metadata(self, ref):
        held = self.repository.detached(ref.commit)
        return ref.detached is None or held is not None and sha256(held).digest() == ref.detached

    def has_ancestors(self, commit):
        """Returns whether as many ancestors as the client has are here with all they reach."""
        for _ in range(self.ancestors):
            commit = self.repository.parent(commit)
            if not commit:
                break
            if self.repository.is_partial(commit) or not self.repository.is_whole(commit):
                return False
        return True

    @staticmethod
    def refusal(ref):
        return u16(ref.why[0]) + text(ref.why[1])

    def accepted(self):
        return [ref for ref in self.refs if ref.state == ACCEPTED]

    # Transfer
    def transfer(self):
        """Takes offers and objects, until all that the client has said is answered."""
        takes = {"Basis": self.basis, "Offer": self.offer, "Detached": self.attach,
                 "Pack": self.pack, "ObjectBegin": self.begin, "ObjectChunk": self.chunk,
                 "ObjectEnd": self.end}
        while True:
            name, fields = self.next(*takes, "Finalize", "Ping")
            if name == "Finalize":
                return True
            takes[name](**fields)

    def basis(self, commits):
        if len(commits) > 64:
            raise Stop("LIMIT", "a basis of too many commits")
        if self.has_basis or self.has_offered or set(commits) - set(self.complete):
            raise Stop("VIOLATION", "a basis that comes too late, or was not called complete")
        self.has_basis, self.relied = True, {commit: self.complete[commit] for commit in commits}

    def is_beneath(self, i):
        """Returns whether an object lies beneath a commit that is relied on, and is there."""
        if self.beneath is None:
            self.beneath = set()
            for commit in self.relied:
                self.beneath.update(self.repository.reach(commit, lambda i: True, {}))
        return i in self.beneath and os.path.exists(self.repository.path(i))

    def is_wanted(self, i):
        open_ = any(i == begun for begun, _ in self.streams.values())
        if open_ or i in self.wanted or i in self.staged or self.is_beneath(i):
            return False
        self.wanted[i] = None
        return True

    def offer(self, ids):
        if not ids or len(ids) > 1024:
            raise Stop("LIMIT" if ids else "VIOLATION", "an offer of %d ids" % len(ids))
        self.has_offered = True
        bits = sum(self.is_wanted(i) << place for place, i in enumerate(ids))
        if len(self.wanted) + len(self.streams) > 65_536:
            raise Stop("LIMIT", "too many ids are offered and not sent")
        self.say(0x12, u32(len(ids)) + bits.to_bytes((len(ids) + 7) // 8, "little"))

    def attach(self, commit, metadata):
        due = {ref.commit: ref.detached for ref in self.accepted()}.get(commit)
        if len(metadata) > 1 << 20:
            raise Stop("LIMIT", "detached metadata of %d bytes" % len(metadata))
        if (self.options & DRY_RUN or commit in self.attached
                or sha256(metadata).digest() != due):
            raise Stop("VIOLATION", "detached metadata that was not announced, or comes twice")
        with refusing("detached metadata"):
            members("Detached", metadata)
        self.bytes += len(metadata)
        self.attached[commit] = metadata

    def receive(self, i):
        if self.options & DRY_RUN or i not in self.wanted:
            raise Stop("VIOLATION", "%s comes twice, or before its Want" % i[1:].hex())
        self.wanted.pop(i)
        self.received += 1
        return i, tempfile.NamedTemporaryFile(dir=self.repository.staging, delete=False)

    def append(self, begun, stored):
        i, file = begun
        self.bytes += len(stored)
        if self.received > OBJECTS_MAX or self.bytes > BYTES_MAX:
            raise Stop("LIMIT", "more than is taken in a push")
        with refusing(i[1:].hex()):
            most = OBJECT_MAX if i[0] == FILE else 10 << 20
            need(file.tell() + len(stored) <= most, "it is too long")
        file.write(stored)

    def keep(self, begun):
        """INV-1: an object has its name when it is verified and written."""
        i, file = begun
        with refusing(i[1:].hex()):
            verify(i, file)
        file.close()
        self.verified += os.path.getsize(file.name)
        os.rename(file.name, self.repository.staged(i))
        self.staged[i] = None

    def pack(self, objects):
        for i, stored in objects:
            begun = self.receive(i)
            self.append(begun, stored)
            self.keep(begun)
        self.say(0x24, u64(len(self.staged)) + u64(self.verified))

    def begin(self, stream, id):
        if stream > 3 or stream in self.streams:
            raise Stop("VIOLATION", "a stream of number %d, which is in use or none" % stream)
        self.streams[stream] = self.receive(id)

    def chunk(self, stream, stored):
        self.append(self.open(stream), stored)

    def end(self, stream):
        self.keep(self.open(stream))
        del self.streams[stream]
        self.say(0x24, u64(len(self.staged)) + u64(self.verified))

    def open(self, stream):
        if stream not in self.streams:
            raise Stop("VIOLATION", "stream %d is not open" % stream)
        return self.streams[stream]

    # Publication
    def finalize(self):
        """Publishes and returns True, or says what is missing."""
        if self.streams:
            raise Stop("VIOLATION", "Finalize while an object is on its way")
        if self.options & DRY_RUN:
            self.tell(WOULD_UPDATE)
            return True
        if any(ref.detached and ref.commit not in self.attached for ref in self.accepted()):
            raise Stop("VIOLATION", "detached metadata that was announced did not come")
        while True:
            try:
                reached, lacking = self.closure()
            except TooDeep:
                raise Stop("LIMIT", "a tree of more than 255 levels") from None
            if lacking:
                self.rounds += 1
                if self.rounds > 3 or len(lacking) > 16_384:
                    raise Stop("INCOMPLETE", "%d objects did not come" % len(lacking))
                self.wanted = lacking
                self.say(0x31, items(lacking))
                return False
            for i in self.staged:
                sync(self.repository.staged(i))
            try:
                locks = self.repository.locked()
            except BlockingIOError:
                raise Stop("BUSY", "another program has locked the repository") from None
            held = {c: name for c, name in self.relied.items() if self.repository.ref(name) == c}
            if held == self.relied:
                self.publish(reached)
                for lock in locks[::-1]:
                    lock.close()
                self.tell(UPDATED)
                return True
            self.relied, self.beneath = held, None
            for lock in locks:
                lock.close()

    def has(self, i):
        return i in self.staged or i not in self.wanted and self.is_beneath(i)

    def closure(self):
        """Refuses what may not be set; returns what the others reach, and what of it is missing."""
        reached, lacking = {}, {}
        for ref in self.accepted():
            commits, commit, descends = [ref.commit], ref.commit, ref.current is None
            is_there = self.has(u8(COMMIT) + commit)
            # LIM-22.
            for _ in range(10_000):
                descends |= commit == ref.current
                if not (commit := self.repository.parent(commit)):
                    break
                commits += [commit] if u8(COMMIT) + commit in self.staged else []
            if is_there and not self.repository.is_bound(ref.commit, ref.name):
                ref.state, ref.why = REFUSED, (BINDING, "the commit is bound to another ref")
            elif is_there and not descends and not self.options & FORCE:
                ref.state, ref.why = REFUSED, (NOT_FAST_FORWARD, "it does not descend from the ref")
            else:
                for each in commits:
                    reached.update(self.repository.reach(each, self.has, lacking))
        return reached, lacking

    def publish(self, reached):
        repository = self.repository
        # INV-2: what an object names is durable before it is there.
        for kind in (FILE, DIRMETA, DIRTREE, COMMIT):
            dirs = {repository.at("objects"): None}
            for i in reached:
                if i[0] == kind and i in self.staged:
                    place = repository.path(i)
                    os.makedirs(os.path.dirname(place), exist_ok=True)
                    os.chmod(repository.staged(i), 0o644)
                    os.rename(repository.staged(i), place)
                    dirs[os.path.dirname(place)] = None
            for place in dirs:
                sync(place)
        for i in filter(lambda i: i[0] == COMMIT and repository.is_partial(i[1:]), reached):
            os.unlink(repository.mark(i[1:]))
        for ref in self.accepted():
            now = repository.ref(ref.name)
            if now not in (ref.current, ref.commit):
                ref.state, ref.why = REFUSED, (LOST_RACE, "the ref was moved meanwhile")
            ref.is_same = now == ref.commit != ref.current and self.has_metadata(ref)
        for ref in self.accepted():
            if ref.detached and not ref.is_same:
                path = repository.path(u8(COMMIT) + ref.commit, "commitmeta")
                repository.write(path, self.attached[ref.commit])
        for ref in self.accepted():
            if not ref.is_same:
                try:
                    held = ref.commit.hex().encode() + b"\n"
                    repository.write(repository.at("refs/heads", ref.name), held)
                except (FileExistsError, NotADirectoryError, IsADirectoryError):
                    ref.state, ref.why = REFUSED, (NAME_CONFLICT, "another ref has come in the way")
            ref.state = UP_TO_DATE if ref.is_same else ref.state

    def tell(self, done):
        outcomes = [u32(3) + self.refusal(ref) if ref.state == REFUSED
                    else u32(done if ref.state == ACCEPTED else UNCHANGED) for ref in self.refs]
        for start in range(0, len(outcomes), 1000):
            self.say(0x32, items(outcomes[start:start + 1000]))


@contextlib.contextmanager
def refusing(what):
    try:
        yield
    except ValueError as error:
        raise Stop("OBJECT_REFUSED", "%s: %s" % (what, error)) from None


def main(root):
    session = Session()
    try:
        session.run(root)
    except Gone:
        return 1
    except Stop as stop:
        session.say(0x41, u16(CLOSE.index(stop.code)) + text(str(stop)))
        return 1
    except OSError as error:
        # What the system said is for the log, and not for the client.
        print("receiver.py: %s" % error, file=sys.stderr)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        code = "STORAGE_FULL" if full else "STORAGE_FAILED"
        session.say(0x41, u16(CLOSE.index(code)) + text("the repository cannot be read or written"))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
