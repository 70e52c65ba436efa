"""What any receiver must do: the stream, the messages, the sessions."""

import fcntl
import os
import struct
import time

from . import objects as o
from . import wire as w
from .harness import case as register
from .harness import Failed, check
from .receiver import NAME, artifact


def case(section, *requirements, **more):
    return register("receiver", section, *requirements, **more)


def table(section, *requirements, rows, name, **more):
    """A case for each row, which is (what, arguments...)."""
    def of(run):
        for what, *arguments in rows:
            bound = lambda scene, arguments=arguments: run(scene, *arguments)
            register("receiver", section, *requirements, name="%s: %s" % (name, what), **more)(bound)
        return run
    return of


SUM = b"\x11" * 32


# 3.2 Preamble

@table("3.2", "REQ-1", name="refuses what is no preamble", rows=[
    ("a request of http", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("text", b"hello, is this the cache?\n"),
    ("line ends rewritten", w.PREAMBLE.replace(b"\r\n", b"\n") + b"\0\0"),
    ("the preamble in capitals", w.PREAMBLE.upper().replace(b"A", b"a") + w.hello()),
])
def preamble(scene, said):
    talk = scene.start()
    talk.say(said)
    talk.expect_close("NOT_THE_PROTOCOL")


@case("3.2")
def says_nothing_before_it_has_read_a_preamble(scene):
    talk = scene.start()
    talk.say(w.PREAMBLE[:4])
    time.sleep(0.3)
    import select
    check(not select.select([talk.reading], [], [], 0)[0], "it speaks first")
    talk.say(w.PREAMBLE[4:], w.hello())
    talk.expect("Welcome")


# 3.3 Frames

IGNORABLE = 0x8077


@case("3.3", "REQ-2")
def takes_a_frame_of_LIM_1_before_hello_and_none_above(scene):
    talk = scene.start()
    talk.say(w.PREAMBLE, w.frame(IGNORABLE, b"x" * (64 << 10), 1), w.hello())
    talk.expect("Welcome")
    talk = scene.start()
    talk.say(w.PREAMBLE, w.frame(IGNORABLE, b"", 1)[:4] + w.u32((64 << 10) + 1))
    talk.expect_close("LIMIT")


@case("3.3", "REQ-2")
def takes_a_frame_of_frame_len_max_after_welcome_and_none_above(scene):
    talk = scene.start()
    talk.accepted(artifact())
    most = talk.welcome["frame_len_max"]
    talk.say(w.frame(IGNORABLE, b"x" * most, 1), w.offer([artifact().id]))
    talk.expect("Want")
    talk.say(w.frame(IGNORABLE, b"", 1)[:4] + w.u32(most + 1))
    talk.expect_close("LIMIT")


@case("3.3", "REQ-2")
def refuses_a_frame_of_4_GiB_from_its_head_alone(scene):
    talk = scene.start()
    talk.say(w.PREAMBLE, struct.pack("<HHI", 0x20, 0, 0xFFFFFFFF))
    talk.expect_close("LIMIT")


@case("3.3", "REQ-3")
def skips_ignorable_frames_in_every_state_even_before_hello(scene):
    skip = w.frame(IGNORABLE, b"of a later version", 1)
    one, talk = artifact(), scene.start()
    talk.say(w.PREAMBLE, skip, w.hello(), skip)
    talk.expect("Welcome")
    talk.say(skip, w.announce([w.update(NAME, one.commit)]))
    talk.expect("RefStatus")
    ids = list(one.objects)
    talk.say(skip, w.offer(ids), skip)
    talk.expect("Want")
    for i in ids:
        data = one.objects[i]
        talk.say(w.begin(1, i), skip, w.chunk(1, data[:3]), skip, w.chunk(1, data[3:]), w.end(1))
    talk.say(skip)
    talk.finalize("Updated")
    scene.published(one)


@table("3.3", "REQ-4", name="refuses a frame", rows=[
    ("of unknown kind", w.frame(0x7777)),
    ("of unknown kind in a range that is in use", w.frame(0x14, b"x")),
    ("of unknown kind with another flag", w.frame(0x7777, b"", 2)),
    ("of unknown kind with another flag beside ignorable", w.frame(0x7777, b"", 3)),
    ("of known kind that is called ignorable", w.frame("Ping", b"", 1)),
    ("of known kind with a flag", w.frame("Ping", b"", 0x8000)),
])
def flags(scene, bad):
    scene.refuses(artifact(), "BAD_FRAME", bad)


# 3.4 Encoding

def patched(data, at, byte):
    return data[:at] + bytes([byte]) + data[at + 1:]


ONE = w.announce([w.update("main", SUM)])
NAME_AT = 8 + 4 + 8 + 8
DETACHED_AT = NAME_AT + 4 + 32


@table("3.4", "REQ-5", name="refuses an encoding and names the message", rows=[
    ("a bool of 2", "Announce", False, patched(ONE, DETACHED_AT + 1 + 4 + 8, 2)),
    ("an option of 2", "Announce", False, patched(ONE, DETACHED_AT, 2)),
    ("an alternative that is none", "Announce", False, patched(ONE, DETACHED_AT + 1, 3)),
    ("a text that is not UTF-8", "Close", True, w.frame("Close", w.u16(0) + w.text(b"\xc3\x28"))),
    ("a text of LIM-17 and one", "Close", True, w.frame("Close", w.u16(0) + w.text(b"x" * 1025))),
    ("a text longer than its payload", "Close", True, w.frame("Close", w.u16(0) + w.u64(3) + b"ab")),
    ("a byte behind nothing", "Ping", True, w.frame("Ping", b"\0")),
    ("a byte behind the last field", "ObjectEnd", True, w.frame("ObjectEnd", b"\0\0")),
    ("a payload cut short", "Close", True, w.frame("Close", b"\0")),
    ("a list longer than its payload", "Offer", True, w.frame("Offer", w.u64(2 ** 64 - 1))),
    ("an id of kind 0", "Offer", True, w.offer([b"\0" + SUM])),
    ("an id of kind 5", "Offer", True, w.offer([b"\5" + SUM])),
    ("an empty pack", "Pack", True, w.frame("Pack")),
    ("a pack with an object of kind 9", "Pack", True, w.pack([(b"\x09" + SUM, b"x")])),
    ("a pack that ends within a length", "Pack", True, w.frame("Pack", b"\1" * 36)),
    ("a pack that ends within an object", "Pack", True, w.pack([(b"\1" + SUM, b"1234")])[:0]
     + w.frame("Pack", b"\1" + SUM + w.u32(8) + b"1234567")),
    ("a chunk without a stream", "ObjectChunk", True, w.frame("ObjectChunk")),
    ("a chunk without bytes", "ObjectChunk", True, w.frame("ObjectChunk", b"\0")),
    ("Detached without a commit", "Detached", True, w.frame("Detached", b"\0" * 31)),
    ("extensions beyond LIM-18", "Hello", None, w.hello(ext=[(1, b"x" * 8183)])),
])
def encoding(scene, message, before, bad):
    talk = scene.start()
    if before is None:
        talk.say(w.PREAMBLE, bad)
    elif before:
        talk.accepted(artifact())
        talk.say(bad)
    else:
        talk.hello()
        talk.say(bad)
    said = talk.expect_close("BAD_FRAME")
    check(message in said, "the text %r does not name %s" % (said, message))


@table("3.4", "REQ-6", name="refuses extensions", rows=[
    ("out of order", [(2, b""), (1, b"")]), ("with a tag twice", [(1, b"a"), (1, b"b")]),
])
def extensions(scene, entries):
    talk = scene.start()
    talk.say(w.PREAMBLE, w.hello(ext=entries))
    talk.expect_close("BAD_FRAME")


@case("3.4", "REQ-6")
def takes_unknown_extensions_up_to_LIM_18(scene):
    talk = scene.start()
    talk.say(w.PREAMBLE, w.hello(ext=[(0x8001, b"x" * 8000), (0xFFFF, b"y" * 172)]))
    talk.say(w.announce([w.update(NAME, SUM)], ext=[(0x9000, b"later")]))
    talk.expect("Welcome")
    talk.expect("RefStatus")


@case("3.4", "REQ-7")
def keeps_its_texts_within_LIM_17(scene):
    talk = scene.start()
    talk.hello()
    talk.say(w.frame("Announce", w.u32(0) + w.u64(1) + w.text("/" + "a" * 1023) + SUM + b"\0" * 5))
    talk.expect_close("BAD_FRAME")
    names = ["x/" + "b" * 199 + "/" + "c" * 200 + "/" + "d" * 200 + "/" + "e" * 200, "x"]
    scene.start().announce(*[(name, SUM) for name in names])


# 4.1 Hello, 4.2 Welcome

@table("4.1", "REQ-8", name="shares no version with", rows=[
    ("3 to 3", 3, 3), ("3 to 9", 3, 9), ("0 to 1", 0, 1), ("9 to 2", 9, 2), ("2 to 1", 2, 1)])
def no_version(scene, low, high):
    talk = scene.start()
    talk.say(w.PREAMBLE, w.hello(low, high))
    said = talk.expect_close("UNSUPPORTED")
    words = said.split(":")[0].split(" ")
    check(words[0] == "versions" and len(words) == 3 and all(v.isdecimal() for v in words[1:]),
          "no program can read %r" % said)
    check(int(words[1]) <= 2 <= int(words[2]), "%r without version 2" % said)


@table("4.1", "REQ-8", name="chooses version 2 of", rows=[("2 to 2", 2, 2), ("0 to 2", 0, 2)])
def version_2(scene, low, high):
    talk = scene.start()
    talk.say(w.PREAMBLE, w.hello(low, high))
    check(talk.expect("Welcome")["version"] == 2, "another version")


@case("4.1")
def ignores_unknown_features_and_offers_none_back(scene):
    talk = scene.start()
    talk.say(w.PREAMBLE, w.hello(features=0xFFFF_0000_0000_0000))
    check(talk.expect("Welcome")["features"] & 0xFFFF_0000_0000_0000 == 0, "private features")


@case("4.2")
def announces_limits_within_LIM_2_and_LIM_3(scene):
    talk = scene.start()
    talk.say(w.PREAMBLE, w.hello())
    most = talk.expect("Welcome")["frame_len_max"]
    check((1 << 20) + 1024 <= most <= 4 << 20, "frame_len_max of %d" % most)


# 4.3 Announce, 4.4 RefStatus

@table("4.3", "REQ-11", name="refuses options", rows=[
    ("bit 2", "UNSUPPORTED", [(4, False)]), ("bit 31", "UNSUPPORTED", [(1 << 31, False)]),
    ("that differ", "VIOLATION", [(1, True), (0, False)])])
def options(scene, code, parts):
    talk = scene.start()
    talk.hello()
    for number, (bits, more) in enumerate(parts):
        talk.say(w.announce([w.update("r%d" % number, SUM)], bits, more=more))
    talk.expect_close(code)


@table("4.3", "REQ-12", name="refuses an announcement", rows=[
    ("of a ref twice", [w.announce([w.update("x", SUM), w.update("x", SUM)])]),
    ("of a ref twice in two frames",
     [w.announce([w.update("x", SUM)], more=True), w.announce([w.update("x", SUM)])]),
    ("of a commit with two detached metadata",
     [w.announce([w.update("x", SUM, b"1" * 32), w.update("y", SUM, b"2" * 32)])]),
    ("of a commit with detached metadata and without",
     [w.announce([w.update("x", SUM, b"1" * 32), w.update("y", SUM)])])])
def ambiguous(scene, frames):
    talk = scene.start()
    talk.hello()
    talk.say(*frames)
    talk.expect_close("VIOLATION")


@case("4.3", "REQ-13")
def refuses_an_announce_that_goes_on_without_a_ref(scene):
    talk = scene.start()
    talk.hello()
    talk.say(w.announce([], more=True))
    talk.expect_close("VIOLATION")


@case("4.3", "REQ-13")
def adds_up_the_refs_of_several_announces(scene):
    talk = scene.start()
    talk.hello()
    for number in range(3):
        talk.say(w.announce([w.update("r%d" % number, SUM)], more=number < 2))
    talk.expect("Welcome")
    states = talk.expect("RefStatus")["refs"]
    check(len(states) == 3, "%d states for 3 refs" % len(states))


@case("4.3", "REQ-14")
def takes_LIM_4_refs_and_no_more(scene):
    held = artifact()
    scene.push(held, "held")
    for count, code in ((10_000, None), (10_001, "LIMIT")):
        talk = scene.start()
        talk.hello()
        refs = [w.update("r/%d" % number, SUM) for number in range(count)]
        parts = [refs[start:start + 500] for start in range(0, count, 500)]
        for number, part in enumerate(parts, 1):
            talk.say(w.announce(part, bases=[] if number > 1 else [("held", held.commit)],
                                more=number < len(parts)))
        talk.expect("Welcome")
        if code:
            talk.expect_close(code)
            continue
        states = 0
        while states < count:
            part = talk.expect("RefStatus")
            check(part["refs"] and not (states and part["complete"]), "a RefStatus that says nothing")
            states += len(part["refs"])
        check(states == count, "%d states" % states)


@case("4.3")
def takes_LIM_5_bases_and_no_more(scene):
    for count in (16, 17):
        talk = scene.start()
        talk.hello()
        talk.say(w.announce([w.update("x", SUM)], bases=[("y/%d" % n, SUM) for n in range(count)]))
        talk.expect("Welcome")
        talk.expect("RefStatus") if count == 16 else talk.expect_close("LIMIT")


@case("4.3", "REQ-15")
def tells_who_it_is_where_no_ref_is_announced_and_ends(scene):
    talk = scene.start()
    check(talk.announce()["refs"] == [], "states of refs that were not announced")
    check(talk.next()[0] is None, "it goes on")


@case("4.3")
def compares_what_a_ref_is_expected_to_hold(scene):
    old, new = artifact(), artifact([("file", b"new")])
    scene.push(old)
    for expected, due in ((None, "Accepted"), ("absent", "Refused"), (old.commit, "Accepted"),
                          (SUM, "Refused")):
        talk = scene.start()
        current, verdict = talk.announce((NAME, new.commit), expected=expected)["refs"][0]
        check(current == old.commit, "the value of the ref is not told")
        check(verdict[0] == due, "%s where %s is due" % (verdict, due))
        check(due == "Accepted" or verdict[1][0] == 3, "another code than LOST_RACE")
    talk = scene.start()
    state = talk.announce(("other", new.commit), expected="absent")["refs"][0]
    check(state == (None, ("Accepted", None)), "%s of a ref to be made" % (state,))


@case("4.4", "REQ-15")
def is_up_to_date_whatever_is_expected_and_ends_when_nothing_is_accepted(scene):
    one = artifact()
    scene.push(one)
    for expected in (None, "absent", SUM):
        talk = scene.start()
        verdict = talk.announce((NAME, one.commit), expected=expected)["refs"][0][1]
        check(verdict[0] == "UpToDate", "%s where UpToDate is due" % (verdict,))
        check(talk.next()[0] is None, "it waits for a goodbye")


@case("4.4")
def refuses_names_that_are_directories_of_others(scene):
    one = artifact()
    scene.push(one)
    for name in (NAME + "/below", "project/element", "project"):
        verdict = scene.start().announce((name, one.commit))["refs"][0][1]
        check(verdict[0] == "Refused" and verdict[1][0] == 4, "%s of %s" % (verdict, name))
    states = scene.start().announce(("x", one.commit), ("x/y", one.commit), ("z", one.commit))
    verdicts = [verdict[0] for _, verdict in states["refs"]]
    check(verdicts == ["Accepted", "Refused", "Accepted"], "%s within one push" % verdicts)


@case("4.4")
def calls_a_base_complete_that_is_the_value_of_its_ref_and_passes_over_others(scene):
    one = artifact()
    scene.push(one, "p/base")
    new = artifact([("n", b"n")])
    status = scene.start().accepted(new, "q/new", bases=[("p/base", one.commit), ("p/x", SUM)])
    check(SUM not in status["complete"], "a commit that is not there is complete")


# 7 Ref names

@table("7", "REQ-43", name="takes the ref name", rows=[
    (name if len(name) < 40 else name[:12] + "... of %d bytes" % len(name), name)
    for name in ("main", "os/x86_64/main", "app/org.example.App/stable", "_x/a..b/c.", "0/1/2", "zz" * 32,
                 "x" * 200, "/".join(["x" * 127] * 8))])
def good_name(scene, name):
    scene.start().accepted(artifact(), name)


@table("7", "REQ-43", name="refuses the ref name", rows=[
    (repr(name) if len(name) < 40 else repr(name[:12]) + "... of %d bytes" % len(name), name)
    for name in ("", "/", "a/", "/a", "a//b", "..", "a/../b", "a/.b", "-a", "a/-b", "a b", "a\n", "\xe9",
                 "a\0", "a:b", "tmp.x", "a/tmp.1", "a*", "0123456789abcdef" * 4, "abc", "x" * 201,
                 "/".join(["x" * 128] * 8), "/".join("x" * 17))])
def bad_name(scene, name):
    talk = scene.start()
    talk.hello()
    talk.say(w.announce([w.update(name, SUM)]))
    talk.expect("Welcome")
    talk.expect_close("BAD_FRAME")


# 4.5 Basis

@case("4.5", "REQ-16")
def refuses_a_basis_that_was_not_called_complete(scene):
    scene.refuses(artifact(), "VIOLATION", w.basis([SUM]))


@case("4.5", "REQ-16")
def refuses_a_basis_that_comes_twice_or_behind_an_offer(scene):
    one = artifact()
    scene.refuses(one, "VIOLATION", w.basis([]), w.basis([]))
    scene.refuses(one, "VIOLATION", w.offer([one.id]), w.basis([]))


@case("4.5")
def refuses_a_basis_beyond_LIM_23(scene):
    scene.refuses(artifact(), "LIMIT", w.basis([SUM] * 65))


def with_base(scene):
    """A base, and a commit that shares a directory with it; returns both and that directory."""
    shared = [("d", [("deep", b"deep")])]
    old, new = artifact(dirs=shared), artifact([("new", b"new")], dirs=shared)
    scene.push(old, "p/base")
    common = [i for i in new.objects if i in old.objects]
    tree = next(i for i in common if i[0] == o.DIRTREE)
    inner = new.id_of(o.FILE, o.file(b"deep")[0])
    return old, new, tree, inner


def relying(scene, old, new, commits):
    talk = scene.start()
    status = talk.accepted(new, "p/new", bases=[("p/base", old.commit)])
    if commits is not None and old.commit in status["complete"]:
        talk.say(w.basis(commits))
    return talk


@case("4.5")
def looks_at_everything_beneath_an_empty_basis(scene):
    old, new, tree, inner = with_base(scene)
    with open(o.path(scene.root, inner), "wb") as damaged:
        damaged.write(b"damaged")
    talk = relying(scene, old, new, [])
    wanted = talk.offer(new.objects)
    check(tree in wanted and inner in wanted, "it relies on what is damaged")
    talk.send(new, wanted)
    talk.finalize("Updated")
    scene.published(new, "p/new")


@case("4.12", "REQ-25")
def misses_what_was_wanted_and_not_sent_though_a_base_has_it(scene):
    old, new, tree, inner = with_base(scene)
    scene.remove(inner)
    talk = relying(scene, old, new, None)
    wanted = talk.offer([inner] + list(new.objects))
    check(inner in wanted, "a file that is not there is had")
    talk.send(new, [i for i in wanted if i != inner])
    talk.say(w.frame("Finalize"))
    missing = talk.expect("Missing")["ids"]
    check(inner in missing, "%s missing" % missing)
    check(scene.ref("p/new") is None, "it was published")
    talk.send(new, missing)
    talk.finalize("Updated")
    scene.published(new, "p/new")
    scene.published(old, "p/base")


@case("4.12", "REQ-25")
def publishes_what_was_wanted_and_sent_though_a_base_has_it(scene):
    old, new, tree, inner = with_base(scene)
    scene.remove(inner)
    talk = relying(scene, old, new, None)
    talk.send(new, talk.offer([inner] + list(new.objects)))
    talk.finalize("Updated")
    scene.published(new, "p/new")


# 4.6 Detached

META = o.dictionary([("kit.signature", b"ay", b"signed")])


def commitmeta(scene, one):
    path = o.path(scene.root, one.id)[:-len("commit")] + "commitmeta"
    return open(path, "rb").read() if os.path.exists(path) else None


@table("4.6", "REQ-17", name="keeps detached metadata", rows=[("of a signature", META), ("of no bytes", b"")])
def detached(scene, metadata):
    one, talk = artifact(), scene.start()
    talk.accepted(one, detached=o.sha(metadata))
    talk.say(w.detached(one.commit, metadata))
    talk.send(one, talk.offer(one.objects))
    talk.finalize("Updated")
    check(commitmeta(scene, one) in ((metadata,) if metadata else (metadata, None)), "other metadata")


@case("4.6", "REQ-17")
def replaces_detached_metadata_and_says_updated(scene):
    one = artifact()
    scene.push(one)
    talk = scene.start()
    talk.accepted(one, detached=o.sha(META))
    talk.say(w.detached(one.commit, META))
    talk.finalize("Updated")
    check(commitmeta(scene, one) == META, "other metadata")
    status = scene.start().announce((NAME, one.commit), detached=o.sha(META))
    check(status["refs"][0][1][0] == "UpToDate", "the same metadata once more")


@table("4.6", "REQ-17", name="refuses detached metadata", rows=[
    ("that was not announced", "VIOLATION", None, [META]),
    ("twice", "VIOLATION", META, [META, META]),
    ("other than announced", "VIOLATION", META, [META + b"x"]),
    ("beyond LIM-10", "LIMIT", b"x" * ((1 << 20) + 1), [b"x" * ((1 << 20) + 1)]),
    ("that is no a{sv}", "OBJECT_REFUSED", b"no variant", [b"no variant"]),
    ("that did not come before Finalize", "VIOLATION", META, [])])
def bad_detached(scene, code, announced, sent):
    one, talk = artifact(), scene.start()
    talk.accepted(one, detached=announced and o.sha(announced))
    if not sent:
        talk.send(one, talk.offer(one.objects))
    talk.say(*[w.detached(one.commit, data) for data in sent], *([] if sent else [w.frame("Finalize")]))
    talk.expect_close(code)
    check(scene.ref() is None, "it was published")


# 4.7 Want, 4.8 Offer

@case("4.8", "REQ-19")
def refuses_an_offer_without_an_id(scene):
    scene.refuses(artifact(), "VIOLATION", w.offer([]))


@case("4.8", "REQ-19")
def takes_LIM_6_ids_in_an_offer_and_no_more(scene):
    ids = [b"\1" + struct.pack(">Q", n) * 4 for n in range(1025)]
    talk = scene.start()
    talk.accepted(artifact())
    talk.say(w.offer(ids[:1024]))
    check(len(talk.expect("Want")["wanted"]) == 1024, "another count")
    talk.say(w.offer(ids))
    talk.expect_close("LIMIT")


@case("4.8", "REQ-19")
def keeps_LIM_7(scene):
    talk = scene.start()
    talk.accepted(artifact())
    for batch in range(64):
        talk.say(w.offer([b"\1" + struct.pack(">Q", batch * 1024 + n) * 4 for n in range(1024)]))
        check(all(talk.expect("Want")["wanted"]), "what is not there is had")
    talk.say(w.offer([b"\1" + b"\xff" * 32]))
    talk.expect_close("LIMIT")


@case("4.7")
def answers_offers_in_order_and_wants_nothing_twice(scene):
    one, talk = artifact(), scene.start()
    talk.accepted(one)
    ids = list(one.objects)
    talk.say(w.offer(ids + ids[:1]), w.offer(ids[:2]))
    first, second = talk.expect("Want")["wanted"], talk.expect("Want")["wanted"]
    check(first == [True] * len(ids) + [False], "%s of the first" % first)
    check(second == [False, False], "%s of the second" % second)


@case("4.8")
def answers_an_early_offer_behind_its_ref_status(scene):
    one, talk = artifact(), scene.start()
    ids = list(one.objects)
    talk.say(w.PREAMBLE, w.hello(), w.announce([w.update(NAME, one.commit)]), w.offer(ids))
    talk.expect("Welcome")
    talk.expect("RefStatus")
    check(talk.expect("Want")["wanted"] == [True] * len(ids), "not all is wanted")
    talk.say(w.pack([(i, one.objects[i]) for i in ids]))
    talk.finalize("Updated")
    scene.published(one)


@case("4.7")
def verifies_a_file_before_it_says_have(scene):
    old = artifact([("a", b"same"), ("b", b"damaged")])
    scene.push(old)
    files = old.of(o.FILE)
    damaged = files[0]
    with open(o.path(scene.root, damaged), "r+b") as stored:
        stored.truncate(5)
    talk = scene.start()
    talk.accepted(artifact([("c", b"c")]), "q/other")
    talk.say(w.basis([]))
    wanted = talk.offer(files)
    check(damaged in wanted, "a damaged file is had")


@case("4.7")
def wants_a_dirtree_that_merely_is_there(scene):
    one = artifact()
    tree = one.of(o.DIRTREE)[0]
    os.makedirs(os.path.dirname(o.path(scene.root, tree)))
    with open(o.path(scene.root, tree), "wb") as stored:
        stored.write(one.objects[tree])
    talk = scene.start()
    talk.accepted(one)
    check(talk.offer([tree]) == [tree], "its presence was taken for all below it")


# 4.9 Pack, 4.10 streams

@case("4.9")
def takes_a_push_in_one_pack(scene):
    one, talk = artifact([("file%d" % n, b"%d" % n) for n in range(300)]), scene.start()
    talk.accepted(one)
    wanted = talk.offer(one.objects)
    talk.say(w.pack([(i, one.objects[i]) for i in wanted]))
    talk.finalize("Updated")
    talk.finish()
    scene.published(one)


@table("4.9", "REQ-21", name="refuses an object", rows=[
    ("before its Want was read", lambda one, i, data: [w.pack([(i, data)])], False),
    ("twice in one pack", lambda one, i, data: [w.pack([(i, data), (i, data)])], True),
    ("twice in two packs", lambda one, i, data: [w.pack([(i, data)]), w.pack([(i, data)])], True),
    ("that was never offered", lambda one, i, data: [w.pack([(b"\1" + SUM, data)])], True),
    ("in a stream before its Want", lambda one, i, data: [w.begin(0, i)], False),
    ("in a stream and in a pack", lambda one, i, data: [w.begin(0, i), w.pack([(i, data)])], True)])
def unwanted(scene, frames, offered):
    one, talk = artifact(), scene.start()
    i, data = one.id, one.objects[one.id]
    talk.accepted(one)
    if offered:
        talk.offer([i])
    talk.say(*frames(one, i, data))
    talk.expect_close("VIOLATION")


@case("4.9", "REQ-21", needs=("read-ahead",))
def refuses_an_object_behind_its_offer_without_a_want(scene):
    one = artifact()
    # Sent at once, so that no Want can have been read.
    scene.refuses(one, "VIOLATION", w.offer([one.id]) + w.pack([(one.id, one.objects[one.id])]))


@case("4.10", "REQ-22")
def takes_interleaved_streams_a_byte_at_a_time(scene):
    one, talk = artifact(), scene.start()
    talk.accepted(one)
    wanted = talk.offer(one.objects)
    first, second, *rest = wanted
    a, b = one.objects[first], one.objects[second]
    talk.say(w.begin(3, first), w.begin(0, second), w.frame("Ping"))
    for n in range(max(len(a), len(b))):
        talk.say(*[w.chunk(stream, data[n:n + 1]) for stream, data in ((3, a), (0, b)) if data[n:n + 1]])
    talk.say(w.end(3), w.end(0), w.begin(3, rest[0]), w.chunk(3, one.objects[rest[0]]), w.end(3))
    talk.send(one, rest[1:])
    talk.finalize("Updated")
    scene.published(one)


@table("4.10", "REQ-22", name="refuses a stream", rows=[
    ("of number 4", lambda i: [w.begin(4, i)]), ("of number 255", lambda i: [w.begin(255, i)]),
    ("that is open", lambda i: [w.begin(1, i), w.begin(1, i)]),
    ("that is not open, a chunk", lambda i: [w.chunk(0, b"x")]),
    ("that is not open, an end", lambda i: [w.end(2)]),
    ("that is open at Finalize", lambda i: [w.begin(0, i), w.frame("Finalize")])])
def bad_stream(scene, frames):
    one, talk = artifact(), scene.start()
    talk.accepted(one)
    talk.offer([one.id])
    talk.say(*frames(one.id))
    talk.expect_close("VIOLATION")


@case("4.10")
def takes_a_stream_without_a_chunk_for_an_empty_object_and_refuses_it(scene):
    one, talk = artifact(), scene.start()
    talk.accepted(one)
    talk.offer([one.id])
    talk.say(w.begin(0, one.id), w.end(0))
    talk.expect_close("OBJECT_REFUSED")


@case("4.11", "REQ-23")
def counts_as_staged_what_is_verified_and_nothing_else(scene):
    content = os.urandom(3 << 20)
    one, talk = artifact([("large", content), ("x", b"x")]), scene.start()
    talk.accepted(one)
    wanted = talk.offer(one.objects)
    large = max(wanted, key=lambda i: len(one.objects[i]))
    data = one.objects[large]
    talk.say(w.begin(0, large), w.chunk(0, data[:1 << 20]), w.chunk(0, data[1 << 20:2 << 20]))
    time.sleep(0.5)
    talk.say(w.chunk(0, data[2 << 20:]), w.end(0))
    talk.send(one, [i for i in wanted if i != large])
    talk.say(w.frame("Finalize"))
    told = (0, 0)
    while True:
        name, fields = talk.next(skip=("Ping",))
        if name != "Staged":
            break
        now = (fields["objects"], fields["bytes"])
        check(now[0] >= told[0] and now[1] >= told[1], "%s after %s" % (now, told))
        check(now[1] == 0 or now[0] > 0, "bytes of an object on its way: %s" % (now,))
        told = now
    check(name == "Finalized", "%s where Finalized is due" % name)
    check(told[1] <= sum(len(stored) for stored in one.objects.values()), "%s staged" % (told,))


# 4.12 Finalize, 4.13 Missing, 4.14 Finalized, 4.15 SummaryDone

@case("4.12", "REQ-24", needs=("read-ahead",))
def refuses_finalize_before_an_offer_is_answered(scene):
    one = artifact()
    # Sent at once, so that no Want can have been read.
    scene.refuses(one, "VIOLATION", w.offer([one.id]) + w.frame("Finalize"))


@table("4.12", "REQ-26", name="publishes though behind Finalize comes", rows=[
    ("the end of the bytes", None), ("Close", w.close("DONE")), ("Close TIMEOUT", w.close("TIMEOUT")),
    ("what is no frame", b"\xff" * 5000)])
def after_finalize(scene, said):
    one, talk = artifact(), scene.start()
    talk.accepted(one)
    talk.send(one, talk.offer(one.objects))
    talk.say(w.frame("Finalize") + (said or b""))
    if said is None:
        talk.hang_up()
    check(talk.expect("Finalized")["refs"] == [("Updated", None)], "it was not done")
    scene.published(one)


@case("4.13")
def says_what_is_missing_and_takes_it_without_an_offer(scene):
    one, talk = artifact(), scene.start()
    talk.accepted(one)
    wanted = talk.offer(one.objects)
    left = wanted[-1]
    talk.send(one, [i for i in wanted if i != left])
    talk.say(w.frame("Finalize"))
    missing = talk.expect("Missing")["ids"]
    check(missing == [left], "%s are missing" % missing)
    check(scene.ref() is None, "it was published")
    talk.send(one, missing)
    talk.finalize("Updated")
    scene.published(one)


@case("4.13")
def finds_missing_what_was_never_offered(scene):
    one, talk = artifact(), scene.start()
    talk.accepted(one)
    talk.say(w.frame("Finalize"))
    missing = talk.expect("Missing")["ids"]
    check(missing and len(set(missing)) == len(missing), "%s are missing" % missing)
    talk.send(one, missing)
    talk.send(one, talk.offer([i for i in one.objects if i not in missing]))
    talk.finalize("Updated")
    scene.published(one)


@case("4.13", "REQ-27")
def gives_up_after_LIM_19_rounds(scene):
    one, talk = artifact(), scene.start()
    talk.accepted(one)
    for _ in range(3):
        talk.say(w.frame("Finalize"))
        talk.expect("Missing")
    talk.say(w.frame("Finalize"))
    talk.expect_close("INCOMPLETE")
    check(scene.ref() is None, "it was published")


@case("4.14")
def updates_some_refs_and_refuses_others(scene):
    old, new = artifact(), artifact([("new", b"new")])
    scene.push(old, "kept")
    talk = scene.start()
    states = talk.announce(("kept", new.commit), ("made", new.commit), ("blocked/x", new.commit),
                           ("blocked", new.commit))["refs"]
    check([v[0] for _, v in states] == ["Accepted", "Accepted", "Accepted", "Refused"], "%s" % states)
    talk.send(new, talk.offer(new.objects))
    outcomes = talk.finalize()
    names = [name for name, _ in outcomes]
    check(names == ["Refused", "Updated", "Updated", "Refused"], "%s" % outcomes)
    check(outcomes[0][1][0] == 2, "another code than NOT_FAST_FORWARD")
    check(scene.ref("kept") == old.commit and scene.ref("made") == new.commit, "other refs")


@case("4.8", "REQ-20")
def moves_a_ref_forward_by_the_commits_in_between(scene):
    first = artifact()
    second = artifact([("2", b"2")], parent=first.commit)
    third = artifact([("3", b"3")], parent=second.commit)
    scene.push(first)
    talk = scene.start()
    talk.accepted(third)
    talk.send(third, talk.offer(third.objects))
    refused = talk.finalize("Refused")
    check(refused[0][1][0] == 2, "another code than NOT_FAST_FORWARD")
    talk = scene.start()
    talk.accepted(third)
    for one in (third, second):
        talk.send(one, talk.offer(one.objects))
    talk.finalize("Updated")
    scene.published(third)
    check(not o.damage_of(scene.root, second), "the commit in between is not there")


@case("4.3")
def moves_a_ref_anywhere_by_force(scene):
    scene.push(artifact())
    new = artifact([("new", b"new")])
    scene.push(new, options=w.FORCE)
    scene.published(new)


@case("6.2")
def refuses_a_ref_that_the_commit_is_not_bound_to(scene):
    bound = artifact(entries=[("ostree.ref-binding", b"as", o.array([b"elsewhere\0"]))])
    outcome = scene.push(bound, due="Refused")[0]
    check(outcome[1][0] == 5, "another code than BINDING")
    named = artifact(entries=[("ostree.ref-binding", b"as", o.array([b"a\0", NAME.encode() + b"\0"]))])
    scene.push(named)


@case("4.14")
def loses_a_race_alone_and_finds_the_same_commit_unchanged(scene):
    one, other = artifact(), artifact([("other", b"other")])
    slow, same = scene.start(), scene.start()
    slow.accepted(one)
    slow.send(one, slow.offer(one.objects))
    same.accepted(other)
    same.send(other, same.offer(other.objects))
    scene.push(other)
    check(slow.finalize("Refused")[0][1][0] == 3, "another code than LOST_RACE")
    same.finalize("Unchanged")
    scene.published(other)


@case("4.15", "REQ-31")
def ends_by_itself_when_all_is_said(scene):
    one, talk = artifact(), scene.start()
    talk.accepted(one)
    talk.send(one, talk.offer(one.objects))
    talk.finalize("Updated")
    talk.finish()
    talk.process.wait(10)


# 4.16 Ping, 4.17 Close, 5 Sessions

@case("4.16")
def takes_signs_of_life_in_every_state_after_hello(scene):
    one, talk, ping = artifact(), scene.start(), w.frame("Ping")
    talk.hello()
    talk.say(ping, ping, w.announce([w.update(NAME, one.commit)]), ping)
    talk.expect("Welcome")
    talk.expect("RefStatus")
    talk.say(ping)
    talk.send(one, talk.offer(one.objects))
    talk.say(ping)
    talk.finalize("Updated")


@case("4.16", "REQ-34")
def takes_none_before_hello(scene):
    talk = scene.start()
    talk.say(w.PREAMBLE, w.frame("Ping"))
    talk.expect_close("VIOLATION")


@case("5.4", "REQ-37", slow=True, needs=("time",))
def sends_a_sign_of_life_every_15_seconds(scene):
    talk = scene.start()
    talk.accepted(artifact())
    begun = time.monotonic()
    for _ in range(2):
        frame = talk.any(20)
        check(frame and frame.name == "Ping", "%s" % (frame,))
    check(25 < time.monotonic() - begun < 36, "two in %d s" % (time.monotonic() - begun))


@case("5.4", slow=True, needs=("time",))
def gives_up_who_never_announces(scene):
    talk = scene.start()
    talk.say(w.PREAMBLE, w.hello())
    talk.PATIENCE = 45
    talk.expect("Welcome")
    talk.expect_close("TIMEOUT")


@case("4.17")
def lets_a_client_withdraw(scene):
    one, talk = artifact(), scene.start()
    talk.accepted(one)
    talk.send(one, talk.offer(one.objects))
    talk.say(w.close("DONE"))
    check(talk.next()[0] is None, "it answers a Close")
    check(scene.ref() is None, "it was published")


@table("5.2", "REQ-35", name="leaves refs as they were when the bytes end", rows=[
    ("before the preamble", 0), ("within the announcement", 60), ("behind the announcement", None)])
def cut(scene, count):
    one, talk = artifact(), scene.start()
    said = w.PREAMBLE + w.hello() + w.announce([w.update(NAME, one.commit)])
    talk.say(said[:count])
    talk.hang_up()
    while talk.next()[0] not in (None, "Close"):
        pass
    check(scene.ref() is None, "a ref was set")
    scene.push(one)


@case("5.2", "REQ-35")
def leaves_refs_as_they_were_when_the_bytes_end_before_Finalize(scene):
    one, talk = artifact(), scene.start()
    talk.accepted(one)
    talk.send(one, talk.offer(one.objects))
    talk.hang_up()
    talk.process.wait(10)
    check(scene.ref() is None, "a ref was set")


def locked(scene):
    """Takes libostree's lock, exclusive, as a prune does; closing it lets go."""
    whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    lock = open(os.path.join(scene.root, ".lock"), "a+b")
    try:
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, whole)
    except BlockingIOError:
        raise Failed("the repository is locked") from None
    return lock


@case("8", "REQ-45")
def holds_no_lock_while_it_waits_for_its_client(scene):
    one, talk = artifact(), scene.start()
    talk.accepted(one)
    talk.send(one, talk.offer(one.objects))
    talk.say(w.offer([b"\1" + SUM]))
    talk.expect("Want")
    with locked(scene):
        pass
    talk.finalize("Updated")


@case("8", "REQ-46")
def publishes_nothing_while_another_program_has_the_lock(scene):
    one, talk = artifact(), scene.start()
    talk.accepted(one)
    talk.send(one, talk.offer(one.objects))
    with locked(scene):
        talk.say(w.frame("Finalize"))
        time.sleep(0.5)
        check(not os.path.exists(o.path(scene.root, one.id)), "it published without the lock")
        check(scene.ref() is None, "it set a ref without the lock")
    check(talk.expect("Finalized")["refs"] == [("Updated", None)], "it was not done")
    scene.published(one)


@case("5.2", "REQ-35")
def leaves_refs_as_they_were_when_the_bytes_end_within_an_object(scene):
    one, talk = artifact(), scene.start()
    talk.accepted(one)
    ids = talk.offer(one.objects)
    talk.send(one, ids[:2])
    talk.say(w.begin(0, ids[2]), w.chunk(0, one.objects[ids[2]][:3]))
    talk.hang_up()
    talk.process.wait(10)
    check(scene.ref() is None, "a ref was set")
    scene.push(one)


@case("4.17")
def says_what_is_wrong_with_an_object_though_the_bytes_end_behind_it(scene):
    one, talk = artifact([("file", os.urandom(200_000))]), scene.start()
    talk.accepted(one)
    ids = talk.offer(one.objects)
    data = bytearray(one.objects[one.of(o.FILE)[0]])
    data[-1] ^= 1
    check(one.of(o.FILE)[0] in ids, "it is had")
    talk.say(w.pack([(one.of(o.FILE)[0], bytes(data))]))
    talk.hang_up()
    talk.expect_close("OBJECT_REFUSED")


@case("4.17", needs=("signals",))
def says_interrupted_when_it_is_told_to_stop(scene):
    talk = scene.start()
    talk.accepted(artifact())
    scene.stop(talk)
    talk.expect_close("INTERRUPTED")


@table("5.1", "REQ-34", "REQ-32", name="refuses in Transfer", rows=[
    ("Hello", w.hello()), ("Announce", w.announce([w.update("x", SUM)])), ("Welcome", w.welcome()),
    ("RefStatus", w.ref_status([])), ("Want", w.want([True])), ("Staged", w.staged(1, 1)),
    ("Missing", w.missing([b"\1" + SUM])), ("Finalized", w.finalized([w.UPDATED])),
    ("SummaryDone", w.summary_done())])
def out_of_place(scene, frame):
    scene.refuses(artifact(), "VIOLATION", frame)


@table("5.1", "REQ-34", name="refuses before the announcement", rows=[
    ("Announce before Hello", [w.announce([w.update("x", SUM)])]), ("Hello twice", [w.hello(), w.hello()]),
    ("Offer", [w.hello(), w.offer([b"\1" + SUM])]), ("Finalize", [w.hello(), w.frame("Finalize")])])
def too_early(scene, frames):
    talk = scene.start()
    talk.say(w.PREAMBLE, *frames)
    talk.expect_close("VIOLATION")


# 5.5 Dry run

@case("5.5", "REQ-38", "REQ-28")
def foretells_in_a_dry_run_without_a_look_at_what_is_there(scene):
    one, talk = artifact(), scene.start()
    scene.push(one, "held")
    new = artifact([("new", b"new")])
    talk.announce(("held", new.commit), ("made", new.commit), ("same/x", one.commit), options=w.DRY_RUN)
    talk.finalize("WouldUpdate", "WouldUpdate", "WouldUpdate")
    talk.finish()
    check(scene.ref("held") == one.commit and scene.ref("made") is None, "refs have moved")


@case("5.5", "REQ-38")
def wants_in_a_dry_run_what_it_would_want(scene):
    one, talk = artifact(), scene.start()
    talk.accepted(one, options=w.DRY_RUN)
    check(talk.offer(one.objects) == list(one.objects), "not all is wanted")
    talk.finalize("WouldUpdate")
    check(scene.ref() is None, "a ref was set")


@table("5.5", "REQ-39", name="takes in a dry run no", rows=[
    ("pack", lambda one: w.pack([(one.id, one.objects[one.id])])),
    ("stream", lambda one: w.begin(0, one.id)),
    ("detached metadata", lambda one: w.detached(one.commit, b""))])
def dry_objects(scene, frame):
    one, talk = artifact(), scene.start()
    talk.accepted(one, options=w.DRY_RUN)
    talk.offer([one.id])
    talk.say(frame(one))
    talk.expect_close("VIOLATION")


# 5.6 Resuming

@table("5.6", "REQ-41", name="keeps what was verified", needs=("resume",), rows=[
    ("after the end of the bytes", lambda talk: talk.hang_up()),
    ("after Close", lambda talk: talk.say(w.close("DONE"))),
    ("after what is no frame", lambda talk: talk.say(w.frame(0x7777)))])
def resume(scene, leave):
    one, talk = artifact([("a", b"a"), ("b", b"b")]), scene.start()
    talk.accepted(one)
    talk.offer(one.objects)
    files, tree = one.of(o.FILE), one.of(o.DIRTREE)[0]
    talk.send(one, files[:1] + [tree])
    # Verified, and not just received.
    time.sleep(0.5)
    leave(talk)
    talk.process.stdin.close()
    talk.process.wait(10)
    talk = scene.start()
    talk.accepted(one)
    wanted = talk.offer(one.objects)
    check(files[0] not in wanted, "a file is sent again")
    check(tree in wanted and files[1] in wanted, "a directory is had that lacks a file")
    talk.send(one, wanted)
    talk.finalize("Updated")
    scene.published(one)
