"""FAT12, FAT16 and FAT32: boot sector, FSInfo, folder records, table entry values.

Source: Microsoft, "FAT: General Overview of On-Disk Format", version 1.03 (2000), called MS below.
Confidence: stated, unless a line says otherwise. Byte by byte: `formats/spec/fat.md`.
"""

from __future__ import annotations

from typing import Any, Final

import construct as c

ENTRY_BYTES: Final = 32
"""One folder record. Source: MS, "FAT Directory Structure". Confidence: stated."""

BOOT_SIGNATURE: Final = 0xAA55
EXTENDED_SIGNATURE: Final = 0x29

FAT12_CLUSTERS_MAX: Final = 4084
"""Most clusters of a FAT12 volume. Source: MS, "FAT Type Determination". Confidence: stated."""
FAT16_CLUSTERS_MAX: Final = 65524
"""Most clusters of a FAT16 volume. Source: MS, "FAT Type Determination". Confidence: stated."""
FAT32_CLUSTERS_MAX: Final = 0x0FFFFFF5
"""Most clusters of a FAT32 volume: the entry values below 0x0FFFFFF7, less 2.

Source: MS, "FAT Data Structure". Confidence: inferred."""

FIRST_CLUSTER: Final = 2
"""Number of the first data cluster. Source: MS. Confidence: stated."""

ENTRY_MASK: Final = {12: 0x0FFF, 16: 0xFFFF, 32: 0x0FFFFFFF}
"""The bits of a table entry that number a cluster; the top four of FAT32 are kept as they are."""
BAD_CLUSTER: Final = {12: 0x0FF7, 16: 0xFFF7, 32: 0x0FFFFFF7}
END_MIN: Final = {12: 0x0FF8, 16: 0xFFF8, 32: 0x0FFFFFF8}
"""From this value on, an entry is the end of its chain."""
CLEAN_BIT: Final = {12: 0, 16: 0x8000, 32: 0x08000000}
"""Bit of entry 1 that is set while the volume is clean; FAT12 has none.

Source: MS, "FAT Data Structure", ClnShutBitMask. Confidence: stated."""
NO_ERROR_BIT: Final = {12: 0, 16: 0x4000, 32: 0x04000000}
"""Bit of entry 1 that is set while no read or write has failed (HrdErrBitMask)."""

ATTRIBUTE_READ_ONLY: Final = 0x01
ATTRIBUTE_HIDDEN: Final = 0x02
ATTRIBUTE_SYSTEM: Final = 0x04
ATTRIBUTE_LABEL: Final = 0x08
ATTRIBUTE_FOLDER: Final = 0x10
ATTRIBUTE_ARCHIVE: Final = 0x20
ATTRIBUTE_LONG_NAME: Final = 0x0F
ATTRIBUTE_LONG_NAME_MASK: Final = 0x3F

MARK_DELETED: Final = 0xE5
"""First byte of a record that is free."""
MARK_END: Final = 0x00
"""First byte of a record that is free, as are all after it."""
MARK_KANJI_E5: Final = 0x05
"""First byte of a name that really begins with 0xE5."""

CASE_LOWER_BASE: Final = 0x08
"""Windows NT shows the base of the short name in lower case.

Source: Windows NT and later, Linux vfat, mtools; MS calls it reserved. Confidence: inferred."""
CASE_LOWER_EXTENSION: Final = 0x10
"""Windows NT shows the extension in lower case. Confidence: inferred, as above."""

LONG_LAST: Final = 0x40
"""Set in the ordinal of the record with the name's end, which comes first on disk."""
LONG_ORDINAL_MASK: Final = 0x3F
LONG_UNITS: Final = 13
"""UTF-16 units in one long-name record. Source: MS, "FAT Long Directory Entries"."""
LONG_NAME_UNITS_MAX: Final = 255

BOOT_STATE_DIRTY: Final = 0x01
"""Bit of the boot sector's state byte that Windows and Linux set while mounted.

Source: dosfstools and Linux, MS calls the byte reserved. Confidence: inferred."""

BOOT_STATE_ERROR: Final = 0x02
"""Bit of the boot sector's state byte that asks for a test of the surface. As above."""

NO_LABEL: Final = b"NO NAME    "
"""The label of a volume that has none. Source: MS, BS_VolLab. Confidence: stated."""

_COMMON: Final[tuple[Any, ...]] = (
    "jump" / c.Bytes(3),
    "oem_name" / c.Bytes(8),
    "sector_bytes" / c.Int16ul,
    "cluster_sectors" / c.Int8ul,
    "reserved_sectors" / c.Int16ul,
    "fat_count" / c.Int8ul,
    "root_entry_count" / c.Int16ul,
    "volume_sectors_16" / c.Int16ul,
    "media" / c.Int8ul,
    "fat_sectors_16" / c.Int16ul,
    "track_sectors" / c.Int16ul,
    "head_count" / c.Int16ul,
    "hidden_sectors" / c.Int32ul,
    "volume_sectors_32" / c.Int32ul,
)

_EXTENDED: Final[tuple[Any, ...]] = (
    "drive_number" / c.Int8ul,
    "state" / c.Int8ul,
    "extended_signature" / c.Int8ul,
    "volume_id" / c.Int32ul,
    "label" / c.Bytes(11),
    "type_text" / c.Bytes(8),
)

BOOT_SECTOR: Final = "boot_sector" / c.Struct(
    *_COMMON,
    *_EXTENDED,
    "boot_code" / c.Bytes(448),
    "signature" / c.Int16ul,
)
"""Boot sector of FAT12 and FAT16, 512 bytes."""

BOOT_SECTOR_32: Final = "boot_sector_32" / c.Struct(
    *_COMMON,
    "fat_sectors_32" / c.Int32ul,
    "mirror_flags" / c.Int16ul,
    "version" / c.Int16ul,
    "root_cluster" / c.Int32ul,
    "fsinfo_sector" / c.Int16ul,
    "backup_sector" / c.Int16ul,
    "reserved" / c.Bytes(12),
    *_EXTENDED,
    "boot_code" / c.Bytes(420),
    "signature" / c.Int16ul,
)
"""Boot sector of FAT32, 512 bytes."""

FSINFO_LEAD: Final = 0x41615252
FSINFO_STRUCT: Final = 0x61417272
FSINFO_TRAIL: Final = 0xAA550000
FSINFO_UNKNOWN: Final = 0xFFFFFFFF
"""A count or hint that is not known."""

FSINFO: Final = "fsinfo" / c.Struct(
    "lead_signature" / c.Int32ul,
    "reserved_1" / c.Bytes(480),
    "struct_signature" / c.Int32ul,
    "free_cluster_count" / c.Int32ul,
    "next_free_cluster" / c.Int32ul,
    "reserved_2" / c.Bytes(12),
    "trail_signature" / c.Int32ul,
)
"""FAT32's free-space summary, 512 bytes; both numbers are hints."""

ENTRY: Final = "folder_entry" / c.Struct(
    "name" / c.Bytes(11),
    "attributes" / c.Int8ul,
    "case_flags" / c.Int8ul,
    "created_10ms" / c.Int8ul,
    "created_time" / c.Int16ul,
    "created_date" / c.Int16ul,
    "accessed_date" / c.Int16ul,
    "cluster_high" / c.Int16ul,
    "modified_time" / c.Int16ul,
    "modified_date" / c.Int16ul,
    "cluster_low" / c.Int16ul,
    "content_bytes" / c.Int32ul,
)
"""A file, folder or label, 32 bytes."""

LONG_ENTRY: Final = "long_name_entry" / c.Struct(
    "ordinal" / c.Int8ul,
    "units_1" / c.Array(5, c.Int16ul),
    "attributes" / c.Int8ul,
    "kind" / c.Int8ul,
    "checksum" / c.Int8ul,
    "units_2" / c.Array(6, c.Int16ul),
    "cluster_low" / c.Int16ul,
    "units_3" / c.Array(2, c.Int16ul),
)
"""Thirteen UTF-16 units of a long name, 32 bytes."""
