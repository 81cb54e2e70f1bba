"""What a summary reads and says, where the property tests do not look."""

from __future__ import annotations

import gzip
import itertools
import os
from pathlib import Path

import pytest

from ipva_storage import fat, vmdk
from ipva_storage.device import BlockDevice, Folder, MemoryDevice, RawDevice, TraceDevice
from ipva_storage.errors import FatError, IpvaError, VmdkError
from ipva_storage.fat import summary
from ipva_storage.units import KIB, MIB

GOLDEN = Path(__file__).parents[2] / "golden" / "images"


def told(device: BlockDevice, *, by_summary: bool) -> tuple[object, ...]:
    """Type, size, free space and label, or the refusal."""
    try:
        found = fat.summarise(device) if by_summary else fat.open(device)
        return found.label, found.fat_bits, found.size_bytes, found.free_bytes
    except IpvaError as error:
        return type(error), str(error)


@pytest.mark.parametrize("name", ["fat12", "fat16", "fat32"])
def test_golden_volumes(name: str) -> None:
    """Volumes that earlier versions wrote are summed up as they are opened."""
    device = MemoryDevice(gzip.decompress((GOLDEN / f"{name}.gz").read_bytes()))
    found = fat.summarise(device)
    assert (found.fat_bits, found.label) == (int(name[3:]), "GOLDEN")
    assert told(device, by_summary=True) == told(device, by_summary=False)


def test_what_is_no_volume_is_refused_as_by_open() -> None:
    """A disk of zeros, and one that is too short to tell."""
    for content in (bytes(MIB), b"short"):
        with pytest.raises(FatError) as refused:
            fat.summarise(MemoryDevice(content))
        with pytest.raises(FatError) as expected:
            fat.open(MemoryDevice(content))
        assert str(refused.value) == str(expected.value)


@pytest.mark.parametrize("fat_bits", [16, 32])
def test_a_cut_disk_is_refused_as_by_the_volume(tmp_path: Path, fat_bits: int) -> None:
    """Wherever the file of a VMDK was cut, the two say the same, the place included."""
    path = tmp_path / "card.vmdk"
    folder = Folder(tmp_path)
    cluster_bytes = 512 if fat_bits == 32 else None

    def fill(device: BlockDevice) -> None:
        fat.format(device, fat_bits=fat_bits, cluster_bytes=cluster_bytes, label="CARD")
        with fat.open(device) as volume:
            volume.write("/a", b"x" * MIB)

    vmdk.create(folder, path.name, 40 * MIB, fill=fill)
    labels, refusals = set[object](), set[object]()
    for size_bytes in range(path.stat().st_size, 128 * KIB, -24 * KIB):
        os.truncate(path, size_bytes)
        with vmdk.open(RawDevice(path), folder) as disk:
            found = told(disk, by_summary=True)
            assert found == told(disk, by_summary=False)
        (refusals if found[0] is VmdkError else labels).add(found[0])
    assert labels == {"CARD"}
    assert refusals == {VmdkError}


def test_one_table_and_the_root_are_all_that_is_read() -> None:
    """A volume of 128 MiB takes its boot sector, one copy of its table and its root folder."""
    device = TraceDevice(MemoryDevice(128 * MIB))
    fat.format(device, fat_bits=32, label="CF0")
    table_bytes = fat.open(device).geometry.fat_bytes
    device.reset()
    assert fat.summarise(device).label == "CF0"
    assert device.work.read_bytes <= 512 + table_bytes + 4 * KIB
    assert device.work.write_count == 0


def test_a_wrong_free_space_summary_is_not_believed() -> None:
    """Free space is counted, whatever FSInfo says."""
    device = MemoryDevice(64 * MIB)
    fat.format(device, fat_bits=32)
    expected = fat.summarise(device).free_bytes
    assert expected > 60 * MIB
    device.data[512 + 488 : 512 + 492] = b"\1\0\0\0"
    assert fat.summarise(device).free_bytes == expected == fat.open(device).free_bytes


@pytest.mark.parametrize(("fat_bits", "kept_bits"), [(12, 12), (16, 16), (32, 28)])
def test_every_bit_that_counts_makes_an_entry_used(fat_bits: int, kept_bits: int) -> None:
    """An entry with one bit set is in use, but for the top four of FAT32."""
    for count in (1, 2, 5):
        digits = [1 << bit for bit in range(fat_bits)] * count + [0] * count
        number = sum(digit << fat_bits * index for index, digit in enumerate(digits))
        table = number.to_bytes((len(digits) * fat_bits + 7) // 8, "little")
        found = summary.count_zero_entries(table, fat_bits, len(digits))
        assert found == count * (1 + fat_bits - kept_bits)


def volume_with_root(chain: list[int], label_cluster: int) -> MemoryDevice:
    """A FAT32 volume with a root folder of these clusters, one full of files but for a label."""
    device = MemoryDevice(34 * MIB)
    fat.format(device, fat_bits=32, cluster_bytes=512, label="BOOT")
    geometry = fat.open(device).geometry
    for cluster, following in itertools.pairwise(chain):
        at = geometry.fat_offset_bytes + 4 * cluster
        device.data[at : at + 4] = following.to_bytes(4, "little")
        place = geometry.cluster_offset_bytes(cluster)
        device.data[place : place + 512] = b"FILE    TXT ".ljust(32, b"\0") * 16
    place = geometry.cluster_offset_bytes(label_cluster)
    device.data[place : place + 12] = b"IN THE ROOT\x08"
    return device


def test_the_label_may_be_anywhere_in_the_root_folder() -> None:
    """In its last cluster, and in none after the most that a folder may have."""
    chain = [2, *range(7, 4102), 0x0FFFFFFF]
    assert len(chain) == 4097
    device = volume_with_root(chain, chain[-2])
    assert fat.summarise(device).label == "IN THE ROOT" == fat.open(device).label
    device = volume_with_root([*chain[:-1], 5000, 0x0FFFFFFF], 5000)
    assert fat.summarise(device).label == "BOOT" == fat.open(device).label


def test_a_root_folder_in_a_ring_is_read_once() -> None:
    """A chain that comes back to itself ends, and what is in it counts."""
    device = volume_with_root([2, 9, 8, 9], 8)
    assert fat.summarise(device).label == "IN THE ROOT" == fat.open(device).label


def test_a_root_folder_that_leaves_a_cut_device_is_read_as_far_as_it_goes() -> None:
    """Clusters behind the end are left out, of the root folder and of the free ones."""
    device = volume_with_root([2, 60_000, 9, 0x0FFFFFFF], 9)
    del device.data[20 * MIB :]
    found = told(device, by_summary=True)
    assert found == told(device, by_summary=False)
    assert found[0] == "IN THE ROOT"
