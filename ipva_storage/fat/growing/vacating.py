"""Emptying the first clusters of a volume: what is in them moves to free clusters.

Every state on the way has all files. Copies and new chains are durable before anything names them;
then each link into what moved changes, one entry of a table at a time, and old and new content are
the same; then the folders, all written anew, are named by one write (of the boot sector on FAT32,
else of the root folder's sectors, each with records that depend on no other); then the old
clusters are free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.device.base import announce
from ipva_storage.errors import NoSpaceError
from ipva_storage.fat.growing.folders import FolderCopies, borders
from ipva_storage.fat.table import FREE, FatTable
from ipva_storage.progress import silent
from ipva_storage.units import MIB, format_size

if TYPE_CHECKING:
    import numpy.typing as npt

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.relocating import FolderTree
    from ipva_storage.progress import Progress

    Numbers = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]

CHUNK_BYTES: Final = MIB


class Moves(NamedTuple):
    """What is to move, and where to."""

    sources: Numbers
    targets: Numbers
    folder_targets: Numbers | None
    """For all clusters of all folders, which may have none; None where the folders stay."""


class Missing(NamedTuple):
    """How many clusters are wanted, and how many there are."""

    wanted: int
    free: int


def plan(geometry: Geometry, table: FatTable, tree: FolderTree, zone_stop: int) -> Moves | Missing:
    """What leaves the clusters before `zone_stop`, and to where, or why it cannot."""
    return plan_moves(geometry, table, tree, np.arange(len(table)) < zone_stop)


def plan_moves(
    geometry: Geometry, table: FatTable, tree: FolderTree, zone: Mask
) -> Moves | Missing:
    """As `plan`, for any clusters; shape of `zone`: (entries,)."""
    values, count = table.values, len(table)
    used = (values != FREE) & (values != table.bad)
    used[: layout.FIRST_CLUSTER] = False
    is_folder = np.zeros(count, np.bool_)
    is_folder[tree.clusters] = True
    moved = used & zone & ~is_folder
    if geometry.fat_bits == 12:
        _take_along(geometry, values, moved, used & ~is_folder)
    starts = tree.starts()
    starts = starts[(starts >= layout.FIRST_CLUSTER) & (starts < count)]
    is_touched = bool((is_folder & zone).any()) or bool(moved[starts].any())
    sources = np.flatnonzero(moved)
    folder_count = len(tree.clusters) if is_touched else 0
    reachable = np.arange(count) < table.limit
    free = (values == FREE) & ~zone & reachable
    free[: layout.FIRST_CLUSTER] = False
    wanted = len(sources) + folder_count
    for_folders = np.flatnonzero(free & ~splits(geometry, count))[:folder_count]
    free[for_folders] = False
    places = np.flatnonzero(free)
    if len(sources) > len(places) or len(for_folders) < folder_count:
        return Missing(wanted, len(places) + len(for_folders))
    return Moves(sources, places[: len(sources)], for_folders if is_touched else None)


def splits(geometry: Geometry, count: int, *, bits: int | None = None) -> Mask:
    """Which of the first entries lie in two sectors, as some of FAT12 do; shape (count,).

    A cut could tear what changes such an entry, so that no folder ends in one.
    """
    bits = geometry.fat_bits if bits is None else bits
    if bits != 12:
        return np.zeros(count, np.bool_)
    sector_bits = geometry.sector_bytes * 8
    found: Mask = np.arange(count) * bits % sector_bits + bits > sector_bits
    return found


def _take_along(
    geometry: Geometry, values: npt.NDArray[np.uint32], moved: Mask, movable: Mask
) -> None:
    """Move also what leads into it by an entry that lies in two sectors, which a cut could tear."""
    is_split = movable & splits(geometry, len(values))
    split = np.flatnonzero(is_split & (values < len(values)))
    while True:
        more = split[moved[values[split]] & ~moved[split]]
        if not len(more):
            return
        moved[more] = True


def refuse(missing: Missing, cluster_bytes: int, name: str) -> NoSpaceError:
    """The error for a volume that is too full."""
    lacking = (missing.wanted - missing.free) * cluster_bytes
    return NoSpaceError(
        f"{format_size(missing.wanted * cluster_bytes)} of it must be free to make room for "
        f"larger tables, and {format_size(missing.free * cluster_bytes)} are",
        where=name,
        remedy=f"copy files of {format_size(lacking)} elsewhere and remove them, then grow it",
    )


def carry_out(
    device: BlockDevice,
    geometry: Geometry,
    table: FatTable,
    tree: FolderTree,
    moves: Moves,
    *,
    is_packed: bool = False,
    progress: Progress = silent,
) -> Geometry:
    """Do it; the layout afterwards differs in the place of the root folder at most."""
    values, count = table.values, len(table)
    remap = np.arange(count, dtype=np.int64)
    remap[moves.sources] = moves.targets
    folders = FolderCopies(geometry, tree, remap, moves.folder_targets, is_packed=is_packed)
    copy_clusters(device, geometry, moves.sources, moves.targets, progress)
    folders.write(device)
    device.flush()  # else a cut leaves folders of nothing, which nobody knows as copies
    following = values.astype(np.int64)
    is_link = (following >= layout.FIRST_CLUSTER) & (following < count)
    following[is_link] = remap[following[is_link]]
    table.put_all(moves.targets, following[moves.sources])
    folders.chain(table)
    _write(table, device)
    stays = np.ones(count, np.bool_)
    stays[moves.sources] = stays[moves.targets] = False
    if moves.folder_targets is not None:
        stays[moves.folder_targets] = False
    stays[: layout.FIRST_CLUSTER] = False
    links = np.flatnonzero(stays & (following != values))
    table.put_all(links, following[links])
    _write(table, device)
    geometry = folders.switch(device)
    table.put_all(moves.sources, np.zeros(len(moves.sources), np.int64))
    folders.free(table)
    _write(table, device)
    return geometry


def _write(table: FatTable, device: BlockDevice) -> None:
    if table.is_dirty:
        table.write()
        device.flush()


def copy_clusters(
    device: BlockDevice,
    geometry: Geometry,
    sources: Numbers,
    targets: Numbers,
    progress: Progress = silent,
) -> None:
    """Copy the content of clusters to others, at most 1 MiB at a time."""
    step, total = geometry.cluster_bytes, len(sources) * geometry.cluster_bytes
    most = max(1, CHUNK_BYTES // step)
    breaks = (np.diff(sources) != 1) | (np.diff(targets) != 1)
    done = 0
    for start, stop in borders(breaks, len(sources)):
        for first in range(start, stop, most):
            count = min(most, stop - first)
            at = geometry.cluster_offset_bytes(int(targets[first]))
            announce(device, [(at, count * step)])
            data = read(device, geometry.cluster_offset_bytes(int(sources[first])), count * step)
            device.write(at, data)
            done += count * step
            progress(done, total)
