"""Making a disk's files smaller in place: grains of nothing go, and those behind fill the gaps.

What the disk reads as never changes, at no write. Order, for a sparse extent: what grains hold is
compared with what is below them, and the entries of those that add nothing are taken back, durably;
grains at the end of the file are copied into free slots, made durable, and entered; only then the
end is cut off. A slot that was in use a moment ago is never written to before both copies of the
tables name it no more.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final, NamedTuple

from ipva_storage.device import read
from ipva_storage.device.copy import chunks, data_runs, is_zero
from ipva_storage.errors import VmdkError
from ipva_storage.progress import silent
from ipva_storage.units import KIB, SECTOR_BYTES
from ipva_storage.vmdk import access
from ipva_storage.vmdk.extent.flat import FlatExtent
from ipva_storage.vmdk.extent.sparse import SparseExtent

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice, Folder
    from ipva_storage.progress import Progress
    from ipva_storage.vmdk.disk import VmdkDevice

HOLE_BYTES: Final = 64 * KIB
"""The smallest run of zeros of a flat file that is given back. Confidence: chosen."""


class Compacted(NamedTuple):
    """What compacting did, or would do."""

    dropped_bytes: int
    """Guest data that was kept though it was nothing: zeros, or what the parent shows anyway."""
    freed_bytes: int
    """How much shorter the files are; of flat files, what was given back within them."""


def compact(
    folder: Folder,
    name: str,
    *,
    allow_loss: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Compacted:
    """Make the files of a disk smaller.

    Args:
        folder: where the disk is.
        name: its file.
        allow_loss: also where tables are lost, and grains that were in them go.
        dry_run: find out, and change nothing.
        progress: told how much of the disk was looked at.

    Raises:
        VmdkError: the disk is damaged, or of a kind that is not written to.
        DeviceError: a file cannot be read or written.
    """
    raw = folder.open(name, writable=not dry_run)
    with access.open(raw, folder, writable=not dry_run) as disk:
        if not allow_loss:
            refuse_lost(disk, "; or use --allow-loss")
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
                    remedy="make it anew, without what is zero: "
                    "ipva disk convert DISK new.vmdk -O streamOptimized",
                )
            dropped, freed = dropped + done.dropped_bytes, freed + done.freed_bytes
            first += extent.size_bytes
    return Compacted(dropped, freed)


def refuse_lost(disk: VmdkDevice, way_out: str = "") -> None:
    """Refuse to cut off grains that belong to nothing because their tables are lost.

    Args:
        disk: the disk, of which each extent is looked at.
        way_out: what else to do about it than to copy the rest.

    Raises:
        VmdkError: there are such.
    """
    from ipva_storage.vmdk.extent.orphans import SALVAGE, lost_tables

    copying = SALVAGE.replace("DISK", shlex.quote(disk.name))
    for extent in disk.parts:
        lost = None
        if isinstance(extent, SparseExtent):
            lost = lost_tables(extent.raw, extent.header)
        if lost is not None:
            raise VmdkError(
                f"its tables are lost in part, and {lost} that hold data would be cut off",
                where=extent.name,
                remedy=f"copy what is left of the disk: {copying}{way_out}",
            )


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
    import numpy as np

    from ipva_storage.vmdk.extent.slots import Slots, close_gaps

    slots = Slots.of(extent)
    is_idle = np.fromiter(
        (_adds_nothing(extent, *each, progress) for each in slots), bool, len(slots)
    )
    if not dry_run and (is_idle.any() or extent.header.unclean_shutdown):
        extent.begin()
        extent.tables.reassign(dict.fromkeys(slots.grains[is_idle].tolist(), 0))
    slots = Slots(extent.header, slots.grains[~is_idle], slots.sectors[~is_idle])
    before_bytes = extent.raw.size_bytes
    end_bytes = min(slots.packed_end_bytes, before_bytes)
    if not dry_run:
        if end_bytes < before_bytes:
            close_gaps(extent, slots)
        extent.seal()
    dropped = int(is_idle.sum()) * extent.grain_bytes
    return Compacted(dropped, before_bytes - end_bytes)


def _adds_nothing(extent: SparseExtent, grain: int, sector: int, progress: Progress) -> bool:
    """Whether the disk would read the same without a grain."""
    offset_bytes = grain * extent.grain_bytes
    progress(min(offset_bytes, extent.size_bytes), extent.size_bytes)
    length = min(extent.grain_bytes, extent.header.capacity_bytes - offset_bytes)
    if length <= 0:  # behind the end of the disk
        return True
    place = sector * SECTOR_BYTES
    data = read(extent.raw, place, min(length, extent.raw.size_bytes - place)).ljust(length, b"\0")
    if extent.below is None:
        return is_zero(data)
    return data == extent.read_below(offset_bytes, length)
