"""A `seSparse` extent (magic 0xcafebabe): the changes since a snapshot, on hosts from 6.5 on.

Its vendor documents it nowhere. What is not as it is known to be is refused, so that no other bytes
are read for those of the disk.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, NamedTuple

from ipva_storage.device import read
from ipva_storage.errors import VmdkError
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.extent.base import NOWHERE, ZEROED
from ipva_storage.vmdk.extent.delta import REMEDY, TABLE_ENTRIES, DeltaExtent
from ipva_storage.vmdk.extent.header import CAPACITY_MAX_BYTES, refuse_first

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipva_storage.device import BlockDevice
    from ipva_storage.vmdk.extent.sweep import Sweep

SESPARSE_MAGIC: Final = bytes.fromhex("bebafeca00000000")
"""The same as in `ipva_formats.vmdk`."""

GRAIN_SECTORS: Final = 8
"""Sectors in a grain, always. Source: qemu block/vmdk.c. Confidence: inferred."""

TABLE_SECTORS: Final = TABLE_ENTRIES * 8 // SECTOR_BYTES
"""Sectors that a grain table takes, always. Source: qemu block/vmdk.c. Confidence: inferred."""

TABLES_MAX: Final = 1 << 23
"""Grain tables that a file may have room for: twice what the largest disk needs. Confidence:
chosen.
"""

TABLE_MARK: Final = 0x1000_0000
UNALLOCATED, UNMAPPED, ZERO, ALLOCATED = range(4)
"""The same as in `ipva_formats.vmdk`: the upper half of an entry of a directory, and what the upper
four bits of an entry of a grain table say.
"""

_NEXT_GRAIN: Final = 1 << 48
"""What is between the entries of two grains that follow each other, but for each 4096th."""


class Part(NamedTuple):
    """A part of the file."""

    offset_sectors: int
    sector_count: int

    @property
    def end_sectors(self) -> int:
        """The sector behind it."""
        return self.offset_sectors + self.sector_count


@dataclasses.dataclass(frozen=True, slots=True)
class SeSparseHeader:
    """The fields of `ipva_formats.vmdk.SESPARSE_CONST_HEADER`, and what follows from them."""

    version: int
    capacity_sectors: int
    grain_sectors: int
    table_sectors: int
    flags: int
    reserved: bytes
    volatile_header: Part
    journal_header: Part
    journal: Part
    directory: Part
    tables: Part
    free_bitmap: Part
    backmap: Part
    grains: Part
    padding: bytes

    @property
    def gtes_per_gt(self) -> int:
        """Entries in a grain table."""
        return TABLE_ENTRIES

    @property
    def capacity_bytes(self) -> int:
        """Size of the disk in it."""
        return self.capacity_sectors * SECTOR_BYTES

    @property
    def grain_bytes(self) -> int:
        """Size of a grain."""
        return GRAIN_SECTORS * SECTOR_BYTES

    @property
    def grain_count(self) -> int:
        """Grains of the disk; the last may be cut by its end."""
        return -(-self.capacity_sectors // GRAIN_SECTORS)

    @property
    def table_count(self) -> int:
        """Entries of the directory that the disk needs."""
        return -(-self.grain_count // TABLE_ENTRIES)

    def table_room(self, file_size_bytes: int) -> int:
        """Grain tables that there are in the file, used or not."""
        end = min(self.tables.end_sectors, file_size_bytes // SECTOR_BYTES)
        return max(0, end - self.tables.offset_sectors) // TABLE_SECTORS

    def parts(self) -> dict[str, Part]:
        """Every part of the file, by name."""
        named = {"header": Part(0, 1)}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Part):
                named[field.name.replace("_", " ")] = value
        return named


def read_sesparse_header(raw: BlockDevice) -> SeSparseHeader:
    """The constant header of a `seSparse` extent, whatever its values.

    Raises:
        VmdkError: there is no such header.
    """
    if raw.size_bytes < SECTOR_BYTES or read(raw, 0, 8) != SESPARSE_MAGIC:
        raise VmdkError("there is no seSparse header", where=raw.name, offset_bytes=0)
    from ipva_formats.vmdk import SESPARSE_CONST_HEADER

    fields = SESPARSE_CONST_HEADER.parse(read(raw, 0, SECTOR_BYTES))
    values = {name: fields[name] for name in SeSparseHeader.__slots__}
    for name, value in values.items():
        if not isinstance(value, int | bytes):
            values[name] = Part(value.offset_sectors, value.sector_count)
    return SeSparseHeader(**values)


def must_replay(raw: BlockDevice, header: SeSparseHeader) -> bool | None:
    """Whether the journal holds changes that are not in the tables yet; None where that is lost."""
    from ipva_formats.vmdk import SESPARSE_VOLATILE_HEADER, SESPARSE_VOLATILE_MAGIC

    at = header.volatile_header.offset_sectors * SECTOR_BYTES
    if at + SECTOR_BYTES > raw.size_bytes or read(raw, at, 8) != SESPARSE_VOLATILE_MAGIC:
        return None
    fields = SESPARSE_VOLATILE_HEADER.parse(read(raw, at, SECTOR_BYTES))
    return bool(fields.replay_journal)


def sesparse_problems(header: SeSparseHeader) -> Iterator[tuple[int, str]]:
    """What makes a header unusable: where in the header, and a sentence.

    Every count that memory or loops depend on is bounded here.
    """
    for offset_bytes, name, value in (
        (8, "version", 0x2_0000_0001),
        (24, "grain_sectors", GRAIN_SECTORS),
        (32, "table_sectors", TABLE_SECTORS),
        (40, "flags", 0),
    ):
        found = getattr(header, name)
        if found != value:
            yield offset_bytes, f"{name} is {found:#x}, and only {value:#x} is known"
    if any(header.reserved):
        yield 48, "a field is in use of which nothing is known"
    if not 1 <= header.capacity_bytes <= CAPACITY_MAX_BYTES:
        yield 16, f"a capacity of {header.capacity_sectors} sectors is impossible"
    elif header.directory.sector_count * SECTOR_BYTES < header.table_count * 8:
        yield (
            136,
            f"a directory of {header.directory.sector_count} sectors is too short for the "
            f"{header.table_count} entries that its capacity needs",
        )
    for offset_bytes, name, part in (
        (144, "grain tables", header.tables),
        (192, "grains", header.grains),
    ):
        if not part.offset_sectors:
            yield offset_bytes, f"its {name} would lie in the header"
    if header.tables.sector_count > TABLES_MAX * TABLE_SECTORS:
        yield 152, f"room of {header.tables.sector_count} sectors for grain tables is impossible"


class SeSparseExtent(DeltaExtent):
    """One `seSparse` extent."""

    kind = "seSparse"
    entry_bytes = 8

    def __init__(
        self,
        raw: BlockDevice,
        *,
        size_bytes: int | None = None,
        below: BlockDevice | None = None,
    ) -> None:
        """Open an extent; one whose journal was not replayed shows what its tables say.

        Args:
            raw: its file.
            size_bytes: how much of it belongs to the disk; all of it unless given.
            below: what shows where it has no grain.

        Raises:
            VmdkError: its header is damaged, or its directory is outside the file.
        """
        self.header = header = read_sesparse_header(raw)
        refuse_first(sesparse_problems(header), raw.name, REMEDY)
        super().__init__(raw, header.capacity_bytes, header.grain_bytes, size_bytes, below)
        self._directory_bytes = header.directory.offset_sectors * SECTOR_BYTES
        end_bytes = self._directory_bytes + header.table_count * 8
        if not self._directory_bytes or end_bytes > raw.size_bytes:
            raise self.damaged("its grain directory is outside the file", 128)
        self._table_room = header.table_room(raw.size_bytes)
        tables_start = header.tables.offset_sectors
        tables_count = min(self._table_room, header.table_count) * TABLE_SECTORS
        self._metadata = (
            (header.directory.offset_sectors, -(-end_bytes // SECTOR_BYTES)),
            (tables_start, tables_start + tables_count),
        )

    def table_place(self, index: int) -> int | None:
        """The byte of the file where a table starts; None where there is none.

        Raises:
            VmdkError: the directory names one that is not there.
        """
        first = index - index % TABLE_ENTRIES
        count = min(TABLE_ENTRIES, self.header.table_count - first)
        entry = self.reader.entries(self._directory_bytes + 8 * first, count)[index - first]
        if not entry:
            return None
        number = entry & 0xFFFF_FFFF
        if entry >> 32 != TABLE_MARK or number >= self._table_room:
            raise self.damaged(
                f"grain table {index} has the entry {entry:#x} in the directory, which names no "
                "table of the file",
                self._directory_bytes + 8 * index,
            )
        return (self.header.tables.offset_sectors + number * TABLE_SECTORS) * SECTOR_BYTES

    def entry_places(
        self, entries: Sequence[int], grain: int, offset_bytes: int
    ) -> Iterator[tuple[int, int]]:
        """Where the grains of some entries are, in runs.

        Raises:
            VmdkError: an entry names what cannot be.
        """
        first = grain
        for count, entry in _entry_runs(entries):
            at = offset_bytes + 8 * (first - grain)
            kind = entry >> 60
            if kind == ALLOCATED:
                number = entry >> 48 & 0xFFF | (entry & 0xFFFF_FFFF_FFFF) << 12
                sector = self.header.grains.offset_sectors + number * GRAIN_SECTORS
                overlap = self._metadata_in(sector, sector + count * GRAIN_SECTORS)
                self.check_run(first, count, sector, at, overlap)
                yield count, sector * SECTOR_BYTES
            elif not entry:
                yield count, NOWHERE
            elif kind in (UNMAPPED, ZERO):
                yield count, ZEROED
            else:
                raise self.damaged(f"grain {first} has the entry {entry:#x}, which is no known", at)
            first += count

    def sweep(self) -> Sweep:
        """All tables, for going through them with NumPy."""
        from ipva_storage.vmdk.extent.sweep import SeSparseSweep

        return SeSparseSweep.of(self.raw, self.header)

    def _metadata_in(self, start_sector: int, stop_sector: int) -> int | None:
        """A sector of a range that holds tables or the directory, or None where there is none."""
        for start, stop in self._metadata:
            if start_sector < stop and start < stop_sector:
                return max(start_sector, start)
        return None


def _entry_runs(entries: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Entries of a grain table in runs: length, first entry.

    Grains of a run follow each other in the file, or are all nowhere, or all zeros.
    """
    first, count = 0, len(entries)
    while first < count:
        entry = entries[first]
        stop = first + 1
        if entry >> 60 in (UNMAPPED, ZERO):
            while stop < count and entries[stop] >> 60 in (UNMAPPED, ZERO):
                stop += 1
        elif not entry or entry >> 60 == ALLOCATED:
            step = _NEXT_GRAIN if entry else 0
            expected = entry + step
            while stop < count and entries[stop] == expected:
                stop += 1
                expected += step
        yield stop - first, entry
        first = stop
