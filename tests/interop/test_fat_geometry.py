"""Sectors, clusters, names and long files of FAT volumes: mkfs.fat, fsck.fat and mtools agree."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipva_storage import fat, vmdk
from ipva_storage.device import Folder, RawDevice
from ipva_storage.fat import FatVolume
from ipva_storage.units import GIB, MIB

pytestmark = pytest.mark.interop
Peer = Callable[..., Any]

SHAPES = [
    (12, 512, 1, 2 * MIB),
    (12, 1024, 4, 8 * MIB),
    (16, 512, 128, 600 * MIB),
    (16, 2048, 1, 40 * MIB),
    (16, 4096, 8, 200 * MIB),
    (16, 4096, 32, 900 * MIB),
    (32, 512, 64, 3 * GIB),
    (32, 1024, 64, 5 * GIB),
    (32, 2048, 128, 17 * GIB),
    (32, 4096, 1, 300 * MIB),
    (32, 4096, 64, 17 * GIB),
    (32, 4096, 128, 33 * GIB),
]
"""FAT bits, sector, sectors a cluster, and the volume; clusters up to 512 KiB."""


def make(peer: Peer, path: Path, shape: tuple[int, int, int, int]) -> None:
    """A volume of mkfs.fat."""
    bits, sector, cluster, size_bytes = shape
    with path.open("xb") as file:
        file.truncate(size_bytes)
    peer("mkfs.fat", "-F", bits, "-S", sector, "-s", cluster, path, check=True)


def work(volume: FatVolume) -> dict[str, bytes]:
    """Do a bit of everything; the files that are there then."""
    big = bytes(range(256)) * 4096
    with volume.batch():
        volume.mkdir("/Folder one/two", parents=True)
        for number in range(200):
            volume.write(f"/Folder one/File number {number}.text", bytes([number]) * number * 9)
    volume.write("/Folder one/two/big", big)
    with volume.open("/Folder one/two/big", "r+") as file:
        file.seek(0, 2)
        file.write(b"more")
        file.seek(777)
        file.write(b"in the middle")
        file.truncate(len(big) + 2)
    volume.move("/Folder one/two", "/zwei")
    volume.move("/Folder one/File number 7.text", "/Folder one/FILE NUMBER 7.TEXT")
    volume.move("/Folder one/File number 9.text", "/zwei/9")
    for number in range(10, 190):
        volume.delete(f"/Folder one/File number {number}.text")
    volume.set_label("shape")
    return {path: volume.read(path) for path, entry in volume.walk() if not entry.is_dir}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape[:3])))
def test_shapes(
    tmp_path: Path, peer: Peer, shape: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On volumes of any sector and cluster, what we do is clean and identical through mtools."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    image = tmp_path / "volume.img"
    make(peer, image, shape)
    with RawDevice(image, writable=True) as device:
        with fat.open(device) as volume:
            assert (volume.fat_bits, volume.cluster_bytes) == (shape[0], shape[1] * shape[2])
            expected = work(volume)
            assert volume.label == "SHAPE"
        assert [finding.code for finding in fat.check(device) if finding.code != "FAT002"] == []
    result = peer("fsck.fat", "-n", image)
    assert result.returncode == 0, result.stdout
    out = tmp_path / "out"
    out.mkdir()
    peer("mcopy", "-s", "-n", "-Q", "-i", image, "::/*", out, check=True)
    found = {
        f"/{path.relative_to(out)}": path.read_bytes() for path in out.rglob("*") if path.is_file()
    }
    assert found == expected
    assert len(expected["/zwei/big"]) == MIB + 2


@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[4], SHAPES[8]], ids=["12", "16", "32"])
def test_what_mtools_wrote_is_read(
    tmp_path: Path, peer: Peer, shape: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files and times of mtools on other sectors are read as they were."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    image, source = tmp_path / "volume.img", tmp_path / "Source folder"
    make(peer, image, shape)
    source.mkdir()
    for number in range(100):
        (source / f"Größe {number}.text").write_bytes(bytes([number]) * number * 99)
    peer("mcopy", "-s", "-m", "-i", image, source, "::/", check=True)
    with RawDevice(image) as device:
        volume = fat.open(device)
        for path in source.iterdir():
            inner = f"/Source folder/{path.name}"
            assert volume.read(inner) == path.read_bytes()
            assert abs(volume.stat(inner).modified.timestamp() - path.stat().st_mtime) < 2.01


UNUSUAL = {
    "thirteen unit": 13,
    "x" * 26: 26,
    "y" * 255: 255,
    "ｆｕｌｌ ｗｉｄｔｈ！": 11,
    "漢字" * 60: 120,
    "a b.c d.e": 9,
    ".leading": 8,
    "+,;=[]": 6,
    "𝒳𐐨🂡": 6,
    "tag\U000e0041": 5,
    "\ue000private": 8,
}


def test_unusual_names(tmp_path: Path, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that fill their records, of full width or beyond the basic plane pass fsck.fat."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    image = tmp_path / "volume.img"
    make(peer, image, (16, 512, 4, 20 * MIB))
    with RawDevice(image, writable=True) as device:
        with fat.open(device) as volume:
            for name, units in UNUSUAL.items():
                assert len(name.encode("utf-16-le")) // 2 == units
                volume.write(f"/{name}", name.encode())
            assert volume.read("/ＦＵＬＬ ｗｉｄｔｈ！") == "ｆｕｌｌ ｗｉｄｔｈ！".encode()
        assert [finding.code for finding in fat.check(device) if finding.code != "FAT002"] == []
        assert {entry.name for entry in fat.open(device).list()} == set(UNUSUAL)
    result = peer("fsck.fat", "-n", image)
    assert result.returncode == 0, result.stdout
    listing = peer("mdir", "-b", "-i", image, "::/").stdout
    basic = {name for name in UNUSUAL if max(name) <= "\ud7ff" or "！" in name}
    assert {f"::/{name}" for name in basic} <= set(listing.split("\n"))


def test_the_longest_file_on_a_sparse_vmdk(tmp_path: Path) -> None:
    """A file of 4 GiB − 1 on a sparse disk takes no room for its zeros, and is clean."""
    folder = Folder(tmp_path)
    vmdk.create(folder, "disk.vmdk", 8 * GIB)
    raw = folder.open("disk.vmdk", writable=True)
    with contextlib.closing(vmdk.open(raw, folder, writable=True)) as device:
        fat.format(device)
        with fat.open(device) as volume:
            with volume.open("/longest", "x") as file:
                file.truncate(4 * GIB - 1)
                file.seek(-5, 2)
                file.write(b"end.\n")
                file.seek(3 * GIB)
                file.write(b"middle")
            assert volume.stat("/longest").size_bytes == 4 * GIB - 1
            with volume.open("/longest") as file:
                file.seek(3 * GIB - 2)
                assert file.read(9) == b"\0\0middle\0"
                file.seek(-6, 2)
                assert file.read() == b"\0end.\n"
            assert len(volume.fragments("/longest")) == 1
        assert list(fat.check(device)) == []
    assert (tmp_path / "disk.vmdk").stat().st_size < 40 * MIB


@pytest.mark.slow
def test_65536_records_pass_fsck(tmp_path: Path, peer: Peer) -> None:
    """A folder as full as folders get is clean for fsck.fat."""
    image = tmp_path / "volume.img"
    make(peer, image, (16, 512, 4, 40 * MIB))
    with RawDevice(image, writable=True) as device, fat.open(device) as volume:
        volume.mkdir("/d")
        with volume.batch():
            for number in range(65_534 // 2):
                volume.write(f"/d/{number}.text", b"")
        assert len(volume.list("/d")) == 65_534 // 2
    result = peer("fsck.fat", "-n", image)
    assert result.returncode == 0, result.stdout
