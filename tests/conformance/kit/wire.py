"""Frames and messages to bytes and back (SPEC 3 and 4)."""

import struct
from collections import namedtuple

PREAMBLE = b"\x8aACP\r\n\x1a\n"

KINDS = {
    "Hello": 0x01, "Welcome": 0x02, "Announce": 0x03, "RefStatus": 0x04, "Basis": 0x10,
    "Offer": 0x11, "Want": 0x12, "Detached": 0x13, "Pack": 0x20, "ObjectBegin": 0x21,
    "ObjectChunk": 0x22, "ObjectEnd": 0x23, "Staged": 0x24, "Finalize": 0x30, "Missing": 0x31,
    "Finalized": 0x32, "SummaryDone": 0x33, "Ping": 0x40, "Close": 0x41,
    "Request": 0x50, "Held": 0x51, "Answer": 0x52, "Extent": 0x53, "Sent": 0x54,
}
NAMES = {number: name for name, number in KINDS.items()}

CLOSE = ["DONE", "NOT_THE_PROTOCOL", "UNSUPPORTED", "BAD_FRAME", "VIOLATION", "LIMIT",
         "OBJECT_REFUSED", "INCOMPLETE", "STORAGE_FULL", "STORAGE_FAILED", "BUSY", "TIMEOUT",
         "INTERRUPTED", "SOURCE_FAILED", "INTERNAL"]
REFUSAL = {"NOT_PERMITTED": 1, "NOT_FAST_FORWARD": 2, "LOST_RACE": 3, "NAME_CONFLICT": 4, "BINDING": 5}

ABSENT = 6
FORCE, DRY_RUN = 1, 2
PULL = 1
LIMITS = dict(frame_len_max=2 << 20, object_len_max=64 << 30, push_objects_max=10_000_000,
              push_len_max=1 << 40)

Frame = namedtuple("Frame", "name kind flags payload")


class Malformed(Exception):
    """Bytes that are not what SPEC 3.4 says."""


def u8(value):
    return struct.pack("<B", value)


def u16(value):
    return struct.pack("<H", value)


def u32(value):
    return struct.pack("<I", value)


def u64(value):
    return struct.pack("<Q", value)


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return u64(len(value)) + value


def items(values, encode=lambda value: value):
    return u64(len(values)) + b"".join(map(encode, values))


def option(value, encode=lambda value: value):
    return b"\0" if value is None else b"\1" + encode(value)


def extensions(entries=()):
    return items(list(entries), lambda entry: u16(entry[0]) + text(entry[1]))


def frame(kind, payload=b"", flags=0):
    kind = KINDS.get(kind, kind)
    return struct.pack("<HHI", kind, flags, len(payload)) + payload


def hello(low=2, high=2, features=0, agent="kit", ext=()):
    return frame("Hello", u16(low) + u16(high) + u64(features) + text(agent) + extensions(ext))


def expect(value):
    if value in (None, "any"):
        return u32(0)
    return u32(1) if value == "absent" else u32(2) + value


def update(name, commit, detached=None, expected=None):
    return text(name) + commit + option(detached) + expect(expected)


def announce(refs, options=0, bases=(), more=False, ext=()):
    base = lambda pair: text(pair[0]) + pair[1]
    return frame("Announce", u32(options) + items(refs) + items(bases, base) + u8(more)
                 + extensions(ext))


def basis(commits):
    return frame("Basis", items(commits))


def offer(ids):
    return frame("Offer", items(ids))


def detached(commit, metadata):
    return frame("Detached", commit + metadata)


def pack(objects):
    return frame("Pack", b"".join(i + u32(len(stored)) + stored for i, stored in objects))


def begin(stream, i):
    return frame("ObjectBegin", u8(stream) + i)


def chunk(stream, stored):
    return frame("ObjectChunk", u8(stream) + stored)


def end(stream):
    return frame("ObjectEnd", u8(stream))


def ref_request(name, current=None, metadata=None):
    return text(name) + option(current) + option(metadata)


def request(refs, options=0, history=0, patterns=(), held=(), more=False, ext=()):
    return frame("Request", u32(options) + u32(history) + items(refs) + items(list(patterns), text)
                 + items(list(held)) + u8(more) + extensions(ext))


def held(prefixes, more=False):
    return frame("Held", u8(more) + b"".join(prefixes))


def close(code, reason=""):
    return frame("Close", u16(CLOSE.index(code) if code in CLOSE else code) + text(reason))


def welcome(version=2, features=0, agent="kit", pull_url=None, identity=None, ext=(), **limits):
    limits = {**LIMITS, **limits}
    return frame("Welcome", u16(version) + u64(features) + u32(limits["frame_len_max"])
                 + u64(limits["object_len_max"]) + u64(limits["push_objects_max"])
                 + u64(limits["push_len_max"]) + text(agent) + option(pull_url, text)
                 + option(identity, text) + extensions(ext))


def refused(code, reason="because"):
    return u16(code) + text(reason)


UP_TO_DATE, ACCEPTED = u32(0), u32(1)
UPDATED, UNCHANGED, WOULD_UPDATE = u32(0), u32(1), u32(2)


def verdict_refused(code, reason="because"):
    return u32(2) + refused(code, reason)


def outcome_refused(code, reason="because"):
    return u32(3) + refused(code, reason)


def ref_status(states, complete=()):
    state = lambda pair: option(pair[0]) + pair[1]
    return frame("RefStatus", items(states, state) + items(list(complete)))


def want(bits):
    octets = bytearray((len(bits) + 7) // 8)
    for place, bit in enumerate(bits):
        octets[place // 8] |= bool(bit) << place % 8
    return frame("Want", u32(len(bits)) + bytes(octets))


def staged(objects, octets):
    return frame("Staged", u64(objects) + u64(octets))


def missing(ids):
    return frame("Missing", items(ids))


def finalized(outcomes):
    return frame("Finalized", items(outcomes))


def summary_done(failed=None):
    return frame("SummaryDone", u32(0) if failed is None else u32(1) + text(failed))


class Reader:
    """Takes fields off a payload."""

    def __init__(self, payload):
        self.rest = payload

    def take(self, count):
        if len(self.rest) < count:
            raise Malformed("the payload ends early")
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def number(self, size):
        return int.from_bytes(self.take(size), "little")

    def bool(self):
        value = self.number(1)
        if value > 1:
            raise Malformed("a bool of %d" % value)
        return value == 1

    def text(self):
        count = self.number(8)
        if count > 1024:
            raise Malformed("a text of %d bytes" % count)
        return self.take(count).decode()

    def option(self, read):
        return read() if self.bool() else None

    def list(self, read):
        return [read() for _ in range(self.number(8))]

    def sum(self):
        return self.take(32)

    def id(self):
        return self.take(33)

    def choice(self, *reads):
        number = self.number(4)
        if number >= len(reads):
            raise Malformed("alternative %d" % number)
        name, read = reads[number]
        return name, read() if read else None

    def extensions(self):
        found = self.list(lambda: (self.number(2), self.take(self.number(8))))
        tags = [tag for tag, _ in found]
        if tags != sorted(set(tags)):
            raise Malformed("tags that do not ascend")
        return found

    def refusal(self):
        return self.number(2), self.text()

    def done(self):
        if self.rest:
            raise Malformed("%d bytes after the last field" % len(self.rest))


def decode(name, payload):
    """Returns a message as a dict, or raises Malformed."""
    r = Reader(payload)
    if name == "Hello":
        out = dict(low=r.number(2), high=r.number(2), features=r.number(8), agent=r.text(),
                   ext=r.extensions())
    elif name == "Welcome":
        out = dict(version=r.number(2), features=r.number(8), frame_len_max=r.number(4),
                   object_len_max=r.number(8), push_objects_max=r.number(8),
                   push_len_max=r.number(8), agent=r.text(), pull_url=r.option(r.text),
                   identity=r.option(r.text), ext=r.extensions())
    elif name == "Announce":
        one = lambda: dict(name=r.text(), commit=r.sum(), detached=r.option(r.sum),
                           expect=r.choice(("Any", None), ("Absent", None), ("Is", r.sum)))
        out = dict(options=r.number(4), refs=r.list(one),
                   bases=r.list(lambda: (r.text(), r.sum())), more=r.bool(), ext=r.extensions())
    elif name == "RefStatus":
        verdict = lambda: r.choice(("UpToDate", None), ("Accepted", None), ("Refused", r.refusal))
        out = dict(refs=r.list(lambda: (r.option(r.sum), verdict())), complete=r.list(r.sum))
    elif name == "Basis":
        out = dict(commits=r.list(r.sum))
    elif name in ("Offer", "Missing"):
        out = dict(ids=r.list(r.id))
    elif name == "Want":
        count = r.number(4)
        octets = r.take((count + 7) // 8)
        bits = [octets[n // 8] >> n % 8 & 1 == 1 for n in range(len(octets) * 8)]
        if any(bits[count:]):
            raise Malformed("a bit beyond the last id")
        out = dict(wanted=bits[:count])
    elif name == "Detached":
        out = dict(commit=r.sum(), metadata=r.take(len(r.rest)))
    elif name == "Pack":
        objects = []
        while r.rest or not objects:
            objects.append((r.id(), r.take(r.number(4))))
        out = dict(objects=objects)
    elif name == "ObjectBegin":
        out = dict(stream=r.number(1), id=r.id())
    elif name == "ObjectChunk":
        out = dict(stream=r.number(1), stored=r.take(max(1, len(r.rest))))
    elif name == "ObjectEnd":
        out = dict(stream=r.number(1))
    elif name == "Staged":
        out = dict(objects=r.number(8), bytes=r.number(8))
    elif name == "Finalized":
        out = dict(refs=r.list(lambda: r.choice(("Updated", None), ("Unchanged", None),
                                                ("WouldUpdate", None), ("Refused", r.refusal))))
    elif name == "SummaryDone":
        out = dict(state=r.choice(("Current", None), ("Failed", r.text)))
    elif name == "Answer":
        state = lambda: r.choice(("Promised", lambda: (r.sum(), r.option(r.sum))),
                                 ("UpToDate", None), ("Refused", r.refusal))
        out = dict(refs=r.list(lambda: (r.text(), state())), basis=r.list(r.sum), more=r.bool())
    elif name in ("Extent", "Sent"):
        out = dict(objects=r.number(8), bytes=r.number(8))
    elif name == "Close":
        code = r.number(2)
        out = dict(code=CLOSE[code] if code < len(CLOSE) else code, text=r.text())
    else:
        out = {}
    r.done()
    return out
