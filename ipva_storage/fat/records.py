"""Folder records read whole: which are free, short, long, and which belong together.

Vectorised; only making an entry for each live file is a loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime  # noqa: TC003 - fields
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from ipva_formats import dtype_of
from ipva_formats import fat as layout
from ipva_storage.fat import clock, names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

DOT: Final = b".".ljust(11)
DOT_DOT: Final = b"..".ljust(11)
ENTRY: Final = dtype_of(layout.ENTRY)
LONG: Final = dtype_of(layout.LONG_ENTRY)


class FatEntry(NamedTuple):
    """A file or folder, as its records tell it. Times are local wall clock, without zone."""

    name: str
    """The long name, or the short one where there is no valid long one."""
    short_name: str
    """As `BASE.EXT`, in upper case as on disk."""
    size_bytes: int
    modified: datetime
    """To 2 s; 1980 where the records do not say."""
    is_dir: bool
    attributes: int
    first_cluster: int
    is_deleted: bool = False
    created: datetime | None = None
    """To 10 ms; None where the records do not say."""
    accessed: date | None = None
    """The day; None where the records do not say."""


@dataclass(slots=True)
class Slot:
    """An entry and the records it is kept in."""

    entry: FatEntry
    short: bytes
    """The 11 bytes on disk."""
    first_record: int
    record_count: int
    """Long-name records and the short one, which is the last."""

    @property
    def short_record(self) -> int:
        """Index of the short record."""
        return self.first_record + self.record_count - 1


@dataclass(slots=True)
class Records:
    """The records of folders, sorted out. Arrays have one element a record up to a folder's end."""

    table: npt.NDArray[Any]
    """The records as `ENTRY`."""
    folder: npt.NDArray[np.int32]
    """Which of the folders that were read together each is in."""
    place: npt.NDArray[np.int64]
    """Index of each among all records that were read, those behind the ends included."""
    stale: npt.NDArray[np.int64]
    """Indexes, counted as in `place`, of records behind a folder's end that are not free."""
    is_long: npt.NDArray[np.bool_]
    is_label: npt.NDArray[np.bool_]
    is_short: npt.NDArray[np.bool_]
    is_orphan: npt.NDArray[np.bool_]
    """Long-name records that belong to no short one."""
    long_count: npt.NDArray[np.int64]
    """At a short record: how many long-name records before it make its name."""
    longs: npt.NDArray[np.int64]
    """The long-name records that belong to a short one."""
    long_columns: npt.NDArray[np.uint16]
    """The units of those, a row a column; see `unit_columns`."""

    @property
    def end(self) -> int:
        """Index of the first record that was never used, or how many there are."""
        return len(self.table)


def parse(raw: bytes | bytearray, counts: Sequence[int] | None = None) -> Records:
    """Sort the records of a folder out, or of many at once.

    Args:
        raw: the folders' clusters, one after the other; whole records.
        counts: how many records each of the folders has; None: it is one.
    """
    whole = np.frombuffer(raw, "<u8").reshape(-1, layout.ENTRY_BYTES // 8)
    heads = np.frombuffer(raw, np.uint8)[:: layout.ENTRY_BYTES].copy()
    sizes = np.array([len(whole)] if counts is None else counts, np.int64)
    folder = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    is_past = _past_end(heads, sizes)
    stale = np.flatnonzero(is_past & (heads != layout.MARK_END) & (heads != layout.MARK_DELETED))
    place = np.flatnonzero(~is_past)
    table = whole[place].view(ENTRY).reshape(-1)
    folder, heads = folder[place], heads[place]
    is_live = heads != layout.MARK_DELETED
    attributes = table["attributes"].copy()
    has_long_mark = (attributes & layout.ATTRIBUTE_LONG_NAME_MASK) == layout.ATTRIBUTE_LONG_NAME
    is_long = is_live & has_long_mark
    is_label = is_live & ~has_long_mark & ((attributes & layout.ATTRIBUTE_LABEL) != 0)
    is_short = is_live & ~is_long & ~is_label
    long_count, is_used = _match_long(table, folder, is_long, is_short)
    longs = np.flatnonzero(is_long & is_used)
    return Records(
        table=table,
        folder=folder,
        place=place,
        stale=stale,
        is_long=is_long,
        is_label=is_label,
        is_short=is_short,
        is_orphan=is_long & ~is_used,
        long_count=long_count,
        longs=longs,
        long_columns=unit_columns(table[longs]),
    )


def _past_end(heads: npt.NDArray[np.uint8], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which records are the end mark of their folder or come after it."""
    seen = np.cumsum(heads == layout.MARK_END)
    before = np.concatenate(([0], seen))[np.cumsum(sizes) - sizes]
    past: npt.NDArray[np.bool_] = seen > np.repeat(before, sizes)
    return past


def first_clusters(rows: npt.NDArray[Any], fat_bits: int) -> npt.NDArray[np.int64]:
    """First cluster that each record names; FAT12 and FAT16 have no high half."""
    low = rows["cluster_low"].astype(np.int64)
    if fat_bits < 32:
        return low
    both: npt.NDArray[np.int64] = low | rows["cluster_high"].astype(np.int64) << 16
    return both


def count_long(
    parsed: Records, is_long: npt.NDArray[np.bool_], is_short: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """How many of some long-name records would name each of some short ones, but for checksums."""
    return _match_long(parsed.table, parsed.folder, is_long, is_short, has_checksums=False)[0]


def checksums(table: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The name checksum of every record at once; shape (n,)."""
    columns = np.ascontiguousarray(table["name"]).view(np.uint8).reshape(-1, 11)
    total: npt.NDArray[np.uint8] = np.zeros(len(table), np.uint8)
    for column in np.ascontiguousarray(columns.T):
        total = (total >> np.uint8(1) | total << np.uint8(7)) + column
    return total


def _match_long(
    table: npt.NDArray[Any],
    folder: npt.NDArray[np.int32],
    is_long: npt.NDArray[np.bool_],
    is_short: npt.NDArray[np.bool_],
    *,
    has_checksums: bool = True,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """How many long-name records each short record owns, and which those are.

    Of the long records before a short one, those count whose ordinal is their distance to it and
    whose checksum is its own, without a gap up to the one marked as the last.
    """
    count = len(table)
    lengths = np.zeros(count, np.int64)
    used = np.zeros(count, np.bool_)
    longs = np.flatnonzero(is_long)
    others = np.flatnonzero(~is_long)
    if not len(longs) or not len(others):
        return lengths, used
    after = longs - np.arange(len(longs))  # so many others come before each
    longs, after = longs[after < len(others)], after[after < len(others)]
    owner = others[after]
    records = table.view(LONG)
    ordinal = records["ordinal"][longs]
    distance = owner - longs
    fits = (
        is_short[owner]
        & (folder[owner] == folder[longs])
        & ((ordinal & layout.LONG_ORDINAL_MASK) == distance)
    )
    if has_checksums:
        wanted = np.zeros(count, np.uint8)
        shorts = np.flatnonzero(is_short & np.append(False, is_long[:-1]))
        wanted[shorts] = checksums(table[shorts])
        fits &= records["checksum"][longs] == wanted[owner]
    is_last = fits & ((ordinal & layout.LONG_LAST) != 0)
    lengths[owner[is_last]] = distance[is_last]
    within = fits & (distance <= lengths[owner])
    complete = np.bincount(owner[within], minlength=count) == lengths
    lengths[~complete] = 0
    used[longs[distance <= lengths[owner]]] = True
    return lengths, used


def slots(records: Records, *, is_fat32: bool, code_page: str) -> Iterator[Slot]:
    """The files and folders among the records, in order, without `.` and `..`."""
    at = np.flatnonzero(records.is_short)
    if not len(at):
        return
    rows = records.table[at].tolist()
    units = name_units(records.table)
    for index, count, row in zip(at.tolist(), records.long_count[at].tolist(), rows, strict=True):
        short = row[0]
        if short in (DOT, DOT_DOT):
            continue
        name = long_name(units, index, count) if count else ""
        entry = _entry(row, name, is_fat32=is_fat32, code_page=code_page)
        yield Slot(entry, short, index - count, count + 1)


def name_units(table: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """The UTF-16 units every record would hold as a long-name record; shape (n, 13)."""
    longs = table.view(LONG)
    return np.concatenate([longs["units_1"], longs["units_2"], longs["units_3"]], axis=1)


def unit_columns(table: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """The same as `name_units`, a row a column, which is faster for many; shape (13, n)."""
    rows = np.ascontiguousarray(table).view(np.uint16).reshape(-1, layout.ENTRY_BYTES // 2)
    if len(rows):
        odd = np.ascontiguousarray(table).view(np.uint8).reshape(-1, layout.ENTRY_BYTES)[:, 1:11]
        first = np.ascontiguousarray(odd).view("<u2").T
    else:
        first = np.empty((5, 0), np.uint16)
    return np.concatenate((first, rows.T[7:13], rows.T[14:16]))


def long_name(units: npt.NDArray[np.uint16], short_record: int, count: int) -> str:
    """The long name before a short record, or nothing where it is none that could be used."""
    raw = units[short_record - count : short_record][::-1].astype("<u2").tobytes()
    name = raw.decode("utf-16-le", "surrogatepass").split("\0", 1)[0]
    return "" if name in (".", "..") or "/" in name else name


def _entry(row: tuple[Any, ...], name: str, *, is_fat32: bool, code_page: str) -> FatEntry:
    short, attributes, case_flags, _, _, _, _, high, time, day, low, content_bytes = row
    shown = names.show_short(short, case_flags, code_page).replace("/", "_") or "_"
    is_dir = bool(attributes & layout.ATTRIBUTE_FOLDER)
    return FatEntry(
        name=name or shown,
        short_name=names.show_short(short, 0, code_page),
        size_bytes=0 if is_dir else content_bytes,
        modified=clock.decode(day, time),
        is_dir=is_dir,
        attributes=attributes,
        first_cluster=(high << 16 | low) if is_fat32 else low,
    )
