"""A device that loses power on command.

Which faults: the power goes at write `cut_after_writes`; of that write, the first `torn_bytes`
reach the medium. Discards count as writes. A lie about `flush`, reordering and bit flips are the
crash explorer's (`sim`), which works on recorded writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_storage.device.base import Device, byte_view
from ipva_storage.errors import PowerCutError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

    from ipva_storage.device.base import BlockDevice, Extent


class FaultDevice(Device):
    """Passes everything on until the power goes; from then on nothing works."""

    def __init__(
        self, device: BlockDevice, *, cut_after_writes: int | None = None, torn_bytes: int = 0
    ) -> None:
        """Guard `device`.

        Args:
            device: where the bytes go. It is what survives; read it to see the crash state.
            cut_after_writes: this many writes reach it whole; None never cuts.
            torn_bytes: how many bytes of the write after those still reach it.
        """
        self._device = device
        self._writes_left = cut_after_writes
        self._torn_bytes = torn_bytes
        self.is_cut = False
        self.name = device.name

    @property
    def size_bytes(self) -> int:
        """Length in bytes."""
        return self._device.size_bytes

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer."""
        self._alive()
        self._device.read_into(offset_bytes, buffer)

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        """Put `data` at `offset_bytes`, or the torn part of it."""
        self._check(offset_bytes, byte_view(data).nbytes)
        if self._passes():
            self._device.write(offset_bytes, data)
            return
        self._device.write(offset_bytes, byte_view(data)[: self._torn_bytes])
        self._cut()

    def flush(self) -> None:
        """Flush the device below."""
        self._alive()
        self._device.flush()

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        """Discard in the device below; a torn discard zeroes its first part."""
        self._check(offset_bytes, length_bytes)
        if self._passes():
            self._device.discard(offset_bytes, length_bytes)
            return
        self._device.discard(offset_bytes, min(self._torn_bytes, length_bytes))
        self._cut()

    def extents(self) -> Iterator[Extent]:
        """The runs of the device below."""
        self._alive()
        return self._device.extents()

    def resize(self, size_bytes: int, /) -> None:
        """Resize the device below."""
        self._alive()
        self._device.resize(size_bytes)

    def close(self) -> None:
        """Close the device below, power or not."""
        self._device.close()

    def _alive(self) -> None:
        if self.is_cut:
            raise PowerCutError("the power is gone", where=self.name)

    def _passes(self) -> bool:
        self._alive()
        if self._writes_left is None:
            return True
        self._writes_left -= 1
        return self._writes_left >= 0

    def _cut(self) -> None:
        self.is_cut = True
        raise PowerCutError("the power went during this write", where=self.name)
