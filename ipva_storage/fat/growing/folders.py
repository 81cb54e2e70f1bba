"""Folders written anew into free clusters, and the write that makes them the volume's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.fat.growing import header

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.relocating import FolderTree
    from ipva_storage.fat.table import FatTable

    Numbers = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]


class FolderCopies:
    """All folders, written anew into free clusters, or none."""

    def __init__(
        self,
        geometry: Geometry,
        tree: FolderTree,
        remap: Numbers,
        targets: Numbers | None,
        *,
        is_packed: bool,
    ) -> None:
        """Work out what they will hold.

        Args:
            geometry: of the volume.
            tree: the folders as they are.
            remap: the new number of each cluster.
            targets: clusters for all of them, of which a fixed root folder has none; None where
                they stay as they are.
            is_packed: leave out free records.
        """
        self._geometry = geometry
        self._tree = tree
        self._chains: list[Numbers] = []
        self._contents: list[bytes] = []
        if targets is None:
            return
        whole = [len(folder.clusters) for folder in tree.folders]
        counts = tree.packed_counts() if is_packed else whole
        self._chains = np.split(targets, np.cumsum(counts)[:-1])
        starts = [int(chain[0]) if len(chain) else 0 for chain in self._chains]
        is_32 = geometry.fat_bits == 32
        self._contents = tree.render(remap, starts, is_32=is_32, is_packed=is_packed)

    def write(self, device: BlockDevice) -> None:
        """Write them, but for a root folder that has a place of its own."""
        for chain, content in zip(self._chains, self._contents, strict=True):
            write_chain(device, self._geometry, chain, content)

    def chain(self, table: FatTable) -> None:
        """Link their clusters, which nothing names yet."""
        for chain in self._chains:
            if len(chain):
                table.put_all(chain, np.append(chain[1:], table.end))

    def switch(self, device: BlockDevice) -> Geometry:
        """Let the volume have them instead of the old ones."""
        geometry = self._geometry
        if not self._contents:
            return geometry
        if geometry.root_cluster:
            start = int(self._chains[0][0])
            sector = header.with_fields(header.load(device), root_cluster=start)
            return header.switch(device, sector)
        step = geometry.sector_bytes
        size = geometry.root_entry_count * layout.ENTRY_BYTES
        old = read(device, geometry.root_offset_bytes, size)
        new = self._contents[0] + old[len(self._contents[0]) :]
        for at in range(0, size, step):
            if new[at : at + step] != old[at : at + step]:
                device.write(geometry.root_offset_bytes + at, new[at : at + step])
        device.flush()
        return geometry

    def free(self, table: FatTable) -> None:
        """Give the clusters of the old ones back."""
        if self._contents:
            old = self._tree.clusters
            table.put_all(old, np.zeros(len(old), np.int64))


def write_chain(device: BlockDevice, geometry: Geometry, chain: Numbers, content: bytes) -> None:
    """Write a content into clusters, and zeros up to the end of the last."""
    padded = content.ljust(len(chain) * geometry.cluster_bytes, b"\0")
    at = 0
    for first, count in _joined(chain):
        length = count * geometry.cluster_bytes
        device.write(geometry.cluster_offset_bytes(first), padded[at : at + length])
        at += length


def _joined(chain: Numbers) -> Iterator[tuple[int, int]]:
    """Runs of neighbours: the first, and how many."""
    for start, stop in borders(np.diff(chain) != 1, len(chain)):
        yield int(chain[start]), stop - start


def borders(breaks: Mask, count: int) -> Iterator[tuple[int, int]]:
    """Starts and stops of what lies between breaks; `breaks` has one element a neighbour pair."""
    if count:
        at = (np.flatnonzero(breaks) + 1).tolist()
        yield from zip([0, *at], [*at, count], strict=True)
