"""Runs of grains over a whole disk, with NumPy.

Whether a grain is there is what the primary table says, and the redundant one where the primary is
not in the file: by the rules of `tables` the other copy changes where a grain is, and never whether
it is.

What counts as data may hold zeros, so that no disk takes more than a bounded number of steps:

- A table that is named again is data as a whole, when it has a grain.
- After `EXACT_RUNS_MAX` runs, runs are widened to one part in `COARSE_PARTS` of the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from ipva_storage.device import Extent, merge_extents
from ipva_storage.vmdk.extent.places import Mask, Sectors, TablePlaces, read_places

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipva_storage.vmdk.extent.header import SparseHeader
    from ipva_storage.vmdk.extent.tables import GrainTables

EXACT_RUNS_MAX: Final = 1 << 18
"""Runs of grains told exactly, in two seconds. Confidence: chosen, by measuring."""

COARSE_PARTS: Final = 1 << 16
"""Into how many parts the disk is cut after that. Confidence: chosen."""


def scan_extents(header: SparseHeader, tables: GrainTables, hole_max: int) -> Iterator[Extent]:
    """Runs of grains with an entry above `hole_max`, and of the others, over the whole disk.

    Raises:
        VmdkError: a table is in neither copy.
    """
    return run_extents(header, _grain_runs(header, tables, hole_max))


class Shape(Protocol):
    """What is to be known of an extent for telling its runs."""

    @property
    def capacity_bytes(self) -> int:
        """Size of the disk in it."""

    @property
    def grain_bytes(self) -> int:
        """Size of a grain."""

    @property
    def grain_count(self) -> int:
        """Grains of the disk."""

    @property
    def gtes_per_gt(self) -> int:
        """Entries in a grain table."""


def run_extents(shape: Shape, parts: Iterator[tuple[Sectors, Sectors]]) -> Iterator[Extent]:
    """Runs of grains, given as starts and stops in order, and of what is between them."""
    return merge_extents(_extents(shape, parts))


def _extents(shape: Shape, parts: Iterator[tuple[Sectors, Sectors]]) -> Iterator[Extent]:
    grain_bytes, end_bytes = shape.grain_bytes, shape.capacity_bytes
    at = 0
    for start, stop in _coarsened(shape, parts):
        start_bytes = max(at, min(start * grain_bytes, end_bytes))
        stop_bytes = max(at, min(stop * grain_bytes, end_bytes))
        yield Extent(at, start_bytes - at, is_data=False)
        yield Extent(start_bytes, stop_bytes - start_bytes, is_data=True)
        at = stop_bytes
    yield Extent(at, end_bytes - at, is_data=False)


def _coarsened(shape: Shape, parts: Iterator[tuple[Sectors, Sectors]]) -> Iterator[tuple[int, int]]:
    """Runs one by one, widened and joined once there were many."""
    width = max(shape.gtes_per_gt, -(-shape.grain_count // COARSE_PARTS))
    count = 0
    for starts, stops in parts:
        if count + len(starts) > EXACT_RUNS_MAX:
            starts, stops = _joined(starts // width * width, -(-stops // width) * width)
        count += len(starts)
        yield from zip(starts.tolist(), stops.tolist(), strict=True)


def _joined(starts: Sectors, stops: Sectors) -> tuple[Sectors, Sectors]:
    """Runs in order, those that touch as one."""
    if not len(starts):
        return starts, stops
    is_apart = starts[1:] > stops[:-1]
    return starts[np.append(True, is_apart)], stops[np.append(is_apart, True)]


def _grain_runs(
    header: SparseHeader, tables: GrainTables, hole_max: int
) -> Iterator[tuple[Sectors, Sectors]]:
    """Runs of grains with an entry above `hole_max`, as starts and stops, some tables at a time."""
    places = _effective(header, tables)
    is_pending = np.zeros(header.table_count, bool)
    pending = tables.pending
    is_pending[list(pending)] = True
    exact = np.flatnonzero(is_pending | ~(places.is_blank | places.is_twice))
    whole = np.flatnonzero(_is_whole(places, hole_max) & ~is_pending)

    def parts() -> Iterator[tuple[Sectors, Mask]]:
        for batch in places.batches(exact):
            is_data = places.tables(batch) > hole_max
            for row in np.flatnonzero(is_pending[batch]).tolist():
                entries = tables.table(int(batch[row]))
                is_data[row] = np.frombuffer(entries, np.uint32) > hole_max
            yield batch, is_data

    yield from ordered_runs(header.gtes_per_gt, parts(), whole)


def ordered_runs(
    gtes: int, parts: Iterable[tuple[Sectors, Mask]], whole: Sectors
) -> Iterator[tuple[Sectors, Sectors]]:
    """Runs of grains, as starts and stops in order.

    Args:
        gtes: entries in a table.
        parts: tables in order, some at a time: their numbers, and which of their grains are data.
        whole: numbers of further tables, in order, all of whose grains are data.
    """
    first = 0
    for batch, is_data in parts:
        last = int(batch[-1])
        between = whole[np.searchsorted(whole, first) : np.searchsorted(whole, last)]
        yield _runs(gtes, batch, is_data, between)
        first = last
    rest = whole[np.searchsorted(whole, first) :]
    yield _runs(gtes, rest[:0], np.zeros((0, gtes), bool), rest)


def _effective(header: SparseHeader, tables: GrainTables) -> TablePlaces:
    """The tables that count: the primary ones, or redundant ones where those are lost."""
    raw = tables.raw
    primary = read_places(raw, header, header.gd_offset_sectors)
    redundant = None
    if header.has_redundant:
        redundant = read_places(raw, header, header.rgd_offset_sectors)
    if primary is None:
        primary = np.zeros(header.table_count, np.int64)
    found = TablePlaces.of(raw, header, primary)
    if redundant is not None and not found.is_there.all():
        places = np.where(found.is_there | (redundant == 0), primary, redundant)
        found = TablePlaces.of(raw, header, places)
    for index in np.flatnonzero(~found.is_there & (found.places > 0))[:1].tolist():
        tables.table(index)  # in neither copy: this says so
    return found


def _is_whole(places: TablePlaces, hole_max: int) -> Mask:
    """Which tables that are named again have a grain."""
    again = np.flatnonzero(places.is_twice & ~places.is_blank)
    found = np.zeros(len(places.places), bool)
    sectors, firsts, which = np.unique(places.places[again], return_index=True, return_inverse=True)
    unique = TablePlaces(
        places.raw,
        places.header,
        sectors,
        np.ones(len(sectors), bool),
        np.zeros(len(sectors), bool),
        np.zeros(len(sectors), bool),
    )
    has_grain = np.zeros(len(firsts), bool)
    for batch in unique.batches(np.arange(len(sectors))):
        has_grain[batch] = (unique.tables(batch) > hole_max).any(axis=1)
    found[again] = has_grain[which]
    return found


def _runs(gtes: int, indexes: Sectors, is_data: Mask, whole: Sectors) -> tuple[Sectors, Sectors]:
    """Runs of grains in tables seen one by one and in those that are data as a whole."""
    table, entry = np.nonzero(is_data)
    grains = indexes[table] * gtes + entry
    starts, stops = _joined(grains, grains + 1)
    if not len(whole):
        return starts, stops
    starts = np.concatenate((starts, whole * gtes))
    stops = np.concatenate((stops, whole * gtes + gtes))
    order = np.argsort(starts, kind="stable")
    return _joined(starts[order], stops[order])
