"""A flat extent: a plain run of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_storage.device import SliceDevice
from ipva_storage.errors import VmdkError
from ipva_storage.units import SECTOR_BYTES, printable
from ipva_storage.vmdk.descriptor import shown
from ipva_storage.vmdk.extent.base import DiskExtent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _typeshed import ReadableBuffer

    from ipva_storage.device import BlockDevice
    from ipva_storage.vmdk.descriptor import ExtentLine

FLAT_KINDS = ("FLAT", "VMFS")
"""Words for a flat extent in a file: hosted products, and ESX. Source: Virtual Disk Format 5.0."""


def shared_bytes(lines: Sequence[ExtentLine], descriptor_name: str) -> Iterator[str]:
    """What a descriptor puts into its disk twice, or should not put there, each as a sentence.

    Parts of one file that lie apart are no fault. Two names of one file are not known as such.

    Args:
        lines: the flat extents.
        descriptor_name: file name of the descriptor, without its folder.
    """
    ends: dict[str, int] = {}
    told: set[str] = set()
    for line in sorted(lines, key=lambda line: line.offset_sectors):
        name = line.file_name or ""
        if not line.sector_count or name in told:
            continue
        if name == descriptor_name:
            told.add(name)
            yield f"its extent “{shown(name)}” is the descriptor itself"
        elif line.offset_sectors < ends.get(name, 0):
            told.add(name)
            yield f"two of its extents lie on one part of “{shown(name)}”"
        ends[name] = max(ends.get(name, 0), line.offset_sectors + line.sector_count)


class FlatExtent(SliceDevice, DiskExtent):
    """The part of `raw` that an extent line names. Closing it closes the file."""

    def __init__(self, raw: BlockDevice, line: ExtentLine) -> None:
        """Show the part.

        Raises:
            VmdkError: the file ends before the extent does.
        """
        offset_bytes = line.offset_sectors * SECTOR_BYTES
        if offset_bytes + line.size_bytes > raw.size_bytes:
            raise VmdkError(
                f"the file has {raw.size_bytes} bytes, its descriptor says "
                f"{offset_bytes + line.size_bytes}",
                where=printable(raw.name),
                remedy="the file was cut; copy it again or restore it from a backup",
            )
        super().__init__(raw, offset_bytes, line.size_bytes)
        self.raw: BlockDevice = raw
        self.end_bytes = offset_bytes + line.size_bytes
        """Where it ends in the file."""
        self._is_writable = line.access == "RW"

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        """Put `data` at `offset_bytes`.

        Raises:
            VmdkError: the descriptor forbids writing to this extent.
        """
        self._check_access()
        super().write(offset_bytes, data)

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        """Zero a range, giving its space back to the host."""
        self._check_access()
        super().discard(offset_bytes, length_bytes)

    def seal(self) -> None:
        """Make everything durable; there is no mark to be taken back."""
        self.flush()

    def _check_access(self) -> None:
        if not self._is_writable:
            raise VmdkError("its descriptor makes this extent read-only", where=self.name)
