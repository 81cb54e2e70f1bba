"""Mending the directories and tables of a hosted sparse extent, each copy from the other.

Rules, in order; an entry that none of them decides stays as it is, in both copies:

1. Of two entries that differ, one that can be a grain (or none) wins over one that cannot.
2. After an unclean shutdown: what reading takes (invariant 3 of `tables`), but a grain that only
   the redundant table names is not forgotten; it is taken unless something else names it, too.
3. A grain that nothing else names wins over none; where something else names it, none wins. Of two
   grains the one wins that nothing else names, when something else names the other.

What no copy knows is told by range, and never made up.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.extent.orphans import lost_tables
from ipva_storage.vmdk.extent.places import (
    Mask,
    Sectors,
    TablePlaces,
    other_parts,
    read_places,
)
from ipva_storage.vmdk.repairing.directories import mended_directories
from ipva_storage.vmdk.repairing.lost import Lost, MendedTables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipva_storage.device import BlockDevice
    from ipva_storage.vmdk.extent.header import SparseHeader
    from ipva_storage.vmdk.repairing.draft import Draft


def mend_tables(
    draft: Draft, name: str, header: SparseHeader, *, has_parent: bool, is_damaged: bool
) -> MendedTables:
    """Draw up the directories and tables as they should be.

    Args:
        draft: where the changes go.
        name: the extent's file.
        header: its header, as it should be.
        has_parent: whether a parent shows where there is no grain.
        is_damaged: whether the header or the directories were found damaged.
    """
    mending = _Mending(draft, name, header, has_parent=has_parent)
    wanted = mending.directories()
    mending.tables()
    mending.put(wanted)
    mending.note_lost_tables(is_damaged=is_damaged)
    if mending.has_zeroed and has_parent:
        header = replace(header, version=max(header.version, 2), flags=header.flags | 4)
    return MendedTables(mending.lost, header)


class _Mending:
    """One extent on its way."""

    def __init__(self, draft: Draft, name: str, header: SparseHeader, *, has_parent: bool) -> None:
        self._draft = draft
        self._name = name
        self._header = header
        self._has_parent = has_parent
        self._raw: BlockDevice = draft.device(name)
        self.lost: list[Lost] = []
        self.has_zeroed = False  # entries of 1, which the header does not announce
        sectors = [header.gd_offset_sectors]
        if header.has_redundant:
            sectors.append(header.rgd_offset_sectors)
        found = [(sector, read_places(self._raw, header, sector)) for sector in sectors]
        parts = other_parts(header, sectors)
        self._copies = [
            _Copy(sector, TablePlaces.of(self._raw, header, places), parts)
            for sector, places in found
            if places is not None
        ]

    # -- directories ----------------------------------------------------------------------------

    def directories(self) -> list[tuple[int, bytes]]:
        """Put entries that cannot be where the layout has their tables.

        Returns:
            Sector and content of each directory; the tables are mended before it leads to them.
        """
        found: list[tuple[int, bytes]] = []
        there = [(copy.sector, copy.at.places) for copy in self._copies]
        wanted = mended_directories(self._raw, self._header, there)
        is_absent = np.all([copy.at.places == 0 for copy in self._copies], axis=0)
        is_absent &= not is_absent.all()  # a directory without any table is damage
        for copy, places in zip(self._copies, wanted, strict=True):
            places[is_absent] = 0
            room = self._header.directory_sectors * SECTOR_BYTES
            found.append((copy.sector, places.astype("<u4").tobytes().ljust(room, b"\0")))
            if (places != copy.at.places).any():
                copy.at = TablePlaces.of(self._raw, self._header, places)
        return found

    def put(self, directories: list[tuple[int, bytes]]) -> None:
        """Write each directory, as a step."""
        for sector, data in directories:
            self._draft.write(self._draft.step(self._name), sector * SECTOR_BYTES, data)

    # -- tables ---------------------------------------------------------------------------------

    def tables(self) -> None:
        """Bring both copies of each table to what is right, as far as that is known."""
        if not self._copies:
            return
        used = self._used()
        for batch in self._batches():
            found = [self._read(copy, batch) for copy in self._copies]
            settled = self._tidied(batch, self._settled(batch, found, used))
            for copy, tables in zip(self._copies, found, strict=True):
                self._write(copy, batch, tables, settled)
            self._note_lost(batch, settled, found)

    def _batches(self) -> Iterator[Sectors]:
        is_named = np.any([copy.at.places > 0 for copy in self._copies], axis=0)
        return self._copies[0].at.batches(np.flatnonzero(is_named))

    def _read(self, copy: _Copy, batch: Sectors) -> Sectors:
        """Some tables of a copy; -1 for the entries of one that is not there by itself."""
        found = copy.at.tables(batch)
        found[~copy.is_own[batch]] = -1
        return found

    def _is_sound(self, batch: Sectors, tables: Sectors) -> Mask:
        """Which entries can be: a grain that starts in the file, or none."""
        header = self._header
        first, grain = header.overhead_sectors, header.grain_sectors
        is_grain = (tables >= max(first, 2)) & ((tables - first) % grain == 0)
        is_grain &= tables * SECTOR_BYTES < self._raw.size_bytes
        numbers = np.add.outer(batch * header.gtes_per_gt, np.arange(header.gtes_per_gt))
        sound: Mask = (tables == 0) | (tables == 1) | (is_grain & (numbers < header.grain_count))
        return sound

    def _used(self) -> Mask:
        """Which slots of the file are named by entries that are beyond doubt."""
        header = self._header
        slot_count = self._raw.size_bytes // header.grain_bytes + 2
        used = np.zeros(slot_count, bool)
        for batch in self._batches():
            found = [self._read(copy, batch) for copy in self._copies]
            sound = [self._is_sound(batch, tables) for tables in found]
            first, last = found[0], found[-1]
            is_sure = (first == last) & sound[0]
            for mine, theirs in ((0, -1), (-1, 0)):
                is_sure_here = is_sure | (sound[mine] & ~sound[theirs])
                used[self._slots(found[mine][is_sure_here & (found[mine] > 1)])] = True
        return used

    def _slots(self, sectors: Sectors) -> Sectors:
        header = self._header
        return (sectors - header.overhead_sectors) // header.grain_sectors

    def _settled(self, batch: Sectors, found: list[Sectors], used: Mask) -> Sectors:
        """Entries as they should be; -1 where both copies are to stay as they are."""
        first, last = found[0], found[-1]
        one, other = self._is_sound(batch, first), self._is_sound(batch, last)
        settled = np.full(first.shape, -1, np.int64)
        settled = np.where(one & ~other, first, settled)
        settled = np.where(other & ~one, last, settled)
        is_both = one & other
        settled = np.where(is_both & (first == last), first, settled)
        differs = is_both & (first != last)
        is_free = [self._is_free(tables, used) for tables in (first, last)]
        if self._header.unclean_shutdown:
            settled = np.where(differs & (first > 1), np.where(last > 1, last, first), settled)
            return np.where(differs & (first <= 1), np.where(is_free[1], last, first), settled)
        takes_first = is_free[0] & ((last <= 1) | ~is_free[1]) | (first <= 1) & ~is_free[1]
        takes_last = is_free[1] & ((first <= 1) | ~is_free[0]) | (last <= 1) & ~is_free[0]
        settled = np.where(differs & takes_first, first, settled)
        return np.where(differs & takes_last & ~takes_first, last, settled)

    def _tidied(self, batch: Sectors, settled: Sectors) -> Sectors:
        """Without entries behind the end of the disk, and zeros that the header does not know."""
        header = self._header
        numbers = np.add.outer(batch * header.gtes_per_gt, np.arange(header.gtes_per_gt))
        settled = np.where(numbers >= header.grain_count, 0, settled)
        if header.flags & 4:
            return settled
        self.has_zeroed |= bool((settled == 1).any())
        return settled if self._has_parent else np.where(settled == 1, 0, settled)

    def _is_free(self, tables: Sectors, used: Mask) -> Mask:
        """Which entries name a grain that nothing else names."""
        slots = np.where(tables > 1, self._slots(tables), 0)
        slots = np.clip(slots, 0, len(used) - 1)
        return (tables > 1) & ~used[slots]

    def _write(self, copy: _Copy, batch: Sectors, tables: Sectors, settled: Sectors) -> None:
        """The tables of one copy that change, as one step."""
        wanted = np.where(settled >= 0, settled, tables)
        is_whole = copy.is_own[batch] & (wanted >= 0).all(axis=1)
        changed = np.flatnonzero((wanted != tables).any(axis=1) & is_whole)
        if not len(changed):
            return
        step = self._draft.step(self._name)
        for row in changed.tolist():
            at = int(copy.at.places[batch[row]]) * SECTOR_BYTES
            self._draft.write(step, at, wanted[row].astype("<u4").tobytes())

    # -- what is lost -----------------------------------------------------------------------------

    def _note_lost(self, batch: Sectors, settled: Sectors, found: list[Sectors]) -> None:
        """Grains whose entries cannot be in either copy, and those that the file ends within."""
        header = self._header
        sound = [self._is_sound(batch, tables) for tables in found]
        is_lost = ~np.any(sound, axis=0)
        numbers = np.add.outer(batch * header.gtes_per_gt, np.arange(header.gtes_per_gt))
        left = header.capacity_bytes - numbers * header.grain_bytes
        end = settled * SECTOR_BYTES + np.clip(left, 0, header.grain_bytes)
        is_cut = (settled > 1) & (end > self._raw.size_bytes)
        is_there = numbers < header.grain_count
        is_behind = self._is_behind(found)
        lost = numbers[is_lost & is_there & ~is_behind]
        self._add_lost(lost, "nothing that is left says where it is")
        self._add_lost(numbers[is_lost & is_there & is_behind], "the file ends before it")
        self._add_lost(numbers[is_cut & is_there], "the file ends within it")

    def _is_behind(self, found: list[Sectors]) -> Mask:
        """Which grains are behind the end of the file by all that says where they are."""
        said, last = found[0], found[-1]
        said = np.where(said < 0, last, said)
        start, grain = self._header.overhead_sectors, self._header.grain_sectors
        is_grain = (said * SECTOR_BYTES >= self._raw.size_bytes) & ((said - start) % grain == 0)
        behind: Mask = is_grain & ((said == last) | (last < 0))
        return behind

    def note_lost_tables(self, *, is_damaged: bool) -> None:
        """What no table tells of, where grains are left over that were in lost ones."""
        header = replace(self._header, unclean_shutdown=0)
        lost = lost_tables(self._raw, header, is_damaged=is_damaged)
        if lost is not None:
            reason = f"which part of the disk {lost} in the file belong to is not known"
            for first, stop in lost.runs:
                self._add_lost(np.arange(first, stop), reason)

    def _add_lost(self, numbers: Sectors, reason: str) -> None:
        size, end = self._header.grain_bytes, self._header.capacity_bytes
        breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
        for run in np.split(numbers, breaks):
            if len(run):
                start = int(run[0]) * size
                stop = min((int(run[-1]) + 1) * size, end)
                self.lost.append(Lost(start, stop - start, reason))


class _Copy:
    """A directory: where it is, and where it says that its tables are."""

    def __init__(self, sector: int, at: TablePlaces, parts: Sequence[range]) -> None:
        self.sector = sector
        self.at = at
        self._parts = parts

    @property
    def is_own(self) -> Mask:
        """Which tables are in the file, and not on top of another one or another part."""
        first = self.at.places
        is_own = self.at.is_there & ~self.at.is_twice
        for part in self._parts:
            is_own &= (first >= part.stop) | (first + self.at.header.table_sectors <= part.start)
        return is_own
