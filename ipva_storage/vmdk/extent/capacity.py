"""Another capacity for a sparse extent, in place.

Order, so that a power cut leaves the old capacity or the new one:

- Growing: what lies behind the old end is made zeros. Where more tables are needed, the grains
  right behind the metadata are moved to the end of the file, and directories and tables are written
  anew in their place, both copies, while the old ones stay as they are and are the ones in use.
- The header, one sector, is written: from here on the new capacity counts, and the new tables.
- Shrinking: entries and bytes behind the new end are taken back, and the file is cut.

Whatever of that a power cut left undone is done by `finish`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ipva_storage.device import read
from ipva_storage.errors import NoSpaceError, VmdkError
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.extent.header import SparseHeader, build_header, header_problems
from ipva_storage.vmdk.extent.slots import Slots, close_gaps, move
from ipva_storage.vmdk.extent.tables import (
    ENTRY_MAX,
    ENTRY_ZEROED,
    bytes_of,
    read_directory,
    usual_directory,
)

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice
    from ipva_storage.vmdk.extent.sparse import SparseExtent


def set_capacity(extent: SparseExtent, sector_count: int) -> None:
    """Give an extent another capacity; new bytes read as zeros. `seal` it afterwards.

    Args:
        extent: open for writing.
        sector_count: the new capacity.

    Raises:
        VmdkError: it is damaged, or the capacity cannot be.
        NoSpaceError: the file would outgrow what a table entry can name.
    """
    header = extent.header
    new = replace(header, capacity_sectors=sector_count)
    for _, problem in header_problems(new, extent.raw.size_bytes):
        raise VmdkError(f"it cannot get that size: {problem}", where=extent.name)
    if sector_count == header.capacity_sectors:
        return
    Slots.of(extent)  # refuses what is damaged
    extent.begin()
    if sector_count < header.capacity_sectors:
        _switch(extent, new)
        _give_back(extent, header.table_count)
        return
    _clear_behind_end(extent)
    _complete_last(extent)
    if new.table_count > header.table_count:
        new = _with_room(new)
        _vacate(extent, new.overhead_sectors)
        _write_tables(extent, new)
    _switch(extent, new)


def is_finished(extent: SparseExtent) -> bool:
    """Whether no power cut left a change of capacity half done.

    Raises:
        VmdkError: the last table is in neither copy.
    """
    header, raw = extent.header, extent.raw
    if header.unclean_shutdown or _behind_end(extent):
        return False
    rest = header.directory_sectors * SECTOR_BYTES - 4 * header.table_count
    for sector in _directories(header, raw):
        at = sector * SECTOR_BYTES + 4 * header.table_count
        if at + 4 <= raw.size_bytes and any(read(raw, at, min(rest, 4))):
            return False
    return True


def finish(extent: SparseExtent) -> None:
    """Do what a power cut left undone of a change of capacity that counts. `seal` it afterwards.

    Args:
        extent: open for writing.

    Raises:
        VmdkError: it is damaged.
    """
    Slots.of(extent)  # refuses what is damaged
    extent.begin()
    # Of a longer directory, what is in the last sector of this one; the rest is in nobody's way.
    _give_back(extent, extent.header.directory_sectors * SECTOR_BYTES // 4)


def _give_back(extent: SparseExtent, table_count: int) -> None:
    """Take back what lies behind the end, of directories of so many entries too."""
    _forget_tables(extent, table_count)
    _clear_behind_end(extent)
    close_gaps(extent, Slots.of(extent))


def _with_room(header: SparseHeader) -> SparseHeader:
    """The header with both copies of the tables behind where the metadata ended so far."""
    start, grain = header.overhead_sectors, header.grain_sectors
    copy_sectors = header.directory_sectors + header.table_count * header.table_sectors
    copies = 2 if header.has_redundant else 1
    return replace(
        header,
        rgd_offset_sectors=start if copies == 2 else header.rgd_offset_sectors,
        gd_offset_sectors=start + (copies - 1) * copy_sectors,
        overhead_sectors=start + -(-copies * copy_sectors // grain) * grain,
    )


def _vacate(extent: SparseExtent, end_sector: int) -> None:
    """Move the grains that lie before a sector to the end of the file."""
    header, raw = extent.header, extent.raw
    grain, first = header.grain_sectors, header.overhead_sectors
    size_sectors = max(-(-raw.size_bytes // SECTOR_BYTES), end_sector)
    target = first + -(-(size_sectors - first) // grain) * grain
    slots = Slots.of(extent)
    count = int(np.searchsorted(slots.sectors, end_sector))
    targets = target + grain * np.arange(count)
    moves = np.stack([slots.grains[:count], slots.sectors[:count], targets], axis=1)
    target += grain * count
    if target - 1 > ENTRY_MAX:
        raise NoSpaceError("a sparse file cannot grow beyond 2 TiB", where=extent.name)
    raw.resize(max(target * SECTOR_BYTES if count else 0, size_sectors * SECTOR_BYTES))
    move(extent, moves)


def _write_tables(extent: SparseExtent, new: SparseHeader) -> None:
    """Both copies of directory and tables in their new place, which nothing names yet."""
    raw, old = extent.raw, extent.header
    start = old.overhead_sectors * SECTOR_BYTES
    raw.discard(start, new.overhead_sectors * SECTOR_BYTES - start)
    for sector in _directories(new, raw):
        directory = usual_directory(new, sector)
        raw.write(sector * SECTOR_BYTES, bytes_of(directory))
        for index in range(old.table_count):
            if not extent.tables.is_empty(index):
                table = bytes_of(extent.tables.table(index))
                raw.write(directory[index] * SECTOR_BYTES, table)


def _switch(extent: SparseExtent, new: SparseHeader) -> None:
    """Let the new header count, once everything that it names is durable."""
    extent.tables.flush()
    extent.raw.write(0, build_header(replace(new, unclean_shutdown=1)))
    extent.raw.flush()
    extent.reload(replace(new, unclean_shutdown=0))


def _forget_tables(extent: SparseExtent, table_count: int) -> None:
    """Clear the entries of directories that are behind their new end."""
    header = extent.header
    for sector in _directories(header, extent.raw):
        at = sector * SECTOR_BYTES + 4 * header.table_count
        extent.raw.write(at, bytes(4 * (table_count - header.table_count)))
    extent.raw.flush()


def _clear_behind_end(extent: SparseExtent) -> None:
    """Entries and bytes behind the end of the disk, which would show if it grew."""
    header, tables = extent.header, extent.tables
    behind = _behind_end(extent)
    if behind:
        tables.reassign(dict.fromkeys(behind, 0))
    left = header.grain_count * header.grain_bytes - header.capacity_bytes
    index, at = divmod(header.grain_count - 1, header.gtes_per_gt)
    entry = tables.table(index)[at]
    if left and entry > 1:
        place = entry * SECTOR_BYTES + header.grain_bytes - left
        left = min(left, extent.raw.size_bytes - place)
        if left > 0:
            extent.raw.discard(place, left)


def _complete_last(extent: SparseExtent) -> None:
    """Room in the file for all of the last grain, of which the disk may have had a part only."""
    header = extent.header
    index, at = divmod(header.grain_count - 1, header.gtes_per_gt)
    entry = extent.tables.table(index)[at]
    end_bytes = entry * SECTOR_BYTES + header.grain_bytes
    if entry > ENTRY_ZEROED and end_bytes > extent.raw.size_bytes:
        extent.raw.resize(end_bytes)


def _behind_end(extent: SparseExtent) -> list[int]:
    """Grains that the last table names although they are behind the end."""
    header = extent.header
    last = header.table_count - 1
    first = last * header.gtes_per_gt
    entries = enumerate(extent.tables.table(last), first)
    return [grain for grain, entry in entries if entry and grain >= header.grain_count]


def _directories(header: SparseHeader, raw: BlockDevice) -> list[int]:
    """Sectors of the primary directory, and of the redundant one; only of those in the file."""
    copies = [header.rgd_offset_sectors] if header.has_redundant else []
    return [
        sector
        for sector in (header.gd_offset_sectors, *copies)
        if read_directory(raw, header, sector) is not None
    ]
