"""Deleted files and folders, as far as their records still tell of them.

Deleting puts 0xE5 in the place of a record's first byte: of the first letter of the short name, and
of the numbers of long-name records. The checksum in these tells the letter; that the letter fits
the long name tells that they belong together. Long-name records that do not fit are left out rather
than put on the wrong file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.fat import clock, faults, names, records
from ipva_storage.fat.records import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import numpy.typing as npt

_SIZE: Final = layout.ENTRY_BYTES
_UNKNOWN: Final = "?"
"""Stands for a first letter that nothing tells; no name has one."""
_LETTERS: Final = b"_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclass(frozen=True, slots=True)
class Remains:
    """A deleted file or folder."""

    first_record: int
    """Index in its folder of its first record, long-name records included."""
    raw: bytes
    """Its records."""
    long_name: str
    """Nothing where there is none that belongs to it."""
    short: bytes
    """The 11 bytes; the first is 0xE5 where nothing tells it."""
    first_cluster: int

    @property
    def name(self) -> str:
        """The name to show, safe on a host; `?` stands for a letter that is not known."""
        name = (self.long_name or self.short_name).replace("/", "_")
        return name if name.strip(".") else "_"

    @property
    def short_name(self) -> str:
        """The short name; `?` stands for a letter that is not known."""
        known = self.short[0] != layout.MARK_DELETED
        return names.show_short(self.short if known else _UNKNOWN.encode() + self.short[1:])

    @property
    def is_dir(self) -> bool:
        """Whether it was a folder."""
        return bool(self.attributes & layout.ATTRIBUTE_FOLDER)

    @property
    def attributes(self) -> int:
        """Its attribute bits."""
        return self.raw[-_SIZE + 11]

    @property
    def content_bytes(self) -> int:
        """Length of the file; 0 of a folder."""
        return 0 if self.is_dir else int.from_bytes(self.raw[-4:], "little")

    @property
    def modified(self) -> datetime:
        """When it was last written."""
        time, date = (int.from_bytes(self.raw[at : at + 2], "little") for at in (-10, -8))
        return clock.decode(date, time)

    @property
    def live(self) -> bytes:
        """Its records as they were before it was deleted, with the short name that it has."""
        longs = len(self.raw) // _SIZE - 1
        found = bytearray(self.raw)
        total = names.checksum(self.short)
        for index in range(longs):
            ordinal = longs - index | (0 if index else layout.LONG_LAST)
            found[index * _SIZE], found[index * _SIZE + 13] = ordinal, total
        found[longs * _SIZE : longs * _SIZE + 11] = self.short
        return bytes(found)

    def named(self, taken: set[str], shorts: set[bytes]) -> Remains | None:
        """The same with a whole short name; None where what it was called is taken.

        Args:
            taken: names of the folder, as `samenames.keys_of` gives them.
            shorts: short names of the folder, 11 bytes each.
        """
        if self.long_name and names.fold(self.long_name) in taken:
            return None
        for first in self.short[:1] if self.short[0] != layout.MARK_DELETED else _LETTERS:
            short = bytes([first]) + self.short[1:]
            shown = names.fold(names.show_short(short))
            if short not in shorts and shown not in taken and names.is_short_valid(short):
                return replace(self, short=short)
        return None


def find(raw: bytes | bytearray, fat_bits: int) -> Iterator[Remains]:
    """The deleted files and folders of a folder, in the order of their records.

    Args:
        raw: the folder's records.
        fat_bits: of the volume.
    """
    content = bytes(raw)
    whole = np.frombuffer(content, records.ENTRY)
    heads = whole.view(LONG)["ordinal"]
    ends = np.flatnonzero(heads == layout.MARK_END)
    is_short = _is_named(whole)
    is_short[heads != layout.MARK_DELETED] = False
    is_short[(whole["attributes"] & (layout.ATTRIBUTE_LABEL | 0xC0)) != 0] = False
    is_short[int(ends[0]) if len(ends) else len(whole) :] = False
    clusters = records.first_clusters(whole, fat_bits)
    for record in np.flatnonzero(is_short).tolist():
        yield _remains(content, record, int(clusters[record]))


def _is_named(table: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which records have a name behind their first letter."""
    columns = faults.name_columns(table)[:, 1:]
    is_bad: npt.NDArray[np.bool_] = np.logical_or.reduce(faults.bad_bytes(columns), axis=1)
    return ~is_bad


def _remains(content: bytes, record: int, cluster: int) -> Remains:
    short = content[record * _SIZE : record * _SIZE + 11]
    count, long_name, whole_short = _long_name(content, record, short)
    first = record - count
    raw = content[first * _SIZE : (record + 1) * _SIZE]
    return Remains(first, raw, long_name, whole_short, cluster)


def _long_name(content: bytes, record: int, short: bytes) -> tuple[int, str, bytes]:
    """How many long-name records belong to a deleted short one, the name, and the short name."""
    count = _count_long(content, record)
    if not count:
        return 0, "", short
    rows = np.frombuffer(content[(record - count) * _SIZE : record * _SIZE], records.ENTRY)
    name = records.long_name(records.name_units(rows), count, count)
    total = int(rows.view(LONG)["checksum"][0])
    letters = (letter for letter in range(256) if _sum(letter, short) == total)
    whole = bytes([next(letters)]) + short[1:]
    if not name or not names.is_short_valid(whole):
        return 0, "", short
    is_told = not name.isascii() or names.resembles(name, whole)
    return (count, name, whole) if is_told else (0, "", short)


def _sum(letter: int, short: bytes) -> int:
    return names.checksum(bytes([letter]) + short[1:])


def _count_long(content: bytes, record: int) -> int:
    """How many records before a deleted short one are the parts of one long name."""
    total = -1
    for count in range(1, faults.LONG_RECORDS_MAX + 1):
        at = (record - count) * _SIZE
        part = content[at : at + _SIZE] if at >= 0 else b""
        is_part = len(part) == _SIZE and part[11] == layout.ATTRIBUTE_LONG_NAME
        is_part = is_part and not part[12] and part[26:28] == b"\0\0"
        is_part = is_part and part[0] & layout.LONG_ORDINAL_MASK in (count, 0xE5 & 0x3F)
        if not is_part or total not in (-1, part[13]):
            return count - 1
        total = part[13]
        units = part[1:11] + part[14:26] + part[28:32]
        is_ended = any(units[at : at + 2] == b"\0\0" for at in range(0, len(units), 2))
        is_last = part[0] != layout.MARK_DELETED and part[0] & layout.LONG_LAST != 0
        if is_ended or is_last:
            return count
    return faults.LONG_RECORDS_MAX
