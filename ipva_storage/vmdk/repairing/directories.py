"""Directories as they should be, and whether what could be read can be read after a repair.

An entry that can be stays: its table is in the file, apart from all others and from the rest of the
metadata, and names grains. One that cannot goes where the usual layout has its table, in a file of
that layout, if nothing else is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.extent.header import header_problems
from ipva_storage.vmdk.extent.places import Mask, Sectors, TablePlaces, read_directories
from ipva_storage.vmdk.extent.tables import ENTRY_ZEROED, usual_directory

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice
    from ipva_storage.vmdk.extent.header import SparseHeader

USUAL_SHARE: Final = 0.5
"""A directory with this share of usual entries is one of the usual layout. Confidence: chosen."""

SOUND_SHARE: Final = 0.5
"""A table with this share of entries that can be grains is one. Confidence: chosen."""


def mended_directories(
    raw: BlockDevice, header: SparseHeader, found: list[tuple[int, Sectors]]
) -> list[Sectors]:
    """What the directories should be; where that is not known, what they are.

    Args:
        raw: the file.
        header: its header, as it should be.
        found: the sector of each directory, and its entries.
    """
    usual = [np.array(usual_directory(header, sector), np.int64) for sector, _ in found]
    if not any(places.any() for _, places in found):
        return usual
    pairs = list(zip(usual, (places for _, places in found), strict=True))
    if not any((there == places).mean() >= USUAL_SHARE for there, places in pairs):
        return [places.copy() for _, places in found]
    is_kept = _kept(raw, header, found, usual)
    kept = np.concatenate([there[one] for (_, there), one in zip(found, is_kept, strict=True)])
    return [
        np.where(~one & (_count_near(header, there, kept) == 0), there, places)
        for one, (there, places) in zip(is_kept, pairs, strict=True)
    ]


def _kept(
    raw: BlockDevice,
    header: SparseHeader,
    found: list[tuple[int, Sectors]],
    usual: list[Sectors],
) -> list[Mask]:
    """Which entries of each directory can be."""
    named = np.concatenate([places for _, places in found])
    kept = []
    for (_, places), there in zip(found, usual, strict=True):
        is_kept = places == there
        at = TablePlaces.of(raw, header, places)
        may_be = at.is_there & (_count_near(header, places, named) == 1)
        for start, length in _metadata(header, [sector for sector, _ in found]):
            may_be &= (places + header.table_sectors <= start) | (places >= start + length)
        others = np.flatnonzero(may_be & ~is_kept)
        is_kept[others] = _is_table(raw, header, others, places, there)
        kept.append(is_kept)
    return kept


def _metadata(header: SparseHeader, sectors: list[int]) -> list[tuple[int, int]]:
    """Parts of the file that are no tables: where each starts, and its length."""
    directories = [(sector, header.directory_sectors) for sector in sectors]
    return [(0, 1), (header.descriptor_offset_sectors, header.descriptor_sectors), *directories]


def _is_table(
    raw: BlockDevice, header: SparseHeader, indexes: Sectors, places: Sectors, usual: Sectors
) -> Mask:
    """Whether tables are in unusual places: sound, and not of zeros while a usual one is sound."""
    own, other = (
        TablePlaces.of(raw, header, np.where(_is_in(indexes, len(each)), each, 0))
        for each in (places, usual)
    )
    result = np.zeros(len(indexes), bool)
    for batch in own.batches(np.arange(len(indexes))):
        tables, there = own.tables(indexes[batch]), other.tables(indexes[batch])
        is_better = there.any(axis=1) & is_sound_table(raw, header, there)
        is_own = np.where(tables.any(axis=1), is_sound_table(raw, header, tables), ~is_better)
        result[batch] = is_own
    return result


def _is_in(indexes: Sectors, count: int) -> Mask:
    found = np.zeros(count, bool)
    found[indexes] = True
    return found


def is_sound_entry(raw: BlockDevice, header: SparseHeader, tables: Sectors) -> Mask:
    """Which entries name a grain that starts in the file."""
    first, grain = header.overhead_sectors, header.grain_sectors
    found: Mask = (tables >= max(first, 2)) & (tables * SECTOR_BYTES < raw.size_bytes)
    return found if header.is_compressed else found & ((tables - first) % grain == 0)


def is_sound_table(raw: BlockDevice, header: SparseHeader, tables: Sectors) -> Mask:
    """Which tables have mostly entries that can be."""
    named = (tables > ENTRY_ZEROED).sum(axis=1)
    sound: Mask = is_sound_entry(raw, header, tables).sum(axis=1) >= SOUND_SHARE * named
    return sound


def _count_near(header: SparseHeader, places: Sectors, others: Sectors) -> Sectors:
    """How many of some tables lie on each of `places`."""
    others = np.sort(others)
    start = np.searchsorted(others, places - header.table_sectors, "right")
    stop = np.searchsorted(others, places + header.table_sectors, "left")
    count: Sectors = stop - start
    return count


# -- what must not change -------------------------------------------------------------------------


def vanished_count(
    before: tuple[BlockDevice, SparseHeader], after: tuple[BlockDevice, SparseHeader]
) -> int:
    """Grains that could be read beyond doubt, and would not be any more, or as something else.

    Beyond doubt is what all copies say alike, of a table that lies on no other. Nothing is said of
    a file whose grains or tables would get another size: then all was read wrongly before.

    Args:
        before: the file and its header.
        after: the same as they would be.
    """
    old, new = before[1], after[1]
    if old.is_compressed or new.is_compressed or any(header_problems(old, before[0].size_bytes)):
        return 0
    if (old.grain_sectors, old.gtes_per_gt) != (new.grain_sectors, new.gtes_per_gt):
        return 0
    copies, later = read_directories(*before), read_directories(*after)
    if not copies or not later:
        return 0
    is_apart = [
        copy.is_there
        & (_count_near(old, copy.places, np.concatenate([one.places for one in copies])) == 1)
        for copy in copies
    ]
    count = 0
    for batch in copies[0].batches(np.flatnonzero(np.any(is_apart, axis=0))):
        sure = _sure(before, batch, copies, is_apart)
        count += int(((sure > 0) & (_now(batch, later, sure) != sure)).sum())
    return count


def _sure(
    before: tuple[BlockDevice, SparseHeader],
    batch: Sectors,
    copies: list[TablePlaces],
    is_apart: list[Mask],
) -> Sectors:
    """What all copies say alike of grains of the disk; else 0."""
    raw, header = before
    tables = [
        np.where(apart[batch][:, None], copy.tables(batch), -1)
        for copy, apart in zip(copies, is_apart, strict=True)
    ]
    first, last = tables[0], tables[-1]
    said = np.where(first < 0, last, first)
    is_sure = ((last < 0) | (last == said)) & is_sound_entry(raw, header, said)
    numbers = np.add.outer(batch * header.gtes_per_gt, np.arange(header.gtes_per_gt))
    found: Sectors = np.where(is_sure & (numbers < header.grain_count), said, 0)
    return found


def _now(batch: Sectors, copies: list[TablePlaces], sure: Sectors) -> Sectors:
    """What a reader takes for some tables; zeros for those that are there no more."""
    found = np.zeros_like(sure)
    is_left = batch < len(copies[0].places)
    left = batch[is_left]
    for copy in copies[::-1]:
        is_there = copy.is_there[left][:, None]
        found[is_left] = np.where(is_there, copy.tables(left), found[is_left])
    return found
