"""How the room of a volume is used, and in how many pieces files lie."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.fat.table import FREE, check_chain

if TYPE_CHECKING:
    import numpy.typing as npt

    from ipva_storage.fat.records import FatEntry
    from ipva_storage.fat.volume import FatVolume


_ENTRIES_AT_ONCE: Final = 1 << 16


class Fragment(NamedTuple):
    """A run of neighbouring clusters of one file or folder."""

    offset_bytes: int
    """Where it starts on the volume."""
    length_bytes: int


class Usage(NamedTuple):
    """How the room is used."""

    file_count: int
    folder_count: int
    """Without the root folder."""
    fragmented_count: int
    """Files in more than one piece."""
    used_bytes: int
    """In whole clusters, folders included."""
    free_bytes: int
    bad_bytes: int
    """Clusters marked bad."""
    free_run_count: int
    """In how many pieces the free room lies."""
    largest_free_bytes: int
    """The longest of them: what the largest file in one piece can have."""


def fragments(volume: FatVolume, path: str) -> list[Fragment]:
    """See `FatVolume.fragments`."""
    entry = volume.stat(path)
    if entry.is_dir:
        found, fault = volume.tree.table.follow_runs(entry.first_cluster)
        check_chain(sum(count for _, count in found), fault, f"“{path}”", volume.name)
    else:
        found = volume.runs_of(path, entry)
    geometry = volume.geometry
    return [
        Fragment(geometry.cluster_offset_bytes(first), count * geometry.cluster_bytes)
        for first, count in found
    ]


def measure(volume: FatVolume) -> Usage:
    """See `FatVolume.usage`."""
    file_count = folder_count = fragmented_count = 0
    table, size = volume.tree.table, volume.cluster_bytes
    jumps = _jumps(table.values)
    entries = (entry for _, entry in volume.walk())
    while some := list(itertools.islice(entries, _ENTRIES_AT_ONCE)):
        files = [entry for entry in some if not entry.is_dir]
        file_count += len(files)
        folder_count += len(some) - len(files)
        fragmented_count += _count_fragmented(jumps, files, size)
    values = table.values[layout.FIRST_CLUSTER : table.limit]
    free_runs = _run_lengths(values == FREE)
    bad = int(np.count_nonzero(values == table.bad))
    return Usage(
        file_count=file_count,
        folder_count=folder_count,
        fragmented_count=fragmented_count,
        used_bytes=(len(values) - table.free_count - bad) * size,
        free_bytes=table.free_count * size,
        bad_bytes=bad * size,
        free_run_count=len(free_runs),
        largest_free_bytes=int(free_runs.max(initial=0)) * size,
    )


def _run_lengths(is_set: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The lengths of all runs of true elements."""
    edges = np.flatnonzero(np.diff(is_set.astype(np.int8), prepend=0, append=0))
    lengths: npt.NDArray[np.int64] = edges[1::2] - edges[::2]
    return lengths


def _jumps(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.int32]:
    """How many clusters before each are not followed by their neighbour; one element more."""
    found = np.zeros(len(values) + 1, np.int32)
    np.cumsum(values != np.arange(1, len(values) + 1, dtype=np.uint32), out=found[1:])
    return found


def _count_fragmented(
    jumps: npt.NDArray[np.int32], files: list[FatEntry], cluster_bytes: int
) -> int:
    """How many files do not lie in neighbouring clusters from their first to their last."""
    firsts = np.array([entry.first_cluster for entry in files], np.int64)
    sizes = np.array([entry.size_bytes for entry in files], np.int64)
    lasts = firsts + np.maximum(-(-sizes // cluster_bytes), 1) - 1
    is_whole = (firsts >= layout.FIRST_CLUSTER) & (lasts < len(jumps) - 1)
    firsts, lasts = firsts[is_whole], lasts[is_whole]
    return int(np.count_nonzero(jumps[lasts] - jumps[firsts]))
