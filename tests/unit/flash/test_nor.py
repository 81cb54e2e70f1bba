"""NOR rules over a block device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ipva_storage import flash
from ipva_storage.device import Extent, MemoryDevice, OverlayDevice, TraceDevice
from ipva_storage.errors import DeviceError, NorViolationError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

SIZE = 1024


def nor_over(device: MemoryDevice | TraceDevice) -> flash.NorDevice:
    """Four segments of 1 KiB."""
    return flash.NorDevice(device, segment_bytes=SIZE, segment_count=4)


class SparseDevice(MemoryDevice):
    """One data extent in segment 2; reading anywhere else fails."""

    def extents(self) -> Iterator[Extent]:
        yield Extent(0, 2 * SIZE, is_data=False)
        yield Extent(2 * SIZE, 512, is_data=True)
        yield Extent(2 * SIZE + 512, self.size_bytes - 2 * SIZE - 512, is_data=False)

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        assert 2 * SIZE <= offset_bytes < 2 * SIZE + 512
        super().read_into(offset_bytes, buffer)


def test_a_zero_disk_must_be_erased_before_it_can_be_programmed() -> None:
    """Zeros are programmed bits; a program cannot set them back."""
    nor = nor_over(MemoryDevice(4 * SIZE))
    with pytest.raises(NorViolationError) as caught:
        nor.program(SIZE, b"\x01")
    assert caught.value.offset_bytes == SIZE
    assert nor.image[SIZE] == 0
    nor.erase(1)
    nor.program(SIZE, b"\x01")
    assert nor.image[SIZE : SIZE + 2] == b"\x01\xff"


def test_a_program_clears_bits_and_never_sets_one() -> None:
    """Programming again may clear more bits, and is counted; setting one is an error."""
    nor = nor_over(MemoryDevice(b"\xff" * 4 * SIZE))
    nor.program(0, b"\xf0")
    nor.program(0, b"\x30")
    assert nor.image[0] == 0x30
    assert nor.reprogram_count == 1
    with pytest.raises(NorViolationError):
        nor.program(0, b"\x31")
    assert nor.image[0] == 0x30


def test_an_erase_sets_one_whole_segment() -> None:
    """Erase leaves 0xFF in its segment and touches no other."""
    nor = nor_over(MemoryDevice(bytes(range(256)) * 16))
    before = bytes(nor.image)
    nor.erase(2)
    assert nor.image == before[: 2 * SIZE] + b"\xff" * SIZE + before[3 * SIZE :]


def test_programs_and_erases_are_on_the_device_when_they_return() -> None:
    """The mirror and the device hold the same; the barrier is the device's flush."""
    below = MemoryDevice(4 * SIZE)
    trace = TraceDevice(below)
    nor = nor_over(trace)
    nor.erase(0)
    nor.program(8, b"abcd")
    nor.barrier()
    assert below.data[:16] == b"\xff" * 8 + b"abcd" + b"\xff" * 4
    assert nor.image == below.data
    assert [one.operation.value for one in trace.records] == ["write", "write", "flush"]


def test_counters_tell_the_work() -> None:
    """Programs, bytes, erases and reads are counted."""
    nor = nor_over(TraceDevice(MemoryDevice(4 * SIZE)))
    nor.erase(0)
    nor.program(0, b"abcd")
    nor.program(4, b"ef")
    counted = (nor.program_count, nor.programmed_bytes, nor.erase_count, nor.read_bytes)
    assert counted == (2, 6, 1, 4 * SIZE)


def test_only_data_is_read() -> None:
    """Holes of the device are known to be zero and are not read."""
    nor = nor_over(SparseDevice(b"\0" * 2 * SIZE + b"x" * 512 + b"\0" * (2 * SIZE - 512)))
    assert [nor.is_virgin(at) for at in range(4)] == [True, True, False, True]
    assert nor.read_bytes == 512


def test_what_leaves_the_flash_is_refused() -> None:
    """Addresses and segments out of range are errors."""
    nor = nor_over(MemoryDevice(b"\xff" * 8 * SIZE))
    for address, data in [(4 * SIZE - 1, b"ab"), (-1, b"a"), (5 * SIZE, b"a")]:
        with pytest.raises(DeviceError):
            nor.program(address, data)
    for segment in (-1, 4):
        with pytest.raises(DeviceError):
            nor.erase(segment)


def test_a_geometry_that_makes_no_sense_is_refused() -> None:
    """Segments are powers of two; the device must be large enough."""
    device = MemoryDevice(4 * SIZE)
    for segment_bytes, segment_count in [(1000, 4), (512, 4), (SIZE, 1), (1 << 17, 4)]:
        with pytest.raises(UsageError):
            flash.NorDevice(device, segment_bytes=segment_bytes, segment_count=segment_count)
    with pytest.raises(DeviceError, match="needs 5120"):
        flash.NorDevice(device, segment_bytes=SIZE, segment_count=5)


def test_a_refused_write_leaves_the_mirror_as_it_was() -> None:
    """What the device refused is not in memory either."""

    class Refusing(OverlayDevice):
        def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
            raise DeviceError("no", where=self.name)

    nor = flash.NorDevice(
        Refusing(MemoryDevice(b"\xff" * 4 * SIZE)), segment_bytes=SIZE, segment_count=4
    )
    with pytest.raises(DeviceError):
        nor.program(0, b"abc")
    assert nor.is_blank(0, SIZE)
