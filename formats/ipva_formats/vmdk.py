"""VMDK: the headers of sparse extents, grain tables, and the markers of stream-optimized files.

The text descriptor has no fixed bytes; its grammar is in `formats/spec/vmdk.md`.

Source: VMware "Virtual Disk Format 5.0" technical note, "Hosted Sparse Extents", "ESXi Host Sparse
Extents" and "Stream-Optimized Compressed Sparse Extents". Confidence: stated, where nothing else is
said. `seSparse` is documented nowhere by its vendor. Source: qemu's block/vmdk.c, and what its
author told of the changes that he watched and of the host's log. Confidence: inferred, all of it.
"""

from __future__ import annotations

from typing import Final

import construct as c

SPARSE_MAGIC: Final = b"KDMV"
"""First bytes of a hosted sparse extent. Confidence: stated."""

COWD_MAGIC: Final = b"COWD"
"""First bytes of an ESX server sparse extent (`vmfsSparse`). Confidence: stated."""

SESPARSE_MAGIC: Final = bytes.fromhex("bebafeca00000000")
"""First bytes of a `seSparse` extent. Source: qemu block/vmdk.c. Confidence: inferred."""

VERSION_MAX: Final = 3
"""Highest known header version; 3 adds changed block tracking. Confidence: stated."""

FLAG_NEWLINES: Final = 1 << 0
"""The four newline bytes are valid. Confidence: stated."""
FLAG_REDUNDANT: Final = 1 << 1
"""The redundant grain directory is to be used. Confidence: stated."""
FLAG_ZEROED_GRAIN: Final = 1 << 2
"""A grain table entry of 1 stands for a grain of zeros. Confidence: stated."""
FLAG_COMPRESSED: Final = 1 << 16
"""Grains are compressed. Confidence: stated."""
FLAG_MARKERS: Final = 1 << 17
"""Markers tell the parts of the file apart. Confidence: stated."""

NEWLINES: Final = b"\n \r\n"
"""What the four newline bytes are in a file that no text transfer changed. Confidence: stated."""

COMPRESSION_NONE: Final = 0
COMPRESSION_DEFLATE: Final = 1

GD_AT_END: Final = 0xFFFF_FFFF_FFFF_FFFF
"""Value of `gd_offset_sectors` that sends the reader to the footer. Confidence: stated."""

ENTRY_UNALLOCATED: Final = 0
"""A grain that is nowhere: zeros, or the parent's. Confidence: stated."""
ENTRY_ZEROED: Final = 1
"""A grain of zeros that takes no space, under `FLAG_ZEROED_GRAIN`. Confidence: stated."""

SPARSE_HEADER: Final = c.Struct(
    "magic" / c.Const(SPARSE_MAGIC),
    "version" / c.Int32ul,
    "flags" / c.Int32ul,
    "capacity_sectors" / c.Int64ul,
    "grain_sectors" / c.Int64ul,
    "descriptor_offset_sectors" / c.Int64ul,
    "descriptor_sectors" / c.Int64ul,
    "gtes_per_gt" / c.Int32ul,
    "rgd_offset_sectors" / c.Int64ul,
    "gd_offset_sectors" / c.Int64ul,
    "overhead_sectors" / c.Int64ul,
    "unclean_shutdown" / c.Int8ul,
    "newlines" / c.Bytes(4),
    "compress_algorithm" / c.Int16ul,
    c.Padding(433),
)
"""The first sector of a sparse extent, and the footer of a stream-optimized one."""

UNCLEAN_SHUTDOWN_OFFSET_BYTES: Final = 72
"""Where `unclean_shutdown` is in the header, for writing that byte alone. Confidence: stated."""

NEWLINES_OFFSET_BYTES: Final = 73
"""Where the four newline bytes are in the header. Confidence: stated."""

GRAIN_ENTRY: Final = c.Struct("sector" / c.Int32ul)
"""One entry of a grain directory or of a grain table: where the table or the grain starts."""

MARKER_END_OF_STREAM: Final = 0
MARKER_GRAIN_TABLE: Final = 1
MARKER_GRAIN_DIRECTORY: Final = 2
MARKER_FOOTER: Final = 3

MARKER: Final = c.Struct(
    "sector_count" / c.Int64ul,
    "size_bytes" / c.Const(0, c.Int32ul),
    "type" / c.Int32ul,
    c.Padding(496),
)
"""A metadata marker; `sector_count` sectors of that metadata follow it."""

GRAIN_MARKER: Final = c.Struct("lba_sector" / c.Int64ul, "size_bytes" / c.Int32ul)
"""Head of a compressed grain; `size_bytes` (never 0) of zlib data follow, padded to a sector."""

COWD_GTES_PER_GT: Final = 4096
"""Entries in a grain table of an ESX server sparse extent. Confidence: stated."""

COWD_ROOT: Final = c.Struct(
    "cylinder_count" / c.Int32ul,
    "head_count" / c.Int32ul,
    "sectors_per_track" / c.Int32ul,
)
"""What the first bytes of `parent_file_name` are in an extent without a parent."""

COWD_HEADER: Final = c.Struct(
    "magic" / c.Const(COWD_MAGIC),
    "version" / c.Int32ul,
    "flags" / c.Int32ul,
    "capacity_sectors" / c.Int32ul,
    "grain_sectors" / c.Int32ul,
    "gd_offset_sectors" / c.Int32ul,
    "gd_entry_count" / c.Int32ul,
    "free_sector" / c.Int32ul,
    "parent_file_name" / c.Bytes(1024),
    "parent_generation" / c.Int32ul,
    "generation" / c.Int32ul,
    "name" / c.Bytes(60),
    "description" / c.Bytes(512),
    "saved_generation" / c.Int32ul,
    c.Padding(8),
    "unclean_shutdown" / c.Int32ul,
    c.Padding(396),
)
"""The first four sectors of an ESX server sparse extent; its tables hold `GRAIN_ENTRY`s."""

SESPARSE_VOLATILE_MAGIC: Final = bytes.fromhex("fecafeca00000000")
"""First bytes of the volatile header of a `seSparse` extent. Confidence: inferred."""

SESPARSE_VERSION: Final = 0x0000_0002_0000_0001
"""The only version seen, which the host calls 2.1. Confidence: inferred."""

SESPARSE_PART: Final = c.Struct("offset_sectors" / c.Int64ul, "sector_count" / c.Int64ul)
"""Where a part of a `seSparse` extent is, and its room."""

SESPARSE_CONST_HEADER: Final = c.Struct(
    "magic" / c.Const(SESPARSE_MAGIC),
    "version" / c.Int64ul,
    "capacity_sectors" / c.Int64ul,
    "grain_sectors" / c.Int64ul,
    "table_sectors" / c.Int64ul,
    "flags" / c.Int64ul,
    "reserved" / c.Bytes(32),
    "volatile_header" / SESPARSE_PART,
    "journal_header" / SESPARSE_PART,
    "journal" / SESPARSE_PART,
    "directory" / SESPARSE_PART,
    "tables" / SESPARSE_PART,
    "free_bitmap" / SESPARSE_PART,
    "backmap" / SESPARSE_PART,
    "grains" / SESPARSE_PART,
    "padding" / c.Bytes(304),
)
"""The first sector of a `seSparse` extent, which never changes."""

SESPARSE_VOLATILE_HEADER: Final = c.Struct(
    "magic" / c.Const(SESPARSE_VOLATILE_MAGIC),
    "free_table_number" / c.Int64ul,
    "next_transaction" / c.Int64ul,
    "replay_journal" / c.Int64ul,
    c.Padding(480),
)
"""What changes of a `seSparse` extent's header."""

SESPARSE_ENTRY: Final = c.Struct("entry" / c.Int64ul)
"""One entry of a directory or of a grain table of a `seSparse` extent."""

SESPARSE_TABLE_MARK: Final = 0x1000_0000
"""The upper half of a directory entry that names a table; the lower half is the table's number.

Confidence: inferred.
"""

SESPARSE_KIND_SHIFT: Final = 60
"""How far up in an entry of a grain table its kind is. Confidence: inferred."""

SESPARSE_UNALLOCATED: Final = 0
"""Kind of a grain that is nowhere; the rest of its entry is 0. Confidence: inferred."""
SESPARSE_UNMAPPED: Final = 1
"""Kind of a grain that the guest gave back, and sees as zeros. The rest of its entry is the place
that it had, which stays taken until the host reclaims it. Confidence: inferred.
"""
SESPARSE_ZERO: Final = 2
"""Kind of a grain of zeros. Confidence: inferred."""
SESPARSE_ALLOCATED: Final = 3
"""Kind of a grain that is there; bits 48 to 59 are the lower 12 bits of its number in the file,
bits 0 to 47 the upper ones. Confidence: inferred.
"""

assert SPARSE_HEADER.sizeof() == MARKER.sizeof() == 512
assert COWD_HEADER.sizeof() == 2048
assert SESPARSE_CONST_HEADER.sizeof() == SESPARSE_VOLATILE_HEADER.sizeof() == 512
