"""Mending a stream-optimized extent: from its grains, whose markers say where each belongs.

What is right is what the grains say that are there and whole. From them the tables are made anew
where they differ, and the directory, the footer and the end of the stream behind the last of them.
A damaged marker is made anew when the grain behind it inflates, and its place on the disk is
beyond doubt: its table names it, or its neighbours leave room for just one grain. Compressed data
that is damaged is lost, and its range is told.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_storage.device import read
from ipva_storage.errors import VmdkError
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.codec import inflate
from ipva_storage.vmdk.extent.header import (
    GD_AT_END,
    SPARSE_MAGIC,
    SparseHeader,
    build_header,
    parse_header,
)
from ipva_storage.vmdk.extent.markers import Kind, Record, walk
from ipva_storage.vmdk.extent.pack import (
    MARKER,
    MARKER_END_OF_STREAM,
    MARKER_FOOTER,
    MARKER_GRAIN_DIRECTORY,
    MARKER_GRAIN_TABLE,
)
from ipva_storage.vmdk.extent.stream import FOOTER_OFFSET_BYTES, GRAIN_MARKER, record_bytes_max
from ipva_storage.vmdk.extent.tables import (
    bytes_of,
    entries_of,
    read_directory,
)
from ipva_storage.vmdk.repairing.directories import mended_directories
from ipva_storage.vmdk.repairing.lost import Lost, MendedTables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.vmdk.repairing.draft import Draft


def mend_stream(draft: Draft, name: str, header: SparseHeader) -> MendedTables:
    """Draw up markers, tables, directory and footer as they should be.

    Args:
        draft: where the changes go.
        name: the extent's file.
        header: its header, as it should be.
    """
    mending = _Mending(draft, name, header)
    if mending.is_front:
        mending.front_directories()
    for _ in range(PASSES_MAX):
        mending.survey_all()
        if not mending.tables():
            break
    if not mending.is_front:
        mending.tail()
    return MendedTables(mending.lost(), mending.header)


PASSES_MAX: Final = 4
"""How often a file is gone through. Confidence: chosen."""


@dataclass
class _Found:
    """What is in the file, from its first grain on."""

    grains: dict[int, int] = field(default_factory=dict)
    """Sector of each grain that is there, and whole."""
    bad: dict[int, int] = field(default_factory=dict)
    """Sector of each grain whose data is damaged."""
    order: list[tuple[int, int]] = field(default_factory=list)
    """Sector and grain of all of them, in the order of the file."""
    grain_at: dict[int, int] = field(default_factory=dict)
    """The same, to be looked up by sector."""
    damage: list[Record] = field(default_factory=list)
    """Parts that are nothing known, and a grain that the file ends within."""
    zeros: list[Record] = field(default_factory=list)
    unknown: list[Record] = field(default_factory=list)
    """Damage and zeros, in the order of the file."""
    behind: set[int] = field(default_factory=set)
    """Sectors of which the one before is the first or the last of damage, or of zeros."""
    tables: list[Record] = field(default_factory=list)


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
        self._said: dict[int, int] = {}
        self._places: dict[int, list[int]] = {}
        self._rewritten: set[int] = set()  # tables that said other than the grains do

    # -- what there is --------------------------------------------------------------------------

    def survey_all(self) -> None:
        """Go through the file until no marker is made anew, which shows what was hidden behind it.

        A table that is written before that would lose the grain for a while.
        """
        for _ in range(PASSES_MAX):
            self.survey()
            if not self.markers():
                return
        self.survey()

    def survey(self) -> None:
        """Go through the file, and inflate every grain."""
        self._found = found = _Found()
        self._gaps = []
        self._said = self._read_tables()
        for record in walk(self._raw, self.header):
            if record.kind is Kind.GRAIN:
                grain = record.lba_sector // self.header.grain_sectors
                found.order.append((record.sector, grain))
                found.grain_at[record.sector] = grain
                places = found.grains if self._is_whole(record.data, grain) else found.bad
                if grain not in places or self._said.get(grain) == record.sector:
                    places[grain] = record.sector
            elif record.kind is Kind.TABLE:
                found.tables.append(record)
            elif record.kind in (Kind.ZEROS, Kind.DAMAGE, Kind.CUT):
                found.unknown.append(record)
                found.behind |= {record.sector + 1, record.sector + record.sector_count}
                (found.zeros if record.kind is Kind.ZEROS else found.damage).append(record)
            elif record.kind is Kind.DIRECTORY and not self._directories:
                entries = entries_of(bytes(record.data))[: self.header.table_count]
                self._directories = [(record.sector + 1, entries)]
                self._said = self._read_tables()
        self._add_said()

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
        """What the tables say: the sector of each grain, by the first directory that has it.

        A table that is named again says nothing new, and there are no more grains than sectors.
        """
        said: dict[int, int] = {}
        seen: set[int] = {0}
        for _, directory in self._directories:
            for index, sector in enumerate(directory):
                if sector in seen or len(said) > self._raw.size_bytes // SECTOR_BYTES:
                    continue
                seen.add(sector)
                table = self._table(sector)
                for at, entry in enumerate(table if table is not None and any(table) else ()):
                    if 1 < entry * SECTOR_BYTES < self._raw.size_bytes:
                        said.setdefault(index * self.header.gtes_per_gt + at, entry)
        return said

    def _add_said(self) -> None:
        """What tables say that no directory leads to, and that tell which they are."""
        gtes = self.header.gtes_per_gt
        named = {sector for _, directory in self._directories for sector in directory}
        for record in self._found.tables:
            index = None if record.sector + 1 in named else self._index_of(record)
            if index is not None:
                for at, entry in enumerate(entries_of(bytes(record.data))[:gtes]):
                    if 1 < entry * SECTOR_BYTES < self._raw.size_bytes:
                        self._said.setdefault(index * gtes + at, entry)

    def front_directories(self) -> None:
        """Directories in front of the grains, whose tables follow them at once as a rule."""
        found = [(sector, np.array(entries, np.int64)) for sector, entries in self._directories]
        wanted = mended_directories(self._raw, self.header, found)
        for (sector, _), places in zip(found, wanted, strict=True):
            data = places.astype("<u4").tobytes()
            data = data.ljust(self.header.directory_sectors * SECTOR_BYTES, b"\0")
            self._draft.write(self._draft.step(self._name), sector * SECTOR_BYTES, data)
        self._directories = self._read_directories()

    # -- markers --------------------------------------------------------------------------------

    def markers(self) -> bool:
        """Make damaged grain markers anew, and put right those that name another grain.

        Returns:
            Whether one was changed.
        """
        at_sector = {sector: grain for grain, sector in self._said.items()}
        is_changed = self._renamed(at_sector)
        for grain, sector in self._found.bad.items():
            is_changed |= self._recovered(sector, grain)
        for record in self._found.damage:
            before, after = self._neighbours(record.sector)
            if record.kind is Kind.DAMAGE:
                placed = self._placed(record.sector, at_sector.get(record.sector), before, after)
                if placed is not None and self._recovered(record.sector, placed):
                    is_changed = True
                    continue
            if before + 1 < after:
                self._gaps.append((before + 1, after))
        return is_changed

    def _renamed(self, at_sector: dict[int, int]) -> bool:
        """Markers that name another grain than the table that points there, against the order."""
        order, is_changed = self._found.order, False
        for position, (sector, grain) in enumerate(order):
            wanted = at_sector.get(sector)
            if wanted is None or wanted == grain or self._said.get(grain) == sector:
                continue
            before = order[position - 1][1] if position else -1
            is_last = position + 1 == len(order)
            after = self.header.grain_count if is_last else order[position + 1][1]
            if before < wanted < after and not before < grain < after:
                lba = (wanted * self.header.grain_sectors).to_bytes(8, "little")
                step = self._draft.step(self._name)
                is_changed |= self._draft.write(step, sector * SECTOR_BYTES, lba)
        return is_changed

    def _neighbours(self, sector: int) -> tuple[int, int]:
        """The grains before and behind a place in the file; -1 and one too many at its ends."""
        order = self._found.order
        first, last = bisect_left(order, (sector,)), bisect_left(order, (sector + 1,))
        before = order[first - 1][1] if first else -1
        return before, order[last][1] if last < len(order) else self.header.grain_count

    def _recovered(self, sector: int, grain: int) -> bool:
        """Whether a whole grain is behind a damaged marker, which then is made anew."""
        start = sector * SECTOR_BYTES
        length = min(record_bytes_max(self.header.grain_bytes), self._raw.size_bytes - start)
        data = read(self._raw, start, length)
        try:
            plain, used_bytes = inflate(data[GRAIN_MARKER.size :], self.header.grain_bytes)
        except VmdkError:
            return False
        if len(plain) < self._needed(grain):
            return False
        marker = GRAIN_MARKER.pack(grain * self.header.grain_sectors, used_bytes)
        return self._draft.write(self._draft.step(self._name), start, marker)

    def _placed(self, sector: int, said: int | None, before: int, after: int) -> int | None:
        """Which grain is behind a damaged marker, where that is beyond doubt."""
        if said is not None:
            return said
        if after - before == 2:
            return before + 1
        lba = int.from_bytes(read(self._raw, sector * SECTOR_BYTES, 8), "little")
        grain, rest = divmod(lba, self.header.grain_sectors)
        return grain if not rest and before < grain < after else None

    # -- tables ---------------------------------------------------------------------------------

    def tables(self) -> bool:
        """Write tables that are there anew where they say other than the grains do.

        Returns:
            Whether one was changed.
        """
        is_changed = False
        self._places = self._table_places()
        for index, sectors in self._places.items():
            for sector in sectors:
                step = self._draft.step(self._name)
                data = self._content(index, sector)
                if self._draft.write(step, sector * SECTOR_BYTES, data):
                    is_changed = True
                    self._rewritten.add(index)
                if not self.is_front:
                    marker = MARKER.pack(self.header.table_sectors, 0, MARKER_GRAIN_TABLE)
                    is_changed |= self._draft.write(step, (sector - 1) * SECTOR_BYTES, marker)
        return is_changed

    def _needed_tables(self) -> list[int]:
        gtes = self.header.gtes_per_gt
        return sorted({grain // gtes for grain in (*self._found.grains, *self._found.bad)})

    def _table_places(self) -> dict[int, list[int]]:
        """Where each table is: by the directories, and by what the tables themselves say."""
        taken = self._found.grain_at
        known = {record.sector + 1 for record in self._found.tables}
        places: dict[int, list[int]] = {}
        named: dict[int, int] = {0: -1}  # whose each is: of the first that names it
        for _, directory in self._directories:
            for index, sector in enumerate(directory):
                is_there = sector in known or self.is_front or sector in self._found.behind
                if not is_there or sector in taken or named.get(sector, index) != index:
                    continue
                if self._table(sector):
                    named[sector] = index
                    places.setdefault(index, []).append(sector)
        for record in self._found.tables:
            told = self._index_of(record)
            if record.sector + 1 not in named and told is not None and told not in places:
                places[told] = [record.sector + 1]
        return places

    def _index_of(self, record: Record) -> int | None:
        """Which table it is, by the grains that it names."""
        grain_at = self._found.grain_at
        for at, entry in enumerate(entries_of(bytes(record.data))[: self.header.gtes_per_gt]):
            named = grain_at.get(entry)
            if named is not None and named % self.header.gtes_per_gt == at:
                return named // self.header.gtes_per_gt
        return None

    def _content(self, index: int, sector: int | None) -> bytes:
        """A table by the grains; of those that are lost what it says so far."""
        gtes = self.header.gtes_per_gt
        there = (self._table(sector) if sector else None) or array("I", bytes(4 * gtes))
        for at in range(gtes):
            grain = index * gtes + at
            place = self._found.grains.get(grain) or self._found.bad.get(grain)
            if place:
                there[at] = place
            elif there[at] > 1 and not self._may_be(grain, there[at]):
                there[at] = 0  # no such grain is in the file
        return bytes_of(there)

    def _may_be(self, grain: int, sector: int) -> bool:
        """Whether a grain that was not found may have been where its table says."""
        if sector * SECTOR_BYTES < self._raw.size_bytes:
            return _is_in(self._found.unknown, sector)
        return any(first <= grain < last for first, last in self._gaps)

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
        self._write_tail(self._tail_sector() * SECTOR_BYTES, b"".join(parts), footer)

    def _write_tail(self, start: int, data: bytes, footer: SparseHeader) -> None:
        """What a footer names is durable before it, and it before what was behind it goes.

        An earlier footer leads nowhere first where its directory is overwritten.
        """
        end = start + len(data)
        draft, name = self._draft, self._name
        for sector in self._footer_sectors():
            at = sector * SECTOR_BYTES
            if start <= at < end and sector != footer.gd_offset_sectors:
                place = self._raw.size_bytes - FOOTER_OFFSET_BYTES
                blind = replace(footer, gd_offset_sectors=GD_AT_END)  # still tells what it is
                draft.write(draft.step(name), place, build_header(blind))
        draft.write(draft.step(name), start, data)
        ending = (
            MARKER.pack(1, 0, MARKER_FOOTER),
            build_header(footer),
            MARKER.pack(0, 0, MARKER_END_OF_STREAM),
        )
        step = draft.step(name)
        draft.write(step, end, b"".join(ending))
        draft.resize(draft.step(name), end + len(b"".join(ending)))

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
        found += [
            self._range(grain, grain + 1, "zeros were written over it")
            for grain, sector in sorted(self._said.items())
            if grain not in self._found.grains and _is_in(self._found.zeros, sector)
        ]
        gaps = [*self._gaps, *self._open_end()]
        for first, last in sorted(set(gaps)):
            for start, stop in self._unknown(first, last):
                reason = "damaged or cut off; whether there was anything is not known"
                if self._is_known(start // self.header.gtes_per_gt):
                    reason = "its marker and its data are damaged"
                found.append(self._range(start, stop, reason))
        return _joined(found)

    def _open_end(self) -> list[tuple[int, int]]:
        """Where neither a directory nor a cut grain shows the end, more may have followed."""
        if self.is_front or self._directories:
            return []
        gtes, last = self.header.gtes_per_gt, -1
        if self._found.order:
            last = self._found.order[-1][1]
        if self._places:
            last = max(last, (max(self._places) + 1) * gtes - 1)
        return [(last + 1, self.header.grain_count)]

    def _unknown(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Of a gap, what its tables say that there was; all of it where they are not there."""
        gtes = self.header.gtes_per_gt
        for index in range(first // gtes, -(-last // gtes)):
            start, stop = max(first, index * gtes), min(last, (index + 1) * gtes)
            if not self._is_known(index):
                yield start, stop
                continue
            for grain in range(start, stop):
                if grain in self._said and not self._is_found(grain):
                    yield grain, grain + 1

    def _is_found(self, grain: int) -> bool:
        """Whether a grain is in the file, whole or damaged."""
        return grain in self._found.grains or grain in self._found.bad

    def _is_known(self, index: int) -> bool:
        """Whether a table is there that told the truth, or a directory that says there is none."""
        if index in self._places:
            return index not in self._rewritten
        return bool(self._directories) and not any(
            directory[index] for _, directory in self._directories
        )

    def _range(self, first: int, last: int, reason: str) -> Lost:
        size, end = self.header.grain_bytes, self.header.capacity_bytes
        start, stop = first * size, min(last * size, end)
        return Lost(start, stop - start, reason)


def _is_in(records: list[Record], sector: int) -> bool:
    """Whether a sector is in one of some parts of a file, which are in order."""
    at = bisect_right(records, sector, key=lambda each: each.sector)
    return at > 0 and sector < records[at - 1].sector + records[at - 1].sector_count


def _joined(ranges: list[Lost]) -> list[Lost]:
    """Ranges in order and apart from each other; those that touch and have one reason as one."""
    joined: list[Lost] = []
    end = 0
    for one in sorted(ranges, key=lambda one: one.offset_bytes):
        start, stop = max(one.offset_bytes, end), one.offset_bytes + one.length_bytes
        if start >= stop:
            continue
        if joined and start == end and joined[-1].reason == one.reason:
            start = joined.pop().offset_bytes
        joined.append(Lost(start, stop - start, one.reason))
        end = stop
    return joined
