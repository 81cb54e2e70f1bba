"""Chains where the table is lost: from first clusters and lengths; most files lie in one piece.

A sector of the table counts as lost where it makes no sense in any copy, or where it is all zero
and a file leads into it. What it says is then worked out: each chain goes on with the neighbour, a
cluster belongs to one file only, none that another file starts in or has by what is left of the
table is taken. What conflicts is lost, and told.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.fat import copies, evidence, records
from ipva_storage.fat.chains import End
from ipva_storage.fat.geometry import RECORDS_MAX
from ipva_storage.fat.repairing.fragments import Fragments
from ipva_storage.fat.repairing.lost import Lost
from ipva_storage.fat.table import FREE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ipva_storage.fat.copies import Fit
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.repairing.draft import Draft
    from ipva_storage.fat.table import FatTable

    Mask = npt.NDArray[np.bool_]
    Values = npt.NDArray[np.uint32]

ROUNDS_MAX: Final = 64
"""How often a folder that came back is looked into for more folders. Confidence: chosen."""


def blocks(geometry: Geometry) -> npt.NDArray[np.int64]:
    """For each entry, the sector of the table that it starts in."""
    numbers = np.arange(geometry.entry_count, dtype=np.int64)
    return numbers * geometry.fat_bits // 8 // geometry.sector_bytes


def penalties(
    values: Values, geometry: Geometry, *, spares_blank: bool = False
) -> npt.NDArray[np.int64]:
    """For each sector of a table, how many of its entries make no sense.

    That is a link to nowhere, to a free cluster or to one that has a link to it already; and a free
    entry to which there is a link.

    Args:
        values: the table.
        geometry: of its volume.
        spares_blank: let a link into a sector that is all zero count against that one only.
    """
    block_of = blocks(geometry)
    is_blank = np.zeros(len(values), np.bool_)
    if spares_blank:
        is_blank = (np.bincount(block_of, values != FREE) == 0)[block_of]
    nonsense = _nonsense(values, geometry, is_blank)
    targets = values[_is_link(values, geometry)]
    into_free = np.zeros(len(values), np.int64)
    np.add.at(into_free, targets[values[targets] == FREE].astype(np.int64), 1)
    weights = nonsense.astype(np.int64) + into_free
    weights[: layout.FIRST_CLUSTER] = 0
    return np.bincount(block_of, weights=weights).astype(np.int64)


def _is_link(values: Values, geometry: Geometry) -> Mask:
    found: Mask = (values >= layout.FIRST_CLUSTER) & (values < geometry.entry_count)
    return found


def _nonsense(values: Values, geometry: Geometry, is_blank: Mask) -> Mask:
    """Entries that are no end, not free, not bad, and lead nowhere or where another leads too.

    `is_blank` says into which entries a link counts for nothing.
    """
    is_link = _is_link(values, geometry)
    is_end = values >= layout.BAD_CLUSTER[geometry.fat_bits]
    nonsense: Mask = ~is_link & ~is_end & (values != FREE)
    links = np.flatnonzero(is_link)
    targets = values[links].astype(np.int64)
    count = np.bincount(targets, minlength=len(values))
    nonsense[links] = (count[targets] > 1) | ((values[targets] == FREE) & ~is_blank[targets])
    nonsense[: layout.FIRST_CLUSTER] = False
    return nonsense


def clusters_of(table: FatTable, found: Fit, which: Mask) -> Mask:
    """The clusters of the chains of some owners."""
    taken = np.zeros(len(table), np.bool_)
    for index in np.flatnonzero(which).tolist():
        chain, _ = table.follow(found.owners[index].first_cluster)
        taken[chain] = True
    return taken


def fill(
    draft: Draft, geometry: Geometry, table: FatTable, *, is_head_lost: bool
) -> Iterator[Lost]:
    """Work the lost sectors of a table out, in memory.

    Args:
        draft: the volume.
        geometry: its places.
        table: the best that the copies have; changed.
        is_head_lost: whether no copy begins as a table does.
    """
    owners = copies.survey(draft, geometry, table)
    found = copies.fit(table.values, owners, geometry)
    if found.is_sound.all() and not is_head_lost:
        return
    is_lost = _lost_entries(table, geometry, found, is_head_lost=is_head_lost)
    if not is_lost.any():
        return
    table.values[is_lost] = FREE
    yield from _Filling(draft, geometry, table, is_lost).run()


def _lost_entries(table: FatTable, geometry: Geometry, found: Fit, *, is_head_lost: bool) -> Mask:
    """The entries of lost sectors, without those of files that are whole."""
    values = table.values
    block_of = blocks(geometry)
    in_use: Mask = values != FREE
    in_use[: layout.FIRST_CLUSTER] = False
    used = np.bincount(block_of, weights=in_use)
    is_blank = used == 0
    is_garbage = ~is_blank & (2 * penalties(values, geometry) > used)
    is_garbage |= _is_filled(values, block_of) & _has_broken(geometry, found, block_of)
    is_wanted = is_blank & _is_led_into(table, geometry, found, block_of)
    if not (is_garbage.any() or is_wanted.any() or (is_head_lost and is_blank[0])):
        return np.zeros(len(values), np.bool_)
    is_lost = is_garbage | is_blank  # also those that only a folder yet to come leads into
    entries = is_lost[block_of]
    entries[: layout.FIRST_CLUSTER] = False
    sound: Mask = clusters_of(table, found, found.is_sound)
    result: Mask = entries & ~sound
    return result


def _is_filled(values: Values, block_of: npt.NDArray[np.int64]) -> Mask:
    """The sectors of which all entries are the same and not free."""
    starts = np.flatnonzero(np.append(True, np.diff(block_of) > 0))
    whole = values.copy()  # without FAT12's entries that reach into the next sector
    whole[starts[1:] - 1] = values[starts[1:] - 2]
    low = np.minimum.reduceat(whole, starts)
    result: Mask = (low == np.maximum.reduceat(whole, starts)) & (low != FREE)
    return result


def _has_broken(geometry: Geometry, found: Fit, block_of: npt.NDArray[np.int64]) -> Mask:
    """The sectors in which a broken chain starts."""
    broken = np.flatnonzero(~found.is_sound).tolist()
    starts = [found.owners[index].first_cluster for index in broken]
    inside = [start for start in starts if geometry.is_cluster(start)]
    result: Mask = np.bincount(block_of[inside], minlength=int(block_of[-1]) + 1) > 0
    return result


def _is_led_into(
    table: FatTable, geometry: Geometry, found: Fit, block_of: npt.NDArray[np.int64]
) -> Mask:
    """The sectors to which a link leads, or in which a file or folder starts."""
    starts = np.array([owner.first_cluster for owner in found.owners], np.int64)
    starts = starts[(starts >= layout.FIRST_CLUSTER) & (starts < geometry.entry_count)]
    links = table.values[_is_link(table.values, geometry)].astype(np.int64)
    count = int(block_of[-1]) + 1
    into = np.bincount(block_of[np.concatenate([starts, links])], minlength=count)
    result: Mask = into > 0
    return result


class _Filling:
    """The work: folders first, since they tell of more files; then files in order of cluster."""

    def __init__(self, draft: Draft, geometry: Geometry, table: FatTable, is_lost: Mask) -> None:
        self._draft = draft
        self._geometry = geometry
        self._table = table
        self._is_open = is_lost
        """Entries that are not known, and that no chain has yet."""
        self._is_open[table.limit :] = False
        self._unended: set[int] = set()
        """Where folders start of which neither an end nor more was found."""

    def run(self) -> Iterator[Lost]:
        for _ in range(ROUNDS_MAX):
            if not self._fill_folders():
                break
        found = self._look()
        for owner in found.owners:
            if owner.is_dir and owner.first_cluster in self._unended:
                yield Lost(owner.path, "no end of it was found; more may have been in it")
        files = [
            (owner, int(found.need[index]))
            for index, owner in enumerate(found.owners)
            if not owner.is_dir and not found.is_sound[index]
        ]
        for owner, need in sorted(files, key=lambda pair: pair[0].first_cluster):
            had = self._extend(owner.first_cluster, need)
            if had < need:
                yield Lost(owner.path, f"clusters {had + 1} to {need} of {need} are not known")

    def _look(self) -> Fit:
        """All files and folders by what is known now, and to which clusters something leads."""
        owners = copies.survey(self._draft, self._geometry, self._table)
        values = self._table.values
        self._has_link = np.zeros(len(values), np.bool_)
        self._has_link[values[_is_link(values, self._geometry)].astype(np.int64)] = True
        starts = np.array([owner.first_cluster for owner in owners], np.int64)
        self._has_link[starts[(starts >= 0) & (starts < len(values))]] = True
        return copies.fit(values, owners, self._geometry)

    def _fill_folders(self) -> bool:
        """Complete the chains of all folders that are known; whether any was."""
        found = self._look()
        is_changed = False
        for index, owner in enumerate(found.owners):
            if owner.is_dir and found.chain_map.ends[index] not in (End.GOOD, End.RING):
                is_changed |= self._extend_folder(owner.first_cluster)
        return is_changed

    def _extend_folder(self, start: int) -> bool:
        """Go on with neighbours while they read as a folder that goes on."""
        if not self._geometry.is_cluster(start):
            return False
        limit = -(-RECORDS_MAX * layout.ENTRY_BYTES // self._geometry.cluster_bytes)
        chain, _ = self._table.follow(start, limit=limit)
        last = chain[-1]
        if not self._is_open[last]:
            return False
        self._is_open[last] = False
        while len(chain) < limit and (following := self._following(start, last)) is not None:
            self._table.values[last] = following
            self._has_link[following] = True
            last = following
            chain.append(last)
            if self._table[last] != FREE:
                return True
            self._is_open[last] = False
        self._table.values[last] = self._table.end
        if self._is_full(last):
            self._unended.add(start)
        return True

    def _is_full(self, cluster: int) -> bool:
        """Whether a cluster of a folder is full of records, so that more may follow."""
        content = self._content(cluster)
        return records.parse(content).end == len(content) // layout.ENTRY_BYTES

    def _following(self, start: int, last: int) -> int | None:
        """Where a folder goes on that has no end in its last known cluster."""
        if not self._is_full(last):
            return None
        following = last + 1
        if self._can_follow(following):
            theirs = self._content(following)
            good, bad = evidence.judge(theirs)
            if not bad and (good > 0 or not any(theirs)) and theirs[:11] != records.DOT:
                return following
        return self._fragments.take(start, last, self._can_follow)

    @functools.cached_property
    def _fragments(self) -> Fragments:
        values = self._table.values
        is_known = (values != FREE) & (values != self._table.bad)
        return Fragments(self._draft, self._geometry, (self._is_open | is_known) & ~self._has_link)

    def _content(self, cluster: int) -> bytes:
        at = self._geometry.cluster_offset_bytes(cluster)
        return read(self._draft, at, self._geometry.cluster_bytes)

    def _can_follow(self, cluster: int) -> bool:
        """Whether a chain may go on here: nothing leads here, and it is open or a known rest."""
        if not self._geometry.is_cluster(cluster) or cluster >= self._table.limit:
            return False
        if self._has_link[cluster]:
            return False
        is_known = self._table[cluster] not in (FREE, self._table.bad)
        return bool(self._is_open[cluster]) or is_known

    def _extend(self, start: int, need: int) -> int:
        """Give a file that leads into a lost sector its chain, as far as it can be had.

        Returns:
            How many of its clusters are known; all that it needs where nothing was lost of it.
        """
        if not need or not self._geometry.is_cluster(start) or start >= self._table.limit:
            return need
        chain, _ = self._table.follow(start, limit=need)
        had, last = len(chain), chain[-1]
        if not self._is_open[last]:
            return need
        while had < need and self._is_open[last]:
            count = self._run(last, need - had)
            had, last = had + count, last + count
            rest = self._rest(last + 1, need - had) if had < need else []
            if not rest:
                break
            self._link(last, 1)
            had, last = had + len(rest), rest[-1]
        if self._is_open[last]:
            self._is_open[last] = False
            self._table.values[last] = self._table.end
        return had

    def _rest(self, start: int, wanted: int) -> list[int]:
        """A chain that is known and that nothing leads to, if it can be the rest of a file."""
        if not self._can_follow(start):
            return []
        rest, fault = self._table.follow(start, limit=wanted + 1)
        is_lost_again = len(rest) <= wanted and bool(self._is_open[rest[-1]])
        is_whole = len(rest) == wanted and fault is None
        return rest if is_whole or is_lost_again else []

    def _run(self, last: int, wanted: int) -> int:
        """Chain open clusters behind `last` that nothing leads to, as many as follow it."""
        piece = slice(last + 1, last + 1 + wanted)
        is_free = self._is_open[piece] & ~self._has_link[piece]
        stops = np.flatnonzero(~is_free)
        count = int(stops[0]) if len(stops) else len(is_free)
        self._link(last, count)
        return count

    def _link(self, first: int, count: int) -> None:
        """Link `count` clusters from `first` on, each to its neighbour."""
        stop = first + count
        self._table.values[first:stop] = np.arange(first + 1, stop + 1, dtype=np.uint32)
        self._is_open[first:stop] = False
        self._has_link[first + 1 : stop + 1] = True
