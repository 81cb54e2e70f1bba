"""What each broken chain keeps, and where its rest is taken from.

Invariants:

1. No cluster of a sound chain is taken or changed.
2. A cluster is given to one owner only.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.errors import DeviceError, NoSpaceError
from ipva_storage.fat import chains, judging, rejoining
from ipva_storage.fat.chains import End
from ipva_storage.fat.geometry import RECORDS_MAX
from ipva_storage.fat.judging import ROOT
from ipva_storage.fat.rejoining import Short
from ipva_storage.fat.repairing.lost import Lost
from ipva_storage.fat.table import FREE, runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.fat.chains import ChainMap
    from ipva_storage.fat.judging import Owners
    from ipva_storage.fat.repairing.draft import Draft
    from ipva_storage.fat.survey import Survey

_STEPS_MAX: Final = 4_000_000
"""Links of shared chains that are followed, for who lies in one piece and for copies. Chosen."""
_CLUSTER_HIGH_AT: Final = 20
_CLUSTER_LOW_AT: Final = 26


@dataclass(slots=True)
class _Part:
    """A file or folder whose chain is to be mended."""

    index: int
    """Among the owners."""
    entry: int
    start: int
    need: int
    """Clusters that it should have; for a folder the most it may have."""
    is_dir: bool
    chain: list[int] = field(default_factory=list)
    """The clusters that it keeps or gets."""
    stop: int = FREE
    """Where its last link led, when that is not the end of a chain."""
    is_ended: bool = False
    """Whether its chain ends as it should, or it has all that it needs."""

    @property
    def missing_count(self) -> int:
        """Clusters that it lacks; a folder lacks none that is known of."""
        return 0 if self.is_dir else self.need - len(self.chain)


class ChainMender:
    """The repair of all chains of a survey."""

    def __init__(self, draft: Draft, survey: Survey) -> None:
        """Look at all chains."""
        self._draft, self._survey = draft, survey
        self._geometry, self._table = survey.geometry, survey.table
        self._before = self._table.values.copy()
        """The table as it was."""
        self._links = self._before.data
        self._owners = judging.owners_of(survey)
        self._found = chains.analyse(self._before, self._owners.start, self._geometry.fat_bits)
        self._is_taken = self._taken_by_sound(self._owners, self._found)
        self._heads: dict[int, int] | None = None
        self._writes: list[tuple[int, bytes]] = []
        self._fresh_at = 0
        """How many of the free clusters were given away, or looked at."""
        self._steps_left = _STEPS_MAX

    def mend(self) -> Iterator[Lost]:
        """Give every chain what is its own, and tell what is lost.

        The table is changed in memory; records follow with `write_records`, once it is durable.
        """
        parts = [*self._parts(), *self._empty_files()]
        for part in parts:
            self._keep(part)
        self._rejoin(parts)
        for part in parts:
            if not part.is_dir and part.missing_count:
                yield from self._complete(part)
        for part in parts:
            yield from self._settle(part)

    def write_records(self) -> None:
        """Write first clusters and lengths, and free the records of what has nothing left."""
        for at, data in self._writes:
            self._draft.write(at, data)

    # -- what each keeps ----------------------------------------------------------------------

    def _taken_by_sound(self, owners: Owners, found: ChainMap) -> bytearray:
        """Which clusters belong to chains that are as they should be."""
        sound = owners.start[~judging.suspects(owners, found)]
        again = chains.analyse(self._before, sound, self._geometry.fat_bits)
        taken = (self._before != FREE) & (self._before != self._table.bad)
        taken[: layout.FIRST_CLUSTER] = False
        taken[again.lost] = False
        return bytearray(taken.view(np.uint8).tobytes())

    def _parts(self) -> list[_Part]:
        """What is to be mended, who has the better claim first.

        Folders come before files, then who fits its length, then who lies in fewer pieces.
        """
        owners, found = self._owners, self._found
        records = RECORDS_MAX * layout.ENTRY_BYTES // self._geometry.cluster_bytes
        ranked = []
        steps_left = _STEPS_MAX
        for index in np.flatnonzero(judging.suspects(owners, found)).tolist():
            is_dir = bool(owners.is_dir[index])
            need = max(records, 1) if is_dir else int(owners.need[index])
            entry, start = int(owners.entry[index]), int(owners.start[index])
            fits = found.ends[index] == End.GOOD and (is_dir or found.lengths[index] == need)
            pieces = 0
            if found.is_shared[index] and steps_left > 0:
                chain, _ = self._table.follow(start, limit=min(need, steps_left))
                pieces, steps_left = len(runs(chain)), steps_left - len(chain)
            part = _Part(index, entry, start, need, is_dir)
            ranked.append(((entry != ROOT, not is_dir, not fits, pieces, index), part))
        return [part for _, part in sorted(ranked, key=lambda pair: pair[0])]

    def _empty_files(self) -> list[_Part]:
        """Files that have a length and no first cluster."""
        entries = self._survey.entries
        is_empty = (entries["start"] == 0) & ~entries["is_dir"] & (entries["content_bytes"] > 0)
        need = -(-entries["content_bytes"] // self._geometry.cluster_bytes)
        return [
            _Part(-1, entry, 0, int(need[entry]), is_dir=False)
            for entry in np.flatnonzero(is_empty).tolist()
        ]

    def _is_usable(self, cluster: int) -> bool:
        return layout.FIRST_CLUSTER <= cluster < min(self._table.limit, len(self._before))

    def _keep(self, part: _Part) -> None:
        """Follow a chain up to its first wrong link, and take what is there."""
        at = part.start
        while len(part.chain) < part.need:
            if not self._is_usable(at) or self._is_taken[at]:
                break
            value = self._links[at]
            is_own_root = part.entry == ROOT and not part.chain
            if value in (FREE, self._table.bad) and not (is_own_root or self._is_folder(part, at)):
                break
            self._is_taken[at] = 1
            part.chain.append(at)
            at = value
            if self._table.is_end(value) or value in (FREE, self._table.bad):
                part.is_ended = True
                break
        part.stop = at
        part.is_ended |= len(part.chain) == part.need

    def _is_folder(self, part: _Part, cluster: int) -> bool:
        """Whether a free or bad cluster is the first of the folder that should start there."""
        is_start = part.is_dir and cluster == part.start
        return is_start and judging.folder_above(self._survey, cluster) is not None

    # -- where the rest comes from ------------------------------------------------------------

    def _rejoin(self, parts: list[_Part]) -> None:
        """Give files that lack clusters the orphan chains that evidently are their rests."""
        in_use = (self._before != FREE) & (self._before != self._table.bad)
        in_use[: layout.FIRST_CLUSTER] = False
        is_lost = in_use & (np.frombuffer(self._is_taken, np.uint8) == 0)
        lost = np.flatnonzero(is_lost).astype(np.int32)
        found = chains.orphans(self._before, lost, self._geometry.fat_bits)
        whole = judging.whole_files(self._survey, found)
        shorts = [
            Short(at, part.chain[-1] if part.chain else 0, part.missing_count)
            for at, part in enumerate(parts)
            if part.missing_count > 0
        ]
        for at, head in rejoining.match(shorts, whole).items():
            self._append(parts[at], self._follow(head, whole[head])[0])

    def _append(self, part: _Part, clusters: list[int]) -> None:
        for cluster in clusters:
            self._is_taken[cluster] = 1
        part.chain += clusters

    def _follow(self, first: int, limit: int) -> tuple[list[int], int]:
        """Clusters of the table as it was from one on, and where the last one led."""
        found: list[int] = []
        seen: set[int] = set()
        at = first
        while len(found) < limit and self._is_usable(at) and at not in seen:
            if self._links[at] in (FREE, self._table.bad):
                break
            seen.add(at)
            found.append(at)
            at = self._links[at]
        return found, at

    def _complete(self, part: _Part) -> Iterator[Lost]:
        """Copy what a file shares, or take the free clusters that it led to."""
        if not self._is_usable(part.stop):
            return
        if self._is_taken[part.stop] and part.stop not in part.chain:
            self._copy_shared(part)
        elif self._is_empty(part.stop) and not part.is_ended:
            had = len(part.chain)
            clusters, is_guess = self._free_run(part.stop, part.missing_count)
            self._append(part, self._off_bad(clusters))
            if is_guess:
                text = f"clusters {had + 1} to {part.need} are a guess: its chain led to free ones"
                yield Lost(self._survey.path(part.entry), text)

    def _is_empty(self, cluster: int) -> bool:
        return self._links[cluster] in (FREE, self._table.bad)

    def _off_bad(self, clusters: list[int]) -> list[int]:
        """The same clusters, with a copy of each that is marked bad; nothing without room."""
        bad = [cluster for cluster in clusters if self._links[cluster] == self._table.bad]
        for cluster in clusters:
            self._is_taken[cluster] = 1
        copies = dict(zip(bad, self._copied(bad), strict=False))
        is_whole = len(copies) == len(bad)
        return [copies.get(cluster, cluster) for cluster in clusters] if is_whole else []

    def _copy_shared(self, part: _Part) -> None:
        """Give a file a copy of the clusters that another one keeps, if there is room for all."""
        room = min(len(self._free_clusters) - self._fresh_at, self._steps_left)
        shared, _ = self._follow(part.stop, min(part.missing_count, room + 1))
        self._steps_left -= len(shared)
        if len(shared) <= room:
            self._append(part, self._copied(shared))

    def _copied(self, clusters: list[int]) -> list[int]:
        """Copies of clusters; nothing where there is no room for all, or they cannot be read."""
        try:
            copies = self._fresh(len(clusters))
            size = self._geometry.cluster_bytes
            for source, target in zip(clusters, copies, strict=True):
                data = read(self._draft, self._geometry.cluster_offset_bytes(source), size)
                self._draft.write(self._geometry.cluster_offset_bytes(target), data)
        except (NoSpaceError, DeviceError):
            return []
        return copies

    @functools.cached_property
    def _free_clusters(self) -> list[int]:
        """The free clusters, those behind all that are in use first."""
        values = self._before[: self._table.limit]
        free = np.flatnonzero(values == FREE)
        free = free[free >= layout.FIRST_CLUSTER]
        used = np.flatnonzero(values)
        first = int(np.searchsorted(free, used[-1])) if len(used) else 0
        found: list[int] = np.roll(free, -first).tolist()
        return found

    def _fresh(self, count: int) -> list[int]:
        """Free clusters that no part has got.

        Raises:
            NoSpaceError: there are too few.
        """
        found: list[int] = []
        while len(found) < count:
            if self._fresh_at == len(self._free_clusters):
                raise NoSpaceError("there is no room for a copy")
            cluster = self._free_clusters[self._fresh_at]
            self._fresh_at += 1
            if not self._is_taken[cluster]:
                found.append(cluster)
        return found

    def _free_run(self, first: int, count: int) -> tuple[list[int], bool]:
        """So many free neighbours from a cluster on, and whether they are a guess; or none.

        A chain whose links were wiped goes on behind them, in an orphan chain of the right length:
        then it is no guess.
        """
        found: list[int] = []
        at = first
        while len(found) < count and self._is_usable(at) and not self._is_taken[at]:
            if self._is_empty(at):
                found.append(at)
                at += 1
                continue
            rest, stop = self._follow(at, count - len(found))
            is_exact = len(found) + len(rest) == count and self._table.is_end(stop)
            is_free = not any(self._is_taken[cluster] for cluster in rest)
            return (found + rest if is_exact and is_free else []), False
        return (found, True) if len(found) == count else ([], False)

    # -- writing ------------------------------------------------------------------------------

    def _settle(self, part: _Part) -> Iterator[Lost]:
        """Write the chain, the first cluster and the length of a file or folder."""
        if part.entry == ROOT and not part.chain:
            return
        for cluster, following in zip(part.chain, part.chain[1:], strict=False):
            self._table.put(cluster, following)
        if part.chain and not self._table.is_end(self._table[part.chain[-1]]):
            self._table.put(part.chain[-1], self._table.end)
        if part.entry == ROOT:
            return
        if part.is_dir:
            yield from self._settle_folder(part)
            return
        first = part.chain[0] if part.chain else 0
        size = int(self._survey.entries["content_bytes"][part.entry])
        length = min(size, len(part.chain) * self._geometry.cluster_bytes)
        if length < size:
            path = self._survey.path(part.entry)
            yield Lost(path, f"bytes {length} to {size} are lost, it ends there now")
        self._write_record(part.entry, first, length)

    def _settle_folder(self, part: _Part) -> Iterator[Lost]:
        """A folder of which nothing is left is found again, or its entry goes."""
        if part.chain:
            return
        found = self._lost_folder(part)
        if found is not None:
            self._write_record(part.entry, found, 0)
            return
        yield Lost(self._survey.path(part.entry), "where the folder starts is not known any more")
        row = self._survey.entries[part.entry]
        batch = self._survey.batches[int(row["batch"])]
        record = int(row["record"])
        first = record - int(batch.parsed.long_count[record])
        for at in batch.offset_bytes[first : record + 1].tolist():
            self._writes.append((at, bytes([layout.MARK_DELETED])))

    def _lost_folder(self, part: _Part) -> int | None:
        """The lost folder that an entry without one evidently named, taken for it."""
        if self._heads is None:
            in_use = (self._before != FREE) & (self._before != self._table.bad)
            in_use[: layout.FIRST_CLUSTER] = False
            is_lost = in_use & (np.frombuffer(self._is_taken, np.uint8) == 0)
            lost = np.flatnonzero(is_lost).astype(np.int32)
            self._heads = judging.folder_heads(self._survey, lost)
        found = judging.lost_folder(self._survey, self._heads, part.entry)
        if found is not None:
            del self._heads[found]
        return found

    def _write_record(self, entry: int, first: int, content_bytes: int) -> None:
        at = int(self._survey.entries["offset_bytes"][entry])
        raw = bytearray(read(self._draft, at, layout.ENTRY_BYTES))
        if self._geometry.fat_bits == 32:
            raw[_CLUSTER_HIGH_AT : _CLUSTER_HIGH_AT + 2] = (first >> 16).to_bytes(2, "little")
        raw[_CLUSTER_LOW_AT : _CLUSTER_LOW_AT + 2] = (first & 0xFFFF).to_bytes(2, "little")
        raw[28:32] = content_bytes.to_bytes(4, "little")
        self._writes.append((at, bytes(raw)))
