"""The folders of a volume: by path, by first cluster, and all of them in turn."""

from __future__ import annotations

import functools
from collections import deque
from typing import TYPE_CHECKING, Final

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.errors import FatError, FatNotFoundError, UsageError
from ipva_storage.fat import listing
from ipva_storage.fat.folder import Folder
from ipva_storage.fat.geometry import RECORDS_MAX
from ipva_storage.fat.table import FatTable, runs
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.records import FatEntry, Slot

_FOLDERS_CACHED: Final = 64
_SIBLINGS_READ: Final = 256
"""How many folders are read ahead at most. Confidence: chosen."""
_SIBLINGS_BYTES: Final = MIB
"""How much of them is, unless one alone is longer. Confidence: chosen."""
_HELD_MAX: Final = 300_000
"""Most entries that the folders on one way down may have, to bound memory. Confidence: chosen."""


def parts_of(path: str) -> list[str]:
    """The names of a path; `.` and nothing stand for where one is, `..` for the folder above."""
    found: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del found[-1:]
        elif part not in ("", "."):
            found.append(part)
    return found


class Tree:
    """The folders of one volume, as they will be once all changes are written."""

    def __init__(self, device: BlockDevice, geometry: Geometry, *, code_page: str) -> None:
        """Start with nothing read."""
        self.device = device
        self.geometry = geometry
        self.code_page = code_page
        self.pinned: set[Folder] = set()
        """Folders with changes, which stay in memory."""
        self._folders: dict[int, Folder] = {}

    @functools.cached_property
    def table(self) -> FatTable:
        """The file allocation table, read when it is first needed."""
        return FatTable(self.device, self.geometry)

    # -- folders ------------------------------------------------------------------------------

    @property
    def root_start(self) -> int:
        """First cluster of the root folder; 0 where it has a place of its own."""
        return self.geometry.root_cluster

    def folder(self, start: int) -> Folder:
        """The folder that starts at a cluster (0: the root), from the cache or the medium.

        Raises:
            FatError: none can start there.
        """
        start = start or self.root_start
        found = self._folders.pop(start, None)
        if found is None:
            found = self._read(start)
            self._make_cache_room()
        self._folders[start] = found  # at the end: the last used
        return found

    def drop(self, start: int) -> None:
        """Know a folder no more: it is deleted, or was written past this tree."""
        folder = self._folders.pop(start, None)
        if folder is not None:
            self.pinned.discard(folder)

    def _make_cache_room(self) -> None:
        """Forget the folder not used for longest, if there are many and it is unchanged."""
        if len(self._folders) >= _FOLDERS_CACHED:
            oldest = (key for key, value in self._folders.items() if value not in self.pinned)
            self._folders.pop(next(oldest, -1), None)

    def _read(self, start: int) -> Folder:
        geometry = self.geometry
        if not start:
            size = geometry.root_entry_count * layout.ENTRY_BYTES
            raw = bytearray(read(self.device, geometry.root_offset_bytes, size))
            return Folder(raw, [], geometry, code_page=self.code_page)
        chain, fault = self.table.follow(start, limit=self._clusters_max)
        if not chain:
            raise FatError(
                f"a folder starts at cluster {start}, which cannot be",
                where=self.device.name,
                remedy="run a check of the volume",
            )
        reachable = [cluster for cluster in chain if cluster < self.table.limit]
        if len(reachable) < len(chain):
            fault = "it leaves the device"
        raw = self._content(reachable)
        return Folder(raw, reachable, geometry, code_page=self.code_page, fault=fault)

    def _content(self, clusters: list[int]) -> bytearray:
        size = self.geometry.cluster_bytes
        raw = bytearray(len(clusters) * size)
        view, at = memoryview(raw), 0
        for first, count in runs(clusters):
            offset_bytes = self.geometry.cluster_offset_bytes(first)
            self.device.read_into(offset_bytes, view[at : at + count * size])
            at += count * size
        return raw

    @property
    def _clusters_max(self) -> int:
        return -(-RECORDS_MAX * layout.ENTRY_BYTES // self.geometry.cluster_bytes)

    # -- paths --------------------------------------------------------------------------------

    def folder_at(self, path: str) -> Folder:
        """The folder of that path.

        Raises:
            FatNotFoundError: there is none.
            FatError: it is a file.
        """
        return self.folder(self.starts_of(path)[-1])

    def start_above(self, path: str) -> tuple[int, str]:
        """First cluster of the folder above an entry, and the entry's name.

        Raises:
            FatNotFoundError: there is no such folder.
            UsageError: it is the root folder, which has no entry.
        """
        parts = parts_of(path)
        if not parts:
            raise UsageError("the root folder itself cannot be meant", where=self.device.name)
        return self._starts(parts[:-1], path)[-1], parts[-1]

    def starts_of(self, path: str) -> list[int]:
        """First clusters of the folders on the way to a folder, the root's first, its own last."""
        return self._starts(parts_of(path), path)

    def _starts(self, parts: list[str], path: str) -> list[int]:
        starts = [self.root_start]
        for part in parts:
            slot = self.folder(starts[-1]).find(part)
            if slot is None:
                raise FatNotFoundError(f"there is no “{path}”", where=self.device.name)
            if not slot.entry.is_dir:
                raise FatError(
                    f"“{part}” in “{path}” is a file, not a folder", where=self.device.name
                )
            starts.append(slot.entry.first_cluster or self.root_start)
        return starts

    def find(self, path: str) -> tuple[int, Slot] | None:
        """Where the folder starts that an entry is in, and the entry; None where there is none.

        Raises:
            UsageError: it is the root folder, which has no entry.
        """
        start, name = self.start_above(path)
        slot = self.folder(start).find(name)
        return None if slot is None else (start, slot)

    def existing(self, path: str) -> tuple[int, Slot]:
        """As `find`.

        Raises:
            FatNotFoundError: there is none.
        """
        found = self.find(path)
        if found is None:
            raise FatNotFoundError(f"there is no “{path}”", where=self.device.name)
        return found

    def starts_above(self, path: str) -> list[int]:
        """First clusters of all folders above an entry, the root's first."""
        return self._starts(parts_of(path)[:-1], path)

    # -- walking ------------------------------------------------------------------------------

    def walk(self, path: str) -> Iterator[tuple[str, FatEntry]]:
        """Everything in a folder and below, each with its full path, a folder before its content.

        A folder that shares a cluster with one already entered is listed and not entered. The
        folders in one folder are read together.

        Raises:
            FatError: folder in folder is so full that no honest volume has it.
        """
        top = self.folder_at(path)
        seen = set(top.clusters)
        stack = [_Level("".join(f"/{part}" for part in parts_of(path)), top.entries)]
        held = len(top)
        while stack:
            level = stack[-1]
            base = level.base
            if held > _HELD_MAX:
                raise FatError(
                    f"“{base}” and the folders above it have over {_HELD_MAX} entries",
                    where=self.device.name,
                    remedy="run a check of the volume",
                )
            for entry in level.rest:
                full = f"{base}/{entry.name}"
                yield full, entry
                if entry.is_dir and (entries := self._entries_below(level, seen)):
                    stack.append(_Level(full, entries))
                    held += len(entries)
                    break
            else:
                held -= stack.pop().count

    def _entries_below(self, level: _Level, seen: set[int]) -> list[FatEntry]:
        """The entries of the next folder of a level."""
        if not level.ready:
            level.ready.extend(self._read_ahead(level.unread, seen))
        return level.ready.popleft()

    def _read_ahead(self, folders: Iterator[FatEntry], seen: set[int]) -> list[list[FatEntry]]:
        """The entries of the next folders, as many as are read together."""
        raws: list[bytes | bytearray] = []
        known: dict[int, list[FatEntry]] = {}
        size_bytes = 0
        while size_bytes < _SIBLINGS_BYTES and len(raws) < _SIBLINGS_READ:
            entry = next(folders, None)
            if entry is None:
                break
            clusters = self._new_clusters(entry.first_cluster, seen)
            cached = self._folders.get(entry.first_cluster) if clusters else None
            if cached is not None:
                known[len(raws)] = cached.entries
            raws.append(b"" if cached is not None else self._content(clusters))
            size_bytes += len(raws[-1])
        found = listing.entries_of(
            raws, is_fat32=self.geometry.fat_bits == 32, code_page=self.code_page
        )
        for index, entries in known.items():
            found[index] = entries
        return found

    def _new_clusters(self, start: int, seen: set[int]) -> list[int]:
        """The clusters of a folder, or none where one of them was seen before; now all are."""
        table, chain, at = self.table, list[int](), start
        while layout.FIRST_CLUSTER <= at < table.limit and len(chain) < self._clusters_max:
            if at in seen:
                return []
            seen.add(at)
            chain.append(at)
            at = table[at]
        return chain


class _Level:
    """A folder on the way of a walk."""

    def __init__(self, base: str, entries: list[FatEntry]) -> None:
        self.base = base
        self.count = len(entries)
        self.rest = iter(entries)
        self.unread = iter([entry for entry in entries if entry.is_dir])
        self.ready: deque[list[FatEntry]] = deque()
        """The entries of folders that were read ahead."""
