"""Power cuts for the flash directory: a NOR device that records or loses power, and an explorer.

The model of the medium: programs and erases reach it in order. The one under way when the power
goes may have done a prefix of its 16-bit words, any subset of them, or some of the bits of each; an
erase may leave zeros, ones, the old bytes, or noise, in parts. With `dropped_states`, the last
programs since a barrier may be missing in any combination.
"""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipva_storage import flash
from ipva_storage.device import MemoryDevice
from ipva_storage.errors import NoSpaceError, PowerCutError
from ipva_storage.findings import Severity
from ipva_storage.flash.records import OPEN_AT, unpack_clean_marker, unpack_open_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Model = dict[bytes, bytes]
Step = tuple[int, bytes | None]
"""A program (address, data), an erase (segment, None) or a barrier (-1, None)."""

SEGMENT_BYTES = 1024
SEGMENT_COUNT = 6
BARRIER: Step = (-1, None)


class CutNor(flash.NorDevice):
    """NOR in memory that records what is done to it, and can lose its power.

    Attributes:
        steps: what was done, if it is a list.
        fuse: how many more programs and erases work; None: all.
        tear: makes the bytes that the step under way leaves, from the old ones and the step's.
    """

    def __init__(
        self,
        content: bytes | bytearray | None = None,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        segment_count: int = SEGMENT_COUNT,
    ) -> None:
        """Start with `content`, or blank as a disk that was never written."""
        device = MemoryDevice(content if content is not None else segment_bytes * segment_count)
        super().__init__(device, segment_bytes=segment_bytes, segment_count=segment_count)
        self.steps: list[Step] | None = None
        self.fuse: int | None = None
        self.tear: Callable[[bytes, bytes | None], bytes] = lambda old, _: old

    def program(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Program, or lose the power."""
        self._burn(address, address + len(data), bytes(data))
        super().program(address, data)
        if self.steps is not None:
            self.steps.append((address, bytes(data)))

    def erase(self, segment: int) -> None:
        """Erase, or lose the power."""
        start = segment * self.segment_bytes
        self._burn(start, start + self.segment_bytes, None)
        super().erase(segment)
        if self.steps is not None:
            self.steps.append((segment, None))

    def barrier(self) -> None:
        """Note the barrier."""
        if self.steps is not None:
            self.steps.append(BARRIER)

    def _burn(self, start: int, stop: int, data: bytes | None) -> None:
        if self.fuse is None:
            return
        if self.fuse:
            self.fuse -= 1
            return
        left = self.tear(bytes(self.image[start:stop]), data)
        if data is None and self._is_new():
            left = bytes(0xFF if byte else 0 for byte in left)
        self.image[start:stop] = left
        raise PowerCutError("the power went", where=self.name, offset_bytes=start)

    def _is_new(self) -> bool:
        """Whether no segment is ours yet.

        Then the flash is still the hole of an image file, where a torn write leaves zeros and 0xFF.
        Noise, as a chip may leave it, would be refused as foreign content, and nothing would be
        lost (`formats/spec/flash.md`).
        """
        starts = range(0, self.size_bytes, self.segment_bytes)
        return not any(
            unpack_clean_marker(self.image, at) or unpack_open_header(self.image, at + OPEN_AT)
            for at in starts
        )


# -- tears ------------------------------------------------------------------------------------


def torn_program(old: bytes, data: bytes, how: int, rng: random.Random) -> bytes:
    """What a program that was cut leaves.

    Args:
        old: what was there.
        data: what was to be there.
        how: 0, any subset of words; 1, any subset of the bits; more, a prefix of that many words
            less 1.
        rng: where subsets come from.
    """
    new = bytes(a & b for a, b in zip(old, data, strict=True))
    if how == 0:
        words = [at for at in range(0, len(new), 2) if rng.random() < 0.5]
        result = bytearray(old)
        for at in words:
            result[at : at + 2] = new[at : at + 2]
        return bytes(result)
    if how == 1:
        return bytes(n | (o & rng.getrandbits(8)) for o, n in zip(old, new, strict=True))
    cut = min(2 * (how - 1), len(new))
    return new[:cut] + old[cut:]


ERASE_TEARS = 9


def torn_erase(old: bytes, how: int, rng: random.Random) -> bytes:
    """What an erase that was cut leaves; `how` counts from 0 to `ERASE_TEARS` less 1."""
    size = len(old)
    half = size // 2
    some = rng.randrange(0, size + 1, 2)
    return (
        lambda: bytes(size),
        lambda: bytes(half) + old[half:],
        lambda: old[:half] + bytes(size - half),
        lambda: b"\xff" * half + bytes(size - half),
        lambda: b"\xff" * some + old[some:],
        lambda: old[:some] + b"\xff" * (size - some),
        lambda: old[:0x60] + b"\xff" * (size - 0x60),
        lambda: old[:0x60] + rng.randbytes(size - 0x60),
        lambda: rng.randbytes(size),
    )[how]()


def make_tear(how: int, seed: int) -> Callable[[bytes, bytes | None], bytes]:
    """A tear for `CutNor`, drawn by two numbers."""
    rng = random.Random(seed)

    def tear(old: bytes, data: bytes | None) -> bytes:
        if data is None:
            return torn_erase(old, how % ERASE_TEARS, rng)
        return torn_program(old, data, how % (len(data) // 2 + 3), rng)

    return tear


# -- workloads --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mark:
    """The acknowledged content after so many steps."""

    step_count: int
    content: Model
    is_gradual: bool = False
    """Reached object by object (a shrink), not all at once."""
    limit: int = SEGMENT_COUNT - 1


@dataclass(slots=True)
class Workload:
    """What was done to a flash, and what was promised on the way."""

    base: bytes
    steps: list[Step]
    marks: list[Mark]
    directory: flash.FlashDirectory


def record(seed: int, operation_count: int) -> Workload:
    """Run a random workload: puts, deletes, batches, large values, remounts, shrinks; often full.

    Args:
        seed: everything follows from it.
        operation_count: how many operations.
    """
    rng = random.Random(seed)
    nor = CutNor()
    flash.format(nor)
    directory = flash.open(nor)
    base = bytes(nor.image)
    steps: list[Step] = []
    nor.steps = steps
    marks = [Mark(0, {})]
    keys = [b"k%d" % at for at in range(6)]
    model: Model = {}
    for _ in range(operation_count):
        draw = rng.random()
        limit, gradual = directory.segment_limit, False
        after = dict(model)
        try:
            if draw < 0.5:
                key, value = rng.choice(keys), rng.randbytes(rng.choice([5, 20, 60, 120, 250]))
                directory.put(key, value)
                after[key] = value
            elif draw < 0.68:
                key = rng.choice(keys)
                if key in model:
                    directory.delete(key)
                    del after[key]
            elif draw < 0.86:
                items = _some_items(rng, keys)
                directory.batch(items)
                after = apply_items(model, items)
            elif draw < 0.93:
                directory = flash.open(nor, segment_limit=limit)
            else:
                limit, gradual = rng.randint(1, SEGMENT_COUNT - 1), True
                for key in directory.shrink(limit):
                    del after[key]
            model = after
        except NoSpaceError:
            pass
        marks.append(Mark(len(steps), model, gradual, limit))
    return Workload(base, steps, marks, directory)


def _some_items(rng: random.Random, keys: list[bytes]) -> dict[bytes, bytes | None]:
    sizes = [None, 30, 400]
    items: dict[bytes, bytes | None] = {}
    for _ in range(rng.randint(2, 3)):
        size = rng.choice(sizes)
        items[rng.choice(keys)] = None if size is None else rng.randbytes(size)
    return items


def apply_items(model: Model, items: dict[bytes, bytes | None]) -> Model:
    """The model after a batch."""
    after = dict(model)
    for key, value in items.items():
        if value is None:
            after.pop(key, None)
        else:
            after[key] = value
    return after


# -- the explorer -----------------------------------------------------------------------------


@dataclass(slots=True)
class Report:
    """What an exploration saw."""

    state_count: int = 0
    failures: list[str] = field(default_factory=list)


def apply_step(image: bytearray, step: Step) -> None:
    """Let a step happen to an image."""
    address, data = step
    if data is not None:
        image[address : address + len(data)] = data
    elif address >= 0:
        start = address * SEGMENT_BYTES
        image[start : start + SEGMENT_BYTES] = b"\xff" * SEGMENT_BYTES


def torn_images(
    image: bytearray, step: Step, rng: random.Random, *, thorough: bool
) -> Iterator[bytearray]:
    """Images that a cut during a step may leave."""
    address, data = step
    if data is None and address < 0:
        return
    start = address if data is not None else address * SEGMENT_BYTES
    stop = start + (len(data) if data is not None else SEGMENT_BYTES)
    old = bytes(image[start:stop])
    if data is None:
        torn = [torn_erase(old, how, rng) for how in range(ERASE_TEARS)]
    else:
        words = len(data) // 2
        prefixes = range(2, words + 2) if thorough else {2, words // 2 + 1, words + 1}
        times = 4 if thorough else 1
        torn = [torn_program(old, data, how, rng) for how in (*[0] * times, *[1] * times)]
        torn += [torn_program(old, data, how, rng) for how in prefixes]
    for content in torn:
        result = bytearray(image)
        result[start:stop] = content
        yield result


def explore(
    workload: Workload, seed: int, *, thorough: bool, again: bool, every: int = 1
) -> Report:
    """Cut the power at every `every`-th step of a workload, and judge each image that may be left.

    Args:
        workload: what was recorded.
        seed: for the tears.
        thorough: every prefix of words rather than three.
        again: cut the recovery too, at every step of it.
        every: look at one step in so many.
    """
    rng = random.Random(seed)
    report = Report()
    image = bytearray(workload.base)
    marks = workload.marks
    at = 0
    for count, step in enumerate([*workload.steps, BARRIER]):
        while at + 1 < len(marks) and marks[at + 1].step_count <= count:
            at += 1
        after = marks[min(at + 1, len(marks) - 1)]
        if count % every == 0:
            judge = _Judge(report, marks[at].content, after, rng)
            judge.look(image, again=again)
            for torn in torn_images(image, step, rng, thorough=thorough):
                judge.look(torn, again=again)
        apply_step(image, step)
    return report


class _Judge:
    """Mounts an image and says whether it shows what was promised."""

    def __init__(self, report: Report, before: Model, after: Mark, rng: random.Random) -> None:
        self._report = report
        self._before = before
        self._after = after
        self._rng = rng

    def look(self, image: bytearray, *, again: bool, exactly: Model | None = None) -> None:
        """Mount, compare, cut the recovery if `again`, then go on writing."""
        nor = CutNor(image)
        steps: list[Step] = []
        nor.steps = steps
        self._report.state_count += 1
        findings = list(flash.check(nor))
        directory = flash.open(nor, segment_limit=self._after.limit)
        got = dict(directory.items())
        if not self._is_allowed(got, exactly):
            self._fail(f"{sorted(got)} is neither before nor after")
        if any(one.severity is Severity.ERROR for one in findings):
            self._fail(f"a cut looks like damage: {findings}")
        if directory.usage().segment_count_used >= SEGMENT_COUNT:
            self._fail("no segment is free")
        if again:
            self._cut_recovery(image, steps, got)
        self._go_on(nor, directory, got)

    def _is_allowed(self, got: Model, exactly: Model | None) -> bool:
        if exactly is not None:
            return got == exactly
        before, after = self._before, self._after.content
        if self._after.is_gradual:
            return after.items() <= got.items() <= before.items()
        return got in (before, after)

    def _cut_recovery(self, image: bytearray, steps: list[Step], got: Model) -> None:
        current = bytearray(image)
        for step in list(steps):
            for torn in torn_images(current, step, self._rng, thorough=False):
                self.look(torn, again=False, exactly=got)
            apply_step(current, step)

    def _go_on(self, nor: CutNor, directory: flash.FlashDirectory, got: Model) -> None:
        """Life goes on: shrink as planned, delete, put, mount."""
        limit = self._after.limit
        plan = directory.plan(limit)
        if directory.shrink(limit) != plan.lost:
            self._fail("the shrink did not do as planned")
        kept = {key: value for key, value in got.items() if key not in plan.lost}
        if self._after.is_gradual and kept != self._after.content:
            self._fail("an interrupted shrink ends otherwise than planned")
        for key in list(kept)[:1]:
            directory.delete(key)
            del kept[key]
        with contextlib.suppress(NoSpaceError):
            directory.put(b"k9", b"after")
            kept[b"k9"] = b"after"
        if dict(flash.open(nor).items()) != kept:
            self._fail("what was written after the recovery is not there")
        if directory.usage().segment_count_used > limit:
            self._fail("more segments are in use than the limit")

    def _fail(self, reason: str) -> None:
        self._report.failures.append(reason)


def dropped_states(workload: Workload, window: int) -> Report:
    """Drop every subset of the last `window` programs since a barrier, at every step.

    Nothing but barriers orders the programs here, so a key may have any of the values it had within
    the window; never another, and no other key may be touched. An erase may overtake programs too.
    """
    report = Report()
    image = bytearray(workload.base)
    pending: list[Step] = []
    marks = workload.marks
    for count, step in enumerate(workload.steps):
        is_program = step[1] is not None
        if is_program:
            pending.append(step)
        if len(pending) > window:
            apply_step(image, pending.pop(0))
        oldest = count + 1 - len(pending)
        low = max(at for at, mark in enumerate(marks) if mark.step_count <= max(0, oldest - 1))
        high = next(
            (at for at, mark in enumerate(marks) if mark.step_count > count), len(marks) - 1
        )
        contents = [mark.content for mark in marks[low : high + 1]]
        if is_program:
            _drop_subsets(report, image, pending, contents)
            continue
        if pending and step != BARRIER:
            for torn in torn_images(image, step, random.Random(count), thorough=False):
                _drop_subsets(report, torn, pending, contents)
        for one in [*pending, step]:
            apply_step(image, one)
        pending = []
    return report


def _drop_subsets(
    report: Report, image: bytearray, pending: list[Step], contents: list[Model]
) -> None:
    keys = set().union(*contents)
    for mask in range(1 << len(pending)):
        current = bytearray(image)
        for bit, step in enumerate(pending):
            if mask >> bit & 1:
                apply_step(current, step)
        report.state_count += 1
        got = dict(flash.open(CutNor(current)).items())
        wrong = [key for key in keys if got.get(key) not in [one.get(key) for one in contents]]
        if wrong or set(got) - keys:
            report.failures.append(f"{wrong} of {sorted(got)} with {mask:b} of {len(pending)}")
