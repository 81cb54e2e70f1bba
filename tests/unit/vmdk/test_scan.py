"""Huge directories: bounded in time and memory, and told exactly where that is possible."""

from __future__ import annotations

import struct
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from ipva_formats.vmdk import NEWLINES, SPARSE_HEADER
from ipva_storage import vmdk
from ipva_storage.device import Folder, MemoryDevice, RawDevice, read
from ipva_storage.errors import VmdkError
from ipva_storage.vmdk.creation import new_sparse
from ipva_storage.vmdk.extent.header import read_header
from ipva_storage.vmdk.extent.runs import grain_extents
from ipva_storage.vmdk.extent.tables import GrainTables

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ipva_storage.device import BlockDevice, Extent

MIB, TIB = 1 << 20, 1 << 40
TABLES = 2 * MIB
"""As many as a directory may have."""
GD = 21
FIRST = GD + TABLES * 4 // 512
"""The sector behind the directory."""
GRAIN_BYTES = 4096
SECONDS = 5.0
MEMORY_BYTES = 256 * MIB

DESCRIPTOR = (
    "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
    'createType="monolithicSparse"\nRW {} SPARSE "x.vmdk"\n'
)


@pytest.fixture(autouse=True)
def every_disk_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a disk of a few tables is told by NumPy here."""
    monkeypatch.setattr("ipva_storage.vmdk.extent.runs.SMALL_TABLES", 0)


def huge(path: Path, directory: bytes, *, overhead: int, gtes: int = 512, unclean: int = 0) -> Path:
    """A file of a few MiB with a directory of as many entries as there may be, grains of 4 KiB."""
    sector_count = TABLES * gtes * 8
    header = SPARSE_HEADER.build(
        {
            "version": 1,
            "flags": 1,
            "capacity_sectors": sector_count,
            "grain_sectors": 8,
            "descriptor_offset_sectors": 1,
            "descriptor_sectors": 20,
            "gtes_per_gt": gtes,
            "rgd_offset_sectors": 0,
            "gd_offset_sectors": GD,
            "overhead_sectors": overhead,
            "unclean_shutdown": unclean,
            "newlines": NEWLINES,
            "compress_algorithm": 0,
        }
    )
    with path.open("wb") as file:
        file.write(header + DESCRIPTOR.format(sector_count).encode())
        file.seek(GD * 512)
        file.write(directory)
        file.truncate((overhead + 256) * 512)
    return path


def bounded(action: Callable[[], object]) -> None:
    """Do it within the time and the memory that any image may take."""
    soon(action)
    small(action)


def soon(action: Callable[[], object]) -> None:
    """Do it within the time that any image may take."""
    start = time.process_time()
    action()
    assert time.process_time() - start < SECONDS


def small(action: Callable[[], object], limit_bytes: int = MEMORY_BYTES) -> None:
    """Do it within the memory that any image may take."""
    tracemalloc.start()
    try:
        action()
        assert tracemalloc.get_traced_memory()[1] < limit_bytes
    finally:
        tracemalloc.stop()


def runs_of(path: Path, *, writable: bool = False) -> list[Extent]:
    """The runs of the disk in a file."""
    with vmdk.open(RawDevice(path, writable=writable), writable=writable) as disk:
        return list(disk.extents())


def found_in(path: Path) -> set[str]:
    """Codes of what is wrong with it, apart from the unusual length of its metadata."""
    with RawDevice(path) as raw:
        return {finding.code for finding in vmdk.check(raw)} - {"VMDK030", "VMDK034"}


@pytest.mark.parametrize("unclean", [0, 1])
def test_empty_directory(tmp_path: Path, unclean: int) -> None:
    """A disk of terabytes without a table is one hole, at once; and it can be written to."""
    path = huge(tmp_path / "d.vmdk", b"", overhead=FIRST + 8, unclean=unclean)
    bounded(lambda: runs_of(path, writable=True))
    bounded(lambda: found_in(path))
    assert [run.is_data for run in runs_of(path)] == [False]
    assert found_in(path) == ({"VMDK014"} if unclean else set())


@pytest.mark.parametrize("is_empty", [False, True])
@pytest.mark.parametrize("gtes", [1, 512])
def test_one_table_named_by_all(tmp_path: Path, gtes: int, is_empty: bool) -> None:
    """A table that is named two million times is looked at once."""
    path = huge(
        tmp_path / "d.vmdk", struct.pack("<I", FIRST) * TABLES, overhead=FIRST + 8, gtes=gtes
    )
    with path.open("r+b") as file:
        file.seek(FIRST * 512)
        file.write(
            b"".join(struct.pack("<II", 0 if is_empty else FIRST + 8, 0) for _ in range(256))
        )
    bounded(lambda: runs_of(path))
    bounded(lambda: found_in(path))
    assert found_in(path) >= {"VMDK020"}
    runs = runs_of(path)
    assert len(runs) < 600
    assert any(run.is_data for run in runs) is not is_empty
    assert sum(run.length_bytes for run in runs) == TABLES * gtes * GRAIN_BYTES


def test_a_table_named_by_all_is_not_compacted(tmp_path: Path) -> None:
    """As soon as more grains are named than the file has room for, it is refused."""
    entries = struct.pack("<I", FIRST) * TABLES
    path = huge(tmp_path / "d.vmdk", entries, overhead=FIRST + 8, gtes=512)
    with path.open("r+b") as file:
        file.seek(FIRST * 512)
        file.write(struct.pack("<I", FIRST + 8) * 512)

    def compact() -> None:
        with pytest.raises(VmdkError, match="its grains overlap"):
            vmdk.compact(Folder(tmp_path), "d.vmdk", dry_run=True)

    bounded(compact)


def test_every_other_entry_names_a_table(tmp_path: Path) -> None:
    """A million short runs are told as fewer, wider ones."""
    path = huge(
        tmp_path / "d.vmdk", struct.pack("<II", FIRST, 0) * (TABLES // 2), overhead=FIRST + 8
    )
    with path.open("r+b") as file:
        file.seek(FIRST * 512)
        file.write(struct.pack("<I", FIRST + 8))
    bounded(lambda: runs_of(path))
    assert len(runs_of(path)) < 300_000


def test_tables_that_overlap_all_the_way(tmp_path: Path) -> None:
    """Two million tables a sector apart are a finding, and are refused for writing, soon."""
    directory = struct.pack(f"<{TABLES}I", *range(FIRST, FIRST + TABLES))
    path = huge(tmp_path / "d.vmdk", directory, overhead=FIRST + TABLES + 8)
    bounded(lambda: runs_of(path))
    bounded(lambda: found_in(path))
    assert found_in(path) == {"VMDK020"}

    def write() -> None:
        with pytest.raises(VmdkError, match="its tables overlap"):
            runs_of(path, writable=True)

    bounded(write)


def test_largest_disk_is_made(tmp_path: Path) -> None:
    """A disk of 64 TiB is made, checked, healed and written to in bounded time and memory."""
    folder = Folder(tmp_path)
    path = tmp_path / "disk.vmdk"
    small(lambda: vmdk.create(folder, "disk.vmdk", 4 * TIB), MEMORY_BYTES // 16)
    soon(lambda: vmdk.create(folder, "disk.vmdk", 64 * TIB, force=True))
    assert path.stat().st_blocks * 512 < 20 * MIB
    with path.open("r+b") as file:
        file.seek(72)
        file.write(b"\1")

    def write() -> None:
        with vmdk.open(RawDevice(path, writable=True), writable=True) as disk:
            disk.write(33 * TIB, b"x")

    bounded(write)
    bounded(lambda: found_in(path))
    assert found_in(path) == set()
    holes_and_data = [(run.length_bytes, run.is_data) for run in runs_of(path)]
    assert holes_and_data == [
        (33 * TIB, False),
        (65536, True),
        (31 * TIB - 65536, False),
    ]


def test_discarding_an_empty_disk(tmp_path: Path) -> None:
    """Tables without grains are passed over as a whole."""
    folder = Folder(tmp_path)
    vmdk.create(folder, "disk.vmdk", TIB)

    def discard() -> None:
        with vmdk.open(folder.open("disk.vmdk", writable=True), writable=True) as disk:
            disk.discard(0, disk.size_bytes)

    soon(discard)


def spread() -> MemoryDevice:
    """A disk of 400 grains, four in a table; every third one is there."""
    raw = MemoryDevice(name="disk.vmdk")
    with new_sparse(raw, "d", 400 * GRAIN_BYTES, grain_sectors=8, gtes_per_gt=4) as disk:
        for grain in range(0, 400, 3):
            disk.write(grain * GRAIN_BYTES, b"x")
    return raw


def data_grains(disk: BlockDevice) -> set[int]:
    """Grains that a disk of `spread` says are data; its runs are in order and without gaps."""
    found: set[int] = set()
    at = 0
    for run in disk.extents():
        assert run.offset_bytes == at
        at += run.length_bytes
        if run.is_data:
            found.update(range(run.offset_bytes // GRAIN_BYTES, -(-at // GRAIN_BYTES)))
    assert at == disk.size_bytes
    return found


@pytest.mark.parametrize("batch_entries", [4, 64, 1 << 18])
def test_runs_are_exact(monkeypatch: pytest.MonkeyPatch, batch_entries: int) -> None:
    """Within the limits every grain is told, however many tables are looked at together."""
    monkeypatch.setattr("ipva_storage.vmdk.extent.places.BATCH_ENTRIES", batch_entries)
    with vmdk.open(spread(), writable=True) as disk:
        assert data_grains(disk) == set(range(0, 400, 3))
        disk.write(GRAIN_BYTES, b"pending")
        assert data_grains(disk) == {1, *range(0, 400, 3)}


@pytest.mark.parametrize("gap", [1, 2, 3, 5, 50])
def test_small_disks_are_told_alike(monkeypatch: pytest.MonkeyPatch, gap: int) -> None:
    """Without NumPy the runs are the same, with zeroed grains counted and not."""
    raw = MemoryDevice(name="disk.vmdk")
    with new_sparse(raw, "d", 103 * GRAIN_BYTES - 512, grain_sectors=8, gtes_per_gt=4) as disk:
        for grain in range(0, 103, gap):
            disk.write(grain * GRAIN_BYTES, b"x")
    header = read_header(raw)
    tables = GrainTables(raw, header, writable=False)
    for count_zeroed in (False, True):
        told = {}
        for limit in (0, 1 << 20):
            monkeypatch.setattr("ipva_storage.vmdk.extent.runs.SMALL_TABLES", limit)
            told[limit] = list(grain_extents(header, tables, count_zeroed=count_zeroed))
        assert told[0] == told[1 << 20]
        raw.write((header.gd_offset_sectors + 1) * 512, struct.pack("<I", 1))  # for the next turn
        raw.write((header.rgd_offset_sectors + 1) * 512, struct.pack("<I", 1))


@pytest.mark.parametrize("batch_entries", [4, 64, 1 << 18])
def test_runs_are_widened(monkeypatch: pytest.MonkeyPatch, batch_entries: int) -> None:
    """Beyond the limit runs are fewer, and still hold every grain."""
    monkeypatch.setattr("ipva_storage.vmdk.extent.places.BATCH_ENTRIES", batch_entries)
    monkeypatch.setattr("ipva_storage.vmdk.extent.scan.EXACT_RUNS_MAX", 20)
    monkeypatch.setattr("ipva_storage.vmdk.extent.scan.COARSE_PARTS", 10)
    raw = spread()
    with vmdk.open(raw) as disk:
        assert data_grains(disk) >= set(range(0, 400, 3))
        assert len(list(disk.extents())) <= 60


def test_table_named_again_is_data_as_a_whole() -> None:
    """Of a table named twice the first is told exactly; an empty one named twice is a hole."""
    raw = spread()
    gd = int.from_bytes(read(raw, 56, 8), "little") * 512
    tables = struct.unpack("<100I", read(raw, gd, 400))
    raw.write(tables[2] * 512, bytes(16))
    raw.write(gd + 4, struct.pack("<I", tables[0]))  # table 1 is table 0 again, 50 is 2
    raw.write(gd + 200, struct.pack("<I", tables[2]))
    expected = {*range(0, 400, 3)} - {*range(4, 12)} - {*range(200, 204)} | {4, 5, 6, 7}
    with vmdk.open(raw) as disk:
        assert data_grains(disk) == expected


def test_tables_in_holes_of_the_host(tmp_path: Path) -> None:
    """What the host keeps as a hole is not read, and its neighbours are."""
    folder = Folder(tmp_path)
    vmdk.create(folder, "disk.vmdk", TIB)
    wanted = [5 * 65536, 9 * 2**30, TIB - 65536]
    with vmdk.open(folder.open("disk.vmdk", writable=True), writable=True) as disk:
        for offset_bytes in wanted:
            disk.write(offset_bytes, b"x")
    data = [run.offset_bytes for run in runs_of(tmp_path / "disk.vmdk") if run.is_data]
    assert data == wanted
    assert found_in(tmp_path / "disk.vmdk") == set()


def test_reading_from_the_middle_of_an_empty_table() -> None:
    """Only whole tables are passed over: a grain of the next one is not missed."""
    raw = MemoryDevice(name="disk.vmdk")
    new_sparse(raw, "d", 16 * GRAIN_BYTES, grain_sectors=8, gtes_per_gt=4).seal()
    with vmdk.open(raw, writable=True) as disk:
        disk.write(8 * GRAIN_BYTES, b"x" * GRAIN_BYTES)
        content = read(disk, 5 * GRAIN_BYTES, 8 * GRAIN_BYTES)
    assert content == bytes(3 * GRAIN_BYTES) + b"x" * GRAIN_BYTES + bytes(4 * GRAIN_BYTES)


@pytest.mark.parametrize("sector", [0, 2**30])
def test_runs_of_a_lost_table(sector: int) -> None:
    """Where the primary table is lost, the redundant one says what is data."""
    raw = spread()
    gd = int.from_bytes(read(raw, 56, 8), "little") * 512
    raw.write(gd + 4, struct.pack("<I", sector))
    with vmdk.open(raw) as disk:
        assert data_grains(disk) == set(range(0, 400, 3))
