"""What any client must do."""

import os
import time

from . import objects as o
from . import wire as w
from .client import REF
from .harness import case as register
from .harness import Failed, check


def case(section, *requirements, **more):
    return register("client", section, *requirements, **more)


def table(section, *requirements, rows, name, **more):
    def of(run):
        for what, *arguments in rows:
            bound = lambda scene, arguments=arguments: run(scene, *arguments)
            register("client", section, *requirements, name="%s: %s" % (name, what), **more)(bound)
        return run
    return of


SUM = b"\x11" * 32
FINAL = [w.finalized([w.UPDATED]), w.summary_done()]


@case("4.14")
def pushes_and_says_so(scene):
    one = scene.artifact()
    talk, process = scene.start()
    announce = talk.greet()
    check([(r["name"], r["commit"]) for r in announce["refs"]] == [(REF, one.commit)], "%s" % announce)
    talk.accept(announce)
    objects, _ = talk.collect()
    check(objects == one.objects, "other objects than the commit reaches")
    talk.say(*FINAL)
    talk.done()
    scene.ends(process, True)


@case("4.3")
def announces_in_its_first_flight(scene):
    scene.artifact()
    talk, _ = scene.start()
    hello = talk.expect("Hello")
    check(hello["low"] <= 2 <= hello["high"], "versions %s" % hello)
    announce = talk.expect("Announce")
    check(announce["options"] == 0 and not announce["more"], "%s" % announce)


@case("4.8")
def offers_parents_before_children_and_everything_once(scene):
    one = scene.artifact([("f%d" % n, b"%d" % n) for n in range(1500)])
    talk, process = scene.start()
    talk.accept(talk.greet())
    objects, seen = talk.collect()
    ids = [i for name, fields in seen if name == "Offer" for i in fields["ids"]]
    check(len(ids) == len(set(ids)) and set(ids) == set(one.objects), "other ids than the closure")
    check(ids.index(one.id) < ids.index(one.of(o.DIRTREE)[0]) < ids.index(one.of(o.FILE)[0]), "order")
    check(all(0 < len(f["ids"]) <= 1024 for n, f in seen if n == "Offer"), "an Offer beyond LIM-6")
    check(objects == one.objects, "other objects")
    talk.say(*FINAL)
    scene.ends(process, True)


@case("4.8", "REQ-20")
def offers_the_commits_on_the_way_back_to_the_value_of_the_ref(scene):
    first = scene.artifact([("1", b"1")])
    second = scene.artifact([("2", b"2")], parent=first.commit)
    third = scene.artifact([("3", b"3")], parent=second.commit)
    talk, process = scene.start()
    talk.accept(talk.greet(), current=first.commit)
    objects, _ = talk.collect(have=list(first.objects))
    due = {**second.objects, **third.objects}
    check(objects == {i: due[i] for i in due if i not in first.objects}, "other objects than are new")
    talk.say(*FINAL)
    scene.ends(process, True)


@case("4.7")
def sends_nothing_that_is_had(scene):
    one = scene.artifact([("a", b"a"), ("b", b"b")])
    have = one.of(o.FILE)[:1] + one.of(o.DIRMETA)
    talk, process = scene.start()
    talk.accept(talk.greet())
    objects, _ = talk.collect(have=have)
    check(set(objects) == set(one.objects) - set(have), "other objects than wanted")
    talk.say(*FINAL)
    scene.ends(process, True)


@case("4.10")
def sends_a_large_file(scene):
    one = scene.artifact([("large", os.urandom(5 << 20))])
    talk, process = scene.start()
    talk.accept(talk.greet(frame_len_max=(1 << 20) + 1024))
    objects, _ = talk.collect()
    check(objects == one.objects, "other objects")
    talk.say(*FINAL)
    scene.ends(process, True)


@case("4.6", "REQ-17")
def sends_detached_metadata(scene):
    metadata = o.dictionary([("kit.signature", b"ay", b"signed")])
    one = scene.artifact(metadata=metadata)
    talk, process = scene.start()
    announce = talk.greet()
    check(announce["refs"][0]["detached"] == o.sha(metadata), "it is not announced")
    talk.accept(announce)
    _, seen = talk.collect()
    sent = [fields for name, fields in seen if name == "Detached"]
    check(sent == [dict(commit=one.commit, metadata=metadata)], "%s" % sent)
    talk.say(*FINAL)
    scene.ends(process, True)


@case("4.4", "REQ-15")
def ends_well_when_everything_is_up_to_date(scene):
    one = scene.artifact()
    talk, process = scene.start()
    talk.accept(talk.greet(), w.UP_TO_DATE, current=one.commit)
    talk.peer.shutdown(1)
    scene.ends(process, True)


@table("13.3", name="says that a ref is refused", rows=[
    ("code %d" % code, code) for code in (1, 2, 3, 4, 5, 77, 0x8001)])
def refused(scene, code):
    scene.artifact()
    talk, process = scene.start()
    talk.accept(talk.greet(), w.verdict_refused(code, "for the kit"))
    talk.peer.shutdown(1)
    check("for the kit" in scene.ends(process, False), "it does not say why")


@case("4.14")
def says_that_a_ref_is_refused_in_finalized(scene):
    scene.artifact()
    talk, process = scene.start()
    talk.accept(talk.greet())
    talk.collect()
    talk.say(w.finalized([w.outcome_refused(3, "for the kit")]), w.summary_done())
    check("for the kit" in scene.ends(process, False), "it does not say why")


@table("13.3", name="ends badly when the server closes", rows=[
    ("%s" % code, code) for code in w.CLOSE[1:] + [15, 999, 0x8001]])
def closed(scene, code):
    scene.artifact()
    talk, process = scene.start()
    talk.greet()
    talk.say(w.close(code, "for the kit"))
    talk.peer.shutdown(1)
    if code in ("BUSY", "TIMEOUT", "INTERRUPTED"):
        # It may try again.
        process.kill()
        return
    check("for the kit" in scene.ends(process, False), "it does not say why")


@table("3.2", "REQ-1", name="refuses what is no preamble", rows=[
    ("a greeting", b"Welcome to this machine!\n"), ("http", b"HTTP/1.1 400 Bad Request\r\n\r\n")])
def preamble(scene, said):
    scene.artifact()
    talk, process = scene.start()
    talk.say(said)
    talk.expect("Hello")
    talk.expect("Announce")
    talk.expect_close("NOT_THE_PROTOCOL")
    scene.ends(process, False)


@table("3.3", "REQ-4", name="refuses a frame", rows=[
    ("of unknown kind", w.frame(0x7777), "BAD_FRAME"),
    ("of known kind with a flag", w.frame("Ping", b"", 1), "BAD_FRAME"),
    ("with a byte too many", w.frame("Ping", b"\0"), "BAD_FRAME"),
    ("with extensions out of order", w.welcome(ext=[(2, b""), (1, b"")]), "BAD_FRAME")])
def bad_frame(scene, bad, code):
    scene.artifact()
    talk, _ = scene.start()
    talk.expect("Hello")
    talk.expect("Announce")
    talk.say(w.PREAMBLE, *([] if bad[0] == 2 else [w.welcome()]), bad)
    talk.expect_close(code)


@case("3.3", "REQ-3")
def skips_ignorable_frames_even_before_welcome(scene):
    one = scene.artifact()
    skip = w.frame(0x8077, b"of a later version", 1)
    talk, process = scene.start()
    talk.expect("Hello")
    announce = talk.expect("Announce")
    talk.say(w.PREAMBLE, skip, w.welcome(ext=[(0x8001, b"later")]), skip)
    talk.accept(announce)
    talk.say(skip, w.frame("Ping"))
    check(talk.collect()[0] == one.objects, "other objects")
    talk.say(skip, FINAL[0], skip, FINAL[1])
    scene.ends(process, True)


@case("3.3", "REQ-2")
def refuses_a_frame_beyond_LIM_3_from_its_head(scene):
    scene.artifact()
    talk, _ = scene.start()
    talk.say(w.PREAMBLE, b"\x02\0\0\0" + w.u32((4 << 20) + 1))
    talk.expect_close("LIMIT")


@table("4.2", "REQ-9", name="refuses a Welcome", rows=[
    ("of version 1", dict(version=1)), ("of version 3", dict(version=3)),
    ("of frames below LIM-2", dict(frame_len_max=(1 << 20) + 1023)),
    ("of frames beyond LIM-3", dict(frame_len_max=(4 << 20) + 1))])
def bad_welcome(scene, fields):
    scene.artifact()
    talk, _ = scene.start()
    talk.greet(**fields)
    talk.expect_close("UNSUPPORTED")


@table("4.2", "REQ-10", name="sends nothing beyond", rows=[
    ("push_objects_max", dict(push_objects_max=3), 4), ("push_objects_max of 0", dict(push_objects_max=0), 0),
    ("push_len_max", dict(push_len_max=40), 40), ("object_len_max", dict(object_len_max=500), 500)])
def limits(scene, fields, most):
    scene.artifact([("large", os.urandom(3000)), ("b", b"b")])
    talk, process = scene.start()
    talk.accept(talk.greet(**fields))
    objects = {}
    while True:
        name, message = talk.next()
        if name == "Offer":
            talk.say(w.want([True] * len(message["ids"])))
        elif name == "Pack":
            objects.update(message["objects"])
        elif name in ("Close", "Finalize", None):
            break
    check(name == "Close" and message["code"] == "LIMIT", "%s where Close LIMIT is due" % name)
    check(len(objects) <= fields.get("push_objects_max", 9), "%d objects" % len(objects))
    check(sum(map(len, objects.values())) <= fields.get("push_len_max", 1 << 40), "too many bytes")
    check(all(len(d) <= fields.get("object_len_max", 1 << 40) for d in objects.values()), "too large")
    talk.hang_up()
    scene.ends(process, False)


@case("4.4", "REQ-14")
def refuses_complete_commits_in_a_further_ref_status(scene):
    scene.artifact()
    talk, _ = scene.start()
    talk.greet()
    talk.say(w.ref_status([]), w.ref_status([(None, w.ACCEPTED)], [SUM]))
    talk.expect_close("VIOLATION")


@table("4.7", "REQ-18", name="refuses Want", rows=[
    ("of another count", lambda ids: w.want([True] * (len(ids) + 1))),
    ("without an Offer", lambda ids: w.want([True] * len(ids)) * 2)])
def bad_want(scene, frames):
    scene.artifact()
    talk, _ = scene.start()
    talk.accept(talk.greet())
    talk.say(frames(talk.expect("Offer")["ids"]))
    talk.expect_close("VIOLATION")


@table("4.13", "REQ-27", "REQ-30", name="refuses, and knows that nothing was done, at a Missing", rows=[
    ("of nothing", lambda one: w.missing([]), "VIOLATION"),
    ("of an id twice", lambda one: w.missing([one.id] * 2), "VIOLATION"),
    ("of what was not announced", lambda one: w.missing([b"\1" + SUM]), "VIOLATION"),
    ("of more ids than LIM-20", lambda one: w.missing(
        [b"\1" + n.to_bytes(32, "big") for n in range(16_385)]), "LIMIT")])
def bad_missing(scene, frame, code):
    one = scene.artifact()
    talk, process = scene.start()
    talk.accept(talk.greet())
    talk.collect()
    talk.say(frame(one))
    talk.expect_close(code)
    talk.hang_up()
    check(not scene.asks_again(process), "it asks what became of the push")
    scene.ends(process, False)


@case("4.13", "REQ-27", "REQ-24")
def sends_what_is_missing_three_times_and_not_a_fourth(scene):
    one = scene.artifact()
    tree = one.of(o.DIRTREE)[0]
    talk, _ = scene.start()
    talk.accept(talk.greet())
    talk.collect()
    for _ in range(3):
        talk.say(w.missing([tree]))
        objects, seen = talk.collect(have=list(one.objects))
        check(objects == {tree: one.objects[tree]}, "%s was sent" % list(objects))
        offered = [i for name, fields in seen if name == "Offer" for i in fields["ids"]]
        check(one.of(o.FILE)[0] in offered, "what lies beneath is not offered again")
    talk.say(w.missing([tree]))
    talk.expect_close("VIOLATION")


@case("4.13")
def closes_for_what_it_cannot_send(scene):
    scene.artifact()
    talk, process = scene.start()
    talk.accept(talk.greet())
    talk.collect()
    talk.say(w.missing([b"\1" + SUM]))
    talk.expect_close("SOURCE_FAILED", "VIOLATION")
    talk.hang_up()
    scene.ends(process, False)


@table("4.14", "REQ-28", name="refuses an outcome", rows=[
    ("WouldUpdate in a push that is no dry run", [w.finalized([w.WOULD_UPDATE])], "VIOLATION"),
    ("of a ref too many", [w.finalized([w.UPDATED] * 2)], "LIMIT"),
    ("of no ref", [w.finalized([])], "VIOLATION"), ("SummaryDone before any", [w.summary_done()], "VIOLATION"),
    ("Missing behind SummaryDone", [w.want([True])], "VIOLATION")])
def outcomes(scene, frames, code):
    scene.refuses(code, *frames)


@case("5.5", "REQ-27", "REQ-28", "REQ-39", needs=("dry-run",))
def keeps_to_the_rules_of_a_dry_run(scene):
    one = scene.artifact(metadata=o.dictionary([("a", b"s", b"b\0")]))
    talk, process = scene.start("--dry-run")
    announce = talk.greet()
    check(announce["options"] == w.DRY_RUN, "options %d" % announce["options"])
    talk.accept(announce)
    objects, seen = talk.collect()
    check(not objects and all(name != "Detached" for name, _ in seen), "it sends objects")
    talk.say(w.finalized([w.WOULD_UPDATE]), w.summary_done())
    scene.ends(process, True)
    for frame in (w.finalized([w.UPDATED]), w.missing([one.id])):
        talk, process = scene.start("--dry-run")
        talk.accept(talk.greet())
        talk.collect()
        talk.say(frame)
        talk.expect_close("VIOLATION")


@table("4.14", "REQ-29", name="reports what was done though behind Finalized comes", rows=[
    ("the end of the bytes", b""), ("Close STORAGE_FAILED", w.close("STORAGE_FAILED")),
    ("what is no frame", b"\xff" * 100), ("a frame out of place", w.want([True]))])
def after_finalized(scene, said):
    scene.artifact()
    talk, process = scene.start()
    talk.accept(talk.greet())
    talk.collect()
    talk.say(FINAL[0], said)
    talk.peer.shutdown(1)
    check("updated" in scene.ends(process, True), "it does not say that the ref is updated")


@table("4.14", "REQ-30", name="asks again when behind Finalize comes", rows=[
    ("the end of the bytes", b""), ("what is no frame", b"\xff" * 100)])
def after_finalize(scene, said):
    one = scene.artifact()
    talk, process = scene.start()
    talk.accept(talk.greet())
    talk.collect()
    talk.say(said)
    talk.peer.shutdown(1)
    again = scene.accept()
    again.accept(again.greet(), w.UP_TO_DATE, current=one.commit)
    again.peer.shutdown(1)
    scene.ends(process, True)


@case("4.17", "REQ-33")
def escapes_what_the_server_says(scene):
    scene.artifact()
    talk, process = scene.start()
    talk.accept(talk.greet(), w.verdict_refused(1, "a\x1b[2Jb\u202ec\r\x07"))
    talk.peer.shutdown(1)
    said = scene.ends(process, False)
    check("\x1b" not in said and "\u202e" not in said and "\x07" not in said, "%r" % said)


@case("5.3", "REQ-36")
def reads_while_it_writes(scene):
    one = scene.artifact([("large", os.urandom(4 << 20))])
    talk, process = scene.start()
    talk.accept(talk.greet())
    ids = talk.expect("Offer")["ids"]
    # Nothing is read meanwhile: a client that waits until all is written waits for ever.
    talk.peer.settimeout(20)
    try:
        talk.peer.sendall(w.want([True] * len(ids)) + w.frame(0x8077, b"x" * (1 << 20), 1) * 3)
        talk.peer.sendall(w.frame("Ping") * 100_000)
    except TimeoutError:
        raise Failed("it reads nothing while it writes") from None
    check(talk.collect()[0] == one.objects, "other objects")
    talk.say(*FINAL)
    scene.ends(process, True)


@case("4.17", needs=("signals",))
def says_interrupted_when_it_is_told_to_stop(scene):
    scene.artifact()
    talk, process = scene.start()
    talk.accept(talk.greet())
    talk.expect("Offer")
    time.sleep(0.2)
    scene.stop(process)
    talk.expect_close("INTERRUPTED")


@case("4.11")
def takes_progress_at_any_time(scene):
    scene.artifact()
    talk, process = scene.start()
    talk.accept(talk.greet())
    talk.collect()
    talk.say(w.staged(0, 0), w.staged(1, 10), w.frame("Ping"), w.staged(4, 400), *FINAL)
    scene.ends(process, True)


@case("5.4", "REQ-37", slow=True, needs=("time",))
def sends_a_sign_of_life_every_15_seconds(scene):
    scene.artifact()
    talk, _ = scene.start()
    talk.accept(talk.greet())
    talk.expect("Offer")
    frame = talk.any(20)
    check(frame and frame.name == "Ping", "%s" % (frame,))
