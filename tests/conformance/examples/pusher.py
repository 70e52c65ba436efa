#!/usr/bin/env python3
"""Pushes a ref of an archive repository: a whole client, written from SPEC.md.

    pusher.py REPOSITORY SERVER REF [--dry-run]

SERVER is a command for a shell that speaks for the server on its standard input and output.
"""

import hashlib
import os
import queue
import struct
import subprocess
import sys
import threading

PREAMBLE = b"\x8aACP\r\n\x1a\n"
NAMES = {0x02: "Welcome", 0x04: "RefStatus", 0x12: "Want", 0x24: "Staged", 0x31: "Missing",
         0x32: "Finalized", 0x33: "SummaryDone", 0x40: "Ping", 0x41: "Close"}
OF_CLIENTS = {0x01, 0x03, 0x10, 0x11, 0x13, 0x20, 0x21, 0x22, 0x23, 0x30}
CLOSE = ("DONE NOT_THE_PROTOCOL UNSUPPORTED BAD_FRAME VIOLATION LIMIT OBJECT_REFUSED INCOMPLETE STORAGE_FULL "
         "STORAGE_FAILED BUSY TIMEOUT INTERRUPTED SOURCE_FAILED INTERNAL NOT_PERMITTED").split()
FILE, DIRTREE, DIRMETA, COMMIT = 1, 2, 3, 4
SUFFIX = {FILE: "filez", DIRTREE: "dirtree", DIRMETA: "dirmeta", COMMIT: "commit"}


class Stop(Exception):
    def __init__(self, code, text, tell=True):
        super().__init__(text)
        self.code, self.text, self.tell = code, text, tell


def shown(text):
    """REQ-33: what comes from the server reaches no terminal as it is."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# Encoding (SPEC 3.4)
u64 = struct.Struct("<Q").pack


def text(value):
    return u64(len(value)) + value


class Fields:
    def __init__(self, name, payload):
        self.name, self.rest = name, payload

    def bad(self, why):
        return Stop("BAD_FRAME", "%s cannot be decoded: %s" % (self.name, why))

    def take(self, count):
        if len(self.rest) < count:
            raise self.bad("it ends early")
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def number(self, size):
        return int.from_bytes(self.take(size), "little")

    def one_of(self, count, size=4):
        value = self.number(size)
        if value >= count:
            raise self.bad("%d is too much" % value)
        return value

    def text(self):
        try:
            return self.take(self.one_of(1025, 8)).decode()
        except UnicodeDecodeError:
            raise self.bad("a text is not UTF-8") from None

    def option(self, read):
        return read() if self.one_of(2, 1) else None

    def list(self, read):
        return [read() for _ in range(self.number(8))]

    def extensions(self):
        tags = [tag for tag, _ in self.list(lambda: (self.number(2), self.take(self.number(8))))]
        if tags != sorted(set(tags)):
            raise self.bad("the tags of extensions do not ascend")

    def refusal(self):
        return self.number(2), self.text()

    def verdict(self, *names):
        name = names[self.one_of(len(names))]
        return name, self.refusal() if name == "Refused" else None

    def done(self):
        if self.rest:
            raise self.bad("bytes follow its last field")


# Objects and their repository (SPEC 6)
def offsets(data, count=None):
    """Returns the framing offsets of a tuple, the first member's first, and where they begin."""
    size = next(size for size in (1, 2, 4, 8) if len(data) < 1 << 8 * size)
    at = int.from_bytes(data[-size:], "little") if count is None else len(data) - count * size
    read = [int.from_bytes(data[n:n + size], "little") for n in range(at, len(data), size)]
    return read[::-1], at


def elements(data):
    """Returns the elements of an array whose elements vary in size."""
    ends = offsets(data)[0][::-1] if data else []
    return [data[start:end] for start, end in zip([0] + ends, ends)]


def children(i, data):
    """Returns what a commit or dirtree names."""
    if i[0] == COMMIT:
        # a{sv} ay a(say) s s t ay ay: all but t and the last have an offset.
        ends, last = offsets(data, 6)
        time = ends[4] + -ends[4] % 8
        return [bytes([DIRTREE]) + data[time + 8:ends[5]], bytes([DIRMETA]) + data[ends[5]:last]]
    if i[0] != DIRTREE:
        return []
    (middle,), last = offsets(data, 1)
    found = []
    for entry in elements(data[:middle]):
        (name,), end = offsets(entry, 1)
        found.append(bytes([FILE]) + entry[name:end])
    for entry in elements(data[middle:last]):
        (name, tree), end = offsets(entry, 2)
        found += [bytes([DIRTREE]) + entry[name:tree], bytes([DIRMETA]) + entry[tree:end]]
    return found


class Repository:
    def __init__(self, root):
        self.root = root

    def read(self, i, suffix=None):
        name = i[1:].hex()
        name = "%s/%s.%s" % (name[:2], name[2:], suffix or SUFFIX[i[0]])
        try:
            with open(os.path.join(self.root, "objects", name), "rb") as stored:
                return stored.read()
        except FileNotFoundError:
            return None

    def below(self, ids):
        """Returns all that these name, a commit or dirtree before what it holds, themselves first."""
        found, waiting = {}, list(ids)
        while waiting:
            i = waiting.pop(0)
            if i not in found:
                found[i] = None
                data = self.read(i) if i[0] in (COMMIT, DIRTREE) else None
                waiting += children(i, data) if data else []
        return list(found)


# The stream (SPEC 3)
class Wire:
    def __init__(self, server):
        self.process = subprocess.Popen(server, shell=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.limit, self.frames, self.unwritten = 4 << 20, queue.Queue(), queue.Queue()
        # REQ-36: it reads while it writes.
        threading.Thread(target=self.read_all, daemon=True).start()
        self.writer = threading.Thread(target=self.write_all, daemon=True)
        self.writer.start()

    def write_all(self):
        while (data := self.unwritten.get()) is not None:
            try:
                while data:
                    data = data[self.process.stdin.write(data):]
            except OSError:
                # What the server says last is read all the same.
                pass

    def say(self, kind, payload=b""):
        self.unwritten.put(struct.pack("<HHI", kind, 0, len(payload)) + payload)

    def take(self, count):
        data = bytearray()
        while len(data) < count:
            part = self.process.stdout.read(count - len(data))
            if not part:
                raise Stop(None, "the connection ended early", tell=False)
            data += part
        return bytes(data)

    def read_all(self):
        """Takes frames off the stream; what is wrong with it comes last."""
        try:
            begun = b""
            while len(begun) < 8 and PREAMBLE.startswith(begun):
                begun += self.take(1)
            if begun != PREAMBLE:
                raise Stop("NOT_THE_PROTOCOL", "no preamble: the server began with %s" % ascii(begun))
            while True:
                kind, flags, count = struct.unpack("<HHI", self.take(8))
                if count > self.limit:
                    raise Stop("LIMIT", "a frame of %d bytes" % count)
                known = kind in NAMES or kind in OF_CLIENTS
                if (known, flags) not in ((True, 0), (False, 1)):
                    raise Stop("BAD_FRAME", "a frame of kind %#06x with flags %d" % (kind, flags))
                payload = self.take(count)
                if kind in OF_CLIENTS:
                    raise Stop("VIOLATION", "a frame of kind %#06x from a server" % kind)
                if known:
                    self.frames.put((NAMES[kind], payload))
        except Stop as stop:
            self.frames.put((None, stop))

    def next(self, *awaited):
        """Returns the next frame but for signs of life, which must be one of these."""
        while True:
            try:
                name, payload = self.frames.get(timeout=15)
            except queue.Empty:
                self.say(0x40)  # REQ-37.
                continue
            if name is None:
                raise payload
            fields = Fields(name, payload)
            if name == "Close":
                code, said = fields.refusal()
                fields.done()
                code = CLOSE[code] if code < len(CLOSE) else str(code)
                raise Stop(code, "the server closed: %s: %s" % (code, shown(said)), tell=False)
            staged = name == "Staged" and ("Want" in awaited or "Finalized" in awaited)
            if staged or name == "Ping" and "Welcome" not in awaited:
                fields.take(16 if staged else 0)
                fields.done()
            elif name in awaited:
                return name, fields
            else:
                raise Stop("VIOLATION", "%s came where %s may come" % (name, " or ".join(awaited)))


# The session (SPEC 5.2)
class Push:
    def __init__(self, repository, ref, dry_run):
        self.repository, self.ref, self.dry_run = repository, ref, dry_run
        with open(os.path.join(repository.root, "refs/heads", ref)) as held:
            self.commit = bytes.fromhex(held.read().strip())
        self.detached = repository.read(bytes([COMMIT]) + self.commit, "commitmeta")
        self.objects = self.bytes = self.missing = 0
        self.unsettled, self.outcome = False, None

    def run(self, server):
        self.wire = Wire(server)
        try:
            self.talk()
            self.wire.say(0x41, struct.pack("<H", 0) + text(b""))
        except Stop as stop:
            if stop.tell:
                said = stop.text.encode()[:1024].decode(errors="ignore").encode()  # REQ-7
                self.wire.say(0x41, struct.pack("<H", CLOSE.index(stop.code)) + text(said))
            if self.outcome is None:
                raise
            print("then: %s" % stop.text, file=sys.stderr)  # REQ-29
        finally:
            self.wire.unwritten.put(None)
            self.wire.writer.join(5)
            self.wire.process.stdin.close()
            self.wire.process.wait()

    def talk(self):
        self.wire.unwritten.put(PREAMBLE)
        self.wire.say(0x01, struct.pack("<HHQ", 2, 2, 0) + text(b"pusher.py") + u64(0))
        detached = b"\0" if self.detached is None else b"\1" + hashlib.sha256(self.detached).digest()
        update = text(self.ref.encode()) + self.commit + detached + struct.pack("<I", 0)
        self.wire.say(0x03, struct.pack("<I", 2 * self.dry_run) + u64(1) + update + u64(0) + b"\0" + u64(0))
        if not self.is_accepted():
            return
        if self.detached is not None and not self.dry_run:
            self.wire.say(0x13, self.commit + self.detached)
        self.send(self.closure)
        while not self.settle():
            pass
        _, fields = self.wire.next("SummaryDone")
        if fields.one_of(2):
            print("the server's summary is out of date: %s" % shown(fields.text()))
        fields.done()

    def is_accepted(self):
        _, fields = self.wire.next("Welcome")
        version, _, frame = fields.number(2), fields.number(8), fields.number(4)
        self.object_max, self.objects_max, self.bytes_max = (fields.number(8) for _ in range(3))
        fields.text(), fields.option(fields.text), fields.option(fields.text), fields.extensions()
        fields.done()
        if version != 2 or not (1 << 20) + 1024 <= frame <= 4 << 20:
            raise Stop("UNSUPPORTED", "version %d, and frames of %d bytes" % (version, frame))
        self.wire.limit, states, is_first = frame, [], True
        while not states:
            _, fields = self.wire.next("RefStatus")
            states = fields.list(lambda: (fields.option(lambda: fields.take(32)),
                                          fields.verdict("Unchanged", "Accepted", "Refused")))
            complete = fields.list(lambda: fields.take(32))
            fields.done()
            if not is_first and (complete or not states):
                raise Stop("VIOLATION", "a further RefStatus holds just refs")
            is_first = False
        if len(states) > 1:
            raise Stop("LIMIT", "%d states of one ref" % len(states))
        current, verdict = states[0]
        self.closure = self.repository.below(self.history(current))
        self.outcome = verdict if verdict[0] != "Accepted" else None
        return self.outcome is None

    def history(self, current):
        """REQ-20: returns the commits from the new one back to the ref's value, without that."""
        found, commit = [], self.commit
        while commit and commit != current and (data := self.repository.read(bytes([COMMIT]) + commit)):
            found.append(bytes([COMMIT]) + commit)
            ends, _ = offsets(data, 6)
            commit = data[ends[0]:ends[1]]
        return found if commit == current else found[:1]

    def send(self, ids):
        """Offers ids, and sends what is wanted of them."""
        for start in range(0, len(ids), 1024):
            part = ids[start:start + 1024]
            self.wire.say(0x11, u64(len(part)) + b"".join(part))
            _, fields = self.wire.next("Want")
            count = fields.number(4)
            if count != len(part):
                raise Stop("VIOLATION", "Want of %d for %d ids" % (count, len(part)))
            bits = fields.take((count + 7) // 8)
            fields.done()
            self.give([i for n, i in enumerate(part) if bits[n // 8] >> n % 8 & 1])

    def give(self, wanted):
        # REQ-10.
        self.objects += len(wanted)
        if self.objects > self.objects_max:
            raise Stop("LIMIT", "more than the %d objects that the server takes" % self.objects_max)
        for i in wanted if not self.dry_run else ():
            stored = self.repository.read(i)
            if stored is None:
                raise Stop("SOURCE_FAILED", "the repository lacks %s" % i[1:].hex())
            size = struct.unpack(">Q", stored[8:16])[0] if i[0] == FILE else 0
            self.bytes += len(stored)
            if max(size, len(stored)) > self.object_max or self.bytes > self.bytes_max:
                raise Stop("LIMIT", "more bytes than the server takes")
            if len(stored) < 1 << 20:
                self.wire.say(0x20, i + struct.pack("<I", len(stored)) + stored)
                continue
            self.wire.say(0x21, b"\0" + i)
            for start in range(0, len(stored), 1 << 19):
                self.wire.say(0x22, b"\0" + stored[start:start + (1 << 19)])
            self.wire.say(0x23, b"\0")

    def settle(self):
        """Finalizes; sends what was missing and returns False, if something was."""
        self.wire.say(0x30)
        self.unsettled = not self.dry_run
        name, fields = self.wire.next("Missing", "Finalized")
        if name == "Finalized":
            outcomes = fields.list(lambda: fields.verdict("Updated", "Unchanged", "WouldUpdate", "Refused"))
            fields.done()
            if len(outcomes) > 1:
                raise Stop("LIMIT", "%d outcomes of one ref" % len(outcomes))
            if not outcomes or outcomes[0][0] == ("Updated" if self.dry_run else "WouldUpdate"):
                raise Stop("VIOLATION", "no outcome, or one that does not belong here")
            self.unsettled, self.outcome = False, outcomes[0]
            return True
        ids = fields.list(lambda: fields.take(33))
        fields.done()
        self.unsettled, self.missing = False, self.missing + 1  # REQ-30
        if len(ids) > 16_384:
            raise Stop("LIMIT", "%d ids in a Missing" % len(ids))
        if not ids or len(set(ids)) < len(ids) or self.missing > 3 or self.dry_run:
            raise Stop("VIOLATION", "a Missing that may not come")
        if not set(ids) <= set(self.closure):
            raise Stop("VIOLATION", "what this push does not reach is missing")
        self.give(ids)
        self.send([i for i in self.repository.below(ids) if i not in ids])
        return False


def main(words):
    root, server, ref = [word for word in words if word != "--dry-run"]
    for _ in range(3):
        push = Push(Repository(root), ref, "--dry-run" in words)
        try:
            push.run(server)
        except Stop as stop:
            print(stop.text, file=sys.stderr)
            # REQ-30: these come before any ref is set; else the same once more tells.
            before = ("VIOLATION", "LIMIT", "OBJECT_REFUSED", "INCOMPLETE", "BUSY")
            if not push.unsettled or (stop.code in before and not stop.tell):
                return 1
            print("whether the ref is set is not known: asking again", file=sys.stderr)
            continue
        name, refusal = push.outcome
        print("%s %s%s" % (ref, name.lower(), ": " + shown(refusal[1]) if refusal else ""))
        return name == "Refused"
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
