"""Where the parts of a larger volume go, so that nothing of the present one is in their way.

The file data stays where it is. The new tables go behind the present ones (and behind the fixed
root folder), where the first clusters are, which are emptied before; or in front of the present
ones, where an earlier growth left room. The reserved area reaches up to the new tables. The number
of every cluster then changes by the same amount.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.device.copy import is_zero
from ipva_storage.errors import NoSpaceError, UsageError
from ipva_storage.fat.choosing import CLUSTERS_MAX, CLUSTERS_MIN, FAT_COUNT, table_sectors
from ipva_storage.units import MIB, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry

SPARE_FROM_SECTOR: Final = 32
"""What lies behind it in the reserved area may be used if it is zero. Confidence: chosen."""
HEAD_SECTORS: Final = 8
"""For FSInfo and the backup of a volume that becomes FAT32, until their places are free."""
RESERVED_SECTORS_MAX: Final = 0xFFFF
VOLUME_SECTORS_MAX: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Layout:
    """A volume's layout; sectors are the volume's own."""

    fat_bits: int
    cluster_sectors: int
    volume_sectors: int
    reserved_sectors: int
    fat_count: int
    fat_sectors: int
    root_sectors: int
    shift: int
    """By how much the number of a cluster becomes less."""

    @property
    def root_sector(self) -> int:
        """The sector behind the tables."""
        return self.reserved_sectors + self.fat_count * self.fat_sectors

    @property
    def data_sector(self) -> int:
        """Where the clusters begin."""
        return self.root_sector + self.root_sectors

    @property
    def cluster_count(self) -> int:
        """How many clusters there are."""
        return (self.volume_sectors - self.data_sector) // self.cluster_sectors


def present(geometry: Geometry) -> Layout:
    """The layout that a volume has."""
    sector = geometry.sector_bytes
    return Layout(
        fat_bits=geometry.fat_bits,
        cluster_sectors=geometry.cluster_bytes // sector,
        volume_sectors=geometry.volume_bytes // sector,
        reserved_sectors=geometry.fat_offset_bytes // sector,
        fat_count=geometry.fat_count,
        fat_sectors=geometry.fat_bytes // sector,
        root_sectors=(geometry.data_offset_bytes - geometry.root_offset_bytes) // sector,
        shift=0,
    )


def capacity(bits: int, fat_sectors: int, sector_bytes: int) -> int:
    """For how many clusters a table is long enough, and its type large enough."""
    entries = fat_sectors * sector_bytes * 8 // bits
    return min(entries - layout.FIRST_CLUSTER, CLUSTERS_MAX[bits])


def larger(
    device: BlockDevice, geometry: Geometry, volume_sectors: int, *, may_be_single: bool = False
) -> Layout:
    """The layout of a volume made larger: with the same tables where they are long enough.

    A volume with one copy of the table gets two, since a growth that was cut may have left it so.

    Args:
        device: the volume, to see which of its reserved sectors are zero.
        geometry: as it is.
        volume_sectors: how long it is to be.
        may_be_single: leave the table the only copy, where it is long enough.

    Raises:
        UsageError: its clusters are too small for that many of them.
        NoSpaceError: there is no place for the tables.
    """
    now = present(geometry)
    same = replace(now, volume_sectors=volume_sectors)
    may_stay = may_be_single or now.fat_count > 1
    if may_stay and same.cluster_count <= capacity(
        now.fat_bits, now.fat_sectors, geometry.sector_bytes
    ):
        return same
    last = None
    for bits in [bits for bits in (12, 16, 32) if bits >= now.fat_bits]:
        found = _placed(device, geometry, now, bits, volume_sectors)
        is_enough = bits == now.fat_bits or found.cluster_count >= CLUSTERS_MIN[bits]
        if is_enough and found.cluster_count <= CLUSTERS_MAX[bits]:
            return found
        if not is_enough and last is not None:
            return last  # too large for one type and too small for the next
        most = found.data_sector + CLUSTERS_MAX[bits] * now.cluster_sectors
        last = replace(found, volume_sectors=min(most, volume_sectors))
    raise _too_many(geometry, device.name)


def refuse_too_many(geometry: Geometry, size_bytes: int, name: str) -> None:
    """Refuse a length for which the clusters of a volume are too small, whatever its layout.

    Raises:
        UsageError: it is so.
    """
    if size_bytes > (CLUSTERS_MAX[32] + 1) * geometry.cluster_bytes:
        raise _too_many(geometry, name)


def _too_many(geometry: Geometry, name: str) -> UsageError:
    size = CLUSTERS_MAX[32] * geometry.cluster_bytes
    return UsageError(
        f"its clusters of {format_size(geometry.cluster_bytes)} reach to {format_size(size)}",
        where=name,
        remedy="name that size, or make a new volume with larger clusters and copy the files",
    )


def _placed(
    device: BlockDevice, geometry: Geometry, now: Layout, bits: int, volume_sectors: int
) -> Layout:
    """The new layout with tables of that type in the first place that there is."""
    for first, stop in _places(device, geometry, now, bits):
        found = _laid_out(now, bits, first, volume_sectors, geometry.sector_bytes)
        if found.data_sector <= stop and found.reserved_sectors <= RESERVED_SECTORS_MAX:
            return found
    raise NoSpaceError(
        f"the tables of a larger volume would start behind sector {RESERVED_SECTORS_MAX}, "
        "where FAT cannot have them",
        where=device.name,
        remedy="make a new volume of that size and copy the files",
    )


def _places(
    device: BlockDevice, geometry: Geometry, now: Layout, bits: int
) -> Iterator[tuple[int, int]]:
    """Where tables and root folder could be: first sector, and the one at which they must end."""
    if bits == now.fat_bits:
        spare = max([SPARE_FROM_SECTOR, *(last + 1 for last in _reserved_used(geometry))])
        if spare < now.reserved_sectors and _is_zero(
            device, spare * geometry.sector_bytes, geometry.fat_offset_bytes
        ):
            yield spare, now.reserved_sectors
    head = 0 if bits == now.fat_bits or bits != 32 else HEAD_SECTORS
    yield now.data_sector + head, VOLUME_SECTORS_MAX


def _reserved_used(geometry: Geometry) -> list[int]:
    """The last sectors of what FAT32 keeps in the reserved area."""
    found = []
    if geometry.fsinfo_offset_bytes is not None:
        found.append(geometry.fsinfo_offset_bytes // geometry.sector_bytes)
    if geometry.backup_offset_bytes is not None:
        found.append(geometry.backup_offset_bytes // geometry.sector_bytes + 2)
    return found


def _is_zero(device: BlockDevice, start: int, stop: int) -> bool:
    pieces = (read(device, at, min(MIB, stop - at)) for at in range(start, stop, MIB))
    return all(is_zero(piece) for piece in pieces)


def _laid_out(
    now: Layout, bits: int, first_sector: int, volume_sectors: int, sector_bytes: int
) -> Layout:
    """Tables from `first_sector` on, or a little behind, so that all clusters stay in place."""
    root_sectors = 0 if bits == 32 else now.root_sectors
    fat_count = max(now.fat_count, FAT_COUNT)
    fat_sectors = table_sectors(
        volume_sectors - first_sector - root_sectors,
        bits=bits,
        cluster_sectors=now.cluster_sectors,
        sector_bytes=sector_bytes,
        fat_count=fat_count,
    )
    end = first_sector + fat_count * fat_sectors + root_sectors
    pad = (now.data_sector - end) % now.cluster_sectors
    return replace(
        now,
        fat_bits=bits,
        volume_sectors=volume_sectors,
        reserved_sectors=first_sector + pad,
        fat_count=fat_count,
        fat_sectors=fat_sectors,
        root_sectors=root_sectors,
        shift=(end + pad - now.data_sector) // now.cluster_sectors,
    )
