"""Disks that are wrong on purpose, with right checksums."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime

import pytest

from ipva_storage import dump
from ipva_storage.device import MemoryDevice, Operation, TraceDevice
from ipva_storage.dump.ring import Header, build_header
from ipva_storage.dump.superblock import Superblock, seal, write_both
from ipva_storage.errors import DumpError
from ipva_storage.units import KIB, MIB

NOW = datetime(2013, 10, 16, tzinfo=UTC)
RING = 4096
RING_BYTES = 4 * MIB - RING


def disk(
    *headers: Header, tail: int = RING, tail_sequence: int = 1, known: int = 1
) -> MemoryDevice:
    """A disk with these headers, whose payloads are zeros."""
    device = MemoryDevice(4 * MIB)
    superblock = Superblock(7, 1, RING, RING_BYTES, tail, tail_sequence, known)
    write_both(device, superblock, counts=0)
    for header in headers:
        device.write(header.offset_bytes, build_header(header, 7))
    return device


def header(offset_bytes: int, sequence: int, payload_bytes: int = 512) -> Header:
    """A header whose payload of zeros is valid."""
    crc32 = zlib.crc32(bytes(min(payload_bytes, MIB)))
    return Header(offset_bytes, sequence, NOW, "trap", payload_bytes, crc32)


def found(device: MemoryDevice) -> list[int]:
    """The sequences that an open finds."""
    return [record.sequence for record in dump.open(device).records()]


def test_forged_headers_make_a_log() -> None:
    """The other tests' disks are right but for what they are about."""
    assert found(disk(header(RING, 1), header(RING + 1024, 2))) == [1, 2]


def test_a_record_that_leaves_the_ring_ends_the_chain() -> None:
    """A length that reaches past the end of the ring is not believed."""
    last = RING + RING_BYTES - 1024
    assert found(disk(header(last, 1), tail=last)) == [1]
    assert found(disk(header(last, 1, 1024), tail=last)) == []


def test_a_text_longer_than_the_limit_is_not_believed() -> None:
    """A length over 1 MiB is not read."""
    assert found(disk(header(RING, 1, MIB))) == [1]
    assert found(disk(header(RING, 1, MIB + 1))) == []
    assert found(disk(header(RING, 1, 2**32 - 1))) == []


def test_a_record_does_not_cover_the_oldest() -> None:
    """After the wrap, a record that reaches over the oldest one ends the chain."""
    tail = RING + RING_BYTES - 1024
    whole = header(RING, 2)
    assert found(disk(header(tail, 1), whole, tail=tail)) == [1, 2]
    near = RING + 2048
    assert found(disk(header(near, 1), header(RING, 2, 1536), tail=near)) == [1, 2]
    assert found(disk(header(near, 1), header(RING, 2, 1537), tail=near)) == [1]


def test_the_chain_wraps_once() -> None:
    """Headers that lead round and round are followed round once."""
    device = disk(header(RING + 2048, 1), header(RING, 2), tail=RING + 2048)
    assert found(device) == [1, 2]
    device = disk(header(RING, 3), tail=RING, tail_sequence=1, known=10)
    assert found(device) == [3]


def test_a_number_that_was_used_is_not_used_again() -> None:
    """When the newest known records are lost, counting goes on after them all the same."""
    device = MemoryDevice(128 * KIB)
    log = dump.open(device)
    for _ in range(5):
        log.append("trap", "x", time=NOW)
    for record in log.records()[2:]:
        device.data[record.offset_bytes] ^= 1
    assert found(device) == [1, 2]
    assert dump.open(device).append("trap", "new", time=NOW).sequence == 5
    assert found(device) == [1, 2, 5]


@pytest.mark.parametrize(("at", "value"), [(24, 2**62), (40, 0xFF)], ids=["time", "kind"])
def test_a_header_that_makes_no_sense_ends_the_chain(at: int, value: int) -> None:
    """Times outside the calendar and kinds that are no ASCII are not believed."""
    sector = bytearray(build_header(header(RING, 1), 7))
    sector[at : at + 8] = value.to_bytes(8, "little")
    device = disk()
    device.write(RING, seal(bytes(sector)))
    assert found(device) == []


@pytest.mark.parametrize(
    "superblock",
    [
        Superblock(7, 1, 512, RING_BYTES, 512, 1, 1),
        Superblock(7, 1, RING, 4 * KIB, RING, 1, 1),
        Superblock(7, 1, RING, RING_BYTES + 512, RING, 1, 1),
        Superblock(7, 1, RING, RING_BYTES, RING - 512, 1, 1),
        Superblock(7, 1, RING, RING_BYTES, RING + 1, 1, 1),
        Superblock(7, 1, RING, RING_BYTES, RING, 0, 1),
        Superblock(7, 1, RING, RING_BYTES, RING, 2, 1),
        Superblock(7, 1, RING, RING_BYTES, RING, 1, 2**63),
        Superblock(7, 2**63, RING, RING_BYTES, RING, 1, 1),
        Superblock(7, 1, RING, 2**62, RING, 1, 1),
    ],
)
def test_a_superblock_that_makes_no_sense_is_refused(superblock: Superblock) -> None:
    """Right checksums do not make absurd numbers acceptable."""
    device = MemoryDevice(4 * MIB)
    write_both(device, superblock, counts=0)
    assert not dump.identify(device)
    with pytest.raises(DumpError):
        dump.open(device)
    assert [finding.code for finding in dump.check(device)] == ["DUMP001", "DUMP001"]


def test_what_is_acknowledged_is_durable() -> None:
    """Format, append and clear end with a barrier, and no two writes are without one between."""
    trace = TraceDevice(MemoryDevice(128 * KIB))
    log = dump.open(trace)
    for act in (lambda: log.append("trap", "x", time=NOW), log.clear, lambda: dump.format(trace)):
        trace.reset()
        act()
        operations = [record.operation for record in trace.records]
        assert operations == [Operation.WRITE, Operation.FLUSH] * (len(operations) // 2)
        assert operations
