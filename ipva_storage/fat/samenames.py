"""Names that two files of one folder share, in any case, long or short; found for many at once.

Every name becomes one number of 32 bits, so that equal names have equal numbers. The few whose
numbers are equal are then compared letter by letter.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.fat import names, records

if TYPE_CHECKING:
    import numpy.typing as npt

    from ipva_storage.fat.records import Records

_UNITS_MAX: Final = 64 * layout.LONG_UNITS
_WEIGHTS: Final = np.random.default_rng(1).integers(1, 1 << 31, _UNITS_MAX, np.uint32) | np.uint32(
    1
)
_COLUMN_WEIGHTS: Final = np.ascontiguousarray(_WEIGHTS.reshape(-1, layout.LONG_UNITS).T)
_CASE: Final = np.uint16(0xFFDF)
"""Without the bit in which an ASCII letter differs from its other case; some others become alike,
too, which only costs a closer look."""


_CASED: Final = (
    range(0x2500),
    range(0x2C00, 0x2E00),
    range(0xA600, 0xAC00),
    range(0xFF00, 1 << 16),
)
"""Where Unicode has letters of two cases, below 0x10000. A test looks at all others."""


def _folded() -> npt.NDArray[np.uint16]:
    """What each UTF-16 unit has in common with its other case; see `names.fold`."""
    table = np.arange(1 << 16, dtype=np.uint16)
    for unit in itertools.chain(*_CASED):
        char = chr(unit)
        upper = char.upper()
        if upper != char and len(upper) == 1 and (unit < 0x80 or not upper.isascii()):
            table[unit] = ord(upper) & 0xFFFF
    return table


_FOLD: Final = _folded()
_SHORT: Final = np.where(np.arange(256) < 0x80, _FOLD[:256], np.arange(256) + 0xF700).astype(
    np.uint32
) & np.uint32(_CASE)
"""A byte of a short name as a unit; beyond ASCII it equals itself only, whatever the code page."""


def duplicates(parsed: Records, at: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Files whose long or short name is that of another in the folder.

    Args:
        parsed: the records of some folders.
        at: the short records to look at, in order.

    Returns:
        Pairs of short records: the later one, and the first that has its name.
    """
    if len(at) < 2:
        return []
    folder = parsed.folder[at].astype(np.uint64) << np.uint64(32)
    short = short_numbers(parsed, at) | folder
    long = np.where(parsed.long_count[at] > 0, long_numbers(parsed, at) | folder, short)
    numbers = np.concatenate((short, long[long != short]))
    owners = np.concatenate((at, at[long != short]))
    ordered = np.sort(numbers)
    same = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(same):
        return []
    found: dict[int, int] = {}
    suspects = owners[np.isin(numbers, same)]
    _compare(parsed, sorted(set(suspects.tolist())), found)
    return sorted(found.items())


def _compare(parsed: Records, suspects: list[int], found: dict[int, int]) -> None:
    first: dict[tuple[int, str], int] = {}
    for record in suspects:
        folder = int(parsed.folder[record])
        keys = {(folder, name) for name in keys_of(parsed, record)}
        for key in keys:
            other = first.setdefault(key, record)
            if other != record:
                found.setdefault(record, other)


def keys_of(parsed: Records, record: int) -> set[str]:
    """The folded short name of a file, and its folded long one where it has one."""
    short = parsed.table["name"][record].tobytes()
    keys = {short_key(short)}
    count = int(parsed.long_count[record])
    if count:
        units = records.name_units(parsed.table[record - count : record])
        name = records.long_name(units, count, count)
        if name:
            keys.add(names.fold(name))
    return keys


def short_key(short: bytes) -> str:
    """A short name as it is compared."""
    text = "".join(chr(byte if byte < 0x80 else byte + 0xF700) for byte in short)
    base, extension = text[:8].rstrip(" "), text[8:].rstrip(" ")
    return names.fold(f"{base}.{extension}" if extension else base)


def short_numbers(parsed: Records, at: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """The number of `BASE.EXT` of each short record."""
    shorts = np.ascontiguousarray(parsed.table["name"][at]).view(np.uint8).reshape(-1, 11)
    columns = np.ascontiguousarray(shorts.T)
    base, extension = _length(columns[:8]), _length(columns[8:])
    total = np.zeros(len(at), np.uint32)
    for place, column in enumerate(columns[:8]):
        total += _SHORT[column] * (place < base) * _WEIGHTS[place]
    total += (extension > 0) * np.uint32(ord(".") & _CASE) * _WEIGHTS[base]
    for place, column in enumerate(columns[8:]):
        total += _SHORT[column] * (place < extension) * _WEIGHTS[base + 1 + place]
    return total


def _length(columns: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """How long a part of each short name is, without the spaces behind it."""
    found = np.zeros(columns.shape[1], np.int64)
    for place, column in enumerate(columns):
        found[column != 0x20] = place + 1
    return found


def long_numbers(parsed: Records, at: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """The number of the long name of each short record; of no meaning where it has none."""
    longs = parsed.longs
    ordinal = parsed.table["name"][longs].view(np.uint8).reshape(-1, 11)[:, 0]
    part = np.maximum(ordinal & layout.LONG_ORDINAL_MASK, np.uint8(1)) - np.uint8(1)
    totals = np.zeros(len(longs), np.uint32)
    is_name = np.ones(len(longs), np.uint16)
    for column, weights in zip(parsed.long_columns, _COLUMN_WEIGHTS, strict=True):
        is_name &= column != 0
        has_others = bool(((column >= 0x80) & (is_name > 0)).any())
        units = (_FOLD[column] if has_others else column) & _CASE
        units *= is_name
        totals += units * weights[part]
    sums = np.concatenate((np.zeros(1, np.uint32), np.cumsum(totals, dtype=np.uint32)))
    stop = np.cumsum(parsed.is_long & ~parsed.is_orphan)[at]
    found: npt.NDArray[np.uint32] = sums[stop] - sums[stop - parsed.long_count[at]]
    return found
