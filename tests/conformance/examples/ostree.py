"""OSTree for a receiver: GVariants in normal form, objects (SPEC 6), and an archive repository."""

import configparser
import fcntl
import hashlib
import os
import re
import struct
import tempfile
import time
import zlib
from collections import namedtuple

FILE, DIRTREE, DIRMETA, COMMIT = 1, 2, 3, 4
SUFFIX = {FILE: "filez", DIRTREE: "dirtree", DIRMETA: "dirmeta", COMMIT: "commit"}
OBJECT_MAX = 16 << 30
Type = namedtuple("Type", "sign inner align size")


# GVariants in normal form (SPEC 6.2)
FIXED = dict(y=1, b=1, n=2, q=2, i=4, u=4, h=4, x=8, t=8, d=8)
VARYING = dict(s=1, o=1, g=1, v=8)


def read_type(signs, depth=0):
    """Takes a type off a list of characters, of which the last comes first."""
    sign = signs.pop() if signs else ""
    if sign in FIXED or sign in VARYING:
        return Type(sign, [], FIXED.get(sign) or VARYING[sign], FIXED.get(sign))
    # A value of a commit's metadata lies in four containers already.
    if sign not in ("a", "m", "(", "{") or depth >= 4 + 16:
        raise ValueError("a type is wrong, or nested too deep")
    if sign in "am":
        inner = read_type(signs, depth + 1)
        return Type(sign, [inner], inner.align, None)
    inner, size = [], 0
    while signs and signs[-1] not in ")}":
        inner.append(read_type(signs, depth + 1))
    is_pair = len(inner) == 2 and inner[0].sign not in "vam({"
    if not signs or signs.pop() != (")" if sign == "(" else "}") or (sign == "{" and not is_pair):
        raise ValueError("a type is wrong")
    align = max([each.align for each in inner], default=1)
    if any(each.size is None for each in inner):
        return Type(sign, inner, align, None)
    for each in inner:
        size += -size % each.align + each.size
    return Type(sign, inner, align, size + -size % align or 1)


def least(length, count=0):
    """Returns the width of so many framing offsets behind so many bytes."""
    return next(size for size in (1, 2, 4, 8) if length + size * count < 1 << 8 * size)


def parse(t, data, depth=0):
    """Returns a value of a type: bytes, or a list for a container."""
    if t.size not in (None, len(data)) or (t.sign == "b" and data > b"\1"):
        raise ValueError("a value has the wrong size")
    if t.sign in FIXED or t.sign == "a" and t.inner[0].sign == "y":
        return data
    if t.sign in "sog":
        data.decode()
        if data[-1:] != b"\0" or b"\0" in data[:-1]:
            raise ValueError("a string does not end with its only NUL")
        return data[:-1]
    if t.sign == "v":
        data, nul, signs = data.rpartition(b"\0")
        signs = list(signs.decode()[::-1])
        inner = read_type(signs, depth + 1)
        if signs or not nul:
            raise ValueError("a type is wrong")
        return [inner, parse(inner, data, depth + 1)]
    if t.sign == "m":
        if data and not t.inner[0].size and data[-1]:
            raise ValueError("a value is not ended by a NUL")
        value = data if t.inner[0].size else data[:-1]
        return [parse(t.inner[0], value, depth + 1)] if data else []
    width = least(len(data))
    number = lambda place: int.from_bytes(data[place:place + width], "little")
    if t.sign == "a":
        of = t.inner[0]
        tail = len(data) if of.size or not data else number(len(data) - width)
        count = len(data) // of.size if of.size else (len(data) - tail) // width
        members, ends = t.inner * count, iter(range(tail, len(data), width))
    else:
        count = len([each for each in t.inner[:-1] if each.size is None])
        members, tail = t.inner, len(data) - width * count
        ends = iter(range(len(data) - width, tail - 1, -width))
    framing = 0 if t.size or t.sign == "a" and t.inner[0].size else count
    at, out = 0, []
    for place, each in enumerate(members):
        start = at + -at % each.align
        end = start + each.size if each.size else tail
        if not each.size and (t.sign == "a" or place < len(members) - 1):
            end = number(next(ends))
        if not start <= end <= tail or any(data[at:start]):
            raise ValueError("a framing offset or padding is wrong")
        out.append(parse(each, data[start:end], depth + 1))
        at = end
    whole = (at, width) == (tail, least(tail, framing)) and tail + width * framing == len(data)
    if any(data[at:]) if t.size else not whole:
        raise ValueError("a container has another length than it needs")
    return out


# Objects (SPEC 6)
TYPES = {FILE: "(tuuuusa(ayay))", DIRTREE: "(a(say)a(sayay))", DIRMETA: "(uuua(ayay))",
         COMMIT: "(a{sv}aya(say)sstayay)", "Detached": "a{sv}"}
ATTRIBUTE = re.compile(rb"[^\0]+\0")
FILE_NAME = re.compile(rb"(?!\.\.?\Z)[^/]{1,255}")


def need(holds, what):
    if not holds:
        raise ValueError(what)


def members(kind, data):
    """Returns the members of metadata or of a file's header, which keep the rules of SPEC 6."""
    found = parse(read_type(list(TYPES[kind][::-1])), data)
    if kind in (FILE, DIRMETA):
        names = [name for name, _ in found[-1]]
        need(names == sorted(set(names)) and all(map(ATTRIBUTE.fullmatch, names)),
             "extended attributes are out of order, or a name is wrong")
        mode = int.from_bytes(found[3 if kind == FILE else 2], "big") & ~0o7777
        need(mode in ((0o100000, 0o120000) if kind == FILE else (0o040000,)), "its mode is wrong")
    elif kind == DIRTREE:
        names = [[entry[0] for entry in entries] for entries in found]
        need(all(each == sorted(set(each)) for each in names) and not set(names[0]) & set(names[1]),
             "names are out of order, or come twice")
        need(all(map(FILE_NAME.fullmatch, names[0] + names[1])), "a name is wrong")
        need(all(len(each) == 32 for entry in found[0] + found[1] for each in entry[1:]),
             "a checksum has another length")
    elif kind == COMMIT:
        found[0] = {key: (of.sign + "".join(i.sign for i in of.inner), value)
                    for key, (of, value) in found[0]}
        need(len(found[1]) in (0, 32) and len(found[6]) == len(found[7]) == 32,
             "a checksum has another length")
        need(b"" not in found[0], "a key is empty")
        for key, sign in ((b"ostree.ref-binding", "as"), (b"ostree.collection-binding", "s")):
            need(found[0].get(key, (sign,))[0] == sign, "a binding is of another type")
    return found


def inflate(inflater, data, most):
    try:
        return inflater.decompress(data, most)
    except zlib.error:
        raise ValueError("its content is no deflate stream") from None


def verify(i, stored):
    """Verifies the stored bytes of an object, which are a file's (REQ-42)."""
    length, digest = stored.seek(0, os.SEEK_END), hashlib.sha256()
    stored.seek(0)
    if i[0] != FILE:
        members(i[0], data := stored.read())
        digest.update(data)
    else:
        count, zero = struct.unpack(">II", stored.read(8).ljust(8, b"\xff"))
        need(not zero and count <= 256 << 10, "its header is too long or not padded by zeros")
        header = stored.read(count)
        size, _, _, mode, rdev, target, _ = members(FILE, header)
        size, left = int.from_bytes(size, "big"), length - stored.tell()
        # What is hashed lacks the first member, so that the only framing offset is 8 less.
        body, end = header[8:-least(count)], int.from_bytes(header[-least(count):], "little") - 8
        body += end.to_bytes(least(len(body), 1), "little")
        digest.update(struct.pack(">II", len(body), 0) + body)
        if mode[2] >> 4 == 0o12:
            need(0 < len(target) <= 4095 and size == left == 0, "it is no symbolic link")
            size = -1
        need(not any(rdev) and (size < 0 or not target), "it has a device number or a target")
        need(size <= OBJECT_MAX, "it is too long")
        most = size + size // 8 + size // 64 + 64
        need(size < 0 or left <= most, "its content is stored too long")
        inflater, total = zlib.decompressobj(-15), 0
        while size >= 0 and not inflater.eof:
            data = inflater.unconsumed_tail or stored.read(1 << 16)
            content = inflate(inflater, data, min(1 << 20, size - total + 1))
            total += len(content)
            need((data or content) and total <= size, "its content has another size")
            digest.update(content)
        need(size < 0 or total == size and not inflater.unused_data and not stored.read(1),
             "its content ends elsewhere")
    need(digest.digest() == i[1:], "it has another checksum")


# The repository (SPEC 8)
class TooDeep(Exception):
    """A tree goes beyond LIM-21."""


class Repository:
    def __init__(self, root):
        self.root, self.config = root, configparser.ConfigParser(strict=False, interpolation=None)
        self.config.read(self.at("config"))
        if self.config.get("core", "mode", fallback="") not in ("archive", "archive-z2"):
            raise OSError("%s is no archive repository" % root)
        self.staging = tempfile.mkdtemp(prefix="receiver.py-", dir=self.at("tmp"))

    def at(self, *names):
        return os.path.join(self.root, *names)

    def path(self, i, suffix=None):
        name = i[1:].hex()
        return self.at("objects", name[:2], "%s.%s" % (name[2:], suffix or SUFFIX[i[0]]))

    def staged(self, i):
        return os.path.join(self.staging, i.hex())

    def read(self, path):
        try:
            with open(path, "rb") as found:
                return found.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def metadata(self, i):
        """Returns the members of a staged or published object; None where it is not there."""
        try:
            data = self.read(self.staged(i)) or self.read(self.path(i))
            return members(i[0], data) if data else None
        except ValueError:
            return None

    def children(self, i):
        """Returns what a dirtree or commit names, but for parents."""
        found = self.metadata(i) if i[0] in (DIRTREE, COMMIT) else None
        if not found or i[0] == COMMIT:
            return [bytes([DIRTREE]) + found[6], bytes([DIRMETA]) + found[7]] if found else []
        below = [bytes([kind]) + each for _, *pair in found[1]
                 for kind, each in zip((DIRTREE, DIRMETA), pair)]
        return [bytes([FILE]) + each for _, each in found[0]] + below

    def reach(self, commit, has, lacking):
        """Returns what a commit reaches and is there; `lacking` gets the uppermost that is not."""
        reached, level, depth = {}, {bytes([COMMIT]) + commit: None}, 0
        while level:
            # REQ-44: a commit's root is at the first level.
            if depth > 255 and any(i[0] == DIRTREE for i in level):
                raise TooDeep
            lacking.update((i, None) for i in level if not has(i))
            for i in level:
                if i not in reached and has(i):
                    reached[i] = self.children(i)
            level = {below: None for i in level for below in reached.get(i, [])}
            depth += 1
        return reached

    def ref(self, name):
        held = self.read(self.at("refs/heads", name))
        return held and bytes.fromhex(held.decode().strip())

    def mark(self, commit):
        return self.at("state", commit.hex() + ".commitpartial")

    def is_partial(self, commit):
        return os.path.exists(self.mark(commit))

    def is_whole(self, commit):
        lacking = {}
        self.reach(commit, lambda i: os.path.exists(self.path(i)), lacking)
        return not lacking

    def parent(self, commit):
        found = self.metadata(bytes([COMMIT]) + commit)
        return found[1] if found else b""

    def is_bound(self, commit, ref):
        """Returns whether a ref of this repository may hold a commit, as far as that says."""
        said = self.metadata(bytes([COMMIT]) + commit)[0]
        own = self.config.get("core", "collection-id", fallback="").encode()
        of = said.get(b"ostree.collection-binding", ("s", own))[1]
        return ref.encode() in said.get(b"ostree.ref-binding", ("as", [ref.encode()]))[1] and (
            not own or of == own)

    def detached(self, commit):
        return self.read(self.path(bytes([COMMIT]) + commit, "commitmeta"))

    def write(self, path, data):
        """Puts a file in the place of another, durably."""
        with open(self.staged(b"new"), "wb") as new:
            new.write(data)
        sync(new.name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.rename(new.name, path)
        while (path := os.path.dirname(path)) != self.root:
            sync(path)

    def locked(self):
        """Takes libostree's lock and then the one that receivers have for refs."""
        until = time.monotonic() + self.config.getfloat("core", "lock-timeout-secs", fallback=300)
        locks = [open(self.at(".lock"), "a+b"), open(self.at("tmp/receiver.py.lock"), "ab")]
        shared = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        while True:
            try:
                fcntl.fcntl(locks[0], fcntl.F_OFD_SETLK, shared)
                fcntl.flock(locks[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
                return locks
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)


def sync(path):
    place = os.open(path, os.O_RDONLY)
    os.fsync(place)
    os.close(place)
