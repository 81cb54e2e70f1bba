"""Copying: all of it, holes as holes, with progress."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipva_storage.device import (
    MemoryDevice,
    OverlayDevice,
    RawDevice,
    TraceDevice,
    copy,
    data_runs,
    is_zero,
    read,
)
from ipva_storage.device.copy import CHUNK_BYTES, ZERO_TEST_BYTES
from ipva_storage.errors import DeviceError
from ipva_storage.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from pathlib import Path


def test_copies_everything() -> None:
    """The target reads as the source, chunk borders included."""
    source = MemoryDevice(bytes(range(1, 252)) * (CHUNK_BYTES // 251 + 20))
    target = MemoryDevice(source.size_bytes + 3)
    copy(source, target)
    assert target.data == source.data + bytes(3)


def test_zeros_are_not_written() -> None:
    """Blocks of zeros in a run of data are left out: one write a run of other blocks."""
    source = MemoryDevice(MIB)
    source.write(200 * KIB, b"one")
    source.write(900 * KIB, b"two")
    target = TraceDevice(MemoryDevice(MIB))
    copy(source, target)
    assert target.work.write_bytes == 2 * ZERO_TEST_BYTES
    assert target.work.write_count == 2


def test_holes_are_not_read() -> None:
    """What the source calls a hole is neither read nor written."""
    below = MemoryDevice(8 * MIB)
    source = TraceDevice(OverlayDevice(below))
    source.discard(0, 8 * MIB)
    source.write(5 * MIB, b"island")
    source.reset()
    target = MemoryDevice(8 * MIB)
    copy(source, target)
    assert source.work.read_bytes <= 64 * KIB
    assert read(target, 5 * MIB, 6) == b"island"


@pytest.mark.skipif(sys.platform != "linux", reason="holes as Linux keeps them")
def test_sparse_file_stays_sparse(tmp_path: Path) -> None:
    """A file of a gibibyte with one page of data is copied at once, and stays that small."""
    with RawDevice.create(tmp_path / "source.img", GIB) as source:
        source.write(700 * MIB, b"x" * 4096)
        with RawDevice.create(tmp_path / "target.img", GIB) as target:
            copy(source, target)
            assert read(target, 700 * MIB, 4096) == b"x" * 4096
    assert (tmp_path / "target.img").stat().st_blocks * 512 <= 256 * KIB


def test_target_too_small() -> None:
    """A target that is too small is refused before anything is written, zeros at the end or not."""
    source = MemoryDevice(b"data" + bytes(1000), name="source.img")
    target = TraceDevice(MemoryDevice(500, name="target.img"))
    with pytest.raises(DeviceError, match=r"target\.img.*source\.img"):
        copy(source, target)
    assert target.work.write_count == 0


def test_progress_ends_at_the_total() -> None:
    """Progress never falls, stays within the total and ends there."""
    seen: list[tuple[int, int]] = []
    source = MemoryDevice(2 * CHUNK_BYTES + 5)
    copy(
        source,
        MemoryDevice(source.size_bytes),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (source.size_bytes, source.size_bytes)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@given(
    st.lists(st.sampled_from([b"\0" * 7, b"\0\0\0\1\0\0\0", b"\0\0", b"\1"])),
    st.integers(1, 20),
)
def test_data_runs(parts: list[bytes], block_bytes: int) -> None:
    """Outside the runs all is zero, and no run starts or ends with a block of zeros."""
    buffer = b"".join(parts)
    at = 0
    for start, stop in data_runs(buffer, block_bytes):
        assert not any(buffer[at:start])
        assert start % block_bytes == 0
        assert at <= start < stop <= len(buffer)
        assert any(buffer[start : start + block_bytes])
        last = (stop - 1) // block_bytes * block_bytes
        assert any(buffer[last:stop])
        at = stop
    assert not any(buffer[at:])


@pytest.mark.parametrize("length", [0, 1, ZERO_TEST_BYTES, ZERO_TEST_BYTES + 1, MIB])
def test_is_zero(length: int) -> None:
    """A single byte at the end is seen, whatever the length."""
    buffer = bytearray(length + 2)
    buffer[0] = buffer[-1] = 1
    part = memoryview(buffer)[1 : length + 1]
    assert is_zero(part)
    if length:
        buffer[length] = 1
        assert not is_zero(part)
