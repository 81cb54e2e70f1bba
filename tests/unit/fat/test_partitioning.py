"""Writing partition tables."""

from __future__ import annotations

import contextlib

import pytest

from ipva_storage import fat
from ipva_storage.device import FaultDevice, MemoryDevice, OverlayDevice, TraceDevice, read
from ipva_storage.errors import FatError, PowerCutError, UsageError
from ipva_storage.fat import partitioning, partitions
from ipva_storage.units import KIB, MIB


@pytest.mark.parametrize(
    ("size_bytes", "bits", "kind", "first"),
    [
        (MIB, None, 0x01, 63),
        (20 * MIB, None, 0x04, 2048),
        (64 * MIB, None, 0x0E, 2048),
        (600 * MIB, 32, 0x0C, 2048),
    ],
)
def test_one_partition(size_bytes: int, bits: int | None, kind: int, first: int) -> None:
    """A disk gets one partition of the right type up to its end, with a volume that knows it."""
    device = OverlayDevice(MemoryDevice(size_bytes))
    part = fat.format_partitioned(device, fat_bits=bits, label="cf")
    (found,) = partitions.read_table(device)
    assert (found.kind, found.first_sector) == (kind, first)
    assert (found.first_sector + found.length_sectors) * 512 == size_bytes
    assert int.from_bytes(read(part, 28, 4), "little") == first
    assert fat.open_first(device).label == "CF"
    assert list(fat.check_disk(device)) == []


def test_places_by_cylinder() -> None:
    """The places of old programs are those of 255 heads and 63 sectors, up to the last there is."""
    assert partitioning.chs(0) == bytes([0, 1, 0])
    assert partitioning.chs(2048) == bytes([32, 33, 0])
    assert partitioning.chs(255 * 63 * 700 + 62) == bytes([0, 63 | 0x80, 700 & 0xFF])
    assert partitioning.chs(255 * 63 * 1024) == b"\xfe\xff\xff"


def test_a_cut_leaves_no_volume_and_an_error_the_old() -> None:
    """A power cut leaves nothing that looks whole; what cannot be made changes nothing."""
    old = MemoryDevice(2 * MIB)
    fat.format(old)
    trace = TraceDevice(OverlayDevice(old))
    fat.format_partitioned(trace)
    for writes in range(1, trace.work.write_count):
        survivor = OverlayDevice(old)
        with pytest.raises(PowerCutError):
            fat.format_partitioned(FaultDevice(survivor, cut_after_writes=writes))
        with pytest.raises(FatError):
            fat.open_first(survivor)
    trace.reset()
    with pytest.raises(UsageError):
        fat.format_partitioned(trace, fat_bits=32)
    with pytest.raises(UsageError, match="too few"):
        fat.format_partitioned(MemoryDevice(60 * KIB))
    assert trace.work.write_count == 0


def test_room_behind_a_partition_ends_at_the_next() -> None:
    """A partition may grow to the end of the disk, and never over another."""
    device = MemoryDevice(4 * MIB)
    fat.format_partitioned(device)
    (first,) = partitions.read_table(device)
    shorter = partitioning.change(device, first, length_sectors=1000)
    assert shorter.length_sectors == partitions.read_table(device)[0].length_sectors == 1000
    assert partitioning.room_behind(device, shorter) == 8192 - 63
    table = bytearray(read(device, 0, 512))
    table[462:478] = table[446:462]
    table[470:474] = (3000).to_bytes(4, "little")
    device.write(0, table)
    assert partitioning.room_behind(device, shorter) == 3000 - 63
    with contextlib.suppress(UsageError):
        partitioning.room_for_one(device)
    assert partitioning.change(device, shorter, kind=1) == shorter
