"""Broken volumes that others made: all found, mended, and no less is kept than by fsck.fat."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipva_storage import fat
from ipva_storage.device import RawDevice
from ipva_storage.findings import Severity
from tests.interop.test_fat import BROKEN

pytestmark = pytest.mark.interop
Peer = Callable[..., Any]


def unpack(source: Path, target: Path) -> Path:
    """An image, its zeros left out of the file."""
    content = gzip.decompress(source.read_bytes())
    with target.open("wb") as file:
        for at in range(0, len(content), 1 << 20):
            piece = content[at : at + (1 << 20)]
            if piece.count(0) == len(piece):
                file.seek(at + len(piece))
            else:
                file.seek(at)
                file.write(piece)
        file.truncate(len(content))
    return target


def contents(image: Path) -> set[bytes]:
    """The contents of all files that can be read, without empty ones."""
    with RawDevice(image) as device:
        volume = fat.open(device)
        every = [volume.read(path) for path, entry in volume.walk() if not entry.is_dir]
    return {data for data in every if data}


def lengths(image: Path) -> dict[str, int]:
    """The length of every file as its record says, by path."""
    with RawDevice(image) as device, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        every = fat.open(device).walk()
        return {path[1:]: entry.size_bytes for path, entry in every if not entry.is_dir}


def extracted(peer: Peer, image: Path, target: Path) -> dict[str, bytes]:
    """All files that mtools finds on a volume, by path."""
    target.mkdir()
    if peer("mdir", "-b", "-i", image, "::/").stdout.strip():
        peer("mcopy", "-s", "-n", "-i", image, "::*", target, check=True)
    files = (path for path in target.rglob("*") if path.is_file())
    return {str(path.relative_to(target)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", BROKEN)
def test_no_less_is_kept_than_by_the_peer(
    name: str, shared_images: Path, tmp_path: Path, peer: Peer
) -> None:
    """Each image is found broken; afterwards the peer finds nothing, and its files are there."""
    source = shared_images / "fat-broken" / f"{name}.img.gz"
    ours = unpack(source, tmp_path / "ours.img")
    theirs = unpack(source, tmp_path / "theirs.img")
    with RawDevice(ours, writable=True) as device:
        assert any(one.severity is not Severity.INFO for one in fat.check(device))
        done = fat.repair(device)
        assert not done.left
        assert not [one for one in fat.check(device) if one.severity is not Severity.INFO]
    result = peer("fsck.fat", "-n", ours)
    assert result.returncode == 0, result.stdout
    assert len(result.stdout.splitlines()) == 2, result.stdout
    whole = lengths(theirs)
    for _ in range(3):  # it may take more than one run
        peer("fsck.fat", "-a", theirs)
    left = peer("fsck.fat", "-n", theirs)
    if "Giving up" in left.stderr:
        return
    assert left.returncode == 0
    kept = extracted(peer, ours, tmp_path / "ours")
    for path, data in extracted(peer, theirs, tmp_path / "theirs").items():
        if path in kept and len(data) == whole.get(path):
            assert kept[path] == data, path
        elif not data.startswith(b".".ljust(11)):  # a folder that became a file
            # It was cut, has another name, or is a piece that was found.
            assert any(data in mine for mine in kept.values()), path


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_damage_that_the_peer_gives_up_on(bits: int, tmp_path: Path, peer: Peer) -> None:
    """Of a volume of mkfs.fat with a tree of mcopy, both tables are lost: all files come back."""
    size = {12: 4, 16: 20, 32: 64}[bits]
    image = tmp_path / "volume.img"
    with image.open("wb") as file:
        file.truncate(size << 20)
    peer("mkfs.fat", "-F", bits, "-n", "PEER", image, check=True)
    folder = tmp_path / "tree"
    for number in range(30):
        path = folder / f"folder {number % 4}" / f"A file of number {number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number + 1]) * (number * 997))
    peer("mcopy", "-s", "-i", image, *sorted(folder.iterdir()), "::/", check=True)
    before = contents(image)
    assert len(before) == 29
    with RawDevice(image, writable=True) as device:
        found = fat.open(device).geometry
        length = found.fat_count * found.fat_bytes
        device.write(found.fat_offset_bytes, bytes(length))
        device.write(0, bytes(512))
        if found.backup_offset_bytes is not None:
            device.write(found.backup_offset_bytes, bytes(512))
    assert peer("fsck.fat", "-n", image).returncode != 0
    with RawDevice(image, writable=True) as device:
        done = fat.repair(device)
        assert not done.left
        assert not done.lost
    assert contents(image) == before
    result = peer("fsck.fat", "-n", image)
    assert result.returncode == 0, result.stdout
    assert len(result.stdout.splitlines()) == 2, result.stdout
