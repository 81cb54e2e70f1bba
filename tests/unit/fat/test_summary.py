"""What a summary reads and says, where the property tests do not look."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from ipva_storage import fat, vmdk
from ipva_storage.device import BlockDevice, Folder, MemoryDevice, RawDevice, TraceDevice
from ipva_storage.errors import FatError, IpvaError, VmdkError
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
