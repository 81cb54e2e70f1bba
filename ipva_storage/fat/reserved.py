"""FAT32's reserved sectors: where the free-space summary and the backup boot sector are, or go."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ipva_formats import fat as layout
from ipva_storage.device import is_zero, read
from ipva_storage.fat import geometry
from ipva_storage.fat.bootfields import BootFields
from ipva_storage.units import SECTOR_BYTES

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice

SUMMARY_SECTOR: Final = 1
BACKUP_SECTORS: Final = (6, 12, 2, 3, 1)
"""Where a backup boot sector is looked for. Source: MS says 6; others are seen. Inferred."""
_FLAGS_USED: Final = 0x8F


def settled(device: BlockDevice, fields: BootFields) -> BootFields:
    """FAT32's fields with places at which there is what they name, or where it can be put.

    A place that holds what it should, or that nothing speaks against, stays.
    """
    if not fields.is_fat32:
        return fields
    flags = fields.mirror_flags
    if flags & ~_FLAGS_USED or (flags & 0x80 and flags & 0x0F >= fields.fat_count):
        flags = 0
    summary = _summary_place(device, fields)
    backup = _backup_place(device, fields, summary)
    return replace(fields, mirror_flags=flags, fsinfo_sector=summary, backup_sector=backup)


def is_summary(device: BlockDevice, fields: BootFields, number: int) -> bool:
    """Whether a sector is a free-space summary by its three marks."""
    if not 0 < number < fields.reserved_sectors:
        return False
    sector = _sector(device, fields, number)
    marks = (sector[:4], sector[484:488], sector[508:512])
    wanted = (layout.FSINFO_LEAD, layout.FSINFO_STRUCT, layout.FSINFO_TRAIL)
    return all(
        int.from_bytes(mark, "little") == value for mark, value in zip(marks, wanted, strict=True)
    )


def is_backup(device: BlockDevice, fields: BootFields, number: int) -> bool:
    """Whether a sector is a boot sector of FAT."""
    if not 0 < number < fields.reserved_sectors:
        return False
    sector = _sector(device, fields, number)
    return geometry.fault(sector) is None and BootFields.of(sector).is_fat32


def _summary_place(device: BlockDevice, fields: BootFields) -> int:
    said = fields.fsinfo_sector
    seen = [number for number in (said, SUMMARY_SECTOR) if is_summary(device, fields, number)]
    if seen:
        return seen[0]
    is_possible = 0 < said < fields.reserved_sectors and said != fields.backup_sector
    return said if is_possible else SUMMARY_SECTOR if fields.reserved_sectors > 1 else 0


def _backup_place(device: BlockDevice, fields: BootFields, summary: int) -> int:
    said = fields.backup_sector
    tried = dict.fromkeys((said, *BACKUP_SECTORS))
    seen = [number for number in tried if number != summary and is_backup(device, fields, number)]
    if seen:
        return seen[0]
    for number in (said, *BACKUP_SECTORS):
        is_free = number in (said, BACKUP_SECTORS[0]) or is_zero(_sector(device, fields, number))
        if 0 < number < fields.reserved_sectors and number != summary and is_free:
            return number
    return 0


def _sector(device: BlockDevice, fields: BootFields, number: int) -> bytes:
    at = number * fields.sector_bytes
    return read(device, at, SECTOR_BYTES) if at + SECTOR_BYTES <= device.size_bytes else b"\0" * 512
