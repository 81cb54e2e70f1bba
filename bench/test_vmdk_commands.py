"""Whole commands on VMDKs, each beside qemu-img's in the same run: conversion, check, info.

The disks have 40 % data in runs of 1 MiB, half of it like the text of a trace, half noise. The two
programs run in turn, after the host has written what is left of the one before, and the best round
of each counts: what a busy host adds is not theirs. Times are for reading (as ratios), sizes and
memory are asserted. Ours end when the disk is on its medium, qemu-img's when it is in the cache.
`IPVA_BENCH_GIB=1` leaves the larger disk out.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, RawDevice
from ipva_storage.units import GIB, KIB, MIB
from ipva_storage.vmdk.extent.header import read_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROUNDS = 5
IPVA = [sys.executable, "-m", "ipva_storage.cli"]
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have their bytecode cached
LARGE = int(os.environ.get("IPVA_BENCH_GIB", "4"))
WORDS = ["call", "setup", "alert", "trace", "flash", "route", "from", "to", "via", "at"]


class Case(NamedTuple):
    """A conversion, and what is wanted of it."""

    gib: int
    source: str
    target: str
    goal: str
    """In the terms of qemu-img's time."""


CASES = [
    Case(1, "raw", "streamOptimized", "0.12 ×"),
    Case(1, "streamOptimized", "raw", "0.5 ×"),
    Case(1, "raw", "monolithicSparse", "+ 0.25 s"),
    Case(1, "monolithicSparse", "raw", "+ 0.25 s"),
    Case(4, "raw", "monolithicSparse", "0.8 ×"),
    Case(4, "monolithicSparse", "raw", "0.8 ×"),
]


def text(rng: random.Random, length: int) -> bytes:
    """Lines like those of a trace; deflate takes about half of them away."""
    lines = bytearray()
    while len(lines) < length:
        stamp = f"{rng.randrange(9)}:{rng.randrange(9999):04}:{rng.randrange(999):03}"
        words = " ".join(rng.choices(WORDS, k=3))
        lines += f"{stamp}:{rng.randrange(9)} - {words} {rng.getrandbits(48):x}\n".encode()
    return bytes(lines[:length])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, str], Path]:
    """Gives the disk of a size in a kind, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("images")

    def raw(gib: int) -> Path:
        path = folder / f"{gib}.raw"
        if not path.exists():
            rng = random.Random(7)
            pool = [text(rng, MIB) for _ in range(16)]
            with path.open("wb") as file:
                file.truncate(gib * GIB)
                chosen = [at for at in range(0, gib * GIB, MIB) if rng.random() < 0.4]
                for number, at in enumerate(chosen):
                    file.seek(at)
                    file.write(rng.randbytes(MIB) if number % 2 else rng.choice(pool))
        return path

    def image(gib: int, kind: str) -> Path:
        if kind == "raw":
            return raw(gib)
        path = folder / f"{gib}-{kind}.vmdk"
        if not path.exists():
            command = ["qemu-img", "convert", "-O", "vmdk", "-o", f"subformat={kind}"]
            subprocess.run([*command, raw(gib), path], check=True)
        return path

    return image


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.gib}-{case.source}-{case.target}")
def test_convert(
    benchmark: Any, tmp_path: Path, images: Callable[[int, str], Path], case: Case
) -> None:
    """`ipva disk convert` and `qemu-img convert`, in turn; both give the same disk."""
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is not installed")
    if case.gib > LARGE:
        pytest.skip("IPVA_BENCH_GIB leaves the larger disk out")
    source = images(case.gib, case.source)
    ending = "raw" if case.target == "raw" else "vmdk"
    ours, theirs = (tmp_path / f"{who}.{ending}" for who in ("ours", "theirs"))
    kind = ["-O", "raw"] if case.target == "raw" else ["-O", "vmdk", "-o"]
    kind += [] if case.target == "raw" else [f"subformat={case.target}"]
    theirs_seconds: list[float] = []

    def clear() -> None:
        for path in (ours, theirs):
            path.unlink(missing_ok=True)
        os.sync()

    def peer() -> None:
        clear()
        started = time.perf_counter()
        subprocess.run(["qemu-img", "convert", *kind, source, theirs], check=True)
        theirs_seconds.append(time.perf_counter() - started)
        clear()  # so that ours finds the host in the state in which the peer found it

    command = [*IPVA, "disk", "convert", str(source), str(ours), "-O", case.target]
    benchmark.pedantic(
        lambda: subprocess.run(command, check=True, capture_output=True), setup=peer, rounds=ROUNDS
    )
    subprocess.run(["qemu-img", "convert", *kind, source, theirs], check=True)
    subprocess.run(["qemu-img", "compare", ours, theirs], check=True, capture_output=True)
    _note(benchmark, theirs_seconds, case.goal)
    if case.target == "streamOptimized":
        share = ours.stat().st_size / theirs.stat().st_size
        benchmark.extra_info["size"] = f"{share:.4f} ×"
        assert share <= 1.01


def _note(benchmark: Any, theirs_seconds: list[float], goal: str) -> None:
    ours = min(benchmark.stats.stats.data)
    theirs = min(theirs_seconds)
    benchmark.extra_info.update(
        seconds=round(ours, 3),
        peer_seconds=round(theirs, 3),
        ratio=round(ours / theirs, 3),
        goal=goal,
    )


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sparse disk of 64 GiB with 20 GiB of grains, all of them holes of the host."""
    folder = tmp_path_factory.mktemp("full")
    vmdk.create(Folder(folder), "disk.vmdk", 64 * GIB)
    with RawDevice(folder / "disk.vmdk", writable=True) as raw:
        header = read_header(raw)
        count = 20 * GIB // (64 * KIB)
        chosen = np.sort(np.random.default_rng(1).permutation(header.grain_count)[:count])
        entries = np.zeros(header.table_count * 512, "<u4")
        entries[chosen] = header.overhead_sectors + 128 * np.arange(count)
        raw.resize((header.overhead_sectors + 128 * count) * 512)
        for sector in (header.rgd_offset_sectors, header.gd_offset_sectors):
            raw.write((sector + header.directory_sectors) * 512, entries.tobytes())
    return folder / "disk.vmdk"


@pytest.mark.parametrize(("verb", "goal_seconds"), [("check", 0.5), ("info", 0.15)])
def test_inspect(benchmark: Any, full: Path, verb: str, goal_seconds: float) -> None:
    """`ipva disk check` and `info` of a large disk, beside `qemu-img`'s; memory is bounded."""
    theirs_seconds: list[float] = []
    peaks: list[int] = []

    def peer() -> None:
        if shutil.which("qemu-img") is not None:
            started = time.perf_counter()
            subprocess.run(["qemu-img", verb, full], check=True, capture_output=True)
            theirs_seconds.append(time.perf_counter() - started)

    def ours() -> None:
        process = subprocess.Popen([*IPVA, "disk", verb, str(full)], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss * KIB)

    benchmark.pedantic(ours, setup=peer, rounds=ROUNDS)
    _note(benchmark, theirs_seconds or [float("nan")], f"{goal_seconds} s")
    benchmark.extra_info["memory"] = f"{max(peaks) // MIB} MiB"
    assert max(peaks) < 150 * MIB
