"""Stream-optimized files made to cost: time and memory stay in proportion to the file."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, SalvageDevice
from ipva_storage.units import GIB, KIB, MIB, SECTOR_BYTES, TIB
from ipva_storage.vmdk.extent.header import SparseHeader, build_header, read_header
from ipva_storage.vmdk.extent.stream import GRAIN_MARKER
from ipva_storage.vmdk.extent.tables import bytes_of

NAME = "disk.vmdk"
SECONDS_MAX = 15.0
MEMORY_MAX_BYTES = 256 * MIB
GRAIN = zlib.compress(bytes(64 * KIB))

Job = Callable[[Folder], object]


def checked(folder: Folder) -> object:
    """All findings."""
    with folder.open(NAME) as raw:
        return list(vmdk.check(raw, folder))


def repaired(folder: Folder) -> object:
    """What a repair would do."""
    return vmdk.repair(folder, NAME, dry_run=True)


def salvaged(folder: Folder) -> object:
    """The runs of what is left."""
    with vmdk.open_remains(folder, NAME) as disk:
        return sum(1 for _ in SalvageDevice(disk).extents())


JOBS = pytest.mark.parametrize("job", [checked, repaired, salvaged])


def made(path: Path, size_bytes: int) -> tuple[Folder, SparseHeader]:
    """An empty stream, and its header."""
    folder = Folder(path)
    vmdk.create(folder, NAME, size_bytes, subformat="streamOptimized")
    with folder.open(NAME) as raw:
        return folder, read_header(raw)


def put_in(path: Path, header: SparseHeader, body: bytes) -> None:
    """Put bytes between the metadata and the rest."""
    content = (path / NAME).read_bytes()
    start = header.overhead_sectors * SECTOR_BYTES
    (path / NAME).write_bytes(content[:start] + body + content[start:])


def grain(number: int) -> bytes:
    """A grain of zeros, in one sector."""
    lba_sector = number * 128
    return (GRAIN_MARKER.pack(lba_sector, len(GRAIN)) + GRAIN).ljust(SECTOR_BYTES, b"\0")


def assert_soon(job: Job, folder: Folder) -> None:
    """It ends soon."""
    started = time.process_time()
    job(folder)
    assert time.process_time() - started < SECONDS_MAX


def assert_small(job: Job, folder: Folder) -> None:
    """It takes little memory."""
    tracemalloc.start()
    try:
        job(folder)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < MEMORY_MAX_BYTES


@JOBS
def test_many_short_runs_of_zeros(tmp_path: Path, job: Job) -> None:
    """Every other sector is zeros: each run costs its own length."""
    folder, header = made(tmp_path, GIB)
    put_in(tmp_path, header, (b"\xff" * SECTOR_BYTES + bytes(SECTOR_BYTES)) * 16000)
    assert_soon(job, folder)


@JOBS
def test_damage_between_all_grains(tmp_path: Path, job: Job) -> None:
    """Every other sector is damaged: what is beside one costs no search."""
    folder, header = made(tmp_path, GIB)
    parts = [grain(number) + b"\xff" * SECTOR_BYTES for number in range(0, 32000, 2)]
    put_in(tmp_path, header, b"".join(parts))
    assert_soon(job, folder)


@JOBS
def test_grains_far_apart(tmp_path: Path, job: Job) -> None:
    """A grain in every 4 MiB of a hole: none of them keeps what was read around it."""
    folder, header = made(tmp_path, 64 * GIB)
    with (tmp_path / NAME).open("r+b") as file:
        for number in range(200):
            file.seek(header.overhead_sectors * SECTOR_BYTES + number * 4 * MIB)
            file.write(grain(number))
        file.write(b"\xff" * SECTOR_BYTES)
    assert_small(job, folder)


@JOBS
def test_a_long_hole_between_damage_and_data(tmp_path: Path, job: Job) -> None:
    """The hole is passed by, and not read because it was seen before its turn."""
    folder, header = made(tmp_path, GIB)
    with (tmp_path / NAME).open("r+b") as file:
        file.seek(header.overhead_sectors * SECTOR_BYTES)
        file.write(b"\xff" * SECTOR_BYTES)
        file.truncate()
        file.seek(200 * GIB)
        file.write(grain(3) + bytes(SECTOR_BYTES))
    assert_soon(job, folder)


@JOBS
def test_tables_far_apart(tmp_path: Path, job: Job) -> None:
    """A grain table in every 4 MiB."""
    folder, header = made(tmp_path, 64 * GIB)
    marker = (4).to_bytes(8, "little") + bytes(4) + (1).to_bytes(4, "little")
    with (tmp_path / NAME).open("r+b") as file:
        for number in range(100):
            file.seek(header.overhead_sectors * SECTOR_BYTES + number * 4 * MIB)
            file.write(marker.ljust(SECTOR_BYTES, b"\0") + b"\1" * 4 * SECTOR_BYTES)
    assert_small(job, folder)


@JOBS
def test_a_table_named_by_all_entries(tmp_path: Path, job: Job) -> None:
    """A directory of many entries, and one table: it is read once."""
    folder, header = made(tmp_path, 4 * TIB)
    count = header.table_count
    table_sector = header.overhead_sectors + 1
    directory = bytes_of(array("I", [table_sector]) * count)
    header = replace(
        header, gd_offset_sectors=table_sector + 4, flags=header.flags & ~2, overhead_sectors=128
    )
    with (tmp_path / NAME).open("r+b") as file:
        file.write(build_header(header))
        file.truncate(table_sector * SECTOR_BYTES)
        file.seek(table_sector * SECTOR_BYTES)
        file.write((300).to_bytes(4, "little") * 512 + directory)
    assert_soon(job, folder)
