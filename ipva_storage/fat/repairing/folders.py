"""The records of folders, as they should be.

What is sound stays as it is, byte by byte. What can be told from the rest is put right where it is;
what cannot gets a new name, or becomes free, and is told.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.fat import chains, clock, faults, judging, names, records, samenames
from ipva_storage.fat.folder import pack_entry
from ipva_storage.fat.judging import owners_of
from ipva_storage.fat.leftovers import dot_dot
from ipva_storage.fat.repairing.editor import (
    SIZE,
    FolderEditor,
    numbered,
    renamed_names,
    take_name,
)
from ipva_storage.fat.repairing.lost import Lost
from ipva_storage.fat.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import numpy.typing as npt

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.records import Records
    from ipva_storage.fat.repairing.draft import Draft
    from ipva_storage.fat.table import FatTable

_CHECKSUM_AT: Final = 13
_ATTRIBUTES_AT: Final = 11
_SIZE_AT: Final = 28
_FILE_BYTES_MAX: Final = 0xFFFFFFFF
ATTRIBUTES_ALLOWED: Final = 0x3F


def mend(draft: Draft, geometry: Geometry, table: FatTable) -> Iterator[Lost]:
    """Put the records of all folders right.

    Yields:
        What is lost by that: names, and folders that were none.
    """
    survey = surveyed(draft, geometry, table)
    if not survey.is_complete or chains.is_too_much(table.values):
        return
    is_lost = lost_clusters(survey)
    yield from _mend_repeated(draft, survey, np.flatnonzero(is_lost).astype(np.int32))
    yield from _make_files(draft, survey)
    for batch in survey.batches:
        for folder in sorted(faults.folders_at_fault(survey, batch)):
            pieces = survey.folders[folder].pieces
            editor = FolderEditor(draft, geometry, table, pieces, number=folder)
            yield from _FolderMender(survey, folder, editor, is_lost).mend()
            editor.write()


def surveyed(device: BlockDevice, geometry: Geometry, table: FatTable) -> Survey:
    """A survey of a volume, or of a draft of it."""
    survey = Survey(device, geometry, table)
    for _ in survey.walk():
        pass
    return survey


def lost_clusters(survey: Survey) -> npt.NDArray[np.bool_]:
    """Which clusters are in use and belong to nothing."""
    starts = owners_of(survey).start
    found = chains.analyse(survey.table.values, starts, survey.geometry.fat_bits)
    is_lost = np.zeros(len(survey.table), np.bool_)
    is_lost[found.lost] = True
    return is_lost


def _mend_repeated(draft: Draft, survey: Survey, lost: npt.NDArray[np.int32]) -> Iterator[Lost]:
    """Of two entries of one folder keep the one in the folder that its `..` names.

    The other gets the lost folder that it evidently named, or goes.
    """
    again = faults.again(survey)
    heads = judging.folder_heads(survey, lost) if again else {}
    for entry, other in again.items():
        loser, keeper = entry, survey.folders[other].entry if other >= 0 else -1
        start = int(survey.entries["start"][entry])
        if keeper >= 0 and _is_above(survey, start, entry) > _is_above(survey, start, keeper):
            loser, keeper = keeper, entry
        found = judging.lost_folder(survey, heads, loser)
        if found is not None:
            del heads[found]
            _point_at(draft, survey, loser, found)
            continue
        path = survey.path(loser)
        _drop(draft, survey, loser)
        kept = f", and is there as “{survey.path(keeper)}”" if keeper >= 0 else ""
        yield Lost(path, f"it was a folder that is elsewhere, too{kept}")


def _point_at(draft: Draft, survey: Survey, entry: int, cluster: int) -> None:
    """Let an entry start at a cluster."""
    at = int(survey.entries["offset_bytes"][entry])
    if survey.geometry.fat_bits == 32:
        draft.write(at + 20, (cluster >> 16).to_bytes(2, "little"))
    draft.write(at + 26, (cluster & 0xFFFF).to_bytes(2, "little"))


def _is_above(survey: Survey, start: int, entry: int) -> bool:
    """Whether an entry is in the folder that the `..` of what it names tells."""
    above = dot_dot(survey.device, survey.geometry, start)
    place = survey.folders[int(survey.entries["folder"][entry])]
    return above == (0 if place.start == survey.geometry.root_cluster else place.start)


def _drop(draft: Draft, survey: Survey, entry: int) -> None:
    """Mark the records of an entry free."""
    row = survey.entries[entry]
    batch = survey.batches[int(row["batch"])]
    record = int(row["record"])
    count = int(batch.parsed.long_count[record])
    for at in batch.offset_bytes[record - count : record + 1].tolist():
        draft.write(at, bytes([layout.MARK_DELETED]))


def _make_files(draft: Draft, survey: Survey) -> Iterator[Lost]:
    """Make a file of each folder whose clusters hold none, so that what is there is kept."""
    geometry = survey.geometry
    for place in survey.folders:
        if not place.is_garbage:
            continue
        row = survey.entries[place.entry]
        chain, _ = survey.table.follow(place.start)
        size = min(len(chain) * geometry.cluster_bytes, _FILE_BYTES_MAX)
        at = int(row["offset_bytes"])
        parsed = survey.batches[int(row["batch"])].parsed
        attributes = int(parsed.table["attributes"][int(row["record"])])
        attributes = attributes & ~layout.ATTRIBUTE_FOLDER | layout.ATTRIBUTE_ARCHIVE
        draft.write(at + _ATTRIBUTES_AT, bytes([attributes]))
        draft.write(at + _SIZE_AT, size.to_bytes(4, "little"))
        yield Lost(survey.path(place.entry), "it was no folder; what was there is kept as a file")


class _Present:
    """The names that a count has, without those that have come down to zero."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts

    def __contains__(self, name: object) -> bool:
        return self._counts[str(name)] > 0


class _FolderMender:
    """The repair of one folder's records, kind by kind; each looks at what the ones before left."""

    def __init__(
        self, survey: Survey, folder: int, editor: FolderEditor, is_lost: npt.NDArray[np.bool_]
    ) -> None:
        self._survey, self._editor, self._is_lost = survey, editor, is_lost
        self._place = survey.folders[folder]
        self._path = survey.folder_path(folder)
        self._bits = survey.geometry.fat_bits

    def mend(self) -> Iterator[Lost]:
        if self._place.entry >= 0:
            self._mend_dots()
        yield from self._mend_extra_dots()
        self._mend_stale()
        yield from self._mend_labels()
        self._mend_fields()
        yield from self._mend_long_names()
        yield from self._mend_short_names()
        yield from self._mend_duplicates()

    # -- dots ---------------------------------------------------------------------------------

    def _mend_dots(self) -> None:
        clusters = (self._place.start, self._survey.above(self._place))
        shorts = (records.DOT, records.DOT_DOT)
        for index, (short, cluster) in enumerate(zip(shorts, clusters, strict=True)):
            raw = self._editor.get(index)
            if raw[:11] == short:
                self._point(index, raw, cluster)
            elif self._make_way(index):
                self._editor.put(index, _dot_record(short, cluster))

    def _point(self, record: int, raw: bytes, cluster: int) -> None:
        """Let a `.` or `..` name its folder."""
        high = cluster >> 16 if self._bits == 32 else int.from_bytes(raw[20:22], "little")
        changed = bytearray(raw)
        changed[_ATTRIBUTES_AT] = (raw[_ATTRIBUTES_AT] & 0x27) | layout.ATTRIBUTE_FOLDER
        changed[20:22] = high.to_bytes(2, "little")
        changed[26:28] = (cluster & 0xFFFF).to_bytes(2, "little")
        changed[28:32] = bytes(4)
        self._editor.put(record, bytes(changed))

    def _make_way(self, record: int) -> bool:
        """Move the file whose records are where a dot belongs; whether it could be."""
        editor = self._editor
        parsed = editor.parsed
        for short in np.flatnonzero(parsed.is_short).tolist():
            first = short - int(parsed.long_count[short])
            if first <= record <= short and editor.get(short)[:11] not in _DOTS:
                data = editor.raw[first * SIZE : (short + 1) * SIZE]
                if editor.add(bytes(data)) is None:
                    return False
                editor.free(first, short + 1 - first)
        return True

    def _mend_extra_dots(self) -> Iterator[Lost]:
        """Mark what is named `.` or `..` and is none free; a file of that name gets another."""
        editor, parsed = self._editor, self._editor.parsed
        first = 2 if self._place.entry >= 0 else 0
        taken = editor.shorts()
        for record in np.flatnonzero(faults.is_dot(parsed)).tolist():
            if record < first:
                continue
            count = int(parsed.long_count[record])
            if self._owns_lost(parsed, record):
                yield from self._rename(parsed, record, "", take_name(renamed_names(), taken))
            else:
                editor.free(record - count, count + 1)

    def _owns_lost(self, parsed: Records, record: int) -> bool:
        """Whether a record leads to clusters that belong to nothing else."""
        start = int(records.first_clusters(parsed.table[record : record + 1], self._bits)[0])
        return self._survey.geometry.is_cluster(start) and bool(self._is_lost[start])

    # -- the end ------------------------------------------------------------------------------

    def _mend_stale(self) -> None:
        """Let what is behind the end count where it leads to lost clusters; else clear it."""
        editor = self._editor
        stale = editor.parsed.stale.tolist()
        if not stale:
            return
        if not self._is_cut_off(stale):
            for record in stale:
                editor.put(record, bytes(SIZE))
            return
        for record in range(editor.parsed.end, stale[-1]):
            if editor.get(record)[0] == layout.MARK_END:
                editor.patch(record, 0, bytes([layout.MARK_DELETED]))

    def _is_cut_off(self, stale: list[int]) -> bool:
        """Whether records behind the end are those of files that nothing else leads to."""
        raw = b"".join(self._editor.get(record) for record in stale)
        if faults.nonsense_count(raw, self._survey.geometry):
            return False
        parsed = records.parse(raw)
        at = np.flatnonzero(parsed.is_short & ~faults.is_dot(parsed))
        starts = records.first_clusters(parsed.table[at], self._bits)
        starts = starts[starts != 0]
        return len(starts) > 0 and bool(self._is_lost[starts].all())

    # -- fields -------------------------------------------------------------------------------

    def _mend_labels(self) -> Iterator[Lost]:
        """A label that is a file becomes one; others that cannot be become free."""
        editor = self._editor
        parsed = editor.parsed
        rows = parsed.table
        for record in np.flatnonzero(faults.bad_labels(editor.batch)).tolist():
            attributes = int(rows["attributes"][record])
            if self._owns_lost(parsed, record):
                attributes &= ATTRIBUTES_ALLOWED & ~layout.ATTRIBUTE_LABEL
                editor.patch(record, _ATTRIBUTES_AT, bytes([attributes]))
            elif self._is_only_label(parsed, record):
                raw = bytearray(editor.get(record))
                raw[:11] = faults.possible_label(bytes(raw[:11]))
                raw[_ATTRIBUTES_AT] = attributes & 0x2F
                raw[20:22], raw[26:32] = bytes(2), bytes(6)
                editor.put(record, bytes(raw))
            else:
                editor.free(record)
                name = names.show_short(rows["name"][record].tobytes())
                yield Lost(f"{self._path}/{name}", "it was a label where none belongs")

    def _is_only_label(self, parsed: Records, record: int) -> bool:
        at = np.flatnonzero(parsed.is_label)
        return self._place.entry < 0 and len(at) == 1 and int(at[0]) == record

    def _mend_fields(self) -> None:
        """Lengths of folders, bits that mean nothing, dates, and fields of long-name records."""
        editor = self._editor
        for record in np.flatnonzero(editor.parsed.is_short).tolist():
            raw = bytearray(editor.get(record))
            raw[_ATTRIBUTES_AT] &= ATTRIBUTES_ALLOWED
            raw[12] &= ~faults.NO_SHORT_NAME & 0xFF
            if raw[_ATTRIBUTES_AT] & layout.ATTRIBUTE_FOLDER:
                raw[_SIZE_AT:] = bytes(4)
            _mend_dates(raw)
            editor.put(record, bytes(raw))
        parsed = editor.parsed
        for record in np.flatnonzero(parsed.is_long & ~parsed.is_orphan).tolist():
            raw = bytearray(editor.get(record))
            raw[_ATTRIBUTES_AT], raw[12] = layout.ATTRIBUTE_LONG_NAME, 0
            raw[26:28] = bytes(2)
            editor.put(record, bytes(raw))

    # -- names --------------------------------------------------------------------------------

    def _mend_long_names(self) -> Iterator[Lost]:
        editor = self._editor
        for record, count in faults.loose_names(editor.parsed).items():
            total = bytes([names.checksum(editor.get(record)[:11])])
            for index in range(record - count, record):
                editor.patch(index, _CHECKSUM_AT, total)
        for record in np.flatnonzero(editor.parsed.is_orphan).tolist():
            editor.free(record)
        parsed = editor.parsed
        for record in np.flatnonzero(faults.bad_long(editor.batch)).tolist():
            name, short = _possible_name(parsed, record), editor.get(record)[:11]
            yield from self._rename(parsed, record, name, short)

    def _mend_short_names(self) -> Iterator[Lost]:
        """A file whose short name cannot be gets one from its long name, or a number."""
        parsed = self._editor.parsed
        wrong = parsed.is_short & ~faults.is_dot(parsed) & ~faults.valid_shorts(parsed.table)
        taken, candidates = self._editor.shorts(), renamed_names()
        for record in np.flatnonzero(wrong).tolist():
            name = _long_name(parsed, record)
            short = names.make_short(name, taken) if name else take_name(candidates, taken)
            taken.add(short)
            yield from self._rename(parsed, record, name, short)

    def _mend_duplicates(self) -> Iterator[Lost]:
        """The later of two files of one name gets another."""
        parsed = self._editor.parsed
        files = faults.files(parsed)
        pairs = samenames.duplicates(parsed, files)
        if not pairs:
            return
        keys = Counter(key for at in files.tolist() for key in samenames.keys_of(parsed, at))
        shorts = self._editor.shorts()
        for record, _ in pairs:
            keys.subtract(samenames.keys_of(parsed, record))
            taken = _Present(keys)
            name, short = _long_name(parsed, record), self._editor.get(record)[:11]
            shown = name or names.show_short(short)
            if name and names.fold(name) in taken:
                name = shown = numbered(name, taken)
            if samenames.short_key(short) in taken:
                short = names.make_short(shown, shorts)
            shorts.add(short)
            keys.update({samenames.short_key(short)} | ({names.fold(name)} if name else set()))
            yield from self._rename(parsed, record, name, short)

    def _rename(self, parsed: Records, record: int, name: str, short: bytes) -> Iterator[Lost]:
        """Rename a file, and tell what becomes of its name."""
        old = _long_name(parsed, record) or names.show_short(self._editor.get(record)[:11])
        is_whole = self._editor.rename(record, int(parsed.long_count[record]), name, short)
        new = name if name and is_whole else names.show_short(short)
        if new != old:
            yield Lost(f"{self._path}/{old}", f"its name could not stay, it is “{new}” now")


def _long_name(parsed: Records, record: int) -> str:
    count = int(parsed.long_count[record])
    units = records.name_units(parsed.table[record - count : record])
    return records.long_name(units, count, count) if count else ""


def _possible_name(parsed: Records, record: int) -> str:
    """The long name of a file, with `_` for what no name has; nothing where none is left."""
    count = int(parsed.long_count[record])
    units = records.name_units(parsed.table[record - count : record])[::-1].reshape(-1)
    text = units.astype("<u2").tobytes().decode("utf-16-le", "surrogatepass")
    text = text.rstrip("\uffff\0").replace("\0", "_")
    bad = names.RESERVED | {chr(code) for code in range(32)}
    text = "".join("_" if char in bad else char for char in text).rstrip(". ")
    is_short_enough = len(names.encode_long(text)) // 2 <= layout.LONG_NAME_UNITS_MAX
    return text if is_short_enough and count <= faults.LONG_RECORDS_MAX else ""


_DOTS: Final = (records.DOT, records.DOT_DOT)


def _dot_record(short: bytes, cluster: int) -> bytes:
    return pack_entry(
        short,
        attributes=layout.ATTRIBUTE_FOLDER,
        created=clock.EPOCH,
        modified=clock.EPOCH,
        cluster=cluster,
    )


def _mend_dates(raw: bytearray) -> None:
    """Give a record dates that can be: none where there need be none, else that of creation."""
    bad = faults.bad_dates(np.frombuffer(bytes(raw), records.ENTRY))
    if bad["created_date"][0]:
        raw[13:18] = bytes(5)
    if bad["accessed_date"][0]:
        raw[18:20] = bytes(2)
    if bad["modified_date"][0]:
        created = raw[14:18] if any(raw[16:18]) else _encoded(clock.EPOCH)
        raw[22:26] = created


def _encoded(moment: datetime) -> bytes:
    date, time, _ = clock.encode(moment)
    return time.to_bytes(2, "little") + date.to_bytes(2, "little")
