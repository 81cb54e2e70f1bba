"""The undo journal: what an image held before a job overwrote it, in the order of the job.

A header, two status records that take turns, then batches of entries, each batch durable before
what it saved is overwritten. `ipva_storage.device.undo` writes and reads it with `struct`, for
speed; a property test holds both to these definitions.

Source: ours; no other program reads it. Confidence: chosen (every byte). Spec:
`formats/spec/undo.md`.
"""

from __future__ import annotations

from typing import Final

import construct as c

SECTOR_BYTES: Final = 512
"""Header and status records fill one sector each, and batches start on one, so that a torn sector
shows and a batch is found by looking at sectors. Confidence: chosen.
"""

MAGIC: Final = b"IPVAUNDO"
STATUS_MAGIC: Final = b"USTA"
BATCH_MAGIC: Final = b"UBAT"
VERSION: Final = 1

STATUS_OFFSETS_BYTES: Final = (512, 1024)
"""Where the two status records are; the whole one with the higher generation counts."""

BATCHES_OFFSET_BYTES: Final = 4096
"""Where the first batch is. Confidence: chosen."""

BATCH_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""The longest batch, header and filling included; it bounds the memory that reading takes."""

ENTRY_LIMIT: Final = 65536
"""The most entries of a batch, which bounds the memory that reading takes. Confidence: chosen."""

BATCH_HEADER_BYTES: Final = 64
ENTRY_BYTES: Final = 32

FILE_LIMIT: Final = 4096
"""The most image files of one job. Confidence: chosen (a disk of 8 TiB in pieces of 2 GiB)."""

NAME_LIMIT_BYTES: Final = 4096
"""The longest name. Source: Linux, PATH_MAX. Confidence: stated."""

IMAGE_LIMIT_BYTES: Final = 2**60
"""No image is longer. Confidence: chosen."""

COMPARED_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""How much of each image the entry LEFT compares, in the order in which it was saved."""

GENERATION_LIMIT: Final = 2**62
"""Generations stay below it; nobody counts that far. Confidence: chosen."""

STATE_WORKING: Final = 1
STATE_FINISHED: Final = 2
STATE_RESTORING: Final = 3
STATE_RESTORED: Final = 4

KIND_FILE: Final = 1
KIND_DATA: Final = 2
KIND_ZEROS: Final = 3
KIND_LEFT: Final = 4

HEADER: Final = "header" / c.Struct(
    "magic" / c.Const(MAGIC),
    "version" / c.Const(VERSION, c.Int16ul),
    "sector_bytes" / c.Const(SECTOR_BYTES, c.Int16ul),
    "flags" / c.Const(0, c.Int32ul),
    "journal_id" / c.Int64ul,
    "time_us" / c.Int64sl,
    c.Padding(SECTOR_BYTES - 32 - 4),
    "crc32" / c.Int32ul,
)
"""The first sector. Confidence: chosen."""

STATUS: Final = "status" / c.Struct(
    "magic" / c.Const(STATUS_MAGIC),
    "version" / c.Const(VERSION, c.Int16ul),
    "state" / c.Int16ul,
    "journal_id" / c.Int64ul,
    "generation" / c.Int64ul,
    "time_us" / c.Int64sl,
    "batch_count" / c.Int64ul,
    "end_bytes" / c.Int64ul,
    c.Padding(SECTOR_BYTES - 48 - 4),
    "crc32" / c.Int32ul,
)
"""How far the job is, and how much of the journal is durable for certain. Confidence: chosen."""

BATCH: Final = "batch" / c.Struct(
    "magic" / c.Const(BATCH_MAGIC),
    "version" / c.Const(VERSION, c.Int16ul),
    "flags" / c.Const(0, c.Int16ul),
    "journal_id" / c.Int64ul,
    "sequence" / c.Int64ul,
    "entry_count" / c.Int32ul,
    "data_bytes" / c.Int32ul,
    "payload_crc32" / c.Int32ul,
    c.Padding(BATCH_HEADER_BYTES - 36 - 4),
    "crc32" / c.Int32ul,
)
"""The head of a batch; its entries follow, then their data. Confidence: chosen."""

ENTRY_FILE: Final = "file" / c.Struct(
    "kind" / c.Const(KIND_FILE, c.Int16ul),
    "name_bytes" / c.Int16ul,
    "file_number" / c.Int32ul,
    "original_bytes" / c.Int64ul,
    c.Padding(16),
)
"""An image, before anything of it is saved; its name is in the data. Confidence: chosen."""

ENTRY_RANGE: Final = "range" / c.Struct(
    "kind" / c.Int16ul,
    c.Padding(2),
    "file_number" / c.Int32ul,
    "offset_bytes" / c.Int64ul,
    "length_bytes" / c.Int64ul,
    c.Padding(8),
)
"""What a range held: bytes in the data (DATA), or nothing but zeros (ZEROS). Confidence: chosen."""

ENTRY_LEFT: Final = "left" / c.Struct(
    "kind" / c.Const(KIND_LEFT, c.Int16ul),
    c.Padding(2),
    "file_number" / c.Int32ul,
    "left_bytes" / c.Int64ul,
    "modified_us" / c.Int64ul,
    "crc32" / c.Int32ul,
    c.Padding(4),
)
"""How the finished job left an image, so that a later change is noticed. Confidence: chosen."""

assert HEADER.sizeof() == SECTOR_BYTES
assert STATUS.sizeof() == SECTOR_BYTES
assert BATCH.sizeof() == BATCH_HEADER_BYTES
assert ENTRY_FILE.sizeof() == ENTRY_RANGE.sizeof() == ENTRY_LEFT.sizeof() == ENTRY_BYTES
