"""All folders of a volume in memory, to be written anew elsewhere with other cluster numbers.

What moves folders or the starts of files (grow, defrag) never changes a folder in place: it writes
all of them into free clusters, each with the numbers that will be right there, and then changes
the one place that says where the root folder is. The old folders stay whole until then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.errors import FatError
from ipva_storage.fat import records
from ipva_storage.fat.geometry import RECORDS_MAX
from ipva_storage.fat.table import check_chain, runs
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.table import FatTable

    Numbers = npt.NDArray[np.int64]

TREE_BYTES_MAX: Final = 128 * MIB
"""Most of all folders together, which would hold a million files. Confidence: chosen."""
FREE_RECORD: Final = bytes([layout.MARK_DELETED]) + bytes(layout.ENTRY_BYTES - 1)


@dataclass(slots=True)
class TreeFolder:
    """One folder."""

    clusters: list[int]
    """Its chain; empty for the fixed root folder."""
    table: npt.NDArray[Any]
    """Its records as `ENTRY`, up to the end mark; shape (n,)."""
    parent: int
    """Index of the folder above; the root is its own."""
    children: list[tuple[int, int]] = field(default_factory=list)
    """Record and index of each folder in it."""
    live: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    """Which records are in use: names, long-name records that belong to one, the label."""

    @property
    def start(self) -> int:
        """Its first cluster; 0 for the fixed root folder."""
        return self.clusters[0] if self.clusters else 0


class FolderTree:
    """The folders of a volume, the root first, each before those in it."""

    def __init__(self, device: BlockDevice, geometry: Geometry, table: FatTable) -> None:
        """Read all folders.

        Raises:
            FatError: one of them cannot be followed, or there are too many.
            DeviceError: the medium cannot be read.
        """
        self._device = device
        self._geometry = geometry
        self._table = table
        self._is_32 = geometry.fat_bits == 32
        self._read_bytes = 0
        self.folders = [self._read(geometry.root_cluster, 0)]
        self._seen = {self.folders[0].start}
        for index, folder in enumerate(self.folders):
            self._enter(index, folder)

    @property
    def clusters(self) -> Numbers:
        """The clusters of all folders, folder by folder."""
        return np.array([each for folder in self.folders for each in folder.clusters], np.int64)

    def starts(self) -> Numbers:
        """First clusters of all files and folders, as the records of all folders tell them."""
        found = [self._starts(folder)[folder.live & _has_start(folder)] for folder in self.folders]
        return np.concatenate(found)

    def packed_counts(self) -> list[int]:
        """How many clusters each folder needs without its free records; 0 for a fixed root."""
        step = self._geometry.cluster_bytes
        return [
            -(-max(1, len(_pack(folder.table, folder.live, self._geometry))) // step)
            if folder.clusters
            else 0
            for folder in self.folders
        ]

    def render(
        self, remap: Numbers, starts: Sequence[int], *, is_32: bool, is_packed: bool = False
    ) -> list[bytes]:
        """The content of every folder with other numbers, up to its end mark.

        Args:
            remap: the new number of each cluster, 0 where its content is gone; shape (entries,).
            starts: where each folder will start.
            is_32: whether the numbers will have 32 bits.
            is_packed: leave out records that are free, but in a root folder with a place of its
                own, which cannot be replaced at once.
        """
        return [
            self._render(index, remap, starts, is_32=is_32, is_packed=is_packed)
            for index in range(len(self.folders))
        ]

    def _read(self, start: int, parent: int) -> TreeFolder:
        geometry = self._geometry
        if not start:
            chain: list[int] = []
            size = geometry.root_entry_count * layout.ENTRY_BYTES
            raw = read(self._device, geometry.root_offset_bytes, size)
        else:
            limit = -(-RECORDS_MAX * layout.ENTRY_BYTES // geometry.cluster_bytes)
            what = f"a folder at cluster {start}"
            chain, fault = self._table.follow(start, limit=limit)
            if fault is None and max(chain) >= self._table.limit:
                fault = "it leaves the device"
            check_chain(len(chain), fault, what, self._device.name)
            raw = b"".join(
                read(self._device, geometry.cluster_offset_bytes(first), count * self._step)
                for first, count in runs(chain)
            )
        self._read_bytes += len(raw)
        if self._read_bytes > TREE_BYTES_MAX:
            raise FatError(
                f"its folders have more than {TREE_BYTES_MAX // MIB} MiB",
                where=self._device.name,
                remedy="remove files, or format it anew",
            )
        parsed = records.parse(raw)
        live = parsed.is_short | parsed.is_label | (parsed.is_long & ~parsed.is_orphan)
        return TreeFolder(chain, parsed.table, parent, live=live)

    @property
    def _step(self) -> int:
        return self._geometry.cluster_bytes

    def _enter(self, index: int, folder: TreeFolder) -> None:
        attributes = folder.table["attributes"]
        is_folder = folder.live & _has_start(folder) & ~_is_dot(folder)
        is_folder &= (attributes & layout.ATTRIBUTE_FOLDER) != 0
        starts = self._starts(folder)
        for record in np.flatnonzero(is_folder).tolist():
            start = int(starts[record])
            if start in self._seen:
                raise FatError(
                    f"two folders start at cluster {start}",
                    where=self._device.name,
                    remedy="mend it with: ipva fs repair DISK",
                )
            self._seen.add(start)
            folder.children.append((record, len(self.folders)))
            self.folders.append(self._read(start, index))

    def _starts(self, folder: TreeFolder) -> Numbers:
        low = folder.table["cluster_low"].astype(np.int64)
        if not self._is_32:
            return low
        return low | folder.table["cluster_high"].astype(np.int64) << 16

    def _render(
        self, index: int, remap: Numbers, new: Sequence[int], *, is_32: bool, is_packed: bool
    ) -> bytes:
        folder = self.folders[index]
        table, starts = folder.table.copy(), self._starts(folder)
        has_start = _has_start(folder)
        is_cluster = has_start & (starts >= layout.FIRST_CLUSTER) & (starts < len(remap))
        changed = np.zeros(len(starts), np.int64)
        changed[is_cluster] = remap[starts[is_cluster]]
        for record, child in folder.children:
            changed[record] = new[child]
        if index:
            self._set_dots(folder, changed, new[index], new[folder.parent] if folder.parent else 0)
        table["cluster_low"][has_start] = changed[has_start] & 0xFFFF
        if is_32:
            table["cluster_high"][has_start] = changed[has_start] >> 16
        if is_packed and folder.clusters:
            return _pack(table, folder.live, self._geometry)
        return table.tobytes()

    def _set_dots(self, folder: TreeFolder, starts: Numbers, own: int, above: int) -> None:
        for record, (name, number) in enumerate(
            ((records.DOT, own), (records.DOT_DOT, above)),
        ):
            if record < len(starts) and folder.table["name"][record].tobytes() == name:
                starts[record] = number


def _has_start(folder: TreeFolder) -> npt.NDArray[np.bool_]:
    """Which records have a first cluster: all but labels and parts of long names; deleted too."""
    found: npt.NDArray[np.bool_] = (folder.table["attributes"] & layout.ATTRIBUTE_LABEL) == 0
    return found


def _is_dot(folder: TreeFolder) -> npt.NDArray[np.bool_]:
    names = np.ascontiguousarray(folder.table["name"]).view(np.uint8).reshape(-1, 11)
    found = np.zeros(len(names), np.bool_)
    for name in (records.DOT, records.DOT_DOT):
        found |= (names == np.frombuffer(name, np.uint8)).all(axis=1)
    return found


def _pack(table: npt.NDArray[Any], live: npt.NDArray[np.bool_], geometry: Geometry) -> bytes:
    """The records in use without gaps, but those of one name within a sector where they fit."""
    per_sector = geometry.sector_bytes // layout.ENTRY_BYTES
    is_long = (table["attributes"] & layout.ATTRIBUTE_LONG_NAME_MASK) == layout.ATTRIBUTE_LONG_NAME
    raw, kept = table.tobytes(), np.flatnonzero(live)
    ends = np.flatnonzero(~is_long[kept]) + 1
    pieces: list[bytes] = []
    at = first = 0
    for end in ends.tolist():
        count, room = end - first, per_sector - at % per_sector
        if room < count <= per_sector:
            pieces.append(FREE_RECORD * room)
            at += room
        begin = int(kept[first]) * layout.ENTRY_BYTES
        pieces.append(raw[begin : begin + count * layout.ENTRY_BYTES])
        at, first = at + count, end
    return b"".join(pieces)
