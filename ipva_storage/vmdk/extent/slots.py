"""Which grain is where in the file of a sparse extent, and moving grains to other places.

What the disk reads as never changes: a grain is copied to a place that nothing names, made durable
there, and entered in both copies of the tables; only then its old place may be used again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from ipva_storage.device import read
from ipva_storage.device.base import announce
from ipva_storage.errors import VmdkError
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.extent.tables import ENTRY_ZEROED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ipva_storage.vmdk.extent.header import SparseHeader
    from ipva_storage.vmdk.extent.places import Sectors
    from ipva_storage.vmdk.extent.sparse import SparseExtent

Moves: TypeAlias = "NDArray[np.int64]"
"""A row for each grain that moves, (n, 3): its number, its sector, and the one that it gets."""

MOVE_GRAINS: Final = 64
"""Grains moved between two barriers. Confidence: chosen."""

GRAINS_MAX: Final = 1 << 22
"""Grains rearranged in one file, 256 GiB as a rule, which bounds memory. Confidence: chosen."""

ITERATED_GRAINS: Final = 1 << 14
"""Grains that are Python's numbers at a time. Confidence: chosen."""


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
        grains, sectors, count = [], [], 0
        room = extent.raw.size_bytes // header.grain_bytes + 1
        for index in range(header.table_count):
            if tables.is_empty(index):
                continue
            entries = np.array(tables.table(index), np.int64)
            at = np.flatnonzero(entries > ENTRY_ZEROED)
            grains.append(at + index * header.gtes_per_gt)
            sectors.append(entries[at])
            count += len(at)
            if count > room:  # some lie on one place; a table that is named often takes no file
                raise _damage(extent)
            if count > GRAINS_MAX:
                raise VmdkError(
                    "it has too many grains to be rearranged in place",
                    where=extent.name,
                    remedy="make it anew: ipva disk convert DISK new.vmdk -O monolithicSparse",
                )
        found = cls(header, *_by_sector(grains, sectors))
        found._refuse_damage(extent)
        return found

    def __len__(self) -> int:
        return len(self.grains)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Each grain and its sector."""
        for first in range(0, len(self), ITERATED_GRAINS):
            part = slice(first, first + ITERATED_GRAINS)
            yield from zip(self.grains[part].tolist(), self.sectors[part].tolist(), strict=True)

    @property
    def packed_end_bytes(self) -> int:
        """Where the file would end if the grains lay without gaps."""
        header = self.header
        return (header.overhead_sectors + len(self) * header.grain_sectors) * SECTOR_BYTES

    def moves(self) -> Moves:
        """Grains that lie too far behind: each with its sector, and the one that it can have."""
        first, end = self.header.overhead_sectors, self.packed_end_bytes // SECTOR_BYTES
        all_slots = np.arange(first, end, self.header.grain_sectors)
        free = np.setdiff1d(all_slots, self.sectors, assume_unique=True)
        is_behind = self.sectors >= end
        return np.stack([self.grains[is_behind], self.sectors[is_behind], free], axis=1)

    def _refuse_damage(self, extent: SparseExtent) -> None:
        header, sectors = self.header, self.sectors
        is_stray = (sectors < header.overhead_sectors) | (
            (sectors - header.overhead_sectors) % header.grain_sectors != 0
        )
        is_outside = sectors * SECTOR_BYTES >= extent.raw.size_bytes
        if (np.diff(sectors) == 0).any() or (is_stray | is_outside).any():
            raise _damage(extent)


def _by_sector(grains: list[Sectors], sectors: list[Sectors]) -> tuple[Sectors, Sectors]:
    """Both in the order of the file; the lists are emptied, because they may be large."""
    none = np.zeros(0, np.int64)
    places, numbers = np.concatenate([none, *sectors]), np.concatenate([none, *grains])
    sectors.clear()
    grains.clear()
    order = np.argsort(places, kind="stable")
    return numbers[order], places[order]


def _damage(extent: SparseExtent) -> VmdkError:
    return VmdkError(
        "its grains overlap or are not where they can be, so that none can be moved",
        where=extent.name,
        remedy="see what is wrong with: ipva disk check DISK",
    )


def move(extent: SparseExtent, moves: Moves) -> None:
    """Copy grains to free places, and let the tables name those.

    Args:
        extent: open for writing, and marked so.
        moves: grains, where each is, and where it is to be; the file is long enough.
    """
    for first in range(0, len(moves), MOVE_GRAINS):
        batch = moves[first : first + MOVE_GRAINS].tolist()
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
