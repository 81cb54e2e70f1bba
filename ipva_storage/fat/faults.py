"""What can be wrong with the records of folders, each kind a rule that looks at many at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ipva_formats import dtype_of
from ipva_formats import fat as layout
from ipva_storage.fat import names, records, samenames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.records import Records
    from ipva_storage.fat.survey import Batch, Survey
    from ipva_storage.findings import Finding

    Mask = npt.NDArray[np.bool_]

TOLD_MAX: Final = 1000
"""Findings of one kind that are told one by one for the folders read together. Chosen."""
LONG_RECORDS_MAX: Final = 20
_LONG: Final = dtype_of(layout.LONG_ENTRY)
_RESERVED_BITS: Final = 0xC0
NO_SHORT_NAME: Final = 0x20
"""Case bit by which some kernels once said that there is no short name, which hides the file."""
_DAYS: Final = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 0, 0, 0])
_BAD_BYTES: Final = np.array(
    [
        byte < 0x20 or byte == 0x7F or chr(byte) in names.RESERVED or byte == 0x2E
        for byte in range(256)
    ]
)
_BAD_LABEL_BYTES: Final = np.array([chr(byte) in '"*+,./:;<=>?[\\]|' for byte in range(256)])
_BAD_LABEL_BYTES[:0x20] = True
_BAD_UNITS: Final = np.zeros(1 << 16, np.bool_)
_BAD_UNITS[1:0x20] = True
_BAD_UNITS[[ord(char) for char in names.RESERVED]] = True


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of fault that shows in one record."""

    code: str
    find: Callable[[Batch], Mask]
    """Which records have it."""
    text: str
    """What is said of one; `{name}` is its name, `{folder}` its folder."""


def findings(survey: Survey, batch: Batch) -> Iterator[Finding]:
    """What is wrong in folders that were read together."""
    for rule in RULES:
        at = np.flatnonzero(rule.find(batch))
        yield from _tell(survey, batch, rule.code, rule.text, at)
    yield from _check_dots(survey, batch)
    pairs = samenames.duplicates(batch.parsed, files(batch.parsed))
    twice = np.array([later for later, _ in pairs], np.int64)
    yield from _tell(survey, batch, "FAT015", "“{name}” is in {folder} more than once", twice)
    yield from _check_long_names(survey, batch)
    yield from _check_stale(survey, batch)


def _tell(
    survey: Survey, batch: Batch, code: str, text: str, at: npt.NDArray[np.int64]
) -> Iterator[Finding]:
    for index in at[:TOLD_MAX].tolist():
        name = survey.record_name(batch.number, index)
        folder = shown(survey.folder_path(int(batch.folder[index])))
        said = text.format(name=name, folder=folder)
        yield survey.finding(code, said, int(batch.offset_bytes[index]))
    if len(at) > TOLD_MAX:
        text = f"{len(at) - TOLD_MAX} more like the one before"
        yield survey.finding(code, text, int(batch.offset_bytes[at[TOLD_MAX]]))


def shown(path: str) -> str:
    """A folder as texts name it."""
    return f"“{path}”" if path else "the root folder"


# -- names ------------------------------------------------------------------------------------


def name_columns(table: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The bytes of short names; shape (n, 11)."""
    return np.ascontiguousarray(table["name"]).view(np.uint8).reshape(-1, 11)


def valid_shorts(table: npt.NDArray[Any]) -> Mask:
    """Which records have a valid short name; see `names.is_short_valid`."""
    columns = np.ascontiguousarray(name_columns(table).T)
    is_bad = _BAD_BYTES[columns]
    is_bad[0] &= columns[0] != layout.MARK_KANJI_E5
    found: Mask = ~(is_bad.any(axis=0) | (columns[0] == 0x20))
    return found


def bad_bytes(columns: npt.NDArray[np.uint8]) -> Mask:
    """Which bytes no short name has."""
    found: Mask = _BAD_BYTES[columns]
    return found


def is_dot(parsed: Records) -> Mask:
    """Which records are named `.` or `..`."""
    return is_named(parsed, records.DOT) | is_named(parsed, records.DOT_DOT)


def is_named(parsed: Records, short: bytes) -> Mask:
    """Which records are files or folders of that short name."""
    found = parsed.is_short.copy()
    heads = np.flatnonzero(found & (parsed.table.view(_LONG)["ordinal"] == short[0]))
    found[:] = False
    found[heads] = (name_columns(parsed.table[heads]) == np.frombuffer(short, np.uint8)).all(axis=1)
    return found


def files(parsed: Records) -> npt.NDArray[np.int64]:
    """The short records of files and folders, without `.` and `..`."""
    return np.flatnonzero(parsed.is_short & ~is_dot(parsed))


def _bad_short(batch: Batch) -> Mask:
    parsed = batch.parsed
    at = files(parsed)
    return _spread(parsed, at, ~valid_shorts(parsed.table[at]))


def _spread(parsed: Records, at: npt.NDArray[np.int64], found: Mask) -> Mask:
    """What was found of some records, among all."""
    spread = np.zeros(parsed.end, np.bool_)
    spread[at[found]] = True
    return spread


def bad_long(batch: Batch) -> Mask:
    """Which short records have a long name that no system could have made."""
    parsed = batch.parsed
    found: Mask = parsed.is_short & (parsed.long_count > LONG_RECORDS_MAX)
    longs = parsed.longs
    if not len(longs):
        return found
    ordinal = parsed.table.view(_LONG)["ordinal"][longs]
    is_name = np.ones(len(longs), np.bool_)
    is_bad = np.zeros(len(longs), np.bool_)
    length = np.zeros(len(longs), np.uint8)
    for column in parsed.long_columns:
        is_name &= column != 0
        is_bad |= _BAD_UNITS[column] & is_name
        length += is_name
    is_last = (ordinal & layout.LONG_LAST) != 0
    is_bad |= np.where(is_last, length == 0, ~is_name)
    ordinal &= np.uint8(layout.LONG_ORDINAL_MASK)
    is_bad |= (ordinal.astype(np.int64) - 1) * layout.LONG_UNITS + length > 255
    shorts = np.flatnonzero(parsed.is_short)
    found[shorts[np.searchsorted(shorts, longs[is_bad])]] = True
    return found


def _long_fields(batch: Batch) -> Mask:
    parsed = batch.parsed
    table = parsed.table.view(_LONG)
    is_odd = (table["kind"] != 0) | (table["cluster_low"] != 0)
    is_odd |= table["attributes"] != layout.ATTRIBUTE_LONG_NAME
    is_wrong: Mask = parsed.is_long & ~parsed.is_orphan & is_odd
    return is_wrong


def loose_names(parsed: Records) -> dict[int, int]:
    """Short records with long-name records that fit but for their checksum, and how many."""
    found: dict[int, int] = {}
    if not parsed.is_orphan.any():
        return found
    counts = records.count_long(
        parsed, parsed.is_orphan, parsed.is_short & (parsed.long_count == 0)
    )
    for record in np.flatnonzero(counts).tolist():
        count = int(counts[record])
        if count <= LONG_RECORDS_MAX and _belongs(parsed, record, count):
            found[record] = count
    return found


def _belongs(parsed: Records, record: int, count: int) -> bool:
    """Whether long-name records evidently belong to a short name whose checksum they lack."""
    short = parsed.table["name"][record : record + 1].tobytes()
    rows = parsed.table[record - count : record]
    sums = set(rows.view(_LONG)["checksum"].tolist())
    if names.checksum(short) in sums:
        return True
    name = records.long_name(records.name_units(rows), count, count)
    return len(sums) == 1 and bool(name) and names.resembles(name, short)


def _check_long_names(survey: Survey, batch: Batch) -> Iterator[Finding]:
    parsed = batch.parsed
    loose = loose_names(parsed)
    text = "the long name of “{name}” in {folder} has the checksum of another short name"
    yield from _tell(survey, batch, "FAT047", text, np.array(sorted(loose), np.int64))
    is_orphan = parsed.is_orphan.copy()
    for record, count in loose.items():
        is_orphan[record - count : record] = False
    at = np.flatnonzero(is_orphan)
    for folder in np.unique(batch.folder[at]).tolist():
        here = at[batch.folder[at] == folder]
        where = shown(survey.folder_path(folder))
        text = f"{len(here)} long-name records in {where} belong to no file"
        yield survey.finding("FAT016", text, int(batch.offset_bytes[here[0]]))


# -- other fields -----------------------------------------------------------------------------


def _folder_size(batch: Batch) -> Mask:
    parsed = batch.parsed
    is_folder = (parsed.table["attributes"] & layout.ATTRIBUTE_FOLDER) != 0
    is_wrong: Mask = parsed.is_short & is_folder & (parsed.table["content_bytes"] != 0)
    return is_wrong


def bad_labels(batch: Batch) -> Mask:
    """Label entries where none belongs, or that have what no label has."""
    parsed = batch.parsed
    at = np.flatnonzero(parsed.is_label)
    rows = parsed.table[at]
    is_good = batch.folder[at] == 0
    is_good &= (rows["attributes"] & (layout.ATTRIBUTE_FOLDER | _RESERVED_BITS)) == 0
    is_good &= (rows["content_bytes"] == 0) & (rows["cluster_low"] == 0)
    is_good &= (rows["cluster_high"] == 0) & valid_labels(rows)
    found = parsed.is_label.copy()
    found[at[is_good][:1]] = False
    return found


def valid_labels(table: npt.NDArray[Any]) -> Mask:
    """Which records have a name that a label may have. Source: MS, as fsck.fat reads it."""
    columns = name_columns(table)
    is_bad = _BAD_LABEL_BYTES[columns]
    is_bad[:, 0] &= columns[:, 0] != layout.MARK_KANJI_E5
    found: Mask = ~(is_bad.any(axis=1) | (columns[:, 0] == 0x20))
    return found


def possible_label(label: bytes) -> bytes:
    """A label with `_` for what no label has."""
    letters = bytes(ord("_") if _BAD_LABEL_BYTES[byte] else byte for byte in label)
    return letters if letters[0] != 0x20 else b"_" + letters[1:]


def reserved_bits(batch: Batch) -> Mask:
    """Files and folders with attribute bits that mean nothing."""
    parsed = batch.parsed
    is_odd = (parsed.table["attributes"] & _RESERVED_BITS) != 0
    is_odd |= (parsed.table["case_flags"] & NO_SHORT_NAME) != 0
    is_wrong: Mask = parsed.is_short & is_odd
    return is_wrong


def bad_dates(table: npt.NDArray[Any]) -> dict[str, Mask]:
    """Which of the three dates of each record cannot be; a date of 0 says that there is none."""
    created = _BAD_DAY[table["created_date"]] | _BAD_TIME[table["created_time"]]
    created |= table["created_10ms"] > 199
    return {
        "created_date": created & (table["created_date"] != 0),
        "accessed_date": _BAD_DAY[table["accessed_date"]] & (table["accessed_date"] != 0),
        "modified_date": (_BAD_DAY[table["modified_date"]] | _BAD_TIME[table["modified_time"]])
        & (table["modified_date"] != 0),
    }


def _bad_day(date: npt.NDArray[np.uint16]) -> Mask:
    year, month, day = (date >> 9) + 1980, date >> 5 & 0x0F, date & 0x1F
    is_leap = (year % 4 == 0) & (year != 2100)
    last = _DAYS[month] - ((month == 2) & ~is_leap)
    found: Mask = (day < 1) | (day > last)
    return found


def _bad_time(time: npt.NDArray[np.uint16]) -> Mask:
    found: Mask = (time >> 11 > 23) | (time >> 5 & 0x3F > 59) | (time & 0x1F > 29)
    return found


_BAD_DAY: Final = _bad_day(np.arange(1 << 16, dtype=np.uint16))
_BAD_TIME: Final = _bad_time(np.arange(1 << 16, dtype=np.uint16))
"""For each date and time that a record can have, whether it cannot be."""


def _dates(batch: Batch) -> Mask:
    parsed = batch.parsed
    at = np.flatnonzero(parsed.is_short)
    created, accessed, modified = bad_dates(parsed.table[at]).values()
    return _spread(parsed, at, created | accessed | modified)


# -- folders as a whole -----------------------------------------------------------------------


def wrong_dots(survey: Survey, batch: Batch) -> tuple[list[tuple[int, int]], Mask]:
    """`.` and `..` are the first two records of each folder but the root, and no others.

    Returns:
        Where that is not so: the place, counted as in `Records.place`, and 0 for `.` or 1 for `..`;
        and which records are a `.` or `..` too many.
    """
    parsed = batch.parsed
    places = survey.folders[batch.first_folder : batch.first_folder + len(batch.counts)]
    below = np.array([place.entry >= 0 and bool(place.pieces) for place in places], np.bool_)
    starts = np.array([place.start for place in places], np.int64)
    spots = (np.cumsum(batch.counts) - batch.counts)[below]
    expected = (starts[below], np.array([survey.above(place) for place in places])[below])
    wrong = []
    for index, short in enumerate((records.DOT, records.DOT_DOT)):
        is_right = _is_dot_at(parsed, spots + index, short, expected[index], survey.geometry)
        wrong += [(int(spot) + index, index) for spot in spots[~is_right]]
    is_extra = is_dot(parsed) & ~np.isin(parsed.place, np.concatenate((spots, spots + 1)))
    return wrong, is_extra


def _check_dots(survey: Survey, batch: Batch) -> Iterator[Finding]:
    wrong, is_extra = wrong_dots(survey, batch)
    for at, index in wrong[:TOLD_MAX]:
        where = shown(survey.folder_path(batch.folder_at(at)))
        text = f"record {index + 1} of {where} is not the {_DOTS[index]} of it"
        yield survey.finding("FAT013", text, int(batch.offsets[at]))
    text = "{folder} has a “{name}” where none belongs"
    yield from _tell(survey, batch, "FAT013", text, np.flatnonzero(is_extra))


def folders_at_fault(survey: Survey, batch: Batch) -> set[int]:
    """Index of each folder in whose records something is wrong."""
    parsed = batch.parsed
    is_wrong = parsed.is_orphan.copy()
    for rule in RULES:
        is_wrong |= rule.find(batch)
    dots, is_extra = wrong_dots(survey, batch)
    is_wrong |= is_extra
    is_wrong[[later for later, _ in samenames.duplicates(parsed, files(parsed))]] = True
    found = set(np.unique(batch.folder[is_wrong]).tolist())
    found |= set(batch.stale_folder.tolist())
    return found | {batch.folder_at(at) for at, _ in dots}


_DOTS: Final = ("“.”", "“..”")


def _is_dot_at(
    parsed: Records,
    spots: npt.NDArray[np.int64],
    short: bytes,
    clusters: npt.NDArray[np.int64],
    geometry: Geometry,
) -> Mask:
    """Whether the records at some places are folders of that name and first cluster."""
    if not parsed.end:
        return np.zeros(len(spots), np.bool_)
    at = np.minimum(np.searchsorted(parsed.place, spots), parsed.end - 1)
    rows = parsed.table[at]
    found: Mask = (parsed.place[at] == spots) & is_named(parsed, short)[at]
    found &= (rows["attributes"] & layout.ATTRIBUTE_FOLDER) != 0
    is_there: Mask = found & (records.first_clusters(rows, geometry.fat_bits) == clusters)
    return is_there


def _check_stale(survey: Survey, batch: Batch) -> Iterator[Finding]:
    """Records behind the end of a folder, which some systems show."""
    stale = batch.parsed.stale
    folders, first, counts = np.unique(batch.stale_folder, return_index=True, return_counts=True)
    for folder, index, count in zip(folders.tolist(), first.tolist(), counts.tolist(), strict=True):
        where = shown(survey.folder_path(folder))
        text = f"{count} records in {where} come after the mark of its end"
        yield survey.finding("FAT046", text, int(batch.offsets[stale[index]]))


def is_garbage(raw: bytes | bytearray, geometry: Geometry) -> bool:
    """Whether the clusters of a folder hold something else: neither `.` nor `..`, and nonsense."""
    if raw[:11] == records.DOT or raw[32:43] == records.DOT_DOT:
        return False
    return 2 * nonsense_count(raw, geometry) > used_count(raw) > 1


def used_count(raw: bytes | bytearray) -> int:
    """How many records are not free, those behind the end of the folder included."""
    heads = np.frombuffer(raw, np.uint8)[:: layout.ENTRY_BYTES]
    is_free = (heads == layout.MARK_END) | (heads == layout.MARK_DELETED)
    return int(np.count_nonzero(~is_free))


def nonsense_count(raw: bytes | bytearray, geometry: Geometry) -> int:
    """How many of the records that are not free cannot be records of a folder."""
    table = np.frombuffer(raw, records.ENTRY)
    heads = np.frombuffer(raw, np.uint8)[:: layout.ENTRY_BYTES]
    table = table[(heads != layout.MARK_END) & (heads != layout.MARK_DELETED)]
    attributes = table["attributes"]
    is_long = (attributes & layout.ATTRIBUTE_LONG_NAME_MASK) == layout.ATTRIBUTE_LONG_NAME
    longs = table.view(_LONG)
    ordinal = longs["ordinal"] & ~np.uint8(layout.LONG_LAST)
    bad_long_record = (longs["kind"] != 0) | (longs["cluster_low"] != 0)
    bad_long_record |= (ordinal == 0) | (ordinal > LONG_RECORDS_MAX)
    cluster = records.first_clusters(table, geometry.fat_bits)
    bad_short_record = ~valid_shorts(table) | ((attributes & _RESERVED_BITS) != 0)
    bad_short_record |= (cluster == 1) | (cluster >= geometry.entry_count)
    bad_short_record |= np.logical_or.reduce(list(bad_dates(table).values()))
    return int(np.count_nonzero(np.where(is_long, bad_long_record, bad_short_record)))


def places(survey: Survey) -> Iterator[Finding]:
    """What is wrong with folders as a whole, once all were looked at."""
    for number, place in enumerate(survey.folders):
        if place.is_garbage:
            row = survey.entries[place.entry]
            text = f"what “{survey.folder_path(number)}” names is no folder"
            yield survey.finding("FAT042", text, int(row["offset_bytes"]))
    for entry, other in again(survey).items():
        code, text = "FAT041", "the folder “{0}” is also “{1}”"
        if other in _above(survey, int(survey.entries["folder"][entry])):
            code, text = "FAT040", "the folder “{0}” is the folder “{1}”, which it is in"
        elif other < 0:
            text = "the folder “{0}” begins within another folder"
        second = survey.folder_path(other) if other > 0 else "/"
        at = int(survey.entries["offset_bytes"][entry])
        yield survey.finding(code, text.format(survey.path(entry), second), at)
    if not survey.is_complete:
        yield survey.finding("FAT021", "there are too many files and folders, or too deep ones", 0)


def again(survey: Survey) -> dict[int, int]:
    """Entries of folders that were not entered, because they had been by another entry.

    Returns:
        For each the index of the folder, or -1 where it begins amid one.
    """
    entries = survey.entries
    start = entries["start"]
    limit = min(survey.geometry.entry_count, survey.table.limit)
    is_left = entries["is_dir"] & (start >= layout.FIRST_CLUSTER) & (start < limit)
    entered = [place.entry for place in survey.folders if place.entry >= 0]
    is_left[entered] = False
    if not survey.is_complete:
        return {}
    return {
        entry: survey.folder_at.get(int(start[entry]), -1)
        for entry in np.flatnonzero(is_left)[:TOLD_MAX].tolist()
    }


def _above(survey: Survey, folder: int) -> set[int]:
    """A folder, and those that it is in."""
    found = set()
    while folder >= 0:
        found.add(folder)
        folder = survey.folders[folder].parent
    return found


RULES: Final = (
    Rule("FAT014", _bad_short, "“{name}” in {folder} has no valid short name"),
    Rule("FAT048", bad_long, "the long name of “{name}” in {folder} is none that can be used"),
    Rule("FAT049", _long_fields, "a long-name record in {folder} has fields that should be zero"),
    Rule("FAT043", _folder_size, "the folder “{name}” in {folder} has a length"),
    Rule("FAT044", bad_labels, "“{name}” in {folder} is marked as a label and cannot be one"),
    Rule("FAT044", reserved_bits, "“{name}” in {folder} has attributes that mean nothing"),
    Rule("FAT045", _dates, "“{name}” in {folder} has a date or time that cannot be"),
)
