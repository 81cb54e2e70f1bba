"""Growing the volume of a disk, and its partition before it where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipva_formats import mbr as layout
from ipva_storage.device import OverlayDevice, SliceDevice
from ipva_storage.errors import UsageError
from ipva_storage.fat import partitioning
from ipva_storage.fat.geometry import parse
from ipva_storage.fat.growing.volume import Grown, grow
from ipva_storage.fat.partitions import Partition, Volume, find_volumes, first_fat, read_table
from ipva_storage.progress import silent
from ipva_storage.units import SECTOR_BYTES, format_size

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice
    from ipva_storage.progress import Progress

_PRIMARY_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class GrownDisk:
    """What was done, or would be."""

    volume: Grown
    partition: int | None
    """Which partition it is in; None without a partition table."""
    partition_before_bytes: int
    """Length of the partition, or of the disk where it has no table."""
    partition_after_bytes: int


def grow_disk(
    device: BlockDevice,
    end_bytes: int | None = None,
    *,
    dry_run: bool = False,
    progress: Progress = silent,
) -> GrownDisk:
    """Let the first FAT volume of a disk, and its partition, reach further.

    First the partition becomes longer, in one write, then the volume in it (`grow`), then the type
    in the table follows that of the volume. The same call again goes on after a power cut.

    Args:
        device: the disk, as long as it is to be.
        end_bytes: where on the disk the volume is to end; by default at its end, or where the next
            partition starts.
        dry_run: find out whether it can be done, and change nothing.
        progress: told how far the moving of clusters is.

    Raises:
        UsageError: another partition is in the way, or the volume ends there or behind already.
        NoSpaceError: as for `grow`.
        FatError: there is no FAT volume, or it is damaged.
        DeviceError: the medium refused.
    """
    work = OverlayDevice(device) if dry_run else device
    first_fat(work)  # refuses a disk without any
    volume = next(each for each in find_volumes(work) if each.kind != "unknown")
    entry = _entry(work, volume)
    length = (end_bytes or work.size_bytes) - volume.offset_bytes
    if end_bytes is not None:
        _refuse_smaller(work, volume, length)
    if entry is None:
        part = SliceDevice(work, volume.offset_bytes, min(length, work.size_bytes))
        done = grow(part, progress=progress)
        return GrownDisk(done, volume.partition, work.size_bytes, work.size_bytes)
    return _in_partition(work, volume, entry, length, is_asked=bool(end_bytes), progress=progress)


def _refuse_smaller(device: BlockDevice, volume: Volume, length_bytes: int) -> None:
    """Refuse a size that would cut the volume off, before it is taken for one that was."""
    at = volume.offset_bytes
    found = parse(SliceDevice(device, at, device.size_bytes - at))
    if length_bytes < found.volume_bytes:
        raise UsageError(
            f"its volume has {format_size(found.volume_bytes)} already, and is not made smaller",
            where=device.name,
            remedy="name a larger size",
        )


def _entry(device: BlockDevice, volume: Volume) -> Partition | None:
    """The entry of the partition table that the volume is in, if there is one."""
    return next((each for each in read_table(device) if each.number == volume.partition), None)


def _in_partition(
    device: BlockDevice,
    volume: Volume,
    entry: Partition,
    length_bytes: int,
    *,
    is_asked: bool,
    progress: Progress,
) -> GrownDisk:
    before = entry
    room = entry.length_sectors
    if entry.number <= _PRIMARY_MAX:
        room = max(room, partitioning.room_behind(device, entry))
    wanted = length_bytes // SECTOR_BYTES
    if is_asked and wanted > room:
        end_bytes = (entry.first_sector + room) * SECTOR_BYTES
        raise UsageError(
            f"partition {entry.number} can reach to byte {end_bytes} ({format_size(end_bytes)}); "
            "what follows belongs to another",
            where=device.name,
            remedy="name that size, or none",
        )
    wanted = min(wanted, room)
    if wanted > entry.length_sectors:
        entry = partitioning.change(device, entry, length_sectors=wanted)
    at = entry.first_sector * SECTOR_BYTES
    part = SliceDevice(device, at, min(wanted * SECTOR_BYTES, device.size_bytes - at))
    done = grow(part, progress=progress)
    if layout.KINDS_FAT.get(entry.kind) not in (None, done.after_bits):
        kind = partitioning.kind_of(done.after_bits, entry.length_sectors)
        partitioning.change(device, entry, kind=kind)
    return GrownDisk(
        done,
        volume.partition,
        before.length_sectors * SECTOR_BYTES,
        entry.length_sectors * SECTOR_BYTES,
    )
