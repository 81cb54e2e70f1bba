"""A file with an ESX server sparse extent (`vmfsSparse`): its header, and all that it leads to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ipva_storage.findings import Finding
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.extent.cowd import (
    TABLE_SECTORS,
    CowdHeader,
    cowd_problems,
    read_cowd_header,
)
from ipva_storage.vmdk.extent.delta import NOT_MENDED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice


def check_cowd(raw: BlockDevice) -> Iterator[Finding]:
    """What is wrong with the header, the tables, and the grains.

    Args:
        raw: the file.

    Raises:
        VmdkError: it has no such header.
    """
    for finding in _check(raw, read_cowd_header(raw)):
        yield replace(finding, repair=NOT_MENDED)


def _check(raw: BlockDevice, header: CowdHeader) -> Iterator[Finding]:
    problems = list(cowd_problems(header))
    for offset_bytes, problem in problems:
        yield Finding("VMDK001", "header", problem, offset_bytes=offset_bytes)
    if header.unclean_shutdown:
        yield Finding("VMDK014", "header", "it was not closed after writing", offset_bytes=1648)
    if problems:
        return
    if header.gd_entry_count > header.table_count:
        message = (
            f"its directory has {header.gd_entry_count} entries, and {header.table_count} are "
            "needed; capacity, size of a grain or that number is wrong"
        )
        yield Finding("VMDK034", "header", message, offset_bytes=24)
    if not header.gd_offset_sectors or header.directory_end_bytes > raw.size_bytes:
        message = f"it is said to be at sector {header.gd_offset_sectors}, outside the file"
        yield Finding("VMDK005", "grain directory", message, offset_bytes=20)
        return
    yield from _check_tables(raw, header)


def _check_tables(raw: BlockDevice, header: CowdHeader) -> Iterator[Finding]:
    import numpy as np

    from ipva_storage.vmdk.checking.delta import DeltaCheck, Ranges
    from ipva_storage.vmdk.extent.sweep import TWICE, CowdSweep

    sweep = CowdSweep.of(raw, header)
    tables = sweep.numbers[sweep.states >= TWICE].astype(np.int64)
    starts = np.concatenate(([0], tables))
    stops = np.concatenate(([header.first_sector], tables + TABLE_SECTORS))
    check = DeltaCheck(sweep, Ranges(starts, stops), base_sector=0, unit=1)
    yield from check.findings(header.gd_offset_sectors * SECTOR_BYTES)
    if check.end_sector > header.free_sector and not header.unclean_shutdown:
        message = (
            f"it says that the next free sector is {header.free_sector}, and what is in use ends "
            f"at {check.end_sector}: new data would be put over old"
        )
        yield Finding("VMDK034", "header", message, offset_bytes=28)
