"""A stream-optimized extent without its tables: its grains are found by going through the file.

A stream has its grains in rising order. So what lies between two grains that follow each other in
the file is zeros; and where there is damage between them, or the end of the file, nobody knows.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ipva_storage.device import Extent, merge_extents
from ipva_storage.errors import VmdkError
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.extent.base import NOWHERE, GrainExtent
from ipva_storage.vmdk.extent.header import SparseHeader, check_usable
from ipva_storage.vmdk.extent.markers import Kind, walk
from ipva_storage.vmdk.extent.stream import StreamExtent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice

_END: Final = (Kind.DIRECTORY, Kind.FOOTER)
"""What follows the last grain."""


class WalkedExtent(StreamExtent):
    """What is left of a stream; reading what may be lost is refused."""

    def __init__(
        self, raw: BlockDevice, header: SparseHeader, *, size_bytes: int | None = None
    ) -> None:
        """Go through the file.

        Args:
            raw: its file.
            header: its header.
            size_bytes: how much of it belongs to the disk; all of it unless given.

        Raises:
            VmdkError: the header is damaged.
        """
        check_usable(header, raw)
        self.header = header
        capacity_bytes = header.capacity_bytes
        size_bytes = capacity_bytes if size_bytes is None else min(size_bytes, capacity_bytes)
        GrainExtent.__init__(self, raw, size_bytes, header.grain_bytes, None)
        self._start_empty()
        self._grains, self._sectors = array("Q"), array("I")
        self._unknown: list[tuple[int, int]] = []  # grains, first and behind the last
        self._walk()

    def own_extents(self) -> Iterator[Extent]:
        """Runs of grains that were found or may be lost, and of none."""
        return merge_extents(self._spans())

    def _walk(self) -> None:
        next_grain, is_gap, is_ended = 0, False, False
        for record in walk(self.raw, self.header):
            if record.kind is Kind.GRAIN:
                grain = record.lba_sector // self.header.grain_sectors
                if is_gap and grain > next_grain:
                    self._unknown.append((next_grain, grain))
                next_grain, is_gap = grain + 1, False
                self._grains.append(grain)
                self._sectors.append(record.sector)
            elif record.kind in _END:
                is_ended = True
            elif record.kind is not Kind.TABLE and not is_ended:
                is_gap = True
        if (is_gap or not is_ended) and next_grain < self.header.grain_count:
            self._unknown.append((next_grain, self.header.grain_count))
        if any(one >= other for one, other in pairwise(self._grains)):
            self._sort()

    def _sort(self) -> None:
        """Bring grains in order that were not; then all others may be lost, if any is."""
        found = dict(zip(self._grains, self._sectors, strict=True))
        self._grains = array("Q", sorted(found))
        self._sectors = array("I", (found[grain] for grain in self._grains))
        if self._unknown:
            borders = [-1, *self._grains, self.header.grain_count]
            self._unknown = [(a + 1, b) for a, b in pairwise(borders) if a + 1 < b]

    def _lookup(self, grain: int, grain_count: int) -> Iterator[tuple[int, int]]:
        """Where grains are; each that was found is a run by itself."""
        end = grain + grain_count
        while grain < end:
            at = bisect_left(self._grains, grain)
            found = self._grains[at] if at < len(self._grains) else end
            if found == grain:
                yield 1, self._sectors[at] * SECTOR_BYTES
                grain += 1
                continue
            stop = min(found, end)
            self._refuse_unknown(grain, stop)
            yield stop - grain, NOWHERE
            grain = stop

    def _refuse_unknown(self, first: int, stop: int) -> None:
        at = bisect_right(self._unknown, first, key=lambda part: part[1])
        if at < len(self._unknown) and self._unknown[at][0] < stop:
            grain = max(first, self._unknown[at][0])
            raise VmdkError(f"grain {grain} may be lost: nothing tells", where=self.name)

    def _spans(self) -> Iterator[Extent]:
        at = 0
        ours = ((grain, grain + 1) for grain in self._grains)
        for first, stop in heapq.merge(ours, self._unknown):
            start_bytes = min(first * self.grain_bytes, self.size_bytes)
            stop_bytes = min(stop * self.grain_bytes, self.size_bytes)
            yield Extent(at, start_bytes - at, is_data=False)
            yield Extent(start_bytes, stop_bytes - start_bytes, is_data=True)
            at = stop_bytes
        yield Extent(at, self.size_bytes - at, is_data=False)
