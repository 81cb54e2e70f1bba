"""FAT volumes beside their peers, in turn in one run: lists, reads, writes, memory.

The best round of each counts: what a busy host adds is not theirs. Ours and pytsk3, dissect.fat and
pyfatfs run inside the process; of mcopy it is the whole command. Times are for reading (as ratios),
contents and memory are asserted. A peer that is not installed is left out.
"""

from __future__ import annotations

import importlib
import random
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipva_storage import fat
from ipva_storage.device import RawDevice
from ipva_storage.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5


def note(benchmark: Any, name: str, seconds: float, goal: str) -> None:
    """Say how long a peer took, and how we compare."""
    ours = min(benchmark.stats.stats.data)
    facts = {"seconds": f"{ours:.4f}", name: f"{seconds:.3f} s, ratio {ours / seconds:.3f}"}
    benchmark.extra_info.update({**facts, f"goal with {name}": goal})


def has(module: str) -> bool:
    """Whether a peer is installed, with all that it needs itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module(module)
        except ImportError:
            return False
    return True


def timed(work: Callable[[], object]) -> float:
    """How long it takes, in seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# -- the images -----------------------------------------------------------------------------------


def make_tree(path: Path, size_bytes: int, folder_count: int) -> int:
    """A FAT32 volume with 50 files in each folder, in three levels, half with long names."""
    chance = random.Random(7)
    noise = chance.randbytes(20_000)
    with path.open("xb") as file:
        file.truncate(size_bytes)
    with RawDevice(path, writable=True) as device:
        fat.format(device, fat_bits=32)
        with fat.open(device) as volume, volume.batch():
            for number in range(folder_count):
                folder = f"/Top level {number // 20:03}/Folder number {number % 20:02}"
                volume.mkdir(folder, parents=True)
                for index in range(50):
                    name = f"F{index}.DAT" if index % 2 else f"{index} with a long name.text"
                    volume.write(f"{folder}/{name}", noise[: chance.randrange(20_000)])
    return folder_count * 50


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1 GiB with 20,000 files."""
    path = tmp_path_factory.mktemp("tree") / "tree.img"
    make_tree(path, GIB, 400)
    return path


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the host with 1,000 files of 64 KiB."""
    folder = tmp_path_factory.mktemp("thousand") / "src"
    folder.mkdir()
    chance = random.Random(7)
    for number in range(1000):
        (folder / f"{number:03} long name.data").write_bytes(chance.randbytes(64 * KIB))
    return folder


def empty(path: Path) -> Path:
    """An empty volume of 256 MiB in place of what was there."""
    path.unlink(missing_ok=True)
    with RawDevice.create(path, 256 * MIB) as device:
        fat.format(device)
    return path


# -- lists ----------------------------------------------------------------------------------------


def list_ours(path: Path) -> int:
    """All files and folders with their length."""
    with RawDevice(path) as device, fat.open(device) as volume:
        return len([(full, entry.size_bytes) for full, entry in volume.walk()])


def list_tsk(path: Path) -> int:
    """As `list_ours`, by pytsk3."""
    pytsk3 = importlib.import_module("pytsk3")
    volume = pytsk3.FS_Info(pytsk3.Img_Info(str(path)))
    found: list[tuple[bytes, int]] = []

    def enter(folder: Any, base: bytes) -> None:
        for entry in folder:
            name = entry.info.name.name
            if name in (b".", b"..") or name.startswith(b"$") or not entry.info.meta:
                continue
            found.append((base + b"/" + name, entry.info.meta.size))
            if entry.info.meta.type == pytsk3.TSK_FS_META_TYPE_DIR:
                enter(entry.as_directory(), base + b"/" + name)

    enter(volume.open_dir("/"), b"")
    return len(found)


def list_dissect(path: Path) -> int:
    """As `list_ours`, by dissect.fat."""
    opened = importlib.import_module("dissect.fat").FATFS
    found: list[tuple[str, int]] = []

    def enter(folder: Any, base: str) -> None:
        for entry in folder.iterdir():
            if entry.name not in (".", ".."):
                found.append((f"{base}/{entry.name}", entry.size))
                if entry.is_directory():
                    enter(entry, f"{base}/{entry.name}")

    with path.open("rb") as file:
        enter(opened(file).root, "")
    return len(found)


def list_pyfatfs(path: Path) -> int:
    """As `list_ours`, by pyfatfs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = importlib.import_module("pyfatfs.PyFatFS").PyFatFS
        with opened(str(path), read_only=True) as volume:
            return len(
                [
                    (full, info.size)
                    for full, info in volume.walk.info(namespaces=["basic", "details"])
                ]
            )


def test_list_20000(benchmark: Any, tree: Path) -> None:
    """A recursive list of 20,000 files in three levels."""
    peers = {"pytsk3": (list_tsk, "0.5"), "dissect.fat": (list_dissect, "0.1")}
    peers["pyfatfs.PyFatFS"] = (list_pyfatfs, "0.02")
    expected = 20_000 + 400 + 20
    peers = {name: peer for name, peer in peers.items() if has(name)}
    theirs: dict[str, list[float]] = {name: [] for name in peers}

    def in_turn() -> None:
        for name, (peer, _) in peers.items():
            if name == "pytsk3" or not theirs[name]:  # once is enough for those that take seconds
                theirs[name].append(timed(lambda peer=peer: peer(tree)))  # type: ignore[misc]

    found = benchmark.pedantic(list_ours, args=(tree,), setup=in_turn, rounds=ROUNDS)
    assert found == expected
    for name, (peer, goal) in peers.items():
        note(benchmark, name, min(theirs[name]), goal)
        if name == "pytsk3":
            assert peer(tree) == expected


# -- reads and writes -----------------------------------------------------------------------------


def write_ours(path: Path, contents: list[tuple[str, bytes]]) -> None:
    """Write files into a folder, all durable at the end."""
    with RawDevice(path, writable=True) as device, fat.open(device) as volume, volume.batch():
        volume.mkdir("/src")
        for name, content in contents:
            volume.write(f"/src/{name}", content)


def read_ours(path: Path) -> int:
    """Read all files of a folder."""
    with RawDevice(path) as device, fat.open(device) as volume:
        return sum(len(volume.read(f"/src/{entry.name}")) for entry in volume.list("/src"))


def read_tsk(path: Path) -> int:
    """As `read_ours`, by pytsk3, from the entries: by path each takes it milliseconds."""
    pytsk3 = importlib.import_module("pytsk3")
    volume = pytsk3.FS_Info(pytsk3.Img_Info(str(path)))
    files = [entry for entry in volume.open_dir("/src") if entry.info.name.name[:1] != b"."]
    return sum(len(entry.read_random(0, entry.info.meta.size)) for entry in files)


def test_write_1000(benchmark: Any, tmp_path: Path, thousand: Path) -> None:
    """1,000 files of 64 KiB written, all durable; `mcopy -s` leaves them in the cache."""
    contents = [(path.name, path.read_bytes()) for path in sorted(thousand.iterdir())]
    ours, theirs = tmp_path / "ours.img", tmp_path / "theirs.img"
    seconds: list[float] = []

    def in_turn() -> tuple[tuple[Path, list[tuple[str, bytes]]], dict[str, Any]]:
        empty(ours)
        if shutil.which("mcopy") is not None:
            command = ["mcopy", "-s", "-i", str(empty(theirs)), str(thousand), "::/"]
            seconds.append(timed(lambda: subprocess.run(command, check=True)))
        return (ours, contents), {}

    benchmark.pedantic(write_ours, setup=in_turn, rounds=ROUNDS)
    with RawDevice(ours) as device, fat.open(device) as volume:
        assert all(volume.read(f"/src/{name}") == content for name, content in contents)
        assert list(fat.check(device)) == []
    if seconds:
        note(benchmark, "mcopy -s", min(seconds), "1.5")


def test_read_1000(benchmark: Any, tmp_path: Path, thousand: Path) -> None:
    """1,000 files of 64 KiB read."""
    image = empty(tmp_path / "volume.img")
    write_ours(image, [(path.name, path.read_bytes()) for path in sorted(thousand.iterdir())])
    seconds: list[float] = []

    def in_turn() -> None:
        if has("pytsk3"):
            seconds.append(timed(lambda: read_tsk(image)))

    found = benchmark.pedantic(read_ours, args=(image,), setup=in_turn, rounds=ROUNDS)
    assert found == 1000 * 64 * KIB
    if seconds:
        note(benchmark, "pytsk3", min(seconds), "1.0")


def test_memory_of_200000(benchmark: Any, tmp_path: Path) -> None:
    """The memory that a list and the usage of 200,000 files take, of a whole process."""
    if not Path("/proc/self/status").exists():
        pytest.skip("this host does not tell a process its peak")
    image = tmp_path / "tree.img"
    count = make_tree(image, 8 * GIB, 4000)
    program = (
        "import sys; from pathlib import Path; from ipva_storage import fat\n"
        "from ipva_storage.device import RawDevice\n"
        "with RawDevice(sys.argv[1]) as device:\n volume = fat.open(device)\n"
        " print(volume.usage().file_count, sum(1 for _ in volume.walk()),"
        " Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    command = [sys.executable, "-c", program, str(image)]

    def measure() -> list[int]:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return [int(word) for word in done.stdout.split()]

    file_count, entry_count, peak_kib = benchmark.pedantic(measure, rounds=1)
    assert (file_count, entry_count) == (count, count + 4000 + 200)
    benchmark.extra_info["peak"] = f"{peak_kib / 1024:.0f} MiB, goal 300 MiB"
    assert peak_kib < 300 * 1024
