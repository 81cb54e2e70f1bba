"""Finding a boot sector by its volume: what is right stays, whatever else the volume holds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ipva_storage import fat
from ipva_storage.device import MemoryDevice, RawDevice, SliceDevice
from ipva_storage.fat import geometry, layouts
from ipva_storage.fat.bootfields import BootFields
from ipva_storage.units import MIB
from tests.damage.fat_volumes import Volume, codes, sound, tree

BITS = pytest.mark.parametrize("bits", [12, 16, 32])


@BITS
def test_what_is_right_stays(bits: int) -> None:
    """The boot sector of a sound volume is taken as it is."""
    verdict = layouts.judge(MemoryDevice(sound(bits)))
    assert verdict is not None
    assert verdict.source == "boot sector"
    assert verdict.sector == sound(bits)[:512]
    assert not verdict.evidence.doubts


@BITS
def test_an_image_within_is_not_the_volume(bits: int) -> None:
    """A volume that holds the image of another stays itself, also when its tables are lost."""
    inner = sound(12)
    device = MemoryDevice(48 * MIB if bits == 32 else 12 * MIB if bits == 16 else 6 * MIB)
    fat.format(device, fat_bits=bits)
    with fat.open(device) as volume:
        volume.mkdir("/SUB")
        volume.write("/SUB/image.img", inner)
    found = geometry.parse(device)
    expected = tree(device)
    for copy in range(2):
        at = found.fat_offset_bytes + copy * found.fat_bytes
        device.data[at : at + found.fat_bytes] = bytes(found.fat_bytes)
    fat.repair(device)
    assert codes(device) == set()
    assert tree(device) == expected


@BITS
def test_garbage_in_the_root_folder_changes_no_layout(bits: int) -> None:
    """A sector of the root folder that was hit is no reason to doubt the boot sector."""
    volume = Volume(sound(bits))
    root = volume.geometry.root_cluster
    at = volume.geometry.cluster_offset_bytes(root) if root else volume.geometry.root_offset_bytes
    for data in (b"\xff" * 512, b"\xf8\xff\xff\xff" * 128, bytes(range(256)) * 2):
        volume.put(at, data)
        verdict = layouts.judge(volume.device)
        assert verdict is not None
        assert verdict.sector == sound(bits)[:512]


@BITS
def test_a_volume_that_is_smaller_than_its_device(bits: int) -> None:
    """Room behind a volume, and a table that is too long for it, are no damage."""
    device = MemoryDevice(sound(bits) + bytes(MIB))
    assert codes(device) == set()
    assert not fat.repair(device).is_changed


def test_nothing_is_left() -> None:
    """Noise is no volume, and its check says that nothing is left."""
    device = MemoryDevice(bytes(range(1, 256)) * 400)
    assert layouts.judge(device) is None
    (found,) = fat.check(device)
    assert found.code == "FAT001"
    assert "nothing is left" in found.message
    done = fat.repair(device)
    assert not done.is_changed
    assert [one.code for one in done.left] == ["FAT001"]
    assert layouts.judge(MemoryDevice(bytes(600))) is None
    assert layouts.judge(MemoryDevice(b"")) is None


@BITS
def test_what_is_left_is_told(bits: int) -> None:
    """The finding says from what a lost boot sector can be made."""
    volume = Volume(sound(bits))
    volume.put(0, bytes(512))
    (found,) = fat.check(volume.device)
    is_whole = "its backup at byte 3072 is whole" in found.message
    assert is_whole if bits == 32 else "the tables and folders tell" in found.message
    assert found.repair == "ipva fs repair DISK"


def test_the_copy_that_fits_is_named() -> None:
    """Where copies of the table differ, the finding says which one fits the folders."""
    for copy, best in ((0, 2), (1, 1)):
        volume = Volume(sound(16))
        at = volume.geometry.fat_offset_bytes + copy * volume.geometry.fat_bytes
        volume.put(at + 8, bytes(40))
        found = {one.code: one for one in fat.check(volume.device)}
        assert f"copy {best} fits the folders best" in found["FAT005"].message
        assert set(found) == {"FAT005"}


def test_the_worst_device_takes_moments(tmp_path: Path) -> None:
    """A device full of starts of tables, and claims of 4 GiB in a MiB, are judged soon."""
    head = b"\xf8\xff\xff\x0f\xff\xff\xff\x0f".ljust(512, b"\0")
    device = MemoryDevice(head * (8 * MIB // 512))
    started = time.process_time()
    list(fat.check(device))
    fat.repair(device)
    volume = Volume(sound(12))
    for at, data in ((19, b"\0\0"), (32, b"\xff\xff\xff\x7f"), (22, b"\xff\xff")):
        volume.put(at, data)
    list(fat.check(volume.device))
    fat.repair(volume.device)
    assert time.process_time() - started < 4.0
    path = tmp_path / "hole.img"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with RawDevice(path) as raw:
        started = time.process_time()
        assert layouts.judge(SliceDevice(raw, 0, raw.size_bytes)) is None
        assert time.process_time() - started < 2.0


def test_fields_that_do_not_fit_are_none() -> None:
    """Numbers that a boot sector has no room for are not put into one."""
    fields = BootFields(512, 4, 1, 2, 512, 1 << 33, 0xF8, 20, is_fat32=False)
    assert not fields.is_storable
