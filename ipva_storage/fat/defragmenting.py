"""Files and folders in one piece each, and folders without the records of what was deleted.

It works in rounds. Each copies files that are in pieces into free runs that are long enough, writes
all folders anew, packed, and lets the volume have them as `growing.vacating` does: a power cut at
any write leaves every file. What a round gave back is room for the next.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import OverlayDevice
from ipva_storage.errors import NoSpaceError
from ipva_storage.fat import geometry as geometries
from ipva_storage.fat import leftovers
from ipva_storage.fat.growing import switching, vacating
from ipva_storage.fat.growing.volume import refuse_damaged
from ipva_storage.fat.relocating import FolderTree
from ipva_storage.fat.table import FREE, FatTable, runs
from ipva_storage.progress import silent
from ipva_storage.units import format_size

if TYPE_CHECKING:
    import numpy.typing as npt

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.progress import Progress

ROUNDS_MAX: Final = 64
"""So many rounds at most; each puts at least one more file in one piece. Confidence: chosen."""


@dataclass(frozen=True, slots=True)
class Defragmented:
    """What was done, or would be."""

    moved_count: int
    """Files put in one piece."""
    left_count: int
    """Files still in pieces: no free run is as long as they are."""
    moved_bytes: int
    """Copied, in whole clusters, without folders."""
    freed_bytes: int
    """Given back by folders that became shorter."""


@dataclass(slots=True)
class _Round:
    """What one round is to do."""

    moves: vacating.Moves
    moved_count: int
    left_count: int
    freed_clusters: int
    is_needed: bool


def defrag(
    device: BlockDevice, *, dry_run: bool = False, progress: Progress = silent
) -> Defragmented:
    """Put files and folders in one piece each, and drop the free records of folders.

    A file stays in pieces where no free run is as long as it is. A root folder with a place of its
    own (FAT12, FAT16) keeps its free records.

    Args:
        device: the volume.
        dry_run: find out what would be done, and change nothing.
        progress: told how far the copying of a round is.

    Raises:
        NoSpaceError: there is no room for a second copy of the folders.
        FatError: it is no FAT volume, or damaged, and has to be repaired first.
        DeviceError: the medium refused.
    """
    found = geometries.parse(device)
    refuse_damaged(device)
    work = OverlayDevice(device) if dry_run else device
    leftovers.drop(work, found)
    moved = moved_clusters = freed = left = 0
    for _ in range(ROUNDS_MAX):
        table = FatTable(work, found)
        tree = FolderTree(work, found, table)
        planned = _plan(found, table, tree, work.name)
        left = planned.left_count
        if not planned.is_needed:
            break
        found = vacating.carry_out(
            work, found, table, tree, planned.moves, is_packed=True, progress=progress
        )
        moved += planned.moved_count
        moved_clusters += len(planned.moves.sources)
        freed += planned.freed_clusters
    switching.even_out(work, found)  # what a cut may have left, also by an earlier run
    switching.finish(work, found, old=None)
    step = found.cluster_bytes
    return Defragmented(moved, left, moved_clusters * step, freed * step)


def _plan(geometry: Geometry, table: FatTable, tree: FolderTree, name: str) -> _Round:
    count = len(table)
    free = table.values == FREE
    free[: layout.FIRST_CLUSTER] = False
    free[table.limit :] = False
    counts = tree.packed_counts()
    freed = len(tree.clusters) - sum(counts)
    in_pieces = any(len(runs(folder.clusters)) > 1 for folder in tree.folders)
    folders = _folder_places(free & ~vacating.splits(geometry, count), sum(counts))
    if folders is not None:
        free[folders] = False
    sources, targets, left = _place(free, _files_in_pieces(table, tree))
    is_needed = bool(sources) or freed > 0 or (in_pieces and folders is not None)
    if is_needed and folders is None:
        raise NoSpaceError(
            "there is no room for a second copy of its folders",
            where=name,
            remedy=f"free {format_size(sum(counts) * geometry.cluster_bytes)} first",
        )
    if folders is not None and is_needed and not sources and not freed:
        is_needed = _pieces(folders, counts) < sum(
            len(runs(folder.clusters)) for folder in tree.folders
        )
    moves = vacating.Moves(_joined(sources), _joined(targets), folders)
    return _Round(moves, len(sources), left, freed, is_needed)


def _joined(parts: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _pieces(places: npt.NDArray[np.int64], counts: list[int]) -> int:
    """In how many pieces the folders would be."""
    chains = np.split(places, np.cumsum(counts)[:-1])
    return sum(len(runs(chain.tolist())) for chain in chains)


def _files_in_pieces(table: FatTable, tree: FolderTree) -> list[npt.NDArray[np.int64]]:
    """The chains of files that are in pieces, the longest first."""
    folders = {folder.start for folder in tree.folders}
    chains = []
    for start in np.unique(tree.starts()).tolist():
        if start < layout.FIRST_CLUSTER or start >= len(table) or start in folders:
            continue
        chain = np.array(table.follow(start)[0], np.int64)
        if len(chain) > 1 and bool((np.diff(chain) != 1).any()):
            chains.append(chain)
    return sorted(chains, key=len, reverse=True)


def _free_runs(free: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Runs of free clusters: length and first, the shortest first."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], free, [False])).astype(np.int8)))
    return sorted(zip((edges[1::2] - edges[::2]).tolist(), edges[::2].tolist(), strict=True))


def _folder_places(free: npt.NDArray[np.bool_], count: int) -> npt.NDArray[np.int64] | None:
    """Clusters for all folders: the shortest run that takes them all, else the first free ones."""
    for length, first in _free_runs(free):
        if length >= count:
            return np.arange(first, first + count)
    found = np.flatnonzero(free)[:count]
    return found if len(found) == count else None


def _place(
    free: npt.NDArray[np.bool_], chains: list[npt.NDArray[np.int64]]
) -> tuple[list[npt.NDArray[np.int64]], list[npt.NDArray[np.int64]], int]:
    """Give each chain the shortest free run that takes it; how many got none."""
    gaps, left = _free_runs(free), 0
    sources, targets = [], []
    for chain in chains:
        at = bisect.bisect_left(gaps, (len(chain), 0))
        if at == len(gaps):
            left += 1
            continue
        length, first = gaps.pop(at)
        if length > len(chain):
            bisect.insort(gaps, (length - len(chain), first + len(chain)))
        sources.append(chain)
        targets.append(np.arange(first, first + len(chain)))
    return sources, targets, left
