"""FAT volumes against fsck.fat, mkfs.fat and mtools, and against real images."""

from __future__ import annotations

import gzip
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipva_storage import fat
from ipva_storage.device import BlockDevice, RawDevice
from ipva_storage.errors import IpvaError
from ipva_storage.fat.geometry import Geometry
from ipva_storage.findings import Severity
from ipva_storage.units import KIB, MIB

pytestmark = pytest.mark.interop
Peer = Callable[..., Any]

GOOD = [
    "dissect.fat/fat12.img.gz",
    "dissect.fat/fat16.img.gz",
    "dissect.fat/fat32.img.gz",
    "node-fat32/fat12.img.gz",
    "node-fat32/fat16.img.gz",
    "node-fat32/fat32.img.gz",
    "pyfatfs/pyfat12.img.gz",
    "pyfatfs/pyfat16.img.gz",
    "pyfatfs/pyfat32.img.gz",
]
"""Those that fsck.fat calls clean."""


def names(count: int) -> list[str]:
    """Long names of all sorts; mtools has no characters beyond the basic plane."""
    kinds = ("File with a long name {}.text", "ünïcödé name {}.dat", "UPPER{}.TXT", "lower{}.txt")
    return [kinds[number % 4].format(number) for number in range(count)]


def content(number: int) -> bytes:
    """The bytes of file `number`, 0 to about 9 KiB."""
    return random.Random(number).randbytes(number * 37 % 9001)


def extract(peer: Peer, image: Path, folder: Path) -> dict[str, bytes]:
    """All files of an image, by mtools."""
    folder.mkdir()
    peer("mcopy", "-s", "-n", "-Q", "-i", image, "::/*", folder)
    return {
        "/" + str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def ours(device: BlockDevice) -> dict[str, bytes]:
    """All files of a volume, by us."""
    volume = fat.open(device)
    return {path: volume.read(path) for path, entry in volume.walk() if not entry.is_dir}


def serious(device: BlockDevice) -> list[str]:
    """The codes of errors and warnings."""
    return [item.code for item in fat.check(device) if item.severity is not Severity.INFO]


@pytest.mark.parametrize(
    ("bits", "size_bytes"), [(12, 8 * MIB), (16, 20 * MIB), (32, 64 * MIB), (None, 600 * MIB)]
)
def test_peers_read_what_we_write(
    tmp_path: Path, peer: Peer, bits: int | None, size_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five hundred files with long names are clean for fsck.fat and identical through mtools."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    image = tmp_path / "volume.img"
    expected = {}
    with RawDevice.create(image, size_bytes) as device:
        fat.format(device, fat_bits=bits, label="Demo")
        with fat.open(device) as volume, volume.batch():
            volume.mkdir("/Folder with files")
            for number, name in enumerate(names(500)):
                path = f"/Folder with files/{name}"
                volume.write(path, content(number))
                expected[path] = content(number)
    result = peer("fsck.fat", "-n", image)
    assert result.returncode == 0, result.stdout
    listing = peer("mdir", "-b", "-i", image, "::/Folder with files").stdout
    assert sorted(listing.split("\n")[:-1]) == sorted("::" + path for path in expected)
    assert extract(peer, image, tmp_path / "out") == expected
    with RawDevice(image) as device:
        assert serious(device) == []


@pytest.mark.parametrize(("bits", "size_bytes"), [(12, 8 * MIB), (16, 20 * MIB), (32, 64 * MIB)])
def test_we_read_what_peers_write(
    tmp_path: Path, peer: Peer, bits: int, size_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that mtools puts on a volume of mkfs.fat are identical through us, and stay clean."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    image, source = tmp_path / "volume.img", tmp_path / "in"
    (source / "Sub folder").mkdir(parents=True)
    expected = {}
    for number, name in enumerate(names(200)):
        (source / "Sub folder" / name).write_bytes(content(number))
        expected[f"/Sub folder/{name}"] = content(number)
    with image.open("xb") as file:
        file.truncate(size_bytes)
    peer("mkfs.fat", "-F", bits, "-n", "PEER", image, check=True)
    peer("mcopy", "-s", "-i", image, source / "Sub folder", "::/", check=True)
    with RawDevice(image, writable=True) as device:
        assert ours(device) == expected
        assert serious(device) == []
        with fat.open(device) as volume:
            volume.write("/Sub folder/One of ours.txt", b"ours")
            volume.delete(f"/sub FOLDER/{names(200)[7]}")
            assert volume.label == "PEER"
    result = peer("fsck.fat", "-n", image)
    assert result.returncode == 0, result.stdout
    expected["/Sub folder/One of ours.txt"] = b"ours"
    del expected[f"/Sub folder/{names(200)[7]}"]
    assert extract(peer, image, tmp_path / "out") == expected


def sizes() -> list[int]:
    """Sizes at which mkfs.fat chooses anew, one KiB beside them, and some by chance."""
    borders = [64 * KIB, 256 * KIB, 360 * KIB, 720 * KIB, 1200 * KIB, 1440 * KIB, 2880 * KIB]
    borders += [MIB << power for power in range(18)] + [260 * MIB, 504 * MIB, 1008 * MIB]
    around = {size + step for size in borders for step in (-KIB, 0, KIB)}
    rng = random.Random(3)
    chance = {KIB * rng.randrange(64, 2 ** rng.randrange(8, 28)) for _ in range(60)}
    return sorted(size for size in around | chance if size >= 64 * KIB)


def header(geometry: Geometry) -> dict[str, int]:
    """What of a volume's layout is a choice."""
    fields = ("fat_bits", "cluster_bytes", "fat_offset_bytes", "fat_bytes", "root_entry_count")
    more = ("data_offset_bytes", "volume_bytes", "fat_count", "media", "cluster_count")
    return {field: getattr(geometry, field) for field in (*fields, *more)}


@pytest.mark.parametrize("bits", [None, 12, 16, 32])
def test_choices_are_those_of_mkfs(tmp_path: Path, peer: Peer, bits: int | None) -> None:
    """All fields of a new volume are those that mkfs.fat chooses, at every size.

    Of a type that is asked for, only where mkfs.fat keeps to the numbers of clusters of the type,
    and does not refuse.
    """
    same = 0
    for size_bytes in sizes():
        image, ours = tmp_path / "peer.img", tmp_path / "ours.img"
        with image.open("xb") as file:
            file.truncate(size_bytes)
        made = peer("mkfs.fat", *([] if bits is None else ["-F", str(bits)]), image)
        with RawDevice(image) as theirs, RawDevice.create(ours, size_bytes) as device:
            is_odd = made.returncode or fat.open(theirs).geometry.oddities
            if not is_odd:
                fat.format(device, fat_bits=bits)
                mine, peers = (header(fat.open(each).geometry) for each in (device, theirs))
                assert mine == peers, size_bytes
                same += 1
        image.unlink()
        ours.unlink()
    assert same > (130 if bits is None else 20)


@pytest.mark.parametrize("name", [*GOOD, "fatcat/hello-world.img.gz"])
def test_real_images(shared_images: Path, tmp_path: Path, peer: Peer, name: str) -> None:
    """Real images list and extract as with mtools, and are summed up as they are opened."""
    image = tmp_path / "image"
    image.write_bytes(gzip.decompress((shared_images / "fat" / name).read_bytes()))
    with RawDevice(image) as device:
        assert ours(device) == extract(peer, image, tmp_path / "out")
        assert is_summed_up(device)
        if name in GOOD:
            assert serious(device) == []


def unpack(packed: Path, image: Path) -> None:
    """Unpack an image; runs of zeros become holes, because some have a gigabyte of them."""
    with gzip.open(packed) as source, image.open("xb") as target:
        while chunk := source.read(MIB):
            if chunk == bytes(len(chunk)):
                target.seek(len(chunk), 1)
            else:
                target.write(chunk)
        target.truncate(target.tell())


BROKEN = [
    "dosfstools/check-bad_names",
    "dosfstools/check-chain_to_free_cluster",
    "dosfstools/check-chain_too_long",
    "dosfstools/check-circular_chain",
    "dosfstools/check-dot_entries",
    "dosfstools/check-fat12_first_cluster",
    "dosfstools/check-fat32_dos_cln_shut",
    "dosfstools/check-label-different",
    "fatcat/directory-loop",
]


@pytest.mark.parametrize("name", BROKEN)
def test_broken_images(shared_images: Path, tmp_path: Path, name: str) -> None:
    """A broken image has a finding; looking at it takes no time and no surprise comes of it."""
    image = tmp_path / "image"
    unpack(shared_images / "fat-broken" / f"{name}.img.gz", image)
    with RawDevice(image) as device:
        started = time.process_time()
        assert serious(device)
        survive(device)
        assert is_summed_up(device)
        assert time.process_time() - started < 5


@pytest.mark.parametrize("name", [name for name in BROKEN if name.startswith("dosfstools")])
def test_mended_images(shared_images: Path, tmp_path: Path, name: str) -> None:
    """What fsck.fat made of a broken image has no finding."""
    image = tmp_path / "image"
    unpack(shared_images / "fat-broken" / f"{name}.fixed.img.gz", image)
    with RawDevice(image) as device:
        assert serious(device) == []


def is_summed_up(device: BlockDevice) -> bool:
    """Whether the summary without NumPy says what the volume says."""
    found, volume = fat.summarise(device), fat.open(device)
    said = (volume.fat_bits, volume.size_bytes, volume.free_bytes, volume.label)
    return said == (found.fat_bits, found.size_bytes, found.free_bytes, found.label)


def survive(device: BlockDevice) -> None:
    """Do everything that reads; only our own errors may come."""
    try:
        list(fat.check(device))
        volume = fat.open(device)
        entries = list(volume.walk())
        assert volume.free_bytes >= 0
        assert volume.usage().file_count >= 0
        assert volume.label is None or volume.label
    except IpvaError:
        return
    for path, entry in entries:
        try:
            volume.fragments(path)
            if not entry.is_dir:
                sum(len(chunk) for chunk in volume.read_chunks(path))
        except IpvaError:
            continue
