"""A FAT volume: files and folders by path.

Invariants:

1. What a call has changed is either all in memory (within `batch`) or all on the medium, in the
   order that `commit` keeps; a power cut leaves lost clusters or a wrong free count at worst. What
   `move` and `open` leave beyond that is said there.
2. Clusters of an old chain are free again only after the entry that named it is durable, so that
   new content never lands on old.
3. After a failed write the volume refuses everything until it is opened anew.
4. A file that is open is not deleted, moved or replaced, and is open for writing only once.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Self, TypeAlias

from ipva_formats import fat as layout
from ipva_storage.device import byte_view
from ipva_storage.errors import FatError, FatExistsError, UsageError
from ipva_storage.fat import clock, labels, moving, names, opening, usage
from ipva_storage.fat.content import read_pieces
from ipva_storage.fat.folder import changed
from ipva_storage.fat.table import check_chain
from ipva_storage.fat.tree import Tree, parts_of
from ipva_storage.fat.writing import FILE_BYTES_MAX, Writer

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager
    from datetime import date, datetime

    from _typeshed import ReadableBuffer

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.records import FatEntry
    from ipva_storage.fat.table import FatTable
    from ipva_storage.fat.usage import Fragment, Usage

Entries: TypeAlias = "list[FatEntry]"
Fragments: TypeAlias = "list[Fragment]"
Runs: TypeAlias = "list[tuple[int, int]]"


class FatVolume:
    """Files and folders of one volume. Paths use `/` and match whatever the case."""

    def __init__(
        self, device: BlockDevice, geometry: Geometry, *, code_page: str = names.CODE_PAGE
    ) -> None:
        """Look at a volume whose boot sector was read. The device stays the caller's.

        Raises:
            UsageError: there is no such code page.
        """
        self._device = device
        self.geometry = geometry
        self.tree = Tree(device, geometry, code_page=names.check_code_page(code_page))
        self.open_files = opening.OpenFiles()

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
        return self.tree.folder(0).label or self.geometry.label

    @property
    def is_clean(self) -> bool:
        """Whether it was closed after the last change, as far as it says."""
        return self._table.is_clean and not self.geometry.state & layout.BOOT_STATE_DIRTY

    @property
    def has_errors(self) -> bool:
        """Whether it says that a read or write failed some day, so that it wants a surface test."""
        return self._table.has_errors or bool(self.geometry.state & layout.BOOT_STATE_ERROR)

    @property
    def _table(self) -> FatTable:
        return self.tree.table

    @functools.cached_property
    def writer(self) -> Writer:
        """What changes it."""
        return Writer(self.tree)

    # -- reading ------------------------------------------------------------------------------

    def list(self, path: str = "/") -> Entries:
        """Files and folders of a folder, in the order they are kept.

        Raises:
            FatNotFoundError: there is no such folder.
            FatError: it is a file, or the volume cannot be read there.
        """
        return self.tree.folder_at(path).entries

    def walk(self, path: str = "/") -> Iterator[tuple[str, FatEntry]]:
        """Everything in a folder and below, each with its full path, a folder before its content.

        A folder that shares a cluster with one already entered, such as one that contains itself,
        is listed and not entered.
        """
        return self.tree.walk(path)

    def stat(self, path: str) -> FatEntry:
        """The entry of a file or folder.

        Raises:
            FatNotFoundError: there is none of that name.
            UsageError: it is the root folder, which has no entry.
        """
        return self.tree.existing(path)[1].entry

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
        pieces = self.runs_of(path, entry)
        return read_pieces(self._device, self.geometry, pieces, entry.size_bytes)

    def runs_of(self, path: str, entry: FatEntry) -> Runs:
        """The runs of clusters that hold a file, no more than its length needs.

        Returns:
            First cluster and how many, of each run.

        Raises:
            FatError: it is a folder, or its chain is broken.
        """
        if entry.is_dir:
            raise FatError(f"“{path}” is a folder", where=self.name, remedy="name a file in it")
        need = -(-entry.size_bytes // self.cluster_bytes)
        if not need:
            return []
        found, fault = self._table.follow_runs(entry.first_cluster, limit=need)
        have = found[0][1] if len(found) == 1 else sum(count for _, count in found)
        if fault is None and have < need:
            fault = f"it is {need} clusters long by its entry"
        check_chain(have, fault, f"“{path}”", self.name)
        return found

    def fragments(self, path: str) -> Fragments:
        """The pieces that a file or folder lies in, in its order; none of an empty file.

        Raises:
            FatNotFoundError: there is none of that name.
            FatError: its chain is broken.
        """
        return usage.fragments(self, path)

    def usage(self) -> Usage:
        """How the room is used, and in how many pieces files lie."""
        return usage.measure(self)

    def open(self, path: str, mode: str = "r", *, buffering: int = -1) -> io.IOBase:
        """A file as a binary file object, as Python's `open` gives one.

        In memory until it is flushed or closed: which clusters it has, and its length. Bytes within
        its old length are written in place. A file of up to 4 MiB that becomes longer or shorter is
        rewritten elsewhere, so that a power cut leaves the old or the new. A longer one grows and
        shrinks in place, and a cut may leave clusters beyond its end (FAT008).

        Args:
            path: where it is.
            mode: `r`, `w`, `x` or `a`, with or without `+` and `b`. `w` keeps the old content until
                the new one is flushed.
            buffering: bytes to gather before they are written; 0 for none.

        Raises:
            FatNotFoundError: there is no such file to be read, or no such folder.
            FatExistsError: there is one, and the mode is `x`; or it is a folder.
            UsageError: the mode is none; or the file is open, for writing or to be written.
        """
        return opening.open_file(self, path, mode, buffering)

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
        writer = self.writer
        start, name = writer.new_place(path)
        if not 0 <= size_bytes <= FILE_BYTES_MAX:
            raise UsageError(
                f"“{path}” would have {size_bytes} bytes, and FAT ends at {FILE_BYTES_MAX}",
                where=self.name,
            )
        folder = writer.sound(start)
        old = folder.find(name)
        if old is not None:
            if old.entry.is_dir:
                raise FatExistsError(f"“{path}” is a folder", where=self.name)
            self.open_files.check_closed(start, old.short, path)
        with writer.new_chain(size_bytes) as chain:
            writer.fill(path, chain, chunks, size_bytes)
            slot = writer.put_content(folder, name, old, chain[:1], size_bytes, modified)
        writer.done(folder)
        return slot.entry

    def delete(self, path: str, *, recursive: bool = False) -> int:
        """Delete a file or an empty folder; with `recursive` a folder with all in it.

        A whole tree goes at once: a power cut leaves all of it, or nothing but lost clusters.

        Returns:
            How many files and folders went.

        Raises:
            FatNotFoundError: there is none of that name.
            FatError: the folder is not empty, or shares clusters with one above it.
            UsageError: a file in it is open.
        """
        start, slot = self.tree.existing(path)
        writer, folder = self.writer, self.writer.sound(start)
        first = slot.entry.first_cluster
        gone = [slot.entry]
        if slot.entry.is_dir:
            if not recursive and len(self.tree.folder(first)):
                raise FatError(
                    f"the folder “{path}” is not empty",
                    where=self.name,
                    remedy="delete what is in it first, or give -r",
                )
            gone += self._below(path, start, first)
        else:
            self.open_files.check_closed(start, slot.short, path)
        for entry in gone:
            if entry.is_dir:
                self.tree.drop(entry.first_cluster)
            writer.changes.free_later(entry.first_cluster)
        writer.changes.remove_later(folder, slot)
        writer.done(folder)
        return len(gone)

    def _below(self, path: str, start: int, first: int) -> Entries:
        """Everything in a folder that is deleted."""
        found = [entry for _, entry in self.walk(path)]
        starts = [first, *(entry.first_cluster for entry in found if entry.is_dir)]
        above = self.tree.starts_above(path)
        if not {*above, start}.isdisjoint(starts) or len(set(starts)) < len(starts):
            raise FatError(
                f"a folder in “{path}” is one that is also elsewhere, so it is not deleted",
                where=self.name,
                remedy="run a repair of the volume",
            )
        self.open_files.check_folders(starts, path)
        return found

    def mkdir(self, path: str, *, parents: bool = False) -> None:
        """Make a folder; with `parents` also those above it, and it may exist.

        Raises:
            FatExistsError: there is something of that name.
            FatNotFoundError: the folder above does not exist.
            NoSpaceError: there is no room; nothing is changed.
        """
        if not parents:
            self.writer.make_folder(path)
            return
        parts = parts_of(path)
        for count in range(1, len(parts) + 1):
            part = "/" + "/".join(parts[:count])
            found = self.tree.find(part)
            if found is None:
                self.writer.make_folder(part)
            elif not found[1].entry.is_dir:
                raise FatExistsError(f"“{part}” is a file", where=self.name)

    def move(self, source: str, target: str, *, force: bool = False) -> FatEntry:
        """Give a file or folder another name, another folder, or both. Times are kept.

        Within its folder that is one write of one sector where the new name fits into the sector of
        the old one, as all but few do. Elsewhere a file of up to 4 MiB is copied first, so that a
        power cut leaves one of the two names, or both with a copy each. A longer file, or a folder,
        gets its new name before it loses the old one: a cut in between leaves both names for one
        content, whole (FAT010 in a check).

        Args:
            source: what it is called.
            target: what it shall be called, in full; its folder must exist.
            force: replace a file of that name.

        Raises:
            FatNotFoundError: there is no such source, or no such folder.
            FatExistsError: there is something of that name, and `force` is not given or it is a
                folder.
            UsageError: the folder would be within itself, or a file is open.
        """
        return moving.move(self, source, target, force=force)

    def set_times(
        self,
        path: str,
        *,
        created: datetime | None = None,
        modified: datetime | None = None,
        accessed: date | None = None,
    ) -> FatEntry:
        """Set the times of a file or folder that are given: to 10 ms, to 2 s and to a day.

        Raises:
            FatNotFoundError: there is none of that name.
        """
        start, slot = self.tree.existing(path)
        folder = self.writer.sound(start)
        day = None if accessed is None else clock.at_midnight(accessed)
        record = folder.record_of(slot)
        folder.update(slot, changed(record, created=created, modified=modified, accessed=day))
        self.writer.done(folder)
        return slot.entry

    def set_label(self, label: str | None) -> None:
        """Set the volume label in both places, the root folder and the boot sector, or remove it.

        A power cut between the two leaves labels that differ (FAT017).

        Raises:
            UsageError: it is no possible label.
            NoSpaceError: the root folder is full.
        """
        name = None if label is None else names.label_bytes(label)
        labels.put(self.writer, name)
        shown = None if name is None else names.show_label(name)
        self.geometry = replace(self.geometry, label=shown)

    def batch(self, *, all_or_nothing: bool = False) -> AbstractContextManager[None]:
        """Make everything in the block durable together, at its end, with a few barriers in all.

        The order of safety is kept for the batch as a whole: old files are intact whenever the
        power goes. When the block fails, what its finished calls did is kept.

        Args:
            all_or_nothing: when the block fails, leave the volume as it was, and refuse further
                changes until it is opened again. Where room had to be made in between, by freeing
                what the block replaced, what its finished calls did is kept all the same.
        """
        return self.writer.batch(all_or_nothing=all_or_nothing)

    def flush(self) -> None:
        """Make everything durable, and mark the volume clean if it was so when opened.

        Of open files that is what they have flushed.
        """
        if "writer" in self.__dict__:
            self.writer.changes.finish()

    def close(self) -> None:
        """Close all files and flush, unless a write failed. The device stays open.

        Closing twice is harmless.
        """
        is_usable = "writer" in self.__dict__ and not self.writer.changes.is_failed
        self.open_files.close(abandon=not is_usable)
        if is_usable:
            self.writer.changes.finish()
