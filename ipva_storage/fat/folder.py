"""One folder in memory: its entries, room for more, and which of its sectors changed.

Invariants:

1. `raw` is the folder as it will be on the medium; what comes after the end mark is zero in it.
2. A sector of `raw` that differs from the medium is marked dirty.
3. The records of an entry lie in one sector where they fit in one, so that a power cut leaves all
   of them or none; a disk is taken to write a sector whole.
4. `slots` holds one slot for each live entry, found by its folded long or short name.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.errors import NoSpaceError
from ipva_storage.fat import clock, names, records
from ipva_storage.fat.geometry import RECORDS_MAX
from ipva_storage.fat.records import FatEntry, Slot

if TYPE_CHECKING:
    from datetime import datetime

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry

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
        date,
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
        """Folded names removed since the last write."""
        self._raw = raw
        self._geometry = geometry
        self._sector_records = geometry.sector_bytes // layout.ENTRY_BYTES
        parsed = records.parse(raw)
        self._end = parsed.end
        self.label = _label(parsed, code_page)
        self._dirty: set[int] = set()
        self._stale = self._clear_after_end()
        self._search_from: dict[int, int] = {}
        self._slots: dict[int, Slot] = {}
        self._by_long: dict[str, Slot] = {}
        self._by_short: dict[str, Slot] = {}
        self.shorts: set[bytes] = set(parsed.table["name"][parsed.is_label].tolist())
        """The 11 bytes of every name that is taken."""
        for slot in records.slots(parsed, is_fat32=geometry.fat_bits == 32, code_page=code_page):
            self._know(slot)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def entries(self) -> list[FatEntry]:
        """Files and folders in the order of their records."""
        return [self._slots[at].entry for at in sorted(self._slots)]

    @property
    def is_dirty(self) -> bool:
        """Whether something is to be written."""
        return bool(self._dirty)

    @property
    def record_capacity(self) -> int:
        """Records there is room for, without another cluster."""
        return len(self._raw) // layout.ENTRY_BYTES

    def find(self, name: str) -> Slot | None:
        """The entry of that long or short name, whatever its case."""
        key = names.fold(name)
        return self._by_long.get(key) or self._by_short.get(key)

    def has_room(self, name: str) -> bool:
        """Whether a new entry of that name fits without another cluster."""
        fitted = names.fit_short(name)
        is_short = fitted is not None and fitted[0] not in self.shorts
        count = 1 if is_short else _record_count(name)
        return self._find_room(count) is not None

    def add(
        self,
        name: str,
        *,
        attributes: int,
        modified: datetime,
        cluster: int,
        content_bytes: int = 0,
    ) -> Slot:
        """Put a new entry in, in memory.

        The caller has seen that the name is valid and new, and that there is room.

        Raises:
            NoSpaceError: there is no room.
        """
        fitted = names.fit_short(name)
        if fitted is not None and fitted[0] not in self.shorts:
            (short, case_flags), long_records = fitted, b""
        else:
            short, case_flags = names.make_short(name, self.shorts), 0
            long_records = pack_long(name, short)
        data = long_records + pack_entry(
            short,
            attributes=attributes,
            case_flags=case_flags,
            created=modified,
            modified=modified,
            cluster=cluster,
            content_bytes=content_bytes,
        )
        count = len(data) // layout.ENTRY_BYTES
        first = self._find_room(count)
        if first is None:
            raise NoSpaceError("the folder is full")
        self._store(first, data)
        entry = FatEntry(
            name=name,
            short_name=names.show_short(short),
            size_bytes=content_bytes,
            modified=clock.decode(*clock.encode(modified)[:2]),
            is_dir=bool(attributes & layout.ATTRIBUTE_FOLDER),
            attributes=attributes,
            first_cluster=cluster,
        )
        slot = Slot(entry, short, first, count)
        self._know(slot)
        return slot

    def update(self, slot: Slot, *, cluster: int, content_bytes: int, modified: datetime) -> None:
        """Give an entry other content, in memory: one record, so one sector."""
        at = slot.short_record * layout.ENTRY_BYTES
        row = list(_ENTRY.unpack_from(self._raw, at))
        date, time, _ = clock.encode(modified)
        attributes = row[1] | layout.ATTRIBUTE_ARCHIVE
        row[1], row[6:] = (
            attributes,
            [date, cluster >> 16, time, date, cluster & 0xFFFF, content_bytes],
        )
        self._write_raw(at, _ENTRY.pack(*row))
        slot.entry = replace(
            slot.entry,
            size_bytes=content_bytes,
            modified=clock.decode(date, time),
            first_cluster=cluster,
            attributes=attributes,
        )

    def remove(self, slot: Slot) -> None:
        """Mark the records of an entry free, in memory."""
        for record in range(slot.first_record, slot.first_record + slot.record_count):
            self._write_raw(record * layout.ENTRY_BYTES, bytes([layout.MARK_DELETED]))
        del self._slots[slot.first_record]
        short_key = names.fold(slot.entry.short_name)
        for index, key in (
            (self._by_long, names.fold(slot.entry.name)),
            (self._by_short, short_key),
        ):
            if index.get(key) is slot:
                del index[key]
            self.removed.add(key)
        self.shorts.discard(slot.short)
        self._search_from.clear()

    def extend(self, cluster: int) -> None:
        """Take one more cluster, of zeros, in memory.

        Raises:
            NoSpaceError: the folder is as long as folders get.
        """
        more = self._geometry.cluster_bytes
        if (len(self._raw) + more) // layout.ENTRY_BYTES > RECORDS_MAX:
            raise NoSpaceError("the folder is full: it has 65536 records, the most there are")
        self.clusters.append(cluster)
        self._raw.extend(bytes(more))

    def write(self, device: BlockDevice) -> None:
        """Write the changed sectors, in order, and forget what was removed."""
        step = self._geometry.sector_bytes
        for sector in sorted(self._dirty):
            at = sector * step
            device.write(self._offset_bytes(at), memoryview(self._raw)[at : at + step])
        self._dirty.clear()
        self.removed.clear()

    def _know(self, slot: Slot) -> None:
        self._slots[slot.first_record] = slot
        self._by_long.setdefault(names.fold(slot.entry.name), slot)
        self._by_short.setdefault(names.fold(slot.entry.short_name), slot)
        self.shorts.add(slot.short)

    def _offset_bytes(self, at: int) -> int:
        """Where on the volume a byte of the folder is."""
        geometry = self._geometry
        if not self.clusters:
            return geometry.root_offset_bytes + at
        index, rest = divmod(at, geometry.cluster_bytes)
        return geometry.cluster_offset_bytes(self.clusters[index]) + rest

    def _clear_after_end(self) -> set[int]:
        """Zero what follows the end mark; the sectors that differ from the medium by that."""
        at = self._end * layout.ENTRY_BYTES
        if not any(self._raw[at:]):
            return set()
        changed = np.flatnonzero(np.frombuffer(bytes(self._raw[at:]), np.uint8)) + at
        self._raw[at:] = bytes(len(self._raw) - at)
        return set(np.unique(changed // self._geometry.sector_bytes).tolist())

    def _find_room(self, count: int) -> int | None:
        """First record of a free run of `count`, within one sector where it fits in one."""
        start = self._search_from.get(count, 0)
        stop = min(self.record_capacity, max(start, self._end) + count + self._sector_records)
        heads = np.frombuffer(
            bytes(self._raw[start * layout.ENTRY_BYTES : stop * layout.ENTRY_BYTES]), np.uint8
        )[:: layout.ENTRY_BYTES]
        free = (heads == layout.MARK_DELETED) | (np.arange(start, stop) >= self._end)
        if len(free) < count:
            return None
        sums = np.concatenate(([0], np.cumsum(free)))
        at = np.flatnonzero(sums[count:] - sums[:-count] == count) + start
        whole = at[at % self._sector_records + count <= self._sector_records]
        if len(whole):
            self._search_from[count] = int(whole[0])
            return int(whole[0])
        may_split = count > self._sector_records or stop == self.record_capacity
        return int(at[0]) if len(at) and may_split else None

    def _store(self, first: int, data: bytes) -> None:
        """Write records from `first` on; free ones fill the gap after the old end."""
        size = layout.ENTRY_BYTES
        if first > self._end:
            self._write_raw(self._end * size, _FREE_RECORD * (first - self._end))
        self._write_raw(first * size, data)
        self._end = max(self._end, first + len(data) // size)

    def _write_raw(self, at: int, data: bytes) -> None:
        self._raw[at : at + len(data)] = data
        step = self._geometry.sector_bytes
        self._dirty.update(range(at // step, (at + len(data) - 1) // step + 1))
        self._dirty |= self._stale
        self._stale = set()


def _record_count(name: str) -> int:
    """Records an entry takes that needs a long name."""
    return 1 + -(-len(names.encode_long(name)) // (layout.LONG_UNITS * 2))


def _label(parsed: records.Records, code_page: str) -> str | None:
    found = np.flatnonzero(parsed.is_label)
    if not len(found):
        return None
    text: str = parsed.table["name"][found[0]].tobytes().decode(code_page, "replace")
    return text.rstrip(" ") or None
