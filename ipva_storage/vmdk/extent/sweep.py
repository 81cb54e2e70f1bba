"""All tables of an extent of an ESXi host's snapshot, some at a time, with NumPy.

A directory may have four million entries, of which most are zero, many may name one table, and the
tables may be holes of the host. None of these costs a step of its own. Memory is five bytes an
entry of the directory, and some arrays of a batch of tables.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from ipva_formats import dtype_of
from ipva_formats.vmdk import GRAIN_ENTRY, SESPARSE_ENTRY
from ipva_storage.device import read
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.extent import cowd, sesparse
from ipva_storage.vmdk.extent.delta import TABLE_ENTRIES
from ipva_storage.vmdk.extent.places import HostData, Mask, Sectors
from ipva_storage.vmdk.extent.scan import ordered_runs, run_extents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice, Extent

Entries = npt.NDArray[np.unsignedinteger[Any]]

ABSENT, LOST, TWICE, BLANK, THERE = range(5)
"""What a table is: none; said to be where none can be; on top of one that lies before; all zeros,
because the host keeps a hole there; to be read.
"""

CHUNK_TABLES: Final = 1 << 16
"""Entries of a directory looked at together. Confidence: chosen."""

BATCH_TABLES: Final = 32
"""Tables looked at together. Confidence: chosen."""


@dataclass(frozen=True)
class Sweep(ABC):
    """The tables that a directory names, and access to them."""

    entry_bytes: ClassVar[int]
    raw: BlockDevice
    numbers: npt.NDArray[np.uint32]
    """Which table of the file each is; shape (tables,)."""
    states: npt.NDArray[np.uint8]
    """What each is, such as `THERE`; shape (tables,)."""

    @property
    @abstractmethod
    def shape(self) -> cowd.CowdHeader | sesparse.SeSparseHeader:
        """The header of the extent."""

    @abstractmethod
    def places(self, numbers: npt.NDArray[np.uint32]) -> Sectors:
        """The sector of each table of the file, out of those that are in it."""

    @abstractmethod
    def decode(self, data: bytes) -> Entries:
        """Entries out of a table's bytes."""

    @abstractmethod
    def is_data(self, entries: Entries, *, count_zeroed: bool) -> Mask:
        """Which entries are of grains that are there, or of nothing known."""

    @abstractmethod
    def sectors(self, entries: Entries) -> Sectors:
        """Where grains start; 0 where an entry names none, -1 where it is of nothing known.

        What starts behind the end of the file may be told as any sector there.
        """

    @abstractmethod
    def place_of(self, entry: int) -> str:
        """Where a grain is said to be, for messages."""

    @abstractmethod
    def table_of(self, entry: int) -> str:
        """Which table an entry of the directory names, for messages."""

    def batches(self) -> Iterator[tuple[Sectors, Entries]]:
        """All tables that are to be read: their numbers, and their entries, a row each."""
        for start in range(0, len(self.states), CHUNK_TABLES):
            yield from self._chunk(start)

    def extents(self, *, count_zeroed: bool) -> Iterator[Extent]:
        """Runs of data and of none over the whole extent.

        Args:
            count_zeroed: whether a grain that is marked as zeros counts as data.
        """
        return run_extents(self.shape, self._runs(count_zeroed=count_zeroed))

    def tables_end_sector(self) -> int:
        """The end of the last table that is in the file; 0 where there is none."""
        is_there = self.states >= TWICE
        if not is_there.any():
            return 0
        last = np.max(self.numbers, where=is_there, initial=0)
        return int(self.places(np.array([last]))[0]) + self.table_sectors

    @property
    def table_sectors(self) -> int:
        """Sectors that a table takes."""
        return TABLE_ENTRIES * self.entry_bytes // SECTOR_BYTES

    def _runs(self, *, count_zeroed: bool) -> Iterator[tuple[Sectors, Sectors]]:
        for start in range(0, len(self.states), CHUNK_TABLES):
            states = self.states[start : start + CHUNK_TABLES]
            whole = start + np.flatnonzero((states == TWICE) | (states == LOST))
            parts = (
                (indexes, self.is_data(entries, count_zeroed=count_zeroed))
                for indexes, entries in self._chunk(start)
            )
            yield from ordered_runs(TABLE_ENTRIES, parts, whole)

    def _chunk(self, start: int) -> Iterator[tuple[Sectors, Entries]]:
        states = self.states[start : start + CHUNK_TABLES]
        indexes = start + np.flatnonzero(states == THERE)
        for first in range(0, len(indexes), BATCH_TABLES):
            batch = indexes[first : first + BATCH_TABLES]
            yield batch, self._tables(self.places(self.numbers[batch]))

    def _tables(self, sectors: Sectors) -> Entries:
        """Tables at some sectors, neighbours read at once; shape (tables, entries)."""
        is_next = np.diff(sectors) == self.table_sectors
        parts = [
            read(
                self.raw,
                int(run[0]) * SECTOR_BYTES,
                len(run) * self.table_sectors * SECTOR_BYTES,
            )
            for run in np.split(sectors, np.flatnonzero(~is_next) + 1)
        ]
        return self.decode(b"".join(parts)).reshape(-1, TABLE_ENTRIES)

    def _mark_blank(self) -> None:
        """Find the tables that the host keeps as holes."""
        table_bytes = self.table_sectors * SECTOR_BYTES
        host = HostData.of(self.raw, self.tables_end_sector() * SECTOR_BYTES)
        for start in range(0, len(self.states), CHUNK_TABLES):
            states = self.states[start : start + CHUNK_TABLES]
            at = np.flatnonzero(states == THERE)
            starts = self.places(self.numbers[start + at]) * SECTOR_BYTES
            states[at[host.is_absent(starts, table_bytes)]] = BLANK


@dataclass(frozen=True)
class CowdSweep(Sweep):
    """The tables of an ESX server sparse extent."""

    entry_bytes: ClassVar[int] = 4
    header: cowd.CowdHeader

    @classmethod
    def of(cls, raw: BlockDevice, header: cowd.CowdHeader) -> CowdSweep:
        """Look at a directory that is in the file."""
        data = read(raw, header.gd_offset_sectors * SECTOR_BYTES, header.table_count * 4)
        numbers = _words(data).astype(np.uint32, copy=False)
        states = np.zeros(len(numbers), np.uint8)
        last = raw.size_bytes // SECTOR_BYTES - cowd.TABLE_SECTORS
        is_there = (numbers >= header.first_sector) & (numbers.astype(np.int64) <= last)
        states[numbers > 0] = LOST
        states[is_there] = THERE
        order = np.flatnonzero(is_there)
        order = order[np.argsort(numbers[order], kind="stable")]
        is_twice = np.diff(numbers[order]) < cowd.TABLE_SECTORS
        states[order[1:][is_twice]] = TWICE
        found = cls(raw, numbers, states, header)
        found._mark_blank()
        return found

    @property
    def shape(self) -> cowd.CowdHeader:
        """The header of the extent."""
        return self.header

    def places(self, numbers: npt.NDArray[np.uint32]) -> Sectors:
        """The sector of each table."""
        return numbers.astype(np.int64)

    def decode(self, data: bytes) -> Entries:
        """Entries out of a table's bytes."""
        return _words(data)

    def is_data(self, entries: Entries, *, count_zeroed: bool) -> Mask:  # noqa: ARG002 - none are
        """Which entries are of grains that are there."""
        found: Mask = entries != 0
        return found

    def sectors(self, entries: Entries) -> Sectors:
        """Where grains start."""
        return entries.astype(np.int64)

    def place_of(self, entry: int) -> str:
        """Where a grain is said to be."""
        return f"at sector {entry}"

    def table_of(self, entry: int) -> str:
        """Which table an entry of the directory names."""
        return f"at sector {entry}"


@dataclass(frozen=True)
class SeSparseSweep(Sweep):
    """The tables of a `seSparse` extent."""

    entry_bytes: ClassVar[int] = 8
    header: sesparse.SeSparseHeader

    @classmethod
    def of(cls, raw: BlockDevice, header: sesparse.SeSparseHeader) -> SeSparseSweep:
        """Look at a directory that is in the file."""
        numbers = np.zeros(header.table_count, np.uint32)
        states = np.zeros(header.table_count, np.uint8)
        is_seen = np.zeros(header.table_room(raw.size_bytes), bool)
        place = header.directory.offset_sectors * SECTOR_BYTES
        for start in range(0, header.table_count, CHUNK_TABLES):
            count = min(CHUNK_TABLES, header.table_count - start)
            entries = _long_words(read(raw, place + 8 * start, 8 * count))
            part = slice(start, start + count)
            numbers[part] = entries & 0xFFFF_FFFF
            states[part] = np.where(entries > 0, LOST, ABSENT)
            is_there = (entries >> 32 == sesparse.TABLE_MARK) & (numbers[part] < len(is_seen))
            at = start + np.flatnonzero(is_there)
            found, firsts = np.unique(numbers[at], return_index=True)
            states[at] = TWICE
            states[at[firsts[~is_seen[found]]]] = THERE
            is_seen[found] = True
        sweep = cls(raw, numbers, states, header)
        sweep._mark_blank()
        return sweep

    @property
    def shape(self) -> sesparse.SeSparseHeader:
        """The header of the extent."""
        return self.header

    def places(self, numbers: npt.NDArray[np.uint32]) -> Sectors:
        """The sector of each table."""
        start = min(self.header.tables.offset_sectors, self._end_sector)
        return start + numbers.astype(np.int64) * sesparse.TABLE_SECTORS

    def decode(self, data: bytes) -> Entries:
        """Entries out of a table's bytes."""
        return _long_words(data)

    def is_data(self, entries: Entries, *, count_zeroed: bool) -> Mask:
        """Which entries are of grains that are there, or of nothing known."""
        kinds = entries >> 60
        is_zeroed = (kinds == sesparse.UNMAPPED) | (kinds == sesparse.ZERO)
        found: Mask = (entries != 0) & (count_zeroed | ~is_zeroed)
        return found

    def sectors(self, entries: Entries) -> Sectors:
        """Where grains start."""
        kinds = entries >> 60
        numbers = entries >> 48 & 0xFFF | (entries & 0xFFFF_FFFF_FFFF) << 12
        # What is far behind the end would not fit in the arithmetic.
        numbers = np.minimum(numbers, self._end_sector // sesparse.GRAIN_SECTORS + 1)
        start = min(self.header.grains.offset_sectors, self._end_sector)
        found: Sectors = start + numbers.astype(np.int64) * sesparse.GRAIN_SECTORS
        found[kinds != sesparse.ALLOCATED] = 0
        is_known = (entries == 0) | ((kinds > sesparse.UNALLOCATED) & (kinds <= sesparse.ALLOCATED))
        found[~is_known] = -1
        return found

    def place_of(self, entry: int) -> str:
        """Where a grain is said to be."""
        number = entry >> 48 & 0xFFF | (entry & 0xFFFF_FFFF_FFFF) << 12
        return f"at sector {self.header.grains.offset_sectors + number * sesparse.GRAIN_SECTORS}"

    def table_of(self, entry: int) -> str:
        """Which table an entry of the directory names."""
        return f"with the entry {entry:#x}"

    @property
    def _end_sector(self) -> int:
        return -(-self.raw.size_bytes // SECTOR_BYTES)


def _words(data: bytes) -> npt.NDArray[np.uint32]:
    found: npt.NDArray[np.uint32] = np.frombuffer(data, dtype_of(GRAIN_ENTRY))["sector"]
    return found


def _long_words(data: bytes) -> npt.NDArray[np.uint64]:
    found: npt.NDArray[np.uint64] = np.frombuffer(data, dtype_of(SESPARSE_ENTRY))["entry"]
    return found
