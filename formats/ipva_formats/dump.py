"""The dump disk: two superblocks and a ring of crash records.

The layout is ours: that the appliance keeps its post-mortem information on the fourth disk is
public, how it does so is not.

Source: vendor page "Concept Innovaphone Virtual Appliance", "Post-Mortem Logs" (that the disk
exists). Confidence: chosen (every byte below). Spec: `formats/spec/dump.md`.
"""

from __future__ import annotations

from typing import Final

import construct as c

SECTOR_BYTES: Final = 512
"""Both structures fill one sector, and their CRC is its last word, so that a torn sector shows.

Confidence: chosen.
"""

SUPERBLOCK_OFFSETS_BYTES: Final = (0, SECTOR_BYTES)
"""Where the two copies of the superblock are. Confidence: chosen."""

RING_OFFSET_BYTES: Final = 4096
"""Where the ring starts on a disk that we format. Confidence: chosen."""

SUPERBLOCK_MAGIC: Final = b"IPVADUMP"
RECORD_MAGIC: Final = b"DREC"
VERSION: Final = 1

KIND_BYTES: Final = 16
"""Room for the kind of a record: ASCII, padded with zeros. Confidence: chosen."""

PAYLOAD_LIMIT_BYTES: Final = 1024 * 1024
"""The longest text of one record. Confidence: chosen."""

RECORD_LIMIT: Final = 4096
"""The most records a log keeps, which bounds what opening it costs. Confidence: chosen."""

RING_LIMIT_BYTES: Final = 1024 * 1024 * 1024
"""The longest ring, which bounds what looking past a damaged header costs. Confidence: chosen."""

SEQUENCE_LIMIT: Final = 2**63
"""Sequences and generations stay below it; nobody counts that far. Confidence: chosen."""

SUPERBLOCK: Final = c.Struct(
    "magic" / c.Const(SUPERBLOCK_MAGIC),
    "version" / c.Const(VERSION, c.Int16ul),
    "sector_bytes" / c.Const(SECTOR_BYTES, c.Int16ul),
    "flags" / c.Const(0, c.Int32ul),
    "log_id" / c.Int64ul,
    "generation" / c.Int64ul,
    "ring_offset_bytes" / c.Int64ul,
    "ring_bytes" / c.Int64ul,
    "tail_offset_bytes" / c.Int64ul,
    "tail_sequence" / c.Int64ul,
    "next_sequence" / c.Int64ul,
    c.Padding(SECTOR_BYTES - 72 - 4),
    "crc32" / c.Int32ul,
)
"""Where the ring is and where its oldest record starts. Confidence: chosen."""

RECORD_HEADER: Final = c.Struct(
    "magic" / c.Const(RECORD_MAGIC),
    "version" / c.Const(VERSION, c.Int16ul),
    "flags" / c.Const(0, c.Int16ul),
    "log_id" / c.Int64ul,
    "sequence" / c.Int64ul,
    "time_us" / c.Int64sl,
    "payload_bytes" / c.Int32ul,
    "payload_crc32" / c.Int32ul,
    "kind" / c.Bytes(KIND_BYTES),
    c.Padding(SECTOR_BYTES - 56 - 4),
    "crc32" / c.Int32ul,
)
"""What commits a record: written after its payload is durable. Confidence: chosen."""

assert SUPERBLOCK.sizeof() == SECTOR_BYTES
assert RECORD_HEADER.sizeof() == SECTOR_BYTES
