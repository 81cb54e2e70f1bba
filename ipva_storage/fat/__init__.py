"""FAT volumes on block devices: format, list, read, write, delete, check; and partition tables.

Finding volumes and opening one read the boot sector only; NumPy comes with the first look at a
table or folder. `summarise` tells size, free space and label without it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ipva_storage.device import SliceDevice, read
from ipva_storage.fat import geometry as _geometry
from ipva_storage.fat import partitions
from ipva_storage.fat.format import format  # noqa: A004 - the door's name in every room
from ipva_storage.fat.partitioning import format_partitioned
from ipva_storage.fat.partitions import Volume, check_table, find_volumes, first_fat
from ipva_storage.fat.summary import VolumeSummary, summarise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.defragmenting import Defragmented, defrag
    from ipva_storage.fat.growing import Grown, GrownDisk, grow, grow_disk
    from ipva_storage.fat.records import FatEntry
    from ipva_storage.fat.volume import FatVolume
    from ipva_storage.findings import Finding

__all__ = [
    "Defragmented",
    "FatEntry",
    "FatVolume",
    "Grown",
    "GrownDisk",
    "Volume",
    "VolumeSummary",
    "check",
    "check_disk",
    "check_table",
    "defrag",
    "find_volumes",
    "first_fat",
    "format",
    "format_partitioned",
    "grow",
    "grow_disk",
    "open",
    "open_first",
    "partitions",
    "summarise",
]


def open(device: BlockDevice, *, code_page: str = "cp437") -> FatVolume:  # noqa: A001
    """Open the volume that a device is.

    Args:
        device: the volume, not the disk; it stays the caller's to close.
        code_page: Python's name for the code page of short names.

    Raises:
        FatError: it is no FAT volume, or its boot sector cannot be believed.
    """
    found = _geometry.parse(device)
    from ipva_storage.fat.volume import FatVolume

    return FatVolume(device, found, code_page=code_page)


def open_first(device: BlockDevice, *, code_page: str = "cp437") -> FatVolume:
    """Open the first FAT volume of a disk, partitioned or not.

    Raises:
        FatError: there is none; the text says what to do.
    """
    return open(first_fat(device), code_page=code_page)


def check(device: BlockDevice) -> Iterator[Finding]:
    """What is wrong with a volume; it is only read. The device is the volume, not the disk.

    Raises:
        DeviceError: the medium cannot be read.
    """
    from ipva_storage.fat.checking import check as _check

    return _check(device)


def check_disk(device: BlockDevice) -> Iterator[Finding]:
    """What is wrong with a disk: its partition table, and each FAT volume on it.

    A partition that the table does not call a FAT volume, and that is none, is left alone, as is
    one that is blank (PART003). Places are counted from the start of the disk.

    Raises:
        DeviceError: the medium cannot be read.
    """
    yield from check_table(device)
    for volume in find_volumes(device):
        part = SliceDevice(device, volume.offset_bytes, volume.length_bytes)
        is_lost = volume.is_meant_for_fat and any(read(part, 0, min(512, part.size_bytes)))
        if volume.kind == "unknown" and not is_lost:
            continue
        for found in check(part):
            at = found.offset_bytes
            place = None if at is None else at + volume.offset_bytes
            yield replace(found, where=device.name, offset_bytes=place)


def __getattr__(name: str) -> object:
    """Import what brings NumPy when it is first named."""
    if name in ("Grown", "GrownDisk", "grow", "grow_disk"):
        from ipva_storage.fat import growing

        found: object = getattr(growing, name)
        return found
    if name in ("Defragmented", "defrag"):
        from ipva_storage.fat.defragmenting import Defragmented, defrag

        return defrag if name == "defrag" else Defragmented
    if name == "FatVolume":
        from ipva_storage.fat.volume import FatVolume

        return FatVolume
    if name == "FatEntry":
        from ipva_storage.fat.records import FatEntry

        return FatEntry
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
