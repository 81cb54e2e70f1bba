"""Growing a volume within its device, which is larger already.

The steps, each of which a power cut may end, and after each of which all files are there:

1. Where the volume is too full to empty its first clusters, one copy of the table takes the place
   of all, and so has entries for more clusters, which the volume gets at once (`_widen`).
2. The first clusters are emptied (`vacating`), so that new tables have room behind the present.
3. The larger volume is built beside the present one, and one write of the boot sector makes it the
   volume (`switching`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ipva_storage.device import OverlayDevice
from ipva_storage.errors import FatError, NoSpaceError, UsageError
from ipva_storage.fat import geometry as geometries
from ipva_storage.fat import leftovers
from ipva_storage.fat.checking import check
from ipva_storage.fat.growing import header, switching, vacating
from ipva_storage.fat.growing.layouts import (
    VOLUME_SECTORS_MAX,
    capacity,
    larger,
    present,
    refuse_too_many,
)
from ipva_storage.fat.relocating import FolderTree
from ipva_storage.fat.table import FatTable, load
from ipva_storage.findings import Severity
from ipva_storage.progress import silent
from ipva_storage.units import format_size

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.growing.layouts import Layout
    from ipva_storage.progress import Progress

ROUND_FACTOR: Final = 8
"""A volume becomes so many times larger at once, at most: else its new tables would take the place
of most of its clusters. More takes rounds. Confidence: chosen."""

_SPARE_CLUSTERS: Final = 16
"""More than lacking, since no folder may have some of FAT12. Confidence: chosen."""


@dataclass(frozen=True, slots=True)
class Grown:
    """What was done, or would be."""

    before_bytes: int
    """Length of the volume by its boot sector."""
    after_bytes: int
    before_bits: int
    after_bits: int
    cluster_bytes: int

    @property
    def is_changed(self) -> bool:
        """Whether it became larger."""
        return self.before_bytes != self.after_bytes


def grow(
    device: BlockDevice,
    size_bytes: int | None = None,
    *,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Grown:
    """Make a volume larger; every file stays, and so does the size of its clusters.

    FAT12 becomes FAT16 and that FAT32 where the clusters are too many for it. A power cut at any
    write leaves a volume with all files, of the old size or a larger one; lost clusters and an
    outdated summary or backup are the worst of it, and the same call again goes on.

    Args:
        device: the volume, as long as it is to be at least.
        size_bytes: its new length; by default all of the device.
        dry_run: find out whether it can be done, and change nothing.
        progress: told how far the moving of clusters is.

    Raises:
        UsageError: the length is less than it has, or its clusters are too small for it.
        NoSpaceError: it is so full that its first clusters cannot be moved away.
        FatError: it is no FAT volume, or damaged, and has to be repaired first.
        DeviceError: the medium refused.
    """
    found = geometries.parse(device)
    refuse_damaged(device)
    wanted = min((size_bytes or device.size_bytes) // found.sector_bytes, VOLUME_SECTORS_MAX)
    before = present(found)
    if wanted < before.volume_sectors:
        raise UsageError(
            f"it has {format_size(found.volume_bytes)} already, and is not made smaller",
            where=device.name,
            remedy="name a larger size",
        )
    refuse_too_many(found, wanted * found.sector_bytes, device.name)
    work = OverlayDevice(device) if dry_run else device
    leftovers.drop(work, found)
    after = _rounds(work, found, wanted, progress)
    return Grown(
        found.volume_bytes, after.volume_bytes, found.fat_bits, after.fat_bits, found.cluster_bytes
    )


def refuse_damaged(device: BlockDevice) -> None:
    """Refuse to work on a volume of which the check says that something is lost or may be.

    Raises:
        FatError: it is so.
    """
    errors = [each for each in check(device) if each.severity is Severity.ERROR]
    if errors:
        raise FatError(
            f"it is damaged ({errors[0].code}: {errors[0].message})",
            where=device.name,
            offset_bytes=errors[0].offset_bytes,
            remedy="mend it with: ipva fs repair DISK",
        )


def _rounds(
    device: BlockDevice, found: Geometry, volume_sectors: int, progress: Progress
) -> Geometry:
    """Grow once, or several times by `ROUND_FACTOR` at most."""
    found = _mirrored(device, found)
    while True:
        size = min(volume_sectors, present(found).volume_sectors * ROUND_FACTOR)
        new = larger(device, found, size)
        if new.cluster_count > found.cluster_count:
            try:
                found = _round(device, found, new, progress)
                continue
            except NoSpaceError:
                if found.fat_count > 1:
                    raise
                found = geometries.parse(device)
        if found.fat_count > 1:
            return switching.finish(device, found, old=None)
        new = larger(device, found, size, may_be_single=True)
        if new.cluster_count <= found.cluster_count:
            return switching.finish(device, found, old=None)
        found = _round(device, found, new, progress)


def _mirrored(device: BlockDevice, found: Geometry) -> Geometry:
    """Have all copies of the table in use, where only one is."""
    if found.mirrored_fat is None:
        return found
    table = FatTable(device, found)
    packed = switching.pack(load(device, found, found.mirrored_fat), found.fat_bits)
    assert len(packed) == len(table) * 4
    for copy in range(found.fat_count):
        if copy != found.mirrored_fat:
            device.write(found.fat_offset_bytes + copy * found.fat_bytes, packed)
    return header.switch(device, header.with_fields(header.load(device), mirror_flags=0))


def _round(device: BlockDevice, found: Geometry, new: Layout, progress: Progress) -> Geometry:
    if (new.reserved_sectors, new.fat_bits) == (present(found).reserved_sectors, found.fat_bits):
        table = FatTable(device, found)
        switching.clear_tail(device, found, table, range(found.fat_count))
        grown = header.switch(device, header.with_layout(header.load(device), new))
        return switching.finish(device, grown, old=None)
    if new.shift > 0:
        found = _vacated(device, found, new, progress)
    table = FatTable(device, found)
    tree = FolderTree(device, found, table)
    grown = switching.switch(device, found, table, tree, new)
    old = (found.fat_offset_bytes, found.data_offset_bytes)
    return switching.finish(device, grown, old=old)


def _vacated(device: BlockDevice, found: Geometry, new: Layout, progress: Progress) -> Geometry:
    """Empty the clusters that the new tables need.

    Raises:
        NoSpaceError: they have nowhere to go.
    """
    stop = new.shift + 2
    table = FatTable(device, found)
    tree = FolderTree(device, found, table)
    moves = vacating.plan(found, table, tree, stop)
    if isinstance(moves, vacating.Missing):
        found = _widen(device, found, table, new, moves.wanted - moves.free)
        table = FatTable(device, found)
        tree = FolderTree(device, found, table)
        moves = vacating.plan(found, table, tree, stop)
    if isinstance(moves, vacating.Missing):
        raise vacating.refuse(moves, found.cluster_bytes, device.name)
    return vacating.carry_out(device, found, table, tree, moves, progress=progress)


def _widen(
    device: BlockDevice, found: Geometry, table: FatTable, new: Layout, lacking: int
) -> Geometry:
    """Make one long table of all copies, and the volume as long as that has entries for.

    What was the second copy becomes the end of the first, with entries that are free. It is zeros
    before the boot sector says so; until then it is a copy that differs, and the first counts. The
    volume stays a cluster shorter than wanted, if it can, so that the same growth after a cut goes
    on.

    Args:
        device: the volume.
        found: its layout.
        table: its table.
        new: the layout that it is to have in the end.
        lacking: how many more clusters there must be.
    """
    now = present(found)
    fat_sectors = now.fat_count * now.fat_sectors
    most = capacity(found.fat_bits, fat_sectors, found.sector_bytes)
    room = (new.volume_sectors - now.data_sector) // now.cluster_sectors - 1
    enough = found.cluster_count + lacking + _SPARE_CLUSTERS
    count = min(most, room, max(new.cluster_count - 1, enough))
    if now.fat_count < 2 or count <= found.cluster_count:
        return found
    switching.clear_tail(device, found, table, range(1))
    at = found.fat_offset_bytes + found.fat_bytes
    device.discard(at, (now.fat_count - 1) * found.fat_bytes)
    wide = replace(
        now,
        fat_count=1,
        fat_sectors=fat_sectors,
        volume_sectors=now.data_sector + count * now.cluster_sectors,
    )
    return header.switch(device, header.with_layout(header.load(device), wide))
