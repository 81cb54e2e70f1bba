"""Where the bytes of a chain are, and how they are read and filled."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Final

from ipva_storage.device import read
from ipva_storage.fat.table import runs
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry

CHUNK_BYTES: Final = MIB
"""Most that is read at a time."""


class Pieces:
    """The runs of clusters that a file lies in, in its order."""

    def __init__(self, geometry: Geometry, pieces: Iterable[tuple[int, int]] = ()) -> None:
        """Start with runs: first cluster and how many."""
        self._geometry = geometry
        self._runs: list[tuple[int, int]] = []
        self._stops: list[int] = []
        self.cluster_count = 0
        self._add(pieces)

    @property
    def first(self) -> int:
        """First cluster, or 0 where there is none."""
        return self._runs[0][0] if self._runs else 0

    @property
    def last(self) -> int:
        """Last cluster, or 0 where there is none."""
        return sum(self._runs[-1]) - 1 if self._runs else 0

    @property
    def size_bytes(self) -> int:
        """Room in the clusters."""
        return self.cluster_count * self._geometry.cluster_bytes

    @property
    def runs(self) -> list[tuple[int, int]]:
        """First cluster and how many, of each run."""
        return list(self._runs)

    def link(self, cluster_count: int) -> tuple[int, int]:
        """The last of the first so many clusters, and the one that follows it."""
        return self._number(cluster_count - 1), self._number(cluster_count)

    def _number(self, index: int) -> int:
        """The cluster of an index."""
        run = bisect.bisect_right(self._stops, index)
        first, count = self._runs[run]
        return first + index - (self._stops[run] - count)

    def append(self, chain: Sequence[int]) -> None:
        """Let more clusters follow."""
        self._add(runs(chain))

    def _add(self, pieces: Iterable[tuple[int, int]]) -> None:
        for first, count in pieces:
            self.cluster_count += count
            if self._runs and sum(self._runs[-1]) == first:
                self._runs[-1] = (self._runs[-1][0], self._runs[-1][1] + count)
                self._stops[-1] = self.cluster_count
            else:
                self._runs.append((first, count))
                self._stops.append(self.cluster_count)

    def cut(self, cluster_count: int) -> list[tuple[int, int]]:
        """Keep so many clusters; the runs of those that are left over."""
        rest: list[tuple[int, int]] = []
        while self.cluster_count > cluster_count:
            first, count = self._runs.pop()
            self._stops.pop()
            self.cluster_count -= count
            keep = max(0, cluster_count - self.cluster_count)
            rest.append((first + keep, count - keep))
            if keep:
                self._add([(first, keep)])
        return rest[::-1]

    def ranges(self, at: int, length_bytes: int) -> Iterator[tuple[int, int]]:
        """Where a range of the content is: offsets on the volume, and lengths.

        The range must lie within the clusters.
        """
        size = self._geometry.cluster_bytes
        index = bisect.bisect_right(self._stops, at // size)
        while length_bytes > 0:
            first, count = self._runs[index]
            inside = at - (self._stops[index] - count) * size
            part = min(length_bytes, count * size - inside)
            yield self._geometry.cluster_offset_bytes(first) + inside, part
            at, length_bytes, index = at + part, length_bytes - part, index + 1


def read_pieces(
    device: BlockDevice, geometry: Geometry, pieces: Iterable[tuple[int, int]], size_bytes: int
) -> Iterator[bytes]:
    """The first bytes of runs of clusters, in pieces of at most 1 MiB."""
    left = size_bytes
    for first, count in pieces:
        at = geometry.cluster_offset_bytes(first)
        stop = at + min(left, count * geometry.cluster_bytes)
        left -= stop - at
        for start in range(at, stop, CHUNK_BYTES):
            yield read(device, start, min(CHUNK_BYTES, stop - start))
