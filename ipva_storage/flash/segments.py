"""From RAM to flash segments: what the appliance may use of its flash, given its RAM.

Three numbers are stated by the vendor: 224 segments at 64 MiB, 900 from 192 MiB on, 20 MiB at
least. What lies between is our interpolation, so the rule is an object that can be calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ipva_storage.errors import UsageError
from ipva_storage.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable

SEGMENT_BYTES: Final = 64 * KIB
"""One flash segment.

Source: vendor page "Concept innovaphone Virtual Appliance", `segments=901->224(14.0MB)`.
Confidence: stated.
"""

FLASH_BYTES: Final = 64 * MIB
"""The emulated flash, within a disk of 100 MB. Source: same page. Confidence: stated."""

PHYSICAL_SEGMENTS: Final = 901
"""Segments of the flash directory. Source: same trace line. Confidence: stated."""

USABLE_SEGMENTS: Final = 900
"""Segments that hold data; one more is the copy segment.

Source: same page, "max 900 segments", and "Concept Flash Directory", "don't count copy segment".
Confidence: stated (900), inferred (that the 901st is the copy segment).
"""

MINIMUM_RAM_BYTES: Final = 20 * MIB
"""Less cannot be given to the appliance. Source: same page. Confidence: stated."""

MAXIMUM_RAM_BYTES: Final = 3 * GIB
"""RAM above this is not used. Source: same page. Confidence: stated."""

HIDDEN_RAM_BYTES: Final = 33 * 64 * KIB
"""What the appliance does not see of its RAM.

Source: same page, `mem(64946176)=61.93MB` at 64 MiB. Confidence: inferred (the difference; taken to
be the same at every size: at 20 MiB it leaves the 17 MB that the page gives).
"""

STATED_POINTS: Final = ((64 * MIB, 224), (192 * MIB, USABLE_SEGMENTS))
"""RAM in bytes and segments. Source: same page. Confidence: stated."""

CHOSEN_POINTS: Final = ((22 * MIB, 0), (190 * MIB + 768 * KIB, USABLE_SEGMENTS))
"""Ends of the line `(RAM in MiB - 22) * 16 / 3` through 64 MiB. Confidence: chosen."""


def visible_ram_bytes(ram_bytes: int) -> int:
    """What the appliance sees of its RAM, as its boot trace prints it.

    Raises:
        UsageError: below 20 MiB.

    >>> visible_ram_bytes(64 * MIB)
    64946176
    """
    return _counted_ram_bytes(ram_bytes) - HIDDEN_RAM_BYTES


@dataclass(frozen=True, slots=True)
class SegmentRule:
    """How many segments a RAM size gives: a line through points, rounded down, never below 1.

    Invariants: never falls when RAM grows; stays within 1 … 900; exact at each of its points that
    is not 0.
    """

    points: tuple[tuple[int, int], ...]
    """RAM in bytes and segments, both ascending; at least one."""

    def segment_count(self, ram_bytes: int) -> int:
        """Segments that hold data (the copy segment comes on top).

        Raises:
            UsageError: below 20 MiB.

        >>> DEFAULT_RULE.segment_count(64 * MIB)
        224
        """
        ram_bytes = _counted_ram_bytes(ram_bytes)
        return max(1, min(USABLE_SEGMENTS, self._interpolate(ram_bytes)))

    def _interpolate(self, ram_bytes: int) -> int:
        if ram_bytes <= self.points[0][0]:
            return self.points[0][1]
        for (ram_0, count_0), (ram_1, count_1) in pairwise(self.points):
            if ram_bytes <= ram_1:
                return count_0 + (ram_bytes - ram_0) * (count_1 - count_0) // (ram_1 - ram_0)
        return self.points[-1][1]

    def minimum_ram_bytes(self, segment_count: int) -> int:
        """The smallest RAM in whole MiB that gives at least so many segments.

        Raises:
            UsageError: no RAM gives so many.

        >>> DEFAULT_RULE.minimum_ram_bytes(224) // MIB
        64
        """
        low, high = MINIMUM_RAM_BYTES // MIB, MAXIMUM_RAM_BYTES // MIB
        most = self.segment_count(high * MIB)
        if segment_count > most:
            raise UsageError(f"no RAM gives {segment_count} segments; {most} is the most")
        while low < high:
            middle = (low + high) // 2
            if self.segment_count(middle * MIB) >= segment_count:
                high = middle
            else:
                low = middle + 1
        return low * MIB

    @classmethod
    def calibrate(cls, points: Iterable[tuple[int, int]]) -> SegmentRule:
        """The rule that also goes exactly through points read from real boot traces.

        Args:
            points: configured RAM in bytes, and the segments of the line `fdir: segments=901->N`.

        Stated points stay; points that we chose give way where they contradict.

        Raises:
            UsageError: a point is out of range, or the points contradict each other or the vendor.
        """
        known = dict(STATED_POINTS)
        for ram_bytes, count in points:
            if not 1 <= count <= USABLE_SEGMENTS:
                raise UsageError(f"{count} segments cannot be: 1 to {USABLE_SEGMENTS} can")
            ram_bytes = _counted_ram_bytes(ram_bytes)
            if known.setdefault(ram_bytes, count) != count:
                raise _contradiction(ram_bytes, count, known[ram_bytes])
        line = sorted(known.items())
        for (_, count_0), (ram_1, count_1) in pairwise(line):
            if count_1 < count_0:
                raise _contradiction(ram_1, count_1, count_0)
        kept = [point for point in CHOSEN_POINTS if _agrees(point, line)]
        return cls(tuple(sorted([*line, *kept])))


def _agrees(point: tuple[int, int], line: list[tuple[int, int]]) -> bool:
    """Whether a chosen point leaves the line rising, at a RAM of its own."""
    ram_bytes, count = point
    return all(
        known <= count if ram < ram_bytes else known >= count
        for ram, known in line
        if ram != ram_bytes
    ) and ram_bytes not in dict(line)


def _contradiction(ram_bytes: int, count: int, other: int) -> UsageError:
    return UsageError(
        f"{count} segments at {ram_bytes // MIB} MiB contradict {other} at that RAM or less",
        remedy="check the mem(…) and fdir: lines of the boot trace",
    )


def _counted_ram_bytes(ram_bytes: int) -> int:
    if ram_bytes < MINIMUM_RAM_BYTES:
        raise UsageError(
            f"{ram_bytes / MIB:g} MiB of RAM is too little",
            remedy=f"give the appliance {MINIMUM_RAM_BYTES // MIB} MiB or more",
        )
    return min(ram_bytes, MAXIMUM_RAM_BYTES)


DEFAULT_RULE: Final = SegmentRule.calibrate(())
"""Through the stated points, our line between them. Confidence: chosen between the points."""
