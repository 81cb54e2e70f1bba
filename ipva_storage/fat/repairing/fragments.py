"""Pieces of folders that no chain leads to, found by what they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.fat import evidence, records
from ipva_storage.fat.table import runs
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry

FRAGMENTS_MAX: Final = 10_000
"""Pieces that are kept in mind. Confidence: chosen."""
_NO_NAME: Final = frozenset(b'"*+,./:;<=>?[\\]|')
_IS_FIRST: Final = np.array([byte > 0x20 and byte not in _NO_NAME for byte in range(256)])


class Fragments:
    """The clusters that read as the middle of a folder."""

    def __init__(
        self, device: BlockDevice, geometry: Geometry, is_open: npt.NDArray[np.bool_]
    ) -> None:
        """Look through the clusters that belong to nothing known; holes are passed over."""
        self._device = device
        self._geometry = geometry
        self._found: dict[int, bytes] = {}
        for cluster, content in self._candidates(is_open):
            if len(self._found) < FRAGMENTS_MAX and _is_fragment(content):
                self._found[cluster] = content

    def take(self, start: int, last: int, can_follow: Callable[[int], bool]) -> int | None:
        """The piece that goes on a folder, or None; it is not given twice.

        One that holds a folder which names another as the one above it is none. Of the rest, one
        that holds a folder which names this one comes first, then the next on the volume.

        Args:
            start: first cluster of the folder.
            last: the last one that is known.
            can_follow: whether a chain may go on in a cluster.
        """
        ranks = []
        for cluster, content in self._found.items():
            children = self._parents(content) if can_follow(cluster) else {-1}
            if children <= {start}:
                ranks.append((not children, cluster < last, cluster))
        if not ranks:
            return None
        chosen = min(ranks)[2]
        del self._found[chosen]
        return chosen

    def _parents(self, content: bytes) -> set[int]:
        """What the folders in a piece name as the folder above them."""
        parsed = records.parse(content)
        found = set()
        for index in np.flatnonzero(parsed.is_short).tolist():
            row: Any = parsed.table[index]
            at = index * layout.ENTRY_BYTES
            start = evidence.cluster_of(content[at : at + layout.ENTRY_BYTES], self._geometry)
            if row["attributes"] & layout.ATTRIBUTE_FOLDER and self._geometry.is_cluster(start):
                dots = evidence.first_piece(self._device, self._geometry, start)[:64]
                if dots[32:43] == records.DOT_DOT:
                    above = evidence.cluster_of(dots[32:], self._geometry)
                    found.add(above or self._geometry.root_cluster)
        return found

    def _candidates(self, is_open: npt.NDArray[np.bool_]) -> Iterator[tuple[int, bytes]]:
        """Clusters whose first record could be one of a folder."""
        size = self._geometry.cluster_bytes
        most = max(1, MIB // size)
        for first, count in runs(np.flatnonzero(is_open & self._has_data()).tolist()):
            for at in range(first, first + count, most):
                number = min(most, first + count - at)
                raw = read(self._device, self._geometry.cluster_offset_bytes(at), number * size)
                rows = np.frombuffer(raw, np.uint8).reshape(number, size)
                is_rest = (rows[:, 11] == layout.ATTRIBUTE_LONG_NAME) & (rows[:, 0] < 0x20)
                is_rest &= (rows[:, 12] == 0) & (rows[:, 26] == 0) & (rows[:, 27] == 0)
                likely = (_IS_FIRST[rows[:, 0]] | is_rest) & ((rows[:, 11] & 0xC0) == 0)
                for index in np.flatnonzero(likely).tolist():
                    yield at + index, rows[index].tobytes()

    def _has_data(self) -> npt.NDArray[np.bool_]:
        """The clusters that are not holes of the image."""
        geometry = self._geometry
        found = np.zeros(geometry.entry_count, np.bool_)
        for run in self._device.extents():
            first = (run.offset_bytes - geometry.data_offset_bytes) // geometry.cluster_bytes
            end_bytes = run.offset_bytes + run.length_bytes
            stop = -(-(end_bytes - geometry.data_offset_bytes) // geometry.cluster_bytes)
            if run.is_data and stop > 0:
                found[max(first, 0) + 2 : stop + 2] = True
        found[geometry.reachable_cluster_count + layout.FIRST_CLUSTER :] = False
        return found


def _is_fragment(content: bytes) -> bool:
    """Whether a cluster holds records only, and zeros after the end mark."""
    good, bad = evidence.judge(content)
    if bad or not good:
        return False
    parsed = records.parse(content)
    return not any(content[parsed.end * layout.ENTRY_BYTES :]) and _are_places(parsed)


def _are_places(parsed: records.Records) -> bool:
    """Whether at least half of the records are files and folders with dates that can be."""
    live = parsed.table[parsed.is_short]
    months = (live["modified_date"] >> 5) & 15
    return bool((months <= 12).all()) and bool(parsed.is_short.any() or parsed.is_long.any())
