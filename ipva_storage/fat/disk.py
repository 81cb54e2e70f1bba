"""All FAT volumes of a disk, checked and mended: those too of which the boot sector is lost."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ipva_storage.device import OverlayDevice, SliceDevice, read
from ipva_storage.errors import FatError
from ipva_storage.fat import geometry, layouts
from ipva_storage.fat.checking import REPAIR
from ipva_storage.fat.checking import check as check_volume
from ipva_storage.fat.partitions import Partition, Volume, check_table, find_volumes, read_table
from ipva_storage.fat.repairing import Repaired
from ipva_storage.fat.repairing import repair as repair_volume
from ipva_storage.findings import Finding
from ipva_storage.progress import silent
from ipva_storage.units import SECTOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.progress import Progress

_LENGTH_IN_ENTRY: Final = 12
"""Where a partition's entry has its length. Source: the MBR's layout, `formats/spec/mbr.md`."""


@dataclass(frozen=True, slots=True)
class RepairedVolume:
    """What a repair did to one volume of a disk."""

    partition: int | None
    """Its number, or None where the disk has no partition table."""
    repaired: Repaired


def check(device: BlockDevice, *, progress: Progress = silent) -> Iterator[Finding]:
    """What is wrong with a disk: its partition table, and each FAT volume on it.

    Raises:
        DeviceError: the medium cannot be read.
    """
    yield from check_table(device)
    for volume in volumes(device):
        found = _beyond(device, volume)
        if found is not None:
            yield found
        part = SliceDevice(device, volume.offset_bytes, _room(device, volume))
        for one in check_volume(part, progress=progress):
            yield _placed(one, device, volume)


def repair(
    device: BlockDevice, *, dry_run: bool = False, progress: Progress = silent
) -> list[RepairedVolume]:
    """Mend each FAT volume of a disk.

    Raises:
        DeviceError: the medium cannot be read or written.
    """
    done = []
    if dry_run:
        device = OverlayDevice(device)
    for volume in volumes(device):
        found = _beyond(device, volume)
        part = SliceDevice(device, volume.offset_bytes, _room(device, volume))
        one = repair_volume(part, progress=progress)
        if found is not None:
            _lengthen(device, volume, part.size_bytes)
            one = replace(one, fixed=(found, *one.fixed), is_changed=True)
        done.append(RepairedVolume(volume.partition, _all_placed(one, device, volume)))
    return done


def volumes(device: BlockDevice) -> Iterator[Volume]:
    """The FAT volumes of a disk, and the places where one was, by what is left of it."""
    found = find_volumes(device)
    if not found and (lost := layouts.judge(device)) is not None:
        yield Volume(0, device.size_bytes, f"FAT{lost.geometry.fat_bits}", None)
    for volume in found:
        part = SliceDevice(device, volume.offset_bytes, volume.length_bytes)
        is_lost = volume.is_meant_for_fat and any(read(part, 0, min(512, part.size_bytes)))
        if volume.kind != "unknown" or is_lost or _is_left(part, volume):
            yield volume


def _is_left(part: BlockDevice, volume: Volume) -> bool:
    """Whether a partition for FAT that begins with zeros still holds a volume."""
    return volume.is_meant_for_fat and layouts.judge(part) is not None


# -- a volume that its partition cuts ---------------------------------------------------------


def _room(device: BlockDevice, volume: Volume) -> int:
    """How long the volume's device is: its partition, or more if the volume says so and may."""
    entry = _entry(device, volume)
    if entry is None:
        return volume.length_bytes
    part = SliceDevice(device, volume.offset_bytes, volume.length_bytes)
    try:
        said_bytes = geometry.parse(part).volume_bytes
    except FatError:
        return volume.length_bytes
    starts = [each.first_sector * SECTOR_BYTES for each in read_table(device)]
    after = [at for at in starts if at > volume.offset_bytes]
    room_bytes = min([*after, device.size_bytes]) - volume.offset_bytes
    return said_bytes if volume.length_bytes < said_bytes <= room_bytes else volume.length_bytes


def _entry(device: BlockDevice, volume: Volume) -> Partition | None:
    """The entry of a primary partition."""
    if volume.partition is None or volume.partition > 4:
        return None
    every = (each for each in read_table(device) if each.number == volume.partition)
    return next(every, None)


def _beyond(device: BlockDevice, volume: Volume) -> Finding | None:
    length_bytes = _room(device, volume)
    entry = _entry(device, volume)
    if entry is None or length_bytes == volume.length_bytes:
        return None
    text = f"the volume has {length_bytes} bytes, its partition {volume.length_bytes}"
    at = entry.entry_offset_bytes
    return Finding("FAT030", "partition table", text, device.name, at, repair=REPAIR)


def _lengthen(device: BlockDevice, volume: Volume, length_bytes: int) -> None:
    """Make the partition as long as its volume."""
    entry = _entry(device, volume)
    assert entry is not None
    sectors = struct.pack("<I", -(-length_bytes // SECTOR_BYTES))
    device.write(entry.entry_offset_bytes + _LENGTH_IN_ENTRY, sectors)
    device.flush()


# -- places -----------------------------------------------------------------------------------


def _placed(found: Finding, device: BlockDevice, volume: Volume) -> Finding:
    at = found.offset_bytes
    place = None if at is None else at + volume.offset_bytes
    return replace(found, where=device.name, offset_bytes=place)


def _all_placed(done: Repaired, device: BlockDevice, volume: Volume) -> Repaired:
    return replace(
        done,
        fixed=tuple(_placed(one, device, volume) for one in done.fixed),
        left=tuple(_placed(one, device, volume) for one in done.left),
    )
