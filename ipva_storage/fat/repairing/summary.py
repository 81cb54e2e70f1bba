"""What a volume keeps about itself: free-space summary, labels, state bits, backup boot sector."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.fat import names, records
from ipva_storage.fat.fsinfo import FsInfo
from ipva_storage.fat.geometry import BOOT_BYTES, RECORDS_MAX
from ipva_storage.fat.table import FatTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.repairing.draft import Draft

_LABEL_AT: Final = {12: 0x2B, 16: 0x2B, 32: 0x47}


def mend(draft: Draft, geometry: Geometry) -> None:
    """Put everything right that follows from the rest of the volume."""
    table = FatTable(draft, geometry)
    _mend_state(table, geometry)
    table.write()
    _mend_label(draft, geometry, table)
    _mend_fsinfo(draft, geometry, table)
    _mend_backup(draft, geometry)


def _mend_state(table: FatTable, geometry: Geometry) -> None:
    """Medium, end of chain, and both bits of a volume that was closed and read without errors."""
    table.put(0, table.mask & ~0xFF | geometry.media)
    table.put(1, table.mask)


def _mend_fsinfo(draft: Draft, geometry: Geometry, table: FatTable) -> None:
    at = geometry.fsinfo_offset_bytes
    if at is None:
        return
    info = FsInfo(draft, at)
    if not info.is_valid:
        marks = (layout.FSINFO_LEAD, layout.FSINFO_STRUCT, layout.FSINFO_UNKNOWN)
        sector = struct.pack("<I480xIII12xI", *marks, layout.FSINFO_UNKNOWN, layout.FSINFO_TRAIL)
        draft.write(at, sector)
        info = FsInfo(draft, at)
    if info.free_count != table.free_count or not _is_hint(info.next_free, geometry):
        info.update(table.free_count, layout.FIRST_CLUSTER)


def _is_hint(cluster: int | None, geometry: Geometry) -> bool:
    return cluster is None or geometry.is_cluster(cluster)


def _mend_backup(draft: Draft, geometry: Geometry) -> None:
    at = geometry.backup_offset_bytes
    if at is not None:
        boot = read(draft, 0, BOOT_BYTES)
        if read(draft, at, BOOT_BYTES) != boot:
            draft.write(at, boot)


# -- label ------------------------------------------------------------------------------------


def _mend_label(draft: Draft, geometry: Geometry, table: FatTable) -> None:
    """Make both labels alike: the root folder's counts; where it has none, the boot sector's."""
    boot_label = layout.NO_LABEL if geometry.boot_label is None else geometry.boot_label
    in_root = _root_label(draft, geometry, table)
    if in_root is None:
        in_root = layout.NO_LABEL
        is_known = boot_label != layout.NO_LABEL and names.is_label(boot_label)
        if is_known and _put_root_label(draft, geometry, table):
            in_root = boot_label
    if geometry.boot_label not in (None, in_root):
        draft.write(_LABEL_AT[geometry.fat_bits], in_root)


def _root_pieces(draft: Draft, geometry: Geometry, table: FatTable) -> Iterator[tuple[int, bytes]]:
    """The pieces of the root folder: where, and what is there."""
    if not geometry.root_cluster:
        size = geometry.root_entry_count * layout.ENTRY_BYTES
        yield geometry.root_offset_bytes, read(draft, geometry.root_offset_bytes, size)
        return
    limit = -(-RECORDS_MAX * layout.ENTRY_BYTES // geometry.cluster_bytes)
    for cluster in table.follow(geometry.root_cluster, limit=limit)[0]:
        if cluster < table.limit:
            at = geometry.cluster_offset_bytes(cluster)
            yield at, read(draft, at, geometry.cluster_bytes)


def _root_label(draft: Draft, geometry: Geometry, table: FatTable) -> bytes | None:
    for _, raw in _root_pieces(draft, geometry, table):
        parsed = records.parse(raw)
        if parsed.is_label.any():
            row: Any = parsed.table[np.flatnonzero(parsed.is_label)[0]]
            label: bytes = row["name"].tobytes()
            return label
        if parsed.end < len(raw) // layout.ENTRY_BYTES:
            break
    return None


def _put_root_label(draft: Draft, geometry: Geometry, table: FatTable) -> bool:
    """Write the boot sector's label into the first free record of the root folder, if any."""
    assert geometry.boot_label is not None
    record = geometry.boot_label + bytes([layout.ATTRIBUTE_LABEL]) + bytes(20)
    for at, raw in _root_pieces(draft, geometry, table):
        heads = raw[:: layout.ENTRY_BYTES]
        free = [index for index, head in enumerate(heads) if head in (0, layout.MARK_DELETED)]
        if not free:
            continue
        index = free[0]
        if heads[index] == layout.MARK_END:
            if index + 1 == len(heads):
                return False  # the next cluster was never used, and may hold anything
            draft.write(at + (index + 1) * layout.ENTRY_BYTES, bytes(1))
        draft.write(at + index * layout.ENTRY_BYTES, record)
        return True
    return False
