"""The check of what holds a volume together: boot sector, backup, table copies, label, summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.fat import evidence, geometry, reserved
from ipva_storage.fat.bootfields import TITLES, BootFields, is_jump
from ipva_storage.fat.fsinfo import FsInfo
from ipva_storage.fat.survey import printable
from ipva_storage.findings import Finding
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.layouts import Verdict
    from ipva_storage.fat.table import FatTable

STATE_AT: Final = {12: 0x25, 16: 0x25, 32: 0x41}
"""Offset of the state byte in the boot sector."""

_WHAT_IS_LEFT: Final = {
    "backup": "its backup at byte {at} is whole",
    "boot sector": "the rest of it is whole",
    "tables": "the tables and folders tell what it was",
}


def unusable(device: BlockDevice, fault: str, verdict: Verdict | None) -> Finding:
    """The finding about a boot sector that cannot be believed, with what is left of it."""
    if verdict is None:
        left = "nothing is left that tells what it was"
    else:
        left = _WHAT_IS_LEFT[verdict.source].format(at=verdict.backup_offset_bytes)
    return _found("FAT001", "boot sector", f"{fault}; {left}", device, 0)


def check_boot(device: BlockDevice, verdict: Verdict) -> Iterator[Finding]:
    """The boot sector, and what it says of the rest."""
    sector = read(device, 0, geometry.BOOT_BYTES)
    found = verdict.geometry
    for text in found.oddities:
        yield _found("FAT002", "boot sector", text, device, 0)
    yield from _check_fields(device, sector, verdict)
    yield from _check_marks(device, sector, found)
    yield from _check_size(device, found)
    if found.state & layout.BOOT_STATE_DIRTY:
        text = "the boot sector says that the volume was not closed"
        yield _found("FAT019", "boot sector", text, device, STATE_AT[found.fat_bits])
    if found.backup_offset_bytes is not None:
        yield from _check_backup(device, found.backup_offset_bytes)


def _check_fields(device: BlockDevice, sector: bytes, verdict: Verdict) -> Iterator[Finding]:
    """Where the boot sector says something else than the volume."""
    said, should = BootFields.of(sector), BootFields.of(verdict.sector)
    for name, ours, theirs in said.differences(should):
        text = f"it says {ours} {TITLES[name]}, and the volume has {theirs}"
        yield _found("FAT022", "boot sector", text, device, 0)
    wanted = reserved.settled(device, should)
    if should.mirror_flags != wanted.mirror_flags:
        text = f"the flags of the copy in use are 0x{should.mirror_flags:X}, which means nothing"
        yield _found("FAT028", "boot sector", text, device, 0x28)
    yield from _check_places(device, should, wanted)


def _check_places(device: BlockDevice, said: BootFields, wanted: BootFields) -> Iterator[Finding]:
    """FAT32's places of summary and backup."""
    for code, ours, theirs, what in (
        ("FAT024", said.fsinfo_sector, wanted.fsinfo_sector, "free-space summary"),
        ("FAT025", said.backup_sector, wanted.backup_sector, "backup boot sector"),
    ):
        if ours != theirs:
            text = f"the {what} should be in sector {ours}, and is not there"
            if not ours:
                text = f"there is no {what}"
            yield _found(code, what, text, device, 0)


def _check_marks(device: BlockDevice, sector: bytes, found: Geometry) -> Iterator[Finding]:
    """Jump and type text, which some systems look at."""
    if not is_jump(sector[:3]):
        text = f"it begins with {sector[:3].hex(' ').upper()} and not with a jump"
        yield _found("FAT026", "boot sector", text, device, 0)
    at = 0x52 if found.fat_bits == 32 else 0x36
    kind = sector[at : at + 8]
    if found.boot_label is not None and not kind.startswith((b"FAT", b"MSDOS", b"\0", b" ")):
        text = f"its type is “{printable(kind.decode('cp437'))}”, which names none"
        yield _found("FAT027", "boot sector", text, device, at)


def _check_size(device: BlockDevice, found: Geometry) -> Iterator[Finding]:
    if found.volume_bytes > device.size_bytes:
        text = f"the volume has {found.volume_bytes} bytes, its device {device.size_bytes}"
        yield _found("FAT020", "boot sector", text, device, 0)
    elif found.claimed_cluster_count > found.cluster_count:
        text = (
            f"the table has entries for {found.cluster_count} of "
            f"{found.claimed_cluster_count} clusters"
        )
        yield _found("FAT023", "boot sector", text, device, 0)


def _check_backup(device: BlockDevice, offset_bytes: int) -> Iterator[Finding]:
    boot = bytearray(read(device, 0, geometry.BOOT_BYTES))
    backup = bytearray(read(device, offset_bytes, geometry.BOOT_BYTES))
    boot[STATE_AT[32]] = backup[STATE_AT[32]] = 0
    if boot == backup:
        return
    fault = geometry.fault(bytes(backup))
    at = next(at for at, pair in enumerate(zip(boot, backup, strict=True)) if len(set(pair)) > 1)
    text = f"the backup boot sector differs from the boot sector from byte {at} on"
    if fault is not None:
        text = f"the backup boot sector is damaged: {fault}"
    yield _found("FAT003", "backup boot sector", text, device, offset_bytes + at)


# -- table ------------------------------------------------------------------------------------


def check_heads(device: BlockDevice, found: Geometry, table: FatTable) -> Iterator[Finding]:
    """The first two entries, which tell medium and state."""
    expected = table.mask & ~0xFF | found.media
    at = found.fat_offset_bytes + table.copy * found.fat_bytes
    kept = layout.CLEAN_BIT[found.fat_bits] | layout.NO_ERROR_BIT[found.fat_bits]
    if not any(is_head(device, found, copy) for copy in copies_in_use(found)):
        text = "no copy of the table begins as one"
        yield _found("FAT029", "table", text, device, at)
    elif table[0] != expected:
        text = f"the first entry of the table is 0x{table[0]:X} instead of 0x{expected:X}"
        yield _found("FAT004", "table", text, device, at)
    elif table[1] | kept | 7 != table.mask:
        text = f"the second entry of the table is 0x{table[1]:X}, which is no end of a chain"
        yield _found("FAT004", "table", text, device, at)
    else:
        yield from _check_state(device, found, table, at)


def _check_state(
    device: BlockDevice, found: Geometry, table: FatTable, offset_bytes: int
) -> Iterator[Finding]:
    error_bit = layout.NO_ERROR_BIT[found.fat_bits]
    if not table.is_clean:
        text = "the table says that the volume was not closed"
        yield _found("FAT019", "table", text, device, offset_bytes)
    if error_bit and not table[1] & error_bit:
        text = "the table says that the disk had errors"
        yield _found("FAT019", "table", text, device, offset_bytes)


def copies_in_use(found: Geometry) -> range:
    """The copies that should say the same: all, or the one that FAT32's flags name."""
    if found.mirrored_fat is None:
        return range(found.fat_count)
    return range(found.mirrored_fat, found.mirrored_fat + 1)


def is_head(device: BlockDevice, found: Geometry, copy: int) -> bool:
    """Whether a copy begins as a table does."""
    at = found.fat_offset_bytes + copy * found.fat_bytes
    return evidence.is_head(read(device, at, 8), found.fat_bits)


def differing_sectors(device: BlockDevice, found: Geometry, copy: int) -> tuple[int, int]:
    """In how many sectors a copy differs from the first in use, and the first byte that does.

    Only entries that count are compared. The byte is from the start of the copy; -1: none differs.
    """
    first_copy = copies_in_use(found)[0]
    length = (found.entry_count * found.fat_bits + 7) // 8
    bases = [found.fat_offset_bytes + each * found.fat_bytes for each in (first_copy, copy)]
    differing, first = 0, -1
    for at in range(0, length, MIB):
        size = min(MIB, length - at)
        ours, theirs = (read(device, base + at, size) for base in bases)
        if ours == theirs:
            continue
        places = np.flatnonzero(np.frombuffer(ours, np.uint8) != np.frombuffer(theirs, np.uint8))
        first = first if differing else at + int(places[0])
        differing += len(np.unique((places + at) // found.sector_bytes))
    return differing, first


# -- label and summary ------------------------------------------------------------------------


def check_label(device: BlockDevice, found: Geometry, root: bytes | None) -> Iterator[Finding]:
    """The label in the boot sector and the one in the root folder should be the same."""
    if found.boot_label is None:
        return
    in_root = layout.NO_LABEL if root is None else root
    if found.boot_label != in_root:
        shown = [text.decode("cp437").rstrip(" \0") for text in (found.boot_label, in_root)]
        text = printable(f"the boot sector says “{shown[0]}”, the root folder “{shown[1]}”")
        yield _found("FAT017", "label", text, device, 0)


def check_fsinfo(device: BlockDevice, found: Geometry, table: FatTable) -> Iterator[Finding]:
    """The free-space summary against the table."""
    if found.fsinfo_offset_bytes is None:
        return
    info = FsInfo(device, found.fsinfo_offset_bytes)
    text = None
    if not info.is_valid:
        text = "the free-space summary is damaged"
    elif info.free_count is not None and info.free_count != table.free_count:
        text = f"the summary says {info.free_count} free clusters, and there are {table.free_count}"
    if text is not None:
        yield _found("FAT018", "free-space summary", text, device, found.fsinfo_offset_bytes)


def _found(code: str, structure: str, text: str, device: BlockDevice, offset_bytes: int) -> Finding:
    return Finding(code, structure, text, where=device.name, offset_bytes=offset_bytes)
