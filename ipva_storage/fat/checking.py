"""The check of a volume: everything wrong with it, found without writing.

The order is from the boot sector inwards; what comes first explains what comes after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.errors import FatError
from ipva_storage.fat import geometry, judging
from ipva_storage.fat.fsinfo import FsInfo
from ipva_storage.fat.survey import Survey, printable
from ipva_storage.fat.table import FatTable
from ipva_storage.findings import Finding
from ipva_storage.progress import silent
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.progress import Progress

_STATE_AT: Final = {12: 0x25, 16: 0x25, 32: 0x41}
"""Offset of the state byte in the boot sector."""
_NO_LABEL: Final = b"NO NAME    "


def check(device: BlockDevice, *, progress: Progress = silent) -> Iterator[Finding]:
    """What is wrong with the volume on `device`; it is only read.

    Args:
        device: the volume.
        progress: told how much of what is read has been read.

    Raises:
        DeviceError: the medium cannot be read.
    """
    try:
        found = geometry.parse(device)
    except FatError as error:
        yield Finding("FAT001", "boot sector", error.message, where=device.name, offset_bytes=0)
        return
    yield from _check_boot(device, found)
    total_bytes = (found.fat_count + 1) * found.fat_bytes
    progress(0, total_bytes)
    table = FatTable(device, found)
    yield from _check_table(device, found, table)
    progress(found.fat_count * found.fat_bytes, total_bytes)
    survey = Survey(device, found, table)
    yield from survey.walk()
    yield from _check_label(device, found, survey.label)
    yield from judging.findings(survey)
    yield from _check_fsinfo(device, found, table)
    progress(total_bytes, total_bytes)


def _check_boot(device: BlockDevice, found: Geometry) -> Iterator[Finding]:
    for text in found.oddities:
        yield Finding("FAT002", "boot sector", text, where=device.name, offset_bytes=0)
    if found.volume_bytes > device.size_bytes:
        yield Finding(
            "FAT020",
            "boot sector",
            f"the volume has {found.volume_bytes} bytes, its device {device.size_bytes}",
            where=device.name,
            offset_bytes=0,
        )
    if found.state & layout.BOOT_STATE_DIRTY:
        yield Finding(
            "FAT019",
            "boot sector",
            "the boot sector says that the volume was not closed",
            where=device.name,
            offset_bytes=_STATE_AT[found.fat_bits],
        )
    if found.backup_offset_bytes is not None:
        yield from _check_backup(device, found.backup_offset_bytes)


def _check_backup(device: BlockDevice, offset_bytes: int) -> Iterator[Finding]:
    boot = bytearray(read(device, 0, geometry.BOOT_BYTES))
    backup = bytearray(read(device, offset_bytes, geometry.BOOT_BYTES))
    boot[_STATE_AT[32]] = backup[_STATE_AT[32]] = 0
    if boot != backup:
        at = next(
            at for at, pair in enumerate(zip(boot, backup, strict=True)) if len(set(pair)) > 1
        )
        yield Finding(
            "FAT003",
            "backup boot sector",
            f"the backup boot sector differs from the boot sector from byte {at} on",
            where=device.name,
            offset_bytes=offset_bytes + at,
        )


def _check_table(device: BlockDevice, found: Geometry, table: FatTable) -> Iterator[Finding]:
    expected = table.mask & ~0xFF | found.media
    if table[0] != expected:
        yield Finding(
            "FAT004",
            "table",
            f"the first entry of the table is 0x{table[0]:X} instead of 0x{expected:X}",
            where=device.name,
            offset_bytes=found.fat_offset_bytes,
        )
    error_bit = layout.NO_ERROR_BIT[found.fat_bits]
    for is_wrong, text in (
        (not table.is_clean, "the table says that the volume was not closed"),
        (bool(error_bit) and not table[1] & error_bit, "the table says that the disk had errors"),
    ):
        if is_wrong:
            yield Finding(
                "FAT019", "table", text, where=device.name, offset_bytes=found.fat_offset_bytes
            )
    if found.mirrored_fat is None:
        for copy in range(1, found.fat_count):
            yield from _compare_copy(device, found, copy)


def _compare_copy(device: BlockDevice, found: Geometry, copy: int) -> Iterator[Finding]:
    """Compare a copy of the table with the first, as far as its entries count."""
    length = (found.entry_count * found.fat_bits + 7) // 8
    other = found.fat_offset_bytes + copy * found.fat_bytes
    differing, first = 0, -1
    for at in range(0, length, MIB):
        size = min(MIB, length - at)
        ours = np.frombuffer(read(device, found.fat_offset_bytes + at, size), np.uint8)
        theirs = np.frombuffer(read(device, other + at, size), np.uint8)
        places = np.flatnonzero(ours != theirs)
        if len(places):
            first = first if differing else at + int(places[0])
            differing += len(np.unique((places + at) // found.sector_bytes))
    if differing:
        yield Finding(
            "FAT005",
            "table",
            f"copy {copy + 1} of the table differs from the first in {differing} sectors",
            where=device.name,
            offset_bytes=other + first,
        )


def _check_label(device: BlockDevice, found: Geometry, root: bytes | None) -> Iterator[Finding]:
    """The label in the boot sector and the one in the root folder should be the same."""
    if found.boot_label is None:
        return
    in_root = _NO_LABEL if root is None else root
    if found.boot_label != in_root:
        shown = [text.decode("cp437").rstrip(" \0") for text in (found.boot_label, in_root)]
        yield Finding(
            "FAT017",
            "label",
            printable(f"the boot sector says “{shown[0]}”, the root folder “{shown[1]}”"),
            where=device.name,
            offset_bytes=0,
        )


def _check_fsinfo(device: BlockDevice, found: Geometry, table: FatTable) -> Iterator[Finding]:
    if found.fsinfo_offset_bytes is None:
        return
    info = FsInfo(device, found.fsinfo_offset_bytes)
    text = None
    if not info.is_valid:
        text = "the free-space summary is damaged"
    elif info.free_count is not None and info.free_count != table.free_count:
        text = f"the summary says {info.free_count} free clusters, and there are {table.free_count}"
    if text is not None:
        yield Finding(
            "FAT018",
            "free-space summary",
            text,
            where=device.name,
            offset_bytes=found.fsinfo_offset_bytes,
        )
