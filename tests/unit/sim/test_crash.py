"""Crash points and states, against a slow model that copies the medium for each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipva_storage.device import Operation, TraceRecord
from ipva_storage.errors import UsageError
from ipva_storage.sim import CrashPoint, Cut, crash_points, crash_states

BASE = bytes(range(256)) * 16
WRITE, DISCARD, FLUSH, RESIZE = (
    Operation.WRITE,
    Operation.DISCARD,
    Operation.FLUSH,
    Operation.RESIZE,
)


def _write(offset_bytes: int, data: bytes) -> TraceRecord:
    return TraceRecord(WRITE, offset_bytes, len(data), data)


def _model(base: bytes, records: list[TraceRecord], point: CrashPoint) -> bytes:
    """The state at a point, the slow way."""
    landed = list(range(point.position))
    barriers = [at for at in landed if records[at].operation in (FLUSH, RESIZE)]
    loose = range(barriers[-1] + 1 if barriers else 0, point.position)
    if point.cut is Cut.MISSING:
        landed.remove(point.detail)
    if point.cut is Cut.ALONE:
        landed = [at for at in landed if at not in loose[:-1]]
    data = bytearray(base)
    for at in landed:
        _land(data, records[at], 0, None)
    if point.cut is Cut.HEAD:
        _land(data, records[point.position], 0, point.detail)
    if point.cut is Cut.TAIL:
        _land(data, records[point.position], point.detail, None)
    return bytes(data)


def _land(data: bytearray, record: TraceRecord, start: int, stop: int | None) -> None:
    if record.operation is RESIZE:
        size_bytes = record.offset_bytes
        data[:] = data[:size_bytes] + bytes(max(0, size_bytes - len(data)))
    elif record.operation is not FLUSH:
        content = (record.data or bytes(record.length_bytes))[start:stop]
        data[record.offset_bytes + start : record.offset_bytes + start + len(content)] = content


_changes = st.one_of(
    st.builds(
        _write,
        st.integers(0, 2048),
        st.integers(1, 255).flatmap(
            lambda value: st.integers(0, 1800).map(lambda length: bytes([value]) * length)
        ),
    ),
    st.builds(
        lambda at, length: TraceRecord(DISCARD, at, length),
        st.integers(0, 2000),
        st.integers(0, 2000),
    ),
    st.just(TraceRecord(FLUSH, 0, 0)),
    st.builds(lambda size: TraceRecord(RESIZE, size, 0), st.integers(4096, 6000)),
)


@given(st.lists(_changes, max_size=12))
def test_states_are_the_model(records: list[TraceRecord]) -> None:
    """Every state is what the model makes of its point; each different content comes once."""
    expected = {_model(BASE, records, point) for point in crash_points(records)}
    seen = []
    for state in crash_states(BASE, records):
        assert bytes(state.device.data) == _model(BASE, records, state.point)
        seen.append(bytes(state.device.data))
        state.device.write(0, b"scribble")
        state.device.resize(100)
    assert len(seen) == len(set(seen))
    assert set(seen) == expected


@given(st.lists(_changes, min_size=1, max_size=8), st.lists(st.integers(0, 8), max_size=3))
def test_states_between_marks(records: list[TraceRecord], marks: list[int]) -> None:
    """Equal contents on both sides of a mark are two states, with their number of marks."""
    marks = sorted(marks)
    found = {
        (bytes(state.device.data), state.passed_marks)
        for state in crash_states(BASE, records, marks=marks)
    }
    expected = {
        (_model(BASE, records, point), sum(mark <= point.position for mark in marks))
        for point in crash_points(records)
    }
    assert found == expected


def test_points_of_a_small_recording() -> None:
    """The points are in order: whole, torn at each sector from both ends, missing, alone."""
    records = [_write(0, b"a" * 512), _write(500, b"b" * 1000), TraceRecord(FLUSH, 0, 0)]
    assert [str(point) for point in crash_points(records)] == [
        "0:whole:0",
        "1:whole:0",
        "1:head:12",
        "1:tail:12",
        "1:head:524",
        "1:tail:524",
        "2:whole:0",
        "2:missing:0",
        "2:alone:0",
        "3:whole:0",
    ]


def test_points_without_tears_and_order() -> None:
    """Switched off, only the whole prefixes are left."""
    records = [_write(0, b"a" * 2048), _write(0, b"b" * 2048)]
    points = list(crash_points(records, torn=False, reordered=False))
    assert points == [CrashPoint(0), CrashPoint(1), CrashPoint(2)]


def test_long_writes_are_sampled() -> None:
    """A long write is torn at its first and last border and some between; the seed chooses."""
    records = [_write(0, bytes(1 << 20))]
    one, same, other = (
        [point.detail for point in crash_points(records, seed=seed) if point.cut is Cut.HEAD]
        for seed in (1, 1, 2)
    )
    assert len(one) == 8
    assert (one[0], one[-1]) == (512, (1 << 20) - 512)
    assert one == same != other


def test_many_loose_writes_are_bounded() -> None:
    """A workload that never flushes has a bounded number of points a write."""
    records = [_write(at * 8, b"x") for at in range(200)]
    assert len(list(crash_points(records))) <= 200 * 11


@pytest.mark.parametrize(
    "text", ["", "1", "1:whole", "1:gone:0", "-1:whole:0", "1:head:", "١:head:0", "1:head:0\n"]
)
def test_no_point(text: str) -> None:
    """What is no crash point is refused."""
    with pytest.raises(UsageError, match="is no crash point"):
        CrashPoint.parse(text)


@given(st.integers(0, 10**6), st.sampled_from(Cut), st.integers(0, 10**9))
def test_point_round_trip(position: int, cut: Cut, detail: int) -> None:
    """A point is read back from what it prints."""
    point = CrashPoint(position, cut, detail)
    assert CrashPoint.parse(str(point)) == point


@pytest.mark.parametrize("text", ["9:whole:0", "1:missing:5", "2:head:512", "1:tail:5", "3:head:1"])
def test_point_of_another_recording(text: str) -> None:
    """A point that this recording does not have is refused."""
    records = [_write(0, b"a"), TraceRecord(FLUSH, 0, 0), TraceRecord(FLUSH, 0, 0)]
    with pytest.raises(UsageError, match="there is no"):
        list(crash_states(BASE, records, points=[CrashPoint.parse(text)]))


def test_recording_without_data() -> None:
    """A recording that did not keep what was written cannot be visited, and says how it can."""
    with pytest.raises(UsageError, match="keep_data"):
        list(crash_states(BASE, [TraceRecord(WRITE, 0, 5)]))
