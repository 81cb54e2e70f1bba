"""The master boot record and its extended partition tables.

Source: IBM PC DOS 2.0 and 3.3 as documented by many; UEFI 2.10 section 5.2.1 "Legacy MBR" states
the layout. Confidence: stated. Byte by byte: `formats/spec/mbr.md`.
"""

from __future__ import annotations

from typing import Final

import construct as c

SIGNATURE: Final = 0xAA55
"""Last two bytes. Source: UEFI 2.10, 5.2.1. Confidence: stated."""
PARTITION_COUNT: Final = 4
"""Entries of one table. Source: UEFI 2.10, 5.2.1. Confidence: stated."""

KIND_EMPTY: Final = 0x00
KINDS_EXTENDED: Final = (0x05, 0x0F, 0x85)
"""Types of a partition that holds further tables. Confidence: stated for 05 and 0F (Microsoft)."""
KIND_GPT: Final = 0xEE
"""The one partition of a disk whose real table is a GPT. Source: UEFI 2.10, 5.2.3."""
KINDS_FAT: Final = {0x01: 12, 0x04: 16, 0x06: 16, 0x0E: 16, 0x0B: 32, 0x0C: 32}
"""Partition types of FAT, and the FAT bits each promises. Confidence: stated (Microsoft)."""
STATE_ACTIVE: Final = 0x80
"""The partition that is booted; every other value but 0 is wrong."""

PARTITION: Final = "partition" / c.Struct(
    "state" / c.Int8ul,
    "first_chs" / c.Bytes(3),
    "kind" / c.Int8ul,
    "last_chs" / c.Bytes(3),
    "first_sector" / c.Int32ul,
    "length_sectors" / c.Int32ul,
)
"""One partition, 16 bytes; sectors are of 512 bytes."""

MBR: Final = "mbr" / c.Struct(
    "boot_code" / c.Bytes(440),
    "disk_id" / c.Int32ul,
    "reserved" / c.Bytes(2),
    "partitions" / c.Array(PARTITION_COUNT, PARTITION),
    "signature" / c.Int16ul,
)
"""The first sector of a partitioned disk, 512 bytes; an extended table has the same shape."""
