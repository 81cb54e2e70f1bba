"""A device in memory: for tests, models and small images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_storage.device.base import Device, Extent, byte_view

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer


class MemoryDevice(Device):
    """Bytes in a `bytearray`, which `data` gives."""

    def __init__(self, content: ReadableBuffer | int = 0, *, name: str = "memory") -> None:
        """Hold a copy of `content`, or that many zero bytes when it is a number."""
        self.data = bytearray(content)
        self.name = name

    @property
    def size_bytes(self) -> int:
        """Length in bytes."""
        return len(self.data)

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer."""
        view = byte_view(buffer)
        self._check(offset_bytes, len(view))
        view[:] = self.data[offset_bytes : offset_bytes + len(view)]

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        """Put `data` at `offset_bytes`."""
        view = byte_view(data)
        self._check(offset_bytes, len(view))
        self.data[offset_bytes : offset_bytes + len(view)] = view

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        """Zero a range."""
        self._check(offset_bytes, length_bytes)
        self.data[offset_bytes : offset_bytes + length_bytes] = bytes(length_bytes)

    def extents(self) -> Iterator[Extent]:
        """One run of data: nothing is known to be zero."""
        if self.data:
            yield Extent(0, len(self.data), is_data=True)

    def resize(self, size_bytes: int, /) -> None:
        """Cut the end off, or add zeros."""
        self._check_size(size_bytes)
        if size_bytes < len(self.data):
            del self.data[size_bytes:]
        else:
            self.data.extend(bytes(size_bytes - len(self.data)))
