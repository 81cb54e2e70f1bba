"""How far what is on a disk reaches: empty space of a volume is zeros, and still belongs to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ipva_storage.device import SliceDevice
from ipva_storage.errors import IpvaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage import fat
    from ipva_storage.device import BlockDevice


class Holding(NamedTuple):
    """Something that a disk holds."""

    name: str
    end_bytes: int
    """The first byte of the disk that does not belong to it."""


def behind(device: BlockDevice, size_bytes: int) -> list[Holding]:
    """What on a disk would be damaged if it ended there, also where only zeros would be lost."""
    try:
        return [each for each in _holdings(device) if each.end_bytes > size_bytes]
    except IpvaError:  # what cannot be read is told by the job itself
        return []


def _holdings(device: BlockDevice) -> Iterator[Holding]:
    from ipva_storage import fat, flash
    from ipva_storage.dump.superblock import newest, read_copies

    for volume in fat.find_volumes(device):
        name = "volume" if volume.partition is None else f"partition {volume.partition}"
        yield Holding(f"{name} ({volume.kind})", volume.offset_bytes + _length(device, volume))
    if flash.identify(device):
        yield Holding("flash directory", flash.FLASH_BYTES)
    copies = read_copies(device)
    counts = newest(copies)
    found = None if counts is None else copies[counts].superblock
    if found is not None:
        yield Holding("log of crash dumps", found.ring_end_bytes)


def _length(device: BlockDevice, volume: fat.Volume) -> int:
    """Length of a partition; of a volume without one, as its boot sector gives it."""
    from ipva_storage import fat

    if volume.partition is not None:
        return volume.length_bytes
    try:
        return fat.open(SliceDevice(device, 0, device.size_bytes)).geometry.volume_bytes
    except IpvaError:
        return volume.length_bytes
