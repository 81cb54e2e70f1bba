"""One folder in memory: its entries, room for more, and which of its sectors changed.

Invariants:

1. `raw` is the folder as it will be on the medium; what comes after the end mark is zero in it
   once anything was changed.
2. A sector of `raw` that differs from the medium is marked dirty. Sectors are of 512 bytes, which
   a disk is taken to write whole, whatever the sector of the volume.
3. The records of an entry lie in one sector where they fit in one, so that a power cut leaves all
   of them or none. Only a folder that cannot grow takes an entry in two.
4. Once they were asked for, `slots` holds one slot for each live entry, found by its folded long
   or short name; what only lists a folder makes none.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.errors import FatError, NoSpaceError
from ipva_storage.fat import clock, listing, names, records
from ipva_storage.fat.geometry import RECORDS_MAX
from ipva_storage.fat.records import FatEntry, Slot
from ipva_storage.fat.table import runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry

SECTOR_BYTES: Final = 512
_SECTOR_RECORDS: Final = SECTOR_BYTES // layout.ENTRY_BYTES
_ENTRY: Final = struct.Struct("<11sBBBHHHHHHHI")
_LONG: Final = struct.Struct("<B10sBBB12sH4s")
_FREE_RECORD: Final = bytes([layout.MARK_DELETED]) + bytes(layout.ENTRY_BYTES - 1)


def pack_entry(
    short: bytes,
    *,
    attributes: int,
    case_flags: int = 0,
    created: datetime,
    modified: datetime,
    cluster: int,
    content_bytes: int = 0,
) -> bytes:
    """The 32 bytes of a short record. A property test holds it equal to `ENTRY`."""
    created_date, created_time, hundredths = clock.encode(created)
    date, time, _ = clock.encode(modified)
    return _ENTRY.pack(
        short,
        attributes,
        case_flags,
        hundredths,
        created_time,
        created_date,
        max(created_date, date),
        cluster >> 16,
        time,
        date,
        cluster & 0xFFFF,
        content_bytes,
    )


def pack_long(name: str, short: bytes) -> bytes:
    """The long-name records of a name, as they precede the short record on disk."""
    encoded = names.encode_long(name)
    step = layout.LONG_UNITS * 2
    count = -(-len(encoded) // step)
    if len(encoded) % step:
        encoded = (encoded + b"\0\0").ljust(count * step, b"\xff")
    total = names.checksum(short)
    pieces = []
    for number in range(count, 0, -1):
        part = encoded[(number - 1) * step : number * step]
        ordinal = number | (layout.LONG_LAST if number == count else 0)
        pieces.append(
            _LONG.pack(
                ordinal, part[:10], layout.ATTRIBUTE_LONG_NAME, 0, total, part[10:22], 0, part[22:]
            )
        )
    return b"".join(pieces)


class Folder:
    """A folder of a volume."""

    def __init__(
        self,
        raw: bytearray,
        clusters: list[int],
        geometry: Geometry,
        *,
        code_page: str,
        fault: str | None = None,
    ) -> None:
        """Sort out a folder that was read.

        Args:
            raw: all its bytes.
            clusters: its chain; empty for the fixed root folder.
            geometry: of its volume.
            code_page: of short names.
            fault: what is wrong with its chain; such a folder can be read and not changed.
        """
        self.clusters = clusters
        self.fault = fault
        self.removed: set[str] = set()
        """Folded names that are on the medium until the next commit has ended."""
        self.is_bounded = False
        """Whether it cannot grow, so that an entry may lie in two sectors."""
        self._raw = raw
        self._geometry = geometry
        self._is_fat32 = geometry.fat_bits == 32
        self._code_page = code_page
        parsed = records.parse(raw)
        self._end = parsed.end
        self._labels = np.flatnonzero(parsed.is_label).tolist()
        self._listed = listing.listed(parsed, is_fat32=self._is_fat32, code_page=code_page)
        self._dirty: set[int] = set()
        self._is_tidy = False
        self._search_from: dict[int, int] = {}
        self._slots: dict[int, Slot] | None = None
        self._by_long: dict[str, Slot] = {}
        self._by_short: dict[str, Slot] = {}
        self._twins: dict[str, Slot] = {}
        self._shorts: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._listed.entries if self._slots is None else self._slots)

    @property
    def entries(self) -> list[FatEntry]:
        """Files and folders in the order of their records."""
        if self._slots is None:
            return list(self._listed.entries)
        return [self._slots[at].entry for at in sorted(self._slots)]

    @property
    def label(self) -> str | None:
        """The volume label that it holds, if any; only the root folder's counts."""
        if not self._labels:
            return None
        short = bytes(self._record(self._labels[0])[:11])
        return names.show_label(short, self._code_page) or None

    @property
    def is_dirty(self) -> bool:
        """Whether something is to be written."""
        return bool(self._dirty)

    @property
    def record_capacity(self) -> int:
        """Records there is room for, without another cluster."""
        return len(self._raw) // layout.ENTRY_BYTES

    # -- finding ------------------------------------------------------------------------------

    def find(self, name: str) -> Slot | None:
        """The entry of that long or short name, whatever its case.

        Of several that differ in case only, the one that is written so, else the first.
        """
        self._index()
        key = names.fold(name)
        found = self._by_long.get(key) or self._by_short.get(key)
        return self._twins.get(name, found) if self._twins else found

    def find_short(self, short: bytes) -> Slot | None:
        """The entry whose name on disk is these 11 bytes."""
        slots = self._index()
        return next((slot for slot in slots.values() if slot.short == short), None)

    def record_of(self, slot: Slot) -> bytes:
        """The 32 bytes of an entry's short record."""
        return bytes(self._record(slot.short_record))

    def _record(self, index: int) -> bytearray:
        at = index * layout.ENTRY_BYTES
        return self._raw[at : at + layout.ENTRY_BYTES]

    def _index(self) -> dict[int, Slot]:
        """The slots by their first record, made when they are first asked for."""
        if self._slots is None:
            self._slots = {}
            self._shorts = {bytes(self._record(at)[:11]) for at in self._labels}
            entries, shorts, at, counts = self._listed
            firsts, counts = (at - counts).tolist(), (counts + 1).tolist()
            for slot in map(Slot, entries, shorts, firsts, counts):
                self._know(slot)
        return self._slots

    def _know(self, slot: Slot) -> None:
        self._index()[slot.first_record] = slot
        if self._by_long.setdefault(names.fold(slot.entry.name), slot) is not slot:
            self._twins[slot.entry.name] = slot
        self._by_short.setdefault(names.fold(slot.entry.short_name), slot)
        self._shorts.add(slot.short)

    # -- room ---------------------------------------------------------------------------------

    def has_room(self, name: str) -> bool:
        """Whether a new entry of that name fits without another cluster."""
        self._index()
        fitted = names.fit_short(name)
        is_short = fitted is not None and fitted[0] not in self._shorts
        return self._find_room(1 if is_short else _record_count(name)) is not None

    def _find_room(self, count: int) -> int | None:
        """First record of a free run of `count`, within one sector where it fits in one."""
        if self._search_from.get(count, 0) >= self._end - _SECTOR_RECORDS:
            gap = -self._end % _SECTOR_RECORDS
            at = self._end + (gap if gap < count <= _SECTOR_RECORDS else 0)
            if at + count <= self.record_capacity:
                self._search_from[count] = at
                return at
        return self._search(count)

    def _search(self, count: int) -> int | None:
        heads = np.frombuffer(bytes(self._raw[:: layout.ENTRY_BYTES]), np.uint8)
        free = heads == layout.MARK_DELETED
        free[self._end :] = True
        sums = np.concatenate(([0], np.cumsum(free)))
        at = np.flatnonzero(sums[count:] - sums[:-count] == count)
        whole = at[at % _SECTOR_RECORDS + count <= _SECTOR_RECORDS]
        if len(whole):
            self._search_from[count] = int(whole[0])
            return int(whole[0])
        return int(at[0]) if len(at) and (count > _SECTOR_RECORDS or self.is_bounded) else None

    # -- changing -----------------------------------------------------------------------------

    def add(self, name: str, record: bytes) -> Slot:
        """Put a new entry in, in memory.

        The caller has seen that the name is valid and new, and that there is room.

        Args:
            name: what it is called.
            record: a short record with everything but the name.

        Raises:
            NoSpaceError: there is no room.
        """
        self._index()
        data = self._named(name, record, self._shorts)
        first = self._find_room(len(data) // layout.ENTRY_BYTES)
        if first is None:
            raise NoSpaceError("the folder is full")
        return self._store(first, name, data)

    def _named(self, name: str, record: bytes, taken: set[bytes]) -> bytes:
        """The records of an entry with that name."""
        fitted = names.fit_short(name)
        if fitted is not None and fitted[0] not in taken:
            (short, case_flags), long_records = fitted, b""
        else:
            short, case_flags = names.make_short(name, taken), 0
            long_records = pack_long(name, short)
        return long_records + short + record[11:12] + bytes([case_flags]) + record[13:]

    def _store(self, first: int, name: str, data: bytes) -> Slot:
        """Write records from `first` on; free ones fill the gap after the old end."""
        size = layout.ENTRY_BYTES
        if first > self._end:
            self._write_raw(self._end * size, _FREE_RECORD * (first - self._end))
        self._write_raw(first * size, data)
        count = len(data) // size
        self._end = max(self._end, first + count)
        slot = Slot(self._entry(name, data[-size:]), data[-size : 11 - size], first, count)
        self._know(slot)
        return slot

    def _entry(self, name: str, record: bytes) -> FatEntry:
        short, attributes, _, tenths, time_0, date_0, day, high, time, date, low, size = (
            _ENTRY.unpack(record)
        )
        is_dir = bool(attributes & layout.ATTRIBUTE_FOLDER)
        return FatEntry(
            name=name,
            short_name=names.show_short(short, 0, self._code_page),
            size_bytes=0 if is_dir else size,
            modified=clock.decode(date, time),
            is_dir=is_dir,
            attributes=attributes,
            first_cluster=(high << 16 | low) if self._is_fat32 else low,
            created=clock.decode(date_0, time_0, tenths) if date_0 else None,
            accessed=clock.decode(day, 0).date() if day else None,
        )

    def update(self, slot: Slot, record: bytes) -> None:
        """Give an entry what another short record says, but for its name, in memory.

        One record, so one sector.
        """
        old = self.record_of(slot)
        new = old[:11] + record[11:12] + old[12:13] + record[13:]
        self._write_raw(slot.short_record * layout.ENTRY_BYTES, new)
        slot.entry = self._entry(slot.entry.name, new)

    def rename(self, slot: Slot, name: str) -> bool:
        """Give an entry another name within its sector, in memory: a power cut leaves one of both.

        Returns:
            Whether there was room in the sector; otherwise nothing is changed.
        """
        sector, last = (at // _SECTOR_RECORDS for at in (slot.first_record, slot.short_record))
        data = self._named(name, self.record_of(slot), self._shorts - {slot.short})
        count = len(data) // layout.ENTRY_BYTES
        own = range(slot.first_record, slot.short_record + 1)
        start = sector * _SECTOR_RECORDS
        stop = min(start + _SECTOR_RECORDS, self.record_capacity)
        is_free = [at in own or self._is_free(at) for at in range(start, stop)]
        places = range(len(is_free) + 1 - count)
        place = next((at for at in places if all(is_free[at : at + count])), None)
        if sector != last or place is None:
            return False
        self.forget(slot)
        self.clear(slot)
        self._store(start + place, name, data)
        return True

    def _is_free(self, record: int) -> bool:
        return record >= self._end or self._raw[record * layout.ENTRY_BYTES] == layout.MARK_DELETED

    def forget(self, slot: Slot) -> None:
        """Know an entry no more; its records stay until `clear`."""
        del self._index()[slot.first_record]
        for index, name in (
            (self._by_long, slot.entry.name),
            (self._by_short, slot.entry.short_name),
        ):
            key = names.fold(name)
            if index.get(key) is slot:
                del index[key]
            self.removed.add(key)
        if self._twins:
            self._twins = {}
            self._by_long.clear()
            for each in list(self._index().values()):
                self._know(each)

    def clear(self, slot: Slot) -> None:
        """Mark the records of an entry free that was forgotten, in memory."""
        for record in range(slot.first_record, slot.short_record + 1):
            self._write_raw(record * layout.ENTRY_BYTES, bytes([layout.MARK_DELETED]))
        self._shorts.discard(slot.short)
        self._search_from.clear()

    def check_parent(self) -> None:
        """See that the second record is `..`.

        Raises:
            FatError: it is not.
        """
        if self._end < 2 or self._record(1)[:11] != records.DOT_DOT:
            raise FatError(
                "the folder has no “..”, so it is not moved", remedy="run a repair of the volume"
            )

    def set_parent(self, cluster: int) -> None:
        """Let `..` name another folder, in memory.

        Args:
            cluster: where that starts; 0 for the root folder.
        """
        record = self._record(1)
        struct.pack_into("<H", record, 20, cluster >> 16)
        struct.pack_into("<H", record, 26, cluster & 0xFFFF)
        self._write_raw(layout.ENTRY_BYTES, bytes(record))

    def set_label(self, record: bytes | None) -> None:
        """Put a label entry in, replace it, or take it out, in memory. Only for the root folder.

        Raises:
            NoSpaceError: there is no room for one.
        """
        self._index()
        if record is None:
            for index in self._labels:
                self._write_raw(index * layout.ENTRY_BYTES, bytes([layout.MARK_DELETED]))
            self._labels = []
            self._search_from.clear()
            return
        at = self._labels[0] if self._labels else self._find_room(1)
        if at is None:
            raise NoSpaceError("the root folder is full", remedy="delete a file there")
        if at > self._end:  # the run to the end of a sector that `_find_room` skips
            at = self._end
        self._write_raw(at * layout.ENTRY_BYTES, record)
        self._end = max(self._end, at + 1)
        self._labels = self._labels or [at]

    def extend(self, cluster: int) -> None:
        """Take one more cluster, of zeros, in memory.

        Raises:
            NoSpaceError: the folder is as long as folders get.
        """
        more = self._geometry.cluster_bytes
        if (len(self._raw) + more) // layout.ENTRY_BYTES > max(RECORDS_MAX, more // 32):
            raise NoSpaceError("the folder is full: it has 65536 records, the most there are")
        self.clusters.append(cluster)
        self._raw.extend(bytes(more))

    # -- the medium ---------------------------------------------------------------------------

    def write(self, device: BlockDevice, *, backwards: bool = False) -> None:
        """Write the changed sectors, those that are neighbours together.

        Args:
            device: the volume.
            backwards: the last first, so that of an entry that lies in two sectors and is removed
                the short record goes first.
        """
        pieces = list(self._pieces())
        for at, length in reversed(pieces) if backwards else pieces:
            device.write(self._offset_bytes(at), memoryview(self._raw)[at : at + length])
        self._dirty.clear()

    def _pieces(self) -> Iterator[tuple[int, int]]:
        """The changed bytes: where in the folder, and how many, each within one cluster."""
        each = self._geometry.cluster_bytes // SECTOR_BYTES if self.clusters else RECORDS_MAX
        for first, count in runs(sorted(self._dirty)):
            at, stop = first, first + count
            while at < stop:
                length = min(stop - at, each - at % each)
                yield at * SECTOR_BYTES, length * SECTOR_BYTES
                at += length

    def _offset_bytes(self, at: int) -> int:
        """Where on the volume a byte of the folder is."""
        geometry = self._geometry
        if not self.clusters:
            return geometry.root_offset_bytes + at
        index, rest = divmod(at, geometry.cluster_bytes)
        return geometry.cluster_offset_bytes(self.clusters[index]) + rest

    def _tidy(self) -> None:
        """Zero what follows the end mark, before that moves."""
        self._is_tidy = True
        at = self._end * layout.ENTRY_BYTES
        rest = np.frombuffer(bytes(self._raw[at:]), np.uint8)
        stale = (np.flatnonzero(rest) + at) // SECTOR_BYTES
        if len(stale):
            self._raw[at:] = bytes(len(rest))
            self._dirty.update(np.unique(stale).tolist())

    def _write_raw(self, at: int, data: bytes) -> None:
        if not self._is_tidy:
            self._tidy()
        self._raw[at : at + len(data)] = data
        self._dirty.update(range(at // SECTOR_BYTES, (at + len(data) - 1) // SECTOR_BYTES + 1))


def changed(record: bytes, **fields: Any) -> bytes:
    """A short record with some fields changed.

    Args:
        record: its 32 bytes.
        fields: `attributes`, `created`, `modified`, `accessed`, `cluster`, `content_bytes`; None
            leaves one as it is.
    """
    row = list(_ENTRY.unpack(record))
    fields = {name: value for name, value in fields.items() if value is not None}
    if "created" in fields:
        row[5], row[4], row[3] = clock.encode(fields["created"])
    if "modified" in fields:
        row[9], row[8], _ = clock.encode(fields["modified"])
    if "accessed" in fields:
        row[6] = clock.encode(fields["accessed"])[0]
    if "cluster" in fields:
        row[7], row[10] = fields["cluster"] >> 16, fields["cluster"] & 0xFFFF
    row[1] = fields.get("attributes", row[1])
    row[11] = fields.get("content_bytes", row[11])
    return _ENTRY.pack(*row)


def _record_count(name: str) -> int:
    """Records an entry takes that needs a long name."""
    return 1 + -(-len(names.encode_long(name)) // (layout.LONG_UNITS * 2))
