"""What is wrong with a VMDK: every fault with its code and place. Nothing is written.

What is on the medium is checked, not what reading makes of it: a fault that the redundant tables
hide is reported all the same.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ipva_storage.device import read
from ipva_storage.errors import VmdkError
from ipva_storage.findings import Finding
from ipva_storage.progress import silent
from ipva_storage.units import SECTOR_BYTES, printable
from ipva_storage.vmdk import chain
from ipva_storage.vmdk.access import (
    OTHER_MAGICS,
    extent_lines,
    has_file,
    is_beheaded,
    lone_extent,
    lost_delta_remedy,
    open_extent,
    own_name,
    read_embedded,
    read_separate,
)
from ipva_storage.vmdk.checking.chain import check_chain
from ipva_storage.vmdk.checking.cowd import check_cowd
from ipva_storage.vmdk.checking.sesparse import check_sesparse
from ipva_storage.vmdk.checking.sparse import check_sparse
from ipva_storage.vmdk.checking.text import contradictions
from ipva_storage.vmdk.descriptor import is_descriptor, shown
from ipva_storage.vmdk.extent.cowd import COWD_MAGIC, CowdHeader, read_cowd_header
from ipva_storage.vmdk.extent.flat import FLAT_KINDS, shared_bytes
from ipva_storage.vmdk.extent.header import SEND_AGAIN, SPARSE_MAGIC, read_header
from ipva_storage.vmdk.extent.orphans import SALVAGE
from ipva_storage.vmdk.extent.sesparse import (
    SESPARSE_MAGIC,
    SeSparseHeader,
    read_sesparse_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipva_storage.device import BlockDevice, Folder
    from ipva_storage.progress import Progress
    from ipva_storage.vmdk.descriptor import Descriptor, ExtentLine
    from ipva_storage.vmdk.extent.header import SparseHeader

    AnyHeader = SparseHeader | CowdHeader | SeSparseHeader

REPAIR: Final = "ipva disk repair DISK"
"""What mends a VMDK, as far as it can be."""

COPY: Final = "ipva disk convert DISK saved.vmdk -O monolithicSparse"
"""What makes a disk of one file out of any that can be read."""

FOR_REPAIR: Final = frozenset(f"VMDK{number:03}" for number in (*range(1, 31), 34, 35))
"""Codes of which `vmdk.repair` mends at least some."""

HEADERS: Final[dict[bytes, Callable[[BlockDevice], AnyHeader]]] = {
    COWD_MAGIC: read_cowd_header,
    SESPARSE_MAGIC[:4]: read_sesparse_header,
}
"""What reads the header of an extent, by its first bytes."""


def check(
    raw: BlockDevice, folder: Folder | None = None, *, progress: Progress = silent
) -> Iterator[Finding]:
    """What is wrong with a VMDK; `raw` stays open.

    Args:
        raw: the file.
        folder: where the extents of a separate descriptor, and a parent, are.
        progress: told how far it is; a stream-optimized file is read and inflated whole.

    Yields:
        Findings `VMDK…`, those of the header first.

    Raises:
        VmdkError: it is no VMDK, or of a kind that is not read (with the first finding asked for).
        DeviceError: `raw` cannot be read.
    """
    start = read(raw, 0, min(raw.size_bytes, 1024))
    if start[:4] == SPARSE_MAGIC:
        findings = _check_embedded(raw, folder, progress)
    elif start[:4] in OTHER_MAGICS:
        raise lone_extent(OTHER_MAGICS[start[:4]], raw.name)
    elif is_descriptor(start):
        findings = _check_described(raw, folder, progress)
    elif is_beheaded(raw):
        message = "its magic is lost, though a descriptor or a footer is there"
        findings = iter([Finding("VMDK001", "header", message, offset_bytes=0)])
    else:
        raise VmdkError("it is no VMDK file", where=raw.name)
    for finding in findings:
        repair = finding.repair
        if repair is None and finding.code in FOR_REPAIR and finding.severity != "info":
            repair = REPAIR
        yield replace(finding, where=finding.where or raw.name, repair=repair)


def _check_embedded(
    raw: BlockDevice, folder: Folder | None, progress: Progress
) -> Iterator[Finding]:
    header = read_header(raw)
    for finding in _embedded_findings(raw, folder, header, progress):
        yield replace(finding, repair=SEND_AGAIN) if header.was_sent_as_text else finding


def _embedded_findings(
    raw: BlockDevice, folder: Folder | None, header: SparseHeader, progress: Progress
) -> Iterator[Finding]:
    findings = check_sparse(raw, header, progress=progress)
    for finding in findings:
        yield finding
        if finding.code not in ("VMDK001", "VMDK002", "VMDK014"):
            break
    yield from _check_embedded_text(raw, folder, header)
    yield from findings


def _check_embedded_text(
    raw: BlockDevice, folder: Folder | None, header: SparseHeader
) -> Iterator[Finding]:
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
    yield from check_chain(raw, folder, descriptor)


def _check_text(descriptor: Descriptor, offset_bytes: int) -> Iterator[Finding]:
    missing = [key for key in ("CID", "createType") if key.lower() not in _keys(descriptor)]
    if not chain.can_be_parent(descriptor) and not missing:
        missing = ["a CID that is a number, and not the one that means none"]
    if missing:
        message = f"it lacks {' and '.join(missing)}"
        yield Finding("VMDK017", "descriptor", message, offset_bytes=offset_bytes)


def _keys(descriptor: Descriptor) -> set[str]:
    return {key.lower() for key in descriptor.values}


def _check_described(
    raw: BlockDevice, folder: Folder | None, progress: Progress
) -> Iterator[Finding]:
    try:
        descriptor = read_separate(raw)
        lines = extent_lines(descriptor, raw.name)
    except VmdkError as error:
        if error.remedy is not None:  # bytes that are elsewhere, not a fault of this one
            raise
        yield Finding("VMDK003", "descriptor", error.message, offset_bytes=0)
        return
    yield from _check_text(descriptor, 0)
    for problem in shared_bytes(lines, own_name(raw)):
        remedy = f"mend the extent lines of “{shown(own_name(raw))}” by hand; or copy all: {COPY}"
        yield Finding("VMDK021", "extent", problem, offset_bytes=0, repair=remedy)
    yield from _check_sizes(lines)
    yield from contradictions(descriptor, lines, folder, own_name(raw))
    if any(line.kind not in FLAT_KINDS for line in lines):
        yield from check_chain(raw, folder, descriptor)
    last: dict[str | None, ExtentLine] = {}  # each file once, by the part that ends last
    for line in lines:
        if has_file(line) and _end_bytes(line) >= _end_bytes(last.get(line.file_name, line)):
            last[line.file_name] = line
    used = Counter(line.file_name for line in lines)
    for line in last.values():
        is_all = used[line.file_name] == 1 and not line.offset_sectors
        for finding in _check_extent(raw, folder, descriptor, line, progress):
            if is_all or finding.code != "VMDK036":  # others may use the rest of a file
                yield finding


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


def _check_extent(
    raw: BlockDevice,
    folder: Folder | None,
    descriptor: Descriptor,
    line: ExtentLine,
    progress: Progress,
) -> Iterator[Finding]:
    name = line.file_name or ""
    if folder is None:
        yield Finding("VMDK015", "extent", f"the folder of “{shown(name)}” is not known")
        return
    try:
        file = open_extent(folder, name, raw.name, writable=False)
    except VmdkError as error:
        remedy = f"put “{shown(name)}” beside its descriptor; or copy the rest: {SALVAGE}"
        if chain.has_parent(descriptor):
            remedy = lost_delta_remedy(descriptor)
        yield Finding("VMDK015", "extent", error.message, repair=remedy)
        return
    with contextlib.closing(file):
        where = printable(file.name)
        findings = _check_flat if line.kind in FLAT_KINDS else _check_grains
        for finding in findings(file, line, progress):
            yield replace(finding, where=where)


def _check_flat(file: BlockDevice, line: ExtentLine, _: Progress) -> Iterator[Finding]:
    needed = _end_bytes(line)
    if file.size_bytes < needed:
        message = f"“{shown(line.file_name or '')}” has {file.size_bytes} bytes of {needed}"
        remedy = f"get the whole file from a backup; or copy the rest: {SALVAGE}"
        at = file.size_bytes
        yield Finding("VMDK016", "extent", message, offset_bytes=at, repair=remedy)
    elif line.sector_count and file.size_bytes - needed >= SECTOR_BYTES:
        message = (
            f"“{shown(line.file_name or '')}” has {file.size_bytes} bytes, and its extent line "
            f"{needed}"
        )
        remedy = "if the line is wrong, put the size of the file into it, in sectors of 512 bytes"
        yield Finding("VMDK036", "extent", message, offset_bytes=needed, repair=remedy)


def _check_grains(file: BlockDevice, line: ExtentLine, progress: Progress) -> Iterator[Finding]:
    """An extent that keeps its bytes in grains, of whatever kind by its content."""
    magic = read(file, 0, min(file.size_bytes, 4))
    try:
        header = HEADERS.get(magic, read_header)(file)
    except VmdkError as error:
        yield Finding("VMDK001", "header", error.message, offset_bytes=error.offset_bytes)
        return
    at = 16 if isinstance(header, SeSparseHeader) else 12
    yield from _check_capacity(line, header.capacity_sectors, at)
    if isinstance(header, CowdHeader):
        yield from check_cowd(file)
    elif isinstance(header, SeSparseHeader):
        yield from check_sesparse(file)
    else:
        for finding in check_sparse(file, header, progress=progress):
            yield replace(finding, repair=SEND_AGAIN) if header.was_sent_as_text else finding


def _check_capacity(
    line: ExtentLine, capacity_sectors: int, offset_bytes: int
) -> Iterator[Finding]:
    """The header against the line of the descriptor."""
    if capacity_sectors < line.sector_count:
        message = f"it has {capacity_sectors} sectors, its descriptor says {line.sector_count}"
        yield Finding("VMDK016", "extent", message, offset_bytes=offset_bytes)
    elif capacity_sectors > line.sector_count:
        message = f"it says {line.sector_count} sectors, the header {capacity_sectors}"
        yield Finding("VMDK004", "descriptor", message, offset_bytes=offset_bytes)
