"""The boot sector, whose one write decides which layout a volume has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.fat import geometry
from ipva_storage.fat.format import FAT32_BACKUP_SECTOR, default_code

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.growing.layouts import Layout

FSINFO_SECTOR: Final = 1
_JUMP_32: Final = b"\xeb\x58\x90"
_COMMON: Final = (
    "oem_name",
    "sector_bytes",
    "cluster_sectors",
    "media",
    "track_sectors",
    "head_count",
    "hidden_sectors",
    "drive_number",
    "state",
    "signature",
)
_NAMED: Final = ("extended_signature", "volume_id", "label")


def load(device: BlockDevice) -> bytes:
    """The boot sector, 512 bytes."""
    return read(device, 0, geometry.BOOT_BYTES)


def switch(device: BlockDevice, sector: bytes) -> Geometry:
    """Write a boot sector, durably, and the backup after it; the layout that is then."""
    device.flush()
    device.write(0, sector)
    device.flush()
    found = geometry.parse(device)
    back_up(device, found)
    return found


def back_up(device: BlockDevice, found: Geometry) -> None:
    """Make the backup of the boot sector, where there is one, what the boot sector is."""
    if found.backup_offset_bytes is None:
        return
    sector = load(device)
    if read(device, found.backup_offset_bytes, len(sector)) != sector:
        device.write(found.backup_offset_bytes, sector)
        device.flush()


def with_layout(sector: bytes, new: Layout) -> bytes:
    """A boot sector with the same type of volume in another layout; all else stays."""
    is_32 = new.fat_bits == 32
    struct = layout.BOOT_SECTOR_32 if is_32 else layout.BOOT_SECTOR
    boot: Any = struct.parse(sector)
    boot.reserved_sectors, boot.fat_count = new.reserved_sectors, new.fat_count
    small = new.volume_sectors if not is_32 and new.volume_sectors <= 0xFFFF else 0
    boot.volume_sectors_16 = small
    boot.volume_sectors_32 = 0 if small else new.volume_sectors
    if is_32:
        boot.fat_sectors_32 = new.fat_sectors
    else:
        boot.fat_sectors_16 = new.fat_sectors
        if boot.type_text in (b"FAT12   ", b"FAT16   "):
            boot.type_text = f"FAT{new.fat_bits}   ".encode()
    return struct.build(boot)


def with_fields(sector: bytes, **fields: int) -> bytes:
    """A boot sector of FAT32 with other values of some fields."""
    boot: Any = layout.BOOT_SECTOR_32.parse(sector)
    boot.update(fields)
    return layout.BOOT_SECTOR_32.build(boot)


def as_fat32(sector: bytes, new: Layout, *, root_cluster: int, first_sector: int) -> bytes:
    """A boot sector of FAT32 for what was FAT12 or FAT16.

    Its code is replaced by ours, which starts nothing: code for the other type would read the new
    header wrongly.

    Args:
        sector: as it is.
        new: the new layout.
        root_cluster: where the root folder will start.
        first_sector: where the backup is for now; FSInfo is four sectors behind.
    """
    old: Any = layout.BOOT_SECTOR.parse(sector)
    is_named = old.extended_signature == layout.EXTENDED_SIGNATURE
    names = {name: old[name] for name in _NAMED} if is_named else _nameless()
    return layout.BOOT_SECTOR_32.build(
        {
            **{name: old[name] for name in _COMMON},
            **names,
            "jump": _JUMP_32,
            "reserved_sectors": new.reserved_sectors,
            "fat_count": new.fat_count,
            "root_entry_count": 0,
            "volume_sectors_16": 0,
            "volume_sectors_32": new.volume_sectors,
            "fat_sectors_16": 0,
            "fat_sectors_32": new.fat_sectors,
            "mirror_flags": 0,
            "version": 0,
            "root_cluster": root_cluster,
            "fsinfo_sector": first_sector + 4,
            "backup_sector": first_sector,
            "reserved": bytes(12),
            "type_text": b"FAT32   ",
            "boot_code": default_code(32),
        }
    )


def _nameless() -> dict[str, Any]:
    return {
        "extended_signature": layout.EXTENDED_SIGNATURE,
        "volume_id": 0,
        "label": b"NO NAME    ",
    }


def is_provisional(sector: bytes) -> bool:
    """Whether FSInfo and the backup are where `as_fat32` puts them for a while."""
    boot: Any = layout.BOOT_SECTOR_32.parse(sector)
    place = int(boot.backup_sector)
    is_moved: bool = (
        place > FAT32_BACKUP_SECTOR and boot.fsinfo_sector == place + 4 and not boot.fat_sectors_16
    )
    return is_moved
