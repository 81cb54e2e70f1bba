"""The ring of records: reading one, and following them from the oldest on.

A record takes whole sectors: one for the header, then the payload. It never wraps: one that does
not fit before the end of the ring starts at its beginning.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import construct as c

from ipva_formats import dump as layout
from ipva_storage.device import read
from ipva_storage.dump.superblock import CRC_OFFSET_BYTES, seal
from ipva_storage.errors import DumpError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.dump.superblock import Superblock

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SCAN_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Header:
    """A record's header, and where it is."""

    offset_bytes: int
    sequence: int
    time: datetime
    kind: str
    payload_bytes: int
    payload_crc32: int

    @property
    def end_bytes(self) -> int:
        """First byte after the record's last sector."""
        return self.offset_bytes + record_bytes(self.payload_bytes)


def record_bytes(payload_bytes: int) -> int:
    """What a record with such a payload takes in the ring, in bytes."""
    return layout.SECTOR_BYTES * (1 + -(-payload_bytes // layout.SECTOR_BYTES))


def build_header(header: Header, log_id: int) -> bytes:
    """The header's sector."""
    sector = layout.RECORD_HEADER.build(
        {
            "log_id": log_id,
            "sequence": header.sequence,
            "time_us": (header.time - _EPOCH) // timedelta(microseconds=1),
            "payload_bytes": header.payload_bytes,
            "payload_crc32": header.payload_crc32,
            "kind": header.kind.encode("ascii").ljust(layout.KIND_BYTES, b"\0"),
            "crc32": 0,
        }
    )
    return seal(sector)


def parse_header(sector: bytes, offset_bytes: int, log_id: int) -> Header | None:
    """The header in one sector, if it is a whole one of this log."""
    if not sector.startswith(layout.RECORD_MAGIC):
        return None
    stated_crc32 = int.from_bytes(sector[CRC_OFFSET_BYTES:], "little")
    if zlib.crc32(sector[:CRC_OFFSET_BYTES]) != stated_crc32:
        return None
    try:
        fields = layout.RECORD_HEADER.parse(sector)
        time = _EPOCH + timedelta(microseconds=fields.time_us)
        kind = fields.kind.rstrip(b"\0").decode("ascii")
    except (c.ConstructError, OverflowError, UnicodeDecodeError):
        return None
    is_sane = (
        fields.log_id == log_id
        and fields.sequence < layout.SEQUENCE_LIMIT
        and fields.payload_bytes <= layout.PAYLOAD_LIMIT_BYTES
        and kind.isprintable()
    )
    if not is_sane:
        return None
    return Header(
        offset_bytes, fields.sequence, time, kind, fields.payload_bytes, fields.payload_crc32
    )


def read_payload(device: BlockDevice, header: Header) -> bytes:
    """The payload of a record.

    Raises:
        DumpError: it is not the one that the header was written for.
    """
    at = header.offset_bytes + layout.SECTOR_BYTES
    payload = read(device, at, header.payload_bytes)
    if zlib.crc32(payload) != header.payload_crc32:
        raise DumpError(
            f"the text of crash record {header.sequence} is damaged",
            where=device.name,
            offset_bytes=at,
        )
    return payload


@dataclass(slots=True)
class Chain:
    """Follows the records of a log, oldest first.

    Attributes:
        at_bytes: where the next record would be.
        sequence: what number it would have.
        gaps: places where a header should have been and was not, in bytes.
    """

    device: BlockDevice
    superblock: Superblock
    at_bytes: int
    sequence: int
    gaps: list[int]
    _has_wrapped: bool = False

    @classmethod
    def of(cls, device: BlockDevice, superblock: Superblock) -> Chain:
        """Start at the oldest record."""
        return cls(device, superblock, superblock.tail_offset_bytes, superblock.tail_sequence, [])

    def headers(self) -> Iterator[Header]:
        """Each record's header, oldest first; at most `RECORD_LIMIT` of them.

        Costs one sector a record. Only where a record is missing that the superblock knows of, the
        ring is searched for the next one.
        """
        for _ in range(layout.RECORD_LIMIT):
            found = self._follow() or self._search()
            if found is None:
                break
            yield found
        self.sequence = max(self.sequence, self.superblock.next_sequence)

    def _follow(self) -> Header | None:
        """The next record where it must be: right here, or at the start of the ring."""
        places = [self.at_bytes]
        if not self._has_wrapped:
            places.append(self.superblock.ring_offset_bytes)
        for place in places:
            found = self._accept(self._header_at(place))
            if found is not None:
                return found
        return None

    def _search(self) -> Header | None:
        """The next record anywhere further on, when one must be there."""
        if self.sequence >= self.superblock.next_sequence:
            return None
        self.gaps.append(self.at_bytes)
        spans = [(self.at_bytes, self.superblock.ring_end_bytes)]
        if self._has_wrapped:
            spans = [(self.at_bytes, self.superblock.tail_offset_bytes)]
        else:
            spans.append((self.superblock.ring_offset_bytes, self.superblock.tail_offset_bytes))
        for start, stop in spans:
            for place in _magic_places(self.device, start, stop):
                found = self._accept(self._header_at(place))
                if found is not None:
                    return found
        return None

    def _header_at(self, offset_bytes: int) -> Header | None:
        if offset_bytes + layout.SECTOR_BYTES > self.superblock.ring_end_bytes:
            return None
        sector = read(self.device, offset_bytes, layout.SECTOR_BYTES)
        return parse_header(sector, offset_bytes, self.superblock.log_id)

    def _accept(self, header: Header | None) -> Header | None:
        """Step over a record if it can come next: newer, and not on top of what was seen."""
        if header is None or header.sequence < self.sequence:
            return None
        wraps = header.offset_bytes < self.at_bytes
        is_behind_tail = wraps or self._has_wrapped
        tail = self.superblock.tail_offset_bytes
        end = tail if is_behind_tail else self.superblock.ring_end_bytes
        if header.end_bytes > end:
            return None
        self._has_wrapped = is_behind_tail
        self.at_bytes, self.sequence = header.end_bytes, header.sequence + 1
        return header


def _magic_places(device: BlockDevice, start: int, stop: int) -> Iterator[int]:
    """Sectors that start as a record does, in order."""
    for chunk_start in range(start, stop, _SCAN_BYTES):
        chunk = read(device, chunk_start, min(_SCAN_BYTES, stop - chunk_start))
        at = chunk.find(layout.RECORD_MAGIC)
        while at >= 0:
            if not at % layout.SECTOR_BYTES:
                yield chunk_start + at
            at = chunk.find(layout.RECORD_MAGIC, at + 1)
