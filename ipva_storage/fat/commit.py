"""In which order changes reach the medium.

Data clusters (free until then) and a barrier; the new chains in the table and a barrier; longer
folder chains and a barrier; folder sectors and a barrier; then the old chains are freed and the
free-space summary follows. Whatever reaches the medium before the power goes is a prefix of that,
up to reordering within a step, and each prefix leaves every file that was there before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_formats import fat as layout
from ipva_storage.errors import FatError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.folder import Folder
    from ipva_storage.fat.fsinfo import FsInfo
    from ipva_storage.fat.table import FatTable


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
        self._frees: list[int] = []
        self.folders: set[Folder | None] = set()
        """Folders that may have changed."""
        self.is_failed = False
        self.commit_count = 0

    @property
    def has_frees(self) -> bool:
        """Whether a commit would give clusters back."""
        return bool(self._frees)

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

    def write_data(self, offset_bytes: int, data: ReadableBuffer) -> None:
        """Write to clusters that nothing on the medium refers to."""
        self._has_data = True
        self._device.write(offset_bytes, data)

    def link_later(self, last: int, cluster: int) -> None:
        """Lengthen a folder's chain by a cluster, once that cluster is durable."""
        self._links.append((last, cluster))

    def free_later(self, first: int) -> None:
        """Free a chain, once nothing on the medium refers to it."""
        self._frees.append(first)

    def commit(self) -> None:
        """Write everything in its order.

        Raises:
            DeviceError: the medium refused; the volume refuses from then on.
        """
        self.check_usable()
        if not (self._has_data or self._links or self._frees or self.folders):
            return
        self.is_failed = True
        self.commit_count += 1
        self._write_table_and_folders()
        for first in self._frees:
            chain, _ = self._table.follow(first)
            self._table.release(chain)
        self._frees.clear()
        self._table.write()
        self._info.update(self._table.free_count, self._next_free())
        self.is_failed = False

    def _write_table_and_folders(self) -> None:
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
        changed = [folder for folder in self.folders if folder is not None and folder.is_dirty]
        for folder in sorted(changed, key=lambda folder: folder.clusters[:1]):
            folder.write(self._device)
        self.folders.clear()
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
