"""Small files with the changes since a snapshot, as ESXi hosts keep them: made, and what they hold.

The files are built from the definitions in `ipva_formats` alone, so that they are a second opinion
on what reads them.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_formats import dtype_of
from ipva_formats.vmdk import (
    COWD_GTES_PER_GT,
    COWD_HEADER,
    GRAIN_ENTRY,
    SESPARSE_ALLOCATED,
    SESPARSE_CONST_HEADER,
    SESPARSE_ENTRY,
    SESPARSE_KIND_SHIFT,
    SESPARSE_TABLE_MARK,
    SESPARSE_UNMAPPED,
    SESPARSE_VERSION,
    SESPARSE_VOLATILE_HEADER,
    SESPARSE_ZERO,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECTOR_BYTES: Final = 512
_COWD_DIRECTORY_SECTOR: Final = 4
_SESPARSE_GRAIN_BYTES: Final = 4096
_SESPARSE_TABLE_SECTORS: Final = 64
_SESPARSE_ENTRIES: Final = 4096

TABLES_SECTOR: Final = 16
"""Where the grain tables of `sesparse_file` start, behind everything else but the grains."""


class Mark(Enum):
    """What a grain of a `seSparse` file may be instead of bytes."""

    ZERO = SESPARSE_ZERO
    UNMAPPED = SESPARSE_UNMAPPED


def shown(
    size_bytes: int, grain_bytes: int, grains: Mapping[int, bytes | Mark], below: bytes = b""
) -> bytes:
    """What a disk reads as: the grains, and the parent, or zeros, where there is none.

    Args:
        size_bytes: of the disk.
        grain_bytes: of a grain.
        grains: what is in the file.
        below: the parent, of any length.
    """
    found = bytearray(below[:size_bytes].ljust(size_bytes, b"\0"))
    for number, data in grains.items():
        start = number * grain_bytes
        whole = data if isinstance(data, bytes) else bytes(grain_bytes)
        found[start : start + grain_bytes] = whole[: max(0, size_bytes - start)]
    return bytes(found)


def cowd_file(
    capacity_sectors: int,
    grains: Mapping[int, bytes],
    *,
    grain_sectors: int = 1,
    unclean_shutdown: int = 0,
) -> bytes:
    """An ESX server sparse extent: tables and grains in the order in which they are needed.

    Args:
        capacity_sectors: of the disk.
        grains: the bytes of each grain, in the order of their writing.
        grain_sectors: in a grain.
        unclean_shutdown: the mark of a file that was not closed.
    """
    grain_count = -(-capacity_sectors // grain_sectors)
    entry_count = -(-grain_count // COWD_GTES_PER_GT)
    end = _COWD_DIRECTORY_SECTOR + -(-entry_count * 4 // _SECTOR_BYTES)
    directory = [0] * entry_count
    tables: dict[int, list[int]] = {}
    places: dict[int, bytes] = {}
    for number, data in grains.items():
        index, at = divmod(number, COWD_GTES_PER_GT)
        if not directory[index]:
            directory[index] = end
            tables[index] = [0] * COWD_GTES_PER_GT
            end += COWD_GTES_PER_GT * 4 // _SECTOR_BYTES
        tables[index][at] = end
        places[end] = data.ljust(grain_sectors * _SECTOR_BYTES, b"\0")
        end += grain_sectors
    header = COWD_HEADER.build(
        {
            "version": 1,
            "flags": 3,
            "capacity_sectors": capacity_sectors,
            "grain_sectors": grain_sectors,
            "gd_offset_sectors": _COWD_DIRECTORY_SECTOR,
            "gd_entry_count": entry_count,
            "free_sector": end,
            "parent_file_name": bytes(1024),
            "parent_generation": 0,
            "generation": 0,
            "name": bytes(60),
            "description": bytes(512),
            "saved_generation": 0,
            "unclean_shutdown": unclean_shutdown,
        }
    )
    places[0], places[_COWD_DIRECTORY_SECTOR] = header, _words(directory)
    places |= {directory[index]: _words(table) for index, table in tables.items()}
    return _laid_out(places, end)


def sesparse_file(
    capacity_sectors: int, grains: Mapping[int, bytes | Mark], *, replay_journal: int = 0
) -> bytes:
    """A `seSparse` extent, its parts as close together as they can be.

    Args:
        capacity_sectors: of the disk.
        grains: the bytes or the mark of each grain, in the order of their writing.
        replay_journal: the mark of a file that was not closed.
    """
    grain_count = -(-capacity_sectors // 8)
    entry_count = -(-grain_count // _SESPARSE_ENTRIES)
    grains_sector = TABLES_SECTOR + entry_count * _SESPARSE_TABLE_SECTORS
    directory = [0] * entry_count
    tables: list[list[int]] = []
    data: list[bytes] = []
    for number, content in grains.items():
        index, at = divmod(number, _SESPARSE_ENTRIES)
        if not directory[index]:
            directory[index] = SESPARSE_TABLE_MARK << 32 | len(tables)
            tables.append([0] * _SESPARSE_ENTRIES)
        table = tables[directory[index] & 0xFFFF_FFFF]
        if isinstance(content, Mark):
            table[at] = content.value << SESPARSE_KIND_SHIFT
        else:
            table[at] = allocated(len(data))
            data.append(content.ljust(_SESPARSE_GRAIN_BYTES, b"\0"))
    places = {
        0: sesparse_header(capacity_sectors, entry_count, grains_sector),
        1: SESPARSE_VOLATILE_HEADER.build(
            {
                "free_table_number": len(tables),
                "next_transaction": 0,
                "replay_journal": replay_journal,
            }
        ),
        8: _long_words(directory),
        TABLES_SECTOR: b"".join(map(_long_words, tables)),
        grains_sector: b"".join(data),
    }
    return _laid_out(places, grains_sector + 8 * len(data))


def sesparse_header(capacity_sectors: int, entry_count: int, grains_sector: int) -> bytes:
    """The constant header of `sesparse_file`; the directory has room for 512 entries."""

    def part(offset_sectors: int, sector_count: int) -> dict[str, int]:
        return {"offset_sectors": offset_sectors, "sector_count": sector_count}

    built: bytes = SESPARSE_CONST_HEADER.build(
        {
            "version": SESPARSE_VERSION,
            "capacity_sectors": capacity_sectors,
            "grain_sectors": 8,
            "table_sectors": _SESPARSE_TABLE_SECTORS,
            "flags": 0,
            "reserved": bytes(32),
            "volatile_header": part(1, 1),
            "journal_header": part(2, 2),
            "journal": part(4, 2),
            "directory": part(8, TABLES_SECTOR - 8),
            "tables": part(TABLES_SECTOR, entry_count * _SESPARSE_TABLE_SECTORS),
            "free_bitmap": part(6, 1),
            "backmap": part(7, 1),
            "grains": part(grains_sector, -(-capacity_sectors // 8) * 8),
            "padding": bytes(304),
        }
    )
    return built


def allocated(number: int) -> int:
    """The entry of a `seSparse` table for the grain with that number in the file."""
    return SESPARSE_ALLOCATED << SESPARSE_KIND_SHIFT | (number & 0xFFF) << 48 | number >> 12


def descriptor(
    kind: str, capacity_sectors: int, file_name: str, *, parent: str | None = None, cid: int = 1
) -> str:
    """The descriptor of a disk that is one such file.

    Args:
        kind: `vmfsSparse` or `seSparse`.
        capacity_sectors: of the disk.
        file_name: of the extent.
        parent: the parent's file; its CID has to be 1.
        cid: of this one.
    """
    hint = "" if parent is None else f'parentFileNameHint="{parent}"\n'
    return (
        f"# Disk DescriptorFile\nversion=1\nCID={cid:08x}\n"
        f"parentCID={'ffffffff' if parent is None else '00000001'}\n"
        f'createType="{kind}"\n{hint}\n# Extent description\n'
        f'RW {capacity_sectors} {kind.upper()} "{file_name}"\n\n'
        '# The Disk Data Base\n#DDB\n\nddb.adapterType = "ide"\n'
    )


def _laid_out(places: Mapping[int, bytes], end_sector: int) -> bytes:
    found = bytearray(end_sector * _SECTOR_BYTES)
    for sector, data in places.items():
        start = sector * _SECTOR_BYTES
        found[start : start + len(data)] = data
    return bytes(found)


def _words(values: list[int]) -> bytes:
    table = np.zeros(len(values), dtype_of(GRAIN_ENTRY))
    table["sector"] = values
    return table.tobytes()


def _long_words(values: list[int]) -> bytes:
    table = np.zeros(len(values), dtype_of(SESPARSE_ENTRY))
    table["entry"] = values
    return table.tobytes()
