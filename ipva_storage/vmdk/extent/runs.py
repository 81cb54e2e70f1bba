"""Runs of grains over a whole disk: what `extents` needs.

A small disk is told by going through its tables; a large one with NumPy (`scan`), whose import
takes longer than a small disk does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipva_storage.device import Extent, merge_extents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.vmdk.extent.header import SparseHeader
    from ipva_storage.vmdk.extent.tables import GrainTables

SMALL_TABLES: Final = 512
"""Up to so many tables, 16 GiB as a rule, a disk is small. Confidence: chosen, by measuring."""


def grain_extents(
    header: SparseHeader, tables: GrainTables, *, count_zeroed: bool = False
) -> Iterator[Extent]:
    """Runs of grains that there are and of those that there are not, over the whole disk.

    Args:
        header: of the extent.
        tables: of the extent.
        count_zeroed: whether a grain that is marked as zeros is one that there is, as it is where a
            parent would show through in its place.

    Raises:
        VmdkError: a table is in neither copy.
    """
    hole_max = 0 if count_zeroed else 1
    if header.table_count <= SMALL_TABLES and not tables.is_writable:
        return merge_extents(_small(header, tables, hole_max))
    from ipva_storage.vmdk.extent.scan import scan_extents

    return scan_extents(header, tables, hole_max)


def _small(header: SparseHeader, tables: GrainTables, hole_max: int) -> Iterator[Extent]:
    at = 0
    for start, stop in _grain_runs(header, tables, hole_max):
        start_bytes = min(start * header.grain_bytes, header.capacity_bytes)
        stop_bytes = min(stop * header.grain_bytes, header.capacity_bytes)
        yield Extent(at, start_bytes - at, is_data=False)
        yield Extent(start_bytes, stop_bytes - start_bytes, is_data=True)
        at = stop_bytes
    yield Extent(at, header.capacity_bytes - at, is_data=False)


def _grain_runs(
    header: SparseHeader, tables: GrainTables, hole_max: int
) -> Iterator[tuple[int, int]]:
    """Runs of grains with an entry above `hole_max`."""
    gtes = header.gtes_per_gt
    for index in range(header.table_count):
        if tables.is_empty(index):
            continue
        start: int | None = None
        for grain, entry in enumerate(tables.table(index), index * gtes):
            if entry > hole_max:
                start = grain if start is None else start
            elif start is not None:
                yield start, grain
                start = None
        if start is not None:
            yield start, index * gtes + gtes
