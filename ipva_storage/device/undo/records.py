"""The records of `ipva_formats.undo`, packed and unpacked with `struct` for speed.

A property test holds every one equal to its Construct definition, and the constants too. Importing
this module does not import Construct.
"""

from __future__ import annotations

import os
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

from ipva_storage.units import KIB, MIB, SECTOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC: Final = b"IPVAUNDO"
VERSION: Final = 1
STATUS_OFFSETS_BYTES: Final = (SECTOR_BYTES, 2 * SECTOR_BYTES)
BATCHES_OFFSET_BYTES: Final = 4 * KIB
BATCH_LIMIT_BYTES: Final = 16 * MIB
ENTRY_LIMIT: Final = 65536
BATCH_HEADER_BYTES: Final = 64
ENTRY_BYTES: Final = 32
FILE_LIMIT: Final = 4096
NAME_LIMIT_BYTES: Final = 4096
IMAGE_LIMIT_BYTES: Final = 1 << 60
COMPARED_LIMIT_BYTES: Final = 64 * MIB
GENERATION_LIMIT: Final = 1 << 62

_HEADER: Final = struct.Struct("<8sHHIQq476x")
_STATUS: Final = struct.Struct("<4sHHQQqQQ460x")
_BATCH: Final = struct.Struct("<4sHHQQIII24x")
_ENTRY: Final = struct.Struct("<HHIQQII")  # any of the three; what the fields mean is its kind's
_U32: Final = struct.Struct("<I")
_STATUS_MAGIC: Final = b"USTA"
_BATCH_MAGIC: Final = b"UBAT"


class State(IntEnum):
    """How far the job is, or the way back."""

    WORKING = 1
    FINISHED = 2
    RESTORING = 3
    RESTORED = 4


class Kind(IntEnum):
    """What an entry says."""

    FILE = 1
    DATA = 2
    ZEROS = 3
    LEFT = 4


class Header(NamedTuple):
    """What the header says."""

    journal_id: int
    time_us: int


class Status(NamedTuple):
    """What a status record says."""

    state: State
    generation: int
    time_us: int
    batch_count: int
    end_bytes: int


class FileEntry(NamedTuple):
    """An image and its length before the job."""

    file_number: int
    original_bytes: int
    name: str


class RangeEntry(NamedTuple):
    """What a range of an image held; no data: zeros."""

    file_number: int
    offset_bytes: int
    length_bytes: int
    data: bytes | memoryview | None


class LeftEntry(NamedTuple):
    """How the job left an image."""

    file_number: int
    left_bytes: int
    modified_us: int
    crc32: int


Entry = FileEntry | RangeEntry | LeftEntry


class BatchHead(NamedTuple):
    """What the header of a batch says."""

    sequence: int
    entry_count: int
    data_bytes: int
    payload_crc32: int

    @property
    def payload_bytes(self) -> int:
        """Length of the entries and their data."""
        return self.entry_count * ENTRY_BYTES + self.data_bytes

    @property
    def whole_bytes(self) -> int:
        """Length of the batch with its filling."""
        return -(-(BATCH_HEADER_BYTES + self.payload_bytes) // SECTOR_BYTES) * SECTOR_BYTES


def build_header(header: Header) -> bytes:
    """The first sector."""
    body = _HEADER.pack(MAGIC, VERSION, SECTOR_BYTES, 0, header.journal_id, header.time_us)
    return _sealed(body)


def parse_header(sector: bytes) -> Header | None:
    """What the first sector says; None when it is not whole, or of no version that is known."""
    if len(sector) != SECTOR_BYTES or not _is_whole(sector):
        return None
    *fixed, journal_id, time_us = _HEADER.unpack(sector[:-4])
    return Header(journal_id, time_us) if fixed == [MAGIC, VERSION, SECTOR_BYTES, 0] else None


def build_status(status: Status, journal_id: int) -> bytes:
    """The sector of a status record."""
    state, *rest = status
    return _sealed(_STATUS.pack(_STATUS_MAGIC, VERSION, state, journal_id, *rest))


def parse_status(sector: bytes, journal_id: int) -> Status | None:
    """What a status record says; None when it is not whole, or none of this journal."""
    if not _is_whole(sector):
        return None
    magic, version, state, whose, *rest = _STATUS.unpack(sector[:-4])
    if (magic, version, whose) != (_STATUS_MAGIC, VERSION, journal_id) or state not in set(State):
        return None
    found = Status(State(state), *rest)
    return found if found.generation < GENERATION_LIMIT else None


def batch_mark(journal_id: int) -> bytes:
    """How every batch of a journal starts."""
    return _BATCH.pack(_BATCH_MAGIC, VERSION, 0, journal_id, 0, 0, 0, 0)[:16]


def build_batch(journal_id: int, sequence: int, entries: Sequence[Entry]) -> bytes:
    """A batch with its filling: header, entries, data."""
    heads, data = zip(*map(_build_entry, entries), strict=True)
    payload = b"".join([*heads, *data])
    data_bytes = len(payload) - len(entries) * ENTRY_BYTES
    head = BatchHead(sequence, len(entries), data_bytes, crc32(payload))
    body = _sealed(_BATCH.pack(_BATCH_MAGIC, VERSION, 0, journal_id, *head))
    return b"".join([body, payload, bytes(head.whole_bytes - len(body) - len(payload))])


def parse_batch_head(head: bytes, journal_id: int) -> BatchHead | None:
    """What the header of a batch says; None when it is not whole, not ours, or impossible."""
    if len(head) != BATCH_HEADER_BYTES or not _is_whole(head):
        return None
    magic, version, flags, whose, *rest = _BATCH.unpack(head[:-4])
    if (magic, version, flags, whose) != (_BATCH_MAGIC, VERSION, 0, journal_id):
        return None
    found = BatchHead(*rest)
    is_possible = 0 < found.entry_count <= ENTRY_LIMIT and found.whole_bytes <= BATCH_LIMIT_BYTES
    return found if is_possible else None


def parse_entries(head: BatchHead, payload: bytes) -> list[Entry] | None:
    """The entries of a batch; None where they contradict each other or the header."""
    entries: list[Entry] = []
    at = head.entry_count * ENTRY_BYTES
    data = memoryview(payload)
    for kind, name_bytes, number, first, second, third, _ in _ENTRY.iter_unpack(data[:at]):
        start = at
        if kind == Kind.FILE:
            at += name_bytes
            entries.append(FileEntry(number, first, _decode(payload[start:at])))
        elif kind == Kind.DATA:
            at += second
            entries.append(RangeEntry(number, first, second, data[start:at]))
        elif kind == Kind.ZEROS:
            entries.append(RangeEntry(number, first, second, None))
        elif kind == Kind.LEFT:
            entries.append(LeftEntry(number, first, second, third))
        else:
            return None
    return entries if at == len(payload) else None


def _decode(name: bytes) -> str:
    """A name; what this host cannot have in one becomes a NUL, which no folder takes."""
    try:
        return os.fsdecode(name)
    except UnicodeDecodeError:
        return "\0"


def _build_entry(entry: Entry) -> tuple[bytes, bytes | memoryview]:
    if isinstance(entry, FileEntry):
        name = os.fsencode(entry.name)
        fixed = (Kind.FILE, len(name), entry.file_number, entry.original_bytes, 0, 0, 0)
        return _ENTRY.pack(*fixed), name
    if isinstance(entry, RangeEntry):
        kind = Kind.ZEROS if entry.data is None else Kind.DATA
        place = (entry.file_number, entry.offset_bytes, entry.length_bytes)
        return _ENTRY.pack(kind, 0, *place, 0, 0), b"" if entry.data is None else entry.data
    return _ENTRY.pack(Kind.LEFT, 0, *entry, 0), b""


def _sealed(body: bytes) -> bytes:
    return body + _U32.pack(crc32(body))


def _is_whole(record: bytes) -> bool:
    return _U32.pack(crc32(record[:-4])) == record[-4:]
