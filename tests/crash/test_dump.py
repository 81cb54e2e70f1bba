"""The power goes at every write of the dump log, and writes between barriers land in any order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from ipva_storage import dump
from ipva_storage.device import FaultDevice, MemoryDevice, Operation, TraceDevice
from ipva_storage.dump import DumpLog
from ipva_storage.errors import PowerCutError
from ipva_storage.units import KIB

NOW = datetime(2013, 10, 16, tzinfo=UTC)
DISK_BYTES = 72 * KIB
TORN_BYTES = (0, 1, 4, 40, 56, 72, 508, 511, 512, 513, 4096)


def blank() -> MemoryDevice:
    """A disk that was never used."""
    return MemoryDevice(DISK_BYTES)


def filled(count: int) -> MemoryDevice:
    """A log of so many records of five sectors; the ring holds 27."""
    device = MemoryDevice(DISK_BYTES)
    dump.format(device, log_id=3)
    log = dump.open(device)
    for number in range(1, count + 1):
        log.append("trap", text_of(number), time=NOW)
    return device


def text_of(number: int) -> str:
    """The text of a record, so that a test knows what it must read."""
    return f"{number:04}" * 500


def append(log: DumpLog) -> None:
    """The next record."""
    number = max((record.sequence for record in log.records()), default=0) + 1
    log.append("trap", text_of(number), time=NOW)


def clear(log: DumpLog) -> None:
    """All gone."""
    log.clear()


CASES = [
    pytest.param(blank, append, id="first append on a blank disk"),
    pytest.param(lambda: filled(0), append, id="first append"),
    pytest.param(lambda: filled(3), append, id="append"),
    pytest.param(lambda: filled(30), append, id="append over the oldest"),
    pytest.param(lambda: filled(54), append, id="append at the end of the ring"),
    pytest.param(lambda: filled(5), clear, id="clear"),
]


def contents(device: MemoryDevice) -> list[int]:
    """The sequence numbers of a log whose every record reads as it was written."""
    log = dump.open(device)
    records = log.records()
    assert all(record.is_valid for record in records)
    assert all(log.read(record.sequence) == text_of(record.sequence) for record in records)
    return [record.sequence for record in records]


def states_at_every_write(
    make: Callable[[], MemoryDevice], act: Callable[[DumpLog], None]
) -> Iterator[MemoryDevice]:
    """The disk after a power cut at each write, with each torn length."""
    for cut in itertools.count():
        for torn_bytes in TORN_BYTES:
            device = make()
            fault = FaultDevice(device, cut_after_writes=cut, torn_bytes=torn_bytes)
            try:
                act(dump.open(fault))
            except PowerCutError:
                yield device
            else:
                yield device
                return


def states_of_any_order(
    make: Callable[[], MemoryDevice], act: Callable[[DumpLog], None]
) -> Iterator[MemoryDevice]:
    """The disk with each subset of the writes since the last barrier, for every barrier."""
    start = make()
    trace = TraceDevice(MemoryDevice(start.data), keep_data=True)
    act(dump.open(trace))
    epochs: list[list[tuple[int, bytes]]] = [[]]
    for record in trace.records:
        if record.operation is Operation.FLUSH:
            epochs.append([])
        else:
            assert record.operation is Operation.WRITE
            assert record.data is not None
            epochs[-1].append((record.offset_bytes, record.data))
    for index, epoch in enumerate(epochs):
        for count in range(len(epoch) + 1):
            for landed in itertools.combinations(epoch, count):
                device = MemoryDevice(start.data)
                for offset_bytes, data in [*itertools.chain(*epochs[:index]), *landed]:
                    device.write(offset_bytes, data)
                yield device


def verify(before: list[int], after: list[int], device: MemoryDevice, *, is_clear: bool) -> None:
    """A cut leaves all records, or all but the oldest in the way, or the new one as well."""
    got = contents(device)
    if is_clear:
        assert got in (before, [])
    else:
        survivors = [number for number in before if number in after]
        assert got in (before, survivors, after)
    assert "DUMP005" not in [finding.code for finding in dump.check(device)]
    log = dump.open(device)
    append_number = log.append("trap", "x", time=NOW).sequence
    assert append_number > max([0, *got])
    again = dump.open(device)
    assert again.read(append_number) == "x"
    assert [r.sequence for r in again.records()][:-1] == got[len(got) - len(again) + 1 :]


@pytest.mark.parametrize(
    "states", [states_at_every_write, states_of_any_order], ids=["cut at a write", "any order"]
)
@pytest.mark.parametrize(("make", "act"), CASES)
def test_older_records_survive_and_the_new_one_is_whole_or_absent(
    make: Callable[[], MemoryDevice],
    act: Callable[[DumpLog], None],
    states: Callable[..., Iterator[MemoryDevice]],
) -> None:
    """After any cut the log opens, reads as before or after, and takes further records."""
    device = make()
    before = contents(device)
    act(dump.open(device))
    after = contents(device)
    assert before != after
    seen = 0
    for state in states(make, act):
        verify(before, after, state, is_clear=act is clear)
        seen += 1
    assert seen > 4


def test_a_second_cut_while_writing_after_the_first_loses_nothing_more() -> None:
    """The write that follows a cut is cut as well, at every pair of writes."""
    for first, second in itertools.product(range(4), range(4)):
        device = filled(30)
        before = contents(device)
        for cut in (first, second):
            fault = FaultDevice(device, cut_after_writes=cut, torn_bytes=100)
            with pytest.raises(PowerCutError):
                append(dump.open(fault))
        got = contents(device)
        assert got in (before, before[1:], before[2:]), (first, second)


def test_a_format_over_a_log_is_the_old_log_or_an_empty_one() -> None:
    """A format that is cut leaves the records as they were, or none."""
    for cut, torn_bytes in itertools.product(range(2), TORN_BYTES):
        device = filled(5)
        with pytest.raises(PowerCutError):
            dump.format(FaultDevice(device, cut_after_writes=cut, torn_bytes=torn_bytes))
        assert contents(device) in ([1, 2, 3, 4, 5], [])
