"""FaultDevice: the power goes where it is told to."""

from __future__ import annotations

import pytest

from ipva_storage.device import FaultDevice, MemoryDevice, read
from ipva_storage.errors import DeviceError, PowerCutError


@pytest.mark.parametrize("cut_after_writes", [0, 1, 3])
def test_cut_after_writes(cut_after_writes: int) -> None:
    """Exactly that many writes arrive; the next raises, and leaves nothing."""
    memory = MemoryDevice(8)
    device = FaultDevice(memory, cut_after_writes=cut_after_writes)
    for number in range(cut_after_writes):
        device.write(number, b"x")
    with pytest.raises(PowerCutError):
        device.write(cut_after_writes, b"x")
    assert memory.data == b"x" * cut_after_writes + bytes(8 - cut_after_writes)
    assert device.is_cut


@pytest.mark.parametrize("torn_bytes", [0, 1, 3, 6, 100])
def test_torn_write(torn_bytes: int) -> None:
    """Of the write in flight the first bytes arrive, and no more."""
    memory = MemoryDevice(b"........")
    device = FaultDevice(memory, cut_after_writes=0, torn_bytes=torn_bytes)
    with pytest.raises(PowerCutError):
        device.write(1, b"ABCDEF")
    kept = min(torn_bytes, 6)
    assert memory.data == b"." + b"ABCDEF"[:kept] + b"." * (7 - kept)


def test_torn_discard() -> None:
    """A torn discard zeroes its first part."""
    memory = MemoryDevice(b"........")
    device = FaultDevice(memory, cut_after_writes=0, torn_bytes=2)
    with pytest.raises(PowerCutError):
        device.discard(3, 5)
    assert memory.data == b"...\0\0..."


def test_discards_count() -> None:
    """A discard counts as a write."""
    device = FaultDevice(MemoryDevice(8), cut_after_writes=1)
    device.discard(0, 1)
    with pytest.raises(PowerCutError):
        device.write(0, b"x")


def test_nothing_works_afterwards() -> None:
    """After the cut nothing reads, writes or flushes; closing works, and the medium is readable."""
    memory = MemoryDevice(8)
    device = FaultDevice(memory, cut_after_writes=0)
    with pytest.raises(PowerCutError):
        device.write(0, b"x")
    for attempt in (
        lambda: read(device, 0, 1),
        lambda: device.write(0, b"y"),
        lambda: device.discard(0, 1),
        lambda: device.resize(9),
        device.flush,
        device.extents,
    ):
        with pytest.raises(PowerCutError):
            attempt()
    device.close()
    assert memory.data == bytes(8)


def test_refused_write_does_not_count() -> None:
    """A write outside is refused and not counted; it never arrives torn either."""
    memory = MemoryDevice(8)
    device = FaultDevice(memory, cut_after_writes=0, torn_bytes=2)
    with pytest.raises(DeviceError) as caught:
        device.write(6, b"abc")
    assert not isinstance(caught.value, PowerCutError)
    assert memory.data == bytes(8)
    assert not device.is_cut
