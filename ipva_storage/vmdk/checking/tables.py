"""Grain directories and grain tables, all entries at once.

Cost: each table is read once a copy, a table named twice only once, one that the host keeps as a
hole not at all. Memory is one bit a grain that the file has room for, five numbers an entry of a
directory, and some arrays of a batch of tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_formats.vmdk import ENTRY_ZEROED, FLAG_ZEROED_GRAIN
from ipva_storage.device import read
from ipva_storage.findings import Finding
from ipva_storage.units import MIB, SECTOR_BYTES
from ipva_storage.vmdk.extent.orphans import SALVAGE, lost_tables
from ipva_storage.vmdk.extent.places import Mask, Sectors, TablePlaces, read_places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.vmdk.extent.header import SparseHeader

SECTOR_MAX: Final = 1 << 32
"""Sectors that an entry can name. Confidence: stated."""

LOOKED_AT_GRAINS: Final = 16
"""Grains that are read to tell data from room that was never used. Confidence: chosen."""

NAMED_MAX: Final = 20
"""Findings of one code that are named one by one; the rest is counted. Confidence: chosen."""


def check_tables(raw: BlockDevice, header: SparseHeader) -> Iterator[Finding]:
    """What is wrong with the directories, the tables, and the grains that they name.

    Args:
        raw: the file.
        header: its header, without `header_problems`.
    """
    primary = Copy.read(raw, header, header.gd_offset_sectors, "")
    if primary is None:
        yield directory_lost("VMDK005", header, header.gd_offset_sectors, 56)
    redundant = None
    if header.has_redundant:
        redundant = Copy.read(raw, header, header.rgd_offset_sectors, "redundant ")
        if redundant is None:
            yield directory_lost("VMDK006", header, header.rgd_offset_sectors, 48)
    copies = [copy for copy in (primary, redundant) if copy is not None]
    named = Named()
    yield from check_places(copies, named)
    grains = _Grains(raw, header, named)
    if copies:
        is_read = np.any([~(copy.at.is_blank | copy.at.is_twice) for copy in copies], axis=0)
        for batch in copies[0].at.batches(np.flatnonzero(is_read)):
            yield from _check_batch(copies, batch, grains)
    yield from named.rest()
    is_blank = bool(copies) and not any(copy.at.places.any() for copy in copies)
    yield from grains.check_space(is_blank=is_blank)


def directory_lost(code: str, header: SparseHeader, sector: int, offset_bytes: int) -> Finding:
    """The finding for a directory that is outside the file."""
    other = "; reading uses the redundant one" if code == "VMDK005" and header.has_redundant else ""
    return Finding(
        code,
        "grain directory",
        f"it is said to be at sector {sector}, which is outside the file{other}",
        offset_bytes=offset_bytes,
    )


class Named:
    """Names the first faults of each code, and counts the others."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}

    def pick(self, code: str, structure: str, mask: Mask) -> list[int]:
        """Indexes of the faults in `mask` that are to be named."""
        key = (code, structure)
        before = self._counts.get(key, 0)
        found = np.flatnonzero(mask)
        self._counts[key] = before + len(found)
        return [int(index) for index in found[: max(0, NAMED_MAX - before)]]

    def is_next(self, code: str, structure: str) -> bool:
        """Count one fault more; whether it is to be named."""
        return bool(self.pick(code, structure, np.ones(1, bool)))

    def rest(self) -> Iterator[Finding]:
        """One finding for each code with faults that were not named."""
        for (code, structure), count in self._counts.items():
            if count > NAMED_MAX:
                yield Finding(code, structure, f"and {count - NAMED_MAX} more like these")


@dataclass(frozen=True)
class Copy:
    """One grain directory, and access to its tables."""

    offset_sectors: int
    word: str
    """`redundant ` or nothing, for messages."""
    at: TablePlaces

    @classmethod
    def read(
        cls, raw: BlockDevice, header: SparseHeader, offset_sectors: int, word: str
    ) -> Copy | None:
        """The directory at a sector, or None where it leaves the file."""
        places = read_places(raw, header, offset_sectors)
        return (
            None
            if places is None
            else cls(offset_sectors, word, TablePlaces.of(raw, header, places))
        )


def check_places(copies: list[Copy], named: Named) -> Iterator[Finding]:
    """Tables outside the file, or on top of each other."""
    is_absent = np.all([copy.at.places == 0 for copy in copies], axis=0)
    for copy in copies:
        code = "VMDK008" if copy.word else "VMDK007"
        structure = f"{copy.word}grain directory"
        at = copy.offset_sectors * SECTOR_BYTES
        for index in named.pick(code, structure, ~copy.at.is_there & ~is_absent):
            message = (
                f"table {index} is said to be at sector {copy.at.places[index]}, outside the file"
            )
            yield Finding(code, structure, message, offset_bytes=at + 4 * index)
        for index in named.pick("VMDK020", structure, copy.at.is_twice):
            message = f"table {index} at sector {copy.at.places[index]} lies on another table"
            yield Finding("VMDK020", structure, message, offset_bytes=at + 4 * index)


def _check_batch(copies: list[Copy], batch: Sectors, grains: _Grains) -> Iterator[Finding]:
    """The entries of some tables: the copies against each other, and where they point."""
    first, *others = (copy.at for copy in copies)
    found = [copy.at.tables(batch) for copy in copies]
    is_used = np.any([tables.any(axis=1) for tables in found], axis=0)
    batch, found = batch[is_used], [tables[is_used] for tables in found]
    tables = found[0]
    places = np.where(first.is_there[batch], first.places[batch], 0)
    for other, second in zip(others, found[1:], strict=True):
        is_whole = [at.is_there[batch] & ~at.is_twice[batch] for at in (first, other)]
        is_both = (is_whole[0] & is_whole[1])[:, None]
        yield from grains.check_copies(batch, places, tables, second, (tables != second) & is_both)
        is_lost = ~first.is_there[batch] & is_whole[1]
        is_other = is_lost[:, None] | (is_both & grains.is_resolved(tables, second))
        tables = np.where(is_other, second, tables)
        places = np.where(is_lost, other.places[batch], places)
    yield from grains.check(batch, places, tables)


class _Grains:
    """Checks where entries point, and remembers which grains of the file are in use."""

    def __init__(self, raw: BlockDevice, header: SparseHeader, named: Named) -> None:
        self._header = header
        self._named = named
        self._raw = raw
        self._size_bytes = raw.size_bytes
        self._phase = header.overhead_sectors % header.grain_sectors
        self._end_sector = -(-raw.size_bytes // SECTOR_BYTES)
        slot_count = min(self._end_sector, SECTOR_MAX) // header.grain_sectors + 2
        self._used = np.zeros(slot_count // 8 + 1, np.uint8)

    def check_copies(
        self, indexes: Sectors, places: Sectors, one: Sectors, other: Sectors, differs: Mask
    ) -> Iterator[Finding]:
        """Entries that the two copies give differently; tables of shape (tables, entries)."""
        gtes = self._header.gtes_per_gt
        for at in self._named.pick("VMDK009", "grain tables", differs.ravel()):
            table, entry = divmod(at, gtes)
            message = (
                f"grain {indexes[table] * gtes + entry}: the table says sector "
                f"{one[table, entry]}, the redundant one {other[table, entry]}"
            )
            offset_bytes = int(places[table]) * SECTOR_BYTES + 4 * entry
            yield Finding("VMDK009", "grain tables", message, offset_bytes=offset_bytes)

    def is_resolved(self, one: Sectors, other: Sectors) -> Mask:
        """Which entries reading takes from the redundant table, after a session that did not end.

        Those are the ones that a power cut tore (invariant 3 of `tables`). No data is lost then,
        and that the copies differ is all there is to say.
        """
        is_grain = (other >= max(self._header.overhead_sectors, 2)) & (other < self._end_sector)
        return is_grain & (one > ENTRY_ZEROED) & bool(self._header.unclean_shutdown)

    def check(self, indexes: Sectors, places: Sectors, tables: Sectors) -> Iterator[Finding]:
        """Entries of the tables of `indexes`; `tables` has shape (tables, entries)."""
        header = self._header
        sectors = tables.ravel()
        grains = np.add.outer(indexes * header.gtes_per_gt, np.arange(header.gtes_per_gt)).ravel()
        left = header.capacity_bytes - grains * header.grain_bytes
        is_grain = sectors > ENTRY_ZEROED
        is_behind = (left <= 0) & (sectors != 0)
        end = sectors * SECTOR_BYTES + np.minimum(left, header.grain_bytes)
        is_outside = is_grain & ~is_behind & (end > self._size_bytes)
        is_metadata = is_grain & (sectors < header.overhead_sectors)
        is_unaligned = is_grain & ((sectors - self._phase) % header.grain_sectors != 0)
        is_zeroed = (sectors == ENTRY_ZEROED) & (not header.flags & FLAG_ZEROED_GRAIN)
        is_sound = is_grain & ~is_behind & ~is_outside & ~is_metadata
        is_shared = self._shared(sectors, is_sound, is_unaligned)
        for code, mask, what in (
            ("VMDK010", is_outside, "ends outside the file"),
            ("VMDK013", is_metadata, "lies in the metadata"),
            ("VMDK011", is_unaligned & ~is_outside & ~is_metadata, "does not lie on a border"),
            ("VMDK012", is_shared, "lies where another grain lies"),
            ("VMDK018", is_zeroed, "is marked as zeros, which this file does not use"),
            ("VMDK019", is_behind, "is behind the end of the disk"),
        ):
            for at in self._named.pick(code, "grain table", mask):
                table, entry = divmod(at, header.gtes_per_gt)
                message = f"grain {grains[at]} at sector {sectors[at]} {what}"
                offset_bytes = int(places[table]) * SECTOR_BYTES + 4 * entry
                yield Finding(code, "grain table", message, offset_bytes=offset_bytes)

    def check_space(self, *, is_blank: bool) -> Iterator[Finding]:
        """Room behind the metadata that no entry names; after all tables were checked.

        Args:
            is_blank: whether the directories name no table at all.
        """
        header = self._header
        first = (header.overhead_sectors - self._phase) // header.grain_sectors
        last = (self._end_sector - self._phase) // header.grain_sectors
        parts = (self._used[at : at + MIB] for at in range(0, len(self._used), MIB))
        count = last - first - sum(int(np.bitwise_count(part).sum()) for part in parts)
        if count > 0:
            length = count * header.grain_bytes
            message = f"{length} bytes ({count} grains) belong to nothing"
            yield Finding("VMDK030", "grains", message, count=count, length_bytes=length)
            if is_blank and self._has_data(first, min(count, LOOKED_AT_GRAINS)):
                at = header.gd_offset_sectors * SECTOR_BYTES
                message = "it names no table, and there are grains"
                yield Finding("VMDK035", "grain directory", message, offset_bytes=at)
                return
            self._used = self._used[:0].copy()  # the next look takes as much again
            if (lost := lost_tables(self._raw, header)) is not None:
                message = (
                    f"parts of them are zeros in all copies, and {lost} in the file hold data that "
                    "no table names"
                )
                yield Finding("VMDK035", "grain tables", message, repair=SALVAGE)

    def _has_data(self, first: int, count: int) -> bool:
        """Whether any of the first grains of the file holds anything."""
        header = self._header
        start = (first * header.grain_sectors + self._phase) * SECTOR_BYTES
        length = min(count * header.grain_bytes, self._size_bytes - start)
        return length > 0 and any(read(self._raw, start, length))

    def _shared(self, sectors: Sectors, is_sound: Mask, is_unaligned: Mask) -> Mask:
        """Which grains take space that an earlier one took; then they count as taken as well."""
        grain = self._header.grain_sectors
        slots = np.where(is_sound, (sectors - self._phase) // grain, -1)
        found = np.zeros(len(sectors), bool)
        for candidates, shift in ((is_sound, 0), (is_sound & is_unaligned, 1)):
            at = np.flatnonzero(candidates)
            wanted = slots[at] + shift
            order = np.argsort(wanted, kind="stable")
            found[at[order[1:]]] |= np.diff(wanted[order]) == 0
            bits = np.left_shift(1, wanted & 7).astype(np.uint8)
            found[at] |= (self._used[wanted >> 3] & bits) != 0
            np.bitwise_or.at(self._used, wanted >> 3, bits)
        return found
