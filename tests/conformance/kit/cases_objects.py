"""What any receiver must refuse in objects, and what it must not (SPEC 6, 8)."""

import os
import struct

from . import objects as o
from . import wire as w
from .cases_receiver import case, table
from .harness import check
from .receiver import artifact

META = o.dirmeta()
LINK = 0o120777
FILE_SUM, TREE_SUM = b"\1" * 32, b"\2" * 32
XATTR = (b"user.a\0", b"1")


def judged(scene, kind, sum_, stored, good=False):
    """Sends one object, in a pack or in pieces, and says whether it is refused."""
    talk = scene.start()
    talk.accepted(artifact())
    i = bytes([kind]) + sum_
    check(talk.offer([i]) == [i], "what is not there is had")
    if len(stored) < 1 << 20:
        talk.say(w.pack([(i, stored)]))
    else:
        talk.say(w.begin(0, i))
        for start in range(0, len(stored), 1 << 19):
            talk.say(w.chunk(0, stored[start:start + (1 << 19)]))
        talk.say(w.end(0))
    if not good:
        talk.expect_close("OBJECT_REFUSED")
        return
    # It is staged, so that an Offer behind it is answered, and by have.
    talk.say(w.offer([i]))
    check(talk.expect("Want")["wanted"] == [False], "a good object is wanted twice")
    talk.say(w.frame("Finalize"))
    talk.expect("Missing")


@table("6.2", "REQ-42", name="refuses an object", rows=[
    ("with a flipped byte, of kind %d" % kind, kind) for kind in (1, 2, 3, 4)])
def flipped(scene, kind):
    one = artifact([("f", b"content")])
    i = one.of(kind)[0]
    data = bytearray(one.objects[i])
    data[len(data) // 2] ^= 0x40
    judged(scene, kind, i[1:], bytes(data))


@case("6.2", "REQ-42")
def refuses_an_object_under_the_name_of_another(scene):
    judged(scene, o.DIRMETA, o.sha(META), o.dirmeta(0o40700))


def tree(files=(), dirs=()):
    return o.DIRTREE, o.dirtree(files, dirs)


def valued(kind, value):
    """A commit with one metadata value."""
    return o.COMMIT, o.commit(TREE_SUM, FILE_SUM, entries=[(b"key", kind, value)])


def metadata(depth):
    """A commit with one metadata value of so many arrays in each other."""
    value = b"x"
    for _ in range(depth - 1):
        value = o.array([value])
    return valued(b"a" * depth + b"y", value)


@table("6.2", "REQ-42", name="refuses metadata", rows=[
    ("a dirtree with names out of order", *tree([("b", FILE_SUM), ("a", FILE_SUM)])),
    ("a dirtree with a name twice", *tree([("a", FILE_SUM), ("a", FILE_SUM)])),
    ("a dirtree with a name of a file and a directory",
     *tree([("a", FILE_SUM)], [("a", TREE_SUM, FILE_SUM)])),
    ("a dirtree with '..'", *tree([("..", FILE_SUM)])),
    ("a dirtree with '.'", *tree([], [(".", TREE_SUM, FILE_SUM)])),
    ("a dirtree with a slash", *tree([("a/b", FILE_SUM)])),
    ("a dirtree with an empty name", *tree([("", FILE_SUM)])),
    ("a dirtree with a name of LIM-13 and one", *tree([("a" * 256, FILE_SUM)])),
    ("a dirtree with a name that is not UTF-8", *tree([(b"\xff", FILE_SUM)])),
    ("a dirtree with a checksum of 31 bytes", *tree([("a", FILE_SUM[:31])])),
    ("a dirtree with bytes behind it", o.DIRTREE, o.dirtree([("a", FILE_SUM)]) + b"\0"),
    ("a dirmeta of a file's mode", o.DIRMETA, o.dirmeta(0o100644)),
    ("a dirmeta with bits beyond 07777", o.DIRMETA, o.dirmeta(0o240755)),
    ("a dirmeta of 11 bytes", o.DIRMETA, o.dirmeta()[:11]),
    ("a dirmeta with attributes out of order", o.DIRMETA,
     o.dirmeta(attrs=[(b"user.b\0", b""), (b"user.a\0", b"")])),
    ("a dirmeta with an attribute twice", o.DIRMETA, o.dirmeta(attrs=[XATTR, XATTR])),
    ("a dirmeta with an attribute without NUL", o.DIRMETA, o.dirmeta(attrs=[(b"user.a", b"1")])),
    ("a dirmeta with an attribute with two NULs", o.DIRMETA, o.dirmeta(attrs=[(b"user\0a\0", b"1")])),
    ("a dirmeta with an attribute without a name", o.DIRMETA, o.dirmeta(attrs=[(b"\0", b"1")])),
    ("a commit with a parent of 5 bytes", o.COMMIT, o.commit(TREE_SUM, FILE_SUM, parent=b"short")),
    ("a commit with a root of 31 bytes", o.COMMIT, o.commit(TREE_SUM[:31], FILE_SUM)),
    ("a commit with an empty key", o.COMMIT,
     o.commit(TREE_SUM, FILE_SUM, entries=[(b"", b"s", b"x\0")])),
    ("a commit with a binding of another type", o.COMMIT,
     o.commit(TREE_SUM, FILE_SUM, entries=[(b"ostree.ref-binding", b"s", b"main\0")])),
    ("a commit with a value nested beyond LIM-14", *metadata(17)),
    ("a commit with padding that is not zero", o.COMMIT,
     o.commit(TREE_SUM, FILE_SUM, entries=[(b"key", b"s", b"x\0")]).replace(b"key\0\0", b"key\0\1", 1)),
    ("a commit with a value that does not end in zeros", *valued(b"(uy)", b"\0" * 7 + b"\1")),
    ("a commit with offsets wider than need be",
     *valued(b"as", b"x" * 253 + b"\0" + struct.pack("<H", 254))),
    ("a commit with a value of no type", *valued(b"a", b"")),
    ("a commit with bytes behind it", o.COMMIT, o.commit(TREE_SUM, FILE_SUM) + b"\0"),
    ("an empty commit", o.COMMIT, b"")])
def bad_metadata(scene, kind, data):
    judged(scene, kind, o.sha(data), data)


@table("6.2", "REQ-42", name="takes metadata", rows=[
    ("of setuid, sticky and any owner", o.DIRMETA, o.dirmeta(0o47777, 0xFFFFFFFF, 1)),
    ("of attributes", o.DIRMETA, o.dirmeta(attrs=[(b"security.x\0", b"\0\xff"), (b"user.a\0", b"")])),
    ("of a name of LIM-13", *tree([("a" * 255, FILE_SUM)])),
    ("of a directory without entries", o.DIRTREE, o.dirtree()),
    ("of offsets as wide as need be",
     *valued(b"as", b"x" * 254 + b"\0" + struct.pack("<H", 255))),
    ("of LIM-14 containers", *metadata(16))])
def good_metadata(scene, kind, data):
    judged(scene, kind, o.sha(data), data, good=True)


def stored_blocks(content, step):
    out = b""
    for start in range(0, len(content), step):
        part = content[start:start + step]
        out += b"\0" + struct.pack("<HH", len(part), len(part) ^ 0xFFFF) + part
    return out + b"\1\0\0\xff\xff"


NOISE = bytes(range(256)) * 40


@table("6.3", "REQ-42", name="refuses a file", rows=[
    ("of a directory's mode", *o.file(b"x", mode=0o40644)),
    ("of a pipe's mode", *o.file(b"", mode=0o010644)),
    ("of bits beyond 07777", *o.file(b"x", mode=0o300644)),
    ("of a device number", *o.file(b"x", rdev=1)),
    ("of a target", *o.file(b"x", target="y")),
    ("of attributes out of order", *o.file(b"x", attrs=[(b"b\0", b""), (b"a\0", b"")])),
    ("of an attribute without NUL", *o.file(b"x", attrs=[(b"user.a", b"")])),
    ("of a link without a target", *o.file(mode=LINK)),
    ("of a link with a target beyond LIM-12", *o.file(mode=LINK, target="x" * 4096)),
    ("of a link with content", *o.file(mode=LINK, target="x", deflated=o.deflate(b"y"))),
    ("of a link with a size", *o.file(mode=LINK, target="x", size=1)),
    ("of a size too small", *o.file(b"xyz", size=2)),
    ("of a size too large", *o.file(b"xyz", size=4)),
    ("of bytes behind its end", *o.file(b"xyz", deflated=o.deflate(b"xyz") + b"\0")),
    ("of a stream cut short", *o.file(b"xyz" * 99, deflated=o.deflate(b"xyz" * 99)[:-3])),
    ("of no stream at all", *o.file(b"xyz", deflated=b"\xff\xff\xff")),
    ("of a stream beyond LIM-25", *o.file(b"xyz", deflated=b"\0\0\0\xff\xff" * 20 + o.deflate(b"xyz"))),
    ("of a stored block for each byte", *o.file(b"x" * 3000, deflated=stored_blocks(b"x" * 3000, 1))),
    ("of a header beyond LIM-11", *o.file(b"x", attrs=[(b"user.a\0", b"v" * (256 << 10))])),
    ("of padding that is not zero", o.file(b"x")[0], o.file(b"x")[1][:4] + b"\1" + o.file(b"x")[1][5:]),
    ("of a header cut short", o.file(b"x")[0], o.file(b"x")[1][:20]),
    ("of nothing", FILE_SUM, b"")])
def bad_file(scene, sum_, stored):
    judged(scene, o.FILE, sum_, stored)


@table("6.3", "REQ-42", name="takes a file", rows=[
    ("of no content", *o.file(b"")),
    ("of one stored block", *o.file(b"xyz", deflated=stored_blocks(b"xyz", 3))),
    ("of ten empty blocks", *o.file(b"xyz", deflated=b"\0\0\0\xff\xff" * 10 + o.deflate(b"xyz"))),
    ("of stored content", *o.file(NOISE, deflated=o.deflate(NOISE, 0))),
    ("of setuid and attributes", *o.file(b"x", mode=0o104755, attrs=[(b"a\0", b"1"), (b"b\0", b"2")])),
    ("of a link", *o.file(mode=LINK, target="../elsewhere")),
    ("of a link with a target of LIM-12", *o.file(mode=LINK, target="x" * 4095))])
def good_file(scene, sum_, stored):
    judged(scene, o.FILE, sum_, stored, good=True)


@case("6.2", "REQ-42")
def refuses_metadata_beyond_LIM_9_in_pieces(scene):
    data = o.commit(TREE_SUM, FILE_SUM, body="x" * (10 << 20))
    judged(scene, o.COMMIT, o.sha(data), data)


@case("6.3")
def takes_a_large_file_in_a_stream(scene):
    one = artifact([("large", os.urandom(6 << 20))])
    scene.push(one)
    scene.published(one)


def deep(levels, shared=False):
    """An artifact with so many levels of directories, the root counted; if shared, the root leads to
    all but the upper two by a path that is one shorter, too."""
    one = artifact([("f", b"f")])
    meta = one.add(o.DIRMETA, META)
    deeper = below = one.of(o.DIRTREE)[0][1:]
    for level in range(levels - 1):
        near = [("a", deeper, meta)] if shared and level == levels - 2 else []
        deeper, below = below, one.add(o.DIRTREE, o.dirtree([], near + [("d", below, meta)]))
    data = o.commit(below, meta)
    del one.objects[one.id]
    one.commit = o.sha(data)
    one.id = one.id_of(o.COMMIT, one.commit)
    one.objects[one.id] = data
    return one


@table("8", "REQ-44", name="takes LIM-21 levels of directories and no more", rows=[
    ("in a row", False), ("by the longest path", True)])
def levels_of_directories(scene, shared):
    good, bad = deep(255, shared), deep(256, shared)
    scene.push(good, "good")
    scene.published(good, "good")
    talk = scene.start()
    talk.accepted(bad, "toodeep")
    talk.say(w.basis([]))
    talk.send(bad, talk.offer(bad.objects))
    talk.say(w.frame("Finalize"))
    talk.expect_close("LIMIT")
    check(scene.ref("toodeep") is None, "it was published")
