"""FAT32's free-space summary: two hints, kept right by us and believed only within reason."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from ipva_formats import fat as layout
from ipva_storage.device import read

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice

_SECTOR_BYTES: Final = 512
_NUMBERS_AT: Final = 488
"""Offset of the two numbers. A test holds it equal to `FSINFO`."""


class FsInfo:
    """The FSInfo sector of one volume; without one, or with a damaged one, nothing happens."""

    def __init__(self, device: BlockDevice, offset_bytes: int | None) -> None:
        """Read the sector at `offset_bytes`, if there is one."""
        self._device = device
        self._offset_bytes = offset_bytes
        self.is_valid = False
        self.free_count: int | None = None
        """Free clusters as the sector says, or None where it does not know."""
        self.next_free: int | None = None
        """Where to look for a free cluster, or None."""
        if offset_bytes is not None:
            self._parse(read(device, offset_bytes, _SECTOR_BYTES))

    def _parse(self, sector: bytes) -> None:
        lead, kind, free_count, next_free, trail = struct.unpack("<I480xIII12xI", sector)
        self.is_valid = (lead, kind, trail) == (
            layout.FSINFO_LEAD,
            layout.FSINFO_STRUCT,
            layout.FSINFO_TRAIL,
        )
        if self.is_valid:
            self.free_count = None if free_count == layout.FSINFO_UNKNOWN else free_count
            self.next_free = None if next_free == layout.FSINFO_UNKNOWN else next_free

    def update(self, free_count: int, next_free: int) -> None:
        """Write both numbers, where they changed and there is a sector for them."""
        if not self.is_valid or (free_count, next_free) == (self.free_count, self.next_free):
            return
        assert self._offset_bytes is not None
        sector = bytearray(read(self._device, self._offset_bytes, _SECTOR_BYTES))
        struct.pack_into("<II", sector, _NUMBERS_AT, free_count, next_free)
        self._device.write(self._offset_bytes, sector)
        self.free_count, self.next_free = free_count, next_free
