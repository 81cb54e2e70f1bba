"""The chains of all files and folders: which are broken, too short, too long, shared or lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_storage.device import read
from ipva_storage.fat import chains, rejoining
from ipva_storage.fat.chains import End
from ipva_storage.fat.leftovers import Leftovers, dot_dot
from ipva_storage.fat.rejoining import Short
from ipva_storage.fat.survey import printable
from ipva_storage.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ipva_storage.fat.chains import ChainMap
    from ipva_storage.fat.survey import Survey

ROOT: Final = -1
"""Stands for FAT32's root folder, which has no entry."""
TOLD_MAX: Final = 10_000
"""Findings about chains that are told one by one. Confidence: chosen."""
HEADS_LOOKED_AT_MAX: Final = 4096
"""Orphan chains whose first cluster is read to see what they are. Confidence: chosen."""
_NAMED_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Owners:
    """Files and folders that own, or should own, a chain; one element each."""

    entry: npt.NDArray[np.int64]
    """Index among the entries of the survey, or `ROOT`."""
    start: npt.NDArray[np.int64]
    need: npt.NDArray[np.int64]
    """Clusters that the length of a file takes; 0 for a folder."""
    is_dir: npt.NDArray[np.bool_]


def owners_of(survey: Survey) -> Owners:
    """Everything that has a first cluster, and every folder."""
    entries = survey.entries
    at = np.flatnonzero((entries["start"] != 0) | entries["is_dir"])
    root = [survey.geometry.root_cluster] if survey.geometry.root_cluster else []
    fill = np.zeros(len(root), np.int64)
    need = -(-entries["content_bytes"][at] // survey.geometry.cluster_bytes)
    return Owners(
        entry=np.concatenate((fill + ROOT, at)),
        start=np.concatenate((np.array(root, np.int64), entries["start"][at])),
        need=np.concatenate((fill, need)),
        is_dir=np.concatenate((fill == 0, entries["is_dir"][at])),
    )


def suspects(owners: Owners, found: ChainMap) -> npt.NDArray[np.bool_]:
    """Which owners' chains are not as they should be."""
    good = (found.ends == End.GOOD) & (owners.is_dir | (found.lengths == owners.need))
    is_wrong: npt.NDArray[np.bool_] = ~good | found.is_shared
    return is_wrong


def findings(survey: Survey) -> Iterator[Finding]:
    """What is wrong with all chains."""
    values, geometry = survey.table.values, survey.geometry
    if chains.is_too_much(values):
        text = "the chains: there are too many clusters in use, or too many fragments"
        yield _table_finding(survey, "FAT021", text, geometry.fat_offset_bytes)
        return
    owners = owners_of(survey)
    found = chains.analyse(values, owners.start, geometry.fat_bits)
    lost = found.lost if survey.is_complete else found.lost[:0]
    orphans = chains.orphans(values, lost, geometry.fat_bits)
    joins = _joins(survey, owners, found, orphans)
    entries = survey.entries
    empty = (entries["start"] == 0) & ~entries["is_dir"] & (entries["content_bytes"] > 0)
    for entry in np.flatnonzero(empty)[:TOLD_MAX].tolist():
        text = "has content and no first cluster" + _joined(joins.get(entry))
        yield _finding(survey, entry, "FAT012", text)
    yield from _judge_all(survey, owners, found, joins)
    yield from _tell_lost(survey, lost, orphans)


def _judge_all(
    survey: Survey, owners: Owners, found: ChainMap, joins: dict[int, int]
) -> Iterator[Finding]:
    at = np.flatnonzero(suspects(owners, found))
    sharing = _Sharing(survey, owners, found)
    for index in at[:TOLD_MAX].tolist():
        entry = int(owners.entry[index])
        length, need = int(found.lengths[index]), int(owners.need[index])
        end, first = End(int(found.ends[index])), int(owners.start[index])
        if end in _END_TEXT:
            code, text = _END_TEXT[end]
            text = "has a chain that " + text.format(length=length, first=first)
            yield _finding(survey, entry, code, text + _joined(joins.get(entry)))
        elif not owners.is_dir[index] and length != need:
            code = "FAT007" if length < need else "FAT008"
            size = int(survey.entries["content_bytes"][entry])
            text = f"has {size} bytes, which take {need} clusters, and has {length}"
            yield _finding(survey, entry, code, text + _joined(joins.get(entry)))
        if found.is_shared[index]:
            yield _finding(survey, entry, "FAT010", sharing.text(index))
    if len(at) > TOLD_MAX:
        text = f"{len(at) - TOLD_MAX} more files and folders have wrong chains"
        yield _table_finding(survey, "FAT006", text, survey.geometry.fat_offset_bytes)


_END_TEXT: Final = {
    End.FREE: ("FAT006", "ends in a free cluster after {length} clusters"),
    End.BAD: ("FAT006", "ends in a cluster marked bad after {length} clusters"),
    End.OUTSIDE: ("FAT006", "points to a cluster that does not exist after {length} clusters"),
    End.RING: ("FAT009", "runs in a ring"),
    End.START: ("FAT012", "starts at cluster {first}, which is not in use"),
}


def _joined(head: int | None) -> str:
    return "" if head is None else f"; its rest is evidently the chain from cluster {head}"


class _Sharing:
    """Who shares clusters with whom, and from where on."""

    def __init__(self, survey: Survey, owners: Owners, found: ChainMap) -> None:
        self._survey, self._owners, self._found = survey, owners, found
        self._at: dict[int, list[int]] = {}
        for index in np.flatnonzero(found.is_shared).tolist():
            self._at.setdefault(int(found.meeting[index]), []).append(index)
        self._before: dict[int, list[int]] = {}
        for first, after in found.meetings_after.items():
            self._before.setdefault(after, []).append(first)

    def text(self, index: int) -> str:
        meeting = int(self._found.meeting[index])
        others = self._others(index, meeting)
        names = ", ".join(f"“{self._path(other)}”" for other in others[:_NAMED_MAX])
        more = " and others" if len(others) > _NAMED_MAX else ""
        return f"shares clusters from cluster {meeting} on with {names or 'others'}{more}"

    def _others(self, index: int, meeting: int) -> list[int]:
        """Some that pass through a meeting, too: those that meet there or met before it."""
        found: list[int] = []
        todo, seen = [meeting], {meeting}
        while todo and len(found) <= _NAMED_MAX + 1:
            spot = todo.pop()
            found += [other for other in self._at.get(spot, ()) if other != index][: _NAMED_MAX + 2]
            new = [before for before in self._before.get(spot, ()) if before not in seen]
            seen.update(new)
            todo += new
        return found

    def _path(self, index: int) -> str:
        entry = int(self._owners.entry[index])
        return "/" if entry == ROOT else self._survey.path(entry)


def _joins(
    survey: Survey, owners: Owners, found: ChainMap, orphans: chains.Orphans
) -> dict[int, int]:
    """Files that lack clusters, and the orphan chain that is evidently the rest of each."""
    if not len(orphans.heads):
        return {}
    short = np.flatnonzero(
        ~owners.is_dir & ~found.is_shared & (found.lengths < owners.need) & (found.ends != End.RING)
    )[:TOLD_MAX]
    files = [
        Short(
            int(owners.entry[index]),
            last_cluster(survey, int(owners.start[index])) if found.lengths[index] else 0,
            int(owners.need[index] - found.lengths[index]),
        )
        for index in short.tolist()
    ]
    entries = survey.entries
    empty = (entries["start"] == 0) & ~entries["is_dir"] & (entries["content_bytes"] > 0)
    for entry in np.flatnonzero(empty)[:TOLD_MAX].tolist():
        size = int(entries["content_bytes"][entry])
        files.append(Short(entry, 0, -(-size // survey.geometry.cluster_bytes)))
    return rejoining.match(files, whole_files(survey, orphans)) if files else {}


def last_cluster(survey: Survey, start: int) -> int:
    """The last cluster of a chain."""
    chain, _ = survey.table.follow(start)
    return chain[-1] if chain else 0


def whole_files(survey: Survey, orphans: chains.Orphans) -> dict[int, int]:
    """Orphan chains that may be the rest of a file: whole, and no folders."""
    heads = orphans.heads[orphans.is_whole][:HEADS_LOOKED_AT_MAX].tolist()
    lengths = orphans.lengths[orphans.is_whole][:HEADS_LOOKED_AT_MAX].tolist()
    pairs = zip(heads, lengths, strict=True)
    return {head: length for head, length in pairs if folder_above(survey, head) is None}


def folder_above(survey: Survey, cluster: int) -> int | None:
    """Where a cluster begins a folder, what its `..` says; else None."""
    return dot_dot(survey.device, survey.geometry, cluster)


def lost_folder(survey: Survey, heads: dict[int, int], entry: int) -> int | None:
    """The lost folder that an entry, whose own start is wrong, evidently named.

    It was in the same folder; where that is so for more than one, it was made at the same time.

    Args:
        survey: the folders.
        heads: clusters that begin lost folders, and what the `..` of each names.
        entry: of the folder that is missed.
    """
    row = survey.entries[entry]
    place = survey.folders[int(row["folder"])]
    above = 0 if place.start == survey.geometry.root_cluster else place.start
    fitting = [head for head, up in heads.items() if up == above]
    if len(fitting) > 1:
        born = _born(survey, int(row["offset_bytes"]))
        fitting = [
            head
            for head in fitting
            if _born(survey, survey.geometry.cluster_offset_bytes(head)) == born
        ]
    return fitting[0] if len(fitting) == 1 else None


def _born(survey: Survey, offset_bytes: int) -> bytes:
    """When the file or folder of a record was made, as it is kept."""
    return read(survey.device, offset_bytes + 13, 5)


def folder_heads(survey: Survey, lost: npt.NDArray[np.int32]) -> dict[int, int]:
    """The clusters that begin lost folders, and what the `..` of each names."""
    found = chains.orphans(survey.table.values, lost, survey.geometry.fat_bits)
    every = found.heads[:HEADS_LOOKED_AT_MAX].tolist()
    above = {head: folder_above(survey, head) for head in every}
    copies = leftovers_of(survey)
    return {head: up for head, up in above.items() if up is not None and not copies.has(head)}


def leftovers_of(survey: Survey) -> Leftovers:
    """What tells a lost folder from a copy that a growth which was cut left."""
    return Leftovers(survey.device, survey.geometry, survey.table)


def _tell_lost(
    survey: Survey, lost: npt.NDArray[np.int32], orphans: chains.Orphans
) -> Iterator[Finding]:
    if not len(lost):
        return
    offset_bytes = survey.geometry.cluster_offset_bytes(int(lost[0]))
    text = (
        f"{len(lost)} clusters in {max(len(orphans.heads), 1)} chains are in use and belong to no "
        f"file, the first is cluster {lost[0]}"
    )
    yield _table_finding(survey, "FAT011", text, offset_bytes)
    copies = leftovers_of(survey)
    for head in orphans.heads[:HEADS_LOOKED_AT_MAX].tolist():
        above = folder_above(survey, head)
        if above is None or copies.has(head):
            continue
        folder = survey.folder_at.get(above or survey.geometry.root_cluster)
        where = "" if folder is None else f", and was in “{survey.folder_path(folder) or '/'}”"
        text = f"a folder begins at cluster {head}, which nothing leads to{where}"
        offset_bytes = survey.geometry.cluster_offset_bytes(head)
        yield _table_finding(survey, "FAT050", text, offset_bytes)


def _finding(survey: Survey, entry: int, code: str, text: str) -> Finding:
    if entry == ROOT:
        return _table_finding(survey, code, f"the root folder {text}", 0)
    row = survey.entries[entry]
    return Finding(
        code,
        "folder" if row["is_dir"] else "file",
        printable(f"“{survey.path(entry)}” {text}"),
        where=survey.device.name,
        offset_bytes=int(row["offset_bytes"]),
    )


def _table_finding(survey: Survey, code: str, text: str, offset_bytes: int) -> Finding:
    return Finding(
        code, "table", printable(text), where=survey.device.name, offset_bytes=offset_bytes
    )
