"""Where everything of a FAT volume is: the boot sector, read and believed no further than checked.

Imports no NumPy: it is all that `ipva info` needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.errors import FatError

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice

BOOT_BYTES: Final = 512
RECORDS_MAX: Final = 65_536
"""Most records of a folder, 2 MiB. Source: MS, "FAT Directory Structure". Confidence: stated."""
SECTOR_BYTES_ALLOWED: Final = (512, 1024, 2048, 4096)
CLUSTERS_TAKEN_MAX: Final = 1 << 24
"""Most clusters this toolkit opens: a table of 64 MiB in memory. Confidence: chosen."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The places and counts of one volume; every number is checked against the device."""

    fat_bits: int
    """12, 16 or 32: the width of a table entry."""
    sector_bytes: int
    cluster_bytes: int
    cluster_count: int
    """Data clusters, numbered from 2; never more than the table has entries for."""
    claimed_cluster_count: int
    """What the boot sector says; more than `cluster_count` where the table is too small for it."""
    reachable_cluster_count: int
    """Those that lie within the device: fewer on an image that was cut off."""
    volume_bytes: int
    """What the boot sector says the volume is long."""
    fat_offset_bytes: int
    fat_bytes: int
    """Length of one copy of the table."""
    fat_count: int
    mirrored_fat: int | None
    """The only copy in use when mirroring is off, else None."""
    root_offset_bytes: int
    root_entry_count: int
    """Records of the fixed root folder; 0 on FAT32."""
    root_cluster: int
    """First cluster of the root folder; 0 on FAT12 and FAT16."""
    data_offset_bytes: int
    media: int
    fsinfo_offset_bytes: int | None
    backup_offset_bytes: int | None
    volume_id: int | None
    label: str | None
    """The label in the boot sector; the root folder's entry outranks it."""
    boot_label: bytes | None
    """Its 11 bytes, or None where the boot sector is too old to have one."""
    state: int
    oddities: tuple[str, ...] = field(default=())
    """What is unusual without being wrong."""

    def cluster_offset_bytes(self, cluster: int) -> int:
        """Where a data cluster starts, in bytes from the start of the volume."""
        return self.data_offset_bytes + (cluster - layout.FIRST_CLUSTER) * self.cluster_bytes

    @property
    def entry_count(self) -> int:
        """Entries of the table that count: the clusters, and the two before them."""
        return self.cluster_count + layout.FIRST_CLUSTER

    def is_cluster(self, number: int) -> bool:
        """Whether a number names a data cluster."""
        return layout.FIRST_CLUSTER <= number < self.entry_count


def parse(device: BlockDevice) -> Geometry:
    """Read the boot sector of a volume.

    Raises:
        FatError: it is no boot sector of FAT, or what it says cannot be.
    """
    if device.size_bytes < BOOT_BYTES:
        raise FatError(f"{device.size_bytes} bytes are too few for a FAT volume", where=device.name)
    return from_boot_sector(read(device, 0, BOOT_BYTES), device.size_bytes, device.name)


def from_boot_sector(sector: bytes, device_bytes: int, name: str) -> Geometry:
    """Work the geometry out of a boot sector.

    Args:
        sector: its 512 bytes.
        device_bytes: length of the device that the volume starts.
        name: what errors call the device.

    Raises:
        FatError: as `parse`.
    """
    boot: Any = layout.BOOT_SECTOR.parse(sector)
    boot_32: Any = layout.BOOT_SECTOR_32.parse(sector)
    fault = _fault(boot, boot_32)
    if fault is not None:
        raise FatError(
            f"it is not a FAT volume: {fault}",
            where=name,
            offset_bytes=0,
            remedy="format it, or name the partition that holds the volume",
        )
    return _measure(boot, boot_32, device_bytes, name)


def fault(sector: bytes) -> str | None:
    """Why 512 bytes cannot be a boot sector of FAT, or None."""
    return _fault(layout.BOOT_SECTOR.parse(sector), layout.BOOT_SECTOR_32.parse(sector))


def _fault(boot: Any, boot_32: Any) -> str | None:
    """Why a boot sector cannot be one, or None."""
    size = boot.cluster_sectors
    fat_sectors = boot.fat_sectors_16 or boot_32.fat_sectors_32
    checks = (
        (boot.signature != layout.BOOT_SIGNATURE, "the signature 55 AA is missing"),
        (boot.sector_bytes not in SECTOR_BYTES_ALLOWED, f"sectors of {boot.sector_bytes} bytes"),
        (size == 0 or size & (size - 1) != 0, f"clusters of {size} sectors"),
        (boot.reserved_sectors == 0, "no reserved sectors"),
        (not 1 <= boot.fat_count <= 15, f"{boot.fat_count} copies of the table"),
        (boot.media != 0xF0 and boot.media < 0xF8, f"media byte 0x{boot.media:02X}"),
        (fat_sectors == 0, "a table of no sectors"),
        (not (boot.volume_sectors_16 or boot.volume_sectors_32), "a volume of no sectors"),
        (boot.fat_sectors_16 != 0 and boot.root_entry_count == 0, "a root folder of no entries"),
    )
    return next((text for is_wrong, text in checks if is_wrong), None)


def _measure(boot: Any, boot_32: Any, device_bytes: int, name: str) -> Geometry:
    is_32 = boot.fat_sectors_16 == 0
    full: Any = boot_32 if is_32 else boot
    sector_bytes = boot.sector_bytes
    fat_sectors = boot_32.fat_sectors_32 if is_32 else boot.fat_sectors_16
    volume_sectors = boot.volume_sectors_16 or boot.volume_sectors_32
    root_bytes = 0 if is_32 else boot.root_entry_count * layout.ENTRY_BYTES
    root_sector = boot.reserved_sectors + boot.fat_count * fat_sectors
    data_sector = root_sector + -(-root_bytes // sector_bytes)
    claimed = (volume_sectors - data_sector) // boot.cluster_sectors
    bits = 32 if is_32 else (12 if claimed <= layout.FAT12_CLUSTERS_MAX else 16)
    entries = fat_sectors * sector_bytes * 8 // bits
    limit = min(layout.BAD_CLUSTER[bits], entries) - layout.FIRST_CLUSTER
    count = min(claimed, limit)
    cluster_bytes = sector_bytes * boot.cluster_sectors
    reachable = (device_bytes - data_sector * sector_bytes) // cluster_bytes
    _refuse(
        (
            (claimed < 1, "the volume ends before its first cluster"),
            (count < 1, "the table has no entry for the first cluster"),
            (reachable < 1, "the device ends before the first cluster"),
            (count > CLUSTERS_TAKEN_MAX, f"{count} clusters are more than this program takes"),
        ),
        name,
    )
    return Geometry(
        fat_bits=bits,
        sector_bytes=sector_bytes,
        cluster_bytes=cluster_bytes,
        cluster_count=count,
        claimed_cluster_count=claimed,
        reachable_cluster_count=min(count, reachable),
        volume_bytes=volume_sectors * sector_bytes,
        fat_offset_bytes=boot.reserved_sectors * sector_bytes,
        fat_bytes=fat_sectors * sector_bytes,
        fat_count=boot.fat_count,
        mirrored_fat=_only_fat(boot_32) if is_32 else None,
        root_offset_bytes=root_sector * sector_bytes,
        root_entry_count=0 if is_32 else boot.root_entry_count,
        root_cluster=boot_32.root_cluster if is_32 else 0,
        data_offset_bytes=data_sector * sector_bytes,
        media=boot.media,
        fsinfo_offset_bytes=_reserved_place(boot_32, boot_32.fsinfo_sector) if is_32 else None,
        backup_offset_bytes=_reserved_place(boot_32, boot_32.backup_sector) if is_32 else None,
        volume_id=full.volume_id if full.extended_signature in (0x28, 0x29) else None,
        label=_label(full),
        boot_label=full.label if full.extended_signature == layout.EXTENDED_SIGNATURE else None,
        state=full.state,
        oddities=tuple(_oddities(full, bits, claimed)),
    )


def _refuse(checks: tuple[tuple[bool, str], ...], name: str) -> None:
    for is_wrong, text in checks:
        if is_wrong:
            raise FatError(
                text,
                where=name,
                offset_bytes=0,
                remedy="the boot sector is damaged, or this is no FAT volume",
            )


def _only_fat(boot_32: Any) -> int | None:
    """The one copy in use, when bit 7 of the flags turns mirroring off and the copy exists."""
    if not boot_32.mirror_flags & 0x80:
        return None
    chosen = int(boot_32.mirror_flags & 0x0F)
    return chosen if chosen < boot_32.fat_count else None


def _reserved_place(boot_32: Any, sector: int) -> int | None:
    """Offset of a sector of the reserved area, or None where the number names none."""
    return sector * boot_32.sector_bytes if 0 < sector < boot_32.reserved_sectors else None


def _label(boot: Any) -> str | None:
    if boot.extended_signature != layout.EXTENDED_SIGNATURE:
        return None
    text: str = boot.label.decode("cp437").rstrip(" \0")
    return None if text in ("", "NO NAME") else text


def _oddities(boot: Any, bits: int, claimed: int) -> list[str]:
    found = []
    if boot.extended_signature == layout.EXTENDED_SIGNATURE:
        text = boot.type_text.decode("latin-1").rstrip(" \0")
        if text.startswith("FAT") and text[3:].isdigit() and int(text[3:]) != bits:
            found.append(
                f"the header calls it {text}, and its {claimed} clusters make it FAT{bits}"
            )
    if bits == 32 and claimed <= layout.FAT16_CLUSTERS_MAX:
        found.append(f"FAT32 with only {claimed} clusters, where the standard wants 65525 or more")
    if bits == 16 and claimed > layout.FAT16_CLUSTERS_MAX:
        found.append(f"a table of 16 bits for {claimed} clusters, which ask for FAT32")
    return found
