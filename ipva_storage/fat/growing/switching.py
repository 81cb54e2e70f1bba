"""The larger volume, built beside the present one, and the one write that makes it the volume."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.device.copy import is_zero
from ipva_storage.errors import NoSpaceError
from ipva_storage.fat.format import FAT32_BACKUP_SECTOR, boot_tail, fsinfo_sector
from ipva_storage.fat.fsinfo import FsInfo
from ipva_storage.fat.growing import header
from ipva_storage.fat.growing.layouts import HEAD_SECTORS, Layout
from ipva_storage.fat.growing.vacating import splits, write_chain
from ipva_storage.fat.table import FREE, FatTable, load, pack_fat12

if TYPE_CHECKING:
    import numpy.typing as npt

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.relocating import FolderTree

    Numbers = npt.NDArray[np.int64]
    Values = npt.NDArray[np.uint32]

PIECE_BYTES: Final = 64 * 1024
"""Of a new table, pieces of zeros are discarded and not written. Confidence: chosen."""


def renumbered(device: BlockDevice, geometry: Geometry, table: FatTable, new: Layout) -> Values:
    """The table of the larger volume, still with the present folders in it.

    Returns:
        Shape (clusters + 2,), FAT32's top bits included.
    """
    first = layout.FIRST_CLUSTER
    old = table.values.astype(np.int64)
    end, bad = layout.ENTRY_MASK[new.fat_bits], layout.BAD_CLUSTER[new.fat_bits]
    following = np.full(len(old), end, np.int64)
    is_link = (old >= first + max(new.shift, 0)) & (old < len(old))
    following[is_link] = old[is_link] - new.shift
    following[old == table.bad] = bad
    following[old == FREE] = FREE
    if new.fat_bits == 32 == geometry.fat_bits:
        top = load(device, geometry, geometry.mirrored_fat or 0) & np.uint32(0xF0000000)
        following |= top
    values = np.zeros(new.cluster_count + first, np.uint32)
    kept = slice(first + max(new.shift, 0), min(len(old), len(values) + new.shift))
    values[kept.start - new.shift : kept.stop - new.shift] = following[kept]
    values[0] = end & ~0xFF | geometry.media
    flags = layout.CLEAN_BIT[new.fat_bits] | layout.NO_ERROR_BIT[new.fat_bits]
    values[1] = end
    if new.fat_bits == geometry.fat_bits:
        values[1] = end & ~flags | int(old[1]) & flags
    return values


def switch(
    device: BlockDevice, geometry: Geometry, table: FatTable, tree: FolderTree, new: Layout
) -> Geometry:
    """Make the volume the larger one, whose place is free already.

    Raises:
        NoSpaceError: there is no room for the folders; nothing is changed.
    """
    values = renumbered(device, geometry, table, new)
    is_32 = new.fat_bits == 32
    is_converted = is_32 and geometry.fat_bits != 32
    root_start = 0
    if new.shift or is_converted:
        root_start = _copy_folders(device, geometry, tree, new, values, is_converted=is_converted)
    _write_tables(device, geometry, new, values)
    sector = header.load(device)
    if is_converted:
        head = new.reserved_sectors - HEAD_SECTORS
        sector = header.as_fat32(sector, new, root_cluster=root_start, first_sector=head)
        free_count = int(np.count_nonzero(values == FREE))
        _write_head(device, geometry.sector_bytes, head, head + 4, sector, free_count)
    elif is_32:
        sector = header.with_layout(sector, new)
        root = root_start or geometry.root_cluster
        sector = header.with_fields(sector, root_cluster=root, mirror_flags=0)
    else:
        sector = header.with_layout(sector, new)
    return header.switch(device, sector)


def _copy_folders(
    device: BlockDevice,
    geometry: Geometry,
    tree: FolderTree,
    new: Layout,
    values: Values,
    *,
    is_converted: bool,
) -> int:
    """Write all folders with the new numbers, in clusters that are free before and after.

    Returns:
        Where the root folder starts; 0 where it has a place of its own.
    """
    first, step = layout.FIRST_CLUSTER, geometry.cluster_bytes
    remap = np.arange(geometry.entry_count, dtype=np.int64) - new.shift
    remap[remap < first] = 0
    counts = [len(folder.clusters) for folder in tree.folders]
    if is_converted:
        counts[0] = max(1, -(-tree.folders[0].table.nbytes // step))
    places = _free_places(geometry, new, values, sum(counts), device.name)
    chains = np.split(places, np.cumsum(counts)[:-1])
    starts = [int(chain[0]) if len(chain) else 0 for chain in chains]
    contents = tree.render(remap, starts, is_32=new.fat_bits == 32)
    moved = _shifted(geometry, new)
    for chain, content in zip(chains, contents, strict=True):
        write_chain(device, moved, chain, content)
    if not starts[0]:
        size = new.root_sectors * geometry.sector_bytes
        at = new.root_sector * geometry.sector_bytes
        device.write(at, contents[0].ljust(size, b"\0"))
    values[tree.clusters - new.shift] = FREE
    for chain in chains:
        values[chain[:-1]] = chain[1:]
        values[chain[-1:]] = layout.ENTRY_MASK[new.fat_bits]
    return starts[0]


def _shifted(geometry: Geometry, new: Layout) -> Geometry:
    """The geometry with the new numbers of the clusters."""
    return replace(geometry, data_offset_bytes=new.data_sector * geometry.sector_bytes)


def _free_places(geometry: Geometry, new: Layout, values: Values, count: int, name: str) -> Numbers:
    """New numbers of clusters that nothing uses, neither before the switch nor after it.

    Raises:
        NoSpaceError: there are fewer.
    """
    free = values == FREE
    free[: layout.FIRST_CLUSTER + max(-new.shift, 0)] = False
    free &= ~splits(geometry, len(values), bits=new.fat_bits)
    places = np.flatnonzero(free)[:count]
    if len(places) < count:
        raise NoSpaceError(
            "the larger volume has no room for a second copy of its folders",
            where=name,
            remedy="name a larger size, or remove files first",
        )
    return places


def _write_tables(device: BlockDevice, geometry: Geometry, new: Layout, values: Values) -> None:
    """Write all copies of the new table; long runs of zeros are discarded."""
    packed = pack(values, new.fat_bits)
    size = new.fat_sectors * geometry.sector_bytes
    for copy in range(new.fat_count):
        base = (new.reserved_sectors + copy * new.fat_sectors) * geometry.sector_bytes
        device.discard(base, size)
        for start in range(0, len(packed), PIECE_BYTES):
            piece = packed[start : start + PIECE_BYTES]
            if not is_zero(piece):
                device.write(base + start, piece)


def pack(values: Values, fat_bits: int) -> memoryview:
    """The bytes of a table; of FAT32 without a copy."""
    if fat_bits == 12:
        return memoryview(pack_fat12(values))
    return values.astype("<u2" if fat_bits == 16 else "<u4", copy=False).view(np.uint8).data


def _write_head(
    device: BlockDevice,
    sector_bytes: int,
    backup: int,
    info: int,
    boot: bytes,
    free_count: int,
) -> None:
    """Write FSInfo and the backup of boot sector, FSInfo and third sector of FAT32."""
    contents: dict[int, Any] = {backup: boot, backup + 1: fsinfo_sector(free_count)}
    contents |= {backup + 2: boot_tail(), info: fsinfo_sector(free_count)}
    for sector, data in contents.items():
        device.write(sector * sector_bytes, data.ljust(sector_bytes, b"\0"))


def finish(device: BlockDevice, geometry: Geometry, *, old: tuple[int, int] | None) -> Geometry:
    """What follows the switch, and may be undone after a cut: summary, backup, places of both.

    Args:
        device: the volume.
        geometry: after the switch.
        old: first byte and end of what were tables and root folder, now free or reserved.
    """
    if old is not None:
        device.discard(old[0], old[1] - old[0])
    if geometry.fat_bits != 32:
        device.flush()
        return geometry
    table = FatTable(device, geometry)
    sector = header.load(device)
    if header.is_provisional(sector):
        return _settle(device, geometry, sector, table.free_count)
    info = FsInfo(device, geometry.fsinfo_offset_bytes)
    info.update(table.free_count, info.next_free or layout.FIRST_CLUSTER)
    header.back_up(device, geometry)
    device.flush()
    return geometry


def _settle(device: BlockDevice, geometry: Geometry, sector: bytes, free_count: int) -> Geometry:
    """Give FSInfo and backup of a new FAT32 their usual places, where the old table was."""
    final = header.with_fields(
        sector, fsinfo_sector=header.FSINFO_SECTOR, backup_sector=FAT32_BACKUP_SECTOR
    )
    _write_head(
        device,
        geometry.sector_bytes,
        FAT32_BACKUP_SECTOR,
        header.FSINFO_SECTOR,
        final,
        free_count,
    )
    device.write(2 * geometry.sector_bytes, boot_tail())
    return header.switch(device, final)


def even_out(device: BlockDevice, geometry: Geometry) -> None:
    """Make all copies of the table what the first is, where they are all in use."""
    if geometry.mirrored_fat is not None:
        return
    size, start = geometry.fat_bytes, geometry.fat_offset_bytes
    for at in range(0, size, PIECE_BYTES):
        length = min(PIECE_BYTES, size - at)
        first = read(device, start + at, length)
        for copy in range(1, geometry.fat_count):
            place = start + copy * size + at
            if read(device, place, length) != first:
                device.write(place, first)
    device.flush()


def clear_tail(device: BlockDevice, geometry: Geometry, table: FatTable, copies: range) -> None:
    """Make zero what follows the last entry in use in some copies of the table."""
    first_bytes = geometry.entry_count * geometry.fat_bits // 8
    start = first_bytes // geometry.sector_bytes * geometry.sector_bytes
    raw = table.values.copy()
    if geometry.fat_bits == 32:
        raw = load(device, geometry, 0)
    packed = bytes(pack(raw, geometry.fat_bits)[start:])
    stop = start + -(-len(packed) // geometry.sector_bytes) * geometry.sector_bytes
    for copy in copies:
        base = geometry.fat_offset_bytes + copy * geometry.fat_bytes
        if read(device, base + start, stop - start) != packed.ljust(stop - start, b"\0"):
            device.write(base + start, packed.ljust(stop - start, b"\0"))
        device.discard(base + stop, geometry.fat_bytes - stop)
