"""The table in memory: following, allocating, writing."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ipva_storage import fat
from ipva_storage.device import MemoryDevice, TraceDevice
from ipva_storage.errors import NoSpaceError
from ipva_storage.fat import geometry
from ipva_storage.fat.table import FatTable, expand
from ipva_storage.units import KIB, MIB


def make(bits: int = 12) -> tuple[TraceDevice, FatTable]:
    """The table of an empty volume."""
    size_bytes, cluster_bytes = {12: (MIB, 512), 16: (5 * MIB, KIB), 32: (34 * MIB, 512)}[bits]
    device = TraceDevice(MemoryDevice(size_bytes))
    fat.format(device, fat_bits=bits, cluster_bytes=cluster_bytes)
    device.reset()
    return device, FatTable(device, geometry.parse(device))


def test_folders_avoid_entries_across_sectors() -> None:
    """On FAT12 a folder gets no cluster whose entry lies in two sectors."""
    _, table = make()
    whole = [table.allocate(1, whole_entries=True)[0] for _ in range(1000)]
    assert not [cluster for cluster in whole if cluster * 12 // 4096 != (cluster * 12 + 11) // 4096]
    assert table.allocate(1)[0] not in whole


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_only_changed_sectors_are_written(bits: int) -> None:
    """A short chain costs one sector in each copy, and a fresh look sees it."""
    device, table = make(bits)
    chain = table.allocate(3)
    table.write()
    assert device.work.write_bytes == 2 * 512
    again = FatTable(device, geometry.parse(device))
    assert again.follow(chain[0]) == (chain, None)
    assert again.values.tolist() == table.values.tolist()
    assert again.free_count == table.free_count


def test_full_table_takes_nothing() -> None:
    """More clusters than are free are refused, and none is taken."""
    _, table = make()
    free_count = table.free_count
    with pytest.raises(NoSpaceError):
        table.allocate(free_count + 1)
    assert table.free_count == free_count
    assert len(table.allocate(free_count)) == free_count
    assert table.free_count == 0


def test_search_starts_again_at_the_front() -> None:
    """Clusters freed before the hint are found when those after it are gone."""
    _, table = make()
    first = table.allocate(10)
    table.allocate(table.free_count)
    table.release(first)
    assert table.allocate(10) == first


def test_top_bits_of_fat32_are_kept() -> None:
    """The four top bits of an entry stay as they are when the rest changes."""
    device, _ = make(32)
    found = geometry.parse(device)
    device.write(found.fat_offset_bytes + 4 * 5, b"\0\0\0\xa0")
    table = FatTable(device, found)
    assert table[5] == 0
    table.put(5, table.end)
    table.write()
    data = bytearray(4)
    device.read_into(found.fat_offset_bytes + 4 * 5, data)
    assert data == b"\xff\xff\xff\xaf"


def test_single_table_in_use() -> None:
    """With mirroring off only the table in use is read and written."""
    device, _ = make(32)
    device.write(40, b"\x81")
    found = geometry.parse(device)
    assert found.mirrored_fat == 1
    table = FatTable(device, found)
    table.allocate(1)
    device.reset()
    table.write()
    assert [record.offset_bytes for record in device.records] == [
        found.fat_offset_bytes + found.fat_bytes
    ]


def test_rings_end() -> None:
    """A chain in a ring gives each cluster once, and says so."""
    _, table = make()
    for cluster, following in ((5, 6), (6, 7), (7, 6)):
        table.put(cluster, following)
    assert table.follow(5) == ([5, 6, 7], "it runs in a ring")
    assert table.follow(5, limit=3) == ([5, 6, 7], None)


def test_garbage_after_the_end_of_a_folder_stays_away() -> None:
    """Records after the end mark never come back when the folder grows up to them."""
    device = MemoryDevice(MIB)
    fat.format(device, cluster_bytes=KIB)
    with fat.open(device) as volume:
        volume.mkdir("/d")
        for number in range(30):
            volume.write(f"/d/F{number}", b"")
        found, cluster = volume.geometry, volume.stat("/d").first_cluster
    at = found.cluster_offset_bytes(cluster)
    device.data[at + 2 * 32] = 0  # the end comes right after `.` and `..`
    with fat.open(device) as volume:
        assert volume.list("/d") == []
        for number in range(14):
            volume.write(f"/d/N{number}", b"")
    assert [entry.name for entry in fat.open(device).list("/d")] == [f"N{n}" for n in range(14)]


def test_runs_are_those_of_the_chain() -> None:
    """Following by runs finds what following cluster by cluster does: in rings and breaks, too."""
    chance = random.Random(5)
    device = MemoryDevice(MIB)
    fat.format(device, fat_bits=12, cluster_bytes=512)
    table = FatTable(device, fat.open(device).geometry)
    for _ in range(300):
        table.values[2:] = np.arange(3, len(table.values) + 1)
        for _ in range(chance.randrange(1, 12)):
            value = chance.choice([0, table.bad, table.end, *range(2, len(table.values), 97)])
            table.values[chance.randrange(2, len(table.values))] = value
        for limit in (None, 1, 63, 64, 65, 700):
            chain, fault = table.follow(first := chance.randrange(2, 700), limit=limit)
            found, same_fault = table.follow_runs(first, limit=limit)
            assert (expand(found), same_fault) == (chain, fault)
