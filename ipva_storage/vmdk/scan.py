"""Whole grain tables at once, with NumPy: what `extents` and `check` need."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_storage.device import Extent, merge_extents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.vmdk.header import SparseHeader
    from ipva_storage.vmdk.tables import GrainTables

_ENTRY_ZEROED: Final = 1


def grain_extents(header: SparseHeader, tables: GrainTables) -> Iterator[Extent]:
    """Runs of grains that there are and of those that there are not, over the whole disk.

    Raises:
        VmdkError: a table is in neither copy.
    """
    return merge_extents(_runs(header, tables))


def _runs(header: SparseHeader, tables: GrainTables) -> Iterator[Extent]:
    grain_bytes, end_bytes = header.grain_bytes, header.capacity_bytes
    for index in range(header.table_count):
        first_bytes = index * header.gtes_per_gt * grain_bytes
        is_data = np.frombuffer(tables.table(index), np.uint32) > _ENTRY_ZEROED
        borders = np.flatnonzero(is_data[1:] != is_data[:-1]) + 1
        starts = [0, *borders.tolist(), len(is_data)]
        for start, stop in itertools.pairwise(starts):
            at = first_bytes + start * grain_bytes
            stop_bytes = min(first_bytes + stop * grain_bytes, end_bytes)
            if at < stop_bytes:
                yield Extent(at, stop_bytes - at, bool(is_data[start]))
