"""The log: segments taken into use one after the other, records added to the newest.

Invariants:

1. Every byte is programmed once between two erases.
2. Within a record the payload is programmed before the entry, whose last word is the commit mark.
3. Only the segment opened last by this object is added to; a segment found at mount never is.
4. Every segment in use keeps one entry slot free, which only a RECLAIMED entry may take.
5. A segment is free, or in use; `used_count` counts those in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final
from zlib import crc32

from ipva_storage.errors import NoSpaceError
from ipva_storage.flash.records import (
    ENTRY,
    ENTRY_BODY,
    ENTRY_BYTES,
    LOG,
    OPEN_AT,
    PAYLOAD_AT,
    RECLAIM,
    RECLAIMED,
    SEAL_AT,
    U32,
    pack_clean_marker,
    pack_open_header,
    pack_seal_header,
    record_bytes,
)

if TYPE_CHECKING:
    from ipva_storage.flash.nor import NorDevice

WEAR_STEP: Final = 16
"""Erases of used segments before a virgin one is taken instead.

Confidence: chosen (a sparse image stays small, and wear stays even within this many erases).
"""

KEY_LIMIT_BYTES: Final = 255
"""Longest key. Confidence: chosen."""

SPARE_ENTRIES: Final = 3
"""Entries a segment is not counted on to hold: COMMIT and RECLAIMED marks. Confidence: chosen."""


@dataclass(slots=True)
class Segment:
    """What the log knows of one segment."""

    sequence: int = 0
    """When it was opened; 0 while it is free."""
    entry_count: int = 0
    """Slots of its table, from the end of the segment down."""
    live_bytes: int = 0
    """What its live records take."""
    erase_count: int = 0
    is_clean: bool = False
    """Free, and erased with a clean marker; otherwise it is erased before use."""


class Log:
    """Segments of a NOR device, and the head to which records are added."""

    def __init__(self, nor: NorDevice, segments: list[Segment], next_sequence: int) -> None:
        """Go on with segments as a mount found them."""
        self.nor = nor
        self.segments = segments
        self.next_sequence = next_sequence
        self.used_count = sum(1 for segment in segments if segment.sequence)
        self.segment_bytes = nor.segment_bytes
        self.shift = nor.segment_bytes.bit_length() - 1
        self.record_limit_bytes = max(nor.segment_bytes // 16, KEY_LIMIT_BYTES + 33)
        room = nor.segment_bytes - PAYLOAD_AT
        self.room_bytes = room - ENTRY_BYTES
        """`slot - end` of a segment just opened."""
        self.dependable_bytes = (
            room - (1 + SPARE_ENTRIES) * ENTRY_BYTES - record_bytes(self.record_limit_bytes)
        )
        """What every segment is counted on to hold, whatever the sizes of the records."""
        self.head = -1
        self.end = 0
        """Address of the next payload."""
        self.slot = 0
        """Address of the next entry; a record fits while `slot - end` is at least its bytes."""
        self._free = [self._rank(at) for at, one in enumerate(segments) if not one.sequence]
        heapify(self._free)

    @property
    def free_count(self) -> int:
        """Segments not in use, the copy segment included."""
        return len(self._free)

    def _rank(self, segment: int) -> tuple[int, bool, int, int]:
        """Least worn first, roughly; among those, the ones already on the disk."""
        count = self.segments[segment].erase_count
        is_untouched = not count and self.nor.is_virgin(segment)
        return count // WEAR_STEP, is_untouched, count, segment

    def open_segment(self, kind: int = LOG, victim: int = -1) -> int:
        """Take a free segment into use as the head, which must be sealed already.

        Raises:
            NoSpaceError: none is free.
        """
        if not self._free:
            raise NoSpaceError("no segment is free", where=self.nor.name)
        at = heappop(self._free)[-1]
        base = at << self.shift
        one = self.segments[at]
        if not one.is_clean or not self.nor.is_blank(base + OPEN_AT, self.segment_bytes - OPEN_AT):
            self._erase(at)
        sequence = self.next_sequence
        self.next_sequence = sequence + 1
        if kind == RECLAIM:
            header = pack_open_header(sequence, kind, victim, self.segments[victim].sequence)
        else:
            header = pack_open_header(sequence, kind)
        self.nor.program(base + OPEN_AT, header)
        one.sequence, one.entry_count, one.live_bytes, one.is_clean = sequence, 0, 0, False
        self.used_count += 1
        self.head = at
        self.end = base + PAYLOAD_AT
        self.slot = base + self.segment_bytes - ENTRY_BYTES
        return at

    def _erase(self, at: int) -> None:
        one = self.segments[at]
        self.nor.erase(at)
        one.erase_count = min(one.erase_count + 1, 0xFFFFFFFF)
        marker = pack_clean_marker(self.nor.segment_count, self.segment_bytes, one.erase_count)
        self.nor.program(at << self.shift, marker)
        one.is_clean = True

    def free_segment(self, at: int) -> None:
        """Erase a segment in use, and give it back."""
        one = self.segments[at]
        self._erase(at)
        one.sequence = one.entry_count = one.live_bytes = 0
        self.used_count -= 1
        heappush(self._free, self._rank(at))

    def seal_head(self) -> None:
        """Seal the head, if there is one; then there is none."""
        at = self.head
        if at < 0:
            return
        self.seal(at)
        self.head, self.end, self.slot = -1, 0, 0

    def seal(self, at: int) -> None:
        """Program the seal header of a segment, after a barrier."""
        one = self.segments[at]
        stop = (at + 1) << self.shift
        table = self.nor.image[stop - ENTRY_BYTES * one.entry_count : stop]
        header = pack_seal_header(one.sequence, one.entry_count, crc32(table))
        self.nor.barrier()
        self.nor.program((at << self.shift) + SEAL_AT, header)

    def append(
        self,
        kind: int,
        flags: int,
        key_bytes: int,
        payload: bytes | bytearray,
        version: int,
        key_crc: int,
        detail: int,
        payload_crc: int,
    ) -> int:
        """Add a record to the head, where there must be room; the address of its entry.

        Liveness is the caller's to count.
        """
        program = self.nor.program
        end, slot = self.end, self.slot
        length = len(payload)
        if length:
            program(end, payload)
        units = (end & (self.segment_bytes - 1)) >> 2
        body = ENTRY_BODY.pack(
            kind, flags, key_bytes, units, length, version, key_crc, detail, payload_crc
        )
        program(slot, body + U32.pack(crc32(body)))
        self.end = end + ((length + 3) & ~3)
        self.slot = slot - ENTRY_BYTES
        self.segments[self.head].entry_count += 1
        return slot

    def mark_reclaimed(self, victim: int) -> None:
        """Say in the head that all live records of `victim` are elsewhere; barriers around."""
        self.nor.barrier()
        self.append(RECLAIMED, 0, 0, b"", self.segments[victim].sequence, 0, victim, 0)
        self.nor.barrier()

    def entry(self, address: int) -> tuple[int, ...]:
        """The fields of the entry at an address, in the order of `records.Entry`."""
        return ENTRY.unpack_from(self.nor.image, address)

    def entries_down(self, at: int) -> range:
        """Addresses of a segment's entries, oldest first."""
        stop = (at + 1) << self.shift
        count = self.segments[at].entry_count
        return range(stop - ENTRY_BYTES, stop - ENTRY_BYTES * (count + 1), -ENTRY_BYTES)
