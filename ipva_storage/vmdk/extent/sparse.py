"""A hosted sparse extent as a device: grains found through tables, new ones put at the end.

Invariants, besides those of `tables`:

1. A grain is where its table entry says; one without an entry reads as zeros.
2. New grains start behind the end of the file, in whole runs, and lie as the first grain does.
   The host fills what a write leaves out of them with zeros.
3. Zeros written where there is no grain make none.
4. From the first change to a clean `seal` the header says `unclean_shutdown`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipva_storage.device import Device, byte_view, is_zero
from ipva_storage.errors import NoSpaceError, VmdkError
from ipva_storage.units import MIB, SECTOR_BYTES
from ipva_storage.vmdk.extent.tables import ENTRY_MAX, ENTRY_ZEROED, GrainTables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

    from ipva_storage.device import BlockDevice, Extent
    from ipva_storage.vmdk.extent.header import SparseHeader

UNCLEAN_SHUTDOWN_OFFSET_BYTES: Final = 72
"""The same as in `ipva_formats.vmdk`."""

_ZEROS: Final = bytes(MIB)


class SparseExtent(Device):
    """One sparse extent. Closing it closes the file."""

    def __init__(self, raw: BlockDevice, header: SparseHeader, *, writable: bool = False) -> None:
        """Open an extent whose header `check_usable` let pass.

        Raises:
            VmdkError: its grain directory cannot be used.
        """
        self.name = raw.name
        self.header = header
        self.raw = raw
        self._tables = GrainTables(raw, header, writable=writable)
        self._is_begun = False

    @property
    def size_bytes(self) -> int:
        """Size of the disk in it."""
        return self.header.capacity_bytes

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer, each run of neighbouring grains at once."""
        view = byte_view(buffer)
        self._check(offset_bytes, len(view))
        for start, stop, place in self._runs(offset_bytes, len(view)):
            if place is None:
                for at in range(start, stop, MIB):
                    end = min(at + MIB, stop)
                    view[at:end] = _ZEROS[: end - at]
                continue
            if place + stop - start > self.raw.size_bytes:
                raise VmdkError(
                    "the file ends within a grain",
                    where=self.name,
                    offset_bytes=place,
                    remedy="the file was cut; restore it from a backup",
                )
            self.raw.read_into(place, view[start:stop])

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        """Put `data` at `offset_bytes`: over the grains there are, and into new ones.

        Raises:
            NoSpaceError: the file would outgrow what a table entry can name.
            VmdkError: a table to be changed cannot be.
        """
        view = byte_view(data)
        self._check(offset_bytes, len(view))
        old: list[tuple[int, int, int]] = []
        new: list[tuple[int, int]] = []
        for start, stop, place in self._runs(offset_bytes, len(view)):
            if place is None:
                new.extend(self._filled(offset_bytes, view, start, stop))
            else:
                old.append((start, stop, place))
        first_sector = self._reserve(offset_bytes, old, new)
        for start, stop, place in old:
            self.raw.write(place, view[start:stop])
        for start, stop in new:
            first_sector = self._append(offset_bytes, view, start, stop, first_sector)

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        """Zero a range, giving its space back to the host; no table changes."""
        self._check(offset_bytes, length_bytes)
        for start, stop, place in self._runs(offset_bytes, length_bytes):
            if place is not None:
                length = min(stop - start, self.raw.size_bytes - place)
                self.raw.discard(place, max(length, 0))

    def extents(self) -> Iterator[Extent]:
        """Runs of grains and of none, by the tables."""
        from ipva_storage.vmdk.extent.scan import grain_extents

        return grain_extents(self.header, self._tables)

    def flush(self) -> None:
        """Make all data durable, and then the tables."""
        self._tables.flush()

    def begin(self) -> None:
        """Mark the extent as being written to; the first change needs it before it."""
        if not self._is_begun:
            self._tables.heal()
            self.raw.write(UNCLEAN_SHUTDOWN_OFFSET_BYTES, b"\1")
            self._is_begun = True

    def seal(self) -> None:
        """Flush, and mark the extent as whole, when something was changed."""
        if self._is_begun:
            self.flush()
            self.raw.write(UNCLEAN_SHUTDOWN_OFFSET_BYTES, b"\0")
            self.raw.flush()
            self._is_begun = False

    def close(self) -> None:
        """Close the file; `seal` it before."""
        self.raw.close()

    def _runs(self, offset_bytes: int, length_bytes: int) -> Iterator[tuple[int, int, int | None]]:
        """A range in pieces that lie in one run in the file, or in none.

        Yields:
            Start and stop within the range, and the byte of the file, or None for zeros.
        """
        grain_bytes = self.header.grain_bytes
        start = at = 0
        run: int | None = None
        while at < length_bytes:
            grain, skip = divmod(offset_bytes + at, grain_bytes)
            count = self._empty_grains(grain, -(-(length_bytes - at + skip) // grain_bytes))
            entry = ENTRY_ZEROED if count else self._tables.entry(grain)
            place = entry * SECTOR_BYTES + skip if entry > ENTRY_ZEROED else None
            follows = place is run is None or (
                run is not None and place is not None and place == run + at - start
            )
            if at and not follows:
                yield start, at, run
            if not at or not follows:
                start, run = at, place
            at = min(at + max(count, 1) * grain_bytes - skip, length_bytes)
        if length_bytes:
            yield start, at, run

    def _empty_grains(self, grain: int, grain_count: int) -> int:
        """How many grains an empty table leaves out at once; 0 where they are to be looked at."""
        gtes = self.header.gtes_per_gt
        index, at = divmod(grain, gtes)
        is_whole = at == 0 and grain_count >= gtes > 1
        return gtes if is_whole and self._tables.is_empty(index) else 0

    def _filled(
        self, offset_bytes: int, view: memoryview, start: int, stop: int
    ) -> Iterator[tuple[int, int]]:
        """Runs of whole grains (cut at `start` and `stop`) that get anything but zeros."""
        grain_bytes = self.header.grain_bytes
        first: int | None = None
        at = start
        while at < stop:
            end = min(at + grain_bytes - (offset_bytes + at) % grain_bytes, stop)
            if is_zero(bytes(view[at:end]), 0, end - at):
                if first is not None:
                    yield first, at
                    first = None
            elif first is None:
                first = at
            at = end
        if first is not None:
            yield first, stop

    def _grains(self, offset_bytes: int, start: int, stop: int) -> range:
        grain_bytes = self.header.grain_bytes
        return range(
            (offset_bytes + start) // grain_bytes, -(-(offset_bytes + stop) // grain_bytes)
        )

    def _reserve(
        self, offset_bytes: int, old: list[tuple[int, int, int]], new: list[tuple[int, int]]
    ) -> int:
        """Lengthen the file for all that is to be written; the sector of the first new grain."""
        grain = self.header.grain_sectors
        phase = self.header.overhead_sectors % grain
        size_sectors = -(-self.raw.size_bytes // SECTOR_BYTES)
        first = size_sectors + (phase - size_sectors) % grain
        count = 0
        for start, stop in new:
            grains = self._grains(offset_bytes, start, stop)
            count += len(grains)
            for at in range(grains[0], grains[-1] + 1, self.header.gtes_per_gt):
                self._tables.check_assignable(at)
            self._tables.check_assignable(grains[-1])
        end = first + count * grain
        if end - 1 > ENTRY_MAX:
            raise NoSpaceError("a sparse file cannot grow beyond 2 TiB", where=self.name)
        needed_bytes = max(
            [end * SECTOR_BYTES if count else 0, *(place + stop - at for at, stop, place in old)]
        )
        if needed_bytes > self.raw.size_bytes:
            self.raw.resize(needed_bytes)
        return first

    def _append(
        self, offset_bytes: int, view: memoryview, start: int, stop: int, first_sector: int
    ) -> int:
        """Write new grains at `first_sector` and enter them; the sector behind them."""
        grains = self._grains(offset_bytes, start, stop)
        skip = (offset_bytes + start) % self.header.grain_bytes
        self.raw.write(first_sector * SECTOR_BYTES + skip, view[start:stop])
        end_sector = first_sector + len(grains) * self.header.grain_sectors
        self._tables.assign(grains[0], range(first_sector, end_sector, self.header.grain_sectors))
        return end_sector
