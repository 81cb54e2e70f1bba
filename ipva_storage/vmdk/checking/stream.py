"""A stream-optimized file: every marker, every grain inflated, and the tables against both.

Cost: the file is read once, and inflated on all cores. Memory is two numbers a grain, and the
tasks under way.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_storage.errors import VmdkError
from ipva_storage.findings import Finding
from ipva_storage.progress import silent
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.checking.tables import Copy, Named, check_places, directory_lost
from ipva_storage.vmdk.codec import inflate, workers
from ipva_storage.vmdk.extent.markers import Kind, Record, walk
from ipva_storage.vmdk.extent.stream import FOOTER_OFFSET_BYTES, effective_header

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from ipva_storage.device import BlockDevice
    from ipva_storage.progress import Progress
    from ipva_storage.vmdk.extent.header import SparseHeader
    from ipva_storage.vmdk.extent.places import Mask, Sectors

TASK_GRAINS: Final = 16
JOBS_MAX: Final = 8


def check_stream(
    raw: BlockDevice, header: SparseHeader, *, progress: Progress = silent
) -> Iterator[Finding]:
    """What is wrong with a stream-optimized file.

    Args:
        raw: the file.
        header: its header, without `header_problems`.
        progress: told how much of the file was looked at.
    """
    whole = header
    try:
        whole = effective_header(raw, header)
    except VmdkError as error:
        yield Finding("VMDK025", "footer", error.message, offset_bytes=error.offset_bytes)
    if raw.size_bytes % SECTOR_BYTES:
        message = "the file ends within a sector"
        yield Finding("VMDK029", "stream", message, offset_bytes=raw.size_bytes)
    named = Named()
    copies: list[Copy] = []
    yield from _copies(raw, whole, copies)
    yield from check_places(copies, named)
    entries = Entries.read(copies, whole)
    found = Walked()
    if whole.has_markers:
        yield from _walk(raw, whole, found, named, progress)
        yield from _check_markers(whole, copies, found, named)
    if copies:
        yield from _compare(raw, whole, entries, found, named)
    yield from named.rest()


def _copies(raw: BlockDevice, header: SparseHeader, copies: list[Copy]) -> Iterator[Finding]:
    if not header.is_gd_at_end:
        primary = Copy.read(raw, header, header.gd_offset_sectors, "")
        if primary is None:
            yield directory_lost("VMDK005", header, header.gd_offset_sectors, 56)
        else:
            copies.append(primary)
    if header.has_redundant:
        redundant = Copy.read(raw, header, header.rgd_offset_sectors, "redundant ")
        if redundant is None:
            yield directory_lost("VMDK006", header, header.rgd_offset_sectors, 48)
        else:
            copies.append(redundant)


@dataclass(frozen=True)
class Entries:
    """What the tables say: grains that there are, in order, and where each starts."""

    grains: Sectors
    sectors: Sectors
    others: Sectors
    """Where the redundant tables say that it starts; the same where there are none."""

    @classmethod
    def read(cls, copies: list[Copy], header: SparseHeader) -> Entries:
        """All entries of the tables; of two copies those of the first that has a table.

        One that lies on another is told as such, and not read again.
        """
        parts: list[tuple[Sectors, Sectors, Sectors]] = []
        if copies:
            first, last = copies[0].at, copies[-1].at
            is_read = np.any([~(each.is_blank | each.is_twice) for each in (first, last)], axis=0)
            for batch in first.batches(np.flatnonzero(is_read)):
                one, other = first.tables(batch), last.tables(batch)
                one = np.where(first.is_there[batch][:, None], one, other)
                other = np.where(last.is_there[batch][:, None], other, one)
                row, column = np.nonzero((one > 1) | (other > 1))
                grains = batch[row] * header.gtes_per_gt + column
                parts.append((grains, one[row, column], other[row, column]))
        empty = np.zeros(0, np.int64)
        joined = [np.concatenate([empty, *each]) for each in zip(*parts, strict=True)]
        return cls(*(joined or [empty, empty, empty]))


@dataclass
class Walked:
    """What was found in the file."""

    grains: list[int] = field(default_factory=list)
    sectors: list[int] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    """Sectors where something damaged starts, and those of cut grains."""
    markers: dict[Kind, set[int]] = field(default_factory=dict)
    """Sectors behind the markers of metadata."""
    last: Record | None = None


def _walk(
    raw: BlockDevice, header: SparseHeader, found: Walked, named: Named, progress: Progress
) -> Iterator[Finding]:
    """Go through the file, and inflate every grain."""
    jobs: deque[Future[list[str | None]]] = deque()
    tasks: deque[list[Record]] = deque()
    task: list[Record] = []
    for record in walk(raw, header):
        found.last = record
        if record.kind is Kind.GRAIN:
            found.grains.append(record.lba_sector // header.grain_sectors)
            found.sectors.append(record.sector)
            task.append(record)
            if len(task) == TASK_GRAINS:
                jobs.append(workers().submit(_inflate_all, task, header))
                tasks.append(task)
                task = []
        else:
            yield from _other(header, record, found, named)
        while len(jobs) > JOBS_MAX:
            yield from _bad_grains(header, tasks.popleft(), jobs.popleft().result(), named)
            progress(record.sector * SECTOR_BYTES, raw.size_bytes)
    while jobs:
        yield from _bad_grains(header, tasks.popleft(), jobs.popleft().result(), named)
    yield from _bad_grains(header, task, _inflate_all(task, header), named)
    progress(raw.size_bytes, raw.size_bytes)


def _inflate_all(records: list[Record], header: SparseHeader) -> list[str | None]:
    """What is wrong with each grain; None where nothing is."""
    return [_grain_problem(record, header) for record in records]


def _grain_problem(record: Record, header: SparseHeader) -> str | None:
    try:
        plain, _ = inflate(record.data, header.grain_bytes)
    except VmdkError as error:
        return error.message
    left = header.capacity_bytes - record.lba_sector * SECTOR_BYTES
    if len(plain) < min(header.grain_bytes, left):
        return f"it holds {len(plain)} bytes only"
    return None


def _bad_grains(
    header: SparseHeader, task: list[Record], problems: list[str | None], named: Named
) -> Iterator[Finding]:
    for record, problem in zip(task, problems, strict=True):
        if problem is not None and named.is_next("VMDK026", "grain"):
            grain = record.lba_sector // header.grain_sectors
            message = f"{_place(header, grain)}: {problem}"
            at = record.sector * SECTOR_BYTES
            yield Finding("VMDK026", "grain", message, offset_bytes=at)


def _place(header: SparseHeader, grain: int) -> str:
    """A grain by its number and by what it is of the disk."""
    start = grain * header.grain_bytes
    stop = min(start + header.grain_bytes, header.capacity_bytes)
    return f"grain {grain} (bytes {start} to {stop} of the disk)"


def _other(header: SparseHeader, record: Record, found: Walked, named: Named) -> Iterator[Finding]:
    """A part of the file that is no grain."""
    at = record.sector * SECTOR_BYTES
    if record.kind is Kind.CUT:
        found.damaged.append(record.sector)
        grain = record.lba_sector // header.grain_sectors
        message = f"{_place(header, grain)}: the file ends within it"
        yield Finding("VMDK010", "grain", message, offset_bytes=at)
    elif record.kind is Kind.DAMAGE:
        found.damaged.append(record.sector)
        if named.is_next("VMDK024", "marker"):
            message = f"{record.sector_count * SECTOR_BYTES} bytes there are nothing known"
            yield Finding("VMDK024", "marker", message, offset_bytes=at)
    elif record.kind is not Kind.ZEROS:
        found.markers.setdefault(record.kind, set()).add(record.sector + 1)


def _check_markers(
    header: SparseHeader, copies: list[Copy], found: Walked, named: Named
) -> Iterator[Finding]:
    """Each table, the directory and the footer behind the grains has its marker, in the end."""
    is_front = header.gd_offset_sectors < header.overhead_sectors
    if is_front or not copies or copies[0].word:
        return
    places = copies[0].at.places[copies[0].at.is_there]
    known = np.array(sorted(found.markers.get(Kind.TABLE, ())), np.int64)
    for index in named.pick("VMDK024", "grain table", ~np.isin(places, known)):
        at = (int(places[index]) - 1) * SECTOR_BYTES
        message = "the marker in front of this grain table is missing or damaged"
        yield Finding("VMDK024", "grain table", message, offset_bytes=at)
    if header.gd_offset_sectors not in found.markers.get(Kind.DIRECTORY, ()):
        at = (header.gd_offset_sectors - 1) * SECTOR_BYTES
        message = "the marker in front of the grain directory is missing or damaged"
        yield Finding("VMDK024", "grain directory", message, offset_bytes=at)
    yield from _check_end(found)


def _check_end(found: Walked) -> Iterator[Finding]:
    """The footer has its marker, and one sector of zeros ends the file."""
    last = found.last
    end = 0 if last is None else last.sector + last.sector_count
    footer_sector = end - FOOTER_OFFSET_BYTES // SECTOR_BYTES
    if footer_sector not in found.markers.get(Kind.FOOTER, ()):
        message = "the footer, its marker, or the end of the stream is not where it belongs"
        at = (footer_sector - 1) * SECTOR_BYTES
        yield Finding("VMDK024", "footer", message, offset_bytes=max(at, 0))
    if last is None or last.kind is not Kind.ZEROS or last.sector_count != 1:
        message = "the marker that ends the stream is missing or damaged"
        at = max(end - 1, 0) * SECTOR_BYTES
        yield Finding("VMDK029", "stream", message, offset_bytes=at)


def _compare(
    raw: BlockDevice, header: SparseHeader, entries: Entries, found: Walked, named: Named
) -> Iterator[Finding]:
    """The tables against each other, against the end of the file, and against the grains found."""
    grains, sectors = entries.grains, entries.sectors
    for at in named.pick("VMDK009", "grain tables", sectors != entries.others):
        message = (
            f"grain {grains[at]}: the table says sector {sectors[at]}, the redundant one "
            f"{entries.others[at]}"
        )
        yield Finding("VMDK009", "grain tables", message)
    is_told = np.zeros(len(grains), bool)
    is_behind = grains >= header.grain_count
    for code, what, mask in (
        ("VMDK019", "is behind the end of the disk", is_behind),
        ("VMDK010", "is outside the file", sectors * SECTOR_BYTES >= raw.size_bytes),
        ("VMDK013", "lies in the metadata", (sectors > 1) & (sectors < header.overhead_sectors)),
    ):
        for at in named.pick(code, "grain table", mask & ~is_told):
            message = f"grain {grains[at]} at sector {sectors[at]} {what}"
            yield Finding(code, "grain table", message)
        is_told |= mask
    if header.has_markers:
        is_told |= (sectors <= 1) | np.isin(sectors, np.array(found.damaged, np.int64))
        yield from _compare_grains(header, entries, found, is_told, named)


def _compare_grains(
    header: SparseHeader, entries: Entries, found: Walked, is_told: Mask, named: Named
) -> Iterator[Finding]:
    """Each entry points to its own grain, and each grain has its entry."""
    grains, sectors = entries.grains, entries.sectors
    walked_grains = np.array(found.grains, np.int64)
    walked_sectors = np.array(found.sectors, np.int64)
    said = _lookup(walked_sectors, sectors, walked_grains)  # which grain is where a table points
    for at in named.pick("VMDK027", "grain table", ~is_told & (said != grains)):
        what = "no grain" if said[at] < 0 else f"grain {said[at]}"
        message = f"{_place(header, int(grains[at]))}: its table points to {what}"
        place = int(sectors[at]) * SECTOR_BYTES
        yield Finding("VMDK027", "grain table", message, offset_bytes=place)
    entered = _lookup(grains, walked_grains, sectors)  # where a grain is said to be
    for at in named.pick("VMDK028", "grain", entered != walked_sectors):
        what = "another" if entered[at] > 1 else "none"
        message = f"{_place(header, int(walked_grains[at]))} is there, and its table names {what}"
        place = int(walked_sectors[at]) * SECTOR_BYTES
        yield Finding("VMDK028", "grain", message, offset_bytes=place)


def _lookup(keys: Sectors, wanted: Sectors, values: Sectors) -> Sectors:
    """The value of each wanted key, -1 where it is none; `keys` are in order."""
    if not len(keys):
        return np.full(len(wanted), -1, np.int64)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], -1)
