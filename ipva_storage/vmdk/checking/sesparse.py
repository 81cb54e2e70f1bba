"""A file with a `seSparse` extent: its headers, and all that they lead to."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ipva_storage.findings import Finding
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.extent.delta import NOT_MENDED
from ipva_storage.vmdk.extent.sesparse import (
    GRAIN_SECTORS,
    SeSparseHeader,
    must_replay,
    read_sesparse_header,
    sesparse_problems,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice

SECTOR_MAX: Final = 1 << 53
"""Sectors beyond this are all alike: no file is so long. Confidence: chosen."""


def check_sesparse(raw: BlockDevice) -> Iterator[Finding]:
    """What is wrong with the headers, the tables, and the grains.

    Args:
        raw: the file.

    Raises:
        VmdkError: it has no such header.
    """
    for finding in _check(raw, read_sesparse_header(raw)):
        yield replace(finding, repair=NOT_MENDED)


def _check(raw: BlockDevice, header: SeSparseHeader) -> Iterator[Finding]:
    problems = list(sesparse_problems(header))
    for offset_bytes, problem in problems:
        yield Finding("VMDK001", "header", problem, offset_bytes=offset_bytes)
    if problems:
        return
    yield from _check_volatile(raw, header)
    for offset_bytes, oddity in _oddities(header):
        yield Finding("VMDK034", "header", oddity, offset_bytes=offset_bytes)
    directory_bytes = header.directory.offset_sectors * SECTOR_BYTES
    if not directory_bytes or directory_bytes + 8 * header.table_count > raw.size_bytes:
        message = f"it is said to be at sector {header.directory.offset_sectors}, outside the file"
        yield Finding("VMDK005", "grain directory", message, offset_bytes=128)
        return
    yield from _check_tables(raw, header)


def _check_volatile(raw: BlockDevice, header: SeSparseHeader) -> Iterator[Finding]:
    """Whether the tables are up to date."""
    at = header.volatile_header.offset_sectors * SECTOR_BYTES
    is_dirty = must_replay(raw, header)
    if is_dirty is None:
        message = "it is missing or damaged, so that nobody knows whether the file was closed"
        yield Finding("VMDK014", "volatile header", message, offset_bytes=80)
    elif is_dirty:
        message = (
            "it was not closed after writing: its journal may hold newer entries of the tables, "
            "which only the host can bring back; what is read here is what the tables say"
        )
        yield Finding("VMDK014", "journal", message, offset_bytes=at + 24)


def _oddities(header: SeSparseHeader) -> Iterator[tuple[int, str]]:
    """What the header says that cannot be together, though reading goes on."""
    if any(header.padding):
        yield 208, "bytes that nothing uses are not zero"
    parts = sorted((part, name) for name, part in header.parts().items() if part.sector_count)
    for (part, name), (other, other_name) in pairwise(parts):
        if part.end_sectors > other.offset_sectors:
            yield 80, f"its {name} and its {other_name} overlap"


def _check_tables(raw: BlockDevice, header: SeSparseHeader) -> Iterator[Finding]:
    import numpy as np

    from ipva_storage.vmdk.checking.delta import DeltaCheck, Ranges
    from ipva_storage.vmdk.extent.sweep import SeSparseSweep

    parts = [part for name, part in header.parts().items() if name != "grains"]
    metadata = Ranges(
        np.array([min(part.offset_sectors, SECTOR_MAX) for part in parts], np.int64),
        np.array([min(part.end_sectors, SECTOR_MAX) for part in parts], np.int64),
    )
    base = min(header.grains.offset_sectors, -(-raw.size_bytes // SECTOR_BYTES))
    sweep = SeSparseSweep.of(raw, header)
    check = DeltaCheck(sweep, metadata, base_sector=base, unit=GRAIN_SECTORS)
    yield from check.findings(header.directory.offset_sectors * SECTOR_BYTES)
