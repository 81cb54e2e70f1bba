"""The states a device may be in after a power cut at any point of a recorded workload.

What is assumed of the medium (`docs/reference` says more as issue by issue adds to it):

- A sector lands whole or not at all; a longer write may land in part, from either end.
- Writes since the last flush may land in any order. Visited of that: each one of the latest writes
  missing while all others landed, and the newest landed alone.
- A flush is a barrier, and so is a change of length.

States are visited one after the other on one medium, each made from the one before; none is copied.
"""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from ipva_storage.device import Operation
from ipva_storage.errors import UsageError
from ipva_storage.sim.medium import Medium
from ipva_storage.units import SECTOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipva_storage.device import TraceRecord

TORN_MAX: Final = 8
"""How many places a long write is torn at. Confidence: chosen."""

MISSING_MAX: Final = 8
"""How many of the writes since the last barrier are left out in turn. Confidence: chosen."""


class Cut(StrEnum):
    """How the power cut left the writes that were not durable."""

    WHOLE = "whole"
    """All that was issued has landed."""
    HEAD = "head"
    """Of the next write, only the first bytes landed."""
    TAIL = "tail"
    """Of the next write, only the last bytes landed."""
    MISSING = "missing"
    """One write since the last barrier did not land; later ones did."""
    ALONE = "alone"
    """Of all writes since the last barrier, only the newest landed."""
    SUBSET = "subset"
    """Some of several files' changes that are not durable are missing (`jobs`)."""
    SCATTERED = "scattered"
    """Of those changes each sector landed or not, by chance (`jobs`)."""


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """Where and how the power went; with the same workload it makes the same state again."""

    position: int
    """How many recorded operations had been issued."""
    cut: Cut = Cut.WHOLE
    detail: int = 0
    """`HEAD` and `TAIL`: where the next write is torn, in bytes from its start. `MISSING`: the
    record that is missing. `SUBSET`: which are missing, one bit each, counted back from the newest
    change. `SCATTERED`: the number of the draw."""

    def __str__(self) -> str:
        return f"{self.position}:{self.cut}:{self.detail}"

    @classmethod
    def parse(cls, text: str) -> CrashPoint:
        """The point that `str` wrote.

        Raises:
            UsageError: the text is no crash point.
        """
        match = re.fullmatch(rf"(\d{{1,9}}):({'|'.join(Cut)}):(\d{{1,12}})", text, re.ASCII)
        if match is None:
            raise UsageError(f"“{text}” is no crash point", remedy="write it like 17:head:512")
        return cls(int(match[1]), Cut(match[2]), int(match[3]))


@dataclass(frozen=True, slots=True)
class CrashState:
    """One state to look into. The device is valid until the next state is asked for."""

    point: CrashPoint
    device: Medium
    """Reads as the medium after the cut; what is written to it is undone afterwards."""
    passed_marks: int
    """How many of the marks lie at or before the point."""


def crash_points(
    records: Sequence[TraceRecord],
    *,
    sector_bytes: int = SECTOR_BYTES,
    torn: bool = True,
    reordered: bool = True,
    seed: int = 0,
) -> Iterator[CrashPoint]:
    """Every point of a recording at which the power may go, in order.

    Args:
        records: what a trace recorded.
        sector_bytes: what lands whole or not at all.
        torn: also tear the write in flight, at no more than `TORN_MAX` places.
        reordered: also leave writes since the last barrier out, each of the latest `MISSING_MAX`.
        seed: chooses the places in writes that are too long to be torn at each sector.
    """
    loose: list[int] = []
    for position in range(len(records) + 1):
        yield CrashPoint(position)
        if reordered and len(loose) > 1:
            for index in loose[-MISSING_MAX - 1 : -1]:
                yield CrashPoint(position, Cut.MISSING, index)
            yield CrashPoint(position, Cut.ALONE)
        if position == len(records):
            return
        record = records[position]
        if _is_barrier(record):
            loose.clear()
            continue
        loose.append(position)
        if torn:
            for at in tears(record, sector_bytes, random.Random(f"{seed}:{position}")):
                yield CrashPoint(position, Cut.HEAD, at)
                yield CrashPoint(position, Cut.TAIL, at)


def crash_states(
    base: bytes,
    records: Sequence[TraceRecord],
    *,
    points: Iterable[CrashPoint] | None = None,
    marks: Sequence[int] = (),
    sector_bytes: int = SECTOR_BYTES,
) -> Iterator[CrashState]:
    """Visit the states at the points, each content once for each number of passed marks.

    Args:
        base: what the device held before the recording.
        records: what a trace with `keep_data` recorded.
        points: in order of position; all of `crash_points` unless given.
        marks: positions, rising, between which equal contents count as different states.
        sector_bytes: for the default of `points`.

    Raises:
        UsageError: the records carry no data, or a point is none of this recording.
    """
    walk = _Walk(base, records)
    seen: set[tuple[bytes, int]] = set()
    if points is None:
        points = crash_points(records, sector_bytes=sector_bytes)
    for point in points:
        undo_to = walk.enter(point)
        passed_marks = bisect_right(marks, point.position)
        key = (walk.medium.digest(), passed_marks)
        if key not in seen:
            seen.add(key)
            yield CrashState(point, walk.medium, passed_marks)
        walk.leave(undo_to)


class _Walk:
    """A medium led along a recording."""

    def __init__(self, base: bytes, records: Sequence[TraceRecord]) -> None:
        self.medium = Medium(base, name="crash state")
        self._records = records
        self._position = 0
        self._loose: list[int] = []  # records since the last barrier; each one's mark is its index

    def enter(self, point: CrashPoint) -> int:
        """Bring the medium into the state of a point; gives what `leave` needs."""
        if not self._position <= point.position <= len(self._records):
            raise UsageError(f"there is no crash point {point} here")
        while self._position < point.position:
            self._step()
        if point.cut in (Cut.HEAD, Cut.TAIL):
            return self._tear(point)
        if point.cut is Cut.MISSING:
            if point.detail not in self._loose:
                raise UsageError(f"there is no crash point {point} here")
            return self._land(self._loose.index(point.detail), left_out=1)
        if point.cut is Cut.ALONE and self._loose:
            return self._land(0, left_out=len(self._loose) - 1)
        if point.cut in (Cut.SUBSET, Cut.SCATTERED):
            raise UsageError(f"the crash point {point} is one of several files")
        return len(self._loose)

    def leave(self, undo_to: int) -> None:
        """Come back to where all that was issued has landed."""
        self.medium.rollback(undo_to)
        for index in self._loose[undo_to:]:
            _apply(self.medium, self._records[index])

    def _step(self) -> None:
        record = self._records[self._position]
        _apply(self.medium, record)
        if _is_barrier(record):
            self.medium.settle()
            self._loose.clear()
        else:
            self._loose.append(self._position)
        self._position += 1

    def _land(self, first: int, *, left_out: int) -> int:
        """Undo the loose records from `first` on, then let all land but the first `left_out`."""
        self.medium.rollback(first)
        for index in self._loose[first + left_out :]:
            _apply(self.medium, self._records[index])
        return first

    def _tear(self, point: CrashPoint) -> int:
        if point.position == len(self._records) or _is_barrier(self._records[point.position]):
            raise UsageError(f"there is no write to be torn at {point}")
        record = self._records[point.position]
        data = _content(record)
        if point.cut is Cut.HEAD:
            self.medium.write(record.offset_bytes, data[: point.detail])
        else:
            at = min(point.detail, len(data))
            self.medium.write(record.offset_bytes + at, data[at:])
        return len(self._loose)


def _is_barrier(record: TraceRecord) -> bool:
    return record.operation in (Operation.FLUSH, Operation.RESIZE)


def _content(record: TraceRecord) -> bytes:
    """What a write or discard leaves in its range."""
    if record.operation is Operation.DISCARD:
        return bytes(record.length_bytes)
    if record.data is None:
        raise UsageError("the recording carries no data", remedy="trace with keep_data=True")
    return record.data


def _apply(medium: Medium, record: TraceRecord) -> None:
    if record.operation is Operation.RESIZE:
        medium.resize(record.offset_bytes)
    elif record.operation is not Operation.FLUSH:
        medium.write(record.offset_bytes, _content(record))


def tears(record: TraceRecord, sector_bytes: int, choice: random.Random) -> Sequence[int]:
    """Sector borders within a write, in bytes from its start, at most `TORN_MAX` of them."""
    first = sector_bytes - record.offset_bytes % sector_bytes
    borders = range(first, record.length_bytes, sector_bytes)
    if len(borders) <= TORN_MAX:
        return borders
    inner = choice.sample(borders[1:-1], TORN_MAX - 2)
    return [borders[0], *sorted(inner), borders[-1]]
