"""Entries of folders from their records: names, times and lengths of all of them at once.

Making an entry for each file is the only loop. Folders side by side are taken together, because
what NumPy costs for each call is more than what it costs for each of a few dozen files.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from ipva_formats import dtype_of
from ipva_formats import fat as layout
from ipva_storage.fat import clock, names, records
from ipva_storage.fat.records import FatEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ipva_storage.fat.records import Records

_LONG: Final = dtype_of(layout.LONG_ENTRY)
_SEPARATOR: Final = bytes([layout.MARK_DELETED]).ljust(layout.ENTRY_BYTES, b"\0")
"""Stands between two folders, so that no long name reaches into the next."""
_DOTS: Final = np.frombuffer(records.DOT + records.DOT_DOT, np.uint8).reshape(2, 11)


class Listed(NamedTuple):
    """The files and folders among records, without `.` and `..`; one element each."""

    entries: list[FatEntry]
    shorts: list[bytes]
    """The 11 bytes on disk."""
    short_records: npt.NDArray[np.int64]
    """Index of each one's short record."""
    long_counts: npt.NDArray[np.int64]
    """How many long-name records stand before it."""


def listed(parsed: Records, *, is_fat32: bool, code_page: str) -> Listed:
    """The entries among records that were sorted out, in their order."""
    at = np.flatnonzero(parsed.is_short)
    columns = _columns(parsed.table)[at]
    at = at[~_is_dot(columns)]
    rows, columns = parsed.table[at], _columns(parsed.table)[at]
    long_counts = parsed.long_count[at]
    shown, shorts = _short_names(columns, rows["case_flags"], code_page)
    _put_long_names(shown, parsed.table, at, long_counts)
    attributes = rows["attributes"]
    is_dir = (attributes & layout.ATTRIBUTE_FOLDER) != 0
    first = rows["cluster_low"].astype(np.uint32)
    if is_fat32:
        first |= rows["cluster_high"].astype(np.uint32) << np.uint32(16)
    created, modified, accessed = _times(rows)
    fields = zip(
        shown,
        shorts,
        np.where(is_dir, 0, rows["content_bytes"]).tolist(),
        modified,
        is_dir.tolist(),
        attributes.tolist(),
        first.tolist(),
        itertools.repeat(False),
        created,
        accessed,
        strict=False,
    )
    # not through names that are text: NumPy would cut zeros off the end
    raw = columns.tobytes()
    eleven = [raw[start : start + 11] for start in range(0, len(raw), 11)]
    return Listed(list(map(FatEntry._make, fields)), eleven, at, long_counts)


def entries_of(
    folders: Sequence[bytes | bytearray], *, is_fat32: bool, code_page: str
) -> list[list[FatEntry]]:
    """The entries of several folders.

    Args:
        folders: the clusters of each, one after the other; whole records.
        is_fat32: whether the high half of a cluster number counts.
        code_page: of short names.
    """
    pieces: list[bytes | memoryview] = []
    stops, total = list[int](), 0
    for raw in folders:
        end = raw[:: layout.ENTRY_BYTES].find(layout.MARK_END)
        count = len(raw) // layout.ENTRY_BYTES if end < 0 else end
        pieces += [memoryview(raw)[: count * layout.ENTRY_BYTES], _SEPARATOR]
        total += count + 1
        stops.append(total)
    found = listed(records.parse(b"".join(pieces)), is_fat32=is_fat32, code_page=code_page)
    cuts = np.searchsorted(found.short_records, stops).tolist()
    return [found.entries[start:stop] for start, stop in itertools.pairwise([0, *cuts])]


def _columns(table: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The names of records as bytes; shape (n, 11)."""
    return np.ascontiguousarray(table["name"]).view(np.uint8).reshape(-1, 11)


def _is_dot(columns: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = columns[:, 0] == _DOTS[0, 0]
    some = np.flatnonzero(found)
    found[some] = (columns[some, None, :] == _DOTS).all(axis=2).any(axis=1)
    return found


# -- short names ------------------------------------------------------------------------------


def _short_names(
    columns: npt.NDArray[np.uint8], case_flags: npt.NDArray[np.uint8], code_page: str
) -> tuple[list[str], list[str]]:
    """Each short name as it is shown, fit for a path, and as it is on disk."""
    table = _characters(code_page)
    if table is None:
        return _slow_short_names(columns, case_flags, code_page)
    columns = columns.copy()
    columns[columns[:, 0] == layout.MARK_KANJI_E5, 0] = layout.MARK_DELETED
    plain = table.upper[columns]
    on_disk = _joined(plain)
    is_lower = np.zeros(columns.shape, np.bool_)
    is_lower[:, :8] = (case_flags & layout.CASE_LOWER_BASE)[:, None]
    is_lower[:, 8:] = (case_flags & layout.CASE_LOWER_EXTENSION)[:, None]
    shown = list(on_disk)
    if is_lower.any():
        shown = _joined(np.where(is_lower, table.lower[columns], plain))
    if "" in shown or (columns == ord("/")).any():
        shown = [name.replace("/", "_") or "_" for name in shown]
    return shown, on_disk


def _joined(characters: npt.NDArray[np.uint32]) -> list[str]:
    """`BASE.EXT` of 8 and 3 characters, without the spaces that pad them."""
    is_space = characters == ord(" ")
    base = 8 - _run_at_end(is_space[:, :8])
    extension = 3 - _run_at_end(is_space[:, 8:])
    full = np.full((len(characters), 12), ord("."), np.uint32)
    full[:, :8], full[:, 9:] = characters[:, :8], characters[:, 8:]
    place = np.arange(12)
    keep = (place < base[:, None]) | (
        (place > 7) & (place < np.where(extension > 0, 9 + extension, 0)[:, None])
    )
    text = full[keep].astype("<u4").tobytes().decode("utf-32-le")
    return _sliced(text, np.cumsum(keep.sum(axis=1)))


def _run_at_end(is_space: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """How many trailing elements of each row are true."""
    backwards = ~is_space[:, ::-1]
    found: npt.NDArray[np.int64] = np.where(
        backwards.any(axis=1), backwards.argmax(axis=1), is_space.shape[1]
    )
    return found


def _sliced(text: str, stops: npt.NDArray[np.int64]) -> list[str]:
    return [text[start:stop] for start, stop in itertools.pairwise([0, *stops.tolist()])]


class _Characters(NamedTuple):
    """What each byte of a code page is; shape (256,) each."""

    upper: npt.NDArray[np.uint32]
    lower: npt.NDArray[np.uint32]


@functools.lru_cache(maxsize=8)
def _characters(code_page: str) -> _Characters | None:
    """The characters of a code page, or None where some take two bytes."""
    single = [bytes([byte]).decode(code_page, "replace") for byte in range(256)]
    if bytes(range(256)).decode(code_page, "replace") != "".join(single):
        return None
    lower = [char.lower() if len(char.lower()) == 1 else char for char in single]
    return _Characters(*(np.array([*map(ord, chars)], np.uint32) for chars in (single, lower)))


def _slow_short_names(
    columns: npt.NDArray[np.uint8], case_flags: npt.NDArray[np.uint8], code_page: str
) -> tuple[list[str], list[str]]:
    shorts = [row.tobytes() for row in columns]
    shown = [
        names.show_short(short, flags, code_page).replace("/", "_") or "_"
        for short, flags in zip(shorts, case_flags.tolist(), strict=True)
    ]
    return shown, [names.show_short(short, 0, code_page) for short in shorts]


# -- long names -------------------------------------------------------------------------------


def _put_long_names(
    shown: list[str],
    table: npt.NDArray[Any],
    at: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
) -> None:
    """Put long names in the places of short ones, where there are any that could be used."""
    owners = np.flatnonzero(counts)
    if not len(owners):
        return
    counts = counts[owners]
    stops = np.cumsum(counts)
    within = np.arange(stops[-1]) - np.repeat(stops - counts, counts)
    longs = table.view(_LONG)[np.repeat(at[owners], counts) - within - 1]
    parts = [longs[name] for name in ("units_1", "units_2", "units_3")]
    units = np.concatenate(parts, axis=1).reshape(-1)
    starts, stops = (stops - counts) * layout.LONG_UNITS, stops * layout.LONG_UNITS
    for index, name in zip(owners.tolist(), _texts(units, starts, stops), strict=True):
        if name and name not in (".", "..") and "/" not in name:
            shown[index] = name


def _texts(
    units: npt.NDArray[np.uint16], starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]
) -> list[str]:
    """The texts in runs of UTF-16 units, each up to its first zero."""
    zeros = np.append(np.flatnonzero(units == 0), len(units))
    stops = np.minimum(stops, zeros[np.searchsorted(zeros, starts)])
    encoded = units.astype("<u2", copy=False).tobytes()
    bounds = zip(starts.tolist(), stops.tolist(), strict=True)
    if ((units & 0xF800) == 0xD800).any():  # surrogates: units are not characters
        return [
            encoded[start * 2 : stop * 2].decode("utf-16-le", "surrogatepass")
            for start, stop in bounds
        ]
    text = encoded.decode("utf-16-le")
    return [text[start:stop] for start, stop in bounds]


# -- times ------------------------------------------------------------------------------------


def _times(rows: npt.NDArray[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """When each file was made, changed and last opened; None where that is not said."""
    count = len(rows)
    dates = np.concatenate([rows["created_date"], rows["modified_date"], rows["accessed_date"]])
    times = np.zeros(count * 3, np.uint16)
    times[:count], times[count : 2 * count] = rows["created_time"], rows["modified_time"]
    hundredths = np.zeros(count * 3, np.uint8)
    hundredths[:count] = rows["created_10ms"]
    found: list[Any] = clock.decode_all(dates, times, hundredths)
    modified = [clock.EPOCH if each is None else each for each in found[count : 2 * count]]
    accessed = [each and each.date() for each in found[2 * count :]]
    return found[:count], modified, accessed
