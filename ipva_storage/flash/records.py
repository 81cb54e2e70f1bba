"""The headers and entries of `ipva_formats.flash`, packed and unpacked with `struct` for speed.

A property test holds every one equal to its Construct definition. Importing this module imports
neither Construct nor NumPy.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from zlib import crc32

MAGIC: Final = b"IPFD"
VERSION: Final = 1

OPEN_AT: Final = 0x20
SEAL_AT: Final = 0x40
PAYLOAD_AT: Final = 0x60
ENTRY_BYTES: Final = 32

LOG: Final = 0x11
RECLAIM: Final = 0x12

PUT: Final = 0xA1
DELETE: Final = 0xA2
CHUNK: Final = 0xA3
LARGE: Final = 0xA4
COMMIT: Final = 0xA5
RECLAIMED: Final = 0xA6
MEMBER: Final = 0x01

COUNTER_LIMIT: Final = 1 << 62
"""Sequences and versions stay below; an image that says more is damaged or hostile."""

_CLEAN: Final = struct.Struct("<4sBxHII12x")
_OPEN: Final = struct.Struct("<QB3xIQ4x")
_SEAL: Final = struct.Struct("<QII12x")
ENTRY_BODY: Final = struct.Struct("<BBHHHQIII")
ENTRY: Final = struct.Struct("<BBHHHQIIII")
LARGE_TAIL: Final = struct.Struct("<QI")
U32: Final = struct.Struct("<I")


class CleanMarker(NamedTuple):
    """What the clean marker says."""

    version: int
    segment_count: int
    segment_bytes: int
    erase_count: int


class OpenHeader(NamedTuple):
    """What the open header says."""

    sequence: int
    kind: int
    victim_segment: int
    victim_sequence: int


class SealHeader(NamedTuple):
    """What the seal header says."""

    sequence: int
    entry_count: int
    table_crc: int


class Entry(NamedTuple):
    """One entry of the table."""

    type: int
    flags: int
    key_bytes: int
    offset_units: int
    payload_bytes: int
    version: int
    key_crc: int
    detail: int
    payload_crc: int
    entry_crc: int


def _sealed(body: bytes) -> bytes:
    return body + U32.pack(crc32(body))


def _body(data: bytes | bytearray, at: int) -> bytes | bytearray | None:
    """The 28 bytes before a header's CRC, if that matches."""
    body = data[at : at + 28]
    is_whole = len(data) >= at + 32 and U32.unpack_from(data, at + 28)[0] == crc32(body)
    return body if is_whole else None


def pack_clean_marker(segment_count: int, segment_bytes: int, erase_count: int) -> bytes:
    """The 32 bytes of a clean marker."""
    return _sealed(_CLEAN.pack(MAGIC, VERSION, segment_count, segment_bytes, erase_count))


def unpack_clean_marker(data: bytes | bytearray, at: int = 0) -> CleanMarker | None:
    """The clean marker there, of any version; None where none is whole."""
    body = _body(data, at)
    if body is None:
        return None
    magic, *fields = _CLEAN.unpack(body)
    return CleanMarker(*fields) if magic == MAGIC else None


def pack_open_header(
    sequence: int, kind: int, victim_segment: int = 0, victim_sequence: int = 0
) -> bytes:
    """The 32 bytes of an open header."""
    return _sealed(_OPEN.pack(sequence, kind, victim_segment, victim_sequence))


def unpack_open_header(data: bytes | bytearray, at: int = 0) -> OpenHeader | None:
    """The open header there; None where none is whole, or it says what cannot be."""
    body = _body(data, at)
    if body is None:
        return None
    header = OpenHeader(*_OPEN.unpack(body))
    is_sane = header.kind in (LOG, RECLAIM) and 0 < header.sequence < COUNTER_LIMIT
    return header if is_sane else None


def pack_seal_header(sequence: int, entry_count: int, table_crc: int) -> bytes:
    """The 32 bytes of a seal header."""
    return _sealed(_SEAL.pack(sequence, entry_count, table_crc))


def unpack_seal_header(data: bytes | bytearray, at: int = 0) -> SealHeader | None:
    """The seal header there; None where none is whole."""
    body = _body(data, at)
    return None if body is None else SealHeader(*_SEAL.unpack(body))


def unpack_entry(data: bytes | bytearray, at: int) -> Entry | None:
    """The entry there, with its own CRC checked; None where none is whole."""
    if _body(data, at) is None:
        return None
    return Entry(*ENTRY.unpack_from(data, at))


def record_bytes(payload_bytes: int) -> int:
    """What a record takes of its segment: the payload, padded, and the entry."""
    return ((payload_bytes + 3) & ~3) + ENTRY_BYTES
