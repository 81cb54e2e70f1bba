"""The copies of the table: what fits the folders of each, in every place.

Where copies differ, the copy that fits best is taken as a whole, then for each file that it breaks
the chain that another copy has, if that fits. Where no copy has anything, chains are worked out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_storage.device import read
from ipva_storage.fat import chains, copies
from ipva_storage.fat.repairing import guess
from ipva_storage.fat.structure import copies_in_use, differing_sectors, is_head
from ipva_storage.fat.table import FREE, FatTable, pack_fat12, unpack
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.repairing.draft import Draft
    from ipva_storage.fat.repairing.lost import Lost

    Values = npt.NDArray[np.uint32]

ROUNDS_MAX: Final = 16
"""How often a folder that came back is looked into for more. Confidence: chosen."""


def mend(draft: Draft, geometry: Geometry) -> Iterator[Lost]:
    """Make all copies of the table equal, and what is lost of them as it must have been."""
    in_use = copies_in_use(geometry)
    is_alike = not any(differing_sectors(draft, geometry, copy)[0] for copy in in_use[1:])
    tables = [FatTable(draft, geometry, copy=copy) for copy in in_use[: 1 if is_alike else None]]
    if any(chains.is_too_much(table.values) for table in tables):
        return
    chosen = tables[0] if len(tables) == 1 else _chosen(draft, geometry, tables)
    has_head = any(is_head(draft, geometry, copy) for copy in in_use)
    yield from guess.fill(draft, geometry, chosen, is_head_lost=not has_head)
    chosen.put(0, chosen.mask & ~0xFF | geometry.media)
    if not has_head:
        chosen.put(1, chosen.mask)
    for copy in in_use:
        _write_copy(draft, geometry, chosen, copy)


# -- where copies differ ----------------------------------------------------------------------


def _chosen(draft: Draft, geometry: Geometry, tables: list[FatTable]) -> FatTable:
    """A table with the best of all copies."""
    heads = [is_head(draft, geometry, table.copy) for table in tables]
    merged = [_by_sector(draft, geometry, tables, fullest=full) for full in (False, True)]
    candidates = [*tables, *merged]
    ranks = []
    for index, table in enumerate(candidates):
        found = copies.fit(table.values, copies.survey(draft, geometry, table), geometry)
        is_headless = index < len(heads) and any(heads) and not heads[index]
        ranks.append((*found.rank, is_headless, index))
    best = min(ranks)[-1]
    chosen = candidates[best]
    others = [table for index, table in enumerate(candidates) if index != best]
    for _ in range(ROUNDS_MAX):
        if not _take_chains(draft, geometry, chosen, others):
            break
    first_whole = next((index for index, head in enumerate(heads) if head), 0)
    for entry in (0, 1):
        chosen.put(entry, tables[first_whole][entry])
    return chosen


def _by_sector(
    draft: Draft, geometry: Geometry, tables: list[FatTable], *, fullest: bool
) -> FatTable:
    """A table of which each sector comes from the copy in which it makes most sense.

    Args:
        draft: the volume.
        geometry: its places.
        tables: the copies.
        fullest: of sectors that make as much sense, take the one that says most; zeros say nothing.
            Else that of the first copy.
    """
    penalties = np.stack(
        [guess.penalties(table.values, geometry, spares_blank=fullest) for table in tables]
    )
    if fullest:
        block_of = guess.blocks(geometry)
        used = np.stack([np.bincount(block_of, table.values != FREE) for table in tables])
        penalties = penalties * (len(block_of) + 1) - used.astype(np.int64)
    size = geometry.sector_bytes
    sectors = bytearray()
    for sector, index in enumerate(penalties.argmin(axis=0).tolist()):
        at = geometry.fat_offset_bytes + tables[index].copy * geometry.fat_bytes + sector * size
        sectors += read(draft, at, size)
    merged = FatTable(draft, geometry, copy=tables[0].copy)
    merged.values[:] = unpack(bytes(sectors), geometry) & np.uint32(merged.mask)
    return merged


def _take_chains(
    draft: Draft, geometry: Geometry, chosen: FatTable, others: list[FatTable]
) -> bool:
    """Give each broken file the chain that another copy has for it; whether any was given."""
    owners = copies.survey(draft, geometry, chosen)
    found = copies.fit(chosen.values, owners, geometry)
    broken = np.flatnonzero(~found.is_sound).tolist()
    if not broken:
        return False
    is_taken = guess.clusters_of(chosen, found, found.is_sound)
    is_changed = False
    for other in others:
        theirs = copies.fit(other.values, found.owners, geometry)
        for index in broken:
            if not theirs.is_sound[index]:
                continue
            chain, _ = other.follow(found.owners[index].first_cluster)
            clusters = np.asarray(chain, np.int64)
            is_same = bool((chosen.values[clusters] == other.values[clusters]).all())
            if is_same or is_taken[clusters].any():
                continue
            chosen.values[clusters] = other.values[clusters]
            is_taken[clusters] = True
            is_changed = True
    return is_changed


# -- writing ----------------------------------------------------------------------------------


def _write_copy(draft: Draft, geometry: Geometry, table: FatTable, copy: int) -> None:
    """Write the entries that count into a copy, where it has others."""
    base = geometry.fat_offset_bytes + copy * geometry.fat_bytes
    packed = _packed(table, geometry)
    for at in range(0, len(packed), MIB):
        piece = packed[at : at + MIB]
        if read(draft, base + at, len(piece)) != piece:
            _write_differing(draft, base + at, piece)


def _write_differing(draft: Draft, offset_bytes: int, piece: bytes) -> None:
    there = read(draft, offset_bytes, len(piece))
    step = 4096
    for at in range(0, len(piece), step):
        if piece[at : at + step] != there[at : at + step]:
            draft.write(offset_bytes + at, piece[at : at + step])


def _packed(table: FatTable, geometry: Geometry) -> bytes:
    """All entries as they are on the medium."""
    bits = geometry.fat_bits
    if bits == 12:
        return pack_fat12(table.values)
    values = table.with_top_bits()
    return values.astype("<u2" if bits == 16 else "<u4").tobytes()
