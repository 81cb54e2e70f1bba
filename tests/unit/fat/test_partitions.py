"""Volumes of a disk: with and without a partition table, good and bad."""

from __future__ import annotations

from typing import Any

import pytest

from ipva_formats import mbr
from ipva_storage import fat
from ipva_storage.device import MemoryDevice, SliceDevice
from ipva_storage.errors import FatError
from ipva_storage.units import MIB

Row = tuple[int, int, int]


def table(rows: list[Row], state: int = 0) -> bytes:
    """An MBR of partitions (type, first sector, sectors)."""
    rows = [*rows, *[(0, 0, 0)] * (4 - len(rows))]
    partitions = [
        {
            "state": state if kind else 0,
            "first_chs": bytes(3),
            "kind": kind,
            "last_chs": bytes(3),
            "first_sector": first,
            "length_sectors": length,
        }
        for kind, first, length in rows
    ]
    fields: dict[str, Any] = {"boot_code": bytes(440), "disk_id": 1, "reserved": bytes(2)}
    return mbr.MBR.build({**fields, "partitions": partitions, "signature": mbr.SIGNATURE})


def disk(rows: list[Row], size_bytes: int = 4 * MIB) -> MemoryDevice:
    """A disk with a partition table."""
    device = MemoryDevice(size_bytes)
    device.write(0, table(rows))
    return device


def codes(device: MemoryDevice) -> list[str]:
    """What the check of the table finds."""
    return [finding.code for finding in fat.check_table(device)]


def test_superfloppy() -> None:
    """A volume from the first sector on is one volume without partition number."""
    device = MemoryDevice(MIB)
    fat.format(device)
    assert fat.find_volumes(device) == [fat.Volume(0, MIB, "FAT12", None)]
    assert fat.open_first(device).fat_bits == 12
    assert codes(device) == []


def test_partitioned_disk() -> None:
    """Volumes are told by content, and the first FAT one is opened."""
    device = disk([(0x83, 63, 1000), (0x06, 2048, 4096)])
    fat.format(SliceDevice(device, MIB, 2 * MIB), label="second")
    assert fat.find_volumes(device) == [
        fat.Volume(63 * 512, 512_000, "unknown", 1, is_meant_for_fat=False),
        fat.Volume(MIB, 2 * MIB, "FAT12", 2),
    ]
    with fat.open_first(device) as volume:
        assert volume.label == "SECOND"
        volume.write("/x", b"y")
    assert fat.open_first(device).read("/x") == b"y"
    assert codes(device) == []


def test_logical_partitions() -> None:
    """Partitions within an extended one are numbered from 5 on."""
    device = disk([(0x05, 100, 7000)])
    device.write(100 * 512, table([(0x06, 10, 1000), (0x05, 2000, 3000)]))
    device.write(2100 * 512, table([(0x06, 10, 2000)]))
    fat.format(SliceDevice(device, 2110 * 512, 2000 * 512))
    found = fat.find_volumes(device)
    assert [(item.offset_bytes // 512, item.partition, item.kind) for item in found] == [
        (110, 5, "unknown"),
        (2110, 6, "FAT12"),
    ]


def test_ring_of_extended_tables() -> None:
    """A ring of tables ends."""
    device = disk([(0x05, 100, 7000)])
    device.write(100 * 512, table([(0x06, 10, 1000), (0x05, 0, 3000)]))
    assert len(fat.find_volumes(device)) == 1


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([(0x06, 2048, 100_000)], "PART001"),
        ([(0x83, 63, 1000), (0x83, 500, 1000)], "PART002"),
        ([(0x06, 63, 1000)], "PART003"),
    ],
)
def test_findings(rows: list[Row], code: str) -> None:
    """Partitions that leave the disk, overlap, or are not formatted are found."""
    device = disk(rows)
    assert code in codes(device)
    assert fat.find_volumes(device)


def test_two_active_partitions() -> None:
    """More than one active partition is found."""
    device = MemoryDevice(4 * MIB)
    device.write(0, table([(0x83, 63, 100), (0x83, 200, 100)], state=0x80))
    assert codes(device) == ["PART004"]


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"", "not formatted"), (b"\x01" * 600, "neither"), (None, "none of its 1")],
)
def test_disk_without_fat(content: bytes | None, text: str) -> None:
    """A disk without a FAT volume is refused with what is there, and the way out."""
    device = disk([(0x83, 63, 1000)])
    if content is not None:
        device.data[:600] = content.ljust(600, b"\0")
    with pytest.raises(FatError, match=text) as caught:
        fat.open_first(device)
    assert caught.value.remedy
