"""TraceDevice: what passes is counted and kept."""

from __future__ import annotations

import pytest

from ipva_storage.device import MemoryDevice, Operation, TraceDevice, TraceRecord, Work, read
from ipva_storage.errors import DeviceError


def test_counts() -> None:
    """Each operation is counted once, with its bytes."""
    device = TraceDevice(MemoryDevice(4096))
    device.write(0, b"abc")
    device.write(10, memoryview(b"defg"))
    read(device, 0, 100)
    device.discard(5, 6)
    device.flush()
    assert device.work == Work(
        read_count=1,
        read_bytes=100,
        write_count=2,
        write_bytes=7,
        discard_count=1,
        discard_bytes=6,
        flush_count=1,
    )


def test_records_in_order() -> None:
    """Changes and barriers are kept in order, with data when asked for."""
    device = TraceDevice(MemoryDevice(64), keep_data=True)
    device.write(3, b"abc")
    device.flush()
    device.discard(0, 8)
    device.resize(32)
    assert device.records == [
        TraceRecord(Operation.WRITE, 3, 3, b"abc"),
        TraceRecord(Operation.FLUSH, 0, 0),
        TraceRecord(Operation.DISCARD, 0, 8),
        TraceRecord(Operation.RESIZE, 32, 0),
    ]


def test_data_is_dropped_unless_asked_for() -> None:
    """Without `keep_data` a trace takes no memory for what is written."""
    device = TraceDevice(MemoryDevice(64))
    device.write(3, b"abc")
    assert device.records == [TraceRecord(Operation.WRITE, 3, 3, None)]


def test_kept_data_is_a_copy() -> None:
    """What is kept does not change with the caller's buffer."""
    device = TraceDevice(MemoryDevice(64), keep_data=True)
    data = bytearray(b"before")
    device.write(0, data)
    data[:] = b"after!"
    assert device.records[0].data == b"before"


def test_refused_writes_are_not_recorded() -> None:
    """What the device below refuses did not happen."""
    device = TraceDevice(MemoryDevice(4))
    with pytest.raises(DeviceError):
        device.write(3, b"abc")
    assert device.records == []
    assert device.work == Work()


def test_reset() -> None:
    """A reset starts a new account."""
    device = TraceDevice(MemoryDevice(4))
    device.write(0, b"a")
    device.reset()
    assert device.records == []
    assert device.work == Work()
