"""The check of FAT volumes, beside the whole of `fsck.fat -n` in the same run.

Two volumes: 1 GiB with 20,000 files and 8 GiB with 200,000, in three levels, half of them with long
names. The two programs run in turn, and the best round of each counts, in seconds of the processor:
both use one, and what a busy host adds is not theirs. The check is measured inside this process and
as a whole command; memory is that of the command. `IPVA_BENCH_GIB=1` leaves the larger volume out.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipva_storage import fat
from ipva_storage.device import RawDevice
from ipva_storage.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 7
FOLDERS = 400
STATUS = Path("/proc/self/status")
LARGE = int(os.environ.get("IPVA_BENCH_GIB", "8"))
CASES = [(1, 20_000, 1.0), (8, 200_000, 0.5)]
"""Length in GiB, number of files, and what is wanted in the terms of the peer's time."""


def fill(path: Path, gib: int, file_count: int) -> None:
    """A volume with files of 0 to 20,000 bytes, the folders one after the other."""
    chance = random.Random(5)
    with path.open("wb") as file:
        file.truncate(gib * GIB)
    data = bytes(20_000)
    with RawDevice(path, writable=True) as device:
        fat.format(device, fat_bits=32, label="BENCH")
        with fat.open(device) as volume:
            for number in range(FOLDERS):
                folder = f"/top {number // 100}/Middle {number // 10}/deep{number}"
                with volume.batch():
                    volume.mkdir(folder, parents=True)
                    for index in range(file_count // FOLDERS):
                        short, long = f"FILE{index:04}.TXT", f"A long file name {index}.txt"
                        name = short if index % 2 else long
                        volume.write(f"{folder}/{name}", data[: chance.randrange(20_000)])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], Path]:
    """Gives the volume of a size, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("images")

    def image(gib: int, file_count: int) -> Path:
        path = folder / f"{gib}.img"
        if not path.exists():
            fill(path, gib, file_count)
        return path

    return image


def children_seconds() -> float:
    """Processor time of all programs that were run."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(*command: object) -> float:
    """Run a program; its processor time."""
    before = children_seconds()
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return children_seconds() - before


def peak_bytes(path: Path) -> int:
    """The most memory that the whole command has in use; 0 where the host does not tell."""
    if not STATUS.exists():
        return 0
    program = (
        "import atexit, sys\nfrom pathlib import Path\nfrom ipva_storage.cli.start import main\n"
        f"atexit.register(lambda: print(Path('{STATUS}').read_text(), file=sys.stderr))\nmain()"
    )
    command = [sys.executable, "-c", program, "fs", "check", str(path)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return int(told.split("VmHWM:")[1].split()[0]) * KIB


def check(path: Path) -> float:
    """Check a volume in this process; its processor time."""
    with RawDevice(path) as device:
        before = time.process_time()
        assert list(fat.check(device)) == []
        return time.process_time() - before


@pytest.mark.parametrize(("gib", "file_count", "goal"), CASES)
def test_check_beside_fsck(
    benchmark: Any,
    images: Callable[[int, int], Path],
    gib: int,
    file_count: int,
    goal: float,
) -> None:
    """The check in the process, beside the peer as a whole."""
    peer = shutil.which("fsck.fat") or shutil.which("fsck.fat", path="/usr/sbin:/sbin")
    if peer is None:
        pytest.skip("fsck.fat is not installed")
    if gib > LARGE:
        pytest.skip("IPVA_BENCH_GIB leaves it out")
    path = images(gib, file_count)
    check(path)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        theirs.append(run(peer, "-n", path))
        ours.append(check(path))
    benchmark.pedantic(check, args=(path,), rounds=1)
    seconds, peer_seconds = min(ours), min(theirs)
    benchmark.extra_info.update(
        seconds=seconds,
        peer_seconds=peer_seconds,
        ratio=seconds / peer_seconds,
        goal=f"{goal} ×",
        size=f"{file_count} files",
    )


@pytest.mark.parametrize(("gib", "file_count"), [case[:2] for case in CASES])
def test_check_command(
    benchmark: Any,
    images: Callable[[int, int], Path],
    gib: int,
    file_count: int,
) -> None:
    """The whole command, beside the check in the process: what the start costs, and memory."""
    if gib > LARGE:
        pytest.skip("IPVA_BENCH_GIB leaves it out")
    path = images(gib, file_count)
    command = (sys.executable, "-m", "ipva_storage.cli", "fs", "check", path)
    run(*command)
    whole = min(run(*command) for _ in range(3))
    inside = min(check(path) for _ in range(3))
    benchmark.pedantic(run, args=command, rounds=1)
    memory_bytes = peak_bytes(path)
    assert memory_bytes < 300 * MIB
    benchmark.extra_info.update(
        seconds=whole,
        peer_seconds=inside,
        ratio=whole / inside,
        goal="+ 0.3 s",
        memory=f"{memory_bytes // MIB} MiB",
    )
