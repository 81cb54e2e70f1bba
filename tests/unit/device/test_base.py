"""The ground of the device room: reads, views and runs."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipva_storage.device import Extent, MemoryDevice, byte_view, merge_extents, read
from ipva_storage.device.base import Device
from ipva_storage.errors import DeviceError
from ipva_storage.units import GIB, MIB, TIB

if TYPE_CHECKING:
    pass


class _Claim(MemoryDevice):
    """A device that says it is huge."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self._claimed_bytes = size_bytes

    @property
    def size_bytes(self) -> int:
        return self._claimed_bytes

    def read_into(self, offset_bytes: int, buffer: object, /) -> None:
        raise AssertionError("nothing is read")

    def resize(self, size_bytes: int, /) -> None:
        Device.resize(self, size_bytes)


def test_absurd_read_takes_no_memory() -> None:
    """A length beyond the device is refused before memory is taken for it."""
    tracemalloc.start()
    try:
        with pytest.raises(DeviceError, match="leave the device"):
            read(MemoryDevice(512), 0, 8 * TIB)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("offset_bytes", "length_bytes"), [(-1, 1), (0, -1), (512, 1), (513, 0)])
def test_read_outside_says_where(offset_bytes: int, length_bytes: int) -> None:
    """A read outside names the device and the place."""
    with pytest.raises(DeviceError) as caught:
        read(MemoryDevice(512, name="disk.img"), offset_bytes, length_bytes)
    assert caught.value.where == "disk.img"
    assert caught.value.offset_bytes == offset_bytes


def test_context_manager_closes() -> None:
    """A device is closed at the end of its block, and by an error."""

    class Noted(MemoryDevice):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    with Noted(1) as device:
        assert device.closed == 0
    assert device.closed == 1


def test_fixed_size_names_both() -> None:
    """A kind of fixed size says the one it has and the one that was asked for."""
    with pytest.raises(DeviceError, match="fixed at 1073741824 bytes and cannot become 5"):
        _Claim(GIB).resize(5)


@pytest.mark.parametrize(
    "table",
    [
        np.arange(10, dtype="<u4"),
        np.arange(10, dtype=">u2"),
        np.zeros(3, [("first", "<u2"), ("rest", "V5")]),
        np.ones((3, 4, 2)),
        np.zeros((0, 7)),
        np.array(1.5),
    ],
    ids=["little", "big", "records", "cube", "empty", "scalar"],
)
def test_byte_view_of_tables(table: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
    """The view has the bytes of any array, and shares its memory."""
    view = byte_view(table.data)
    assert (view.format, view.ndim, view.nbytes) == ("B", 1, table.nbytes)
    assert view.tobytes() == table.tobytes()
    if table.nbytes:
        view[0] = 0xAB
        assert table.tobytes()[0] == 0xAB


def test_byte_view_keeps_read_only() -> None:
    """The view of something read-only is read-only."""
    assert byte_view(b"abc").readonly


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans())))
def test_merge_extents(parts: list[tuple[int, bool]]) -> None:
    """Merged runs say of each byte what the parts said, and neighbours differ."""
    runs: list[Extent] = []
    at = 0
    for length_bytes, is_data in parts:
        runs.append(Extent(at, length_bytes, is_data))
        at += length_bytes
    merged = list(merge_extents(runs))
    assert _expand(merged) == _expand(runs)
    assert all(
        one.offset_bytes + one.length_bytes == other.offset_bytes
        and one.is_data is not other.is_data
        for one, other in pairwise(merged)
    )
    assert all(run.length_bytes for run in merged)


def _expand(runs: list[Extent]) -> list[bool]:
    return [run.is_data for run in runs for _ in range(run.length_bytes)]
