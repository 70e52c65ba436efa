"""The stream of a receiver: messages, frames and a clock (SPEC 3, 4, 5.4)."""

import os
import re
import select
import signal
import struct
import threading
import time
from types import SimpleNamespace

PREAMBLE = b"\x8aACP\r\n\x1a\n"
CLOSE = ("DONE NOT_THE_PROTOCOL UNSUPPORTED BAD_FRAME VIOLATION LIMIT OBJECT_REFUSED INCOMPLETE "
         "STORAGE_FULL STORAGE_FAILED BUSY TIMEOUT INTERRUPTED").split()
FRAME_MAX = 2 << 20
FILE, COMMIT = 1, 4
u8, u16, u32, u64 = (struct.Struct("<" + sign).pack for sign in "BHIQ")


class Stop(Exception):
    """Ends the session with a Close."""

    def __init__(self, code, why):
        super().__init__(why)
        self.code = code


class Gone(Exception):
    """The client has closed, or its bytes have ended."""


# Encoding (SPEC 3.4)
def text(value):
    cut = value.encode()[:1024].decode(errors="ignore").encode()  # REQ-7
    return u64(len(cut)) + cut


def items(values):
    return u64(len(values)) + b"".join(values)


class Payload:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if len(self.data) - self.at < count:
            raise ValueError("the payload ends early")
        self.at += count
        return self.data[self.at - count:self.at]

    def rest(self, least=0):
        return self.take(max(least, len(self.data) - self.at))

    def number(self, size, least=0, most=1 << 64):
        value = int.from_bytes(self.take(size), "little")
        if not least <= value <= most:
            raise ValueError("%d is not among its values" % value)
        return value

    def text(self):
        try:
            return self.take(self.number(8, most=1024)).decode()
        except UnicodeDecodeError:
            raise ValueError("it is not UTF-8") from None

    def list(self, read):
        return [read() for _ in range(self.number(8))]

    def checksum(self):
        return self.take(32)

    def id(self):
        return u8(self.number(1, FILE, COMMIT)) + self.checksum()

    def extensions(self):
        found = self.list(lambda: (self.number(2), self.take(self.number(8))))
        tags = [tag for tag, _ in found]
        if sum(10 + len(value) for _, value in found) > 8 << 10 or tags != sorted(set(tags)):
            raise ValueError("they are longer than LIM-18, or their tags do not ascend")
        return dict(found)

    def ref_name(self):
        name = self.text()
        part = r"(?!tmp\.)[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}"
        if not re.fullmatch(r"(?![0-9a-f]+\Z)%s(/%s){0,15}" % (part, part), name):
            raise ValueError("%s is no name of a ref" % ascii(name))
        return name

    def update(self):
        name, commit = self.ref_name(), self.checksum()
        detached = self.checksum() if self.number(1, most=1) else None
        expect = self.number(4, most=2)
        return SimpleNamespace(name=name, commit=commit, detached=detached, expect=expect,
                               expected=self.checksum() if expect == 2 else None)

    def objects(self):
        found = [(self.id(), self.take(self.number(4)))]
        while self.at < len(self.data):
            found.append((self.id(), self.take(self.number(4))))
        return found


def number(size, most=1 << 64):
    return lambda payload: payload.number(size, most=most)


MESSAGES = {
    0x01: ("Hello", dict(low=number(2), high=number(2), features=number(8), agent=Payload.text,
                         extensions=Payload.extensions)),
    0x03: ("Announce", dict(options=number(4), refs=lambda p: p.list(p.update),
                            bases=lambda p: p.list(lambda: (p.ref_name(), p.checksum())),
                            more=number(1, most=1), extensions=Payload.extensions)),
    0x10: ("Basis", dict(commits=lambda p: p.list(p.checksum))),
    0x11: ("Offer", dict(ids=lambda p: p.list(p.id))),
    0x13: ("Detached", dict(commit=Payload.checksum, metadata=Payload.rest)),
    0x20: ("Pack", dict(objects=Payload.objects)),
    0x21: ("ObjectBegin", dict(stream=number(1), id=Payload.id)),
    0x22: ("ObjectChunk", dict(stream=number(1), stored=lambda p: p.rest(1))),
    0x23: ("ObjectEnd", dict(stream=number(1))),
    0x30: ("Finalize", {}), 0x40: ("Ping", {}),
    0x41: ("Close", dict(code=number(2), text=Payload.text)),
}
OF_SERVERS = (0x02, 0x04, 0x12, 0x24, 0x31, 0x32, 0x33)


def decode(kind, data):
    name, fields = MESSAGES[kind]
    payload, found, field = Payload(data), {}, "payload"
    try:
        for field, read in fields.items():
            found[field] = read(payload)
        if payload.at < len(data):
            raise ValueError("bytes follow")
    except ValueError as error:
        raise Stop("BAD_FRAME", "%s cannot be decoded: %s: %s" % (name, field, error)) from None
    return name, found


# The stream (SPEC 3, 5.4)
class Stream:
    def __init__(self):
        self.buffer, self.limit, self.until = bytearray(), 64 << 10, time.monotonic() + 30
        self.lock, self.said, self.has_greeted, self.is_over = threading.Lock(), 0, False, False
        self.stopped, wakes = os.pipe2(os.O_NONBLOCK)
        signal.set_wakeup_fd(wakes)
        signal.signal(signal.SIGTERM, lambda *_: None)

    def say(self, kind, payload=b""):
        data = struct.pack("<HHI", kind, 0, len(payload)) + payload
        with self.lock:
            data = b"" if self.is_over else data if self.has_greeted else PREAMBLE + data
            view = memoryview(data)
            self.said, self.has_greeted, self.is_over = time.monotonic(), True, kind in (0x33, 0x41)
            while view:
                if not select.select([], [1], [], 60)[1]:
                    raise Gone
                try:
                    view = view[os.write(1, view[:4096]):]
                except BrokenPipeError:
                    raise Gone from None

    def live(self):
        """REQ-37: says every 15 seconds that this end is alive."""
        while not self.is_over:
            time.sleep(0.5)
            if time.monotonic() - self.said > 14:
                self.say(0x40)

    def take(self, count):
        while len(self.buffer) < count:
            patience = max(0, self.until - time.monotonic())
            ready = select.select([0, self.stopped], [], [], patience)[0]
            if self.stopped in ready:
                raise Stop("INTERRUPTED", "this end was told to stop")
            if not ready:
                raise Stop("TIMEOUT", "nothing came for too long")
            data = os.read(0, 1 << 16)
            if not data:
                raise Gone
            self.buffer += data
            self.until = max(self.until, time.monotonic() + 60 if self.limit == FRAME_MAX else 0)
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def next(self, *taken):
        """Returns the next message, which is one of these; raises Gone at a Close."""
        while True:
            kind, flags, count = struct.unpack("<HHI", self.take(8))
            known = kind in MESSAGES or kind in OF_SERVERS
            if count > self.limit:
                raise Stop("LIMIT", "a frame of %d bytes" % count)
            if flags != (0 if known else 1):
                raise Stop("BAD_FRAME", "a frame of kind %#06x with flags %#x" % (kind, flags))
            payload = self.take(count)
            if kind in MESSAGES:
                name, fields = decode(kind, payload)
                if name == "Close":
                    raise Gone
                if name in taken and name != "Ping":
                    return name, fields
            if known and (kind in OF_SERVERS or name not in taken):
                raise Stop("VIOLATION", "a frame of kind %#06x may not come now" % kind)
