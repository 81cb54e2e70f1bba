"""A hosted sparse extent as a device: grains found through tables, new ones put at the end.

Invariants, besides those of `tables`:

1. A grain is where its table entry says; one without an entry shows what is below: the parent of a
   snapshot's child, or zeros.
2. New grains start behind the end of the file, in whole runs, and lie as the first grain does.
   What a write leaves out of them is what was below; zeros the host fills in by itself.
3. Zeros written where there is no grain make none, unless a parent would show through.
4. From the first change to a clean `seal` the header says `unclean_shutdown`.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple

from ipva_storage.device import Extent, byte_view, is_zero, merge_extents
from ipva_storage.errors import NoSpaceError, VmdkError
from ipva_storage.units import MIB, SECTOR_BYTES
from ipva_storage.vmdk.extent.base import NOWHERE, GrainExtent, entry_runs, sector_place
from ipva_storage.vmdk.extent.runs import grain_extents
from ipva_storage.vmdk.extent.tables import ENTRY_MAX, GrainTables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer

    from ipva_storage.device import BlockDevice
    from ipva_storage.vmdk.extent.header import SparseHeader

UNCLEAN_SHUTDOWN_OFFSET_BYTES: Final = 72
"""The same as in `ipva_formats.vmdk`."""


class _Fresh(NamedTuple):
    """Grains to be made: a run of a write, and where it is to be in the extent."""

    start: int
    stop: int
    """Of the data, within the write."""
    has_below: bool
    """Whether the parent shows around the data, rather than zeros."""


class SparseExtent(GrainExtent):
    """One sparse extent. Closing it closes the file."""

    def __init__(
        self,
        raw: BlockDevice,
        header: SparseHeader,
        *,
        writable: bool = False,
        size_bytes: int | None = None,
        below: BlockDevice | None = None,
    ) -> None:
        """Open an extent whose header `check_usable` let pass.

        Args:
            raw: its file.
            header: its header.
            writable: whether it may be changed; `raw` must be writable then.
            size_bytes: how much of it belongs to the disk; all of it unless given.
            below: what shows where it has no grain.

        Raises:
            VmdkError: its grain directory cannot be used.
        """
        capacity_bytes = header.capacity_bytes
        size_bytes = capacity_bytes if size_bytes is None else min(size_bytes, capacity_bytes)
        super().__init__(raw, size_bytes, header.grain_bytes, below)
        self.header = header
        self.tables = GrainTables(raw, header, writable=writable)
        self._is_begun = False
        self._lost: tuple[tuple[int, int], ...] = ()

    def hide_lost(self) -> None:
        """From now on, refuse to read what no table tells of, where tables are lost."""
        from ipva_storage.vmdk.extent.orphans import lost_tables

        lost = lost_tables(self.raw, self.header)
        self._lost = () if lost is None else lost.runs

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        """Put `data` at `offset_bytes`: over the grains there are, and into new ones.

        Raises:
            NoSpaceError: the file would outgrow what a table entry can name.
            VmdkError: a table to be changed cannot be.
        """
        view = byte_view(data)
        self._check(offset_bytes, len(view))
        old: list[tuple[int, int, int]] = []
        new: list[_Fresh] = []
        for start, stop, place in self._runs(offset_bytes, len(view)):
            if place >= 0:
                old.append((start, stop, place))
            elif place == NOWHERE and self.below is not None:
                new.append(_Fresh(start, stop, has_below=True))
            else:
                # A zeroed grain over a parent is made anew, so that nothing shows through it.
                new.extend(self._filled(offset_bytes, view, start, stop))
        first_sector = self._reserve(offset_bytes, old, new)
        for start, stop, place in old:
            self.raw.write(place, view[start:stop])
        for fresh in new:
            first_sector = self._append(offset_bytes, view, fresh, first_sector)

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        """Zero a range, giving its space back to the host; no table changes without a parent."""
        self._check(offset_bytes, length_bytes)
        for start, stop, place in list(self._runs(offset_bytes, length_bytes)):
            if place >= 0:
                length = min(stop - start, self.raw.size_bytes - place)
                self.raw.discard(place, max(length, 0))
            elif place == NOWHERE and self.below is not None:
                for at in range(start, stop, MIB):
                    self.write(offset_bytes + at, bytes(min(MIB, stop - at)))

    def own_extents(self) -> Iterator[Extent]:
        """Runs of grains and of none, by the tables; what may be lost counts as grains."""
        has_below = self.below is not None
        runs = grain_extents(self.header, self.tables, count_zeroed=has_below)
        return merge_extents(self._with_lost(runs)) if self._lost else runs

    def _with_lost(self, runs: Iterator[Extent]) -> Iterator[Extent]:
        grains = ((one.offset_bytes, one.length_bytes) for one in runs if one.is_data)
        size, end = self.grain_bytes, self.header.capacity_bytes
        lost = ((at * size, min(stop * size, end) - at * size) for at, stop in self._lost)
        at = 0
        for start, length in heapq.merge(grains, lost):
            yield Extent(at, start - at, is_data=False)
            yield Extent(start, length, is_data=True)
            at = start + length
        yield Extent(at, end - at, is_data=False)

    def flush(self) -> None:
        """Make all data durable, and then the tables."""
        self.tables.flush()

    def begin(self) -> None:
        """Mark the extent as being written to; the first change needs it before it."""
        if not self._is_begun:
            self.tables.heal()
            self.raw.write(UNCLEAN_SHUTDOWN_OFFSET_BYTES, b"\1")
            self._is_begun = True

    def seal(self) -> None:
        """Flush, and mark the extent as whole, when something was changed."""
        if self._is_begun:
            self.flush()
            self.raw.write(UNCLEAN_SHUTDOWN_OFFSET_BYTES, b"\0")
            self.raw.flush()
            self._is_begun = False

    def reload(self, header: SparseHeader) -> None:
        """Go on with another header, which is in the file already, within the same session.

        Raises:
            VmdkError: its grain directory cannot be used.
        """
        self.header = header
        self._size_bytes = header.capacity_bytes
        self.tables = GrainTables(self.raw, header, writable=True)

    def _lookup(self, grain: int, grain_count: int) -> Iterator[tuple[int, int]]:
        """Where grains are, table by table; an empty table is one run."""
        gtes, step = self.header.gtes_per_gt, self.header.grain_sectors
        self._refuse_unknown(grain, grain + grain_count)
        while grain_count:
            index, at = divmod(grain, gtes)
            count = min(gtes - at, grain_count)
            if self.tables.is_empty(index):
                yield count, NOWHERE
            else:
                entries = self.tables.table(index)[at : at + count]
                first = grain
                for length, entry in entry_runs(entries, step):
                    self.tables.check_run(first, length, entry)
                    yield length, sector_place(entry)
                    first += length
            grain += count
            grain_count -= count

    def _refuse_unknown(self, first: int, stop: int) -> None:
        at = bisect_right(self._lost, first, key=lambda run: run[1])
        if at < len(self._lost) and self._lost[at][0] < stop:
            grain = max(first, self._lost[at][0])
            raise VmdkError(f"grain {grain} may be lost: its table is", where=self.name)

    def _filled(
        self, offset_bytes: int, view: memoryview, start: int, stop: int
    ) -> Iterator[_Fresh]:
        """Runs of whole grains (cut at `start` and `stop`) that get anything but zeros."""
        first: int | None = None
        at = start
        while at < stop:
            end = min(at + self.grain_bytes - (offset_bytes + at) % self.grain_bytes, stop)
            if is_zero(view[at:end]):
                if first is not None:
                    yield _Fresh(first, at, has_below=False)
                    first = None
            elif first is None:
                first = at
            at = end
        if first is not None:
            yield _Fresh(first, stop, has_below=False)

    def _grains(self, offset_bytes: int, fresh: _Fresh) -> range:
        """The grains that a run of a write lies in."""
        start, stop = offset_bytes + fresh.start, offset_bytes + fresh.stop
        return range(start // self.grain_bytes, -(-stop // self.grain_bytes))

    def _reserve(
        self, offset_bytes: int, old: list[tuple[int, int, int]], new: list[_Fresh]
    ) -> int:
        """Lengthen the file for all that is to be written; the sector of the first new grain."""
        grain = self.header.grain_sectors
        phase = self.header.overhead_sectors % grain
        size_sectors = -(-self.raw.size_bytes // SECTOR_BYTES)
        first = size_sectors + (phase - size_sectors) % grain
        count = 0
        for fresh in new:
            grains = self._grains(offset_bytes, fresh)
            count += len(grains)
            for at in range(grains[0], grains[-1] + 1, self.header.gtes_per_gt):
                self.tables.check_assignable(at)
            self.tables.check_assignable(grains[-1])
        end = first + count * grain
        if end - 1 > ENTRY_MAX:
            raise NoSpaceError("a sparse file cannot grow beyond 2 TiB", where=self.name)
        needed_bytes = max(
            [end * SECTOR_BYTES if count else 0, *(place + stop - at for at, stop, place in old)]
        )
        if needed_bytes > self.raw.size_bytes:
            self.raw.resize(needed_bytes)
        return first

    def _append(self, offset_bytes: int, view: memoryview, fresh: _Fresh, first_sector: int) -> int:
        """Write new grains at `first_sector` and enter them; the sector behind them."""
        grains = self._grains(offset_bytes, fresh)
        start = offset_bytes + fresh.start
        data: ReadableBuffer = view[fresh.start : fresh.stop]
        if fresh.has_below:
            data, start = self._whole_grains(start, view[fresh.start : fresh.stop])
        skip = start - grains[0] * self.grain_bytes
        self.raw.write(first_sector * SECTOR_BYTES + skip, data)
        end_sector = first_sector + len(grains) * self.header.grain_sectors
        self.tables.assign(grains[0], range(first_sector, end_sector, self.header.grain_sectors))
        return end_sector

    def _whole_grains(self, start: int, view: memoryview) -> tuple[ReadableBuffer, int]:
        """Data with what is below it around, so that it fills its grains; and its new start."""
        stop = start + len(view)
        first = start // self.grain_bytes * self.grain_bytes
        last = min(-(-stop // self.grain_bytes) * self.grain_bytes, self.header.capacity_bytes)
        if (first, last) == (start, stop):
            return view, start
        whole = bytearray(last - first)
        around = memoryview(whole)
        self._read_below(first, around[: start - first])
        around[start - first : stop - first] = view
        self._read_below(stop, around[stop - first :])
        return whole, first
