"""Comparing devices: every sector that differs and no other, and no hole of both is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ipva_storage.device import Extent, MemoryDevice, TraceDevice, copy, differences
from ipva_storage.device import compare as comparing
from ipva_storage.device.copy import CHUNK_BYTES
from ipva_storage.errors import DeviceError
from ipva_storage.units import KIB, MIB, SECTOR_BYTES

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Ranges = list[tuple[int, int]]


class HoleyDevice(MemoryDevice):
    """Knows which of its ranges are holes; the rest is data, zeros or not."""

    def __init__(self, content: bytes | int, holes: list[tuple[int, int]]) -> None:
        """Take the ranges, from start to stop and in order, which `content` has as zeros."""
        super().__init__(content)
        self.holes = holes

    def extents(self) -> Iterator[Extent]:
        """Data and holes in turns."""
        at = 0
        for start, stop in [*self.holes, (self.size_bytes, self.size_bytes)]:
            if start > at:
                yield Extent(at, start - at, is_data=True)
            if stop > start:
                yield Extent(start, stop - start, is_data=False)
            at = stop


class BrokenDevice(MemoryDevice):
    """Cannot be read from a place on."""

    def __init__(self, content: bytes, broken_from: int) -> None:
        """Take what it would hold, and the place."""
        super().__init__(content, name="broken.img")
        self._broken_from = broken_from

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Refuse where it is broken."""
        if offset_bytes + memoryview(buffer).nbytes > self._broken_from:
            raise DeviceError("cannot be read", where=self.name, offset_bytes=offset_bytes)
        super().read_into(offset_bytes, buffer)


def changed(content: bytes, *places: int) -> MemoryDevice:
    """The content with a byte changed at each place."""
    device = MemoryDevice(content)
    for place in places:
        device.data[place] ^= 0xFF
    return device


def expected(one: bytearray, other: bytearray) -> Ranges:
    """The ranges, sector by sector."""
    end, total = sorted((len(one), len(other)))
    differing = [
        (at, min(at + SECTOR_BYTES, end))
        for at in range(0, end, SECTOR_BYTES)
        if one[at : min(at + SECTOR_BYTES, end)] != other[at : min(at + SECTOR_BYTES, end)]
    ]
    if end < total:
        differing.append((end, total))
    joined: list[list[int]] = []
    for start, stop in differing:
        if joined and joined[-1][1] == start:
            joined[-1][1] = stop
        else:
            joined.append([start, stop])
    return [(start, stop - start) for start, stop in joined]


CONTENT = bytes(range(1, 252)) * (3 * CHUNK_BYTES // 251)
"""Nearly three chunks without a zero, and an end within a sector."""
END = len(CONTENT)


@pytest.mark.parametrize(
    ("places", "ranges"),
    [
        ([], []),
        ([0], [(0, 512)]),
        ([511], [(0, 512)]),
        ([512], [(512, 512)]),
        ([511, 512], [(0, 1024)]),
        ([0, 1024], [(0, 512), (1024, 512)]),
        ([64 * KIB - 1, 64 * KIB], [(64 * KIB - 512, 1024)]),
        ([CHUNK_BYTES - 1], [(CHUNK_BYTES - 512, 512)]),
        ([CHUNK_BYTES], [(CHUNK_BYTES, 512)]),
        ([CHUNK_BYTES - 1, CHUNK_BYTES], [(CHUNK_BYTES - 512, 1024)]),
        (
            [CHUNK_BYTES - 1, CHUNK_BYTES + 512],
            [(CHUNK_BYTES - 512, 512), (CHUNK_BYTES + 512, 512)],
        ),
        (range(0, 2 * CHUNK_BYTES, 512), [(0, 2 * CHUNK_BYTES)]),
        ([END - 1], [(END // 512 * 512, END % 512)]),
    ],
)
def test_ranges(places: list[int], ranges: Ranges) -> None:
    """Whole sectors, joined where they touch, across blocks and chunks; the last may be short."""
    one, other = MemoryDevice(CONTENT), changed(CONTENT, *places)
    assert list(differences(one, other)) == ranges
    assert list(differences(other, one)) == ranges


@pytest.mark.parametrize(
    ("size_bytes", "place", "ranges"),
    [
        (2048, None, [(2048, 2048)]),
        (2048, 2047, [(1536, 2560)]),
        (2048, 0, [(0, 512), (2048, 2048)]),
        (2000, None, [(2000, 2096)]),
        (2000, 1999, [(1536, 2560)]),
        (0, None, [(0, 4096)]),
    ],
)
@pytest.mark.parametrize("rest", [b"\0", b"x"])
def test_unequal_sizes(size_bytes: int, place: int | None, ranges: Ranges, rest: bytes) -> None:
    """What only one has is a difference as a whole, zeros or not, and joined to one before it."""
    short = b"y" * size_bytes
    long = MemoryDevice(short + rest * (4096 - size_bytes))
    other = changed(short, *([] if place is None else [place]))
    assert list(differences(long, other)) == ranges
    assert list(differences(other, long)) == ranges


def test_nothing_at_all() -> None:
    """Two empty devices are equal."""
    assert list(differences(MemoryDevice(), MemoryDevice())) == []


def test_holes_are_zeros() -> None:
    """A hole equals zeros that are data, and differs from anything else."""
    zeros, hole = MemoryDevice(64 * KIB), HoleyDevice(64 * KIB, [(0, 64 * KIB)])
    assert list(differences(zeros, hole)) == []
    assert list(differences(hole, hole)) == []
    zeros.data[5000] = 1
    assert list(differences(zeros, hole)) == [(4608, 512)]
    assert list(differences(hole, zeros)) == [(4608, 512)]


def test_holes_of_both_are_not_read() -> None:
    """Only what either has as data is read, once."""
    one = HoleyDevice(8 * MIB, [(0, 5 * MIB), (6 * MIB, 8 * MIB)])
    other = HoleyDevice(8 * MIB, [(0, 4 * MIB), (5 * MIB + 4096, 8 * MIB)])
    one.data[5 * MIB + 7] = 1
    traced = TraceDevice(one), TraceDevice(other)
    assert list(differences(*traced)) == [(5 * MIB, 512)]
    assert [device.work.read_bytes for device in traced] == [2 * MIB, 2 * MIB]


def test_a_hole_in_what_is_shorter() -> None:
    """Runs that reach beyond the shorter device's end are compared up to there."""
    long = HoleyDevice(b"x" * 4096 + bytes(12 * KIB), [(4096, 16 * KIB)])
    short = HoleyDevice(b"x" * 4096 + bytes(1024), [(4096, 5120)])
    assert list(differences(long, short)) == [(5120, 11 * KIB)]
    short.data[4097] = 1  # as data, which the long one has as a hole
    short.holes = []
    assert list(differences(long, short)) == [(4096, 512), (5120, 11 * KIB)]


def test_runs_within_a_run_of_the_other() -> None:
    """A long run of one is compared to its end, though runs of the other end before that."""
    one = MemoryDevice(b"x" * 16 * KIB)
    other = HoleyDevice(b"x" * 16 * KIB, [(0, 4096), (5120, 8192), (9216, 12 * KIB)])
    other.data[10 * KIB] = other.data[-1] = 1
    expected_ranges = [(10 * KIB, 512), (16 * KIB - 512, 512)]
    assert list(differences(one, other)) == expected_ranges
    assert list(differences(other, one)) == expected_ranges


def test_what_was_read_before_does_not_count() -> None:
    """The end of the last chunk is compared alone, without what the chunk before left there."""
    before = END - CHUNK_BYTES  # where the chunk before has what the last one has no more
    one, other = MemoryDevice(CONTENT), changed(CONTENT, before, END - 1500)
    assert list(differences(one, other)) == expected(one.data, other.data)
    assert len(expected(one.data, other.data)) == 2


def test_runs_that_start_within_a_sector() -> None:
    """Whole sectors are told even where a host keeps holes by the byte."""
    one = HoleyDevice(bytes(700) + b"x" * 100 + bytes(3296), [(0, 700), (800, 4096)])
    other = HoleyDevice(4096, [(0, 4096)])
    assert list(differences(one, other)) == [(512, 512)]
    one.data[799] = 0
    other.data[1100:1101] = b"x"
    other.holes = [(0, 1100), (1101, 4096)]
    assert list(differences(one, other)) == [(512, 1024)]


def test_the_first_difference_is_told_at_once() -> None:
    """Who wants to know only whether they differ does not wait for the rest."""
    one = TraceDevice(MemoryDevice(CONTENT))
    assert next(differences(one, changed(CONTENT, 0, 2048))) == (0, 512)
    assert one.work.read_bytes == CHUNK_BYTES


@pytest.mark.parametrize("size_bytes", [0, 1, CHUNK_BYTES, END - 1, END])
def test_progress_ends_at_the_total(size_bytes: int) -> None:
    """Progress never falls, stays within the longer one's size and ends there."""
    seen: list[tuple[int, int]] = []
    other = MemoryDevice(CONTENT[:size_bytes])
    for _ in differences(
        MemoryDevice(CONTENT), other, progress=lambda done, total: seen.append((done, total))
    ):
        pass
    assert seen[-1] == (END, END)
    assert {total for _, total in seen} == {END}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len(seen) == -(-size_bytes // CHUNK_BYTES) + 1


@pytest.mark.parametrize("is_first", [False, True])
def test_what_cannot_be_read_is_an_error(*, is_first: bool) -> None:
    """Ranges before it are told, and then whose it was."""
    good = changed(CONTENT, 0, 1024)
    broken = BrokenDevice(CONTENT, 2 * CHUNK_BYTES)
    found = differences(broken, good) if is_first else differences(good, broken)
    assert next(found) == (0, 512)
    with pytest.raises(DeviceError, match=r"broken\.img") as error:
        list(found)
    assert error.value.offset_bytes == 2 * CHUNK_BYTES


def test_a_copy_is_equal() -> None:
    """What was copied does not differ, whatever is a hole in either."""
    source = HoleyDevice(bytes(MIB) + CONTENT, [(0, MIB)])
    target = MemoryDevice(source.size_bytes)
    copy(source, target)
    assert list(differences(source, target)) == []


BLOCKS = st.lists(st.sampled_from([b"\0", b"\0", b"a", b"b", None]), max_size=24)
"""Of 300 bytes each, so that nothing is aligned; None is a hole."""


def holey(blocks: list[bytes | None], cut_bytes: int) -> HoleyDevice:
    """The device of some blocks, without its last bytes."""
    data = b"".join((block or b"\0") * 300 for block in blocks)
    size_bytes = max(0, len(data) - cut_bytes)
    holes = [
        (at * 300, min(at * 300 + 300, size_bytes))
        for at, block in enumerate(blocks)
        if block is None and at * 300 < size_bytes
    ]
    return HoleyDevice(data[:size_bytes], holes)


@given(BLOCKS, BLOCKS, st.integers(0, 600))
@example([b"a", None, b"a"], [b"a", b"\0", b"b"], 0)
def test_as_sector_by_sector(
    left: list[bytes | None], right: list[bytes | None], cut_bytes: int
) -> None:
    """Whatever is data or a hole, the ranges are those of a comparison of all sectors."""
    one, other = holey(left, cut_bytes), holey(right, 0)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(comparing, "CHUNK_BYTES", 2048)
        monkeypatch.setattr(comparing, "_BLOCK_BYTES", 1024)
        assert list(differences(one, other)) == expected(one.data, other.data)
        assert list(differences(other, one)) == expected(one.data, other.data)
