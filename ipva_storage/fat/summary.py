"""Size, free space and label of a volume without NumPy: what `ipva info` prints, in a moment.

Everything is what `FatVolume` says of the same volume, errors included; property tests hold the two
equal. Up to a table of some 8 million entries, importing NumPy takes longer than all that is done
here. The free-space summary of FAT32 is not asked: it is a hint, and may be wrong.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipva_formats import fat as layout
from ipva_storage.device import is_zero, read
from ipva_storage.errors import FatError
from ipva_storage.fat import geometry as boot_sector
from ipva_storage.fat.geometry import RECORDS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry

LANES: Final = 1 << 14
"""Entries counted at a time; even, so that FAT12's end on a byte. Confidence: chosen (fastest)."""

_IS_LABEL: Final = bytes(
    (attributes & layout.ATTRIBUTE_LONG_NAME_MASK) != layout.ATTRIBUTE_LONG_NAME
    and bool(attributes & layout.ATTRIBUTE_LABEL)
    for attributes in range(256)
)
"""For each attribute byte, whether its record is a label and not a part of a long name."""


@dataclass(frozen=True, slots=True)
class VolumeSummary:
    """What a volume is, without its files."""

    fat_bits: int
    """12, 16 or 32."""
    size_bytes: int
    """Room for data, used or not: all clusters."""
    free_bytes: int
    """Room left for new files, in whole clusters."""
    label: str | None
    """The label in the root folder, else the one in the boot sector, else None."""


def summarise(device: BlockDevice, *, code_page: str = "cp437") -> VolumeSummary:
    """Size, free space and label of a volume. One copy of its table and its root folder are read.

    Args:
        device: the volume, not the disk.
        code_page: Python's name for the code page of short names and labels.

    Raises:
        FatError: it is no FAT volume, or its boot sector or root folder cannot be believed.
        DeviceError: the medium cannot be read.
    """
    geometry = boot_sector.parse(device)
    if geometry.root_cluster:
        table = _read_table(device, geometry)
        root = _read_root_chain(device, geometry, table)
    else:
        root_bytes = geometry.root_entry_count * layout.ENTRY_BYTES
        root = read(device, geometry.root_offset_bytes, root_bytes)
        table = _read_table(device, geometry)
    return VolumeSummary(
        fat_bits=geometry.fat_bits,
        size_bytes=geometry.cluster_count * geometry.cluster_bytes,
        free_bytes=_free_count(table, geometry) * geometry.cluster_bytes,
        label=find_label(root, code_page) or geometry.label,
    )


def _read_table(device: BlockDevice, geometry: Geometry) -> bytearray:
    """The copy of the table in use: at most 64 MiB, by `geometry.CLUSTERS_TAKEN_MAX`."""
    table = bytearray((geometry.entry_count * geometry.fat_bits + 7) // 8)
    offset_bytes = geometry.fat_offset_bytes + (geometry.mirrored_fat or 0) * geometry.fat_bytes
    device.read_into(offset_bytes, table)
    return table


# -- free space -------------------------------------------------------------------------------


def _free_count(table: bytearray, geometry: Geometry) -> int:
    """Zero entries among the reachable clusters; FAT32's top four bits do not count."""
    before, limit = layout.FIRST_CLUSTER, geometry.reachable_cluster_count + layout.FIRST_CLUSTER
    bits = geometry.fat_bits
    return count_zero_entries(table, bits, limit) - count_zero_entries(table, bits, before)


def count_zero_entries(table: bytearray | bytes, fat_bits: int, entry_count: int) -> int:
    """Zero entries among the first ones of a table.

    A table of any width is one long number, of which the entries are the digits (MS, "FAT Data
    Structure": low bits first). Adding 0111…1 to what a digit has below its top bit sets the top
    bit exactly when that is not zero, and carries nothing into the next digit. So a few operations
    on long numbers tell all entries at once, at 6 ns each.

    Args:
        table: at least `entry_count` entries long.
        fat_bits: 12, 16 or 32; of 32, the low 28 count.
        entry_count: how many to look at.
    """
    entry_mask, low_bits, top_bit = _masks(fat_bits)
    view = memoryview(table)
    found = 0
    for first in range(0, entry_count, LANES):
        count = min(LANES, entry_count - first)
        start, stop = first * fat_bits // 8, ((first + count) * fat_bits + 7) // 8
        if is_zero(view[start:stop]):
            found += count
            continue
        digits = int.from_bytes(view[start:stop], "little") & ((1 << count * fat_bits) - 1)
        digits &= entry_mask
        found += count - (((digits & low_bits) + low_bits | digits) & top_bit).bit_count()
    return found


@functools.cache
def _masks(fat_bits: int) -> tuple[int, int, int]:
    """For `LANES` entries: the bits that count, all bits below the top one, and the top one."""
    top = 1 << (fat_bits - 1)
    entry_mask, low_bits, top_bit = (
        int.from_bytes(
            (digit | digit << fat_bits).to_bytes(fat_bits // 4, "little") * (LANES // 2), "little"
        )
        for digit in (layout.ENTRY_MASK[fat_bits], top - 1, top)
    )
    return entry_mask, low_bits, top_bit


# -- label ------------------------------------------------------------------------------------


def find_label(root: bytes | bytearray, code_page: str) -> str | None:
    """The label among the records of a root folder: the first that is live, up to the end mark."""
    heads = root[:: layout.ENTRY_BYTES]
    end = heads.find(layout.MARK_END)
    heads = heads if end < 0 else heads[:end]
    marks = root[11 :: layout.ENTRY_BYTES][: len(heads)].translate(_IS_LABEL)
    index = marks.find(1)
    while index >= 0 and heads[index] == layout.MARK_DELETED:
        index = marks.find(1, index + 1)
    if index < 0:
        return None
    at = index * layout.ENTRY_BYTES
    return root[at : at + 11].decode(code_page, "replace").rstrip(" ") or None


def _read_root_chain(device: BlockDevice, geometry: Geometry, table: bytearray) -> bytes:
    """The root folder of FAT32, as far as its clusters lie within the device.

    Raises:
        FatError: it starts at a cluster that does not exist.
    """
    chain = _follow(geometry, table)
    if not chain:
        raise FatError(
            f"a folder starts at cluster {geometry.root_cluster}, which cannot be",
            where=device.name,
            remedy="run a check of the volume",
        )
    limit = geometry.reachable_cluster_count + layout.FIRST_CLUSTER
    reachable = [cluster for cluster in chain if cluster < limit]
    return b"".join(
        read(device, geometry.cluster_offset_bytes(first), count * geometry.cluster_bytes)
        for first, count in _runs(reachable)
    )


def _follow(geometry: Geometry, table: bytearray) -> list[int]:
    """The clusters of the root folder, no more than a folder may have, none of them twice."""
    limit = -(-RECORDS_MAX * layout.ENTRY_BYTES // geometry.cluster_bytes)
    chain: dict[int, None] = {}
    cluster = geometry.root_cluster
    while len(chain) < limit and geometry.is_cluster(cluster) and cluster not in chain:
        chain[cluster] = None
        at = cluster * 4
        cluster = int.from_bytes(table[at : at + 4], "little") & layout.ENTRY_MASK[32]
    return list(chain)


def _runs(chain: list[int]) -> Iterator[tuple[int, int]]:
    """A chain as runs of neighbouring clusters: (first cluster, how many)."""
    first = count = 0
    for cluster in chain:
        if cluster == first + count and count:
            count += 1
            continue
        if count:
            yield first, count
        first, count = cluster, 1
    if count:
        yield first, count
