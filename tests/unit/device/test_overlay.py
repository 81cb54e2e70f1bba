"""OverlayDevice: nothing below changes until it is told to, and memory stays small."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from ipva_storage.device import (
    MemoryDevice,
    Operation,
    OverlayDevice,
    RawDevice,
    SliceDevice,
    TraceDevice,
    read,
)
from ipva_storage.device.overlay import PAGE_BYTES
from ipva_storage.errors import DeviceError
from ipva_storage.units import GIB, MIB

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def test_below_is_only_read() -> None:
    """Invariant 1: no change reaches the device below before the commit."""
    below = TraceDevice(MemoryDevice(b"." * 20_000))
    overlay = OverlayDevice(below)
    overlay.write(4090, b"across a page")
    overlay.discard(8000, 5000)
    overlay.resize(30_000)
    overlay.flush()
    overlay.close()
    assert below.records == []
    assert read(overlay, 0, 20_000) == b"." * 20_000


def test_commit_order() -> None:
    """A commit changes the length, writes in order of offset, then flushes."""
    below = TraceDevice(MemoryDevice(100_000))
    overlay = OverlayDevice(below)
    overlay.write(90_000, b"late")
    overlay.write(10, b"early")
    overlay.resize(200_000)
    overlay.commit()
    operations = [record.operation for record in below.records]
    assert operations == [Operation.RESIZE, Operation.WRITE, Operation.WRITE, Operation.FLUSH]
    assert below.records[1].offset_bytes < below.records[2].offset_bytes
    assert overlay.changed_bytes == 0
    assert read(below, 90_000, 4) == b"late"


def test_changed_extents_are_what_a_commit_does() -> None:
    """They can be asked for beforehand, to announce them to what saves them."""
    below = TraceDevice(MemoryDevice(100_000))
    overlay = OverlayDevice(below)
    overlay.write(98_000, b"to the end".ljust(2000))
    overlay.write(10, b"early")
    overlay.discard(3 * PAGE_BYTES, 2 * PAGE_BYTES)
    told = [(run.offset_bytes, run.length_bytes, run.is_data) for run in overlay.changed_extents()]
    overlay.commit()
    assert told == [
        (record.offset_bytes, record.length_bytes, record.operation is Operation.WRITE)
        for record in below.records
        if record.operation is not Operation.FLUSH
    ]
    assert len(told) == 3


def test_shrink_and_grow_reads_zero() -> None:
    """What was cut off and grown back reads as zero, before and after the commit."""
    below = MemoryDevice(b"x" * 10_000)
    overlay = OverlayDevice(below)
    overlay.resize(100)
    overlay.resize(10_000)
    assert read(overlay, 0, 10_000) == b"x" * 100 + bytes(9900)
    overlay.commit()
    assert below.data == b"x" * 100 + bytes(9900)


def test_interrupted_commit_can_be_repeated() -> None:
    """A commit that fails keeps the changes; a second one makes them true."""

    class FailsOnce(MemoryDevice):
        calls = 0

        def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
            self.calls += 1
            if self.calls == 2:
                raise DeviceError("the host disk is full")
            super().write(offset_bytes, data)

    memory = FailsOnce(100_000)
    overlay = OverlayDevice(memory)
    overlay.write(0, b"one")
    overlay.write(50_000, b"two")
    with pytest.raises(DeviceError):
        overlay.commit()
    assert read(overlay, 50_000, 3) == b"two"
    overlay.commit()
    assert memory.data[:3] + memory.data[50_000:50_003] == b"onetwo"


def test_discard_of_a_large_device_takes_little_memory() -> None:
    """Discarding 16 MiB keeps nothing but numbers, and the commit passes it on as one discard."""
    below = TraceDevice(MemoryDevice(16 * MIB))
    below.write(5 * MIB, b"old")
    below.reset()
    overlay = OverlayDevice(below)
    tracemalloc.start()
    try:
        overlay.discard(0, 16 * MIB)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    assert overlay.changed_bytes == 0
    assert [run.is_data for run in overlay.extents()] == [False]
    overlay.write(7 * MIB, b"new")
    overlay.commit()
    assert read(below, 5 * MIB, 3) == bytes(3)
    assert read(below, 7 * MIB, 3) == b"new"
    assert below.work.write_bytes == PAGE_BYTES


def test_commit_of_a_large_change_takes_little_memory() -> None:
    """A commit copies a mebibyte at a time, however long the changed run is."""
    overlay = OverlayDevice(MemoryDevice(32 * MIB))
    overlay.write(0, b"x" * (32 * MIB))
    tracemalloc.start()
    try:
        overlay.commit()
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_overlay_on_a_large_sparse_device(tmp_path: object) -> None:
    """An overlay takes memory for what is changed, not for the size of the device."""
    with RawDevice.create(f"{tmp_path}/big.img", 64 * GIB) as below:
        overlay = OverlayDevice(below)
        overlay.write(40 * GIB, b"here")
        assert overlay.changed_bytes == PAGE_BYTES
        assert [run.is_data for run in overlay.extents()] == [False, True, False]


def test_read_only_file_below(tmp_path: object) -> None:
    """Above a read-only file everything works but the commit, which keeps the changes."""
    RawDevice.create(f"{tmp_path}/disk.img", 8192).close()
    with RawDevice(f"{tmp_path}/disk.img") as below:
        overlay = OverlayDevice(below)
        overlay.write(1, b"changed")
        with pytest.raises(DeviceError, match="read-only"):
            overlay.commit()
        assert read(overlay, 1, 7) == b"changed"


def test_resize_of_a_fixed_kind_is_refused_at_the_commit() -> None:
    """A length that the device below refuses is refused when it is committed."""
    overlay = OverlayDevice(SliceDevice(MemoryDevice(100), 0, 50))
    overlay.resize(60)
    with pytest.raises(DeviceError, match="fixed"):
        overlay.commit()
