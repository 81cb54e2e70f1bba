"""Extents without a file: zeros, and parts that nobody may look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_storage.device import Extent, byte_view
from ipva_storage.errors import VmdkError
from ipva_storage.vmdk.extent.base import ReadOnlyExtent, fill_zeros

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import WriteableBuffer

    from ipva_storage.vmdk.descriptor import ExtentLine


class ZeroExtent(ReadOnlyExtent):
    """A part that reads as zeros; one with `NOACCESS` is not read at all."""

    def __init__(self, line: ExtentLine, name: str) -> None:
        """Take the size from an extent line; `name` is what messages call the disk."""
        self.name = name
        self.kind = f"an extent of kind {line.kind}"
        self._size_bytes = line.size_bytes
        self._is_open = line.access != "NOACCESS"

    @property
    def size_bytes(self) -> int:
        """Size of the part."""
        return self._size_bytes

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the buffer with zeros.

        Raises:
            VmdkError: the descriptor forbids looking at this part.
        """
        view = byte_view(buffer)
        self._check(offset_bytes, len(view))
        if not self._is_open:
            raise VmdkError(
                "its descriptor forbids reading this part of the disk (NOACCESS)",
                where=self.name,
                offset_bytes=offset_bytes,
                remedy="write RDONLY in its place if you may look at it",
            )
        fill_zeros(view)

    def extents(self) -> Iterator[Extent]:
        """One hole; one run of data where the content is not to be known."""
        if self._size_bytes:
            yield Extent(0, self._size_bytes, is_data=not self._is_open)
