"""FAT volumes on block devices: format, list, read, write, delete, check; and partition tables.

Finding volumes and opening one read the boot sector only; NumPy comes with the first look at a
table or folder. `summarise` tells size, free space and label without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from ipva_storage.fat import geometry as _geometry
from ipva_storage.fat import partitions
from ipva_storage.fat.format import format  # noqa: A004 - the door's name in every room
from ipva_storage.fat.partitioning import format_partitioned
from ipva_storage.fat.partitions import Volume, check_table, find_volumes, first_fat
from ipva_storage.fat.summary import VolumeSummary, summarise
from ipva_storage.progress import silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.defragmenting import Defragmented, defrag
    from ipva_storage.fat.deleted import DeletedFiles
    from ipva_storage.fat.disk import RepairedVolume
    from ipva_storage.fat.growing import Grown, GrownDisk, grow, grow_disk
    from ipva_storage.fat.records import FatEntry
    from ipva_storage.fat.repairing import Repaired
    from ipva_storage.fat.restoring import Undeleted
    from ipva_storage.fat.volume import FatVolume
    from ipva_storage.findings import Finding
    from ipva_storage.progress import Progress

__all__ = [
    "Defragmented",
    "DeletedFiles",
    "FatEntry",
    "FatVolume",
    "Grown",
    "GrownDisk",
    "RepairedVolume",
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
    "repair",
    "repair_disk",
    "summarise",
    "undelete",
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


def check(device: BlockDevice, *, progress: Progress = silent) -> Iterator[Finding]:
    """What is wrong with a volume; it is only read. The device is the volume, not the disk.

    Raises:
        DeviceError: the medium cannot be read.
    """
    from ipva_storage.fat.checking import check as _check

    return _check(device, progress=progress)


def repair(device: BlockDevice, *, dry_run: bool = False, progress: Progress = silent) -> Repaired:
    """Mend a volume, as far as anything that is left allows.

    Args:
        device: the volume, not the disk; it stays the caller's to close.
        dry_run: find out what would be mended, and write nothing.
        progress: told how far the checks are.

    Raises:
        DeviceError: the medium cannot be read or written.
    """
    from ipva_storage.fat.repairing import repair as _repair

    return _repair(device, dry_run=dry_run, progress=progress)


def check_disk(device: BlockDevice, *, progress: Progress = silent) -> Iterator[Finding]:
    """What is wrong with a disk: its partition table, and each FAT volume on it.

    A partition that the table does not call a FAT volume, and that is none, is left alone, as is
    one that is blank (PART003). Places are counted from the start of the disk.

    Raises:
        DeviceError: the medium cannot be read.
    """
    from ipva_storage.fat import disk

    return disk.check(device, progress=progress)


def repair_disk(
    device: BlockDevice, *, dry_run: bool = False, progress: Progress = silent
) -> list[RepairedVolume]:
    """Mend each FAT volume of a disk, partitioned or not; see `repair`.

    Returns:
        One for each volume; nothing where the disk has none, nor what is left of one. Places are
        counted from the start of the disk.

    Raises:
        DeviceError: the medium cannot be read or written.
    """
    from ipva_storage.fat import disk

    return disk.repair(device, dry_run=dry_run, progress=progress)


def undelete(
    device: BlockDevice, path: str, *, dry_run: bool = False, code_page: str = "cp437"
) -> Undeleted:
    """Put a deleted file, or a folder with all that was in it, back where it was.

    Args:
        device: the volume, not the disk; it stays the caller's to close.
        path: where it was; of several of that name the one of which most can be had.
        dry_run: find out what would be put back, and write nothing.
        code_page: of short names.

    Raises:
        FatError: it is lost, or it was in a folder that is deleted, too.
        FatExistsError: there is something of its name now.
        FatNotFoundError: none of that name was deleted.
    """
    from ipva_storage.fat.restoring import undelete as _undelete

    return _undelete(device, path, dry_run=dry_run, code_page=code_page)


_ON_DEMAND: Final = {
    "Defragmented": "defragmenting",
    "DeletedFiles": "deleted",
    "FatEntry": "records",
    "FatVolume": "volume",
    "Grown": "growing",
    "GrownDisk": "growing",
    "RepairedVolume": "disk",
    "defrag": "defragmenting",
    "grow": "growing",
    "grow_disk": "growing",
}
"""Names, and the module of each, which brings NumPy."""


def __getattr__(name: str) -> object:
    """Import what is needed less often when it is first named."""
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
