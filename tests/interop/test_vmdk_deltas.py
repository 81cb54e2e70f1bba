"""The deltas of ESXi hosts with qemu-img: the same bytes, alone and over a parent."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, RawDevice, copy
from ipva_storage.errors import VmdkError
from ipva_storage.testing.vmdk_deltas import Mark, cowd_file, descriptor, sesparse_file, shown

if TYPE_CHECKING:
    import subprocess

    Peer = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.interop

CAPACITY = 4096 * 8 + 4096 + 77
"""Sectors: several tables of a COWD disk, two of a `seSparse` one, and an end within a grain."""
KINDS = [("vmfsSparse", 1), ("vmfsSparse", 8), ("vmfsSparse", 128), ("seSparse", 8)]


def scattered(kind: str, grain_sectors: int, seed: int) -> tuple[bytes, dict[int, bytes | Mark]]:
    """A file with runs of noise here and there, and the grains that are in it."""
    rng = random.Random(seed)
    count = -(-CAPACITY // grain_sectors)
    grains: dict[int, bytes | Mark] = {count - 1: rng.randbytes(grain_sectors * 512)}
    for _ in range(60):
        first = rng.randrange(count)
        mark = rng.choice([None, None, *Mark]) if kind == "seSparse" else None
        for number in range(first, min(first + rng.randint(1, 30), count)):
            grains[number] = mark or rng.randbytes(grain_sectors * 512)
    if kind == "seSparse":
        return sesparse_file(CAPACITY, grains), grains
    plain = {number: data for number, data in grains.items() if isinstance(data, bytes)}
    return cowd_file(CAPACITY, plain, grain_sectors=grain_sectors), grains


def make(folder: Folder, name: str, kind: str, grain_sectors: int, below: bytes | None) -> bytes:
    """A disk of that kind, over `base.vmdk` where there is something below; what it reads as."""
    data, grains = scattered(kind, grain_sectors, seed=len(name))
    folder.replace(f"{name}-delta.vmdk", data)
    parent = None if below is None else "base.vmdk"
    text = descriptor(kind, CAPACITY, f"{name}-delta.vmdk", parent=parent, cid=2)
    folder.replace(f"{name}.vmdk", text.encode())
    return shown(CAPACITY * 512, grain_sectors * 512, grains, below or b"")


def base(folder: Folder) -> bytes:
    """A flat disk full of noise, as `base.vmdk`; what it reads as."""
    noise = random.Random(3).randbytes(CAPACITY * 512)
    folder.replace("base-flat.vmdk", noise)
    text = descriptor("vmfsSparse", CAPACITY, "base-flat.vmdk").replace("vmfsSparse", "vmfs")
    folder.replace("base.vmdk", text.replace("VMFSSPARSE", "VMFS").encode())
    return noise


@pytest.mark.parametrize("has_parent", [False, True])
@pytest.mark.parametrize(("kind", "grain_sectors"), KINDS)
def test_as_qemu_reads_it(
    tmp_path: Path, peer: Peer, kind: str, grain_sectors: int, has_parent: bool
) -> None:
    """We and qemu-img convert a delta, alone and over a parent, to the bytes it was made of."""
    folder = Folder(tmp_path)
    below = base(folder) if has_parent else None
    expected = make(folder, "x", kind, grain_sectors, below)
    assert list(vmdk.check(folder.open("x.vmdk"), folder)) == []
    with (
        vmdk.open(folder.open("x.vmdk"), folder) as disk,
        RawDevice.create(tmp_path / "ours.raw", disk.size_bytes) as raw,
    ):
        copy(disk, raw)
    assert (tmp_path / "ours.raw").read_bytes() == expected
    theirs = tmp_path / "theirs.raw"
    peer("qemu-img", "convert", "-O", "raw", tmp_path / "x.vmdk", theirs, check=True)
    assert theirs.read_bytes() == expected


def test_chain_of_both_kinds(tmp_path: Path, peer: Peer) -> None:
    """A `seSparse` snapshot over a COWD snapshot over a flat disk reads as qemu reads it."""
    folder = Folder(tmp_path)
    lower = make(folder, "older", "vmfsSparse", 1, base(folder))
    data, grains = scattered("seSparse", 8, seed=9)
    folder.replace("newer-sesparse.vmdk", data)
    text = descriptor("seSparse", CAPACITY, "newer-sesparse.vmdk", parent="older.vmdk", cid=3)
    text = text.replace("parentCID=00000001", "parentCID=00000002")
    folder.replace("newer.vmdk", text.encode())
    expected = shown(CAPACITY * 512, 4096, grains, lower)
    theirs = tmp_path / "theirs.raw"
    peer("qemu-img", "convert", "-O", "raw", tmp_path / "newer.vmdk", theirs, check=True)
    assert theirs.read_bytes() == expected
    with (
        vmdk.open(folder.open("newer.vmdk"), folder) as disk,
        RawDevice.create(tmp_path / "ours.raw", disk.size_bytes) as raw,
    ):
        copy(disk, raw)
    assert (tmp_path / "ours.raw").read_bytes() == expected
    assert list(vmdk.check(folder.open("newer.vmdk"), folder)) == []


@pytest.mark.parametrize(
    ("offset_bytes", "is_refused_here"),
    [(8, True), (24, True), (32, True), (40, True), (48, True), (208, False), (512 + 24, False)],
)
def test_what_qemu_refuses_is_found(
    tmp_path: Path, peer: Peer, offset_bytes: int, is_refused_here: bool
) -> None:
    """Where qemu refuses a `seSparse` file, a check has a finding; what can be read here, is."""
    folder = Folder(tmp_path)
    expected = make(folder, "x", "seSparse", 8, None)
    data = bytearray((tmp_path / "x-delta.vmdk").read_bytes())
    data[offset_bytes] ^= 0x40
    folder.replace("x-delta.vmdk", bytes(data))
    assert peer("qemu-img", "info", tmp_path / "x.vmdk").returncode != 0
    assert list(vmdk.check(folder.open("x.vmdk"), folder)) != []
    if is_refused_here:
        with pytest.raises(VmdkError, match="its header is damaged"):
            vmdk.open(folder.open("x.vmdk"), folder)
    else:
        with vmdk.open(folder.open("x.vmdk"), folder) as disk:
            found = bytearray(disk.size_bytes)
            disk.read_into(0, found)
            assert found == expected
