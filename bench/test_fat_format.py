"""Making a volume of 8 GiB on a sparse image: inside this process, beside the whole of mkfs.fat.

The two run in turn, each on a new image, and the best round of each counts. Times are for reading;
that the image stays sparse is asserted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from ipva_storage import fat
from ipva_storage.device import RawDevice
from ipva_storage.units import GIB, MIB

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 15


@pytest.mark.parametrize("gib", [1, 8, 64])
def test_format(benchmark: Any, tmp_path: Path, gib: int) -> None:
    """`fat.format` and `mkfs.fat`, in turn."""
    program = shutil.which("mkfs.fat", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip("mkfs.fat is not installed")
    ours, theirs = tmp_path / "ours.img", tmp_path / "theirs.img"
    peer_seconds = []

    def fresh() -> tuple[tuple[RawDevice], dict[str, Any]]:
        for path in (ours, theirs):
            path.unlink(missing_ok=True)
        with theirs.open("xb") as file:
            file.truncate(gib * GIB)
        started = time.perf_counter()
        subprocess.run([program, "-n", "CF0", theirs], check=True, capture_output=True)
        peer_seconds.append(time.perf_counter() - started)
        return (RawDevice.create(ours, gib * GIB),), {}

    benchmark.pedantic(lambda device: fat.format(device, label="CF0"), setup=fresh, rounds=ROUNDS)
    assert ours.stat().st_blocks * 512 < MIB
    seconds, peer = benchmark.stats.stats.min, min(peer_seconds)
    facts = {"seconds": seconds, "peer_seconds": peer, "ratio": seconds / peer, "goal": "1.0 ×"}
    benchmark.extra_info.update(facts)
    benchmark.extra_info["size"] = f"{ours.stat().st_blocks // 2} KiB on the host"
