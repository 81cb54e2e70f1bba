"""VMDK: the sparse extent header, grain tables, and the markers of stream-optimized files.

The text descriptor has no fixed bytes; its grammar is in `formats/spec/vmdk.md`.

Source: VMware "Virtual Disk Format 5.0" technical note, "Hosted Sparse Extents" and
"Stream-Optimized Compressed Sparse Extents". Confidence: stated, where nothing else is said.
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

assert SPARSE_HEADER.sizeof() == MARKER.sizeof() == 512
