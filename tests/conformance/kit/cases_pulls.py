"""What any server that answers pulls must do (SPEC 9)."""

import os
import struct

from . import objects as o
from . import wire as w
from .cases_receiver import case as register
from .cases_receiver import table as rows_of
from .harness import check
from .receiver import NAME, artifact


def case(section, *requirements):
    return register(section, *requirements, needs=("pulls",))


def table(section, *requirements, rows, name):
    return rows_of(section, *requirements, rows=rows, name=name, needs=("pulls",))


SUM = b"\x22" * 32


class Got:
    """What an answer says and brings."""

    def __init__(self):
        self.states, self.basis, self.objects = {}, [], []
        self.metadata, self.extent, self.sent = {}, None, None

    def ids(self):
        return [i for i, _ in self.objects]


def answer(talk):
    """Reads a whole answer; checks what must hold of each."""
    got, streams = Got(), {}
    greeting = talk.expect("Welcome")
    check(greeting["features"] & w.PULL, "no PULL in Welcome")
    more = True
    while more:
        said = talk.expect("Answer")
        check(not got.states or not said["basis"], "a basis in a further Answer")
        for name, state in said["refs"]:
            check(name not in got.states, "two answers about %s" % name)
            got.states[name] = state
        got.basis += said["basis"]
        more = said["more"]
    while got.sent is None:
        name, said = talk.next()
        if name == "Extent":
            check(got.extent is None, "two Extents")
            got.extent = said
        elif name == "Detached":
            check(said["commit"] not in got.metadata, "detached metadata twice")
            got.metadata[said["commit"]] = said["metadata"]
        elif name == "Pack":
            got.objects += said["objects"]
        elif name == "ObjectBegin":
            check(said["stream"] not in streams, "a stream begun twice")
            streams[said["stream"]] = (said["id"], [])
        elif name == "ObjectChunk":
            streams[said["stream"]][1].append(said["stored"])
        elif name == "ObjectEnd":
            i, stored = streams.pop(said["stream"])
            got.objects.append((i, b"".join(stored)))
        elif name == "Sent":
            got.sent = said
        else:
            check(False, "%s (%s) within an answer" % (name, said))
    check(not streams, "Sent while a stream is open")
    check(got.sent["objects"] == len(got.objects), "Sent counts other objects")
    check(got.sent["bytes"] == sum(len(stored) for _, stored in got.objects), "Sent counts other bytes")
    check(len(set(got.ids())) == len(got.ids()), "an object twice")
    for i, stored in got.objects:
        check(o.sum_of(i[0], stored) == i[1:], "an object that is another one")
    check(talk.any() is None, "a frame behind Sent")
    return got


def pull(scene, *frames, hang_up=False):
    """Greets, says a request, and reads the answer, saying nothing more."""
    talk = scene.start()
    talk.say(w.PREAMBLE, w.hello(features=w.PULL), *frames)
    if hang_up:
        talk.hang_up()
    return answer(talk)


def wanted(*names, **more):
    return w.request([w.ref_request(name) for name in names], **more)


def promised(got, name, commit, metadata=None):
    state = got.states.get(name)
    check(state == ("Promised", (commit, metadata)), "%s: %s" % (name, state))


def brings(got, *artifacts, without=()):
    due = {i for one in artifacts for i in one.objects} - set(without)
    check(set(got.ids()) == due, "%d objects where %d are due" % (len(got.ids()), len(due)))


def two():
    """A commit with a directory, and one that differs in a file of it."""
    first = artifact([("a", b"a"), ("b", b"b")], dirs=[("d", [("c", b"c"), ("e", b"e")])])
    second = artifact([("a", b"a"), ("b", b"b")], dirs=[("d", [("c", b"changed"), ("e", b"e")])],
                      parent=first.commit)
    return first, second


# 9 Pulling

@case("9", "REQ-47")
def says_that_it_serves_pulls_and_to_whom_it_does_not(scene):
    talk = scene.start()
    talk.say(w.PREAMBLE, w.hello(features=w.PULL))
    check(talk.expect("Welcome")["features"] & w.PULL, "no PULL")
    talk = scene.start()
    talk.say(w.PREAMBLE, w.hello(), wanted(NAME))
    talk.expect_close("UNSUPPORTED")


@case("9", "REQ-52", "REQ-57", "REQ-58")
def brings_all_that_a_ref_reaches_in_one_flight(scene):
    one = artifact([("small", b"x"), ("large", os.urandom(3 << 20))], dirs=[("d", [("f", b"y")])])
    o.store(scene.root, one, NAME)
    for hang_up in (False, True):
        got = pull(scene, wanted(NAME), hang_up=hang_up)
        promised(got, NAME, one.commit)
        brings(got, one)
        named = {one.id}
        for i, stored in got.objects:
            check(i in named, "an object before one that names it")
            named |= set(children(i, stored, one))


def children(i, stored, one):
    """The ids whose sums an object has in it, of those that an artifact has."""
    if i[0] not in (o.COMMIT, o.DIRTREE):
        return []
    return [other for other in one.objects if other[1:] in stored]


@case("9.1")
def answers_by_name_and_by_pattern_and_tells_the_absent(scene):
    one, other = artifact([("a", b"a")]), artifact([("b", b"b")])
    o.store(scene.root, one, "a/x/1")
    o.store(scene.root, other, "a/y/1")
    got = pull(scene, wanted("a/x/1", "none/at/all", patterns=["a/*/1"]))
    promised(got, "a/x/1", one.commit)
    promised(got, "a/y/1", other.commit)
    state = got.states["none/at/all"]
    check(state[0] == "Refused" and state[1][0] == w.ABSENT, "%s" % (state,))
    check(len(got.states) == 3, "more refs than were asked for")
    brings(got, one, other)


@case("9.1", "REQ-54")
def sends_nothing_where_the_client_has_the_refs_value(scene):
    one = artifact()
    o.store(scene.root, one, NAME)
    got = pull(scene, w.request([w.ref_request(NAME, one.commit)]))
    check(got.states[NAME] == ("UpToDate", None), "%s" % (got.states[NAME],))
    brings(got)


@case("9.1", "REQ-54")
def sends_the_difference_to_a_held_ancestor_and_believes_in_no_stranger(scene):
    first, second = two()
    stranger = artifact([("s", b"s")])
    o.store(scene.root, first)
    o.store(scene.root, second, NAME)
    got = pull(scene, wanted(NAME, held=[first.commit, SUM]))
    check(got.basis == [first.commit], "a basis of %d commits" % len(got.basis))
    brings(got, second, without=first.objects)
    o.store(scene.root, stranger)
    got = pull(scene, wanted(NAME, held=[stranger.commit]))
    check(not got.basis, "a commit that no ref reaches is a basis")
    brings(got, second)


@case("9.1", "REQ-52")
def sends_as_many_ancestors_as_are_wanted(scene):
    first, second = two()
    o.store(scene.root, first)
    o.store(scene.root, second, NAME)
    brings(pull(scene, wanted(NAME)), second)
    brings(pull(scene, wanted(NAME, history=1)), second, first)
    brings(pull(scene, wanted(NAME, history=9)), second, first)


@case("9.2")
def leaves_out_held_objects_and_sends_what_lies_beneath_them(scene):
    one, _ = two()
    o.store(scene.root, one, NAME)
    held = [one.id] + one.of(o.DIRTREE)[:1] + one.of(o.FILE)[:1]
    got = pull(scene, wanted(NAME, more=True), w.held([i[1:9] for i in held[:1]], more=True),
               w.held([i[1:9] for i in held[1:]]))
    brings(got, one, without=held)


@case("9.3", "REQ-54")
def shows_no_commit_that_is_marked_partial(scene):
    one = artifact()
    o.store(scene.root, one, NAME)
    open(os.path.join(scene.root, "state", one.commit.hex() + ".commitpartial"), "wb").close()
    got = pull(scene, wanted(NAME, patterns=["**"]))
    check(got.states[NAME][0] == "Refused", "%s" % (got.states[NAME],))
    brings(got)


@case("9.4", "REQ-56")
def says_in_a_dry_run_what_it_would_send(scene):
    one = artifact()
    o.store(scene.root, one, NAME)
    whole = pull(scene, wanted(NAME))
    got = pull(scene, wanted(NAME, options=1))
    promised(got, NAME, one.commit)
    check(not got.objects and got.extent == whole.sent, "%s, not %s" % (got.extent, whole.sent))


@case("9.5", "REQ-51")
def sends_detached_metadata_that_the_client_lacks_once(scene):
    one = artifact()
    o.store(scene.root, one, NAME)
    o.store(scene.root, one, "another/ref/1")
    metadata = o.dictionary([("kit", b"s", b"signed\0")])
    with open(o.path(scene.root, one.id) + "meta", "wb") as out:
        out.write(metadata)
    got = pull(scene, wanted(NAME, "another/ref/1"))
    promised(got, NAME, one.commit, o.sha(metadata))
    check(got.metadata == {one.commit: metadata}, "other metadata")
    got = pull(scene, w.request([w.ref_request(NAME, one.commit, SUM)]))
    check(got.metadata == {one.commit: metadata}, "none where the client's differ")
    brings(got)
    got = pull(scene, w.request([w.ref_request(NAME, one.commit, o.sha(metadata))]))
    check(got.states[NAME][0] == "UpToDate" and not got.metadata, "metadata that are here")


@case("9.7", "REQ-58")
def takes_the_end_of_half_a_request_for_the_end(scene):
    o.store(scene.root, artifact(), NAME)
    talk = scene.start()
    talk.say(w.PREAMBLE, w.hello(features=w.PULL), wanted(NAME, more=True))
    talk.hang_up()
    name = "Welcome"
    while name in ("Welcome", "Close"):
        name, _ = talk.next()
    check(name is None, "%s to half a request" % name)


REF = w.ref_request(NAME)


@table("9.1", "REQ-48", "REQ-49", name="refuses a request", rows=[
    ("with an unknown option", "UNSUPPORTED", [w.request([REF], options=2)]),
    ("with other options than before", "VIOLATION",
     [w.request([REF], more=True), w.request([w.ref_request("x/y/z")], options=1)]),
    ("with another history than before", "VIOLATION",
     [w.request([REF], more=True), w.request([w.ref_request("x/y/z")], history=1)]),
    ("that is empty and not the last", "VIOLATION", [w.request([], more=True)]),
    ("for one ref twice", "VIOLATION", [w.request([REF, REF])]),
    ("for one ref in two frames", "VIOLATION", [w.request([REF], more=True), w.request([REF])]),
    ("with more held commits than LIM-5", "LIMIT",
     [w.request([REF], held=[bytes([n]) * 32 for n in range(17)])]),
    ("with a pattern that is none", "BAD_FRAME", [w.request([], patterns=["a//b"])]),
    ("with an empty pattern", "BAD_FRAME", [w.request([], patterns=[""])]),
    ("for what is no ref", "BAD_FRAME", [w.request([w.ref_request("../x")])]),
    ("behind Held", "VIOLATION",
     [w.request([REF], more=True), w.held([b"12345678"], more=True), w.request([REF])]),
    ("with Held that is empty", "BAD_FRAME", [w.request([REF], more=True), w.frame("Held", b"\0")]),
    ("with half a name in Held", "BAD_FRAME",
     [w.request([REF], more=True), w.frame("Held", b"\0" + b"1234567")]),
    ("with Held before it", "VIOLATION", [w.held([b"12345678"]), w.request([REF])]),
])
def bad_request(scene, code, said):
    o.store(scene.root, artifact(), NAME)
    talk = scene.start()
    talk.say(w.PREAMBLE, w.hello(features=w.PULL), *said)
    talk.expect_close(code)


@table("9.9", name="refuses while it answers", rows=[
    ("Hello", w.hello()), ("Announce", w.announce([w.update(NAME, SUM)])),
    ("Basis", w.basis([SUM])), ("Offer", w.offer([b"\1" + SUM])),
    ("Detached", w.detached(SUM, b"")), ("Pack", w.pack([(b"\1" + SUM, b"x")])),
    ("ObjectBegin", w.begin(0, b"\1" + SUM)), ("ObjectChunk", w.chunk(0, b"x")),
    ("ObjectEnd", w.end(0)), ("Finalize", w.frame("Finalize")), ("Request", w.request([REF])),
    ("Held", w.held([b"12345678"])), ("Sent", w.frame("Sent", struct.pack("<QQ", 0, 0))),
])
def out_of_place(scene, said):
    o.store(scene.root, artifact([("large", os.urandom(8 << 20))]), NAME)
    talk = scene.start()
    # In one piece, so that it comes before the end of the answer.
    talk.say(w.PREAMBLE + w.hello(features=w.PULL) + w.request([REF]) + said)
    talk.expect_close("VIOLATION")
