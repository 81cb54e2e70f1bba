"""What changes a volume: room for content and for entries, new folders, batches."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from ipva_formats import fat as layout
from ipva_storage.device import byte_view
from ipva_storage.errors import FatError, FatExistsError, NoSpaceError, UsageError
from ipva_storage.fat import clock, names, records
from ipva_storage.fat.commit import Changes
from ipva_storage.fat.content import Pieces
from ipva_storage.fat.folder import changed, pack_entry
from ipva_storage.fat.fsinfo import FsInfo
from ipva_storage.fat.table import runs
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from _typeshed import ReadableBuffer

    from ipva_storage.fat.folder import Folder
    from ipva_storage.fat.records import Slot
    from ipva_storage.fat.tree import Tree

FILE_BYTES_MAX: Final = 0xFFFFFFFF
"""Longest file. Source: MS, DIR_FileSize has 32 bits. Confidence: stated."""
REWRITTEN_BYTES_MAX: Final = 4 * MIB
"""Files up to this length are copied where a change in place would need two sectors at once.

A power cut then leaves the old or the new. Confidence: chosen (some milliseconds)."""


_NO_NAME: Final = bytes(11)
"""Stands in a record for the name that its folder gives it."""


class Writer:
    """Changes the folders of a tree, and what their entries name."""

    def __init__(self, tree: Tree) -> None:
        """Start without changes; the table is read."""
        self.tree = tree
        self.device = tree.device
        self.geometry = tree.geometry
        self.table = tree.table
        info = FsInfo(tree.device, tree.geometry.fsinfo_offset_bytes)
        self.table.next_free = max(info.next_free or 0, layout.FIRST_CLUSTER)
        self.changes = Changes(tree.device, self.table, info)
        tree.pinned = self.changes.folders
        self._depth = 0

    @contextlib.contextmanager
    def batch(self, *, all_or_nothing: bool) -> Iterator[None]:
        """See `FatVolume.batch`."""
        self._depth += 1
        commits = self.changes.commit_count
        try:
            yield
        except BaseException:
            if all_or_nothing and self._depth == 1 and self.changes.commit_count == commits:
                self.changes.is_failed = True
            raise
        finally:
            self._depth -= 1
            if not self._depth and not self.changes.is_failed:
                self.changes.commit()

    def done(self, *folders: Folder) -> None:
        """Write a change of folders, unless that waits for the end of a batch."""
        self.changes.folders.update(folders)
        if not self._depth:
            self.changes.commit()

    # -- content ------------------------------------------------------------------------------

    def allocate(self, count: int, *, for_folder: bool = False) -> list[int]:
        """New clusters; what waits to be freed is freed first where the rest is too little.

        Raises:
            NoSpaceError: there are fewer.
        """
        self.changes.check_usable()
        try:
            return self.table.allocate(count, whole_entries=for_folder)
        except NoSpaceError:
            if not self.changes.has_frees:
                raise
            self.changes.commit()
            return self.table.allocate(count, whole_entries=for_folder)

    @contextlib.contextmanager
    def new_chain(self, size_bytes: int, *, for_folder: bool = False) -> Iterator[list[int]]:
        """Clusters for content of that length, given back when the block fails."""
        need = -(-size_bytes // self.geometry.cluster_bytes)
        chain = self.allocate(need, for_folder=for_folder)
        try:
            yield chain
        except BaseException:
            self.table.release(chain)
            raise

    def fill(
        self, path: str, chain: list[int], chunks: Iterable[ReadableBuffer], size_bytes: int
    ) -> None:
        """Write the pieces of a file into its clusters, and zeros up to the end of the last.

        Raises:
            UsageError: the pieces are not `size_bytes` long.
        """
        pieces = Pieces(self.geometry, runs(chain))
        done = 0
        for chunk in chunks:
            view = byte_view(chunk)
            if done + len(view) > size_bytes:
                done += len(view)
                break
            for at, length in pieces.ranges(done, len(view)):
                self.changes.write_data(at, view[:length])
                view = view[length:]
                done += length
        if done != size_bytes:
            raise UsageError(
                f"the content of “{path}” has {done} bytes or more, and {size_bytes} were promised",
                where=self.device.name,
            )
        for at, length in pieces.ranges(done, pieces.size_bytes - done):
            self.changes.write_data(at, bytes(length))

    def put_content(
        self,
        folder: Folder,
        name: str,
        old: Slot | None,
        chain: list[int],
        size_bytes: int,
        modified: datetime | None = None,
    ) -> Slot:
        """Let an entry, new or old, name a new chain that is written already.

        Args:
            folder: where it is.
            name: of the entry.
            old: the entry to change, or None to make one.
            chain: its first cluster is what counts.
            size_bytes: how long the content is.
            modified: when it was; now if not given.
        """
        now = clock.now()
        first = chain[0] if chain else 0
        if old is None:
            self.make_room(folder, name)
            record = pack_entry(
                _NO_NAME,
                attributes=layout.ATTRIBUTE_ARCHIVE,
                created=now,
                modified=modified or now,
                cluster=first,
                content_bytes=size_bytes,
            )
            return folder.add(name, record)
        self.changes.free_later(old.entry.first_cluster)
        record = changed(
            folder.record_of(old),
            attributes=old.entry.attributes | layout.ATTRIBUTE_ARCHIVE,
            modified=modified or now,
            accessed=now,
            cluster=first,
            content_bytes=size_bytes,
        )
        folder.update(old, record)
        return old

    # -- folders ------------------------------------------------------------------------------

    def make_folder(self, path: str) -> None:
        """Make a folder.

        Raises:
            FatExistsError: there is something of that name.
            FatNotFoundError: the folder above does not exist.
            NoSpaceError: there is no room; nothing is changed.
        """
        start, name = self.new_place(path)
        folder = self.sound(start)
        if folder.find(name) is not None:
            raise FatExistsError(f"“{path}” exists already", where=self.device.name)
        now = clock.now()
        record = pack_entry(
            _NO_NAME, attributes=layout.ATTRIBUTE_FOLDER, created=now, modified=now, cluster=0
        )
        with self.new_chain(1, for_folder=True) as (cluster,):
            self.make_room(folder, name)
            self._write_new_folder(cluster, start, record)
            folder.add(name, changed(record, cluster=cluster))
        self.done(folder)

    def _write_new_folder(self, cluster: int, parent: int, record: bytes) -> None:
        """Write a folder's first cluster: `.`, `..` and zeros."""
        content = b"".join(
            short + changed(record, cluster=number)[11:]
            for short, number in ((records.DOT, cluster), (records.DOT_DOT, self.above(parent)))
        )
        self.changes.write_data(
            self.geometry.cluster_offset_bytes(cluster),
            content.ljust(self.geometry.cluster_bytes, b"\0"),
        )
        self.tree.drop(cluster)

    def above(self, start: int) -> int:
        """What `..` says of a folder above that starts there. MS: 0 for the root folder."""
        return 0 if start == self.geometry.root_cluster else start

    def make_room(self, folder: Folder, name: str) -> None:
        """See that a new entry fits, with another cluster where it must.

        Raises:
            NoSpaceError: the folder or the volume is full.
        """
        folder.is_bounded = False
        if names.fold(name) in folder.removed:
            self.changes.commit()  # the old entry goes before the new one comes
        while not folder.has_room(name):
            if self.changes.has_removals:
                self.changes.commit()  # which gives records back
                continue
            try:
                self._extend(folder)
            except NoSpaceError:
                folder.is_bounded = True
                if not folder.has_room(name):
                    raise

    def _extend(self, folder: Folder) -> None:
        if not folder.clusters:
            raise NoSpaceError(
                f"the root folder is full: it has {self.geometry.root_entry_count} records",
                where=self.device.name,
                remedy="put files into a folder",
            )
        last = folder.clusters[-1]
        with self.new_chain(1, for_folder=True) as (cluster,):
            folder.extend(cluster)
        self.changes.write_data(
            self.geometry.cluster_offset_bytes(cluster), bytes(self.geometry.cluster_bytes)
        )
        self.changes.link_later(last, cluster)
        self.changes.folders.add(folder)

    def new_place(self, path: str) -> tuple[int, str]:
        """Where the folder starts that a new entry goes into, and the entry's valid name.

        Raises:
            FatNotFoundError: there is no such folder.
            UsageError: the name is not possible.
        """
        start, name = self.tree.start_above(path)
        self.sound(start)
        return start, names.validate(name)

    def sound(self, start: int) -> Folder:
        """A folder that may be changed.

        Raises:
            FatError: its chain is broken, or a write failed.
        """
        self.changes.check_usable()
        folder = self.tree.folder(start)
        if folder.fault is not None:
            raise FatError(
                f"the folder's chain is broken ({folder.fault}), so it is not changed",
                where=self.device.name,
                remedy="run a check of the volume",
            )
        return folder
