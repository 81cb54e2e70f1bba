"""Grown volumes against fsck.fat and mtools."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipva_storage import fat
from ipva_storage.device import RawDevice
from ipva_storage.fat.growing import grow
from ipva_storage.units import GIB, MIB

pytestmark = pytest.mark.interop
Peer = Callable[..., Any]


def tree(folder: Path, count: int) -> dict[str, bytes]:
    """Files with long names in folders of four levels."""
    rng, found = random.Random(count), {}
    for number in range(count):
        path = f"Folder {number % 7}/und noch eine Ebene {number % 5}/deep/deeper {number % 3}"
        name = f"{path}/A file with quite a long name {number}.text"
        (folder / path).mkdir(parents=True, exist_ok=True)
        found[name] = rng.randbytes(rng.randrange(9000))
        (folder / name).write_bytes(found[name])
    return found


@pytest.mark.parametrize(
    ("before", "after", "options", "bits"),
    [
        (GIB, 4 * GIB, [], 32),
        (16 * MIB, 64 * MIB, [], 16),
        (7 * MIB, 40 * MIB, [], 16),
        (500 * MIB, 2 * GIB, [], 32),
        (2 * GIB - 63 * 512, 4 * GIB, ["-F", "16"], 32),
        (300 * MIB, 900 * MIB, ["-F", "32", "-s", "8"], 32),
    ],
    ids=["1-4G", "16-64M", "12-16", "16-32", "16-32-2G", "32"],
)
def test_peers_agree(
    tmp_path: Path, peer: Peer, before: int, after: int, options: list[str], bits: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A volume that mkfs.fat and mtools made is clean, and all there, for both after growing."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    image, source, out = tmp_path / "image", tmp_path / "in", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    expected = tree(source, 300)
    with image.open("xb") as file:
        file.truncate(before)
    peer("mkfs.fat", "-n", "KEPT", *options, image, check=True)
    peer("mcopy", "-s", "-i", image, *sorted(source.iterdir()), "::", check=True)
    with image.open("r+b") as file:
        file.truncate(after)
    with RawDevice(image, writable=True) as device:
        done = grow(device)
        assert done.after_bits == bits
        assert list(fat.check(device)) == []
    checked = peer("fsck.fat", "-n", image)
    assert checked.returncode == 0, checked.stdout
    peer("mcopy", "-s", "-n", "-Q", "-i", image, "::/*", out, check=True)
    found = {str(path.relative_to(out)): path for path in out.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == expected
    assert "KEPT" in peer("mdir", "-i", image, "::").stdout
    peer("mcopy", "-i", image, source / sorted(expected)[0], "::/New file.txt", check=True)
    assert peer("fsck.fat", "-n", image).returncode == 0
