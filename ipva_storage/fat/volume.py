"""A FAT volume: files and folders by path.

Invariants:

1. What a call has changed is either all in memory (within `batch`) or all on the medium, in the
   order that `commit` keeps; a power cut leaves lost clusters or a wrong free count at worst.
2. Clusters of an old chain are free again only after the entry that named it is durable, so that
   new content never lands on old.
3. After a failed write the volume refuses everything until it is opened anew.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from ipva_formats import fat as layout
from ipva_storage.device import byte_view, read
from ipva_storage.errors import (
    FatError,
    FatExistsError,
    FatNotFoundError,
    NoSpaceError,
    UsageError,
)
from ipva_storage.fat import clock, names, records
from ipva_storage.fat.commit import Changes
from ipva_storage.fat.folder import Folder, pack_entry
from ipva_storage.fat.fsinfo import FsInfo
from ipva_storage.fat.geometry import RECORDS_MAX
from ipva_storage.fat.table import FatTable, check_chain, runs
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from _typeshed import ReadableBuffer

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.records import FatEntry, Slot

FILE_BYTES_MAX: Final = 0xFFFFFFFF
"""Longest file. Source: MS, DIR_FileSize has 32 bits. Confidence: stated."""
CHUNK_BYTES: Final = MIB
_FOLDERS_CACHED: Final = 64


Chain = list[int]
Entries: TypeAlias = "list[FatEntry]"


class FatVolume:
    """Files and folders of one volume. Paths use `/` and match whatever the case."""

    def __init__(
        self, device: BlockDevice, geometry: Geometry, *, code_page: str = names.CODE_PAGE
    ) -> None:
        """Look at a volume whose boot sector was read. The device stays the caller's."""
        self._device = device
        self.geometry = geometry
        self._code_page = code_page
        self._folders: dict[int, Folder] = {}
        self._depth = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """What errors call it: the name of its device."""
        return self._device.name

    @property
    def fat_bits(self) -> int:
        """12, 16 or 32."""
        return self.geometry.fat_bits

    @property
    def cluster_bytes(self) -> int:
        """Length of a cluster."""
        return self.geometry.cluster_bytes

    @property
    def cluster_count(self) -> int:
        """Data clusters."""
        return self.geometry.cluster_count

    @property
    def size_bytes(self) -> int:
        """Room for data, used or not: all clusters."""
        return self.geometry.cluster_count * self.geometry.cluster_bytes

    @property
    def free_bytes(self) -> int:
        """Room left for new files, in whole clusters."""
        return self._table.free_count * self.geometry.cluster_bytes

    @property
    def label(self) -> str | None:
        """The label in the root folder, else the one in the boot sector, else None."""
        return self._root().label or self.geometry.label

    @functools.cached_property
    def _table(self) -> FatTable:
        return FatTable(self._device, self.geometry)

    @functools.cached_property
    def _changes(self) -> Changes:
        info = FsInfo(self._device, self.geometry.fsinfo_offset_bytes)
        self._table.next_free = info.next_free or layout.FIRST_CLUSTER
        return Changes(self._device, self._table, info)

    # -- reading ------------------------------------------------------------------------------

    def list(self, path: str = "/") -> Entries:
        """Files and folders of a folder, in the order they are kept.

        Raises:
            FatNotFoundError: there is no such folder.
            FatError: it is a file, or the volume cannot be read there.
        """
        return self._folder_at(path).entries

    def walk(self, path: str = "/") -> Iterator[tuple[str, FatEntry]]:
        """Everything in a folder and below, each with its full path, a folder before its content.

        A folder that shares a cluster with one already entered, such as one that contains itself,
        is listed and not entered.
        """
        prefix = "/" + "/".join(_parts(path))
        top = self._folder_at(path)
        seen = set(top.clusters)
        stack = [(prefix.rstrip("/"), iter(top.entries))]
        while stack:
            base, entries = stack[-1]
            entry = next(entries, None)
            if entry is None:
                stack.pop()
                continue
            full = f"{base}/{entry.name}"
            yield full, entry
            if entry.is_dir and self.geometry.is_cluster(entry.first_cluster):
                folder = self._folder(entry.first_cluster)
                if seen.isdisjoint(folder.clusters):
                    seen.update(folder.clusters)
                    stack.append((full, iter(folder.entries)))

    def stat(self, path: str) -> FatEntry:
        """The entry of a file or folder.

        Raises:
            FatNotFoundError: there is none of that name.
            UsageError: it is the root folder, which has no entry.
        """
        return self._existing(path)[1].entry

    def read(self, path: str) -> bytes:
        """The whole content of a file.

        Raises:
            FatNotFoundError: there is no such file.
            FatError: it is a folder, or its chain is broken.
        """
        return b"".join(self.read_chunks(path))

    def read_chunks(self, path: str) -> Iterator[bytes]:
        """The content of a file in pieces of at most 1 MiB. Errors as `read`."""
        entry = self.stat(path)
        if entry.is_dir:
            raise FatError(f"“{path}” is a folder", where=self.name, remedy="name a file in it")
        return self._content(path, entry)

    def _content(self, path: str, entry: FatEntry) -> Iterator[bytes]:
        left = entry.size_bytes
        for first, count in runs(self._chain_of(path, entry)):
            at = self.geometry.cluster_offset_bytes(first)
            stop = at + min(left, count * self.cluster_bytes)
            left -= stop - at
            while at < stop:
                length = min(CHUNK_BYTES, stop - at)
                yield read(self._device, at, length)
                at += length

    def _chain_of(self, path: str, entry: FatEntry) -> Chain:
        """The clusters that hold a file, no more than its length needs."""
        need = -(-entry.size_bytes // self.cluster_bytes)
        if not need:
            return []
        what = f"“{path}”"
        chain = check_chain(*self._table.follow(entry.first_cluster, limit=need), what, self.name)
        if len(chain) < need:
            fault = f"it is {need} clusters long by its entry"
            return check_chain(chain, fault, what, self.name)
        return chain

    # -- changing -----------------------------------------------------------------------------

    def write(
        self, path: str, data: ReadableBuffer, *, modified: datetime | None = None
    ) -> FatEntry:
        """Make a file, or replace one: the old content stays until the new is durable.

        Raises:
            FatNotFoundError: its folder does not exist.
            FatExistsError: there is a folder of that name.
            NoSpaceError: old and new content do not fit beside each other; nothing is changed.
            UsageError: the name or the length is not possible.
        """
        view = byte_view(data)
        return self.write_chunks(path, [view], size_bytes=len(view), modified=modified)

    def write_chunks(
        self,
        path: str,
        chunks: Iterable[ReadableBuffer],
        *,
        size_bytes: int,
        modified: datetime | None = None,
    ) -> FatEntry:
        """As `write`, from pieces that together are `size_bytes` long."""
        folder, _, name = self._parent(path)
        if not 0 <= size_bytes <= FILE_BYTES_MAX:
            raise UsageError(
                f"“{path}” would have {size_bytes} bytes, and FAT ends at {FILE_BYTES_MAX}",
                where=self.name,
            )
        old = folder.find(name)
        if old is not None and old.entry.is_dir:
            raise FatExistsError(f"“{path}” is a folder", where=self.name)
        chain = self._allocate(-(-size_bytes // self.cluster_bytes))
        try:
            self._fill(path, chain, chunks, size_bytes)
            self._put_entry(folder, name, old, chain, size_bytes, modified or clock.now())
        except BaseException:
            self._table.release(chain)
            raise
        self._done(folder)
        return self.stat(path)

    def _put_entry(
        self,
        folder: Folder,
        name: str,
        old: Slot | None,
        chain: Chain,
        size_bytes: int,
        modified: datetime,
    ) -> None:
        first = chain[0] if chain else 0
        if old is None:
            self._make_room(folder, name)
            folder.add(
                name,
                attributes=layout.ATTRIBUTE_ARCHIVE,
                modified=modified,
                cluster=first,
                content_bytes=size_bytes,
            )
            return
        old_first = old.entry.first_cluster
        folder.update(old, cluster=first, content_bytes=size_bytes, modified=modified)
        self._changes.free_later(old_first)

    def delete(self, path: str) -> None:
        """Delete a file or an empty folder.

        Raises:
            FatNotFoundError: there is none of that name.
            FatError: the folder is not empty.
        """
        folder, slot = self._existing(path)
        self._check_sound(folder)
        first = slot.entry.first_cluster
        if slot.entry.is_dir:
            if len(self._folder(first)):
                raise FatError(
                    f"the folder “{path}” is not empty",
                    where=self.name,
                    remedy="delete what is in it first",
                )
            self._changes.folders.discard(self._folders.pop(first, None))
        folder.remove(slot)
        self._changes.free_later(first)
        self._done(folder)

    def mkdir(self, path: str, *, parents: bool = False) -> None:
        """Make a folder; with `parents` also those above it, and it may exist.

        Raises:
            FatExistsError: there is something of that name.
            FatNotFoundError: the folder above does not exist.
            NoSpaceError: there is no room; nothing is changed.
        """
        parts = _parts(path)
        if not parts and parents:
            return
        if parents:
            for count in range(1, len(parts) + 1):
                part = "/" + "/".join(parts[:count])
                found = self._find(part)
                if found is None:
                    self._make_folder(part)
                elif not found[1].entry.is_dir:
                    raise FatExistsError(f"“{part}” is a file", where=self.name)
            return
        self._make_folder(path)

    def _make_folder(self, path: str) -> None:
        folder, start, name = self._parent(path)
        if folder.find(name) is not None:
            raise FatExistsError(f"“{path}” exists already", where=self.name)
        modified = clock.now()
        chain = self._allocate(1, for_folder=True)
        try:
            self._make_room(folder, name)
            self._write_new_folder(chain[0], start, modified)
            folder.add(
                name, attributes=layout.ATTRIBUTE_FOLDER, modified=modified, cluster=chain[0]
            )
        except BaseException:
            self._table.release(chain)
            raise
        self._done(folder)

    def _write_new_folder(self, cluster: int, parent: int, modified: datetime) -> None:
        """Write a folder's first cluster: `.`, `..` and zeros. MS: `..` to the root is 0."""
        above = 0 if parent == self.geometry.root_cluster else parent
        content = b"".join(
            pack_entry(
                short,
                attributes=layout.ATTRIBUTE_FOLDER,
                created=modified,
                modified=modified,
                cluster=number,
            )
            for short, number in ((records.DOT, cluster), (records.DOT_DOT, above))
        )
        self._changes.write_data(
            self.geometry.cluster_offset_bytes(cluster), content.ljust(self.cluster_bytes, b"\0")
        )
        self._folders.pop(cluster, None)

    @contextlib.contextmanager
    def batch(self, *, all_or_nothing: bool = False) -> Iterator[None]:
        """Make everything in the block durable together, at its end, with a few barriers in all.

        The order of safety is kept for the batch as a whole: old files are intact whenever the
        power goes. When the block fails, what its finished calls did is kept.

        Args:
            all_or_nothing: when the block fails, leave the volume as it was, and refuse further
                changes until it is opened again. Where room had to be made in between, by freeing
                what the block replaced, what its finished calls did is kept all the same.
        """
        self._depth += 1
        commits = self._changes.commit_count
        try:
            yield
        except BaseException:
            if all_or_nothing and self._depth == 1 and self._changes.commit_count == commits:
                self._changes.is_failed = True
            raise
        finally:
            self._depth -= 1
            if not self._depth and not self._changes.is_failed:
                self._changes.commit()

    def flush(self) -> None:
        """Make everything durable, and mark the volume clean if it was so when opened."""
        if "_changes" in self.__dict__:
            self._changes.finish()

    def close(self) -> None:
        """Flush, unless a write failed. The device stays open. Closing twice is harmless."""
        if "_changes" in self.__dict__ and not self._changes.is_failed:
            self._changes.finish()

    def _done(self, folder: Folder) -> None:
        self._changes.folders.add(folder)
        if not self._depth:
            self._changes.commit()

    def _allocate(self, count: int, *, for_folder: bool = False) -> Chain:
        """New clusters; what waits to be freed is freed first where the rest is too little."""
        self._changes.check_usable()
        try:
            return self._table.allocate(count, whole_entries=for_folder)
        except NoSpaceError:
            if not self._changes.has_frees:
                raise
            self._changes.commit()
            return self._table.allocate(count, whole_entries=for_folder)

    def _fill(
        self, path: str, chain: Chain, chunks: Iterable[ReadableBuffer], size_bytes: int
    ) -> None:
        """Write the pieces of a file into its clusters, and zeros up to the end of the last."""
        pieces = iter(runs(chain))
        at = stop = done = 0
        for chunk in chunks:
            view = byte_view(chunk)
            done += len(view)
            if done > size_bytes:
                break
            while len(view):
                if at == stop:
                    first, count = next(pieces)
                    at = self.geometry.cluster_offset_bytes(first)
                    stop = at + count * self.cluster_bytes
                part = view[: stop - at]
                self._changes.write_data(at, part)
                at += len(part)
                view = view[len(part) :]
        if done != size_bytes:
            raise UsageError(
                f"the content of “{path}” has {done} bytes or more, and {size_bytes} were promised",
                where=self.name,
            )
        if stop > at:
            self._changes.write_data(at, bytes(stop - at))

    def _make_room(self, folder: Folder, name: str) -> None:
        """See that a new entry fits, with another cluster where it must."""
        if names.fold(name) in folder.removed:
            self._changes.commit()  # the old entry goes before the new one comes
        while not folder.has_room(name):
            if not folder.clusters:
                raise NoSpaceError(
                    f"the root folder is full: it has {self.geometry.root_entry_count} records",
                    where=self.name,
                    remedy="put files into a folder",
                )
            last = folder.clusters[-1]
            (cluster,) = self._allocate(1, for_folder=True)
            try:
                folder.extend(cluster)
            except NoSpaceError:
                self._table.release([cluster])
                raise
            self._changes.write_data(
                self.geometry.cluster_offset_bytes(cluster), bytes(self.cluster_bytes)
            )
            self._changes.link_later(last, cluster)
            self._changes.folders.add(folder)

    # -- finding ------------------------------------------------------------------------------

    def _root(self) -> Folder:
        return self._folder(self.geometry.root_cluster)

    def _folder(self, start: int) -> Folder:
        """The folder that starts at a cluster (0: the root), from the cache or the medium."""
        start = start or self.geometry.root_cluster
        found = self._folders.pop(start, None)
        if found is None:
            found = self._read_folder(start)
            self._make_cache_room()
        self._folders[start] = found  # at the end: the last used
        return found

    def _make_cache_room(self) -> None:
        """Forget the folder not used for longest, if there are many and it is unchanged."""
        if len(self._folders) >= _FOLDERS_CACHED:
            changed = self._changes.folders if "_changes" in self.__dict__ else ()
            oldest = (key for key, value in self._folders.items() if value not in changed)
            self._folders.pop(next(oldest, -1), None)

    def _read_folder(self, start: int) -> Folder:
        geometry = self.geometry
        if not start:
            size = geometry.root_entry_count * layout.ENTRY_BYTES
            raw = bytearray(read(self._device, geometry.root_offset_bytes, size))
            return Folder(raw, [], geometry, code_page=self._code_page)
        limit = -(-RECORDS_MAX * layout.ENTRY_BYTES // geometry.cluster_bytes)
        chain, fault = self._table.follow(start, limit=limit)
        if not chain:
            raise FatError(
                f"a folder starts at cluster {start}, which cannot be",
                where=self.name,
                remedy="run a check of the volume",
            )
        reachable = [cluster for cluster in chain if cluster < self._table.limit]
        if len(reachable) < len(chain):
            fault = "it leaves the device"
        raw = bytearray().join(
            read(self._device, geometry.cluster_offset_bytes(first), count * self.cluster_bytes)
            for first, count in runs(reachable)
        )
        return Folder(raw, reachable, geometry, code_page=self._code_page, fault=fault)

    def _folder_at(self, path: str) -> Folder:
        return self._folder(self._start_of(path))

    def _start_of(self, path: str) -> int:
        """First cluster of the folder of that path."""
        start = self.geometry.root_cluster
        for part in _parts(path):
            slot = self._folder(start).find(part)
            if slot is None:
                raise FatNotFoundError(f"there is no “{path}”", where=self.name)
            if not slot.entry.is_dir:
                raise FatError(f"“{part}” in “{path}” is a file, not a folder", where=self.name)
            start = slot.entry.first_cluster or self.geometry.root_cluster
        return start

    def _find(self, path: str) -> tuple[Folder, Slot] | None:
        parts = _parts(path)
        if not parts:
            raise UsageError("the root folder itself cannot be meant", where=self.name)
        folder = self._folder_at("/".join(parts[:-1]))
        slot = folder.find(parts[-1])
        return None if slot is None else (folder, slot)

    def _existing(self, path: str) -> tuple[Folder, Slot]:
        found = self._find(path)
        if found is None:
            raise FatNotFoundError(f"there is no “{path}”", where=self.name)
        return found

    def _parent(self, path: str) -> tuple[Folder, int, str]:
        """The folder a new entry goes into, where it starts, and the entry's valid name."""
        parts = _parts(path)
        if not parts:
            raise UsageError("the root folder itself cannot be meant", where=self.name)
        start = self._start_of("/".join(parts[:-1]))
        folder = self._folder(start)
        self._check_sound(folder)
        return folder, start, names.validate(parts[-1])

    def _check_sound(self, folder: Folder) -> None:
        self._changes.check_usable()
        if folder.fault is not None:
            raise FatError(
                f"the folder's chain is broken ({folder.fault}), so it is not changed",
                where=self.name,
                remedy="run a check of the volume",
            )


def _parts(path: str) -> list[str]:
    """The names of a path; `.` and nothing stand for where one is, `..` for the folder above."""
    found: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del found[-1:]
        elif part not in ("", "."):
            found.append(part)
    return found
