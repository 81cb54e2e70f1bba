"""The partition table, and which volumes a disk has.

A disk of the appliance may be one volume from its first sector on (no table), or have an MBR.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ipva_formats import mbr as layout
from ipva_storage.device import SliceDevice, read
from ipva_storage.errors import FatError
from ipva_storage.fat import geometry
from ipva_storage.findings import Finding
from ipva_storage.units import SECTOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice

LOGICAL_MAX: Final = 128
"""Most logical partitions that are followed. Confidence: chosen."""
_FIRST_LOGICAL: Final = 5


@dataclass(frozen=True, slots=True)
class Volume:
    """A place on a disk where a file system is or could be."""

    offset_bytes: int
    length_bytes: int
    """Cut at the end of the device."""
    kind: str
    """`FAT12`, `FAT16`, `FAT32` or `unknown`, by content."""
    partition: int | None
    """1 to 4, from 5 on in an extended partition; None without a partition table."""
    is_meant_for_fat: bool = True
    """Whether the partition table says that it is a FAT volume; True without a table."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One used entry of a partition table."""

    number: int
    kind: int
    """The type byte."""
    state: int
    first_sector: int
    """From the start of the disk, in sectors of 512 bytes."""
    length_sectors: int
    entry_offset_bytes: int
    """Where the entry itself is."""


def find_volumes(device: BlockDevice) -> list[Volume]:
    """The volumes of a disk, in the order of their partitions.

    Returns:
        One with `partition` None when the disk is a FAT volume from its first sector on; else one
        a partition (not the extended one itself); nothing on a blank disk.

    Raises:
        DeviceError: it cannot be read.
    """
    kind = _kind(device)
    if kind is not None:
        return [Volume(0, device.size_bytes, kind, None)]
    found = []
    for partition in read_table(device):
        at = partition.first_sector * SECTOR_BYTES
        if partition.kind in layout.KINDS_EXTENDED or at >= device.size_bytes:
            continue
        length = min(partition.length_sectors * SECTOR_BYTES, device.size_bytes - at)
        content = _kind(SliceDevice(device, at, length))
        is_meant = partition.kind in layout.KINDS_FAT
        found.append(Volume(at, length, content or "unknown", partition.number, is_meant))
    return found


def first_fat(device: BlockDevice) -> BlockDevice:
    """The first FAT volume of a disk as a device.

    Raises:
        FatError: there is none; it says what is there instead.
    """
    volumes = find_volumes(device)
    for volume in volumes:
        if volume.kind != "unknown":
            return SliceDevice(device, volume.offset_bytes, volume.length_bytes)
    if volumes:
        what = f"none of its {len(volumes)} partitions holds a FAT volume"
    elif device.size_bytes >= SECTOR_BYTES and any(read(device, 0, SECTOR_BYTES)):
        what = "it holds neither a FAT volume nor a partition table"
    else:
        what = "it is not formatted"
    raise FatError(
        what, where=device.name, offset_bytes=0, remedy="see what it is with: ipva info DISK"
    )


def _kind(device: BlockDevice) -> str | None:
    try:
        return f"FAT{geometry.parse(device).fat_bits}"
    except FatError:
        return None


def read_table(device: BlockDevice) -> list[Partition]:
    """The used entries of the partition table: primary ones, then logical ones.

    A table without signature, or with a state byte that no table has, counts as none. A ring of
    extended tables ends where it closes.
    """
    table = _table_at(device, 0)
    if table is None:
        return []
    found = []
    for index, entry in enumerate(table.partitions):
        if entry.kind != layout.KIND_EMPTY and entry.length_sectors:
            found.append(_partition(index + 1, entry, 0, 0, index))
    for extended in [item for item in found if item.kind in layout.KINDS_EXTENDED]:
        number = max(item.number for item in found)
        found.extend(_logical(device, extended, max(number + 1, _FIRST_LOGICAL)))
    return found


def _table_at(device: BlockDevice, offset_bytes: int) -> Any:
    """The table in a sector, or None where the sector holds none."""
    if offset_bytes + SECTOR_BYTES > device.size_bytes:
        return None
    table: Any = layout.MBR.parse(read(device, offset_bytes, SECTOR_BYTES))
    if table.signature != layout.SIGNATURE:
        return None
    states = {entry.state for entry in table.partitions}
    return table if states <= {0, layout.STATE_ACTIVE} else None


def _partition(
    number: int, entry: Any, base_sector: int, table_sector: int, index: int
) -> Partition:
    return Partition(
        number=number,
        kind=entry.kind,
        state=entry.state,
        first_sector=base_sector + entry.first_sector,
        length_sectors=entry.length_sectors,
        entry_offset_bytes=table_sector * SECTOR_BYTES + 446 + 16 * index,
    )


def _logical(device: BlockDevice, extended: Partition, number: int) -> Iterator[Partition]:
    """The logical partitions of an extended one: a chain of tables, one partition in each."""
    table_sector, seen = extended.first_sector, set[int]()
    while table_sector not in seen and len(seen) < LOGICAL_MAX:
        seen.add(table_sector)
        table = _table_at(device, table_sector * SECTOR_BYTES)
        if table is None:
            return
        following = None
        for index, entry in enumerate(table.partitions[:2]):
            if entry.kind in layout.KINDS_EXTENDED:
                following = extended.first_sector + entry.first_sector
            elif entry.kind != layout.KIND_EMPTY and entry.length_sectors:
                yield _partition(number, entry, table_sector, table_sector, index)
                number += 1
        if following is None:
            return
        table_sector = following


def check_table(device: BlockDevice) -> Iterator[Finding]:
    """What is wrong with the partition table of a disk; nothing where the disk has none."""
    if _kind(device) is not None:
        return
    partitions = read_table(device)
    yield from _check_places(device, partitions)
    yield from _check_overlaps(device, partitions)
    for partition in partitions:
        expected = layout.KINDS_FAT.get(partition.kind)
        at = partition.first_sector * SECTOR_BYTES
        if expected is None or at >= device.size_bytes:
            continue
        length = min(partition.length_sectors * SECTOR_BYTES, device.size_bytes - at)
        if _kind(SliceDevice(device, at, length)) is None:
            yield _finding(
                "PART003", device, partition, f"partition {partition.number} holds no FAT volume"
            )


def _check_places(device: BlockDevice, partitions: list[Partition]) -> Iterator[Finding]:
    for partition in partitions:
        end = (partition.first_sector + partition.length_sectors) * SECTOR_BYTES
        if end > device.size_bytes:
            yield _finding(
                "PART001",
                device,
                partition,
                f"partition {partition.number} ends at byte {end}, the disk at {device.size_bytes}",
            )
    if sum(partition.state == layout.STATE_ACTIVE for partition in partitions) > 1:
        yield _finding("PART004", device, partitions[0], "more than one partition is active")


def _check_overlaps(device: BlockDevice, partitions: list[Partition]) -> Iterator[Finding]:
    plain = [item for item in partitions if item.kind not in layout.KINDS_EXTENDED]
    plain.sort(key=lambda item: item.first_sector)
    for before, after in itertools.pairwise(plain):
        if before.first_sector + before.length_sectors > after.first_sector:
            text = f"partitions {before.number} and {after.number} overlap"
            yield _finding("PART002", device, after, text)
        elif before.first_sector == 0:
            yield _finding(
                "PART002", device, before, "a partition starts in the table's own sector"
            )


def _finding(code: str, device: BlockDevice, partition: Partition, message: str) -> Finding:
    return Finding(
        code,
        "partition table",
        message,
        where=device.name,
        offset_bytes=partition.entry_offset_bytes,
    )
