"""Mending a stream-optimized extent: from its grains, whose markers say where each belongs.

What is right is what the grains say that are there and whole. From them the tables are made anew
where they differ, and the directory, the footer and the end of the stream behind the last of them.
A damaged marker is made anew when the grain behind it inflates, and its place on the disk is
beyond doubt: its table names it, or its neighbours leave room for just one grain. Compressed data
that is damaged is lost, and its range is told.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ipva_storage.device import read
from ipva_storage.errors import VmdkError
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.codec import inflate
from ipva_storage.vmdk.extent.header import SPARSE_MAGIC, SparseHeader, build_header, parse_header
from ipva_storage.vmdk.extent.markers import Kind, Record, walk
from ipva_storage.vmdk.extent.pack import (
    MARKER,
    MARKER_END_OF_STREAM,
    MARKER_FOOTER,
    MARKER_GRAIN_DIRECTORY,
    MARKER_GRAIN_TABLE,
)
from ipva_storage.vmdk.extent.stream import FOOTER_OFFSET_BYTES, GRAIN_MARKER, record_bytes_max
from ipva_storage.vmdk.extent.tables import bytes_of, entries_of, read_directory
from ipva_storage.vmdk.repair.lost import Lost, MendedTables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.vmdk.repair.draft import Draft


def mend_stream(draft: Draft, name: str, header: SparseHeader) -> MendedTables:
    """Draw up markers, tables, directory and footer as they should be.

    Args:
        draft: where the changes go.
        name: the extent's file.
        header: its header, as it should be.
    """
    mending = _Mending(draft, name, header)
    mending.survey()
    mending.markers()
    mending.tables()
    if mending.is_front:
        mending.front_directories()
    else:
        mending.tail()
    return MendedTables(mending.lost(), mending.header)


@dataclass
class _Found:
    """What is in the file, from its first grain on."""

    grains: dict[int, int] = field(default_factory=dict)
    """Sector of each grain that is there, and whole."""
    bad: dict[int, int] = field(default_factory=dict)
    """Sector of each grain whose data is damaged."""
    order: list[tuple[int, int]] = field(default_factory=list)
    """Sector and grain of all of them, in the order of the file."""
    damage: list[Record] = field(default_factory=list)
    """Parts that are nothing known, and a grain that the file ends within."""
    tables: list[Record] = field(default_factory=list)
    last: Record | None = None


class _Mending:
    """One extent on its way."""

    def __init__(self, draft: Draft, name: str, header: SparseHeader) -> None:
        self._draft = draft
        self._name = name
        self._raw = draft.device(name)
        self.header = header
        self.is_front = not header.is_gd_at_end and (
            header.gd_offset_sectors < header.overhead_sectors
        )
        self._found = _Found()
        self._gaps: list[tuple[int, int]] = []  # grains from … to, of which nothing is known
        self._directories = self._read_directories()
        self._said = self._read_tables()

    # -- what there is --------------------------------------------------------------------------

    def survey(self) -> None:
        """Go through the file, and inflate every grain."""
        found = self._found
        for record in walk(self._raw, self.header):
            found.last = record
            if record.kind is Kind.GRAIN:
                grain = record.lba_sector // self.header.grain_sectors
                found.order.append((record.sector, grain))
                places = found.grains if self._is_whole(record.data, grain) else found.bad
                if grain not in places or self._said.get(grain) == record.sector:
                    places[grain] = record.sector
            elif record.kind is Kind.TABLE:
                found.tables.append(record)
            elif record.kind in (Kind.DAMAGE, Kind.CUT):
                found.damage.append(record)

    def _is_whole(self, data: memoryview, grain: int) -> bool:
        try:
            plain, _ = inflate(data, self.header.grain_bytes)
        except VmdkError:
            return False
        return len(plain) >= self._needed(grain)

    def _needed(self, grain: int) -> int:
        """Bytes of a grain that the disk has."""
        left = self.header.capacity_bytes - grain * self.header.grain_bytes
        return min(self.header.grain_bytes, left)

    def _read_directories(self) -> list[tuple[int, array[int]]]:
        """The directories that can be read: their sector and their entries."""
        header, sectors = self.header, []
        if not header.is_gd_at_end:
            sectors.append(header.gd_offset_sectors)
        else:
            sectors += self._footer_sectors()
        if header.has_redundant:
            sectors.append(header.rgd_offset_sectors)
        found = [(sector, read_directory(self._raw, header, sector)) for sector in sectors]
        return [(sector, entries) for sector, entries in found if entries is not None]

    def _footer_sectors(self) -> list[int]:
        at = self._raw.size_bytes - FOOTER_OFFSET_BYTES
        if at < SECTOR_BYTES or read(self._raw, at, 4) != SPARSE_MAGIC:
            return []
        footer = parse_header(read(self._raw, at, SECTOR_BYTES))
        return [] if footer.is_gd_at_end else [footer.gd_offset_sectors]

    def _table(self, sector: int) -> array[int] | None:
        """The table at a sector, or None where it leaves the file."""
        at, length = sector * SECTOR_BYTES, 4 * self.header.gtes_per_gt
        if sector < 1 or at + length > self._raw.size_bytes:
            return None
        return entries_of(read(self._raw, at, length))

    def _read_tables(self) -> dict[int, int]:
        """What the tables say: the sector of each grain, by the first directory that has it."""
        said: dict[int, int] = {}
        for _, directory in self._directories:
            for index, sector in enumerate(directory):
                table = self._table(sector) if sector else None
                for at, entry in enumerate(table or ()):
                    if 1 < entry * SECTOR_BYTES < self._raw.size_bytes:
                        said.setdefault(index * self.header.gtes_per_gt + at, entry)
        return said

    # -- markers --------------------------------------------------------------------------------

    def markers(self) -> None:
        """Make damaged grain markers anew, and put right those that name another grain."""
        self._renamed()
        at_sector = {sector: grain for grain, sector in self._said.items()}
        for record in self._found.damage:
            before, after = self._neighbours(record.sector)
            if record.kind is Kind.DAMAGE:
                grain = self._recovered(record, at_sector.get(record.sector), before, after)
                if grain is not None:
                    self._found.order.append((record.sector, grain))
                    self._found.grains[grain] = record.sector
                    continue
            self._gaps.append((before + 1, after))
        self._found.order.sort()

    def _renamed(self) -> None:
        """Markers that name another grain than the table that points there."""
        at_sector = {sector: grain for grain, sector in self._said.items()}
        found = self._found
        for position, (sector, grain) in enumerate(found.order):
            wanted = at_sector.get(sector)
            if wanted is None or wanted == grain or self._said.get(grain) == sector:
                continue
            before = found.order[position - 1][1] if position else -1
            is_last = position + 1 == len(found.order)
            after = self.header.grain_count if is_last else found.order[position + 1][1]
            if not before < wanted < after or before < grain < after:
                continue
            places = found.grains if found.grains.get(grain) == sector else found.bad
            places.pop(grain, None)
            places[wanted] = sector
            found.order[position] = (sector, wanted)
            lba = (wanted * self.header.grain_sectors).to_bytes(8, "little")
            self._draft.write(self._draft.step(self._name), sector * SECTOR_BYTES, lba)

    def _neighbours(self, sector: int) -> tuple[int, int]:
        """The grains before and behind a place in the file; -1 and one too many at its ends."""
        before, after = -1, self.header.grain_count
        for place, grain in self._found.order:
            if place < sector:
                before = grain
            elif place > sector:
                after = grain
                break
        return before, after

    def _recovered(self, record: Record, said: int | None, before: int, after: int) -> int | None:
        """The grain behind a damaged marker, once that is made anew."""
        start = record.sector * SECTOR_BYTES
        length = min(record_bytes_max(self.header.grain_bytes), self._raw.size_bytes - start)
        data = read(self._raw, start, length)
        grain = self._placed(data, said, before, after)
        if grain is None:
            return None
        try:
            plain, used_bytes = inflate(data[GRAIN_MARKER.size :], self.header.grain_bytes)
        except VmdkError:
            return None
        if len(plain) < self._needed(grain):
            return None
        marker = GRAIN_MARKER.pack(grain * self.header.grain_sectors, used_bytes)
        self._draft.write(self._draft.step(self._name), start, marker)
        return grain

    def _placed(self, data: bytes, said: int | None, before: int, after: int) -> int | None:
        """Which grain it is, where that is beyond doubt."""
        if said is not None:
            return said
        if after - before == 2:
            return before + 1
        lba = int.from_bytes(data[:8], "little")
        grain, rest = divmod(lba, self.header.grain_sectors)
        return grain if not rest and before < grain < after else None

    # -- tables ---------------------------------------------------------------------------------

    def tables(self) -> None:
        """Write tables that are there anew where they say other than the grains do."""
        self._places = self._table_places()
        for index, sectors in self._places.items():
            for sector in sectors:
                step = self._draft.step(self._name)
                self._draft.write(step, sector * SECTOR_BYTES, self._content(index, sector))
                if not self.is_front:
                    marker = MARKER.pack(self.header.table_sectors, 0, MARKER_GRAIN_TABLE)
                    self._draft.write(step, (sector - 1) * SECTOR_BYTES, marker)

    def _needed_tables(self) -> list[int]:
        gtes = self.header.gtes_per_gt
        return sorted({grain // gtes for grain in (*self._found.grains, *self._found.bad)})

    def _table_places(self) -> dict[int, list[int]]:
        """Where each table is: by the directories, and by what the tables themselves say."""
        taken = {sector for sector, _ in self._found.order}
        known = {record.sector + 1 for record in self._found.tables}
        places: dict[int, list[int]] = {}
        for _, directory in self._directories:
            for index, sector in enumerate(directory):
                is_there = sector in known or self.is_front or self._is_behind_damage(sector)
                if sector and is_there and sector not in taken and self._table(sector):
                    places.setdefault(index, []).append(sector)
        named = {sector for sectors in places.values() for sector in sectors}
        for record in self._found.tables:
            told = self._index_of(record)
            if record.sector + 1 not in named and told is not None and told not in places:
                places[told] = [record.sector + 1]
        return places

    def _is_behind_damage(self, sector: int) -> bool:
        """Whether a table's marker is what is damaged there."""
        return any(record.sector == sector - 1 for record in self._found.damage)

    def _index_of(self, record: Record) -> int | None:
        """Which table it is, by the grains that it names."""
        grain_at = dict(self._found.order)
        for at, entry in enumerate(entries_of(bytes(record.data))[: self.header.gtes_per_gt]):
            named = grain_at.get(entry)
            if named is not None and named % self.header.gtes_per_gt == at:
                return named // self.header.gtes_per_gt
        return None

    def _content(self, index: int, sector: int | None) -> bytes:
        """A table by the grains; of those that are lost what it says so far."""
        gtes = self.header.gtes_per_gt
        there = (self._table(sector) if sector else None) or array("I", bytes(4 * gtes))
        grain_at = dict(self._found.order)
        is_sure = not self._gaps
        for at in range(gtes):
            grain = index * gtes + at
            place = self._found.grains.get(grain) or self._found.bad.get(grain)
            if place:
                there[at] = place
            elif there[at] > 1 and (is_sure or there[at] in grain_at):
                there[at] = 0  # no such grain is in the file
        return bytes_of(there)

    def front_directories(self) -> None:
        """Directories in front of the grains: their tables follow them at once."""
        from ipva_storage.vmdk.extent.tables import usual_directory

        for sector, directory in self._directories:
            usual = usual_directory(self.header, sector)
            same = sum(one == other for one, other in zip(directory, usual, strict=True))
            if directory != usual and 2 * same >= len(usual):
                step = self._draft.step(self._name)
                self._draft.write(step, sector * SECTOR_BYTES, bytes_of(usual))

    # -- directory, footer, end -------------------------------------------------------------------

    def tail(self) -> None:
        """What follows the last grain and the tables: the rest of the tables, directory, footer."""
        header = self.header
        at = self._tail_sector()
        directory = array("I", bytes(4 * header.table_count))
        parts: list[bytes] = []
        for index in self._needed_tables():
            if index in self._places:
                directory[index] = self._places[index][0]
                continue
            parts.append(MARKER.pack(header.table_sectors, 0, MARKER_GRAIN_TABLE))
            parts.append(
                self._content(index, None).ljust(header.table_sectors * SECTOR_BYTES, b"\0")
            )
            directory[index] = at + 1
            at += 1 + header.table_sectors
        for index, sectors in self._places.items():  # also of tables without a grain
            directory[index] = sectors[0]
        parts.append(MARKER.pack(header.directory_sectors, 0, MARKER_GRAIN_DIRECTORY))
        parts.append(bytes_of(directory).ljust(header.directory_sectors * SECTOR_BYTES, b"\0"))
        footer = replace(header, gd_offset_sectors=at + 1)
        if not header.is_gd_at_end:
            self.header = footer
        parts += (MARKER.pack(1, 0, MARKER_FOOTER), build_header(footer))
        parts.append(MARKER.pack(0, 0, MARKER_END_OF_STREAM))
        data = b"".join(parts)
        step = self._draft.step(self._name)
        start = self._tail_sector() * SECTOR_BYTES
        self._draft.write(step, start, data)
        self._draft.resize(step, start + len(data))

    def _tail_sector(self) -> int:
        """The sector behind everything that stays."""
        return max([self.header.overhead_sectors, *self._kept_ends()])

    def _kept_ends(self) -> Iterator[int]:
        """Where each grain and each table that stays ends."""
        for sectors in self._places.values():
            yield from (sector + self.header.table_sectors for sector in sectors)
        if self._found.order:
            sector, _ = max(self._found.order)
            marker = read(self._raw, sector * SECTOR_BYTES, GRAIN_MARKER.size)
            _, size_bytes = GRAIN_MARKER.unpack(marker)
            yield sector + -(-(GRAIN_MARKER.size + size_bytes) // SECTOR_BYTES)

    # -- what is lost -----------------------------------------------------------------------------

    def lost(self) -> list[Lost]:
        """Ranges of the disk that nothing left knows."""
        found = [
            self._range(grain, grain + 1, "its compressed data is damaged")
            for grain in sorted(self._found.bad)
            if grain not in self._found.grains
        ]
        for first, last in self._gaps:
            if first < last:
                reason = "damaged or cut off; whether there was anything is not known"
                found.append(self._range(first, last, reason))
        return found

    def _range(self, first: int, last: int, reason: str) -> Lost:
        size, end = self.header.grain_bytes, self.header.capacity_bytes
        start, stop = first * size, min(last * size, end)
        return Lost(start, stop - start, reason)
