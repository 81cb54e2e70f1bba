"""Grain directories and grain tables, all entries at once.

Cost: each table is read once a copy, a table named twice only once. Memory is one bit a grain that
the file has room for, and some arrays of `BATCH_TABLES` tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from ipva_formats import dtype_of
from ipva_formats.vmdk import ENTRY_ZEROED, FLAG_ZEROED_GRAIN, GRAIN_ENTRY
from ipva_storage.device import read
from ipva_storage.findings import Finding
from ipva_storage.units import SECTOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.vmdk.header import SparseHeader

Sectors = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

BATCH_TABLES: Final = 512
"""Tables looked at together, 1 MiB of them. Confidence: chosen."""

NAMED_MAX: Final = 20
"""Findings of one code that are named one by one; the rest is counted. Confidence: chosen."""


def check_tables(raw: BlockDevice, header: SparseHeader) -> Iterator[Finding]:
    """What is wrong with the directories, the tables, and the grains that they name.

    Args:
        raw: the file.
        header: its header, without `header_problems`.
    """
    primary = _Copy.read(raw, header, header.gd_offset_sectors, "")
    if primary is None:
        yield _directory_lost("VMDK005", header, header.gd_offset_sectors, 56)
    redundant = None
    if header.has_redundant:
        redundant = _Copy.read(raw, header, header.rgd_offset_sectors, "redundant ")
        if redundant is None:
            yield _directory_lost("VMDK006", header, header.rgd_offset_sectors, 48)
    copies = [copy for copy in (primary, redundant) if copy is not None]
    named = _Named()
    yield from _check_places(copies, named)
    grains = _Grains(raw, header, named)
    for first in range(0, header.table_count, BATCH_TABLES):
        batch = slice(first, min(first + BATCH_TABLES, header.table_count))
        yield from _check_batch(header, copies, batch, grains)
    yield from named.rest()


def _directory_lost(code: str, header: SparseHeader, sector: int, offset_bytes: int) -> Finding:
    other = "; reading uses the redundant one" if code == "VMDK005" and header.has_redundant else ""
    return Finding(
        code,
        "grain directory",
        f"it is said to be at sector {sector}, which is outside the file{other}",
        offset_bytes=offset_bytes,
    )


class _Named:
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

    def rest(self) -> Iterator[Finding]:
        """One finding for each code with faults that were not named."""
        for (code, structure), count in self._counts.items():
            if count > NAMED_MAX:
                yield Finding(code, structure, f"and {count - NAMED_MAX} more like these")


@dataclass(frozen=True)
class _Copy:
    """One grain directory, and access to its tables."""

    raw: BlockDevice
    header: SparseHeader
    offset_sectors: int
    word: str
    """`redundant ` or nothing, for messages."""
    places: Sectors
    """Sector of each table; shape (tables,)."""
    is_there: Mask
    """Which tables are in the file."""
    is_twice: Mask
    """Which tables overlap an earlier one of this copy, and are not read again."""

    @classmethod
    def read(
        cls, raw: BlockDevice, header: SparseHeader, offset_sectors: int, word: str
    ) -> _Copy | None:
        """The directory at a sector, or None where it leaves the file."""
        offset_bytes, length_bytes = offset_sectors * SECTOR_BYTES, header.table_count * 4
        if not offset_sectors or offset_bytes + length_bytes > raw.size_bytes:
            return None
        places = _entries(read(raw, offset_bytes, length_bytes))
        end = places * SECTOR_BYTES + 4 * header.gtes_per_gt
        is_there = (places > 0) & (end <= raw.size_bytes)
        order = np.argsort(places, kind="stable")
        is_twice = np.zeros(len(places), bool)
        is_twice[order[1:]] = np.diff(places[order]) < header.table_sectors
        is_twice &= is_there
        return cls(raw, header, offset_sectors, word, places, is_there, is_twice)

    def tables(self, batch: slice) -> Sectors:
        """Tables of a batch, those not there as zeros; shape (tables, entries)."""
        gtes, stride = self.header.gtes_per_gt, self.header.table_sectors
        places = self.places[batch]
        found = np.zeros((len(places), gtes), np.int64)
        usable = np.flatnonzero(self.is_there[batch] & ~self.is_twice[batch])
        is_next = (np.diff(usable) == 1) & (np.diff(places[usable]) == stride)
        for run in np.split(usable, np.flatnonzero(~is_next) + 1):
            if len(run):
                length_bytes = (len(run) - 1) * stride * SECTOR_BYTES + 4 * gtes
                data = read(self.raw, int(places[run[0]]) * SECTOR_BYTES, length_bytes)
                padded = data.ljust(len(run) * stride * SECTOR_BYTES, b"\0")
                found[run] = _entries(padded).reshape(len(run), -1)[:, :gtes]
        return found


def _entries(data: bytes) -> Sectors:
    return np.frombuffer(data, dtype_of(GRAIN_ENTRY))["sector"].astype(np.int64)


def _check_places(copies: list[_Copy], named: _Named) -> Iterator[Finding]:
    """Tables outside the file, or on top of each other."""
    is_absent = np.all([copy.places == 0 for copy in copies], axis=0)
    for copy in copies:
        code = "VMDK008" if copy.word else "VMDK007"
        structure = f"{copy.word}grain directory"
        at = copy.offset_sectors * SECTOR_BYTES
        for index in named.pick(code, structure, ~copy.is_there & ~is_absent):
            message = (
                f"table {index} is said to be at sector {copy.places[index]}, outside the file"
            )
            yield Finding(code, structure, message, offset_bytes=at + 4 * index)
        for index in named.pick("VMDK020", structure, copy.is_twice):
            message = f"table {index} at sector {copy.places[index]} lies on another table"
            yield Finding("VMDK020", structure, message, offset_bytes=at + 4 * index)


def _check_batch(
    header: SparseHeader, copies: list[_Copy], batch: slice, grains: _Grains
) -> Iterator[Finding]:
    """The entries of some tables: the copies against each other, and where they point."""
    if not copies:
        return
    first, *others = copies
    tables = first.tables(batch)
    places = np.where(first.is_there[batch], first.places[batch], 0)
    for other in others:
        second = other.tables(batch)
        is_whole = [c.is_there[batch] & ~c.is_twice[batch] for c in (first, other)]
        differs = (tables != second) & (is_whole[0] & is_whole[1])[:, None]
        yield from grains.check_copies(batch.start, places, tables, second, differs)
        is_lost = ~first.is_there[batch] & is_whole[1]
        tables = np.where(is_lost[:, None], second, tables)
        places = np.where(is_lost, other.places[batch], places)
    yield from grains.check(batch.start * header.gtes_per_gt, places, tables)


class _Grains:
    """Checks where entries point, and remembers which grains of the file are in use."""

    def __init__(self, raw: BlockDevice, header: SparseHeader, named: _Named) -> None:
        self._header = header
        self._named = named
        self._size_bytes = raw.size_bytes
        self._phase = header.overhead_sectors % header.grain_sectors
        slot_count = raw.size_bytes // header.grain_bytes + 2
        self._used = np.zeros(min(slot_count, 1 << 32) // 8 + 1, np.uint8)

    def check_copies(
        self, first_table: int, places: Sectors, one: Sectors, other: Sectors, differs: Mask
    ) -> Iterator[Finding]:
        """Entries that the two copies give differently."""
        gtes = self._header.gtes_per_gt
        for at in self._named.pick("VMDK009", "grain tables", differs.ravel()):
            table, entry = divmod(at, gtes)
            message = (
                f"grain {(first_table + table) * gtes + entry}: the table says sector "
                f"{one[table, entry]}, the redundant one {other[table, entry]}"
            )
            offset_bytes = int(places[table]) * SECTOR_BYTES + 4 * entry
            yield Finding("VMDK009", "grain tables", message, offset_bytes=offset_bytes)

    def check(self, first_grain: int, places: Sectors, tables: Sectors) -> Iterator[Finding]:
        """Entries of neighbouring tables; `tables` has shape (tables, entries)."""
        header = self._header
        sectors = tables.ravel()
        grains = first_grain + np.arange(len(sectors))
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
