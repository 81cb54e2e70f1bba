from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ipva_formats import dump as layout
from ipva_storage import dump
from ipva_storage.device import MemoryDevice
from ipva_storage.dump.ring import Header, build_header
from ipva_storage.errors import DumpError
from ipva_storage.units import KIB

NOW = datetime(2013, 10, 16, tzinfo=UTC)


@pytest.fixture
def device() -> MemoryDevice:
    """A log of five records of three sectors each."""
    device = MemoryDevice(128 * KIB)
    dump.format(device, log_id=7)
    log = dump.open(device)
    for number in range(5):
        log.append("trap", f"{number}" * 1000, time=NOW)
    return device


def codes(device: MemoryDevice) -> list[str]:
    """What check finds."""
    return [finding.code for finding in dump.check(device)]


def test_a_good_log_has_no_finding(device: MemoryDevice) -> None:
    """Nothing is found on a healthy disk."""
    assert codes(device) == []


def test_a_blank_disk_is_only_noted() -> None:
    """A disk that was never used is no damage."""
    assert codes(MemoryDevice(128 * KIB)) == ["DUMP004"]


@pytest.mark.parametrize("copy", [0, 1])
def test_one_damaged_superblock_is_survived_and_mended(device: MemoryDevice, copy: int) -> None:
    """Either copy alone opens the log, and the next append mends the other."""
    device.data[512 * copy + 60] ^= 1
    assert codes(device) == ["DUMP002"]
    log = dump.open(device)
    assert len(log) == 5
    log.append("trap", "x", time=NOW)
    assert codes(device) == []
    assert len(dump.open(device)) == 6


def test_two_damaged_superblocks_stop_it(device: MemoryDevice) -> None:
    """Without a superblock the log is not read, and nothing is taken for blank."""
    device.data[60] ^= 1
    device.data[572] ^= 1
    assert codes(device) == ["DUMP001", "DUMP001"]
    with pytest.raises(DumpError, match="checksum"):
        dump.open(device)


def test_zeroed_superblocks_do_not_make_a_log_blank(device: MemoryDevice) -> None:
    """A disk whose superblocks were wiped, but not its records, is damaged and not new."""
    device.data[:1024] = bytes(1024)
    assert codes(device) == ["DUMP001", "DUMP001"]


def test_superblocks_of_two_generations_are_noted(device: MemoryDevice) -> None:
    """An update that the power cut between the copies is an info."""
    older = bytes(device.data[:512])
    dump.open(device).clear()
    device.data[:512] = older
    assert codes(device) == ["DUMP003"]
    assert len(dump.open(device)) == 0


def test_a_damaged_text_is_found_and_marked(device: MemoryDevice) -> None:
    """A changed byte in a text makes that record invalid and no other."""
    record = dump.open(device).records()[2]
    device.data[record.offset_bytes + 700] ^= 0x40
    assert [(f.code, f.offset_bytes) for f in dump.check(device)] == [
        ("DUMP005", record.offset_bytes + 512)
    ]
    log = dump.open(device)
    assert [r.is_valid for r in log.records()] == [True, True, False, True, True]
    with pytest.raises(DumpError, match="record 3 is damaged"):
        log.read(3)


@pytest.mark.parametrize("lost", [0, 2, 4])
def test_a_damaged_header_loses_that_record_only(device: MemoryDevice, lost: int) -> None:
    """The records after a damaged header are found again, and its number is not used again."""
    record = dump.open(device).records()[lost]
    device.data[record.offset_bytes + 20] ^= 1
    log = dump.open(device)
    kept = [number for number in range(1, 6) if number != lost + 1]
    if lost < 4:  # nothing on the disk says that the very last one was ever committed
        assert codes(device) == ["DUMP006"]
    assert [r.sequence for r in log.records()] == kept
    assert log.append("trap", "new", time=NOW).sequence == max(kept) + 1
    assert [r.sequence for r in dump.open(device).records()] == [*kept, max(kept) + 1]


def test_a_damaged_header_in_a_wrapped_ring_loses_that_record_only(device: MemoryDevice) -> None:
    """The search for the next record goes past the end of the ring to its start."""
    log = dump.open(device)
    for _ in range(90):
        log.append("trap", "w" * 1000, time=NOW)
    records = log.records()
    at_end = max(records, key=lambda record: record.offset_bytes)
    assert at_end not in (records[0], records[-1])
    device.data[at_end.offset_bytes] ^= 1
    expected = [r.sequence for r in records if r != at_end]
    assert [r.sequence for r in dump.open(device).records()] == expected


def test_a_disk_cut_short_is_refused(device: MemoryDevice) -> None:
    """A superblock whose ring leaves the disk is not used."""
    device.resize(100 * KIB)
    assert codes(device) == ["DUMP001", "DUMP001"]
    with pytest.raises(DumpError, match="after the end of the disk"):
        dump.open(device)


def test_the_definitions_fill_their_sectors() -> None:
    """Both structures are one sector with the CRC as the last word."""
    assert layout.SUPERBLOCK.sizeof() == layout.RECORD_HEADER.sizeof() == 512


@pytest.mark.parametrize("at", [446, 450, 510])
def test_a_partition_table_without_boot_code_is_not_blank(at: int) -> None:
    """A disk that starts with zeros and holds a partition table is never taken for a new one."""
    device = MemoryDevice(128 * KIB)
    device.data[at] = 0x80
    assert not dump.is_blank(device)
    assert codes(device) == ["DUMP001", "DUMP001"]
    with pytest.raises(DumpError):
        dump.open(device)


def test_only_zeros_and_a_first_format_cut_short_are_blank(device: MemoryDevice) -> None:
    """A caller can tell a disk that may be formatted from one that holds something."""
    assert not dump.is_blank(device)
    new = MemoryDevice(128 * KIB)
    assert dump.is_blank(new)
    new.data[512 : 512 + 40] = device.data[512 : 512 + 40]
    assert dump.is_blank(new)
    new.data[600:620] = b"x" * 20
    new.data[0] = 1
    assert not dump.is_blank(new)


def test_advice_for_an_unknown_disk_keeps_what_it_holds(device: MemoryDevice) -> None:
    """Before the format comes the copy."""
    device.data[60] ^= 1
    device.data[572] ^= 1
    for found in dump.check(device):
        assert found.repair is not None
        assert found.repair.index("disk convert") < found.repair.index("dump format")


def test_a_record_whose_kind_a_terminal_would_obey_is_no_record(device: MemoryDevice) -> None:
    """A header with a right checksum and a hostile kind is damage, and is never listed."""
    first, second, *_ = dump.open(device).records()
    at = first.offset_bytes
    header = Header(at, first.sequence, NOW, "\x1b[2J", 0, 0)
    device.data[at : at + 512] = build_header(header, 7)
    assert dump.open(device).records()[0].sequence == second.sequence
    assert codes(device) == ["DUMP006"]
