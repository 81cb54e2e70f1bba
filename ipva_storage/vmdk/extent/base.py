"""What every extent is: a device that is one part of a disk, and how grains are read.

A part that an extent does not hold (`NOWHERE`) shows the disk below, where the disk is a snapshot's
child, and zeros where there is none.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Final

from ipva_storage.device import Device, byte_view, merge_extents
from ipva_storage.device import Extent as Run
from ipva_storage.errors import DeviceError, VmdkError
from ipva_storage.units import MIB, SECTOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from _typeshed import ReadableBuffer, WriteableBuffer

    from ipva_storage.device import BlockDevice

NOWHERE: Final = -1
"""The place of a grain that the extent does not hold: the disk below shows, or zeros."""
ZEROED: Final = -2
"""The place of a grain that is zeros, whatever the disk below says."""

_ZEROS: Final = bytes(MIB)


class DiskExtent(Device):
    """One part of a disk. Closing it closes its file."""

    raw: BlockDevice | None = None
    """The file that holds it."""

    def own_extents(self) -> Iterator[Run]:
        """What it holds itself as data, and what shows the disk below as holes."""
        yield Run(0, self.size_bytes, is_data=True)

    def begin(self) -> None:
        """Mark the extent as being written to; nothing, unless a kind has such a mark."""

    def seal(self) -> None:
        """Write everything, and take the mark back."""

    def close(self) -> None:
        """Close the file; `seal` it before."""
        if self.raw is not None:
            self.raw.close()


class ReadOnlyExtent(DiskExtent):
    """An extent of a kind that is read here, and not written."""

    kind: str = "such"
    """What a message calls it."""

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        """Refuse.

        Raises:
            DeviceError: always.
        """
        del data
        self._refuse(offset_bytes)

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        """Refuse.

        Raises:
            DeviceError: always.
        """
        del length_bytes
        self._refuse(offset_bytes)

    def _refuse(self, offset_bytes: int) -> None:
        raise DeviceError(
            f"a part of it is {self.kind}, which is read and never written",
            where=self.name,
            offset_bytes=offset_bytes,
            remedy="convert the disk to a kind that can be written",
        )


class GrainExtent(DiskExtent):
    """Reading an extent that keeps its bytes in grains. Subclasses say where each grain is."""

    grain_bytes: int
    below: BlockDevice | None = None
    """What shows where a grain is `NOWHERE`: this part of the parent; None for zeros."""

    def __init__(
        self, raw: BlockDevice, size_bytes: int, grain_bytes: int, below: BlockDevice | None
    ) -> None:
        """Keep what reading needs."""
        self.name = raw.name
        self.raw: BlockDevice = raw
        self.grain_bytes = grain_bytes
        self.below = below
        self._size_bytes = size_bytes

    @property
    def size_bytes(self) -> int:
        """Size of this part of the disk."""
        return self._size_bytes

    @abstractmethod
    def own_extents(self) -> Iterator[Run]:
        """Runs of grains that it holds, and of those that it does not.

        A grain that is marked as zeros is one that it holds, where something is below.
        """

    def extents(self) -> Iterator[Run]:
        """Runs of grains and of none, by the tables; of the parent where it shows."""
        if self.below is None:
            return merge_extents(self.own_extents())
        return merge_extents(_through(self.own_extents(), self.below, self.size_bytes))

    @abstractmethod
    def _lookup(self, grain: int, grain_count: int) -> Iterator[tuple[int, int]]:
        """Where grains are, in runs: how many follow each other, and the place of the first.

        A place is a byte of the file, `NOWHERE` or `ZEROED`.
        """

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer, each run of neighbouring grains at once.

        Raises:
            VmdkError: a table is damaged, or the file ends within a grain.
        """
        view = byte_view(buffer)
        self._check(offset_bytes, len(view))
        for start, stop, place in self._runs(offset_bytes, len(view)):
            if place == NOWHERE:
                self._read_below(offset_bytes + start, view[start:stop])
            elif place == ZEROED:
                fill_zeros(view[start:stop])
            else:
                self._read_place(place, view[start:stop])

    def _runs(self, offset_bytes: int, length_bytes: int) -> Iterator[tuple[int, int, int]]:
        """A range in pieces that lie in one run: start and stop within the range, and the place."""
        if not length_bytes:
            return
        grain, skip = divmod(offset_bytes, self.grain_bytes)
        at = -skip
        for count, place in self._lookup(grain, -(-(length_bytes + skip) // self.grain_bytes)):
            start, end = max(at, 0), at + count * self.grain_bytes
            yield start, min(end, length_bytes), place + start - at if place >= 0 else place
            at = end

    def _read_place(self, place: int, view: memoryview) -> None:
        if place + len(view) > self.raw.size_bytes:
            raise VmdkError(
                "the file ends within a grain",
                where=self.name,
                offset_bytes=place,
                remedy="the file was cut; copy it again or restore it from a backup",
            )
        self.raw.read_into(place, view)

    def _read_below(self, offset_bytes: int, view: memoryview) -> None:
        """What shows through: the parent, and zeros behind its end."""
        below = self.below
        count = 0
        if below is not None:
            count = max(0, min(len(view), below.size_bytes - offset_bytes))
            if count:
                below.read_into(offset_bytes, view[:count])
        fill_zeros(view[count:])

    def read_below(self, offset_bytes: int, length_bytes: int) -> bytes:
        """What a range would read as without any grain of this extent."""
        found = bytearray(length_bytes)
        self._read_below(offset_bytes, memoryview(found))
        return bytes(found)


def _through(runs: Iterable[Run], below: BlockDevice, size_bytes: int) -> Iterator[Run]:
    """Runs over a device, with those of the device below in the place of holes."""
    lower = iter(below.extents())
    under = next(lower, None)
    for run in runs:
        if run.is_data:
            yield run
            continue
        at, end = run.offset_bytes, run.offset_bytes + run.length_bytes
        while at < end:
            while under is not None and under.offset_bytes + under.length_bytes <= at:
                under = next(lower, None)
            if under is None:
                yield Run(at, end - at, is_data=False)
                break
            stop = min(end, under.offset_bytes + under.length_bytes, size_bytes)
            yield Run(at, stop - at, under.is_data)
            at = stop


def fill_zeros(view: memoryview) -> None:
    """Make all bytes of a view zero."""
    for at in range(0, len(view), MIB):
        piece = view[at : at + MIB]
        piece[:] = _ZEROS[: len(piece)]


def entry_runs(entries: Sequence[int], step: int) -> Iterator[tuple[int, int]]:
    """Entries of a grain table in runs that follow each other in the file: length, first entry.

    Entries of 0 and of 1 (not there; zeros) make runs of their own.
    """
    first, count = 0, len(entries)
    while first < count:
        entry = entries[first]
        pace = step if entry > 1 else 0
        expected = entry + pace
        stop = first + 1
        while stop < count and entries[stop] == expected:
            stop += 1
            expected += pace
        yield stop - first, entry
        first = stop


def sector_place(entry: int) -> int:
    """The place that an entry of a table of sectors names."""
    if entry > 1:
        return entry * SECTOR_BYTES
    return ZEROED if entry else NOWHERE
