"""An ESX server sparse extent (`vmfsSparse`, magic `COWD`): the changes since a snapshot.

New tables are put between the grains as they are needed, so that metadata is anywhere in the file.
"""

from __future__ import annotations

import dataclasses
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from ipva_storage.device import read
from ipva_storage.errors import VmdkError
from ipva_storage.units import MIB, SECTOR_BYTES
from ipva_storage.vmdk.extent.base import NOWHERE, entry_runs
from ipva_storage.vmdk.extent.delta import REMEDY, TABLE_ENTRIES, DeltaExtent
from ipva_storage.vmdk.extent.header import refuse_first
from ipva_storage.vmdk.extent.tables import entries_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipva_storage.device import BlockDevice
    from ipva_storage.vmdk.extent.sweep import Sweep

COWD_MAGIC: Final = b"COWD"
"""The same as in `ipva_formats.vmdk`."""

HEADER_SECTORS: Final = 4
"""Sectors that the header takes. Source: Virtual Disk Format 5.0. Confidence: stated."""

GRAIN_MAX_SECTORS: Final = MIB // SECTOR_BYTES
"""The largest grain. Source: Virtual Disk Format 5.0: from one sector to 1 MB. Confidence: stated.
"""

TABLE_SECTORS: Final = TABLE_ENTRIES * 4 // SECTOR_BYTES
"""Sectors that a grain table takes."""


@dataclasses.dataclass(frozen=True, slots=True)
class CowdHeader:
    """Fields of `ipva_formats.vmdk.COWD_HEADER`, and what follows from them."""

    version: int
    capacity_sectors: int
    grain_sectors: int
    gd_offset_sectors: int
    gd_entry_count: int
    free_sector: int
    unclean_shutdown: int

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
        return self.grain_sectors * SECTOR_BYTES

    @property
    def grain_count(self) -> int:
        """Grains of the disk; the last may be cut by its end."""
        return -(-self.capacity_sectors // self.grain_sectors)

    @property
    def table_count(self) -> int:
        """Tables that the disk needs; the directory may have more entries."""
        return -(-self.grain_count // TABLE_ENTRIES)

    @property
    def first_sector(self) -> int:
        """The first sector behind the header and the directory: no table or grain is before it."""
        return max(HEADER_SECTORS, -(-self.directory_end_bytes // SECTOR_BYTES))

    @property
    def directory_end_bytes(self) -> int:
        """Where the entries of the directory that the disk needs end."""
        return self.gd_offset_sectors * SECTOR_BYTES + self.table_count * 4


def read_cowd_header(raw: BlockDevice) -> CowdHeader:
    """The header of an ESX server sparse extent, whatever its values.

    Raises:
        VmdkError: there is no such header.
    """
    length_bytes = HEADER_SECTORS * SECTOR_BYTES
    if raw.size_bytes < length_bytes or read(raw, 0, 4) != COWD_MAGIC:
        raise VmdkError("there is no COWD header", where=raw.name, offset_bytes=0)
    from ipva_formats.vmdk import COWD_HEADER

    fields = COWD_HEADER.parse(read(raw, 0, length_bytes))
    return CowdHeader(**{name: fields[name] for name in CowdHeader.__slots__})


def cowd_problems(header: CowdHeader) -> Iterator[tuple[int, str]]:
    """What makes a header unusable: where in the header, and a sentence.

    Every count that memory or loops depend on is bounded here; what is left is at most 2 TiB, which
    a directory of a Mi entries covers.
    """
    if header.version != 1:
        yield 4, f"version {header.version} is unknown"
    if not 1 <= header.grain_sectors <= GRAIN_MAX_SECTORS:
        yield 16, f"a grain of {header.grain_sectors} sectors is none (1 to {GRAIN_MAX_SECTORS})"
        return
    if not header.capacity_sectors:
        yield 12, "a capacity of 0 sectors is impossible"
    elif header.gd_entry_count < header.table_count:
        yield (
            24,
            f"a directory of {header.gd_entry_count} entries is too short for the "
            f"{header.table_count} that its capacity needs",
        )
    if 0 < header.gd_offset_sectors < HEADER_SECTORS:
        yield 20, f"a directory at sector {header.gd_offset_sectors} would lie in the header"


class CowdExtent(DeltaExtent):
    """One ESX server sparse extent."""

    kind = "vmfsSparse"
    entry_bytes = 4

    def __init__(
        self,
        raw: BlockDevice,
        *,
        size_bytes: int | None = None,
        below: BlockDevice | None = None,
    ) -> None:
        """Open an extent.

        Args:
            raw: its file.
            size_bytes: how much of it belongs to the disk; all of it unless given.
            below: what shows where it has no grain.

        Raises:
            VmdkError: its header is damaged, or its directory is outside the file.
        """
        self.header = header = read_cowd_header(raw)
        refuse_first(cowd_problems(header), raw.name, REMEDY)
        super().__init__(raw, header.capacity_bytes, header.grain_bytes, size_bytes, below)
        if not header.gd_offset_sectors or header.directory_end_bytes > raw.size_bytes:
            raise self.damaged("its grain directory is outside the file", 20)
        directory_bytes = header.gd_offset_sectors * SECTOR_BYTES
        self.directory = entries_of(read(raw, directory_bytes, header.table_count * 4))
        self._last_table = raw.size_bytes // SECTOR_BYTES - TABLE_SECTORS
        self._starts: array[int] | None = None

    def table_place(self, index: int) -> int | None:
        """The byte of the file where a table starts; None where there is none.

        Raises:
            VmdkError: it is outside the file, or in the header or the directory.
        """
        sector = self.directory[index]
        if not sector:
            return None
        if not self.header.first_sector <= sector <= self._last_table:
            raise self.damaged(
                f"grain table {index} is said to be at sector {sector}, where none can be",
                self.header.gd_offset_sectors * SECTOR_BYTES + 4 * index,
            )
        return sector * SECTOR_BYTES

    def entry_places(
        self, entries: Sequence[int], grain: int, offset_bytes: int
    ) -> Iterator[tuple[int, int]]:
        """Where the grains of some entries are, in runs.

        Raises:
            VmdkError: an entry names what cannot be.
        """
        step, first = self.header.grain_sectors, grain
        for count, sector in entry_runs(entries, step):
            if sector:
                at = offset_bytes + 4 * (first - grain)
                overlap = self._metadata_in(sector, sector + count * step)
                self.check_run(first, count, sector, at, overlap)
            yield count, sector * SECTOR_BYTES if sector else NOWHERE
            first += count

    def sweep(self) -> Sweep:
        """All tables, for going through them with NumPy."""
        from ipva_storage.vmdk.extent.sweep import CowdSweep

        return CowdSweep.of(self.raw, self.header)

    def _metadata_in(self, start_sector: int, stop_sector: int) -> int | None:
        """A sector of metadata within a range, or None where there is none."""
        first, last = self.header.first_sector, self._last_table
        if start_sector < first:
            return start_sector
        if self._starts is None:
            self._starts = array("I", sorted(at for at in self.directory if first <= at <= last))
        at = bisect_left(self._starts, stop_sector)
        if at and self._starts[at - 1] + TABLE_SECTORS > start_sector:
            return max(start_sector, self._starts[at - 1])
        return None
