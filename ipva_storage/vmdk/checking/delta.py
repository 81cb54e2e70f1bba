"""The tables of an extent of an ESXi host's snapshot, and the grains that they name, all at once.

Cost: each table is read once, and once more for each further window of the file (`taken`); one that
is named twice or that the host keeps as a hole is not read at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ipva_storage.device import read
from ipva_storage.findings import Finding
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.checking.tables import Named
from ipva_storage.vmdk.checking.taken import Taken
from ipva_storage.vmdk.extent.delta import TABLE_ENTRIES
from ipva_storage.vmdk.extent.sweep import CHUNK_TABLES, LOST, TWICE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.vmdk.extent.places import Mask, Sectors
    from ipva_storage.vmdk.extent.sweep import Entries, Sweep


class Ranges:
    """Parts of the file that no grain may lie in."""

    def __init__(self, starts: Sectors, stops: Sectors) -> None:
        """Take the first sectors of the parts, and those behind them; one part starts at 0."""
        order = np.argsort(starts, kind="stable")
        self._starts = starts[order]
        self._stops = np.maximum.accumulate(stops[order])

    def holds_any(self, starts: Sectors, length: int) -> Mask:
        """Which runs of `length` sectors lie in a part, or begin or end in one."""
        at = np.searchsorted(self._starts, starts + length, "left")
        found: Mask = self._stops[at - 1] > starts
        return found


class DeltaCheck:
    """Checks what a sweep over all tables finds."""

    def __init__(self, sweep: Sweep, metadata: Ranges, *, base_sector: int, unit: int) -> None:
        """Get ready.

        Args:
            sweep: the tables.
            metadata: where no grain may lie.
            base_sector: where grains may start, at the earliest.
            unit: every how many sectors they may start, from there on.
        """
        self._sweep = sweep
        self._metadata = metadata
        self._base, self._unit = base_sector, unit
        self._size_bytes = sweep.raw.size_bytes
        self._grain_sectors = sweep.shape.grain_bytes // SECTOR_BYTES
        self._named = Named()
        place_count = max(0, -(-self._size_bytes // SECTOR_BYTES) - base_sector) // unit + 1
        self._taken = Taken(place_count, self._grain_sectors // unit)
        self.end_sector = 0
        """The end of the last grain or table, known after `findings`."""

    def findings(self, directory_bytes: int) -> Iterator[Finding]:
        """Everything that is wrong with the tables and the grains.

        Args:
            directory_bytes: where the directory is.
        """
        yield from self._check_places(directory_bytes)
        for indexes, entries in self._sweep.batches():
            yield from self._check_entries(indexes, entries)
        yield from self._check_overlaps()
        for _ in self._taken.windows():
            for indexes, entries in self._sweep.batches():
                yield from self._check_shared(indexes, entries)
            yield from self._check_overlaps()
        yield from self._named.rest()

    def _check_places(self, directory_bytes: int) -> Iterator[Finding]:
        """Tables that are not there, or on top of each other."""
        sweep = self._sweep
        self.end_sector = sweep.tables_end_sector()
        for code, state, what in (
            ("VMDK007", LOST, "is outside the file, or where none can be"),
            ("VMDK020", TWICE, "lies on another table"),
        ):
            for start in range(0, len(sweep.states), CHUNK_TABLES):
                mask = sweep.states[start : start + CHUNK_TABLES] == state
                for index in self._named.pick(code, "grain directory", mask):
                    at = directory_bytes + sweep.entry_bytes * (start + index)
                    entry = int.from_bytes(read(sweep.raw, at, sweep.entry_bytes), "little")
                    message = f"table {start + index} {sweep.table_of(entry)} {what}"
                    yield Finding(code, "grain directory", message, offset_bytes=at)

    def _check_entries(self, indexes: Sectors, entries: Entries) -> Iterator[Finding]:
        """Where the entries of some tables point; the tables are rows."""
        sectors = self._sweep.sectors(entries).ravel()
        left = self._left(indexes)
        is_behind = (left <= 0) & (entries.ravel() != 0)
        is_unknown = (sectors < 0) & ~is_behind
        is_outside, is_metadata, is_sound = self._sort_out(sectors, left)
        is_shared = self._shared(sectors, is_sound)
        ends = sectors[is_sound] + self._grain_sectors
        self.end_sector = max(self.end_sector, int(ends.max(initial=0)))
        for code, mask, what in (
            ("VMDK010", is_unknown, "is nowhere: it is of no known kind"),
            ("VMDK010", is_outside, "ends outside the file"),
            ("VMDK013", is_metadata, "lies in the metadata"),
            ("VMDK012", is_shared, "lies where another grain lies"),
            ("VMDK019", is_behind, "is behind the end of the disk"),
        ):
            yield from self._grains(code, mask, what, indexes, entries)

    def _check_shared(self, indexes: Sectors, entries: Entries) -> Iterator[Finding]:
        """Grains that take each other's place, in the open window."""
        sectors = self._sweep.sectors(entries).ravel()
        _, _, is_sound = self._sort_out(sectors, self._left(indexes))
        is_shared = self._shared(sectors, is_sound)
        what = "lies where another grain lies"
        yield from self._grains("VMDK012", is_shared, what, indexes, entries)

    def _check_overlaps(self) -> Iterator[Finding]:
        """Grains that take a part of each other's place."""
        for one, other in self._taken.overlaps():
            if self._named.is_next("VMDK012", "grain"):
                one, other = (self._base + place * self._unit for place in (one, other))
                message = f"the grains at sectors {one} and {other} overlap"
                yield Finding("VMDK012", "grain", message, offset_bytes=other * SECTOR_BYTES)

    def _left(self, indexes: Sectors) -> Sectors:
        """Bytes from each grain's start to the end of the disk."""
        grains = np.add.outer(indexes * TABLE_ENTRIES, np.arange(TABLE_ENTRIES)).ravel()
        shape = self._sweep.shape
        left: Sectors = shape.capacity_bytes - grains * shape.grain_bytes
        return left

    def _sort_out(self, sectors: Sectors, left: Sectors) -> tuple[Mask, Mask, Mask]:
        """Which grains end outside the file, which lie in the metadata, and which are sound."""
        is_grain = (sectors > 0) & (left > 0)
        end = sectors * SECTOR_BYTES + np.minimum(left, self._grain_sectors * SECTOR_BYTES)
        is_outside = is_grain & (end > self._size_bytes)
        is_metadata = is_grain & self._metadata.holds_any(sectors, self._grain_sectors)
        return is_outside, is_metadata & ~is_outside, is_grain & ~is_outside & ~is_metadata

    def _shared(self, sectors: Sectors, is_sound: Mask) -> Mask:
        at = np.flatnonzero(is_sound)
        found = np.zeros(len(sectors), bool)
        found[at] = self._taken.take((sectors[at] - self._base) // self._unit)
        return found

    def _grains(
        self, code: str, mask: Mask, what: str, indexes: Sectors, entries: Entries
    ) -> Iterator[Finding]:
        """Findings about some grains of some tables."""
        sweep = self._sweep
        for at in self._named.pick(code, "grain table", mask):
            row, column = divmod(at, TABLE_ENTRIES)
            index = int(indexes[row])
            place = sweep.place_of(int(entries[row, column]))
            message = f"grain {index * TABLE_ENTRIES + column} {place} {what}"
            sector = int(sweep.places(sweep.numbers[index : index + 1])[0])
            offset_bytes = sector * SECTOR_BYTES + sweep.entry_bytes * column
            yield Finding(code, "grain table", message, offset_bytes=offset_bytes)
