"""Properties of the deltas of ESXi hosts: their grains over their parent, however damaged."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipva_formats import dtype_of
from ipva_formats.vmdk import COWD_HEADER, SESPARSE_CONST_HEADER, SESPARSE_ENTRY
from ipva_storage.device import MemoryDevice, read
from ipva_storage.errors import IpvaError, VmdkError
from ipva_storage.testing.vmdk_deltas import (
    TABLES_SECTOR,
    Mark,
    allocated,
    cowd_file,
    sesparse_file,
    shown,
)
from ipva_storage.vmdk.checking.cowd import check_cowd
from ipva_storage.vmdk.checking.sesparse import check_sesparse
from ipva_storage.vmdk.extent.cowd import CowdExtent
from ipva_storage.vmdk.extent.sesparse import SeSparseExtent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.findings import Finding

CAPACITY = 2 * 4096 + 301
"""Sectors: two full tables of a COWD disk in grains of a sector, and some."""

contents = st.integers(1, 255).map(lambda value: bytes([value]))
runs = st.lists(
    st.tuples(st.integers(0, CAPACITY - 1), st.integers(1, 40), contents | st.sampled_from(Mark)),
    max_size=12,
)
ranges = st.lists(st.tuples(st.integers(0, CAPACITY * 512), st.integers(0, 100_000)), max_size=6)
parents = st.none() | st.integers(0, CAPACITY * 512 + 5000)


def grains_of(
    runs: list[tuple[int, int, bytes | Mark]], grain_sectors: int
) -> dict[int, bytes | Mark]:
    """Grains by runs: first sector, length in grains, and the byte that they are full of."""
    count = -(-CAPACITY // grain_sectors)
    return {
        number: data if isinstance(data, Mark) else data * grain_sectors * 512
        for sector, length, data in runs
        for number in range(sector // grain_sectors, min(sector // grain_sectors + length, count))
    }


def parent(size_bytes: int | None) -> bytes:
    """A parent of that size: no two sectors of it are alike."""
    pattern = b"".join(at.to_bytes(4, "little") * 128 for at in range(CAPACITY + 10))
    return pattern[: size_bytes or 0]


def assert_reads_as(device: BlockDevice, expected: bytes, ranges: list[tuple[int, int]]) -> None:
    """Any range of it is as expected, and its runs are true."""
    for offset_bytes, length_bytes in [*ranges, (0, len(expected))]:
        length = min(length_bytes, len(expected) - offset_bytes)
        found = read(device, offset_bytes, length)
        assert found == expected[offset_bytes : offset_bytes + length]
    at = 0
    for run in device.extents():
        assert run.offset_bytes == at
        at += run.length_bytes
        assert run.is_data or not any(expected[run.offset_bytes : at])
    assert at == len(expected)


@given(runs, ranges, parents, st.sampled_from([1, 1, 2, 3, 8, 128]), st.integers(1, CAPACITY))
def test_cowd_is_its_grains_over_its_parent(
    runs: list[tuple[int, int, bytes | Mark]],
    ranges: list[tuple[int, int]],
    parent_bytes: int | None,
    grain_sectors: int,
    sector_count: int,
) -> None:
    """Whatever was written in whatever order, and however much of it is the disk's, it shows."""
    grains = {
        number: data
        for number, data in grains_of(runs, grain_sectors).items()
        if isinstance(data, bytes)
    }
    raw = MemoryDevice(cowd_file(CAPACITY, grains, grain_sectors=grain_sectors))
    below = parent(parent_bytes)
    expected = shown(CAPACITY * 512, grain_sectors * 512, grains, below)
    lower = None if parent_bytes is None else MemoryDevice(below)
    assert_reads_as(CowdExtent(raw, below=lower), expected, ranges)
    assert list(check_cowd(raw)) == []
    part = CowdExtent(raw, size_bytes=sector_count * 512, below=lower)
    assert part.size_bytes == sector_count * 512
    assert read(part, 0, part.size_bytes) == expected[: part.size_bytes]


@given(runs, ranges, parents)
def test_sesparse_is_its_grains_over_its_parent(
    runs: list[tuple[int, int, bytes | Mark]],
    ranges: list[tuple[int, int]],
    parent_bytes: int | None,
) -> None:
    """Whatever was written, zeroed or unmapped, in whatever order, it shows."""
    grains = grains_of(runs, 8)
    raw = MemoryDevice(sesparse_file(CAPACITY, grains))
    below = parent(parent_bytes)
    expected = shown(CAPACITY * 512, 4096, grains, below)
    lower = None if parent_bytes is None else MemoryDevice(below)
    assert_reads_as(SeSparseExtent(raw, below=lower), expected, ranges)
    assert list(check_sesparse(raw)) == []


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50))
def test_hot_path_equals_the_definition(values: list[int]) -> None:
    """A table through `array` is the same as through Construct and through NumPy."""
    import numpy as np

    data = SESPARSE_ENTRY[len(values)].build([{"entry": value} for value in values])
    raw = MemoryDevice(sesparse_file(CAPACITY, {}))
    raw.write(512, data)
    assert list(SeSparseExtent(raw).reader.entries(512, len(values))) == values
    assert np.frombuffer(data, dtype_of(SESPARSE_ENTRY))["entry"].tolist() == values


@given(st.integers(0, 2**60 - 1))
def test_numbers_of_grains_come_back(number: int) -> None:
    """Each number of a grain that an entry can hold leads to that grain, and to no other."""
    raw = MemoryDevice(sesparse_file(CAPACITY, {0: b"x"}))
    extent = SeSparseExtent(raw)
    place = extent.header.grains.offset_sectors * 512 + number * 4096
    if number == 0:
        assert list(extent.entry_places([allocated(0)], 0, 0)) == [(1, place)]
        return
    with pytest.raises(VmdkError, match=f"sector {place // 512},"):
        list(extent.entry_places([allocated(number)], 0, 0))


@given(st.binary(min_size=2044, max_size=2044))
def test_cowd_header_comes_back(rest: bytes) -> None:
    """Any header that parses builds the same bytes again, what is reserved as zeros."""
    data = b"COWD" + rest
    built = COWD_HEADER.build(COWD_HEADER.parse(data))
    assert built == data[:1640] + bytes(8) + data[1648:1652] + bytes(396)


@given(st.binary(min_size=504, max_size=504))
def test_sesparse_header_comes_back(rest: bytes) -> None:
    """Any header that parses builds the same bytes again."""
    data = bytes.fromhex("bebafeca00000000") + rest
    assert SESPARSE_CONST_HEADER.build(SESPARSE_CONST_HEADER.parse(data)) == data


def damages(good: bytes, metadata: list[range], count: int) -> Iterator[bytes]:
    """A good file, cut somewhere or with some bytes changed, most of them in the metadata."""
    rng = random.Random(17)
    for _ in range(count):
        data = bytearray(good)
        if rng.random() < 0.25:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.randint(1, 8)):
            part = rng.choice([*metadata, range(len(good))])
            at = rng.choice(part)
            if at < len(data):
                data[at] = rng.choice([0, 1, 255, rng.randrange(256)])
        yield bytes(data)


def cowd_to_damage() -> tuple[bytes, list[range]]:
    """A COWD file, and where its metadata is: the header, the directory, the first entries."""
    grains = {number: bytes([number % 251 + 1]) * 512 for number in range(0, 4200, 7)}
    return cowd_file(CAPACITY, grains), [range(32), range(2048, 2060), range(2560, 2700)]


def sesparse_to_damage() -> tuple[bytes, list[range]]:
    """A `seSparse` file, and where its metadata is."""
    grains: dict[int, bytes | Mark] = {
        number: bytes([number % 251 + 1]) * 4096 for number in range(0, 1000, 7)
    }
    grains |= {1: Mark.ZERO, 2: Mark.UNMAPPED}
    tables = TABLES_SECTOR * 512
    places = [range(208), range(512, 544), range(4096, 4112), range(tables, tables + 400)]
    return sesparse_file(CAPACITY, grains), places


@pytest.mark.parametrize(
    ("make", "opener", "checker"),
    [
        (cowd_to_damage, CowdExtent, check_cowd),
        (sesparse_to_damage, SeSparseExtent, check_sesparse),
    ],
)
def test_damaged_files_are_refused_or_read(
    make: Callable[[], tuple[bytes, list[range]]],
    opener: Callable[[MemoryDevice], BlockDevice],
    checker: Callable[[MemoryDevice], Iterator[Finding]],
) -> None:
    """Each of 300 damaged files is refused or read, in little time; what is refused is found."""
    good, places = make()
    started, refused = time.process_time(), 0
    for data in damages(good, places, 300):
        raw = MemoryDevice(data)
        try:
            findings = list(checker(raw))
        except VmdkError:
            findings = []
        assert len(findings) < 200
        try:
            extent = opener(raw)
            assert sum(run.length_bytes for run in extent.extents()) == extent.size_bytes
            read(extent, 0, min(extent.size_bytes, CAPACITY * 512))
        except IpvaError:
            refused += 1
            assert findings or data[:8] != good[:8] or len(data) < 2048
    assert refused > 100
    assert time.process_time() - started < 30
