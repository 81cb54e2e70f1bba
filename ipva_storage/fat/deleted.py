"""Deleted files and folders: what there was, and how much of each can be had.

A deleted record still has the first cluster and the length; the links between clusters are gone.
Where as many free clusters as the length takes follow the first one, these are taken for the
content. Where other files have some of them, those are left out, which is a guess and is called
so. Where the first cluster is in use, nothing is left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.errors import FatError, FatNotFoundError
from ipva_storage.fat import faults, geometry, names, records, remains
from ipva_storage.fat.geometry import RECORDS_MAX
from ipva_storage.fat.records import FatEntry
from ipva_storage.fat.table import FREE, FatTable, runs
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.remains import Remains


STARTS_MAX: Final = 32
"""Most clusters that are tried as the first one where half of its number is lost. Chosen."""
_Content: TypeAlias = "tuple[int, State, str, list[int]]"


class State(StrEnum):
    """How much of a deleted file can be had."""

    WHOLE = "whole"
    """Its clusters are free and next to each other."""
    GUESS = "guess"
    """Some of its clusters may be others: files that are there now are in between."""
    LOST = "lost"
    """Its clusters are in use, or not known."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """A deleted file or folder."""

    path: str
    entry: FatEntry
    """As it was; `?` stands for the first letter of a short name that nothing tells."""
    state: State
    reason: str
    """Why it is no more than a guess, or lost; nothing where it is whole."""
    chain: tuple[int, ...] = field(repr=False)
    """The clusters that are taken for its content."""
    remains: Remains = field(repr=False)


@dataclass(slots=True)
class Place:
    """A folder, there or deleted."""

    path: str
    """Empty for the root folder."""
    start: int
    """Its first cluster; 0 for a root folder that has none."""
    pieces: list[tuple[int, int]]
    """Where it is: offset and length of each piece, in bytes."""
    is_deleted: bool


class DeletedFiles:
    """What was deleted on a volume."""

    def __init__(self, device: BlockDevice, *, code_page: str = names.CODE_PAGE) -> None:
        """Look at a volume; it is only read.

        Raises:
            FatError: it is no FAT volume.
        """
        self._device = device
        self._code_page = code_page
        self._geometry = geometry.parse(device)
        self._table = FatTable(device, self._geometry)
        root = self._geometry.root_cluster
        self._root = Place("", root, self._pieces(root), is_deleted=False)

    def in_folder(self, path: str = "/") -> list[Deleted]:
        """The deleted files and folders of a folder, which may be deleted itself.

        Raises:
            FatNotFoundError: there is and was no such folder.
        """
        return list(self.of(self.folder(path)))

    def within(self, deleted: Deleted) -> list[Deleted]:
        """What was in a deleted folder."""
        pieces = self._pieces_of(list(deleted.chain))
        return list(
            self.of(Place(deleted.path, deleted.entry.first_cluster, pieces, is_deleted=True))
        )

    def find(self, path: str) -> Deleted:
        """A deleted file or folder; of several of that name, the one of which most can be had.

        Raises:
            FatNotFoundError: none of that name was deleted.
        """
        above, _, name = path.rstrip("/").rpartition("/")
        order = [State.WHOLE, State.GUESS, State.LOST]
        found = [one for one in self.of(self.folder(above)) if _is_named(one, name)]
        if not found:
            raise FatNotFoundError(
                f"nothing called “{path}” was deleted",
                where=self._device.name,
                remedy="list what was with: ipva fs ls --deleted",
            )
        return min(found, key=lambda one: order.index(one.state))

    def read_chunks(self, deleted: Deleted) -> Iterator[bytes]:
        """The content of a deleted file, in pieces of at most 1 MiB.

        Raises:
            FatError: it is lost.
        """
        self.refuse_lost(deleted)
        left = deleted.entry.size_bytes
        for first, count in runs(deleted.chain):
            at = self._geometry.cluster_offset_bytes(first)
            stop = at + min(left, count * self._geometry.cluster_bytes)
            left -= stop - at
            while at < stop:
                yield read(self._device, at, min(MIB, stop - at))
                at += MIB

    def refuse_lost(self, deleted: Deleted) -> None:
        """Refuse what cannot be had.

        Raises:
            FatError: it is lost; the text says why.
        """
        if deleted.state is State.LOST:
            raise FatError(
                f"“{deleted.path}” cannot be had any more: {deleted.reason}",
                where=self._device.name,
            )

    # -- folders ------------------------------------------------------------------------------

    def folder(self, path: str) -> Place:
        """A folder that is there or was deleted.

        Raises:
            FatNotFoundError: there is and was none.
        """
        found = self._root
        for part in [part for part in path.split("/") if part]:
            below = self._live_folder(found, part) or self._deleted_folder(found, part)
            if below is None:
                raise FatNotFoundError(f"there is no “{path}”", where=self._device.name)
            found = below
        return found

    def _live_folder(self, folder: Place, name: str) -> Place | None:
        key = names.fold(name)
        for entry in self._entries(folder):
            is_it = key in (names.fold(entry.name), names.fold(entry.short_name))
            if is_it and entry.is_dir:
                start = entry.first_cluster or self._geometry.root_cluster
                pieces = self._deleted_pieces(start) if folder.is_deleted else self._pieces(start)
                return Place(f"{folder.path}/{entry.name}", start, pieces, folder.is_deleted)
        return None

    def _deleted_folder(self, folder: Place, name: str) -> Place | None:
        for one in self.of(folder):
            if _is_named(one, name) and one.entry.is_dir and one.state is not State.LOST:
                pieces = self._pieces_of(list(one.chain))
                return Place(one.path, one.entry.first_cluster, pieces, is_deleted=True)
        return None

    def _entries(self, folder: Place) -> list[FatEntry]:
        """What is not deleted in a folder."""
        parsed = records.parse(self._raw(folder))
        is_fat32 = self._geometry.fat_bits == 32
        every = records.slots(parsed, is_fat32=is_fat32, code_page=self._code_page)
        return [slot.entry for slot in every]

    def _raw(self, folder: Place) -> bytes:
        """The records of a folder."""
        return b"".join(read(self._device, at, size) for at, size in folder.pieces)

    def _pieces(self, start: int) -> list[tuple[int, int]]:
        """Where a folder that is there is."""
        if not start:
            size = self._geometry.root_entry_count * layout.ENTRY_BYTES
            return [(self._geometry.root_offset_bytes, size)]
        chain, _ = self._table.follow(start, limit=self._clusters_max)
        return self._pieces_of([cluster for cluster in chain if cluster < self._table.limit])

    def _pieces_of(self, chain: list[int]) -> list[tuple[int, int]]:
        size = self._geometry.cluster_bytes
        return [
            (self._geometry.cluster_offset_bytes(first), count * size)
            for first, count in runs(chain)
        ]

    @property
    def _clusters_max(self) -> int:
        return -(-RECORDS_MAX * layout.ENTRY_BYTES // self._geometry.cluster_bytes)

    def _deleted_pieces(self, start: int) -> list[tuple[int, int]]:
        return self._pieces_of(self._folder_chain(start))

    # -- what is left of each -----------------------------------------------------------------

    def of(self, folder: Place) -> Iterator[Deleted]:
        """What was deleted in a folder; of a deleted folder also what was not, before it was."""
        for one in remains.find(self._raw(folder), self._geometry.fat_bits):
            yield self.judged(folder.path, one)
        if folder.is_deleted:
            yield from self._deleted_with(folder)

    def _deleted_with(self, folder: Place) -> Iterator[Deleted]:
        """Files and folders whose records were left as they were when their folder went."""
        raw = self._raw(folder)
        parsed = records.parse(raw)
        for record in faults.files(parsed).tolist():
            first = record - int(parsed.long_count[record])
            count = record - first
            units = records.name_units(parsed.table[first:record])
            name = records.long_name(units, count, count) if count else ""
            row = parsed.table[record : record + 1]
            cluster = int(records.first_clusters(row, self._geometry.fat_bits)[0])
            part = raw[first * layout.ENTRY_BYTES : (record + 1) * layout.ENTRY_BYTES]
            short = row["name"][0].tobytes()
            yield self.judged(folder.path, remains.Remains(first, part, name, short, cluster))

    def judged(self, path: str, one: Remains) -> Deleted:
        """What can be had of a deleted file or folder."""
        start, state, reason, chain = self._content(one)
        entry = FatEntry(
            name=one.name,
            short_name=one.short_name,
            size_bytes=one.content_bytes,
            modified=one.modified,
            is_dir=one.is_dir,
            attributes=one.attributes,
            first_cluster=start,
            is_deleted=True,
        )
        return Deleted(f"{path}/{one.name}", entry, state, reason, tuple(chain), one)

    def _content(self, one: Remains) -> _Content:
        """First cluster, how sure it is, why it is not, and the clusters."""
        start = one.first_cluster
        if one.is_dir:
            chains = (self._folder_chain(at) for at in self._starts(start))
            chain = next((chain for chain in chains if chain), [])
            if chain:
                return chain[0], State.WHOLE, "", chain
            return start, State.LOST, "its clusters are in use, or hold something else", []
        need = -(-one.content_bytes // self._geometry.cluster_bytes)
        if not need:
            return 0, State.WHOLE, "", []
        for at in self._starts(start):
            chain = self._free_run(at, need)
            if len(chain) == need:
                return self._rated(chain, is_start_known=at == start)
        if not self._is_free(start):
            return start, State.LOST, f"its first cluster, {start}, is in use or does not exist", []
        return start, State.LOST, "too few clusters after its first one are free", []

    def _rated(self, chain: list[int], *, is_start_known: bool) -> _Content:
        """How sure it is that free clusters are those of a file."""
        if not is_start_known:
            return chain[0], State.GUESS, "half of the number of its first cluster is lost", chain
        if chain[-1] - chain[0] >= len(chain):
            return chain[0], State.GUESS, "other files are between its clusters", chain
        return chain[0], State.WHOLE, "", chain

    def _starts(self, start: int) -> Iterator[int]:
        """Where it may have started: Windows wipes the high half of the number on FAT32."""
        yield start
        if start < 1 << 16 and self._geometry.fat_bits == 32:
            stop = min(self._geometry.entry_count, STARTS_MAX << 16)
            yield from range(start + (1 << 16), stop, 1 << 16)

    def _is_free(self, cluster: int) -> bool:
        return layout.FIRST_CLUSTER <= cluster < self._table.limit and self._table[cluster] == FREE

    def _free_run(self, start: int, need: int) -> list[int]:
        """The first `need` free clusters from one on, which must be free itself."""
        if not self._is_free(start):
            return []
        window = 2 * need + 1024
        while True:
            values = self._table.values[start : min(start + window, self._table.limit)]
            free = np.flatnonzero(values == FREE)
            if len(free) >= need or start + window >= self._table.limit:
                found: list[int] = (free[:need] + start).tolist()
                return found
            window *= 4

    def _folder_chain(self, start: int) -> list[int]:
        """The free clusters of a deleted folder: neighbours, as long as they read as one."""
        chain: list[int] = []
        size = self._geometry.cluster_bytes
        at = start
        while self._is_free(at) and len(chain) < self._clusters_max:
            raw = read(self._device, self._geometry.cluster_offset_bytes(at), size)
            is_start = raw[:10] == records.DOT[:10] and raw[11] & layout.ATTRIBUTE_FOLDER
            is_more = not faults.nonsense_count(raw, self._geometry) and any(raw)
            if not (is_start if at == start else is_more and raw[:11] != records.DOT):
                break
            if at == start and not self._is_own_dot(raw, at):
                break
            chain.append(at)
            if not all(raw[:: layout.ENTRY_BYTES]):  # its end is in here
                break
            at += 1
        return chain

    def _is_own_dot(self, raw: bytes, cluster: int) -> bool:
        row = np.frombuffer(raw[: layout.ENTRY_BYTES], records.ENTRY)
        return int(records.first_clusters(row, self._geometry.fat_bits)[0]) == cluster


def _is_named(one: Deleted, name: str) -> bool:
    """Whether something is called so; any letter does where the first one is not known."""
    shown, short = names.fold(one.entry.name), names.fold(one.entry.short_name)
    key = names.fold(name)
    if key in (shown, short):
        return True
    return short.startswith("?") and key[1:] == short[1:] and bool(key)
