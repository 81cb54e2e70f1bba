"""In which order changes reach the medium.

1. Data clusters, free until then.
2. The new chains in the table.
3. Longer chains: of folders, and of long files that grow in place.
4. Folder sectors with new, changed and renamed entries.
5. The `..` of folders that were moved.
6. Folder sectors without the entries that were moved away or deleted.
7. The new ends of chains that were cut.
8. The chains that nothing names any more are freed, and the free-space summary follows.

A barrier stands after each step that there is something to do in. Whatever reaches the medium
before the power goes is a prefix of that, up to reordering within a step, and each prefix leaves
every file that was there before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipva_formats import fat as layout
from ipva_storage.errors import FatError
from ipva_storage.units import KIB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed import ReadableBuffer

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.folder import Folder
    from ipva_storage.fat.fsinfo import FsInfo
    from ipva_storage.fat.records import Slot
    from ipva_storage.fat.table import FatTable

_DISCARD_MIN_BYTES: Final = 64 * KIB
"""From this length on zeros are discarded instead of written. Confidence: chosen."""


class Changes:
    """What is to be written, and in which order."""

    def __init__(self, device: BlockDevice, table: FatTable, info: FsInfo) -> None:
        """Start without changes."""
        self._device = device
        self._table = table
        self._info = info
        self._was_clean = table.is_clean
        self._is_marked = False
        self._has_data = False
        self._links: list[tuple[int, int]] = []
        self._parents: list[tuple[Folder, int]] = []
        self._removals: list[tuple[Folder, Slot]] = []
        self._cuts: list[int] = []
        self._frees: list[int] = []
        self.folders: set[Folder] = set()
        """Folders that may have changed, or will."""
        self.is_failed = False
        self.commit_count = 0

    @property
    def has_frees(self) -> bool:
        """Whether a commit would give clusters back."""
        return bool(self._frees or self._cuts)

    @property
    def has_removals(self) -> bool:
        """Whether a commit would give records of folders back."""
        return bool(self._removals)

    def check_usable(self) -> None:
        """Refuse to go on after a failed write.

        Raises:
            FatError: a write failed; what is in memory and on the medium may differ.
        """
        if self.is_failed:
            raise FatError(
                "an earlier change failed, so the volume is not changed any more",
                where=self._device.name,
                remedy="open it again",
            )

    # -- what is to be done -------------------------------------------------------------------

    def write_data(self, offset_bytes: int, data: ReadableBuffer) -> None:
        """Write to clusters that nothing on the medium refers to, or into a file's own."""
        self._has_data = True
        self._device.write(offset_bytes, data)

    def write_zeros(self, offset_bytes: int, length_bytes: int) -> None:
        """As `write_data`; a long range becomes a hole where the device has such."""
        if length_bytes >= _DISCARD_MIN_BYTES:
            self._has_data = True
            self._device.discard(offset_bytes, length_bytes)
        elif length_bytes:
            self.write_data(offset_bytes, bytes(length_bytes))

    def link_later(self, last: int, cluster: int) -> None:
        """Lengthen a chain by another, once that is durable."""
        self._links.append((last, cluster))

    def reparent_later(self, folder: Folder, cluster: int) -> None:
        """Let a folder's `..` name another, once the folder is named there."""
        self._parents.append((folder, cluster))
        self.folders.add(folder)

    def remove_later(self, folder: Folder, slot: Slot) -> None:
        """Take an entry out, once everything new is named."""
        folder.forget(slot)
        self._removals.append((folder, slot))
        self.folders.add(folder)

    def cut_later(self, last: int) -> None:
        """End a chain at a cluster and free the rest, once its entry says so."""
        self._cuts.append(last)

    def free_later(self, first: int) -> None:
        """Free a chain, once nothing on the medium refers to it."""
        self._frees.append(first)

    # -- doing it -----------------------------------------------------------------------------

    def commit(self) -> None:
        """Write everything in its order.

        Raises:
            DeviceError: the medium refused; the volume refuses from then on.
        """
        self.check_usable()
        pending = (self._has_data, self._links, self._cuts, self._frees, self.folders)
        if not any(pending):
            return
        self.is_failed = True
        self.commit_count += 1
        self._write_new()
        self._write_removals()
        self._free()
        self._info.update(self._table.free_count, self._next_free())
        self.is_failed = False

    def _write_new(self) -> None:
        """Steps 1 to 4."""
        if self._has_data:
            self._device.flush()
            self._has_data = False
        if self._was_clean and not self._is_marked:
            self._table.set_clean(False)
            self._is_marked = True
        self._write_table()
        for last, cluster in self._links:
            self._table.put(last, cluster)
        self._links.clear()
        self._write_table()
        self._write_folders(self.folders)

    def _write_removals(self) -> None:
        """Steps 5 and 6."""
        for folder, cluster in self._parents:
            folder.set_parent(cluster)
        self._write_folders({folder for folder, _ in self._parents})
        for folder, slot in self._removals:
            folder.clear(slot)
        self._write_folders({folder for folder, _ in self._removals}, backwards=True)
        for folder in self.folders:
            folder.removed.clear()
        self._parents.clear()
        self._removals.clear()
        self.folders.clear()

    def _free(self) -> None:
        """Steps 7 and 8."""
        for last in self._cuts:
            self._frees.append(self._table[last])
            self._table.put(last, self._table.end)
        self._cuts.clear()
        self._write_table()
        for first in self._frees:
            chain, _ = self._table.follow(first)
            self._table.release(chain)
        self._frees.clear()
        self._table.write()

    def _write_folders(self, folders: Iterable[Folder], *, backwards: bool = False) -> None:
        changed = [folder for folder in folders if folder.is_dirty]
        for folder in sorted(changed, key=lambda folder: folder.clusters[:1]):
            folder.write(self._device, backwards=backwards)
        if changed:
            self._device.flush()

    def _write_table(self) -> None:
        if self._table.is_dirty:
            self._table.write()
            self._device.flush()

    def _next_free(self) -> int:
        found = self._table.next_free
        return found if found < self._table.limit else layout.FIRST_CLUSTER

    def finish(self) -> None:
        """Commit, and mark the volume clean if it was when it was opened.

        Raises:
            DeviceError: the medium refused.
        """
        self.commit()
        self._device.flush()
        if self._is_marked:
            self._table.set_clean(True)
            self._table.write()
            self._device.flush()
            self._is_marked = False
