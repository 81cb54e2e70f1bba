from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from ipva_formats import dump as layout
from ipva_storage import dump
from ipva_storage.device import MemoryDevice, TraceDevice
from ipva_storage.errors import DumpError, NoSpaceError, UsageError
from ipva_storage.units import KIB, MIB

NOW = datetime(2013, 10, 16, 14, 25, 0, 123456, tzinfo=UTC)


def make(size_bytes: int = 128 * KIB) -> MemoryDevice:
    """A formatted dump disk."""
    device = MemoryDevice(size_bytes)
    dump.format(device, log_id=7)
    return device


def test_a_record_comes_back_as_it_was_written() -> None:
    """Sequence, time, kind and text of a record survive a reopen."""
    device = make()
    made = dump.open(device).append("trap", "Grüße\r\nr0=1", time=NOW)
    log = dump.open(device)
    assert log.records() == [made]
    assert (made.sequence, made.time, made.kind, made.is_valid) == (1, NOW, "trap", True)
    assert made.size_bytes == len("Grüße\r\nr0=1".encode())
    assert log.read(1) == "Grüße\r\nr0=1"


def test_a_blank_disk_is_an_empty_log_and_is_formatted_at_the_first_append() -> None:
    """Opening zeros writes nothing; the first append makes a dump disk of them."""
    device = MemoryDevice(128 * KIB)
    log = dump.open(device)
    assert log.records() == []
    log.clear()
    assert not any(device.data)
    assert not dump.identify(device)
    log.append("reboot", "x", time=NOW)
    assert dump.identify(device)
    assert dump.open(device).read(1) == "x"


def test_a_disk_of_something_else_is_refused_with_the_remedy() -> None:
    """What is neither ours nor blank is never taken for an empty log."""
    device = MemoryDevice(b"\xeb\x3c\x90MSDOS5.0".ljust(128 * KIB, b"\0"))
    with pytest.raises(DumpError, match="ipva info"):
        dump.open(device)
    stray = MemoryDevice(128 * KIB)
    stray.write(layout.RING_OFFSET_BYTES, b"DREC")
    with pytest.raises(DumpError):
        dump.open(stray)


def test_a_full_disk_overwrites_the_oldest() -> None:
    """The newest records stay, in order, and the log never refuses one for want of room."""
    device = make()
    log = dump.open(device)
    for number in range(100):
        log.append("trap", f"{number}:" + "x" * 5000, time=NOW)
    sequences = [record.sequence for record in dump.open(device).records()]
    assert sequences == list(range(sequences[0], 101))
    assert 20 <= len(sequences) <= 24
    assert dump.open(device).read(100).startswith("99:")


def test_a_record_as_long_as_the_ring_replaces_all_others() -> None:
    """The longest record that fits leaves room for no other, and one more byte is refused."""
    device = make()
    log = dump.open(device)
    log.append("trap", "old", time=NOW)
    ring_bytes = 128 * KIB - layout.RING_OFFSET_BYTES
    log.append("trap", "y" * (ring_bytes - 512), time=NOW)
    assert [record.sequence for record in dump.open(device).records()] == [2]
    with pytest.raises(NoSpaceError):
        log.append("trap", "z" * (ring_bytes - 511), time=NOW)
    assert dump.open(device).read(2) == "y" * (ring_bytes - 512)


def test_clear_forgets_all_and_goes_on_counting() -> None:
    """After a clear the log is empty, and the next record has a number that was never used."""
    device = make()
    log = dump.open(device)
    for _ in range(3):
        log.append("trap", "x", time=NOW)
    log.clear()
    assert log.records() == dump.open(device).records() == []
    assert dump.open(device).append("trap", "y", time=NOW).sequence == 4
    assert [record.sequence for record in dump.open(device).records()] == [4]


def test_a_format_makes_records_of_the_former_log_invisible() -> None:
    """A header of the log before does not turn up in the new one, though its bytes are there."""
    device = make()
    dump.open(device).append("trap", "old", time=NOW)
    dump.format(device)
    assert dump.open(device).records() == []
    assert b"old" in device.data


@pytest.mark.parametrize("kind", ["", "a" * 17, "grün", "tab\t"])
def test_a_kind_that_does_not_fit_is_refused(kind: str) -> None:
    """Kinds are short printable ASCII words."""
    with pytest.raises(UsageError):
        dump.open(make()).append(kind, "x", time=NOW)


def test_a_text_over_the_limit_is_refused() -> None:
    """One byte over 1 MiB is too much, whatever the size of the disk."""
    log = dump.open(make(4 * MIB))
    assert log.append("trap", "x" * MIB, time=NOW).size_bytes == MIB
    with pytest.raises(UsageError):
        log.append("trap", "x" * (MIB + 1), time=NOW)


def test_times_are_kept_in_utc() -> None:
    """A time of another zone is converted, one without a zone is taken as UTC."""
    log = dump.open(make())
    plus_two = NOW.astimezone(timezone(timedelta(hours=2)))
    assert log.append("trap", "", time=plus_two).time == NOW
    assert log.append("trap", "", time=NOW.replace(tzinfo=None)).time == NOW
    with pytest.raises(UsageError):
        log.append("trap", "", time=datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))))


def test_lone_surrogates_do_not_stop_a_crash_record() -> None:
    """A text that has no UTF-8 form is kept in an escaped one."""
    log = dump.open(make())
    log.append("trap", "a\udc80b", time=NOW)
    assert log.read(1) == "a\\udc80b"


def test_opening_reads_one_sector_a_record() -> None:
    """Open costs two superblocks and a header a record, not the disk."""
    device = TraceDevice(make(8 * MIB))
    log = dump.open(device)
    for _ in range(10):
        log.append("trap", "x" * 300_000, time=NOW)
    device.reset()
    dump.open(device)
    assert device.work.read_bytes <= 512 * (2 + 10 + 2)
    assert device.work.write_count == 0


def test_the_number_of_records_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of empty records keeps as many as the limit says, the newest."""
    assert layout.RECORD_LIMIT == 4096
    monkeypatch.setattr(layout, "RECORD_LIMIT", 40)
    device = make()
    log = dump.open(device)
    for _ in range(43):
        log.append("t", "", time=NOW)
    assert [record.sequence for record in dump.open(device).records()] == list(range(4, 44))
    assert log.records() == dump.open(device).records()


def test_a_record_that_is_not_there_is_named() -> None:
    """Asking for an unknown number says so and tells how to see the known ones."""
    with pytest.raises(DumpError, match=r"no crash record 9.*dump list"):
        dump.open(make()).read(9)


def test_a_disk_that_is_too_small_is_refused() -> None:
    """A format needs room for a ring of 64 KiB."""
    dump.format(MemoryDevice(68 * KIB))
    with pytest.raises(DumpError, match="too small"):
        dump.format(MemoryDevice(68 * KIB - 1))


def test_a_log_whose_numbers_are_used_up_says_so() -> None:
    """The last number is refused instead of written as a superblock nobody accepts."""
    from ipva_storage.dump.superblock import Superblock, write_both

    device = MemoryDevice(128 * KIB)
    top = layout.SEQUENCE_LIMIT - 1
    write_both(device, Superblock(7, 1, 4096, 124 * KIB, 4096, top, top), counts=0)
    with pytest.raises(DumpError, match="used up"):
        dump.open(device).append("trap", "x", time=NOW)
    assert dump.open(device).records() == []
