"""A part of a device as a device: a partition, or the flash within its disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_storage.device.base import Device, Extent, announce, byte_view
from ipva_storage.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

    from ipva_storage.device.base import BlockDevice


class SliceDevice(Device):
    """`length_bytes` of another device from `offset_bytes` on. Closing it leaves the other open."""

    def __init__(self, device: BlockDevice, offset_bytes: int, length_bytes: int) -> None:
        """Show a part of `device`.

        Raises:
            DeviceError: the part leaves the device.
        """
        if offset_bytes < 0 or length_bytes < 0 or offset_bytes + length_bytes > device.size_bytes:
            raise DeviceError(
                f"a part of {length_bytes} bytes there leaves the device, "
                f"which ends at {device.size_bytes}",
                where=device.name,
                offset_bytes=offset_bytes,
            )
        self._device = device
        self._offset_bytes = offset_bytes
        self._length_bytes = length_bytes
        self.name = device.name if not offset_bytes else f"{device.name} from byte {offset_bytes}"

    @property
    def size_bytes(self) -> int:
        """Length in bytes."""
        return self._length_bytes

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer."""
        view = byte_view(buffer)
        self._check(offset_bytes, len(view))
        self._device.read_into(self._offset_bytes + offset_bytes, view)

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        """Put `data` at `offset_bytes`."""
        view = byte_view(data)
        self._check(offset_bytes, len(view))
        self._device.write(self._offset_bytes + offset_bytes, view)

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Tell the device below what is going to be written; see `announce`."""
        announce(self._device, [(self._offset_bytes + at, length) for at, length in ranges])

    def flush(self) -> None:
        """Flush the device below."""
        self._device.flush()

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        """Discard in the device below."""
        self._check(offset_bytes, length_bytes)
        self._device.discard(self._offset_bytes + offset_bytes, length_bytes)

    def extents(self) -> Iterator[Extent]:
        """The runs of the device below, cut to the part and counted from its start."""
        first, end = self._offset_bytes, self._offset_bytes + self._length_bytes
        for run in self._device.extents():
            start = max(run.offset_bytes, first)
            stop = min(run.offset_bytes + run.length_bytes, end)
            if start < stop:
                yield Extent(start - first, stop - start, run.is_data)
