"""The header that fits a file best: what it says, corrected by everything else that is left.

Candidates are the header as it stands, the footer, the layout that VMware and qemu use, and
directories that are found in the file; each is judged by how well the file agrees with it. What is
there already wins unless another one fits better.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_storage.device import read
from ipva_storage.errors import VmdkError
from ipva_storage.units import MIB, SECTOR_BYTES
from ipva_storage.vmdk.access import read_embedded
from ipva_storage.vmdk.checking.sparse import footer_oddities, header_oddities
from ipva_storage.vmdk.codec import inflate
from ipva_storage.vmdk.creation import (
    DESCRIPTOR_SECTORS,
    GRAIN_SECTORS,
    GTES_PER_GT,
    sparse_header,
)
from ipva_storage.vmdk.extent.header import (
    GD_AT_END,
    NEWLINES,
    SPARSE_MAGIC,
    SparseHeader,
    header_problems,
    parse_header,
)
from ipva_storage.vmdk.extent.markers import Kind, walk
from ipva_storage.vmdk.extent.pack import stream_header
from ipva_storage.vmdk.extent.places import read_directories, read_places
from ipva_storage.vmdk.extent.stream import FOOTER_OFFSET_BYTES, GRAIN_MARKER
from ipva_storage.vmdk.extent.tables import usual_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.vmdk.extent.places import Mask, Sectors

SCAN_BYTES: Final = 64 * MIB
"""How far into a file directories are looked for. Confidence: chosen."""

GRAIN_MAX_BYTES: Final = MIB
"""The largest grain that is read, in bytes; see `extent.header`."""

WALK_RECORDS: Final = 32
"""Parts of a stream that are looked at to judge a header. Confidence: chosen."""


def best_header(
    raw: BlockDevice,
    said_sectors: int | None,
    said_kind: str,
    *,
    has_descriptor: bool,
    is_disputed: bool = False,
    read_with: SparseHeader | None = None,
) -> SparseHeader | None:
    """The header that a file should have; None where nothing fits.

    Args:
        raw: the file, whose first sector may hold anything.
        said_sectors: its capacity by the descriptor, or None.
        said_kind: its kind by the descriptor, or an empty text.
        has_descriptor: whether its descriptor is in it, behind the header.
        is_disputed: the header says another capacity, and is not believed less for that.
        read_with: the header with which all of it can be read; then its grains and tables are as
            that says, and only where the directories are is asked.
    """
    is_stream = _is_stream(raw, said_kind)
    best: tuple[float, SparseHeader] | None = None
    for candidate in _candidates(raw, said_sectors, has_descriptor=has_descriptor):
        if candidate.is_compressed is not is_stream:
            continue
        if read_with is not None and _shape(candidate) != _shape(read_with):
            continue
        points = _points(raw, candidate, None if is_disputed else said_sectors)
        if points is not None and is_disputed:  # the directories tell more than what they lead to
            points -= 2.0 * sum(1 for _ in header_oddities(raw, candidate))
        if points is not None and (best is None or points > best[0]):
            best = points, candidate
    return best[1] if best is not None else None


def _shape(header: SparseHeader) -> tuple[int, int, int]:
    """What decides which grain is where."""
    return header.grain_sectors, header.gtes_per_gt, header.overhead_sectors


def agrees(raw: BlockDevice, header: SparseHeader) -> bool:
    """Whether a header of tables needs no other one: all that it leads to is where it can be."""
    if any(header_problems(header, raw.size_bytes)) or header.is_compressed:
        return False
    if any(header_oddities(raw, header)):
        return False
    copies = read_directories(raw, header)
    is_whole = all(copy.is_there.all() and not copy.is_twice.any() for copy in copies)
    count = 2 if header.has_redundant else 1
    return (
        is_whole
        and len(copies) == count
        and all(_sound(raw, header, _named(raw, header, copy.places)).all() for copy in copies)
    )


def _candidates(
    raw: BlockDevice, said_sectors: int | None, *, has_descriptor: bool
) -> Iterator[SparseHeader]:
    """Headers that may be right, the one that is there first."""
    there = _there(raw)
    known = [there] if there is not None else []
    footer = _footer(raw)
    if footer is not None:
        known.append(replace(footer, gd_offset_sectors=GD_AT_END))
        known.append(footer)
    capacities = {each.capacity_sectors for each in known} | {said_sectors or 0}
    grains = {each.grain_sectors for each in known} | {GRAIN_SECTORS}
    lengths = {each.gtes_per_gt for each in known} | {GTES_PER_GT}
    rooms = {DESCRIPTOR_SECTORS, *(each.descriptor_sectors for each in known)}
    rooms = {room for room in rooms if 0 < room <= 2048} if has_descriptor else {0}
    for header in known:
        yield header
        yield from _corrected(header, said_sectors)
    for capacity in sorted(capacities):
        for grain in sorted(grains):
            for gtes in sorted(lengths):
                yield from _usual(raw, capacity, grain, gtes, rooms)


def _there(raw: BlockDevice) -> SparseHeader | None:
    """The header as it stands, its magic put right; None where it is blank."""
    if raw.size_bytes < SECTOR_BYTES:
        return None
    data = read(raw, 0, SECTOR_BYTES)
    if not any(data[4:79]):
        return None
    return replace(parse_header(SPARSE_MAGIC + data[4:]), newlines=NEWLINES)


def _footer(raw: BlockDevice) -> SparseHeader | None:
    at = raw.size_bytes - FOOTER_OFFSET_BYTES
    if at < SECTOR_BYTES:
        return None
    try:
        return parse_header(read(raw, at, SECTOR_BYTES))
    except VmdkError:
        return None


def _corrected(header: SparseHeader, said_sectors: int | None) -> Iterator[SparseHeader]:
    """The header with one or two fields put as they usually are."""
    usual_flags = header.flags & 0x3_0007 | 1
    fixes: list[dict[str, int]] = [
        {"capacity_sectors": said_sectors or header.capacity_sectors},
        {"grain_sectors": GRAIN_SECTORS},
        {"gtes_per_gt": GTES_PER_GT},
        {"version": 3 if header.is_compressed else 1},
        {"flags": usual_flags},
        {"flags": 3, "compress_algorithm": 0},
        {"flags": usual_flags | 2},
        {"flags": 0x3_0001, "compress_algorithm": 1},
        {"flags": 0x3_0003, "compress_algorithm": 1},
        {"gd_offset_sectors": GD_AT_END},
        {"rgd_offset_sectors": 0, "flags": usual_flags & ~2},
        {"overhead_sectors": _stream_overhead(header)},
    ]
    for fix in fixes:
        yield replace(header, **fix)  # type: ignore[arg-type]
    yield from _usual_places(header)


def _stream_overhead(header: SparseHeader) -> int:
    """Where the first grain is when only the descriptor lies before it."""
    grain = max(header.grain_sectors, 1)
    return -(-max(header.descriptor_end_sectors, 1) // grain) * grain


def _usual_places(header: SparseHeader) -> Iterator[SparseHeader]:
    """The header with directories and data where they follow from the rest."""
    try:
        usual = sparse_header(
            header.capacity_sectors,
            header.grain_sectors,
            header.gtes_per_gt,
            min(header.descriptor_sectors, 2048),
        )
    except (ZeroDivisionError, OverflowError, MemoryError):
        return
    copy_sectors = usual.gd_offset_sectors - usual.rgd_offset_sectors
    for name in ("rgd_offset_sectors", "gd_offset_sectors", "overhead_sectors"):
        yield replace(header, **{name: getattr(usual, name)})
    yield replace(header, gd_offset_sectors=header.rgd_offset_sectors + copy_sectors)
    if header.gd_offset_sectors > copy_sectors:
        yield replace(header, rgd_offset_sectors=header.gd_offset_sectors - copy_sectors)
    grain = max(header.grain_sectors, 1)
    end = max(header.gd_offset_sectors, header.rgd_offset_sectors) + copy_sectors
    yield replace(header, overhead_sectors=-(-end // grain) * grain)
    for start, room in ((1, DESCRIPTOR_SECTORS), (1, header.descriptor_sectors)):
        yield replace(header, descriptor_offset_sectors=start, descriptor_sectors=room)


def _usual(
    raw: BlockDevice, capacity: int, grain: int, gtes: int, rooms: set[int]
) -> Iterator[SparseHeader]:
    """Headers of the layouts that programs make, and of directories found in the file."""
    for room in sorted(rooms):
        if not 1 <= capacity <= 1 << 40 or not 8 <= grain <= 2048 or not 1 <= gtes <= 512:
            return
        header = sparse_header(capacity, grain, gtes, room)
        yield header
        if room:
            stream = stream_header(capacity, grain, gtes, room)
            yield stream
            yield replace(stream, gd_offset_sectors=header.rgd_offset_sectors)
            yield replace(header, version=3, flags=stream.flags | 2, compress_algorithm=1)
        places = _found_directories(raw, header)
        for index, first in enumerate(places):
            yield _single(header, first)
            for second in places[index + 1 :]:
                yield _pair(header, first, second)


def _single(header: SparseHeader, sector: int) -> SparseHeader:
    copy_sectors = header.directory_sectors + header.table_count * header.table_sectors
    end = -(-(sector + copy_sectors) // header.grain_sectors) * header.grain_sectors
    return replace(
        header, flags=1, rgd_offset_sectors=0, gd_offset_sectors=sector, overhead_sectors=end
    )


def _pair(header: SparseHeader, first: int, second: int) -> SparseHeader:
    single = _single(header, second)
    return replace(single, flags=3, rgd_offset_sectors=first)


def _found_directories(raw: BlockDevice, header: SparseHeader) -> list[int]:
    """Sectors where a directory for this capacity may start: its tables follow it, and fit."""
    found: list[int] = []
    limit = min(raw.size_bytes, SCAN_BYTES) // SECTOR_BYTES
    per_read = 4 * MIB // SECTOR_BYTES
    for first in range(0, limit, per_read):
        count = min(per_read, limit - first)
        data = np.frombuffer(read(raw, first * SECTOR_BYTES, count * SECTOR_BYTES), "<u4")
        words = data.reshape(count, -1)[:, 0].astype(np.int64)
        sectors = np.arange(first, first + count)
        for sector in sectors[words == sectors + header.directory_sectors].tolist():
            places = read_places(raw, header, sector)
            if places is not None and _usual_share(header, sector, places) == 1:
                found.append(sector)
    return found[:8]


def _usual_share(header: SparseHeader, sector: int, places: Sectors) -> float:
    """How many entries of a directory are as they usually are."""
    usual = np.array(usual_directory(header, sector), np.int64)
    return float((places == usual).mean()) if len(places) else 0.0


def _points(raw: BlockDevice, header: SparseHeader, said_sectors: int | None) -> float | None:
    """How well a file agrees with a header; None where it cannot be used at all."""
    if any(header_problems(header, raw.size_bytes)):
        return None
    points = 1.0 if header.capacity_sectors == said_sectors else 0.0
    points -= 0.5 * sum(1 for _ in header_oddities(raw, header))
    points -= 0.5 * sum(1 for _ in footer_oddities(raw, header))
    if header.descriptor_offset_sectors and _has_text(raw, header):
        points += 1.0
    if header.is_compressed:
        return points + _stream_points(raw, header)
    return points + _directory_points(raw, header, _sound_share)


def _is_stream(raw: BlockDevice, said_kind: str) -> bool:
    """Whether a file is a stream, by what is in it, its header and its descriptor, in this order.

    A compressed grain that inflates in the usual place decides; else the others have a vote each.
    """
    there, footer = _there(raw), _footer(raw)
    votes = {"streamOptimized": 2, "monolithicSparse": -2}.get(said_kind, 0)
    for header in (each for each in (there, footer) if each is not None):
        votes += sum(1 if bit else -1 for bit in (header.is_compressed, header.has_markers))
        votes += {0: -1, 1: 1}.get(header.compress_algorithm, 0)
    usual = stream_header(1 << 40, GRAIN_SECTORS, GTES_PER_GT, DESCRIPTOR_SECTORS)
    starts = {each.overhead_sectors for each in (there, footer, usual) if each is not None}
    for start in starts:
        if not 1 <= start <= raw.size_bytes // SECTOR_BYTES:
            continue
        first = next(walk(raw, replace(usual, overhead_sectors=start)), None)
        if first is not None and first.kind is Kind.GRAIN and _inflates(first.data):
            return True
        if first is not None and first.kind in (Kind.CUT, Kind.TABLE):
            votes += 2
    return votes > 0


def _inflates(data: memoryview) -> bool:
    """Whether it is a zlib stream of whole sectors, as a grain of whatever size is."""
    try:
        plain, _ = inflate(data, GRAIN_MAX_BYTES)
    except VmdkError:
        return False
    return len(plain) >= SECTOR_BYTES and not len(plain) % SECTOR_BYTES


def _has_text(raw: BlockDevice, header: SparseHeader) -> bool:
    try:
        return bool(read_embedded(raw, header).extents)
    except VmdkError:
        return False


def _directory_points(
    raw: BlockDevice,
    header: SparseHeader,
    share: Callable[[BlockDevice, SparseHeader, Sectors], float],
) -> float:
    """How well the directories and the tables that they name agree with a header.

    Args:
        raw: the file.
        header: the candidate.
        share: how many of the entries in some tables can be right.
    """
    points = 0.0
    for sector in (header.gd_offset_sectors, header.rgd_offset_sectors):
        if not sector or (sector == header.rgd_offset_sectors and not header.has_redundant):
            continue
        places = read_places(raw, header, sector)
        if places is None:
            points -= 2.0
            continue
        is_inside = (places > 0) & (places * SECTOR_BYTES < raw.size_bytes)
        is_apart = len(np.unique(places[is_inside])) / max(len(places), 1)
        points += 2.0 * _usual_share(header, sector, places) + is_apart
        points += 2.0 * share(raw, header, places[is_inside])
    return points


def _sound_share(raw: BlockDevice, header: SparseHeader, places: Sectors) -> float:
    """Of the entries in some tables, how many can be grains."""
    found = _named(raw, header, places[:: max(1, len(places) // 64)])
    if not len(found):
        return 0.0
    is_nearest = (found == header.overhead_sectors).any()  # a grain lies behind the metadata
    return float(_sound(raw, header, found).mean()) + (0.1 if is_nearest else 0.0)


def _named(raw: BlockDevice, header: SparseHeader, places: Sectors) -> Sectors:
    """The grains that some tables name."""
    entries = [np.zeros(0, np.int64)]
    for sector in places.tolist():
        at, length = sector * SECTOR_BYTES, 4 * header.gtes_per_gt
        if at + length <= raw.size_bytes:
            entries.append(np.frombuffer(read(raw, at, length), "<u4").astype(np.int64))
    found = np.concatenate(entries)
    return found[found > 1]


def _sound(raw: BlockDevice, header: SparseHeader, sectors: Sectors) -> Mask:
    """Which grains can be where they are said to be."""
    first, grain = header.overhead_sectors, header.grain_sectors
    found: Mask = (sectors >= first) & ((sectors - first) % grain == 0)
    return found & (sectors * SECTOR_BYTES < raw.size_bytes)


def _marked_share(raw: BlockDevice, header: SparseHeader, places: Sectors) -> float:
    """Of the entries in some tables, how many point to the marker of their own grain."""
    right = total = 0
    for index, sector in enumerate(places[:8].tolist()):
        at, length = sector * SECTOR_BYTES, 4 * header.gtes_per_gt
        if at + length > raw.size_bytes:
            continue
        entries = np.frombuffer(read(raw, at, length), "<u4")
        for entry in np.flatnonzero(entries > 1)[:16].tolist():
            total += 1
            place = int(entries[entry]) * SECTOR_BYTES
            if place + SECTOR_BYTES <= raw.size_bytes:
                lba, size = GRAIN_MARKER.unpack(read(raw, place, GRAIN_MARKER.size))
                grain = index * header.gtes_per_gt + entry
                right += bool(size) and lba == grain * header.grain_sectors
    return right / total if total else 0.0


def _stream_points(raw: BlockDevice, header: SparseHeader) -> float:
    points = 0.0
    for count, record in enumerate(walk(raw, header)):
        if record.kind in (Kind.DAMAGE, Kind.CUT):
            points -= 0.1
        elif record.kind is Kind.GRAIN:
            points += 0.05 * _fits(record.data, header)
        elif record.kind is not Kind.ZEROS:
            points += 0.1
        if count == 0 and record.kind in (Kind.GRAIN, Kind.TABLE, Kind.DIRECTORY):
            points += 3.0
        if count >= WALK_RECORDS:
            break
    if not header.is_gd_at_end:
        return points + _directory_points(raw, header, _marked_share)
    footer = _footer(raw)
    if footer is None or footer.is_gd_at_end:
        return points
    there = replace(header, gd_offset_sectors=footer.gd_offset_sectors)
    return points + 0.5 + _directory_points(raw, there, _marked_share)


def _fits(data: memoryview, header: SparseHeader) -> float:
    """Whether a compressed grain has the size of a grain."""
    try:
        plain, _ = inflate(data, header.grain_bytes)
    except VmdkError:
        return -1.0
    return 1.0 if len(plain) == header.grain_bytes else -1.0
