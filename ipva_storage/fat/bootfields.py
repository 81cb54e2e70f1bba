"""The fields of a boot sector on which every place of a volume depends, read and put back.

Imports no NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from ipva_formats import fat as layout

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLES: Final = {
    "sector_bytes": "bytes a sector",
    "cluster_sectors": "sectors a cluster",
    "reserved_sectors": "sectors before the table",
    "fat_count": "copies of the table",
    "root_entry_count": "entries of the root folder",
    "volume_sectors": "sectors in all",
    "media": "as media byte",
    "fat_sectors": "sectors of one copy of the table",
    "root_cluster": "as first cluster of the root folder",
    "fsinfo_sector": "as sector of the free-space summary",
    "backup_sector": "as sector of its backup",
    "mirror_flags": "as flags of the copy in use",
}
"""What follows the number, for people."""


@dataclass(frozen=True, slots=True)
class BootFields:
    """What a boot sector says, or should say."""

    sector_bytes: int
    cluster_sectors: int
    reserved_sectors: int
    fat_count: int
    root_entry_count: int
    volume_sectors: int
    media: int
    fat_sectors: int
    is_fat32: bool
    root_cluster: int = 0
    fsinfo_sector: int = 0
    backup_sector: int = 0
    mirror_flags: int = 0

    @classmethod
    def of(cls, sector: bytes) -> BootFields:
        """Read them; whatever they say, they are only numbers."""
        boot: Any = layout.BOOT_SECTOR.parse(sector)
        boot_32: Any = layout.BOOT_SECTOR_32.parse(sector)
        is_32 = boot.fat_sectors_16 == 0
        return cls(
            boot.sector_bytes,
            boot.cluster_sectors,
            boot.reserved_sectors,
            boot.fat_count,
            0 if is_32 else boot.root_entry_count,
            boot.volume_sectors_16 or boot.volume_sectors_32,
            boot.media,
            boot_32.fat_sectors_32 if is_32 else boot.fat_sectors_16,
            is_32,
            *(
                (
                    boot_32.root_cluster,
                    boot_32.fsinfo_sector,
                    boot_32.backup_sector,
                    boot_32.mirror_flags,
                )
                if is_32
                else ()
            ),
        )

    @property
    def is_storable(self) -> bool:
        """Whether each number goes into its field."""
        words = (
            self.sector_bytes,
            self.reserved_sectors,
            self.root_entry_count,
            self.backup_sector,
        )
        return (
            max(words) <= 0xFFFF
            and max(self.cluster_sectors, self.fat_count, self.media) <= 0xFF
            and self.fat_sectors <= (0xFFFFFFFF if self.is_fat32 else 0xFFFF)
            and self.volume_sectors <= 0xFFFFFFFF
        )

    def differences(self, other: BootFields) -> Iterator[tuple[str, int, int]]:
        """Where another one says something else: name, ours, theirs."""
        for field in fields(self):
            ours, theirs = getattr(self, field.name), getattr(other, field.name)
            if ours != theirs and field.name in TITLES:
                yield field.name, ours, theirs

    def put_into(self, sector: bytes) -> bytes:
        """A boot sector with these fields; what else `sector` holds stays, where it can be right.

        Args:
            sector: 512 bytes, of which nothing need be right.
        """
        kind = layout.BOOT_SECTOR_32 if self.is_fat32 else layout.BOOT_SECTOR
        boot: Any = kind.parse(sector)
        boot.sector_bytes = self.sector_bytes
        boot.cluster_sectors = self.cluster_sectors
        boot.reserved_sectors = self.reserved_sectors
        boot.fat_count = self.fat_count
        boot.root_entry_count = self.root_entry_count
        boot.media = self.media
        self._put_sizes(boot)
        _put_rest(boot, self.is_fat32)
        return kind.build(boot)

    def _put_sizes(self, boot: Any) -> None:
        is_small = self.volume_sectors <= 0xFFFF and not self.is_fat32
        keeps_long = not boot.volume_sectors_16 and boot.volume_sectors_32 == self.volume_sectors
        boot.volume_sectors_16 = self.volume_sectors if is_small and not keeps_long else 0
        boot.volume_sectors_32 = 0 if boot.volume_sectors_16 else self.volume_sectors
        boot.fat_sectors_16 = 0 if self.is_fat32 else self.fat_sectors
        if self.is_fat32:
            boot.fat_sectors_32 = self.fat_sectors
            boot.root_cluster = self.root_cluster
            boot.fsinfo_sector = self.fsinfo_sector
            boot.backup_sector = self.backup_sector
            boot.mirror_flags = self.mirror_flags
            boot.version = 0
            boot.reserved = bytes(12)


def _put_rest(boot: Any, is_32: bool) -> None:
    """Jump, name, geometry of the drive, identity and signature: kept where they can be right."""
    if not is_jump(boot.jump):
        boot.jump = bytes([0xEB, 0x58 if is_32 else 0x3C, 0x90])
        if not all(0x20 <= byte < 0x7F for byte in boot.oem_name):  # nothing of it is left
            boot.oem_name = b"MSWIN4.1"
            boot.hidden_sectors = 0
            boot.boot_code = bytes([0xF4, 0xEB, 0xFD]).ljust(len(boot.boot_code), b"\0")
    if not (1 <= boot.track_sectors <= 63 and 1 <= boot.head_count <= 255):
        boot.track_sectors, boot.head_count = 63, 255
    if boot.extended_signature not in (0x28, layout.EXTENDED_SIGNATURE):
        boot.extended_signature = layout.EXTENDED_SIGNATURE
        boot.drive_number, boot.state, boot.volume_id = 0x80, 0, 0
        boot.label, boot.type_text = layout.NO_LABEL, b"FAT     "
    boot.signature = layout.BOOT_SIGNATURE


def is_jump(jump: bytes) -> bool:
    """Whether a boot sector begins as all do: a short jump and a nop, or a long jump.

    Source: MS, BS_jmpBoot. Confidence: stated.
    """
    return (jump[0] == 0xEB and jump[2] == 0x90) or jump[0] == 0xE9
