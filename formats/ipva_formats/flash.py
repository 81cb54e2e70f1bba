"""The flash directory's layout: segment headers and entries.

All of it is ours: the layout of a real appliance's flash is not public, and a real hd-flash disk
is not readable by these definitions. What the vendor states is the segment size and how many there
are. Byte by byte, with the rules: `formats/spec/flash.md`. Every integer is little-endian; every
CRC is the CRC-32 of zlib (IEEE 802.3). Confidence of every field: chosen.
"""

from __future__ import annotations

from typing import Final

from construct import Bytes, Const, Int8ul, Int16ul, Int32ul, Int64ul, Struct

MAGIC: Final = b"IPFD"
VERSION: Final = 1

CLEAN_MARKER_OFFSET_BYTES: Final = 0x00
OPEN_HEADER_OFFSET_BYTES: Final = 0x20
SEAL_HEADER_OFFSET_BYTES: Final = 0x40
PAYLOAD_OFFSET_BYTES: Final = 0x60
"""Where in a segment each part starts; entries grow down from its end."""

HEADER_BYTES: Final = 32
ENTRY_BYTES: Final = 32
PAYLOAD_UNIT_BYTES: Final = 4
"""Payloads start at multiples of this; `offset_units` counts in it."""

KIND_LOG: Final = 0x11
"""A segment opened for new writes."""
KIND_RECLAIM: Final = 0x12
"""A segment opened to copy the live records of `victim_segment` into."""

TYPE_PUT: Final = 0xA1
"""An object: the payload is its key, then its value."""
TYPE_DELETE: Final = 0xA2
"""A tombstone: the payload is the key."""
TYPE_CHUNK: Final = 0xA3
"""Part `detail` of a large value: the payload is the key, then the part."""
TYPE_LARGE: Final = 0xA4
"""A large value as a whole: the payload is the key, then a `LARGE_TAIL`."""
TYPE_COMMIT: Final = 0xA5
"""Makes the members of batch `version` count; `detail` is how many there are."""
TYPE_RECLAIMED: Final = 0xA6
"""All that is live in segment `detail`, opened as sequence `version`, has been copied."""

FLAG_MEMBER: Final = 0x01
"""The entry counts only with the COMMIT of its version."""

CLEAN_MARKER: Final = Struct(
    "magic" / Const(MAGIC),
    "version" / Int8ul,
    "reserved" / Bytes(1),
    "segment_count" / Int16ul,
    "segment_bytes" / Int32ul,
    "erase_count" / Int32ul,
    "reserved_more" / Bytes(12),
    "crc" / Int32ul,
)
"""Programmed right after the erase: says that the erase was finished."""

OPEN_HEADER: Final = Struct(
    "sequence" / Int64ul,
    "kind" / Int8ul,
    "reserved" / Bytes(3),
    "victim_segment" / Int32ul,
    "victim_sequence" / Int64ul,
    "reserved_more" / Bytes(4),
    "crc" / Int32ul,
)
"""Programmed when the segment is taken into use."""

SEAL_HEADER: Final = Struct(
    "sequence" / Int64ul,
    "entry_count" / Int32ul,
    "table_crc" / Int32ul,
    "reserved" / Bytes(12),
    "crc" / Int32ul,
)
"""Programmed when nothing more will be added: one CRC for the whole entry table."""

ENTRY: Final = Struct(
    "type" / Int8ul,
    "flags" / Int8ul,
    "key_bytes" / Int16ul,
    "offset_units" / Int16ul,
    "payload_bytes" / Int16ul,
    "version" / Int64ul,
    "key_crc" / Int32ul,
    "detail" / Int32ul,
    "payload_crc" / Int32ul,
    "entry_crc" / Int32ul,
)
"""One record of the table; its last word is the commit mark of what it describes."""

LARGE_TAIL: Final = Struct("value_bytes" / Int64ul, "chunk_count" / Int32ul)
"""What follows the key in the payload of a LARGE entry."""

for _struct in (CLEAN_MARKER, OPEN_HEADER, SEAL_HEADER, ENTRY):
    assert _struct.sizeof() == HEADER_BYTES
assert LARGE_TAIL.sizeof() == 12
