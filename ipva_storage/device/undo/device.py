"""A device around an image, and a folder around its files, that save before they let change."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ipva_storage.device.base import Device, byte_view
from ipva_storage.device.folder import FolderAround

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

    from ipva_storage.device.base import BlockDevice, Extent, FileDevice
    from ipva_storage.device.folder import Folder
    from ipva_storage.device.undo.journal import UndoJournal


class UndoDevice(Device):
    """Passes everything on to `device`; what a change overwrites is durable in the journal first.

    It holds nothing back itself. A save takes one flush of the journal for each 4 MiB, and writes
    in sequence save ever more ahead, so that they soon take one for each 4 MiB as well. Scattered
    writes take one each, unless they are announced together (`expect`).
    """

    def __init__(
        self, device: BlockDevice, journal: UndoJournal, *, name: str | None = None
    ) -> None:
        """Guard an image.

        Args:
            device: the image file. It belongs to this device from now on.
            journal: of the job.
            name: the path of the image; what the device calls itself unless given.

        Raises:
            UndoError: it is the journal itself.
        """
        self._device = device
        self._journal = journal
        self._image = journal.image(device.name if name is None else name, device.size_bytes)
        self.name = device.name

    @property
    def size_bytes(self) -> int:
        """Length in bytes."""
        return self._device.size_bytes

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Save ranges that are going to be written, with as few flushes as can be.

        Args:
            ranges: offset and length of each, such as those of `OverlayDevice.changed_extents`.

        Raises:
            DeviceError: a range cannot be read, or the journal not written; nothing was changed.
        """
        self._save([(at, at + length_bytes) for at, length_bytes in ranges])

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer."""
        self._device.read_into(offset_bytes, buffer)

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        """Put `data` at `offset_bytes`, saving what it covers first."""
        view = byte_view(data)
        self._check(offset_bytes, len(view))
        self._save([(offset_bytes, offset_bytes + len(view))], ahead=True)
        self._device.write(offset_bytes, view)

    def flush(self) -> None:
        """Flush the device below. The journal is ahead of it already."""
        self._device.flush()

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        """Discard in the device below, saving what that covers first."""
        self._check(offset_bytes, length_bytes)
        self._save([(offset_bytes, offset_bytes + length_bytes)])
        self._device.discard(offset_bytes, length_bytes)

    def extents(self) -> Iterator[Extent]:
        """The runs of the device below."""
        return self._device.extents()

    def resize(self, size_bytes: int, /) -> None:
        """Resize the device below, saving what that cuts off first."""
        self._check_size(size_bytes)
        self._save([(size_bytes, self.size_bytes)])
        self._device.resize(size_bytes)

    def close(self) -> None:
        """Close the device below; the journal stays open."""
        self._device.close()

    def _save(self, ranges: list[tuple[int, int]], *, ahead: bool = False) -> None:
        self._journal.secure(self._image, self._device, ranges, ahead=ahead)


class UndoFolder(FolderAround):
    """A folder whose files are saved before they change, are replaced or go.

    Files that are new in it stay after an undo: a journal says what to restore, never what to
    delete.
    """

    def __init__(self, folder: Folder, journal: UndoJournal) -> None:
        """Guard the files of `folder`."""
        super().__init__(folder)
        self._journal = journal

    def open(self, name: str, *, writable: bool = False) -> FileDevice:
        """Open a file of this folder, guarded when it may be written to.

        Raises:
            DeviceError: the name leaves the folder, or the file cannot be opened.
        """
        device = super().open(name, writable=writable)
        return UndoDevice(device, self._journal) if writable else device

    @contextlib.contextmanager
    def new_file(self, name: str, *, force: bool = False) -> Iterator[FileDevice]:
        """As in any folder; the whole of a file that is replaced is saved first."""
        if force and self.has(name):
            self._save(name)
        with super().new_file(name, force=force) as file:
            yield file

    def remove(self, name: str) -> None:
        """Delete a file; the whole of it is saved first.

        Raises:
            DeviceError: there is none, it is in use or cannot be read or deleted.
        """
        self._save(name)
        super().remove(name)

    def _save(self, name: str) -> None:
        with super().open(name) as old, UndoDevice(old, self._journal) as device:
            device.expect([(0, old.size_bytes)])

    def _around(self, folder: Folder) -> Folder:
        return UndoFolder(folder, self._journal)
