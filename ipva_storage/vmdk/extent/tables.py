"""The grain directory and the grain tables of a sparse extent, in memory and on the medium.

Invariants:

1. An entry goes from unallocated to allocated; or it comes to name another place, or none, while
   what it names and what it named read the same, and stay so until the change is durable in both
   copies (`reassign`). Nothing else ever changes in a table.
2. A new entry is kept in memory until `flush`. That makes the grain's data durable, then writes the
   redundant tables and makes them durable, then the primary ones. So an entry on the medium never
   precedes its data, whatever order the host writes its cache in, and of the two copies at most
   one is torn. (Written through, each write call would cost two barriers for the same promise.)
3. Where the copies differ after an unclean shutdown: an entry that the primary does not have counts
   as unallocated (its data was not flushed); one that it has is taken from the redundant table,
   which was durable before the primary was touched, where that has one. By 1 and 2 this is right
   for every tear of new entries, and for one between the entries where those changed.
4. No entry handed out points outside the file, or a table into the header.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ipva_storage.device import read
from ipva_storage.errors import VmdkError
from ipva_storage.units import SECTOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ipva_storage.device import BlockDevice
    from ipva_storage.vmdk.extent.header import SparseHeader

ENTRY_UNALLOCATED: Final = 0
ENTRY_ZEROED: Final = 1

ENTRY_MAX: Final = 0xFFFF_FFFF
"""The last sector that an entry can name, which bounds a file to 2 TiB. Confidence: stated."""

CACHE_MAX_TABLES: Final = 8192
"""Tables kept in memory, about 16 MiB. Confidence: chosen."""

PENDING_MAX_TABLES: Final = 4096
"""Changed tables kept until they are flushed unasked. Confidence: chosen."""


def entries_of(data: bytes) -> array[int]:
    """Little-endian 32-bit words."""
    found = array("I", data)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def bytes_of(entries: array[int]) -> bytes:
    """The inverse of `entries_of`."""
    if sys.byteorder == "big":
        entries = array("I", entries)
        entries.byteswap()
    return entries.tobytes()


def read_directory(
    raw: BlockDevice, header: SparseHeader, offset_sectors: int
) -> array[int] | None:
    """A grain directory, or None where it leaves the file or starts in the header."""
    offset_bytes, length_bytes = offset_sectors * SECTOR_BYTES, header.table_count * 4
    if offset_sectors == 0 or offset_bytes + length_bytes > raw.size_bytes:
        return None
    return entries_of(read(raw, offset_bytes, length_bytes))


def usual_directory(header: SparseHeader, directory_sector: int) -> array[int]:
    """A directory whose tables follow it at once, as in every file that VMware and qemu make."""
    step = header.table_sectors
    first = directory_sector + header.directory_sectors
    return array("I", range(first, first + header.table_count * step, step))


def _is_one_run(directory: array[int], step: int) -> bool:
    """Whether all tables are there, one behind the other, as in a new disk."""
    first, last = directory[0], directory[-1]
    end = first + len(directory) * step
    is_candidate = first > 0 and last + step == end
    return is_candidate and directory == array("I", range(first, end, step))


class GrainTables:
    """Where each grain is."""

    def __init__(self, raw: BlockDevice, header: SparseHeader, *, writable: bool) -> None:
        """Read the directories of an extent whose header `check_usable` let pass.

        Raises:
            VmdkError: neither directory is in the file; or it is to be written, and a table
                overlaps another one.
        """
        self._raw = raw
        self._header = header
        self._writable = writable
        self._primary = read_directory(raw, header, header.gd_offset_sectors)
        self._redundant = (
            read_directory(raw, header, header.rgd_offset_sectors) if header.has_redundant else None
        )
        if self._primary is None and self._redundant is None:
            raise self._error("its grain directory is outside the file", 56)
        self._tables: dict[int, array[int]] = {}
        self._pending: set[int] = set()
        self._is_unclean = bool(header.unclean_shutdown)
        self._opened_sectors = -(-raw.size_bytes // SECTOR_BYTES)
        self._seen = bytearray(header.table_count if writable else 0)
        if writable:
            self._refuse_overlaps()

    @property
    def raw(self) -> BlockDevice:
        """The file."""
        return self._raw

    @property
    def is_writable(self) -> bool:
        """Whether tables may be changed; then one with entries that cannot be is refused."""
        return self._writable

    @property
    def pending(self) -> frozenset[int]:
        """Tables that are newer in memory than in the file."""
        return frozenset(self._pending)

    def is_empty(self, index: int) -> bool:
        """Whether a table has no entry at all."""
        is_named = any(d is not None and d[index] for d in (self._primary, self._redundant))
        return not is_named or not any(self.table(index))

    def check_run(self, grain: int, grain_count: int, entry: int) -> None:
        """Refuse grains that follow each other from `entry` on, where they cannot be.

        Raises:
            VmdkError: the table says something that cannot be, and so does the redundant one.
        """
        if entry <= ENTRY_ZEROED:
            return
        index, at = divmod(grain, self._header.gtes_per_gt)
        step = self._header.grain_sectors
        inside = (self._end_sectors(index) - 1 - entry) // step + 1  # grains that start in the file
        if entry < self._first_sector or inside < grain_count:
            bad = 0 if entry < self._first_sector else max(inside, 0)
            raise self._error(
                f"grain {grain + bad} is said to be at sector {entry + bad * step}, "
                "which is not in its data",
                self._entry_offset_bytes(index, at + bad),
            )

    def table(self, index: int) -> array[int]:
        """A grain table as it counts, pending entries included. Do not change it.

        Raises:
            VmdkError: it is in neither copy; or it is to be written, and has impossible entries.
        """
        found = self._tables.get(index)
        if found is None:
            found = self._load(index)
            self._make_room()
            self._tables[index] = found
        return found

    def assign(self, grain: int, sectors: range) -> None:
        """Enter grains that follow each other, the first at `sectors[0]`; their data is written.

        Raises:
            VmdkError: a table to be changed is not where writing is safe.
        """
        gtes, done = self._header.gtes_per_gt, 0
        while done < len(sectors):
            index, at = divmod(grain + done, gtes)
            part = sectors[done : done + gtes - at]
            self.table(index)[at : at + len(part)] = array("I", part)
            self._pending.add(index)
            done += len(part)
        if len(self._pending) > PENDING_MAX_TABLES:
            self.flush()

    def reassign(self, places: Mapping[int, int]) -> None:
        """Let grains be elsewhere, or nowhere (0), and make that durable in both copies.

        Both places of each grain must be durable and read the same until this returns (invariant
        1); afterwards nothing names the old ones.

        Args:
            places: the new sector of each grain.

        Raises:
            VmdkError: a table to be changed is not where writing is safe.
        """
        for grain, sector in places.items():
            index, at = divmod(grain, self._header.gtes_per_gt)
            self.table(index)[at] = sector
            self._pending.add(index)
        self.flush()

    def check_assignable(self, grain: int) -> None:
        """Refuse where the grain's table is missing.

        Raises:
            VmdkError: then; nothing was changed.
        """
        index = grain // self._header.gtes_per_gt
        if self._place(self._primary, index) is None:
            raise self._error(f"grain table {index} is missing, so nothing new fits there", None)

    def heal(self) -> None:
        """After an unclean shutdown, bring both copies to what counts. Reads every table in use.

        That is durable when this returns: a place that only one copy names is not free before.
        """
        if self._is_unclean:
            from ipva_storage.vmdk.extent.places import tables_to_heal

            for index in tables_to_heal(self._raw, self._header):
                self.table(index)
                if len(self._pending) > PENDING_MAX_TABLES:
                    self.flush()
            if self._pending:
                self.flush()

    def flush(self) -> None:
        """Make all data durable, then the entries that point to it (invariant 2)."""
        self._raw.flush()
        if not self._pending:
            return
        for directory in (self._redundant, self._primary):
            if directory is not None:
                for offset_bytes, data in self._runs(directory):
                    self._raw.write(offset_bytes, data)
                self._raw.flush()
        self._pending.clear()

    def _runs(self, directory: array[int]) -> Iterator[tuple[int, bytes]]:
        """Pending tables of one copy, those that lie one after the other in one piece."""
        start_bytes, parts = 0, bytearray()
        for index in sorted(self._pending):
            place = self._place(directory, index)
            if place is None:
                continue
            if parts and start_bytes + len(parts) != place:
                yield start_bytes, bytes(parts)
                parts.clear()
            if not parts:
                start_bytes = place
            parts += bytes_of(self._tables[index])
        if parts:
            yield start_bytes, bytes(parts)

    def _load(self, index: int) -> array[int]:
        primary = self._read(self._primary, index)
        if primary is not None and not self._is_unclean and self._is_sound(primary, index):
            return self._accept(index, primary)
        redundant = self._read(self._redundant, index)
        if primary is None:
            if redundant is None:
                return self._absent(index)
            return self._accept(index, redundant)
        if redundant is None or redundant == primary:
            return self._accept(index, primary)
        resolved = self._accept(index, array("I", map(self._resolve, primary, redundant)))
        if self._writable and not (resolved == primary == redundant):
            self._pending.add(index)
        return resolved

    def _resolve(self, primary: int, redundant: int) -> int:
        """One entry out of two that may differ (invariant 3)."""
        if primary == redundant or not self._is_grain(redundant):
            return primary
        if self._is_unclean:
            return redundant if primary > ENTRY_ZEROED else primary
        is_sound = primary <= ENTRY_ZEROED or self._is_grain(primary)
        return primary if is_sound else redundant

    def _accept(self, index: int, table: array[int]) -> array[int]:
        """Take a table into use; one that is to be written has no impossible entry."""
        if self._writable:
            if not self._is_sound(table, index) or not self._is_aligned(table):
                raise self._error(
                    f"grain table {index} has entries that cannot be",
                    self._entry_offset_bytes(index, 0),
                )
            self._seen[index] = 1
        return table

    def _absent(self, index: int) -> array[int]:
        said = [d[index] for d in (self._primary, self._redundant) if d is not None]
        if any(said):
            raise self._error(f"grain table {index} is outside the file", None)
        return array("I", bytes(4 * self._header.gtes_per_gt))

    def _read(self, directory: array[int] | None, index: int) -> array[int] | None:
        place = self._place(directory, index)
        if place is None:
            return None
        return entries_of(read(self._raw, place, 4 * self._header.gtes_per_gt))

    def _place(self, directory: array[int] | None, index: int) -> int | None:
        """Byte where a table is, or None where it cannot be."""
        if directory is None or not directory[index]:
            return None
        offset_bytes = directory[index] * SECTOR_BYTES
        length_bytes = 4 * self._header.gtes_per_gt
        return offset_bytes if offset_bytes + length_bytes <= self._raw.size_bytes else None

    def _is_sound(self, table: array[int], index: int) -> bool:
        """Whether every entry is a grain inside the file, or none."""
        highest = max(table)
        if highest <= ENTRY_ZEROED:
            return True
        if highest >= self._end_sectors(index):
            return False
        return min((e for e in table if e > ENTRY_ZEROED), default=ENTRY_MAX) >= self._first_sector

    def _is_aligned(self, table: array[int]) -> bool:
        grain = self._header.grain_sectors
        phase = self._header.overhead_sectors % grain
        return max(table) <= ENTRY_ZEROED or all(
            e % grain == phase for e in table if e > ENTRY_ZEROED
        )

    def _is_grain(self, entry: int) -> bool:
        return self._first_sector <= entry < self._opened_sectors

    def _end_sectors(self, index: int) -> int:
        """End of the file for a table: for one not seen yet, as it was before we lengthened it."""
        if self._writable and self._seen[index]:
            return -(-self._raw.size_bytes // SECTOR_BYTES)
        return self._opened_sectors

    @property
    def _first_sector(self) -> int:
        return max(self._header.overhead_sectors, 2)

    def _make_room(self) -> None:
        if len(self._tables) >= CACHE_MAX_TABLES:
            kept = {index: self._tables[index] for index in self._pending if index in self._tables}
            self._tables = kept

    def _refuse_overlaps(self) -> None:
        """Writing one table must not change another, the directories or the header."""
        header = self._header
        parts = [(0, 1), (header.descriptor_offset_sectors, header.descriptor_sectors)]
        directory_sectors = -(-header.table_count * 4 // SECTOR_BYTES)
        length = header.table_sectors
        starts: list[int] = []
        for directory, at in (
            (self._primary, header.gd_offset_sectors),
            (self._redundant, header.rgd_offset_sectors),
        ):
            if directory is not None:
                parts.append((at, directory_sectors))
                if _is_one_run(directory, length):
                    parts.append((directory[0], len(directory) * length))
                else:
                    starts.extend(filter(None, directory))
        starts.sort()
        for start, following in pairwise(starts):
            if following - start < length:
                raise self._error("its tables overlap", following * SECTOR_BYTES)
        self._refuse_parts(parts, starts)

    def _refuse_parts(self, parts: list[tuple[int, int]], starts: list[int]) -> None:
        """Header, descriptor and directories lie apart from each other and from the tables."""
        length, end = self._header.table_sectors, self._header.overhead_sectors
        tables = [(starts[-1], length)] if starts else []  # the last one; and those before parts
        for start, count in parts:
            before = bisect_right(starts, start + max(count, 1) - 1)
            tables.extend((at, length) for at in starts[max(before - 1, 0) : before])
        at = 0
        for start, count in sorted([*parts, *set(tables)]):
            if start < at or start + count > end:
                raise self._error("its tables overlap", start * SECTOR_BYTES)
            at = start + count

    def _entry_offset_bytes(self, index: int, at: int) -> int | None:
        place = self._place(self._primary, index)
        return None if place is None else place + 4 * at

    def _error(self, message: str, offset_bytes: int | None) -> VmdkError:
        return VmdkError(
            message,
            where=self._raw.name,
            offset_bytes=offset_bytes,
            remedy="check the disk for damage, and restore it from a backup",
        )
