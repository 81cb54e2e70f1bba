"""All chains of a volume at once: lengths, ends, rings, shared and lost clusters.

By pointer doubling: after step k every cluster knows where it is 2^k links on, so that the longest
chain takes as many steps as its length has binary digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.fat.table import FREE

if TYPE_CHECKING:
    import numpy.typing as npt

USED_CLUSTERS_MAX: Final = 6_000_000
"""Most clusters in use that are analysed, which takes some 200 MiB. Confidence: chosen."""
FRAGMENTS_MAX: Final = 1_000_000
"""Most pieces of chains that are analysed, which takes some seconds. Confidence: chosen."""

MEETINGS_MAX: Final = 10_000
"""Most places at which chains meet that are told apart. Confidence: chosen."""


class End(IntEnum):
    """How a chain ends."""

    GOOD = 0
    FREE = 1
    """It points to a free cluster."""
    BAD = 2
    """It points to a cluster marked bad."""
    OUTSIDE = 3
    """It points to a cluster that does not exist."""
    RING = 4
    START = 5
    """Its first cluster is none, is free, or is marked bad."""


@dataclass(frozen=True, slots=True)
class ChainMap:
    """What all chains from given starts look like; the first four have one element a start."""

    lengths: npt.NDArray[np.int64]
    """Clusters up to the end; 0 where the start is bad. Without meaning in a ring."""
    ends: npt.NDArray[np.int8]
    """`End` of each."""
    is_shared: npt.NDArray[np.bool_]
    """Whether one of its clusters belongs to another chain, too."""
    meeting: npt.NDArray[np.int64]
    """Where that is the case, the first such cluster, else 0."""
    meetings_after: dict[int, int]
    """For each cluster at which chains meet, the next one at which others join them."""
    lost: npt.NDArray[np.int32]
    """Clusters in use that no start leads to, in order."""


def analyse(
    values: npt.NDArray[np.uint32], starts: npt.NDArray[np.int64], fat_bits: int
) -> ChainMap:
    """Follow every chain of a table.

    Args:
        values: the table, the two spare entries included; shape (n,).
        starts: first clusters of files and folders; shape (s,).
        fat_bits: 12, 16 or 32.

    Cost: O(u log u) for u clusters in use, no Python loop over them.
    """
    bad = layout.BAD_CLUSTER[fat_bits]
    in_use = (values != FREE) & (values != bad)
    in_use[: layout.FIRST_CLUSTER] = False
    nodes = np.flatnonzero(in_use).astype(np.int32)
    succ, ends = _successors(values, nodes, in_use, fat_bits)
    is_start_good = (starts >= layout.FIRST_CLUSTER) & (starts < len(values))
    is_start_good[is_start_good] = in_use[starts[is_start_good]]
    start_nodes = np.searchsorted(nodes, starts[is_start_good])
    succ, ends, weights, heads, at = _contract(succ, ends, start_nodes)
    distance, last, reached, marked = _double(succ, weights, at)
    first, after = _meetings(succ, marked)
    lengths = np.zeros(len(starts), np.int64)
    found = np.full(len(starts), End.START, np.int8)
    is_shared = np.zeros(len(starts), np.bool_)
    lengths[is_start_good] = distance[at] + weights[last[at]]
    is_ring = (succ[last[at]] != last[at]) | (ends[last[at]] == End.RING)
    found[is_start_good] = np.where(is_ring, np.int8(End.RING), ends[last[at]])
    is_met = marked[first[at]] & ~is_ring
    is_shared[is_start_good] = is_met
    meeting = np.zeros(len(starts), np.int64)
    clusters = nodes[heads]
    meeting[is_start_good] = np.where(is_met, clusters[first[at]], 0)
    following = {
        int(clusters[node]): int(clusters[after[node]])
        for node in np.flatnonzero(marked & (after != np.arange(len(after))) & marked[after])[
            :MEETINGS_MAX
        ].tolist()
    }
    lost = nodes[~np.repeat(reached, weights)]
    return ChainMap(lengths, found, is_shared, meeting, following, lost)


@dataclass(frozen=True, slots=True)
class Orphans:
    """The chains that lost clusters make, from those of their clusters that none points to."""

    heads: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    is_whole: npt.NDArray[np.bool_]
    """Whether a chain ends as it should, and none of its clusters is in another chain."""


def orphans(values: npt.NDArray[np.uint32], lost: npt.NDArray[np.int32], fat_bits: int) -> Orphans:
    """Look at the chains of lost clusters; those that are rings have no head and are left out."""
    if not len(lost):
        return Orphans(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_))
    only = np.zeros(len(values), np.uint32)
    only[lost] = values[lost]
    targets = only[lost]
    targets = targets[(targets >= layout.FIRST_CLUSTER) & (targets < len(values))]
    is_head = np.zeros(len(values), np.bool_)
    is_head[lost] = True
    is_head[targets] = False
    heads = np.flatnonzero(is_head)
    found = analyse(only, heads, fat_bits)
    return Orphans(heads, found.lengths, (found.ends == End.GOOD) & ~found.is_shared)


def is_too_much(values: npt.NDArray[np.uint32]) -> bool:
    """Whether a table is beyond what `analyse` should be asked to do."""
    used_count = int(np.count_nonzero(values))
    goes_on = values[:-1] == np.arange(1, len(values), dtype=np.uint32)
    fragment_count = used_count - int(np.count_nonzero(goes_on))
    return used_count > USED_CLUSTERS_MAX or fragment_count > FRAGMENTS_MAX


def _successors(
    values: npt.NDArray[np.uint32],
    nodes: npt.NDArray[np.int32],
    in_use: npt.NDArray[np.bool_],
    fat_bits: int,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int8]]:
    """Which node follows each node (itself at an end), and how those that are ends end."""
    following = values[nodes].astype(np.int32)  # 28 bits at most
    ends = np.full(len(nodes), End.OUTSIDE, np.int8)
    ends[following >= layout.END_MIN[fat_bits]] = End.GOOD
    is_link = (following >= layout.FIRST_CLUSTER) & (following < len(values))
    is_link &= ends != End.GOOD
    succ = np.arange(len(nodes), dtype=np.int32)
    # Most go on with their neighbour.
    is_next = is_link[:-1] & (following[:-1] == nodes[1:])
    succ[:-1] += is_next
    is_link[:-1] &= ~is_next
    target = following[is_link]
    ends[is_link] = np.where(values[target] == FREE, np.int8(End.FREE), np.int8(End.BAD))
    links = np.flatnonzero(is_link)[in_use[target]]
    succ[links] = np.searchsorted(nodes, following[links])
    ends[links[succ[links] == links]] = End.RING
    return succ, ends


def _contract(
    succ: npt.NDArray[np.int32], ends: npt.NDArray[np.int8], starts: npt.NDArray[np.int64]
) -> tuple[
    npt.NDArray[np.int32],
    npt.NDArray[np.int8],
    npt.NDArray[np.int64],
    npt.NDArray[np.int64],
    npt.NDArray[np.int64],
]:
    """Make one node of each run of neighbours that only follow each other.

    Files lie mostly in one piece, so that few nodes are left.

    Returns:
        Successors and ends of the runs, their lengths in clusters, the node that each begins with,
        and the runs of the starts.
    """
    count = len(succ)
    itself = np.arange(count, dtype=np.int32)
    into = np.bincount(succ[succ != itself], minlength=count)
    into[starts] = 2  # a start begins a run
    is_joined = np.zeros(count, np.bool_)
    is_joined[1:] = (succ[:-1] == itself[1:]) & (into[1:] == 1)
    heads = np.flatnonzero(~is_joined)
    tails = np.append(heads[1:], count)[: len(heads)] - 1
    run_of = (np.cumsum(~is_joined) - 1).astype(np.int32)
    following = succ[tails]
    run_succ = run_of[following]
    run_ends = ends[tails]
    closes = (following != tails) & (run_succ == np.arange(len(heads)))
    run_ends[closes] = End.RING
    return run_succ, run_ends, tails - heads + 1, heads, run_of[starts].astype(np.int64)


def _double(
    succ: npt.NDArray[np.int32], weights: npt.NDArray[np.int64], starts: npt.NDArray[np.int64]
) -> tuple[
    npt.NDArray[np.int32],
    npt.NDArray[np.int32],
    npt.NDArray[np.bool_],
    npt.NDArray[np.bool_],
]:
    """A node's distance to its last node; that node; is it reached; do chains meet there."""
    count = len(succ)
    itself = np.arange(count, dtype=np.int32)
    distance = np.where(succ != itself, weights, 0).astype(np.int32)
    reached = np.zeros(count, np.bool_)
    reached[starts] = True
    jump = succ
    for _ in range(count.bit_length() + 1):
        reached[jump[reached]] = True
        distance += distance[jump]
        jump, before = jump[jump], jump
        if np.array_equal(jump, before):
            break
    into = np.bincount(succ[reached & (succ != itself)], minlength=count)
    into += np.bincount(starts, minlength=count)
    return distance, jump, reached, reached & (into > 1)


def _meetings(
    succ: npt.NDArray[np.int32], marked: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """For each node the first marked one from it on, and that after it; if none, some other."""
    itself = np.arange(len(succ), dtype=np.int32)
    if not marked.any():
        return itself, itself
    jump = np.where(marked, itself, succ)
    for _ in range(len(succ).bit_length() + 1):
        jump = jump[jump]
    return jump, jump[succ]
