"""Grains that hold data and belong to nothing: what is left where tables were overwritten by zeros.

A power cut leaves some as well: their data was written, and their entries were not. So tables count
as lost only where more is left over than that explains:

- the file was closed, and parts of tables (a sector of one each) are zeros in all copies; and
- `FEW_BYTES` and more are left over that lie before a grain in use, or that are a `SHARE` and more
  of those in use. Entries of 1 may each have left a grain over.

Cost: each table is read once a copy; of a grain that is left over as much as it begins with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from ipva_storage.device import is_zero, read
from ipva_storage.units import KIB, MIB, SECTOR_BYTES, format_size
from ipva_storage.vmdk.extent.places import Mask, Sectors, TablePlaces, read_directories
from ipva_storage.vmdk.extent.tables import ENTRY_MAX, ENTRY_ZEROED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.vmdk.extent.header import SparseHeader

FEW_BYTES: Final = MIB
"""Left over by a power cut as a rule: what was not flushed. Confidence: chosen."""

SHARE: Final = 1 / 8
"""Of the grains in use, what is more than a power cut leaves behind them. Confidence: chosen."""

SALVAGE: Final = "ipva disk convert DISK saved.vmdk -O monolithicSparse --salvage"
"""What copies all of a disk that is left."""

_HEAD_BYTES: Final = 4 * KIB
_PART_BYTES: Final = 1 << 17
_SECTOR_ENTRIES: Final = SECTOR_BYTES // 4


class LostTables(NamedTuple):
    """What is known where parts of the tables are lost."""

    grain_count: int
    """Grains that hold data and belong to nothing."""
    length_bytes: int
    """What they take."""
    runs: tuple[tuple[int, int], ...]
    """Grains of the disk that no table tells of, in order: the first, and the one behind."""

    def __str__(self) -> str:
        """The grains, for a message."""
        return f"{self.grain_count} grains ({format_size(self.length_bytes)})"


def lost_tables(
    raw: BlockDevice, header: SparseHeader, *, is_damaged: bool = False
) -> LostTables | None:
    """Which parts of the tables are lost; None where nothing says so.

    Args:
        raw: the file of a hosted sparse extent.
        header: its header, without `header_problems`.
        is_damaged: whether other damage is known, so that one grain left over is enough.
    """
    copies = read_directories(raw, header)
    if header.unclean_shutdown or not copies:
        return None
    survey = _Survey.of(raw, header, copies)
    runs = survey.blank_runs()
    left = survey.left() if runs else (0, 0)
    before, behind = left
    before, count = max(before - survey.zeroed_count, 0), before + behind - survey.zeroed_count
    few = 1 if is_damaged else FEW_BYTES // header.grain_bytes
    if before < few and count < max(few, 0 if is_damaged else SHARE * survey.used_count):
        return None
    count = sum(left)
    return LostTables(count, count * header.grain_bytes, runs)


@dataclass
class _Survey:
    """What all tables name, whichever copy it is in."""

    raw: BlockDevice
    header: SparseHeader
    used: np.typing.NDArray[np.uint8]
    """A bit for each place of a grain in the file."""
    is_blank: Mask
    """Which parts of the tables are zeros in all copies; shape (tables, parts of each)."""
    part_entries: int
    last_slot: int = -1
    zeroed_count: int = 0

    @classmethod
    def of(cls, raw: BlockDevice, header: SparseHeader, copies: list[TablePlaces]) -> _Survey:
        """Read all tables."""
        gtes = header.gtes_per_gt
        part = _SECTOR_ENTRIES if gtes % _SECTOR_ENTRIES == 0 else gtes
        end_sector = min(-(-raw.size_bytes // SECTOR_BYTES), ENTRY_MAX + 1)
        used = np.zeros((end_sector // header.grain_sectors + 2) // 8 + 1, np.uint8)
        survey = cls(raw, header, used, np.ones((header.table_count, gtes // part), bool), part)
        is_read = np.any([~(copy.is_blank | copy.is_twice) for copy in copies], axis=0)
        for batch in copies[0].batches(np.flatnonzero(is_read)):
            survey._add(batch, [copy.tables(batch) for copy in copies], end_sector)
        return survey

    def _add(self, batch: Sectors, found: list[Sectors], end_sector: int) -> None:
        header = self.header
        named = np.any([tables > 0 for tables in found], axis=0)
        shape = (len(batch), -1, self.part_entries)
        self.is_blank[batch] = ~named.reshape(shape).any(axis=2)
        self.zeroed_count += int(np.any([one == ENTRY_ZEROED for one in found], axis=0).sum())
        for tables in found:
            is_grain = (tables >= max(header.overhead_sectors, 2)) & (tables < end_sector)
            slots, rest = np.divmod(tables[is_grain] - self._phase, header.grain_sectors)
            slots = np.concatenate([slots, slots[rest > 0] + 1])
            np.bitwise_or.at(self.used, slots >> 3, np.left_shift(1, slots & 7).astype(np.uint8))
            self.last_slot = max(self.last_slot, int(slots.max(initial=-1)))

    @property
    def _phase(self) -> int:
        return self.header.overhead_sectors % self.header.grain_sectors

    @property
    def used_count(self) -> int:
        """Grains in use."""
        parts = range(0, len(self.used), _PART_BYTES)
        return sum(int(np.bitwise_count(self.used[at : at + _PART_BYTES]).sum()) for at in parts)

    def blank_runs(self) -> tuple[tuple[int, int], ...]:
        """Grains of the disk whose parts of tables are zeros."""
        count, size = self.header.grain_count, self.part_entries
        is_blank = np.concatenate([[False], self.is_blank.ravel()[: -(-count // size)], [False]])
        edges = np.flatnonzero(is_blank[1:] != is_blank[:-1]).reshape(-1, 2) * size
        return tuple((first, min(stop, count)) for first, stop in edges.tolist())

    def left(self) -> tuple[int, int]:
        """Grains that hold data and belong to nothing, before and behind the last one in use."""
        before = behind = 0
        for slot in self._free():
            if self._has_data(slot):
                before += slot < self.last_slot
                behind += slot > self.last_slot
        return before, behind

    def _free(self) -> Iterator[int]:
        """Places that nothing names, where the host keeps data."""
        grain_bytes, phase_bytes = self.header.grain_bytes, self._phase * SECTOR_BYTES
        first = self.header.overhead_sectors // self.header.grain_sectors
        for run in self.raw.extents():
            if not run.is_data:
                continue
            first = max(first, (run.offset_bytes - phase_bytes) // grain_bytes)
            end = -(-(run.offset_bytes + run.length_bytes - phase_bytes) // grain_bytes)
            while first < end:
                part = self.used[first >> 3 : (first >> 3) + _PART_BYTES]
                base = first & ~7
                free = np.flatnonzero(np.unpackbits(part, bitorder="little") == 0) + base
                yield from free[(free >= first) & (free < end)].tolist()
                first = min(base + 8 * len(part), end) if len(part) else end

    def _has_data(self, slot: int) -> bool:
        at = slot * self.header.grain_bytes + self._phase * SECTOR_BYTES
        length = min(self.header.grain_bytes, self.raw.size_bytes - at)
        head = min(length, _HEAD_BYTES)
        if length <= 0:
            return False
        if not is_zero(read(self.raw, at, head)):
            return True
        return not is_zero(read(self.raw, at + head, length - head))
