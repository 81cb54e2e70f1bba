"""Reading what is left of a damaged device."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipva_storage.device import Extent, MemoryDevice, SalvageDevice, copy, read
from ipva_storage.device.salvage import PIECE_BYTES
from ipva_storage.errors import DeviceError, IpvaError, VmdkError
from ipva_storage.units import KIB, MIB, SECTOR_BYTES


class Damaged(MemoryDevice):
    """A device with parts that cannot be read."""

    def __init__(
        self,
        content: bytes,
        bad: list[tuple[int, int]],
        error: type[IpvaError] = DeviceError,
        runs: list[Extent] | None = None,
    ) -> None:
        super().__init__(content, name="damaged")
        self.bad = bad
        self.error = error
        self.runs = runs
        self.read_count = 0

    def read_into(self, offset_bytes: int, buffer: object, /) -> None:
        """Fail where any bad part is touched."""
        self.read_count += 1
        length = len(memoryview(buffer))  # type: ignore[arg-type]
        for start, stop in self.bad:
            if start < offset_bytes + length and offset_bytes < stop:
                raise self.error("bad", where=self.name, offset_bytes=start)
        super().read_into(offset_bytes, buffer)  # type: ignore[arg-type]

    def extents(self) -> Iterator[Extent]:
        """The given runs, and then a failure; all data where none are given."""
        if self.runs is None:
            yield from super().extents()
            return
        yield from self.runs
        raise VmdkError("the tables are gone")


def noise(size_bytes: int) -> bytes:
    """Bytes without a zero among them."""
    return random.Random(size_bytes).randbytes(size_bytes).replace(b"\0", b"\1")


sectors = st.integers(0, 600)


@given(st.lists(st.tuples(sectors, st.integers(1, 200)), max_size=5), st.integers(0, 1000))
def test_a_medium_loses_single_sectors(bad: list[tuple[int, int]], skip: int) -> None:
    """Everything outside the bad sectors is read, what is inside is zero, and told exactly."""
    content = noise(600 * SECTOR_BYTES + 100)
    parts = [(start * SECTOR_BYTES, (start + count) * SECTOR_BYTES) for start, count in bad]
    device = SalvageDevice(Damaged(content, parts))
    found = read(device, skip, device.size_bytes - skip)
    expected = bytearray(content)
    is_lost = bytearray(len(content))
    for start, stop in parts:
        stop = min(stop, len(content))
        expected[start:stop] = bytes(max(stop - start, 0))
        is_lost[start:stop] = b"\1" * max(stop - start, 0)
    told = bytearray(len(content))
    for start, length in device.lost:
        told[start : start + length] = b"\1" * length
    if skip % SECTOR_BYTES == 0:
        assert found == expected[skip:]
        assert told[skip:] == is_lost[skip:]
    else:  # the reads do not lie on sectors, so that up to one more is lost at each border
        assert all(a in (b, 0) for a, b in zip(found, expected[skip:], strict=True))
        assert all(a >= b for a, b in zip(told[skip:], is_lost[skip:], strict=True))
    assert device.lost_bytes == sum(told)


def test_a_cut_grain_keeps_its_start() -> None:
    """Of a piece that a structure ends within, the front is read to the sector."""
    cut = 70 * KIB + SECTOR_BYTES
    content = noise(MIB)
    device = SalvageDevice(Damaged(content, [(cut, 128 * KIB)], VmdkError))
    assert read(device, 0, MIB) == content[:cut] + bytes(128 * KIB - cut) + content[128 * KIB :]
    assert device.lost == [(cut, 128 * KIB - cut)]


def test_a_lost_structure_is_given_up_soon() -> None:
    """What an image lost is not tried sector by sector: two tries a piece more than the halving."""
    below = Damaged(bytes(32 * MIB), [(0, 32 * MIB)], VmdkError)
    device = SalvageDevice(below)
    copy(device, MemoryDevice(32 * MIB))
    assert device.lost == [(0, 32 * MIB)]
    assert below.read_count <= 4 * 32 * MIB // PIECE_BYTES


def test_reading_twice_tells_once() -> None:
    """A range that is read again, in other pieces, is not lost twice."""
    device = SalvageDevice(Damaged(noise(MIB), [(4096, 8192), (300_032, 301_056)]))
    for step in (MIB, 4096, 1536):
        for at in range(0, MIB, step):
            read(device, at, min(step, MIB - at))
    assert device.lost == [(4096, 4096), (300_032, 1024)]


def test_where_runs_cannot_be_told_everything_is_data() -> None:
    """Holes that were told before the failure stay holes."""
    runs = [Extent(0, MIB, is_data=False), Extent(MIB, MIB, is_data=True)]
    device = SalvageDevice(Damaged(bytes(4 * MIB), [], runs=runs))
    assert list(device.extents()) == [
        Extent(0, MIB, is_data=False),
        Extent(MIB, 3 * MIB, is_data=True),
    ]


def test_leaving_the_device_is_no_damage() -> None:
    """A range outside is refused, and nothing counts as lost."""
    device = SalvageDevice(MemoryDevice(1000))
    with pytest.raises(DeviceError):
        device.read_into(900, bytearray(200))
    assert device.lost == []


def test_it_is_only_read() -> None:
    """Writing and discarding are refused."""
    device = SalvageDevice(MemoryDevice(1000))
    with pytest.raises(DeviceError, match="only read"):
        device.write(0, b"x")
    with pytest.raises(DeviceError, match="only read"):
        device.discard(0, 1)
