"""Huge directories of the deltas of ESXi hosts: bounded in time and memory, whatever they say."""

from __future__ import annotations

import time
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ipva_formats.vmdk import COWD_HEADER, SESPARSE_TABLE_MARK
from ipva_storage.device import RawDevice, read
from ipva_storage.errors import VmdkError
from ipva_storage.testing.vmdk_deltas import (
    allocated,
    cowd_file,
    sesparse_file,
)
from ipva_storage.vmdk.checking.cowd import check_cowd
from ipva_storage.vmdk.checking.sesparse import check_sesparse
from ipva_storage.vmdk.extent.cowd import CowdExtent
from ipva_storage.vmdk.extent.sesparse import SeSparseExtent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from ipva_storage.device import Extent

MIB, TIB = 1 << 20, 1 << 40
SECONDS = 3.0
MEMORY_BYTES = 64 * MIB
COWD_TABLES = MIB
"""As many as 2 TiB in grains of a sector need."""
COWD_FIRST = 4 + COWD_TABLES * 4 // 512
SE_TABLES = 4 * MIB
"""As many as 64 TiB need."""
SE_DIRECTORY = 16
SE_FIRST = SE_DIRECTORY + SE_TABLES * 8 // 512


def huge_cowd(path: Path, directory: npt.NDArray[np.uint32], size_sectors: int) -> Path:
    """A COWD file of 2 TiB; what is behind its directory is a hole."""
    fields = COWD_HEADER.parse(cowd_file(1, {}))
    fields |= {
        "capacity_sectors": 2**32 - 1,
        "gd_entry_count": COWD_TABLES,
        "free_sector": 2**32 - 1,
    }
    with path.open("wb") as file:
        file.write(COWD_HEADER.build(fields))
        file.write(directory.tobytes())
        file.truncate(size_sectors * 512)
    return path


def huge_sesparse(path: Path, directory: npt.NDArray[np.uint64], size_sectors: int) -> Path:
    """A `seSparse` file of 64 TiB; what is behind its directory is a hole."""
    header = bytearray(sesparse_file(8, {})[:1024])
    for offset_bytes, value in (
        (16, 64 * TIB // 512),
        (128, SE_DIRECTORY),
        (136, SE_TABLES * 8 // 512),
        (144, SE_FIRST),
        (152, SE_TABLES * 64),
        (192, SE_FIRST + SE_TABLES * 64),
        (200, 64 * TIB // 512),
    ):
        header[offset_bytes : offset_bytes + 8] = value.to_bytes(8, "little")
    with path.open("wb") as file:
        file.write(header)
        file.seek(SE_DIRECTORY * 512)
        file.write(directory.tobytes())
        file.truncate(size_sectors * 512)
    return path


def bounded(action: Callable[[], object]) -> None:
    """Do it within the time and the memory that any image may take."""
    start = time.process_time()
    action()
    assert time.process_time() - start < SECONDS
    tracemalloc.start()
    try:
        action()
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES
    finally:
        tracemalloc.stop()


def codes(check: Callable[[RawDevice], object], path: Path) -> set[str]:
    """What is found."""
    with RawDevice(path) as raw:
        return {finding.code for finding in check(raw)}  # type: ignore[attr-defined]


def all_of(opener: Callable[[RawDevice], CowdExtent | SeSparseExtent], path: Path) -> list[Extent]:
    """The runs, after a look at the start, the middle and the end."""
    with opener(RawDevice(path)) as extent:
        for at in (0, extent.size_bytes // 2, extent.size_bytes - MIB):
            try:
                read(extent, at, MIB)
            except VmdkError:
                continue
        return list(extent.extents())


COWD_DIRECTORIES = {
    "empty": (np.zeros(COWD_TABLES, np.uint32), set(), False),
    "one table": (np.full(COWD_TABLES, COWD_FIRST, np.uint32), {"VMDK020"}, True),
    "side by side": (np.arange(COWD_TABLES, dtype=np.uint32) + COWD_FIRST, {"VMDK020"}, True),
    "holes": (np.arange(COWD_TABLES, dtype=np.uint32) * 32 + COWD_FIRST, set(), False),
    "backwards": (np.arange(COWD_TABLES, dtype=np.uint32)[::-1] * 32 + COWD_FIRST, set(), False),
    "lost": (np.full(COWD_TABLES, 2**32 - 1, np.uint32), {"VMDK007"}, True),
}


@pytest.mark.parametrize("name", COWD_DIRECTORIES)
def test_cowd(tmp_path: Path, name: str) -> None:
    """A directory of a million entries costs little, and what is told is true."""
    directory, expected, is_data = COWD_DIRECTORIES[name]
    path = huge_cowd(tmp_path / "x", directory, COWD_FIRST + COWD_TABLES * 32)
    bounded(lambda: all_of(CowdExtent, path))
    bounded(lambda: codes(check_cowd, path))
    assert codes(check_cowd, path) == expected
    assert any(run.is_data for run in all_of(CowdExtent, path)) == is_data


SE_MARK = np.uint64(SESPARSE_TABLE_MARK << 32)
SE_DIRECTORIES = {
    "empty": (np.zeros(SE_TABLES, np.uint64), set(), False),
    "one table": (np.full(SE_TABLES, SE_MARK), {"VMDK020"}, True),
    "holes": (np.arange(SE_TABLES, dtype=np.uint64) + SE_MARK, set(), False),
    "backwards": (np.arange(SE_TABLES, dtype=np.uint64)[::-1] + SE_MARK, set(), False),
    "lost": (np.full(SE_TABLES, 2**64 - 1, np.uint64), {"VMDK007"}, True),
}


@pytest.mark.parametrize("name", SE_DIRECTORIES)
def test_sesparse(tmp_path: Path, name: str) -> None:
    """A directory of four million entries costs little, and what is told is true."""
    directory, expected, is_data = SE_DIRECTORIES[name]
    path = huge_sesparse(tmp_path / "x", directory, SE_FIRST + SE_TABLES * 64)
    bounded(lambda: all_of(SeSparseExtent, path))
    bounded(lambda: codes(check_sesparse, path))
    assert codes(check_sesparse, path) == expected
    assert any(run.is_data for run in all_of(SeSparseExtent, path)) == is_data


def test_grains_all_over_a_large_file(tmp_path: Path) -> None:
    """Grains that are terabytes apart cost memory for one window, and are told apart."""
    numbers = np.arange(SE_TABLES, dtype=np.uint64)
    directory = np.where(numbers < 4, numbers + SE_MARK, np.uint64(0))
    size_sectors = SE_FIRST + SE_TABLES * 64 + 8 * TIB // 512
    path = huge_sesparse(tmp_path / "x", directory, size_sectors)
    spread = [allocated(number << 17 if number < 16000 else 5) for number in range(4 * 4096)]
    with path.open("r+b") as file:
        file.seek(SE_FIRST * 512)
        file.write(np.array(spread, np.uint64).tobytes())
    bounded(lambda: codes(check_sesparse, path))
    with RawDevice(path) as raw:
        found = list(check_sesparse(raw))
    assert {finding.code for finding in found} == {"VMDK012"}
    assert found[-1].message == f"and {4 * 4096 - 16000 - 1 - 20} more like these"


def test_most_damaged_fields_cost_nothing(tmp_path: Path) -> None:
    """A header that claims as much as its fields can hold is refused at once."""
    path = tmp_path / "x"
    for offset_bytes in range(8, 208, 8):
        data = bytearray(sesparse_file(100, {0: b"x"}))
        data[offset_bytes : offset_bytes + 8] = b"\xff" * 8
        path.write_bytes(data)
        with RawDevice(path) as raw:
            bounded(lambda raw=raw: list(check_sesparse(raw)))  # type: ignore[misc]
    for offset_bytes in range(4, 32, 4):
        data = bytearray(cowd_file(100, {0: b"x" * 512}))
        data[offset_bytes : offset_bytes + 4] = b"\xff" * 4
        path.write_bytes(data)
        with RawDevice(path) as raw:
            bounded(lambda raw=raw: list(check_cowd(raw)))  # type: ignore[misc]
