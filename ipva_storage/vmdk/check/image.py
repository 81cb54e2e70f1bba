"""What is wrong with a VMDK: every fault with its code and place. Nothing is written.

What is on the medium is checked, not what reading makes of it: a fault that the redundant tables
hide is reported all the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ipva_storage.device import read
from ipva_storage.errors import VmdkError
from ipva_storage.findings import Finding
from ipva_storage.units import SECTOR_BYTES, printable
from ipva_storage.vmdk.access import (
    OTHER_MAGICS,
    extent_lines,
    lone_extent,
    open_extent,
    own_name,
    read_embedded,
    read_separate,
)
from ipva_storage.vmdk.descriptor import is_descriptor, shown
from ipva_storage.vmdk.extent.flat import shared_bytes
from ipva_storage.vmdk.extent.header import SPARSE_MAGIC, SparseHeader, header_problems, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice, Folder
    from ipva_storage.vmdk.descriptor import Descriptor, ExtentLine


def check(raw: BlockDevice, folder: Folder | None = None) -> Iterator[Finding]:
    """What is wrong with a VMDK; `raw` stays open.

    Args:
        raw: the file.
        folder: where the extents of a separate descriptor are.

    Yields:
        Findings `VMDK…`, those of the header first.

    Raises:
        VmdkError: it is no VMDK, or of a kind that is not read (with the first finding asked for).
        DeviceError: `raw` cannot be read.
    """
    start = read(raw, 0, min(raw.size_bytes, 1024))
    if start[:4] == SPARSE_MAGIC:
        findings = _check_sparse(raw)
    elif start[:4] in OTHER_MAGICS:
        raise lone_extent(OTHER_MAGICS[start[:4]], raw.name)
    elif is_descriptor(start):
        findings = _check_flat(raw, folder)
    else:
        raise VmdkError("it is no VMDK file", where=raw.name)
    for finding in findings:
        yield finding if finding.where else replace(finding, where=raw.name)


def _check_sparse(raw: BlockDevice) -> Iterator[Finding]:
    header = read_header(raw)
    problems = list(header_problems(header, raw.size_bytes))
    for offset_bytes, problem in problems:
        yield Finding("VMDK001", "header", problem, offset_bytes=offset_bytes)
    yield from _check_newlines(header)
    if header.unclean_shutdown:
        yield Finding("VMDK014", "header", "it was not closed after writing", offset_bytes=72)
    yield from _check_descriptor(raw, header)
    if not problems:
        from ipva_storage.vmdk.check.tables import check_tables

        yield from check_tables(raw, header)


def _check_newlines(header: SparseHeader) -> Iterator[Finding]:
    if header.flags & 1 and header.newlines != b"\n \r\n":
        message = f"the bytes that guard line ends are {header.newlines.hex(' ')}"
        yield Finding("VMDK002", "header", message, offset_bytes=73)


def _check_descriptor(raw: BlockDevice, header: SparseHeader) -> Iterator[Finding]:
    at = header.descriptor_offset_sectors * SECTOR_BYTES
    try:
        descriptor = read_embedded(raw, header)
    except VmdkError as error:
        yield Finding("VMDK003", "descriptor", error.message, offset_bytes=error.offset_bytes)
        return
    said = sum(line.sector_count for line in descriptor.extents)
    if said != header.capacity_sectors:
        message = f"it says {said} sectors, the header {header.capacity_sectors}"
        yield Finding("VMDK004", "descriptor", message, offset_bytes=at)
    yield from _check_text(descriptor, at)


def _check_text(descriptor: Descriptor, offset_bytes: int) -> Iterator[Finding]:
    missing = [key for key in ("CID", "createType") if key.lower() not in _keys(descriptor)]
    if descriptor.cid is None and not missing:
        missing = ["a CID that is a number"]
    if missing:
        message = f"it lacks {' and '.join(missing)}"
        yield Finding("VMDK017", "descriptor", message, offset_bytes=offset_bytes)


def _keys(descriptor: Descriptor) -> set[str]:
    return {key.lower() for key in descriptor.values}


def _check_flat(raw: BlockDevice, folder: Folder | None) -> Iterator[Finding]:
    try:
        descriptor = read_separate(raw)
        lines = extent_lines(descriptor, raw.name)
    except VmdkError as error:
        if error.remedy is not None:  # another kind of disk, not a fault of this one
            raise
        yield Finding("VMDK003", "descriptor", error.message, offset_bytes=0)
        return
    yield from _check_text(descriptor, 0)
    for problem in shared_bytes(lines, own_name(raw)):
        yield Finding("VMDK021", "extent", problem, offset_bytes=0)
    yield from _check_sizes(lines)
    last: dict[str | None, ExtentLine] = {}  # each file once, by the part that ends last
    for line in lines:
        if _end_bytes(line) >= _end_bytes(last.get(line.file_name, line)):
            last[line.file_name] = line
    for line in last.values():
        yield from _check_extent(raw, folder, line)


def _check_sizes(lines: tuple[ExtentLine, ...]) -> Iterator[Finding]:
    empty = [line for line in lines if not line.sector_count]
    if len(empty) == len(lines):
        yield Finding("VMDK023", "descriptor", "its extents have no sectors", offset_bytes=0)
    elif empty:
        name = shown(empty[0].file_name or "")
        more = f", and {len(empty) - 1} more" if len(empty) > 1 else ""
        yield Finding("VMDK022", "extent", f"“{name}” has no sectors{more}", offset_bytes=0)


def _end_bytes(line: ExtentLine) -> int:
    return line.offset_sectors * SECTOR_BYTES + line.size_bytes


def _check_extent(raw: BlockDevice, folder: Folder | None, line: ExtentLine) -> Iterator[Finding]:
    name = line.file_name or ""
    if folder is None:
        yield Finding("VMDK015", "extent", f"the folder of “{shown(name)}” is not known")
        return
    try:
        file = open_extent(folder, name, raw.name, writable=False)
    except VmdkError as error:
        yield Finding("VMDK015", "extent", error.message)
        return
    needed = _end_bytes(line)
    if file.size_bytes < needed:
        message = f"“{shown(name)}” has {file.size_bytes} bytes of {needed}"
        where, end_bytes = printable(file.name), file.size_bytes
        yield Finding("VMDK016", "extent", message, where=where, offset_bytes=end_bytes)
    file.close()
