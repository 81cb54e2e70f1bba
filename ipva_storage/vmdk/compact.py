"""Making a disk's files smaller in place: grains of nothing go, and those behind fill the gaps.

What the disk reads as never changes, at no write. Order, for a sparse extent: what grains hold is
compared with what is below them, and the entries of those that add nothing are taken back, durably;
grains at the end of the file are copied into free slots, made durable, and entered; only then the
end is cut off. A slot that was in use a moment ago is never written to before both copies of the
tables name it no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from ipva_storage.device import read
from ipva_storage.device.copy import chunks, data_runs, is_zero
from ipva_storage.errors import VmdkError
from ipva_storage.progress import silent
from ipva_storage.units import KIB, SECTOR_BYTES
from ipva_storage.vmdk import access
from ipva_storage.vmdk.extent.flat import FlatExtent
from ipva_storage.vmdk.extent.sparse import SparseExtent
from ipva_storage.vmdk.extent.tables import ENTRY_ZEROED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipva_storage.device import BlockDevice, Folder
    from ipva_storage.progress import Progress
    from ipva_storage.vmdk.extent.header import SparseHeader
    from ipva_storage.vmdk.extent.places import Sectors

MOVE_GRAINS: Final = 64
"""Grains moved between two barriers. Confidence: chosen."""

GRAINS_MAX: Final = 1 << 23
"""Grains rearranged in one file, 512 GiB as a rule, which bounds memory. Confidence: chosen."""

HOLE_BYTES: Final = 64 * KIB
"""The smallest run of zeros of a flat file that is given back. Confidence: chosen."""


class Compacted(NamedTuple):
    """What compacting did, or would do."""

    dropped_bytes: int
    """Guest data that was kept though it was nothing: zeros, or what the parent shows anyway."""
    freed_bytes: int
    """How much shorter the files are; of flat files, what was given back within them."""


def compact(
    folder: Folder, name: str, *, dry_run: bool = False, progress: Progress = silent
) -> Compacted:
    """Make the files of a disk smaller.

    Args:
        folder: where the disk is.
        name: its file.
        dry_run: find out, and change nothing.
        progress: told how much of the disk was looked at.

    Raises:
        VmdkError: the disk is damaged, or of a kind that is not written to.
        DeviceError: a file cannot be read or written.
    """
    raw = folder.open(name, writable=not dry_run)
    with access.open(raw, folder, writable=not dry_run) as disk:
        dropped = freed = first = 0
        for extent in disk.parts:
            told = _part(progress, first, disk.size_bytes)
            if isinstance(extent, SparseExtent):
                done = _compact_sparse(extent, dry_run=dry_run, progress=told)
            elif isinstance(extent, FlatExtent):
                done = _punch(extent, dry_run=dry_run, progress=told)
            else:
                raise VmdkError(
                    f"{disk.subformat} disks are not compacted in place",
                    where=raw.name,
                    remedy="make it anew, without what is zero: ipva disk convert",
                )
            dropped, freed = dropped + done.dropped_bytes, freed + done.freed_bytes
            first += extent.size_bytes
    return Compacted(dropped, freed)


def punch(device: BlockDevice, *, dry_run: bool, progress: Progress = silent) -> Compacted:
    """Give runs of zeros of a raw image back to the host."""
    return _punch(device, dry_run=dry_run, progress=progress)


def _part(progress: Progress, first_bytes: int, total_bytes: int) -> Progress:
    """Progress of one extent as progress of the disk."""
    return lambda done, _: progress(first_bytes + done, total_bytes)


def _punch(device: BlockDevice, *, dry_run: bool, progress: Progress) -> Compacted:
    freed = 0
    for offset_bytes, length_bytes in chunks(device):
        data = read(device, offset_bytes, length_bytes)
        at = 0
        for start, stop in (*data_runs(data, HOLE_BYTES), (length_bytes, length_bytes)):
            if start > at:
                freed += start - at
                if not dry_run:
                    device.discard(offset_bytes + at, start - at)
            at = stop
        progress(offset_bytes + length_bytes, device.size_bytes)
    if freed and not dry_run:
        device.flush()
    return Compacted(freed, freed)


def _compact_sparse(extent: SparseExtent, *, dry_run: bool, progress: Progress) -> Compacted:
    slots = Slots.of(extent)
    is_idle = np.fromiter(
        (_adds_nothing(extent, *each, progress) for each in slots), bool, len(slots)
    )
    if not dry_run and is_idle.any():
        extent.begin()
        extent.tables.reassign(dict.fromkeys(slots.grains[is_idle].tolist(), 0))
    slots = Slots(extent.header, slots.grains[~is_idle], slots.sectors[~is_idle])
    end_bytes = slots.packed_end_bytes
    before_bytes = extent.raw.size_bytes
    if not dry_run and end_bytes < before_bytes:
        extent.begin()
        move(extent, slots.moves())
        extent.raw.resize(end_bytes)
    if not dry_run:
        extent.seal()
    dropped = int(is_idle.sum()) * extent.grain_bytes
    return Compacted(dropped, max(before_bytes - end_bytes, 0))


@dataclass(frozen=True)
class Slots:
    """Which grain is where in the file of a sparse extent, in the order of the file."""

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
        for index in range(header.table_count):
            if tables.is_empty(index):
                continue
            entries = np.array(tables.table(index), np.int64)
            at = np.flatnonzero(entries > ENTRY_ZEROED)
            grains.append(at + index * header.gtes_per_gt)
            sectors.append(entries[at])
            count += len(at)
            if count > GRAINS_MAX:
                raise VmdkError(
                    "it has too many grains to be rearranged in place",
                    where=extent.name,
                    remedy="make it anew: ipva disk convert",
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
        is_behind = self.grains >= header.grain_count
        is_outside = sectors * SECTOR_BYTES >= extent.raw.size_bytes
        if (np.diff(sectors) == 0).any() or (is_stray | is_behind | is_outside).any():
            raise VmdkError(
                "its grains overlap or are not where they can be, so that none can be moved",
                where=extent.name,
                remedy="see what is wrong with: ipva disk check",
            )


def _adds_nothing(extent: SparseExtent, grain: int, sector: int, progress: Progress) -> bool:
    """Whether the disk would read the same without a grain."""
    offset_bytes = grain * extent.grain_bytes
    progress(min(offset_bytes, extent.size_bytes), extent.size_bytes)
    length = min(extent.grain_bytes, extent.header.capacity_bytes - offset_bytes)
    place = sector * SECTOR_BYTES
    data = read(extent.raw, place, min(length, extent.raw.size_bytes - place)).ljust(length, b"\0")
    if extent.below is None:
        return is_zero(data, 0, length)
    return data == extent.read_below(offset_bytes, length)


def move(extent: SparseExtent, moves: Sequence[tuple[int, int, int]]) -> None:
    """Copy grains to free places, and let the tables name those.

    Args:
        extent: open for writing, and marked so.
        moves: grains, where each is, and where it is to be; the file is long enough.
    """
    for first in range(0, len(moves), MOVE_GRAINS):
        batch = moves[first : first + MOVE_GRAINS]
        for _, sector, target in batch:
            place = sector * SECTOR_BYTES
            data = read(extent.raw, place, min(extent.grain_bytes, extent.raw.size_bytes - place))
            extent.raw.write(target * SECTOR_BYTES, data.ljust(extent.grain_bytes, b"\0"))
        extent.raw.flush()
        extent.tables.reassign({grain: target for grain, _, target in batch})
