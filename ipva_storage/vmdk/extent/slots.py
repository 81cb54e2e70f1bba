"""Which grain is where in the file of a sparse extent, and moving grains to other places.

What the disk reads as never changes: a grain is copied to a place that nothing names, made durable
there, and entered in both copies of the tables; only then its old place may be used again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_storage.device import read
from ipva_storage.device.base import announce
from ipva_storage.errors import VmdkError
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.extent.tables import ENTRY_ZEROED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipva_storage.vmdk.extent.header import SparseHeader
    from ipva_storage.vmdk.extent.places import Sectors
    from ipva_storage.vmdk.extent.sparse import SparseExtent

MOVE_GRAINS: Final = 64
"""Grains moved between two barriers. Confidence: chosen."""

GRAINS_MAX: Final = 1 << 23
"""Grains rearranged in one file, 512 GiB as a rule, which bounds memory. Confidence: chosen."""


@dataclass(frozen=True)
class Slots:
    """Which grain is where in the file of a sparse extent, in the order of the file.

    Grains behind the end of the disk are among them, where a power cut left some.
    """

    header: SparseHeader
    grains: Sectors
    sectors: Sectors

    @classmethod
    def of(cls, extent: SparseExtent) -> Slots:
        """Read all tables; an extent whose grains overlap or stray is refused.

        Raises:
            VmdkError: it is damaged, or has more grains than memory should hold.
        """
        header, tables = extent.header, extent.tables
        room = extent.raw.size_bytes // header.grain_bytes + 1
        grains, sectors, count = [], [], 0
        for index in range(header.table_count):
            if tables.is_empty(index):
                continue
            entries = np.array(tables.table(index), np.int64)
            at = np.flatnonzero(entries > ENTRY_ZEROED)
            grains.append(at + index * header.gtes_per_gt)
            sectors.append(entries[at])
            count += len(at)
            if count > room:
                raise _overlap(extent)
            if count > GRAINS_MAX:
                raise VmdkError(
                    "it has too many grains to be rearranged in place",
                    where=extent.name,
                    remedy="make it anew: ipva disk convert DISK new.vmdk -O monolithicSparse",
                )
        none = np.zeros(0, np.int64)
        joined = np.concatenate([none, *grains]), np.concatenate([none, *sectors])
        order = np.argsort(joined[1], kind="stable")
        found = cls(header, joined[0][order], joined[1][order])
        found._refuse_damage(extent)
        return found

    def __len__(self) -> int:
        return len(self.grains)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Each grain and its sector."""
        return zip(self.grains.tolist(), self.sectors.tolist(), strict=True)

    @property
    def packed_end_bytes(self) -> int:
        """Where the file would end if the grains lay without gaps."""
        header = self.header
        return (header.overhead_sectors + len(self) * header.grain_sectors) * SECTOR_BYTES

    def moves(self) -> list[tuple[int, int, int]]:
        """Grains that lie too far behind: each with its sector, and the one that it can have."""
        first, end = self.header.overhead_sectors, self.packed_end_bytes // SECTOR_BYTES
        all_slots = np.arange(first, end, self.header.grain_sectors)
        free = np.setdiff1d(all_slots, self.sectors, assume_unique=True)
        is_behind = self.sectors >= end
        columns = (self.grains[is_behind], self.sectors[is_behind], free)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def _refuse_damage(self, extent: SparseExtent) -> None:
        header, sectors = self.header, self.sectors
        is_stray = (sectors < header.overhead_sectors) | (
            (sectors - header.overhead_sectors) % header.grain_sectors != 0
        )
        is_outside = sectors * SECTOR_BYTES >= extent.raw.size_bytes
        if (np.diff(sectors) == 0).any() or (is_stray | is_outside).any():
            raise _overlap(extent)


def _overlap(extent: SparseExtent) -> VmdkError:
    return VmdkError(
        "its grains overlap or are not where they can be, so that none can be moved",
        where=extent.name,
        remedy="see what is wrong with: ipva disk check DISK",
    )


def move(extent: SparseExtent, moves: Sequence[tuple[int, int, int]]) -> None:
    """Copy grains to free places, and let the tables name those.

    Args:
        extent: open for writing, and marked so.
        moves: grains, where each is, and where it is to be; the file is long enough.
    """
    for first in range(0, len(moves), MOVE_GRAINS):
        batch = moves[first : first + MOVE_GRAINS]
        announce(
            extent.raw, [(target * SECTOR_BYTES, extent.grain_bytes) for _, _, target in batch]
        )
        for _, sector, target in batch:
            place = sector * SECTOR_BYTES
            data = read(extent.raw, place, min(extent.grain_bytes, extent.raw.size_bytes - place))
            extent.raw.write(target * SECTOR_BYTES, data.ljust(extent.grain_bytes, b"\0"))
        extent.raw.flush()
        extent.tables.reassign({grain: target for grain, _, target in batch})


def close_gaps(extent: SparseExtent, slots: Slots) -> None:
    """Fill gaps with the grains at the end of the file, and cut it off behind the last grain.

    Args:
        extent: open for writing.
        slots: what it holds.
    """
    extent.begin()
    move(extent, slots.moves())
    extent.raw.resize(slots.packed_end_bytes)
