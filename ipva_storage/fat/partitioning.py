"""Writing a partition table: a new one with one partition, and changes of one entry.

A table is one sector, so that each of these is one write, and a power cut leaves the table before
or after it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ipva_formats import mbr as layout
from ipva_storage.device import OverlayDevice, SliceDevice, read
from ipva_storage.errors import UsageError
from ipva_storage.fat import geometry
from ipva_storage.fat.format import format as make
from ipva_storage.fat.partitions import Partition, read_table
from ipva_storage.units import MIB, SECTOR_BYTES

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice

FIRST_SECTOR: Final = MIB // SECTOR_BYTES
"""Where the one partition starts. Source: Windows since Vista, fdisk. Confidence: stated."""
FIRST_SECTOR_SMALL: Final = 63
"""On small disks: behind the first track. Source: MS-DOS. Confidence: stated."""
_SMALL_BYTES: Final = 16 * MIB
_KIND_SMALL_SECTORS: Final = 65536
"""A FAT16 partition below has a type of its own. Source: Microsoft. Confidence: stated."""
_KINDS: Final = {12: 0x01, 16: 0x0E, 32: 0x0C}
"""The type bytes that we give, with LBA where there is one. Source: Microsoft."""
_KIND_FAT16_SMALL: Final = 0x04
_CHS_LAST: Final = b"\xfe\xff\xff"
"""The last place there is, for all behind it. Source: UEFI 2.10, 5.2.1. Confidence: stated."""
SECTORS_MAX: Final = 0xFFFFFFFF
"""Sectors that an entry can count: 2 TiB. Confidence: stated."""


class Room(NamedTuple):
    """A place on a disk, in sectors of 512 bytes."""

    first_sector: int
    length_sectors: int

    def of(self, device: BlockDevice) -> SliceDevice:
        """The place as a device."""
        at = self.first_sector * SECTOR_BYTES
        return SliceDevice(device, at, self.length_sectors * SECTOR_BYTES)


def format_partitioned(device: BlockDevice, **wishes: Any) -> BlockDevice:
    """Give a disk a partition table with one partition, and make an empty volume in that.

    The table comes last, so that a power cut leaves no volume rather than half of one.

    Args:
        device: the disk; what was on it is lost.
        wishes: as for `format`.

    Returns:
        The volume.

    Raises:
        UsageError: the disk is too small, or as `format`.
        DeviceError: the medium refused.
    """
    room = room_for_one(device)
    part = room.of(device)
    wishes["hidden_sectors"] = room.first_sector
    make(OverlayDevice(part), **wishes)  # refuses before anything is lost
    device.discard(0, room.first_sector * SECTOR_BYTES)
    device.flush()
    make(part, **wishes)
    found = geometry.parse(part)
    write_one(device, found.fat_bits, disk_id=found.volume_id or 0)
    return part


def room_for_one(device: BlockDevice) -> Room:
    """Where the one partition of a disk goes: all of it but a gap for the table in front.

    Raises:
        UsageError: the disk is too small.
    """
    first = FIRST_SECTOR if device.size_bytes > _SMALL_BYTES else FIRST_SECTOR_SMALL
    at = first * SECTOR_BYTES
    if device.size_bytes < 2 * at:
        raise UsageError(
            f"{device.size_bytes} bytes are too few for a partition table and a volume",
            where=device.name,
            remedy="make the disk larger, or leave the table out",
        )
    return Room(first, min(device.size_bytes // SECTOR_BYTES - first, SECTORS_MAX))


def write_one(device: BlockDevice, fat_bits: int, *, disk_id: int) -> None:
    """Write a table with one partition, where `room_for_one` says, over whatever was there.

    Args:
        device: the disk.
        fat_bits: of the volume in the partition.
        disk_id: 32 bits.
    """
    first, count = room_for_one(device)
    empty = {"state": 0, "first_chs": bytes(3), "kind": 0, "last_chs": bytes(3)}
    empty_entry = {**empty, "first_sector": 0, "length_sectors": 0}
    entry = {
        "state": 0,
        "first_chs": chs(first),
        "kind": kind_of(fat_bits, count),
        "last_chs": chs(first + count - 1),
        "first_sector": first,
        "length_sectors": count,
    }
    table = layout.MBR.build(
        {
            "boot_code": bytes(440),
            "disk_id": disk_id,
            "reserved": bytes(2),
            "partitions": [entry, empty_entry, empty_entry, empty_entry],
            "signature": layout.SIGNATURE,
        }
    )
    device.write(0, table)
    device.flush()


def kind_of(fat_bits: int, length_sectors: int) -> int:
    """The type byte for a partition with such a volume."""
    if fat_bits == 16 and length_sectors < _KIND_SMALL_SECTORS:
        return _KIND_FAT16_SMALL
    return _KINDS[fat_bits]


def chs(sector: int) -> bytes:
    """A place as cylinder, head and sector, with 255 heads and 63 sectors."""
    track, sector_index = divmod(sector, 63)
    cylinder, head = divmod(track, 255)
    if cylinder > 1023:
        return _CHS_LAST
    return bytes([head, sector_index + 1 | cylinder >> 2 & 0xC0, cylinder & 0xFF])


def room_behind(device: BlockDevice, partition: Partition) -> int:
    """How long a primary partition could be, in sectors, with what is free behind it."""
    starts = [
        other.first_sector
        for other in read_table(device)
        if other.number != partition.number and other.first_sector > partition.first_sector
    ]
    end = min([*starts, device.size_bytes // SECTOR_BYTES])
    return min(end - partition.first_sector, SECTORS_MAX)


def change(
    device: BlockDevice,
    partition: Partition,
    *,
    length_sectors: int | None = None,
    kind: int | None = None,
) -> Partition:
    """Give a partition another length or type, in one write; nothing where it has them already.

    Returns:
        The partition as it is then.
    """
    new = replace(
        partition,
        length_sectors=partition.length_sectors if length_sectors is None else length_sectors,
        kind=partition.kind if kind is None else kind,
    )
    if new == partition:
        return partition
    at = partition.entry_offset_bytes
    entry: Any = layout.PARTITION.parse(read(device, at, layout.PARTITION.sizeof()))
    entry.kind, entry.length_sectors = new.kind, new.length_sectors
    entry.last_chs = chs(new.first_sector + new.length_sectors - 1)
    device.write(at, layout.PARTITION.build(entry))
    device.flush()
    return new
