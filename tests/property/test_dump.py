"""The dump log against a list, and against damaged disks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ipva_formats import dump as layout
from ipva_storage import dump
from ipva_storage.device import MemoryDevice
from ipva_storage.dump.ring import record_bytes
from ipva_storage.errors import IpvaError
from ipva_storage.units import KIB

DISK_BYTES = 72 * KIB
RING_BYTES = DISK_BYTES - layout.RING_OFFSET_BYTES
KINDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=16)
TIMES = st.datetimes(timezones=st.just(UTC))
TEXTS = st.one_of(
    st.text(max_size=100),
    st.integers(0, RING_BYTES // 2).map("x".__mul__),
    st.sampled_from([0, 511, 512, 513, RING_BYTES - 512]).map("y".__mul__),
)
STEPS = st.lists(
    st.one_of(st.tuples(KINDS, TEXTS, TIMES), st.sampled_from(["clear", "open"])), max_size=25
)

Step = tuple[str, str, datetime] | str


@given(STEPS)
def test_the_log_is_the_end_of_the_list_of_what_was_appended(steps: list[Step]) -> None:
    """Whatever is appended, cleared and reopened, the newest records are there, whole, in order.

    What fits in the ring beside one longest record is never given up.
    """
    device = MemoryDevice(DISK_BYTES)
    log = dump.open(device)
    model: list[tuple[str, str, datetime]] = []
    appended = 0
    for step in steps:
        if step == "clear":
            log.clear()
            model.clear()
        elif isinstance(step, tuple):
            kind, text, time = step
            appended += 1
            assert log.append(kind, text, time=time).sequence == appended
            model.append(step)
        else:
            log = dump.open(device)
        records = log.records()
        assert all(record.is_valid for record in records)
        kept = model[len(model) - len(records) :]
        assert [(r.kind, log.read(r.sequence), r.time) for r in records] == kept
        last = range(appended - len(records) + 1, appended + 1)
        assert [r.sequence for r in records] == list(last)
        assert len(records) >= certain_count(model)
    assert not list(dump.check(device)) or not appended


def certain_count(model: list[tuple[str, str, datetime]]) -> int:
    """How many of the newest records must be there."""
    sizes = [record_bytes(len(text.encode())) for _, text, _ in model]
    fits = [n for n in range(1, len(sizes) + 1) if sum(sizes[-n:]) + max(sizes[-n:]) <= RING_BYTES]
    return max([min(1, len(sizes)), *fits])


def good_disk() -> bytes:
    """A log that has wrapped once."""
    device = MemoryDevice(DISK_BYTES)
    dump.format(device, log_id=1)
    log = dump.open(device)
    for number in range(30):
        log.append("trap", f"{number}" * 1500, time=datetime(2013, 1, 1, tzinfo=UTC))
    return bytes(device.data)


GOOD = good_disk()
HEADERS = [
    at for at in range(layout.RING_OFFSET_BYTES, DISK_BYTES, 512) if GOOD.startswith(b"DREC", at)
]
PLACES = st.one_of(
    st.integers(0, DISK_BYTES - 1),
    st.integers(0, 1023),
    st.builds(int.__add__, st.sampled_from(HEADERS), st.integers(0, 511)),
)


@given(
    st.lists(st.tuples(PLACES, st.integers(0, 255)), max_size=12),
    st.one_of(st.just(DISK_BYTES), st.integers(0, DISK_BYTES)),
)
def test_a_damaged_disk_gives_findings_or_errors_and_nothing_wrong(
    changes: list[tuple[int, int]], size_bytes: int
) -> None:
    """Flips and truncations raise IpvaError at most; what is called valid is what was written."""
    device = MemoryDevice(GOOD)
    for at, value in changes:
        device.data[at] = value
    device.resize(size_bytes)
    list(dump.check(device))
    dump.identify(device)
    try:
        log = dump.open(device)
        records = log.records()
        for record in records:
            if record.is_valid:
                number = record.sequence - 1
                assert log.read(record.sequence) == f"{number}" * 1500
        new = log.append("trap", "after", time=datetime(2014, 1, 1, tzinfo=UTC))
    except IpvaError:
        return
    assert new.sequence > max((record.sequence for record in records), default=0)
    assert dump.open(device).read(new.sequence) == "after"


@given(st.binary(max_size=512), st.sampled_from([0, 512, layout.RING_OFFSET_BYTES]))
def test_arbitrary_bytes_are_no_log(data: bytes, offset_bytes: int) -> None:
    """Noise where a structure should be raises IpvaError at most."""
    device = MemoryDevice(DISK_BYTES)
    device.write(offset_bytes, data)
    try:
        assert dump.open(device).records() == []
    except IpvaError:
        assert any(data)
    list(dump.check(device))


@given(TIMES)
def test_every_time_is_kept_to_the_microsecond(time: datetime) -> None:
    """No time of the calendar is rounded."""
    log = dump.open(MemoryDevice(DISK_BYTES))
    assert log.append("trap", "", time=time).time == time
    assert log.records()[0].time - time == timedelta(0)
