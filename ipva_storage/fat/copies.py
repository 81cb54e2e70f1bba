"""How well a copy of the table fits the folders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ipva_storage.fat import chains
from ipva_storage.fat.chains import ChainMap, End
from ipva_storage.fat.structure import copies_in_use, differing_sectors, is_head
from ipva_storage.fat.survey import Survey
from ipva_storage.fat.table import FatTable

if TYPE_CHECKING:
    import numpy.typing as npt

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.survey import Owner


@dataclass(frozen=True, slots=True)
class Fit:
    """What the folders make of a table."""

    owners: list[Owner]
    """All files and folders that have, or should have, clusters."""
    chain_map: ChainMap
    """One element an owner."""
    need: npt.NDArray[np.int64]
    """Clusters that the length of each asks for; of a folder what it has."""
    is_sound: npt.NDArray[np.bool_]
    """Whether the chain of each ends well, fits the length and is its own."""

    @property
    def rank(self) -> tuple[int, int]:
        """Lower fits better: broken files and folders, then lost clusters."""
        return int(np.count_nonzero(~self.is_sound)), len(self.chain_map.lost)


def fit(values: npt.NDArray[np.uint32], owners: list[Owner], geometry: Geometry) -> Fit:
    """Hold the chains of a table against the files and folders that should own them."""
    owning = [owner for owner in owners if owner.first_cluster or owner.is_dir]
    starts = np.array([owner.first_cluster for owner in owning], np.int64)
    content = np.array([owner.content_bytes for owner in owning], np.int64)
    is_dir = np.array([owner.is_dir for owner in owning], np.bool_)
    found = chains.analyse(values, starts, geometry.fat_bits)
    need = np.where(is_dir, found.lengths, -(-content // geometry.cluster_bytes))
    is_sound = (found.ends == End.GOOD) & (found.lengths == need) & ~found.is_shared
    return Fit(owning, found, need, is_sound)


def survey(device: BlockDevice, geometry: Geometry, table: FatTable) -> list[Owner]:
    """All files and folders, as far as a table leads to them."""
    walk = Survey(device, geometry, table)
    for _ in walk.walk():
        pass
    return walk.owners


def best_copy(device: BlockDevice, geometry: Geometry) -> int:
    """The copy of the table that fits the folders best; the first where they are alike."""
    copies = copies_in_use(geometry)
    if all(differing_sectors(device, geometry, copy)[0] == 0 for copy in copies[1:]):
        return copies[0]
    usable = [copy for copy in copies if is_head(device, geometry, copy)] or list(copies)
    ranks = {}
    for copy in usable if len(usable) > 1 else ():
        table = FatTable(device, geometry, copy=copy)
        if not chains.is_too_much(table.values):
            ranks[copy] = fit(table.values, survey(device, geometry, table), geometry).rank
    return min(ranks, key=lambda copy: ranks[copy]) if ranks else usable[0]
