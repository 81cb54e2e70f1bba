"""Reading what is left of a damaged device: what cannot be read is zeros, and is remembered.

Invariants:

1. A read never fails for damage; a range that leaves the device is refused as ever.
2. Every byte that is handed out is one that the device gave, or is zero and within `lost`.
3. What is lost is told to the sector.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from ipva_storage.device.base import Device, Extent, byte_view, merge_extents
from ipva_storage.errors import DeviceError, ImageError, IpvaError
from ipva_storage.units import KIB, SECTOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

    from ipva_storage.device.base import BlockDevice

PIECE_BYTES: Final = 64 * KIB
"""The most that is tried as a whole before its sectors are. Source: a grain of most disks.
Confidence: chosen.
"""


class SalvageDevice(Device):
    """A device as far as it can be read. Closing it leaves the device open.

    A medium fails by the sector, so then each sector is tried. An image fails by the structure, as
    a compressed grain does, of which either nothing is left or one end: a piece whose first and
    last sector are lost is lost as a whole.
    """

    def __init__(self, device: BlockDevice, *, piece_bytes: int = PIECE_BYTES) -> None:
        """Read `device`, which is never written to.

        Args:
            device: the damaged one.
            piece_bytes: what an image loses at once, such as a grain; a power of two.
        """
        self._device = device
        self._piece_bytes = max(SECTOR_BYTES, min(piece_bytes, PIECE_BYTES))
        self._lost: list[tuple[int, int]] = []  # starts and ends, in order, apart from each other
        self.name = device.name

    @property
    def size_bytes(self) -> int:
        """Length in bytes."""
        return self._device.size_bytes

    @property
    def lost(self) -> list[tuple[int, int]]:
        """What could not be read so far: offset and length, in order, neighbours joined."""
        return [(start, stop - start) for start, stop in self._lost]

    @property
    def lost_bytes(self) -> int:
        """How much could not be read so far."""
        return sum(stop - start for start, stop in self._lost)

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer with what can be read, and zeros."""
        view = byte_view(buffer)
        self._check(offset_bytes, len(view))
        pieces = [(offset_bytes, view)]
        while pieces:
            at, piece = pieces.pop()
            error = self._try(at, piece)
            if error is None:
                continue
            if self._is_hopeless(at, len(piece), error):
                piece[:] = bytes(len(piece))
                self._lose(at, at + len(piece))
                continue
            half = self._middle(at, len(piece)) - at
            pieces += (at + half, piece[half:]), (at, piece[:half])

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

    def extents(self) -> Iterator[Extent]:
        """The runs of the device; from where it cannot tell them on, one run of data."""
        return merge_extents(self._runs())

    def _runs(self) -> Iterator[Extent]:
        end = 0
        try:
            for run in self._device.extents():
                end = run.offset_bytes + run.length_bytes
                yield run
        except IpvaError:
            yield Extent(end, self.size_bytes - end, is_data=True)

    def _try(self, offset_bytes: int, view: memoryview) -> IpvaError | None:
        """Read a part; why it could not be."""
        try:
            self._device.read_into(offset_bytes, view)
        except IpvaError as error:
            return error
        return None

    def _is_hopeless(self, offset_bytes: int, length_bytes: int, error: IpvaError) -> bool:
        """Whether nothing of a part that could not be read is worth another try."""
        if length_bytes <= SECTOR_BYTES:
            return True
        if length_bytes > self._piece_bytes or not isinstance(error, ImageError):
            return False
        sector = memoryview(bytearray(SECTOR_BYTES))
        ends = (offset_bytes, offset_bytes + length_bytes - SECTOR_BYTES)
        return all(self._try(at, sector) is not None for at in ends)

    def _middle(self, offset_bytes: int, length_bytes: int) -> int:
        """Where a part is cut in two: on a border of pieces, or of sectors within one."""
        unit = self._piece_bytes if length_bytes > self._piece_bytes else SECTOR_BYTES
        middle = (offset_bytes + length_bytes // 2) // unit * unit
        return middle if middle > offset_bytes else middle + unit

    def _lose(self, start: int, stop: int) -> None:
        """Remember a part, joined with those that it touches."""
        first = last = bisect_left(self._lost, start, key=lambda part: part[1])
        while last < len(self._lost) and self._lost[last][0] <= stop:
            last += 1
        parts = [(start, stop), *self._lost[first:last]]
        self._lost[first:last] = [(min(parts)[0], max(end for _, end in parts))]

    def _refuse(self, offset_bytes: int) -> None:
        raise DeviceError(
            "it is damaged, and only read", where=self.name, offset_bytes=offset_bytes
        )
