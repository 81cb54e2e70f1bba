"""Copies of folders that a cut left, told from folders that are lost."""

from __future__ import annotations

import pytest

from ipva_storage import fat
from ipva_storage.device import MemoryDevice, read
from ipva_storage.fat import geometry, leftovers
from ipva_storage.fat.leftovers import Leftovers
from ipva_storage.fat.table import FatTable
from ipva_storage.testing.fat_growth import codes, contents
from ipva_storage.units import MIB


def with_copy(*, is_same: bool, bits: int) -> tuple[MemoryDevice, int]:
    """A volume with a second copy of a folder, which nothing leads to, and where that starts."""
    device = MemoryDevice({12: MIB, 32: 36 * MIB}[bits])
    fat.format(device, fat_bits=bits, cluster_bytes=512, volume_id=7)
    with fat.open(device) as volume:
        volume.mkdir("/folder")
        for number in range(30):
            volume.write(f"/folder/A file {number}.txt", bytes([number + 1]) * 700)
        first = volume.stat("/folder").first_cluster
        moved = volume.stat("/folder/A file 3.txt").first_cluster
    found = geometry.parse(device)
    table = FatTable(device, found)
    chain = table.follow(first)[0]
    copy = table.allocate(len(chain))
    other = table.allocate(2)
    for source, target in zip(chain, copy, strict=True):
        raw = read(device, found.cluster_offset_bytes(source), 512)
        for old, new in ((first, copy[0]), (moved, other[0])):
            for at in range(26, 512, 32):
                if raw[at : at + 2] == old.to_bytes(2, "little"):
                    raw = raw[:at] + new.to_bytes(2, "little") + raw[at + 2 :]
        device.write(found.cluster_offset_bytes(target), raw)
    content = read(device, found.cluster_offset_bytes(moved), 1024)
    device.write(found.cluster_offset_bytes(other[0]), content if is_same else bytes(1024))
    table.write()
    return device, copy[0]


@pytest.mark.parametrize("bits", [12, 32])
def test_a_copy_is_no_lost_folder(bits: int) -> None:
    """One with the same records and contents is lost clusters, and goes with a repair."""
    device, head = with_copy(is_same=True, bits=bits)
    found = geometry.parse(device)
    assert Leftovers(device, found, FatTable(device, found)).has(head)
    assert codes(device) - {"FAT018"} == {"FAT011"}
    expected = contents(device)
    fat.repair(device)
    now = contents(device)
    assert {path: now[path] for path in expected} == expected
    assert [path for path in now if path not in expected] == ["/FSCK0000.REC"]
    assert not codes(device)


def test_a_folder_with_other_contents_is_lost() -> None:
    """With the same names and another content it is a folder, and a repair brings it back."""
    device, head = with_copy(is_same=False, bits=12)
    found = geometry.parse(device)
    assert not Leftovers(device, found, FatTable(device, found)).has(head)
    assert "FAT050" in codes(device)
    leftovers.drop(device, found)
    assert "FAT050" in codes(device)


def test_half_a_copy_is_one_too() -> None:
    """Of a chain that was on its way into the table only the start may be there."""
    device, head = with_copy(is_same=True, bits=12)
    found = geometry.parse(device)
    table = FatTable(device, found)
    chain = table.follow(head)[0]
    table.put(chain[1], 0)
    table.write()
    assert Leftovers(device, found, FatTable(device, found)).has(head)
    leftovers.drop(device, found)
    assert FatTable(device, found)[head] == 0


def test_no_folder_is_no_copy() -> None:
    """A cluster that begins no folder is left alone."""
    device, head = with_copy(is_same=True, bits=12)
    found = geometry.parse(device)
    device.write(found.cluster_offset_bytes(head), b"content")
    assert not Leftovers(device, found, FatTable(device, found)).has(head)


def test_folders_beyond_the_end_of_an_image() -> None:
    """A lost folder on an image that was cut off amid another folder is told, and no error."""
    device, _ = with_copy(is_same=False, bits=12)
    with fat.open(device) as volume:
        volume.mkdir("/last")
        last = volume.stat("/last").first_cluster
        at = volume.geometry.cluster_offset_bytes(last)
    del device.data[at:]
    assert {"FAT020", "FAT050"} <= codes(device)
