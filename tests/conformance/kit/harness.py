"""What cases are made of: their list, a byte stream with a clock, and TAP."""

import os
import select
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

from .wire import NAMES, PREAMBLE, Frame, Malformed, decode


class Failed(Exception):
    """A case that an end does not pass."""


class Case:
    def __init__(self, end, name, section, requirements, run, slow, needs):
        self.end, self.name, self.section, self.requirements = end, name, section, requirements
        self.run, self.slow, self.needs = run, slow, needs

    def title(self):
        cited = ", ".join(["SPEC " + self.section] + list(self.requirements))
        return "%s %s (%s)" % (self.end, self.name, cited)


CASES = []


def case(end, section, *requirements, slow=False, needs=(), name=None):
    """Registers a function as a case; its name says what must hold."""
    def register(run):
        title = (name or run.__name__).replace("_", " ")
        CASES.append(Case(end, title, section, requirements, run, slow, needs))
        return run
    return register


def check(holds, what):
    if not holds:
        raise Failed(what)


class Stream:
    """Frames over two file descriptors, which may be one."""

    PATIENCE = 20

    def __init__(self, reading, writing):
        self.reading, self.writing = reading, writing
        self.buffer, self.ended, self.greeted = b"", False, False

    def write(self, data):
        """Writes, and reads meanwhile, so that no full pipe stops both ends."""
        view, until = memoryview(data), time.monotonic() + self.PATIENCE
        os.set_blocking(self.writing, False)
        try:
            while view:
                read = [] if self.ended else [self.reading]
                readable, writable, _ = select.select(read, [self.writing], [], self.left(until))
                if writable:
                    view = view[os.write(self.writing, view[:65536]):]
                if readable:
                    self.fill()
        except (BrokenPipeError, ConnectionResetError):
            # Why it does not listen may be in what it says.
            pass

    def left(self, until):
        left = until - time.monotonic()
        if left <= 0:
            raise Failed("nothing came for %d seconds" % self.PATIENCE)
        return left

    def fill(self):
        try:
            data = os.read(self.reading, 1 << 16)
        except ConnectionResetError:
            data = b""
        self.ended = not data
        self.buffer += data

    def need(self, count, until):
        while len(self.buffer) < count and not self.ended:
            if not select.select([self.reading], [], [], self.left(until))[0]:
                raise Failed("nothing came for %d seconds" % self.PATIENCE)
            self.fill()
        return len(self.buffer) >= count

    def any(self, patience=None):
        """Returns the next frame whatever it is, or None at the end of the bytes."""
        until = time.monotonic() + (patience or self.PATIENCE)
        if not self.greeted:
            if not self.need(8, until):
                check(not self.buffer, "the stream ends within the preamble")
                return None
            check(self.buffer[:8] == PREAMBLE, "no preamble but %r" % self.buffer[:8])
            self.buffer, self.greeted = self.buffer[8:], True
        if not self.need(8, until):
            check(not self.buffer, "the stream ends within the head of a frame")
            return None
        kind = int.from_bytes(self.buffer[:2], "little")
        flags = int.from_bytes(self.buffer[2:4], "little")
        count = int.from_bytes(self.buffer[4:8], "little")
        check(count <= 4 << 20, "a frame of %d bytes" % count)
        check(self.need(8 + count, until), "the stream ends within a frame")
        payload, self.buffer = self.buffer[8:8 + count], self.buffer[8 + count:]
        if kind not in NAMES:
            check(flags & 1, "a frame of unknown kind %#x" % kind)
            return self.any(patience)
        check(flags == 0, "flags %#x on %s" % (flags, NAMES[kind]))
        return Frame(NAMES[kind], kind, flags, payload)

    def next(self, skip=("Ping", "Staged")):
        """Returns the next frame but for signs of life, as its name and fields."""
        until = time.monotonic() + self.PATIENCE
        while True:
            frame = self.any(self.left(until))
            if frame is None:
                return None, None
            try:
                fields = decode(frame.name, frame.payload)
            except (Malformed, UnicodeDecodeError) as error:
                raise Failed("a malformed %s: %s" % (frame.name, error)) from error
            if frame.name not in skip:
                return frame.name, fields

    def expect(self, name, skip=("Ping", "Staged")):
        found, fields = self.next(skip)
        said = " (%s: %s)" % (fields["code"], fields["text"]) if found == "Close" else ""
        check(found == name, "%s where %s is due%s" % (found or "the end of the bytes", name, said))
        return fields

    def expect_close(self, *codes):
        """Reads on to a Close, which is the last frame; returns its text."""
        while True:
            name, fields = self.next()
            check(name, "the end of the bytes where Close %s is due" % "/".join(map(str, codes)))
            if name == "Close":
                break
        check(fields["code"] in codes,
              "Close %s (%s) where %s is due" % (fields["code"], fields["text"], "/".join(map(str, codes))))
        check(self.any() is None, "a frame behind Close")
        return fields["text"]


def attempt(one, arena):
    """Runs a case; returns what is wrong, a line each, or nothing."""
    scene = arena()
    trouble = []
    try:
        one.run(scene)
    except Failed as error:
        trouble = [str(error)]
    except Exception:
        trouble = traceback.format_exc().splitlines()
    finally:
        said = scene.finish()
    return trouble and trouble + said


def choose(end, wanted, every=1):
    """Returns every so many-th case of an end, of those whose titles have one of these texts."""
    of_end = [one for one in CASES if one.end == end]
    return [one for one in of_end if not wanted or any(w in one.title() for w in wanted)][::every]


def run(end, arena, chosen, fast, lacks, jobs):
    """Runs cases, so many at once, prints TAP, and returns how many failed."""
    print("TAP version 13\n1..%d" % len(chosen))

    def skips(one):
        return "slow" if fast and one.slow else next((n for n in one.needs if n in lacks), None)

    failed, skipped = 0, 0
    with ThreadPoolExecutor(jobs) as pool:
        done = pool.map(lambda one: None if skips(one) else attempt(one, arena), chosen)
        for number, (one, trouble) in enumerate(zip(chosen, done), 1):
            if trouble is None:
                print("ok %d - %s # SKIP %s" % (number, one.title(), skips(one)))
                skipped += 1
                continue
            print("%s %d - %s" % ("not ok" if trouble else "ok", number, one.title()))
            for line in trouble:
                print("# " + line)
            failed += bool(trouble)
            sys.stdout.flush()
    ran = len(chosen) - skipped
    print("# %s: %d cases, %d failed, %d skipped" % (end, ran, failed, skipped))
    return failed
