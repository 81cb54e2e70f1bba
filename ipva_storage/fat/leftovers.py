"""Copies of folders that a growth or defragmentation which was cut left behind.

Both write folders anew before the volume has them, and free the old ones after it. A cut in between
leaves one of the two in use by nothing; it looks like a lost folder. It is none where a folder of
the volume has the same records, in the same order, and all files in it have the same content, which
is so where they start at the same cluster or the first cluster is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.errors import DeviceError, FatError
from ipva_storage.fat import chains, records
from ipva_storage.fat.geometry import RECORDS_MAX
from ipva_storage.fat.relocating import FolderTree
from ipva_storage.fat.table import FatTable, runs

if TYPE_CHECKING:
    import numpy.typing as npt

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry

    Rows = npt.NDArray[Any]


HEADS_MAX: Final = 4096
"""Chains that nothing leads to, of which the first cluster is looked at. Confidence: chosen."""


class Leftovers:
    """Tells which folders that nothing leads to are copies of folders of the volume."""

    def __init__(self, device: BlockDevice, geometry: Geometry, table: FatTable) -> None:
        """Look at nothing yet: the folders are read when the first head is asked about."""
        self._device = device
        self._geometry = geometry
        self._table = table
        self._known: dict[bytes, list[Rows]] | None = None

    def has(self, head: int) -> bool:
        """Whether a folder begins at a cluster, to which nothing leads, that is a copy."""
        if dot_dot(self._device, self._geometry, head) is None:
            return False
        if self._known is None:
            self._known = self._folders()
        rows, is_whole = self._rows(head)
        signature = _signature(rows)
        if is_whole:
            same = self._known.get(signature, [])
        else:  # its chain was on the way into the table, or out of it
            longer = (key for key in self._known if key.startswith(signature))
            same = [other[: len(rows)] for key in longer for other in self._known[key]]
        return any(self._is_same(rows, other) for other in same)

    def _folders(self) -> dict[bytes, list[Rows]]:
        """The records of the volume's folders, by what they have but for first clusters."""
        try:
            folders = FolderTree(self._device, self._geometry, self._table).folders
        except FatError:  # too damaged to say
            return {}
        found: dict[bytes, list[Rows]] = {}
        for folder in folders:
            rows = _without_dots(folder.table[folder.live])
            found.setdefault(_signature(rows), []).append(rows)
        return found

    def _rows(self, head: int) -> tuple[Rows, bool]:
        """The records of the folder that a chain is, and whether the chain ends as it should."""
        step = self._geometry.cluster_bytes
        limit = -(-RECORDS_MAX * layout.ENTRY_BYTES // step)
        chain, fault = self._table.follow(head, limit=limit)
        inside = [cluster for cluster in chain if cluster < self._table.limit]
        raw = b"".join(
            read(self._device, self._geometry.cluster_offset_bytes(first), count * step)
            for first, count in runs(inside)
        )
        parsed = records.parse(raw)
        live = parsed.is_short | parsed.is_label | (parsed.is_long & ~parsed.is_orphan)
        return _without_dots(parsed.table[live]), fault is None and len(inside) == len(chain)

    def _is_same(self, rows: Rows, other: Rows) -> bool:
        """Whether all files have the same content, by their first clusters."""
        is_file = (rows["content_bytes"] > 0) & (
            (rows["attributes"] & (layout.ATTRIBUTE_FOLDER | layout.ATTRIBUTE_LABEL)) == 0
        )
        bits = self._geometry.fat_bits
        pairs = (records.first_clusters(each, bits)[is_file].tolist() for each in (rows, other))
        return all(
            one == two or self._content(one) == self._content(two) != b""
            for one, two in zip(*pairs, strict=True)
        )

    def _content(self, cluster: int) -> bytes:
        """What is in a cluster; nothing where there is none of that number."""
        if not layout.FIRST_CLUSTER <= cluster < self._table.limit:
            return b""
        at = self._geometry.cluster_offset_bytes(cluster)
        return read(self._device, at, self._geometry.cluster_bytes)


def drop(device: BlockDevice, geometry: Geometry) -> None:
    """Free the copies that an earlier job which was cut left; other lost clusters stay."""
    table = FatTable(device, geometry)
    starts = FolderTree(device, geometry, table).starts()
    if geometry.root_cluster:
        starts = np.append(starts, geometry.root_cluster)
    lost = chains.analyse(table.values, starts, geometry.fat_bits).lost
    if not len(lost):
        return
    copies = Leftovers(device, geometry, table)
    heads = chains.orphans(table.values, lost, geometry.fat_bits).heads
    found = [head for head in heads[:HEADS_MAX].tolist() if copies.has(head)]
    for head in found:
        chain = np.array(table.follow(head)[0], np.int64)
        mine = chain[np.isin(chain, lost)]
        table.put_all(mine, np.zeros(len(mine), np.int64))
    if found:
        table.write()
        device.flush()


def dot_dot(device: BlockDevice, geometry: Geometry, cluster: int) -> int | None:
    """The cluster that `..` names, where a cluster begins with the `.` of itself and `..`."""
    if cluster >= layout.FIRST_CLUSTER + geometry.reachable_cluster_count:
        return None
    try:
        raw = read(device, geometry.cluster_offset_bytes(cluster), 2 * layout.ENTRY_BYTES)
    except DeviceError:
        return None
    if raw[:11] != records.DOT or raw[32:43] != records.DOT_DOT:
        return None
    rows = np.frombuffer(raw, records.ENTRY)
    own, above = records.first_clusters(rows, geometry.fat_bits).tolist()
    is_folder = bool((rows["attributes"] & layout.ATTRIBUTE_FOLDER).all())
    return above if own == cluster and is_folder else None


def _without_dots(rows: Rows) -> Rows:
    names = np.ascontiguousarray(rows["name"]).view(np.uint8).reshape(-1, 11)
    is_dot = np.zeros(len(rows), np.bool_)
    for name in (records.DOT, records.DOT_DOT):
        is_dot |= (names == np.frombuffer(name, np.uint8)).all(axis=1)
    found: Rows = rows[~is_dot]
    return found


def _signature(rows: Rows) -> bytes:
    """The records without first clusters."""
    plain = rows.copy()
    is_long = (plain["attributes"] & layout.ATTRIBUTE_LONG_NAME_MASK) == layout.ATTRIBUTE_LONG_NAME
    for name in ("cluster_high", "cluster_low"):
        plain[name][~is_long] = 0
    return plain.tobytes()
