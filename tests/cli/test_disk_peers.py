"""`ipva disk` with its peers: what a command leaves, qemu-img and 7-Zip read as we do."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, RawDevice
from ipva_storage.units import KIB, MIB

Ipva = Callable[..., Any]
Peer = Callable[..., Any]

pytestmark = pytest.mark.interop

SIZE_BYTES = 70 * MIB + 3 * 512
"""Two full grain tables and some, and an end within a grain."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A raw image with text and noise here and there, and an empty end."""
    path, chance = tmp_path / "source.img", random.Random(5)
    with RawDevice.create(path, SIZE_BYTES) as raw:
        for _ in range(20):
            length = chance.choice([100, 4096, 70_000, 300_000])
            data = chance.randbytes(length) if chance.random() < 0.5 else b"text " * (length // 5)
            raw.write(chance.randrange(40 * MIB), data)
    return path


def assert_same(peer: Peer, image: Path, expected: Path) -> None:
    """qemu-img finds no fault, and both disks equal, of one size."""
    checked = peer("qemu-img", "check", image)
    assert "No errors" in checked.stdout or "does not support checks" in checked.stderr
    same = peer("qemu-img", "compare", "-F", "raw", image, expected)
    assert same.returncode == 0, same.stdout
    info = json.loads(peer("qemu-img", "info", "--output=json", image, check=True).stdout)
    assert info["format"] == "vmdk"
    assert info["virtual-size"] == expected.stat().st_size


@pytest.mark.parametrize("kind", vmdk.SUBFORMATS)
def test_what_convert_makes_qemu_reads(
    ipva: Ipva, peer: Peer, source: Path, tmp_path: Path, kind: str
) -> None:
    """And what qemu makes we convert back, to the byte."""
    ours, theirs, back = (tmp_path / name for name in ("ours.vmdk", "theirs.vmdk", "back.img"))
    assert ipva("disk", "convert", source, ours, "-O", kind, "--verify").status == 0
    assert_same(peer, ours, source)
    subformat = "monolithicFlat" if kind == "vmfs" else kind
    options = ["convert", "-O", "vmdk", "-o", f"subformat={subformat}", source, theirs]
    peer("qemu-img", *options, check=True)
    assert ipva("disk", "diff", theirs, ours).status == 0
    assert ipva("disk", "convert", theirs, back, "-O", "raw").status == 0
    assert back.read_bytes() == source.read_bytes()


def test_what_convert_makes_seven_zip_reads(
    ipva: Ipva, peer: Peer, source: Path, tmp_path: Path
) -> None:
    """7-Zip finds a sparse and a stream-optimized disk whole."""
    for kind in ("monolithicSparse", "streamOptimized"):
        image = tmp_path / f"{kind}.vmdk"
        assert ipva("disk", "convert", source, image, "-O", kind).status == 0
        tested = peer("7zz", "t", "-tvmdk", image)
        assert tested.returncode == 0, tested.stdout
        assert "Everything is Ok" in tested.stdout


@pytest.mark.parametrize("kind", vmdk.SUBFORMATS)
def test_what_resize_and_compact_leave_qemu_reads(
    ipva: Ipva, peer: Peer, source: Path, tmp_path: Path, kind: str
) -> None:
    """Larger, smaller, and without what is zero."""
    image = tmp_path / "image.vmdk"
    assert ipva("disk", "convert", source, image, "-O", kind).status == 0
    for size in ("3G", "45M", "+20M"):
        assert ipva("disk", "resize", image, size).status == 0
        assert ipva("disk", "resize", source, size).status == 0
        assert_same(peer, image, source)
    if kind in vmdk.REWRITABLE:
        assert ipva("disk", "compact", image).status == 0
        assert_same(peer, image, source)


def test_a_disk_that_qemu_wrote_zeros_to_is_compacted(
    ipva: Ipva, peer: Peer, source: Path, tmp_path: Path
) -> None:
    """Its file gets smaller by what was zeroed, and reads the same."""
    if shutil.which("qemu-io") is None:
        pytest.skip("qemu-io is not installed")
    image = tmp_path / "image.vmdk"
    peer("qemu-img", "convert", "-O", "vmdk", source, image, check=True)
    peer("qemu-io", "-c", "write -P 7 0 8M", "-c", "write -P 0 0 8M", image, check=True)
    before = image.stat().st_size
    peer("qemu-img", "convert", "-O", "raw", image, source, check=True)
    freed = ipva("disk", "compact", image, "--json").document["freed"]
    assert freed >= 8 * MIB
    assert image.stat().st_size == before - freed
    assert_same(peer, image, source)


def test_snapshots_are_qemus_too(ipva: Ipva, peer: Peer, source: Path, tmp_path: Path) -> None:
    """A child of ours qemu reads; we commit qemu's; both parents hold what the children held."""
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    for maker in ("ours", "theirs"):
        words = ["disk", "convert", source, base, "-O", "monolithicSparse", "--force"]
        assert ipva(*words).status == 0
        if maker == "ours":
            assert ipva("disk", "snapshot", "create", base, child).status == 0
        else:
            words = ["create", "-f", "vmdk", "-b", base.name, "-F", "vmdk", child]
            peer("qemu-img", *words, check=True)
        folder = Folder(tmp_path)
        with vmdk.open(folder.open(child.name, writable=True), folder, writable=True) as disk:
            disk.write(30 * MIB, b"changed" * 20_000)
        expected = tmp_path / "expected.img"
        peer("qemu-img", "convert", "-O", "raw", child, expected, check=True)
        assert ipva("disk", "diff", child, expected).status == 0
        assert ipva("disk", "snapshot", "commit", child, "--remove").status == 0
        assert_same(peer, base, expected)


def test_what_create_makes_qemu_reads(ipva: Ipva, peer: Peer, tmp_path: Path) -> None:
    """An empty disk of the size, of each kind."""
    expected = tmp_path / "expected.img"
    RawDevice.create(expected, 5 * MIB + 512).close()
    for kind in vmdk.SUBFORMATS:
        image = tmp_path / f"{kind}.vmdk"
        assert ipva("disk", "create", image, 5 * MIB + 1, "-O", kind).status == 0
        assert_same(peer, image, expected)


def test_map_as_qemu_has_it(ipva: Ipva, peer: Peer, source: Path, tmp_path: Path) -> None:
    """Runs of data lie where qemu-img finds them."""
    image = tmp_path / "image.vmdk"
    peer("qemu-img", "convert", "-O", "vmdk", source, image, check=True)
    theirs: list[list[int]] = []
    for run in json.loads(peer("qemu-img", "map", "--output=json", image, check=True).stdout):
        if run["data"]:
            if theirs and sum(theirs[-1]) == run["start"]:
                theirs[-1][1] += run["length"]
            else:
                theirs.append([run["start"], run["length"]])
    runs = ipva("disk", "map", image, "--json").document
    assert [[run["offset"], run["length"]] for run in runs if run["data"]] == theirs
    assert all(run["offset"] % (64 * KIB) == 0 for run in runs)
