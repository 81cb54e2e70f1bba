"""A file with a sparse extent, hosted or stream-optimized: its header, and all that it leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipva_storage.device import read
from ipva_storage.errors import VmdkError
from ipva_storage.findings import Finding
from ipva_storage.progress import silent
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.extent.header import (
    NEWLINES,
    SEND_AGAIN,
    SparseHeader,
    header_problems,
    parse_header,
)
from ipva_storage.vmdk.extent.stream import FOOTER_OFFSET_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.progress import Progress

KNOWN_FLAGS: Final = 0x0003_0007
"""Bits of `flags` that have a meaning. Source: Virtual Disk Format 5.0. Confidence: stated."""

FOOTER_FIELDS: Final = (
    "capacity_sectors",
    "grain_sectors",
    "gtes_per_gt",
    "flags",
    "version",
    "compress_algorithm",
    "overhead_sectors",
)
"""What a footer repeats. Source: qemu takes all that it needs from the footer. Confidence: stated.
"""

STREAM_VERSION: Final = 3
"""The version that ESXi wants of a stream-optimized disk ("sparse VMDK version too old").

Source: messages of ESXi's import that users report; VMware's own files. Confidence: inferred.
"""


def check_sparse(
    raw: BlockDevice, header: SparseHeader, *, progress: Progress = silent
) -> Iterator[Finding]:
    """What is wrong with the header, the tables, and the grains.

    Args:
        raw: the file.
        header: its header, whatever its values.
        progress: told how much of a stream was looked at.
    """
    problems = list(header_problems(header, raw.size_bytes))
    for offset_bytes, problem in problems:
        yield Finding("VMDK001", "header", problem, offset_bytes=offset_bytes)
    if header.flags & 1 and header.newlines != NEWLINES:
        yield _newlines(header)
    if header.unclean_shutdown:
        yield Finding("VMDK014", "header", "it was not closed after writing", offset_bytes=72)
    if problems:
        return
    for offset_bytes, oddity in (*header_oddities(raw, header), *footer_oddities(raw, header)):
        yield Finding("VMDK034", "header", oddity, offset_bytes=offset_bytes)
    if header.is_compressed:
        from ipva_storage.vmdk.checking.stream import check_stream

        yield from check_stream(raw, header, progress=progress)
    else:
        from ipva_storage.vmdk.checking.tables import check_tables

        yield from check_tables(raw, header)


def _newlines(header: SparseHeader) -> Finding:
    message = f"the bytes that guard line ends are {header.newlines.hex(' ')}"
    if not header.was_sent_as_text:
        return Finding("VMDK002", "header", message, offset_bytes=73)
    message += ": the file was sent as text"
    return Finding("VMDK002", "header", message, offset_bytes=73, repair=SEND_AGAIN)


def header_oddities(raw: BlockDevice, header: SparseHeader) -> Iterator[tuple[int, str]]:
    """What fields say that cannot be together, though each by itself can be."""
    yield from _flag_oddities(header)
    if header.gtes_per_gt & (header.gtes_per_gt - 1):
        yield 44, f"{header.gtes_per_gt} entries in a grain table are no power of two"
    if header.overhead_sectors < max(header.descriptor_end_sectors, 1):
        yield 64, f"{header.overhead_sectors} sectors of metadata do not hold its descriptor"
    if header.overhead_sectors % header.grain_sectors:
        yield 64, f"{header.overhead_sectors} sectors of metadata are no whole grains"
    if header.descriptor_offset_sectors and header.descriptor_end_sectors > header.metadata_sectors:
        yield 36, "the descriptor's room reaches into the tables or the data"
    if header.has_redundant and header.gd_offset_sectors * SECTOR_BYTES < raw.size_bytes:
        yield from _copy_oddity(raw, header)


def _flag_oddities(header: SparseHeader) -> Iterator[tuple[int, str]]:
    if header.flags & ~KNOWN_FLAGS:
        yield 8, f"flags {header.flags:#x} have bits without a meaning"
    if not header.flags & 1:
        yield 8, "it does not say that the bytes that guard line ends are valid"
    if bool(header.flags & 2) != (header.rgd_offset_sectors != 0):
        yield 8, "the flag and the place of the redundant directory disagree"
    if header.is_compressed != header.has_markers:
        yield 8, "compressed grains and markers go together, and only one of them is announced"
    if header.is_compressed and header.version < STREAM_VERSION:
        yield 4, f"version {header.version} of a stream-optimized disk is too old for ESXi"


def _copy_oddity(raw: BlockDevice, header: SparseHeader) -> Iterator[tuple[int, str]]:
    """In the usual layout the tables of one copy lie before the other, and each is named.

    A disk that was made smaller has more room there, and nothing behind its directory's end.
    """
    start, length = header.rgd_offset_sectors, header.directory_sectors
    if _word(raw, start * SECTOR_BYTES) != start + length or header.gd_offset_sectors < start:
        return
    room = header.gd_offset_sectors - start - length - header.table_count * header.table_sectors
    is_more = bool(header.table_count * 4 % SECTOR_BYTES) and any(_words(raw, header, 0))
    is_less = header.table_count > 1 and not any(_words(raw, header, -1))
    if room < 0 or is_more or is_less:
        yield (
            20,
            f"{header.table_count} grain tables of {header.table_sectors} sectors follow from it, "
            "and the directories are made for others; capacity, size of a grain or of a table is "
            "wrong",
        )


def _words(raw: BlockDevice, header: SparseHeader, at: int) -> list[int]:
    """An entry of both directories, counted from behind their last one."""
    offset_bytes = 4 * (header.table_count + at)
    return [
        _word(raw, sector * SECTOR_BYTES + offset_bytes)
        for sector in (header.rgd_offset_sectors, header.gd_offset_sectors)
    ]


def _word(raw: BlockDevice, offset_bytes: int) -> int:
    if offset_bytes + 4 > raw.size_bytes:
        return 0
    return int.from_bytes(read(raw, offset_bytes, 4), "little")


def footer_oddities(raw: BlockDevice, header: SparseHeader) -> Iterator[tuple[int, str]]:
    """The footer repeats the header, but for the place of the directory."""
    at = raw.size_bytes - FOOTER_OFFSET_BYTES
    if not header.is_compressed or at < SECTOR_BYTES:
        return
    try:
        footer = parse_header(read(raw, at, SECTOR_BYTES))
    except VmdkError:
        return
    for name in FOOTER_FIELDS:
        ours, theirs = getattr(header, name), getattr(footer, name)
        if ours != theirs:
            yield at, f"the header says {name} {ours}, the footer {theirs}"
