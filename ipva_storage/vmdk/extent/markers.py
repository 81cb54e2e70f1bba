"""Going through a stream-optimized file by its markers, from the first grain to the end.

Where a marker is damaged, the next sector that can be the start of something is looked for, so that
one bad byte does not hide the rest. What is found is told as it stands; nothing is believed that
would need memory or time without bound.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from ipva_storage.device import read
from ipva_storage.errors import VmdkError
from ipva_storage.units import MIB, SECTOR_BYTES
from ipva_storage.vmdk.codec import inflate
from ipva_storage.vmdk.extent.header import SPARSE_MAGIC
from ipva_storage.vmdk.extent.stream import GRAIN_MARKER, record_bytes_max

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.vmdk.extent.header import SparseHeader

WINDOW_BYTES: Final = 4 * MIB
"""How much of the file is read at once. Confidence: chosen."""

TRIES_MAX: Final = 4096
"""Sectors behind a damaged marker that are tried as a grain, by inflating. Confidence: chosen."""

_MARKER: Final = struct.Struct("<QII")
_ZERO_SECTOR: Final = bytes(SECTOR_BYTES)
_REST: Final = bytes(SECTOR_BYTES - _MARKER.size)


class Kind(Enum):
    """What a part of the file is."""

    GRAIN = "grain"
    TABLE = "grain table"
    DIRECTORY = "grain directory"
    FOOTER = "footer"
    ZEROS = "zeros"
    """The end of the stream, or padding."""
    CUT = "cut grain"
    """A grain that the file ends within."""
    DAMAGE = "damage"
    """Neither of these; it ends where something can be recognised again."""


_METADATA: Final = {1: Kind.TABLE, 2: Kind.DIRECTORY, 3: Kind.FOOTER}


class Record(NamedTuple):
    """A part of the file: a marker and what it announces, or a run of zeros or of damage."""

    kind: Kind
    sector: int
    """Where it starts."""
    sector_count: int
    lba_sector: int = 0
    """Of a grain: where its marker says that it belongs."""
    data: memoryview = memoryview(b"")
    """Of a grain its compressed bytes; of metadata its sectors, without the marker.

    A copy, so that a record that is kept does not keep all of a window.
    """


def walk(raw: BlockDevice, header: SparseHeader) -> Iterator[Record]:
    """Everything in a file, from the first grain on, in order and without gaps.

    Args:
        raw: the file.
        header: its header, with a capacity and a grain size that can be.
    """
    walker = _Walker(raw, header)
    sector = header.overhead_sectors
    while sector < walker.end_sector:
        record = walker.record(sector) or walker.damage(sector)
        yield record
        sector += record.sector_count


class _Walker:
    """Reads the file in windows, and tells what starts at a sector."""

    def __init__(self, raw: BlockDevice, header: SparseHeader) -> None:
        self.end_sector = raw.size_bytes // SECTOR_BYTES
        self._raw = raw
        self._header = header
        self._window = b""
        self._window_sector = 0
        self._zeros = range(0)
        self._runs = raw.extents()
        self._run = next(self._runs, None)

    def record(self, sector: int) -> Record | None:
        """What starts at a sector; None where it is nothing known."""
        head = self._bytes(sector, SECTOR_BYTES)
        if head == _ZERO_SECTOR:
            return Record(Kind.ZEROS, sector, self._zero_sectors(sector))
        value, size_bytes, kind = _MARKER.unpack_from(head)
        if size_bytes:
            return self._grain(sector, head, value, size_bytes)
        return self._metadata(sector, head, value, kind)

    def damage(self, sector: int) -> Record:
        """A run of what is nothing known, up to what is something again."""
        tries = 0
        for at in range(sector + 1, self.end_sector):
            found = self.record(at)
            if found is None:
                continue
            if found.kind is Kind.GRAIN:
                tries += 1
                if tries > TRIES_MAX:
                    break
                if not self._inflates(found):
                    continue
            if found.kind is not Kind.CUT:
                return Record(Kind.DAMAGE, sector, at - sector)
        return Record(Kind.DAMAGE, sector, self.end_sector - sector)

    def _grain(self, sector: int, head: memoryview, lba: int, size_bytes: int) -> Record | None:
        header = self._header
        if lba % header.grain_sectors or lba >= header.capacity_sectors:
            return None
        length_bytes = GRAIN_MARKER.size + size_bytes
        if length_bytes > record_bytes_max(header.grain_bytes) or not _is_zlib(head[12:14]):
            return None
        sector_count = -(-length_bytes // SECTOR_BYTES)
        if sector * SECTOR_BYTES + length_bytes > self._raw.size_bytes:
            return Record(Kind.CUT, sector, self.end_sector - sector, lba)
        data = bytes(self._bytes(sector, length_bytes)[GRAIN_MARKER.size :])
        return Record(Kind.GRAIN, sector, sector_count, lba, memoryview(data))

    def _metadata(self, sector: int, head: memoryview, count: int, kind: int) -> Record | None:
        header = self._header
        expected = {
            1: header.table_sectors,
            2: -(-header.table_count * 4 // SECTOR_BYTES),
            3: 1,
        }.get(kind)
        if count != expected or head[_MARKER.size :] != _REST:
            return None
        if sector + 1 + count > self.end_sector:
            return None
        data = bytes(self._bytes(sector + 1, count * SECTOR_BYTES))
        if kind == 3 and data[:4] != SPARSE_MAGIC:
            return None
        return Record(_METADATA[kind], sector, 1 + count, data=memoryview(data))

    def _inflates(self, record: Record) -> bool:
        try:
            inflate(record.data, self._header.grain_bytes)
        except VmdkError:
            return False
        return True

    def _zero_sectors(self, sector: int) -> int:
        """How many sectors from here on are zeros; holes of the host are not read.

        The runs of the host go by once, and damage asks for what is behind it before its turn.
        """
        if sector not in self._zeros:
            self._zeros = range(sector, self._zeros_end(sector))
        return self._zeros.stop - sector

    def _zeros_end(self, sector: int) -> int:
        at, length = sector, SECTOR_BYTES
        while at < self.end_sector:
            hole_end = self._hole_end(at)
            if hole_end > at:
                at = hole_end
                continue
            # A little at first: most runs are short, and there may be as many as sectors.
            data = bytes(self._bytes(at, min(length, (self.end_sector - at) * SECTOR_BYTES)))
            zeros = len(data) - len(data.lstrip(b"\0"))
            at += zeros // SECTOR_BYTES
            if zeros < len(data):
                break
            length = min(2 * length, WINDOW_BYTES)
        return at

    def _hole_end(self, sector: int) -> int:
        """The sector where a hole of the host ends; the same where there is none."""
        offset_bytes = sector * SECTOR_BYTES
        while self._run is not None and (
            self._run.offset_bytes + self._run.length_bytes <= offset_bytes
        ):
            self._run = next(self._runs, None)
        if self._run is None or self._run.is_data:
            return sector
        return (self._run.offset_bytes + self._run.length_bytes) // SECTOR_BYTES

    def _bytes(self, sector: int, length_bytes: int) -> memoryview:
        """Bytes of the file from a sector on, within the file."""
        first = (sector - self._window_sector) * SECTOR_BYTES
        if first < 0 or first + length_bytes > len(self._window):
            offset_bytes = sector * SECTOR_BYTES
            size = min(max(WINDOW_BYTES, length_bytes), self._raw.size_bytes - offset_bytes)
            self._window = read(self._raw, offset_bytes, size)
            self._window_sector = sector
            first = 0
        return memoryview(self._window)[first : first + length_bytes]


def _is_zlib(head: memoryview) -> bool:
    """Whether two bytes can start a zlib stream. Source: RFC 1950, 2.2. Confidence: stated."""
    return len(head) == 2 and head[0] & 15 == 8 and (head[0] << 8 | head[1]) % 31 == 0
