"""OSTree objects, and an archive repository to push from or to (SPEC 6)."""

import hashlib
import os
import struct
import zlib

FILE, DIRTREE, DIRMETA, COMMIT = 1, 2, 3, 4
EXTENSIONS = {FILE: "filez", DIRTREE: "dirtree", DIRMETA: "dirmeta", COMMIT: "commit"}


def sha(data):
    return hashlib.sha256(data).digest()


def offsets(body, ends):
    """Appends framing offsets of the least width."""
    for size in (1, 2, 4, 8):
        if len(body) + size * len(ends) < 1 << 8 * size:
            break
    return body + b"".join(end.to_bytes(size, "little") for end in ends)


def array(elements, align=1):
    """An array of elements of variable size."""
    body, ends = b"", []
    for element in elements:
        body += b"\0" * (-len(body) % align) + element
        ends.append(len(body))
    return offsets(body, ends) if ends else b""


def record(*members):
    """A tuple of (bytes, alignment, is of variable size)."""
    body, ends = b"", []
    for number, (data, align, variable) in enumerate(members):
        body += b"\0" * (-len(body) % align) + data
        if variable and number < len(members) - 1:
            ends.insert(0, len(body))
    return offsets(body, ends)


def octets(data):
    return data, 1, True


def string(data):
    return (data.encode() if isinstance(data, str) else data) + b"\0", 1, True


def be32(value):
    return struct.pack(">I", value), 4, False


def be64(value):
    return struct.pack(">Q", value), 8, False


def xattrs(pairs):
    return array([record(octets(name), octets(value)) for name, value in pairs]), 1, True


def dirmeta(mode=0o40755, uid=0, gid=0, attrs=()):
    return record(be32(uid), be32(gid), be32(mode), xattrs(attrs))


def dirtree(files=(), dirs=()):
    """`files`: (name, sum); `dirs`: (name, sum, meta)."""
    first = array([record(string(name), octets(sum_)) for name, sum_ in files])
    second = array([record(string(name), octets(tree), octets(meta)) for name, tree, meta in dirs])
    return record((first, 1, True), (second, 1, True))


def variant(kind, data):
    return data + b"\0" + kind


def dictionary(entries):
    """An a{sv} of (key, type, bytes)."""
    pairs = [record(string(key), (variant(kind, data), 8, True)) for key, kind, data in entries]
    return array(pairs, 8)


def commit(tree, meta, parent=b"", entries=(), subject="kit", time=0, body=""):
    return record((dictionary(entries), 8, True), octets(parent), (b"", 1, True), string(subject),
                  string(body), be64(time), octets(tree), octets(meta))


def framed(header):
    return struct.pack(">II", len(header), 0) + header


def header(size, mode, target, attrs, uid, gid, rdev):
    rest = (be32(uid), be32(gid), be32(mode), be32(rdev), string(target), xattrs(attrs))
    return record(*([be64(size)] if size is not None else []), *rest)


def deflate(content, level=6):
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def file(content=b"", mode=0o100644, target="", attrs=(), uid=0, gid=0, rdev=0, size=None,
         deflated=None):
    """Returns the sum and the stored bytes."""
    is_link = mode & 0o170000 == 0o120000
    size = len(content) if size is None else size
    hashed = framed(header(None, mode, target, attrs, uid, gid, rdev)) + content
    stored = framed(header(size, mode, target, attrs, uid, gid, rdev))
    stored += (b"" if is_link else deflate(content)) if deflated is None else deflated
    return sha(hashed), stored


class Artifact:
    """A commit and all it reaches, parents first: `objects` maps ids to stored bytes."""

    def __init__(self, files, parent=b"", dirs=(), entries=(), subject="kit", links=(), time=0):
        self.objects = {}
        meta = self.add(DIRMETA, dirmeta())
        names = [(name, self.file(file(content))) for name, content in files]
        names += [(name, self.file(file(mode=0o120777, target=target))) for name, target in links]
        below = [(name, self.tree(inner), meta) for name, inner in dirs]
        root = self.add(DIRTREE, dirtree(sorted(names), sorted(below)))
        data = commit(root, meta, parent, entries, subject, time)
        self.commit = sha(data)
        self.id = self.id_of(COMMIT, self.commit)
        inner = dict(reversed(list(self.objects.items())))
        self.objects = {self.id: data, **inner}

    def tree(self, files):
        return self.add(DIRTREE, dirtree(sorted((n, self.file(file(c))) for n, c in files)))

    def file(self, made):
        self.objects[self.id_of(FILE, made[0])] = made[1]
        return made[0]

    def add(self, kind, data):
        self.objects[self.id_of(kind, sha(data))] = data
        return sha(data)

    @staticmethod
    def id_of(kind, sum_):
        return bytes([kind]) + sum_

    def of(self, kind):
        return [i for i in self.objects if i[0] == kind]


def path(root, i):
    name = i[1:].hex()
    return os.path.join(root, "objects", name[:2], name[2:] + "." + EXTENSIONS[i[0]])


def init(root):
    """Makes an archive repository, as `ostree init --mode=archive` does."""
    for name in ("objects", "refs/heads", "refs/mirrors", "refs/remotes", "state", "tmp/cache",
                 "extensions"):
        os.makedirs(os.path.join(root, name))
    with open(os.path.join(root, "config"), "w") as config:
        config.write("[core]\nrepo_version=1\nmode=archive-z2\n")
    return root


def store(root, artifact, name=None):
    """Puts an artifact into a repository, and under a ref."""
    for i, stored in artifact.objects.items():
        place = path(root, i)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as out:
            out.write(stored)
    if name:
        place = os.path.join(root, "refs/heads", name)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "w") as out:
            out.write(artifact.commit.hex() + "\n")


def ref(root, name):
    """Returns what a ref holds, or None."""
    try:
        with open(os.path.join(root, "refs/heads", name)) as found:
            return bytes.fromhex(found.read().strip())
    except FileNotFoundError:
        return None


def damage_of(root, artifact):
    """Returns the ids that a repository lacks or holds with other bytes."""
    found = []
    for i in artifact.objects:
        try:
            with open(path(root, i), "rb") as stored:
                data = stored.read()
        except FileNotFoundError:
            found.append(i)
            continue
        if sum_of(i[0], data) != i[1:]:
            found.append(i)
    return found


def sum_of(kind, stored):
    """Returns the checksum of stored bytes."""
    if kind != FILE:
        return sha(stored)
    size = struct.unpack(">I", stored[:4])[0]
    inner = stored[8:8 + size]
    content = zlib.decompress(stored[8 + size:], -15) if stored[8 + size:] else b""
    # The header without its first member, whose alignment moves nothing behind it but the offsets.
    members = inner[8:24]
    end = inner[-1] if len(inner) < 256 else int.from_bytes(inner[-2:], "little")
    target = inner[24:end]
    attrs = inner[end:len(inner) - (1 if len(inner) < 256 else 2)]
    head = offsets(members + target + attrs, [16 + len(target)])
    return sha(framed(head) + content)
