"""Where the grain tables of a sparse extent are, all at once, with NumPy.

A directory may have two million entries in a file of a few MiB: most are zero, many may name one
table, and the tables of a new disk are holes of the host. None of these costs a step of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from ipva_formats import dtype_of
from ipva_formats.vmdk import GRAIN_ENTRY
from ipva_storage.device import read
from ipva_storage.units import SECTOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.vmdk.extent.header import SparseHeader

Sectors = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

BATCH_ENTRIES: Final = 1 << 18
"""Entries of grain tables looked at together, 1 MiB of them. Confidence: chosen."""

HOST_RUNS_MAX: Final = 1 << 16
"""Runs of the host's file asked for; what is behind them counts as data. Confidence: chosen."""


@dataclass(frozen=True)
class TablePlaces:
    """The tables that a directory names, and access to them."""

    raw: BlockDevice
    header: SparseHeader
    places: Sectors
    """Sector of each table; shape (tables,)."""
    is_there: Mask
    """Which tables are in the file."""
    is_twice: Mask
    """Which tables overlap one that lies before, and need not be read again."""
    is_blank: Mask
    """Which tables hold zeros only, because the host keeps a hole there, or are not there."""

    @classmethod
    def of(cls, raw: BlockDevice, header: SparseHeader, places: Sectors) -> TablePlaces:
        """Look at a directory; shape (tables,)."""
        length_bytes = 4 * header.gtes_per_gt
        is_there = (places > 0) & (places * SECTOR_BYTES + length_bytes <= raw.size_bytes)
        there = np.flatnonzero(is_there)
        order = there[np.argsort(places[there], kind="stable")]
        is_twice = np.zeros(len(places), bool)
        is_twice[order[1:]] = np.diff(places[order]) < header.table_sectors
        is_blank = ~is_there
        is_blank[order] = _is_in_hole(raw, places[order] * SECTOR_BYTES, length_bytes)
        return cls(raw, header, places, is_there, is_twice, is_blank)

    def tables(self, indexes: Sectors) -> Sectors:
        """Some tables, zeros for those that are blank or there twice; shape (tables, entries)."""
        gtes, stride = self.header.gtes_per_gt, self.header.table_sectors
        places = self.places[indexes]
        found = np.zeros((len(indexes), gtes), np.int64)
        usable = np.flatnonzero(~self.is_blank[indexes] & ~self.is_twice[indexes])
        is_next = (np.diff(usable) == 1) & (np.diff(places[usable]) == stride)
        for run in np.split(usable, np.flatnonzero(~is_next) + 1):
            if len(run):
                length_bytes = (len(run) - 1) * stride * SECTOR_BYTES + 4 * gtes
                data = read(self.raw, int(places[run[0]]) * SECTOR_BYTES, length_bytes)
                padded = data.ljust(len(run) * stride * SECTOR_BYTES, b"\0")
                found[run] = _entries(padded).reshape(len(run), -1)[:, :gtes]
        return found

    def batches(self, indexes: Sectors) -> Iterator[Sectors]:
        """The indexes, as many at a time as have `BATCH_ENTRIES` entries."""
        step = max(1, BATCH_ENTRIES // self.header.gtes_per_gt)
        for first in range(0, len(indexes), step):
            yield indexes[first : first + step]


def read_places(raw: BlockDevice, header: SparseHeader, offset_sectors: int) -> Sectors | None:
    """The directory at a sector, shape (tables,), or None where it leaves the file."""
    offset_bytes, length_bytes = offset_sectors * SECTOR_BYTES, header.table_count * 4
    if not offset_sectors or offset_bytes + length_bytes > raw.size_bytes:
        return None
    return _entries(read(raw, offset_bytes, length_bytes))


def read_directories(raw: BlockDevice, header: SparseHeader) -> list[TablePlaces]:
    """The primary directory and the redundant one, those that there are."""
    sectors = [header.gd_offset_sectors]
    if header.has_redundant:
        sectors.append(header.rgd_offset_sectors)
    found = [read_places(raw, header, sector) for sector in sectors]
    return [TablePlaces.of(raw, header, places) for places in found if places is not None]


def other_parts(header: SparseHeader, directories: Iterable[int]) -> list[range]:
    """Sectors of the header, the descriptor and the directories: no table can be there.

    Args:
        header: the extent's header.
        directories: the first sector of each directory.
    """
    first, length = header.descriptor_offset_sectors, header.directory_sectors
    return [
        range(1),
        range(first, first + header.descriptor_sectors),
        *(range(sector, sector + length) for sector in directories),
    ]


def tables_to_heal(raw: BlockDevice, header: SparseHeader) -> list[int]:
    """Tables of which a copy may hold more than zeros, or of which none is in the file."""
    copies = read_directories(raw, header)
    is_named = np.any([copy.places > 0 for copy in copies], axis=0)
    is_lost = ~np.any([copy.is_there for copy in copies], axis=0)
    is_blank = np.all([copy.is_blank for copy in copies], axis=0)
    indexes: list[int] = np.flatnonzero(is_named & (is_lost | ~is_blank)).tolist()
    return indexes


def _entries(data: bytes) -> Sectors:
    return np.frombuffer(data, dtype_of(GRAIN_ENTRY))["sector"].astype(np.int64)


def _is_in_hole(raw: BlockDevice, starts_bytes: Sectors, length_bytes: int) -> Mask:
    """Which ranges of one length, in order of their starts, the host keeps as holes."""
    if not len(starts_bytes):
        return np.zeros(0, bool)
    return HostData.of(raw, int(starts_bytes[-1]) + length_bytes).is_absent(
        starts_bytes, length_bytes
    )


@dataclass(frozen=True)
class HostData:
    """What the host keeps as data of a file, as far as anybody asked."""

    starts: Sectors
    stops: Sectors
    """In bytes, both of them."""

    @classmethod
    def of(cls, raw: BlockDevice, end_bytes: int) -> HostData:
        """Ask the host, up to a byte."""
        runs = list(_data_runs(raw, end_bytes))
        return cls(
            np.array([start for start, _ in runs], np.int64),
            np.array([stop for _, stop in runs], np.int64),
        )

    def is_absent(self, starts_bytes: Sectors, length_bytes: int) -> Mask:
        """Which ranges of one length are holes."""
        begun = np.searchsorted(self.starts, starts_bytes + length_bytes, "left")
        ended = np.searchsorted(self.stops, starts_bytes, "right")
        return np.asarray(begun == ended)


def _data_runs(raw: BlockDevice, end_bytes: int) -> Iterator[tuple[int, int]]:
    """What the host keeps as data, up to a byte."""
    for count, run in enumerate(raw.extents()):
        if run.offset_bytes >= end_bytes:
            return
        if count == HOST_RUNS_MAX:
            yield run.offset_bytes, raw.size_bytes
            return
        if run.is_data:
            yield run.offset_bytes, run.offset_bytes + run.length_bytes
