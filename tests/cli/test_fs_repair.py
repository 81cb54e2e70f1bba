"""`ipva fs repair`: the volumes of a disk, with undo; and what check and doctor say of it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipva_storage import fat
from ipva_storage.device import RawDevice, SliceDevice
from ipva_storage.fat import partitions
from ipva_storage.units import MIB
from tests.damage.fat_volumes import Volume, sound, tree

Ipva = Callable[..., Any]
SECTOR = 512


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk that is one volume, of which the boot sector is lost."""
    path = tmp_path / "card one.img"
    path.write_bytes(bytes(SECTOR) + sound(16)[SECTOR:])
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A disk with two partitions, FAT16 and FAT12, both damaged."""
    first, second = sound(16), sound(12)
    rows = [(MIB // SECTOR, len(first) // SECTOR, 6), (8 * MIB // SECTOR, len(second) // SECTOR, 1)]
    table = bytearray(SECTOR)
    for index, (start, count, kind) in enumerate(rows):
        at = 446 + 16 * index
        table[at + 4] = kind
        table[at + 8 : at + 16] = start.to_bytes(4, "little") + count.to_bytes(4, "little")
    table[510:] = b"\x55\xaa"
    content = bytearray(10 * MIB)
    content[:SECTOR] = table
    content[MIB : MIB + len(first)] = bytes(SECTOR) + first[SECTOR:]
    content[8 * MIB : 8 * MIB + len(second)] = second
    volume = Volume(second)
    at = 8 * MIB + volume.geometry.fat_offset_bytes
    content[at : at + 3] = bytes(3)
    path = tmp_path / "disk.img"
    path.write_bytes(content)
    return path


def test_a_lost_boot_sector_comes_back(ipva: Ipva, image: Path) -> None:
    """Check names the command, which mends the disk, saves what it overwrites, and ends with 0."""
    found = ipva("fs", "check", image)
    assert found.status == 1
    assert f"ipva fs repair '{image}'" in found.out
    assert "tell what it was" in found.out
    done = ipva("fs", "repair", image)
    assert done.status == 0, done.err
    assert "mended: FAT001" in done.out
    assert f"ipva undo '{image}.undo'" in done.out
    assert ipva("fs", "check", image).status == 0
    with RawDevice(image) as device:
        assert {path: fat.open(device).read(path) for path in ("/A.TXT", "/SUB/B.TXT")}


def test_undo(ipva: Ipva, image: Path) -> None:
    """`ipva undo` puts every byte back."""
    before = image.read_bytes()
    document = ipva("fs", "repair", image, "--json").document
    assert image.read_bytes() != before
    assert ipva("undo", document["undo"]).status == 0
    assert image.read_bytes() == before


def test_dry_run(ipva: Ipva, image: Path) -> None:
    """A dry run tells the same, writes nothing, and ends with 1."""
    before = image.read_bytes(), image.stat().st_mtime_ns
    told = ipva("fs", "repair", image, "--dry-run", "--json")
    assert told.status == 1
    assert (image.read_bytes(), image.stat().st_mtime_ns) == before
    assert list(image.parent.iterdir()) == [image]
    done = ipva("fs", "repair", image, "--no-undo", "--json")
    assert done.status == 0
    assert told.document | {"dry_run": False} == done.document
    assert set(done.document) == {"fixed", "left", "lost", "recovered", "undo", "dry_run"}
    assert done.document["undo"] is None
    assert "would be mended" not in ipva("fs", "repair", image).out


def test_nothing_wrong(ipva: Ipva, tmp_path: Path) -> None:
    """A sound disk is left alone, and no journal is left."""
    path = tmp_path / "good.img"
    path.write_bytes(sound(12))
    done = ipva("fs", "repair", path)
    assert (done.status, done.out) == (0, "nothing wrong was found\n")
    assert path.read_bytes() == sound(12)
    assert list(tmp_path.iterdir()) == [path]


def test_no_volume(ipva: Ipva, tmp_path: Path) -> None:
    """A disk without a volume, and a file that is not there, end with 2."""
    path = tmp_path / "noise.img"
    path.write_bytes(b"no volume at all. " * 4096)
    done = ipva("fs", "repair", path)
    assert done.status == 2
    assert "neither a FAT volume nor a partition table" in done.err
    assert list(tmp_path.iterdir()) == [path]
    assert ipva("fs", "repair", tmp_path / "absent.img").status == 2


def test_every_partition(ipva: Ipva, disk: Path) -> None:
    """Both volumes of a disk are mended; places are counted from its start."""
    before = disk.read_bytes()
    done = ipva("fs", "repair", disk, "--json")
    assert done.status == 0, done.err
    offsets = {one["id"]: one["offset"] for one in done.document["fixed"]}
    assert offsets["FAT001"] == MIB
    assert offsets["FAT005"] >= 8 * MIB
    assert ipva("fs", "check", disk).status == 0
    with RawDevice(disk) as device:
        for volume in fat.find_volumes(device):
            bits = 16 if volume.partition == 1 else 12
            part = SliceDevice(device, volume.offset_bytes, volume.length_bytes)
            opened = fat.open(part)
            assert all(opened.read(path) == data for path, data in files(bits).items())
    after = disk.read_bytes()
    assert after[:MIB] == before[:MIB]


def files(bits: int) -> dict[str, bytes]:
    """The files of a sound volume."""
    found = tree(Volume(sound(bits)).device)
    return {path: data for path, data in found.items() if not path.endswith("/")}


def test_lost_and_recovered_are_told(ipva: Ipva, tmp_path: Path) -> None:
    """What is lost and what became a file of its own is named, and the status is 1."""
    volume = Volume(sound(16))
    volume.link(volume.chain("/A file with a long name.txt")[0], volume.end)
    for cluster in volume.chain("/SUB/Second long name.dat")[3:]:
        volume.link(cluster, volume.bad)
    path = tmp_path / "lost.img"
    path.write_bytes(volume.device.data)
    done = ipva("fs", "repair", path)
    assert done.status == 1
    assert "lost:\n  /SUB/Second long name.dat: " in done.out
    document = ipva("fs", "repair", path, "--json").document
    assert document["fixed"] == document["left"] == []


def test_a_partition_that_is_too_short(ipva: Ipva, disk: Path) -> None:
    """A partition that ends before its volume, where there is room, is made as long as it."""
    content = bytearray(disk.read_bytes())
    content[446 + 16 + 12 : 446 + 16 + 16] = (100).to_bytes(4, "little")
    disk.write_bytes(content)
    found = ipva("fs", "check", disk, "--json").document["findings"]
    assert "FAT030" in {one["id"] for one in found}
    assert "FAT020" not in {one["id"] for one in found}
    done = ipva("fs", "repair", disk, "--json")
    assert "FAT030" in {one["id"] for one in done.document["fixed"]}
    assert ipva("fs", "check", disk).status == 0
    with RawDevice(disk) as device:
        (entry,) = [one for one in partitions.read_table(device) if one.number == 2]
        assert entry.length_sectors == len(sound(12)) // SECTOR


def test_a_disk_of_a_vm(ipva: Ipva, vm: Path) -> None:
    """A VM's disk is named by its role; its VMDK is mended through, and doctor names that."""
    card = f"{vm}#cf"
    assert ipva("fs", "put", vm / "ipva.vmx", f"{card}:/kept.vmx").status == 0
    with fat_volume(vm) as device:
        (part,) = fat.find_volumes(device)
        device.write(part.offset_bytes, bytes(SECTOR))
        device.flush()
    advice = [one["repair"] for one in ipva("doctor", vm, "--json").document["findings"]]
    assert any(one and f"ipva fs repair {card}" in one for one in advice)
    done = ipva("fs", "repair", card)
    assert done.status == 0, done.err + done.out
    assert ipva("fs", "check", card).status == 0
    assert ipva("fs", "cat", f"{card}:/kept.vmx").out == (vm / "ipva.vmx").read_text()
    journal = next(vm.glob("*.undo"))
    assert ipva("undo", journal).status == 0
    assert ipva("fs", "check", card).status == 1


def fat_volume(vm: Path) -> Any:
    """The CompactFlash of a VM, open for writing."""
    from ipva_storage.cli import targets

    return targets.open_disk(f"{vm}#cf", writable=True)


def test_interrupted(ipva: Ipva, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a repair is drawn up leaves the disk and no journal."""
    before = image.read_bytes()
    original = fat.repair_disk

    def repair(*arguments: Any, **options: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return original(*arguments, **options)

    monkeypatch.setattr(fat, "repair_disk", repair)
    done = ipva("fs", "repair", image)
    assert done.status != 0
    assert image.read_bytes() == before
    assert list(image.parent.iterdir()) == [image]
