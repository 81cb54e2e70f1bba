"""What belongs to nothing: lost folders get back where they were, the rest becomes files.

A lost folder has its `..`, which tells where it was; a record there that was marked free may still
have its name. Everything else goes to files FSCKnnnn.REC in the root folder, as fsck.fat does it,
or in a folder FOUND.000 where a root folder of fixed length has no room for all. Chains of nothing
but zeros are freed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import is_zero, read
from ipva_storage.errors import NoSpaceError
from ipva_storage.fat import chains, clock, faults, judging, names, records, remains, samenames
from ipva_storage.fat.folder import pack_entry
from ipva_storage.fat.repairing.editor import (
    SIZE,
    FolderEditor,
    orphan_names,
    take_cluster,
    take_name,
)
from ipva_storage.fat.repairing.folders import lost_clusters
from ipva_storage.fat.repairing.lost import Recovered
from ipva_storage.fat.table import runs
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ipva_storage.fat.remains import Remains
    from ipva_storage.fat.repairing.draft import Draft
    from ipva_storage.fat.survey import Survey

FILES_MAX: Final = 65_000
"""Most files that are made of orphan chains, about what one folder holds. Confidence: chosen."""
_FILE_BYTES_MAX: Final = 0xFFFFFFFF
_FOUND: Final = b"FOUND   000"
_NEW: Final = -1
"""Stands for a folder that the survey does not know."""


# -- folders ----------------------------------------------------------------------------------


def attach_folders(draft: Draft, survey: Survey) -> Iterator[Recovered]:
    """Put lost folders back into the folders that they were in, with their names where known.

    Of lost folders within each other only the topmost: the others come with it.
    """
    lost = np.flatnonzero(lost_clusters(survey)).astype(np.int32)
    heads = judging.folder_heads(survey, lost)
    tops = {head: up for head, up in heads.items() if _is_known(survey, up)}
    if not tops:  # nothing known is above them: all that are not within another go to the root
        tops = {head: 0 for head, up in heads.items() if up not in heads} or dict.fromkeys(heads, 0)
    editors: dict[int, FolderEditor] = {}
    for head, up in tops.items():
        yield from _attach(draft, survey, editors, head, up)
    _write(draft, survey, editors)


def _write(draft: Draft, survey: Survey, editors: dict[int, FolderEditor]) -> None:
    """Write the table, and what it makes whole after it."""
    draft.step()
    survey.table.write()
    draft.step()
    for editor in editors.values():
        editor.write()


def _is_known(survey: Survey, above: int) -> bool:
    return above == 0 or above in survey.folder_at


def _attach(
    draft: Draft, survey: Survey, editors: dict[int, FolderEditor], head: int, above: int
) -> Iterator[Recovered]:
    first = survey.folder_at[above or survey.geometry.root_cluster]
    for folder in dict.fromkeys((first, 0)):
        editor = editors.setdefault(folder, _editor(draft, survey, folder))
        name = _revive(editor, survey, head) or _add_folder(draft, editor, survey, head)
        if name:
            _end_chain(survey, head)
            yield Recovered(f"{survey.folder_path(folder)}/{name}", 0)
            return


def _editor(draft: Draft, survey: Survey, folder: int) -> FolderEditor:
    pieces = survey.folders[folder].pieces
    return FolderEditor(draft, survey.geometry, survey.table, pieces, number=folder)


def _revive(editor: FolderEditor, survey: Survey, head: int) -> str:
    """Take the record that named a folder back, where it was marked free; its name."""
    for found in list(remains.find(editor.raw, survey.geometry.fat_bits)):
        if found.is_dir and found.first_cluster == head and (name := _take_back(editor, found)):
            return name
    return ""


def _take_back(editor: FolderEditor, found: Remains) -> str:
    """Let a deleted record count again; its name, or nothing where that is taken."""
    parsed = editor.parsed
    keys = (samenames.keys_of(parsed, at) for at in faults.files(parsed).tolist())
    named = found.named(set[str]().union(*keys), editor.shorts())
    if named is None:
        return ""
    editor.put(named.first_record, named.live)
    return named.name


def _add_folder(draft: Draft, editor: FolderEditor, survey: Survey, head: int) -> str:
    short = take_name(orphan_names(b""), editor.shorts())
    dot = read(draft, survey.geometry.cluster_offset_bytes(head), SIZE)
    record = bytearray(short + dot[11:])
    record[11] = layout.ATTRIBUTE_FOLDER
    record[28:32] = bytes(4)
    return "" if editor.add(bytes(record)) is None else names.show_short(short)


def _end_chain(survey: Survey, head: int) -> None:
    """End the chain of a lost folder where it leads to what is none of its own."""
    table = survey.table
    chain, fault = table.follow(head, limit=len(table))
    if fault is not None:
        table.put(chain[-1], table.end)


# -- files ------------------------------------------------------------------------------------


def make_files(draft: Draft, survey: Survey) -> Iterator[Recovered]:
    """Make a file of each chain that belongs to nothing.

    One that is all zero is freed, and so is a copy of a folder that a growth which was cut left.
    """
    kept: list[list[int]] = []
    copies = judging.leftovers_of(survey)
    for chain in _chains(survey):
        is_folder = judging.folder_above(survey, chain[0]) is not None
        if _is_zero(draft, survey, chain) or (is_folder and copies.has(chain[0])):
            survey.table.release(chain)
        elif len(kept) < FILES_MAX:
            kept.append(chain)
    table = survey.table
    for chain in kept:
        if not table.is_end(table[chain[-1]]):
            table.put(chain[-1], table.end)
    editors: dict[int, FolderEditor] = {}
    by_head = {chain[0]: chain for chain in kept}
    yield from _revive_files(draft, survey, editors, by_head)
    if by_head:
        yield from _name(draft, survey, editors, list(by_head.values()))
    _write(draft, survey, editors)


def _revive_files(
    draft: Draft,
    survey: Survey,
    editors: dict[int, FolderEditor],
    by_head: dict[int, list[int]],
) -> Iterator[Recovered]:
    """Take records back that were marked free and name a chain of just their length."""
    size = survey.geometry.cluster_bytes
    for folder in sorted(_folders_with_remains(survey, by_head)):
        editor = editors.setdefault(folder, _editor(draft, survey, folder))
        for found in list(remains.find(editor.raw, survey.geometry.fat_bits)):
            chain = by_head.get(found.first_cluster, [])
            is_its = not found.is_dir and len(chain) == -(-found.content_bytes // size) > 0
            name = _take_back(editor, found) if is_its else ""
            if name:
                del by_head[found.first_cluster]
                yield Recovered(f"{survey.folder_path(folder)}/{name}", found.content_bytes)


def _folders_with_remains(survey: Survey, by_head: dict[int, list[int]]) -> set[int]:
    """The folders in which a record that is marked free names one of some clusters."""
    wanted = np.array(list(by_head), np.int64)
    found: set[int] = set()
    for batch in survey.batches:
        table = batch.parsed.table
        is_free = table.view(records.LONG)["ordinal"] == layout.MARK_DELETED
        named = records.first_clusters(table, survey.geometry.fat_bits)
        found |= set(batch.folder[is_free & np.isin(named, wanted)].tolist())
    return found


def _chains(survey: Survey) -> Iterator[list[int]]:
    """The chains that lost clusters make, each cluster in one; what is no chain becomes free."""
    is_lost = lost_clusters(survey)
    table = survey.table
    lost = np.flatnonzero(is_lost).astype(np.int32)
    heads = chains.orphans(table.values, lost, survey.geometry.fat_bits).heads.tolist()
    left = bytearray(is_lost.view(np.uint8).tobytes())
    most = -(-_FILE_BYTES_MAX // survey.geometry.cluster_bytes)
    view = table.values.data
    for first in [*heads, *lost.tolist()]:
        at, chain = first, list[int]()
        while 0 <= at < len(left) and left[at] and len(chain) < most:
            left[at] = 0
            if at < table.limit:
                chain.append(at)
            else:
                table.put(at, 0)
            at = view[at]
        if chain:
            yield chain


def _is_zero(draft: Draft, survey: Survey, chain: list[int]) -> bool:
    size = survey.geometry.cluster_bytes
    for first, count in runs(chain):
        at = survey.geometry.cluster_offset_bytes(first)
        for start in range(0, count * size, MIB):
            if not is_zero(read(draft, at + start, min(MIB, count * size - start))):
                return False
    return True


def _name(
    draft: Draft, survey: Survey, editors: dict[int, FolderEditor], kept: list[list[int]]
) -> Iterator[Recovered]:
    """Put the records of new files into the root folder, or into FOUND.000."""
    root = editor = editors.setdefault(0, _editor(draft, survey, 0))
    path = ""
    if _free_count(root) < len(kept) and not survey.geometry.root_cluster:
        found = _found_folder(draft, survey, root)
        if found is not None:
            editors[_NEW] = editor = found
            path = "/FOUND.000"
    taken, candidates, moment = editor.shorts(), orphan_names(), clock.now()
    shorts = [take_name(candidates, taken) for _ in kept]
    sizes = [min(len(chain) * survey.geometry.cluster_bytes, _FILE_BYTES_MAX) for chain in kept]
    new = [
        _file_record(short, chain[0], size, moment)
        for short, chain, size in zip(shorts, kept, sizes, strict=True)
    ]
    done = editor.add_each(new)
    for short, size in list(zip(shorts, sizes, strict=True))[:done]:
        yield Recovered(f"{path}/{names.show_short(short)}", size)


def _free_count(editor: FolderEditor) -> int:
    heads = np.frombuffer(bytes(editor.raw), np.uint8)[::SIZE]
    is_free = (heads == layout.MARK_DELETED) | (np.arange(len(heads)) >= editor.parsed.end)
    return int(np.count_nonzero(is_free))


def _file_record(short: bytes, first: int, content_bytes: int, moment: datetime) -> bytes:
    return pack_entry(
        short,
        attributes=layout.ATTRIBUTE_ARCHIVE,
        created=moment,
        modified=moment,
        cluster=first,
        content_bytes=content_bytes,
    )


def _found_folder(draft: Draft, survey: Survey, root: FolderEditor) -> FolderEditor | None:
    """A new folder FOUND.000 in the root, or the one that an earlier repair made."""
    parsed, geometry = root.parsed, survey.geometry
    at = np.flatnonzero(faults.is_named(parsed, _FOUND))
    if len(at):
        start = int(records.first_clusters(parsed.table[at], geometry.fat_bits)[0])
        folder = survey.folder_at.get(start)
        return None if folder is None else _editor(draft, survey, folder)
    try:
        cluster = take_cluster(survey.table)
    except NoSpaceError:
        return None
    moment = clock.now()
    content = b"".join(
        _folder_record(short, number, moment)
        for short, number in ((records.DOT, cluster), (records.DOT_DOT, 0))
    )
    offset_bytes = geometry.cluster_offset_bytes(cluster)
    draft.write(offset_bytes, content.ljust(geometry.cluster_bytes, b"\0"))
    if root.add(_folder_record(_FOUND, cluster, moment)) is None:
        survey.table.release([cluster])
        return None
    pieces = [(offset_bytes, geometry.cluster_bytes)]
    return FolderEditor(draft, geometry, survey.table, pieces, number=_NEW)


def _folder_record(short: bytes, cluster: int, moment: datetime) -> bytes:
    return pack_entry(
        short,
        attributes=layout.ATTRIBUTE_FOLDER,
        created=moment,
        modified=moment,
        cluster=cluster,
    )
