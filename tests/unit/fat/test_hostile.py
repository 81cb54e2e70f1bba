"""Volumes made to keep a check busy end with a finding, soon and in little memory."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ipva_storage import fat
from ipva_storage.device import MemoryDevice, OverlayDevice
from ipva_storage.fat import geometry
from ipva_storage.fat.table import FatTable
from ipva_storage.units import GIB, MIB
from tests.damage.fat_damage import folder_in_ancestor, folder_in_itself
from tests.damage.fat_volumes import Damage, Volume, entry, sound

SECONDS_MAX = 2.0
MEMORY_MAX = 256 * MIB


class Hole(MemoryDevice):
    """A device of zeros of any length."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(1)
        self._length = size_bytes

    @property
    def size_bytes(self) -> int:
        """Length in bytes."""
        return self._length

    def read_into(self, offset_bytes: int, buffer: Any, /) -> None:
        """Zeros."""
        view = memoryview(buffer).cast("B")
        view[:] = bytes(len(view))


def large() -> tuple[OverlayDevice, geometry.Geometry]:
    """A FAT32 volume of ten million clusters."""
    device = OverlayDevice(Hole(5 * GIB))
    fat.format(device, fat_bits=32, cluster_bytes=512)
    return device, geometry.parse(device)


def fill(device: OverlayDevice, found: geometry.Geometry, values: npt.NDArray[np.uint32]) -> None:
    """Write the table from entry 2 on, in both copies."""
    for copy in range(found.fat_count):
        at = found.fat_offset_bytes + copy * found.fat_bytes + 8
        device.write(at, values.astype("<u4").tobytes())


def judged(device: OverlayDevice) -> set[str]:
    """The findings, within bounds of time and memory."""
    tracemalloc.start()
    started = time.process_time()
    codes = {one.code for one in fat.check(device)}
    spent = time.process_time() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spent < 2 * SECONDS_MAX  # tracing slows it down; measured without in the next test
    assert peak < MEMORY_MAX
    return codes


@pytest.mark.slow
@pytest.mark.parametrize("order", ["up", "down", "shuffled"])
def test_ring_of_ten_million(order: str) -> None:
    """A root folder that is a ring of ten million clusters."""
    device, found = large()
    count = found.cluster_count
    values = np.arange(3, count + 3, dtype=np.uint32)
    values[-1] = 2
    if order == "down":
        values = np.arange(1, count + 1, dtype=np.uint32)
        values[0] = count + 1
    if order == "shuffled":
        ring = np.random.default_rng(1).permutation(count).astype(np.uint32)
        values[ring] = np.roll(ring, -1) + 2
    fill(device, found, values)
    started = time.process_time()
    assert {one.code for one in fat.check(device)} & {"FAT009", "FAT021"}
    assert time.process_time() - started < SECONDS_MAX
    assert judged(device) & {"FAT009", "FAT021"}


def test_length_of_four_gigabytes() -> None:
    """Files of a volume of 1 MiB say that they have 4 GiB; a check and a repair end at once."""
    volume = Volume(sound(12))
    for path in ("/A.TXT", "/EMPTY", "/SUB/B.TXT", "/Z.TXT"):
        volume.patch(path, 28, b"\xff" * 4)
    started = time.process_time()
    assert {one.code for one in fat.check(volume.device)} >= {"FAT007", "FAT012"}
    fat.repair(volume.device)
    assert not [one for one in fat.check(volume.device) if one.severity != "info"]
    assert time.process_time() - started < SECONDS_MAX


@pytest.mark.parametrize("damage", [folder_in_itself, folder_in_ancestor])
def test_folder_that_contains_itself(damage: Damage) -> None:
    """A folder in itself, or in one below it, is told, ends every walk, and is mended."""
    volume = Volume(sound(12))
    damage(volume)
    started = time.process_time()
    assert {one.code for one in fat.check(volume.device)} & {"FAT040", "FAT041"}
    assert len(list(fat.open(volume.device).walk())) < 100
    fat.repair(volume.device)
    assert not [one for one in fat.check(volume.device) if one.severity != "info"]
    assert time.process_time() - started < SECONDS_MAX


def test_nest_of_folders() -> None:
    """Folders within folders, one in each cluster, end with a word that it was too deep."""
    volume = Volume(sound(16))
    device, found = volume.device, volume.geometry
    table = FatTable(device, found)
    first = 1000
    for cluster in range(first, first + 2000):
        up = 0 if cluster == first else cluster - 1
        records = (
            entry(b".          ", attributes=0x10, cluster=cluster)
            + entry(b"..         ", attributes=0x10, cluster=up)
            + entry(b"D          ", attributes=0x10, cluster=cluster + 1)
        )
        volume.put(found.cluster_offset_bytes(cluster), records)
        table.put(cluster, table.end)
    table.write()
    volume.put(volume.free_record(), entry(b"D          ", attributes=0x10, cluster=first))
    started = time.process_time()
    assert "FAT021" in {one.code for one in fat.check(device)}
    assert time.process_time() - started < SECONDS_MAX
    before = bytes(device.data)
    fat.repair(device)
    assert bytes(device.data) == before


def test_every_record_names_every_cluster() -> None:
    """A root folder full of folders that all are the root's own clusters, or each other's."""
    volume = Volume(sound(16))
    root = volume.geometry.root_offset_bytes
    for index in range(volume.geometry.root_entry_count):
        name = b"F%07d   " % index
        volume.put(root + 32 * index, entry(name, attributes=0x10, cluster=2 + index % 40))
    started = time.process_time()
    assert "FAT041" in {one.code for one in fat.check(volume.device)}
    fat.repair(volume.device)
    assert not [one for one in fat.check(volume.device) if one.severity != "info"]
    assert time.process_time() - started < 4 * SECONDS_MAX


def test_a_thousand_files_in_one_chain() -> None:
    """Files that all share one chain are told, and given copies as far as there is room."""
    volume = Volume(sound(16))
    first = volume.free_record()
    start = volume.chain("/SUB/Second long name.dat")[0]
    size = 6 * volume.geometry.cluster_bytes
    for index in range(volume.geometry.root_entry_count - 20):
        name = b"F%07d   " % index
        volume.put(first + 32 * index, entry(name, cluster=start, length=size))
    started = time.process_time()
    assert "FAT010" in {one.code for one in fat.check(volume.device)}
    fat.repair(volume.device)
    assert not [one for one in fat.check(volume.device) if one.severity != "info"]
    assert time.process_time() - started < 4 * SECONDS_MAX
