"""Where the images of a journal are: beside it, or at the absolute path that it gives.

A journal is input, and may lie: left to itself it could have any file of the host overwritten. So a
plain name stays in the journal's own folder, and another place counts only when the user says so.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ipva_storage.device.folder import Folder
from ipva_storage.device.raw import RawDevice
from ipva_storage.errors import DeviceError, UndoError

if TYPE_CHECKING:
    from ipva_storage.device.base import FileDevice


class Images(Protocol):
    """Finds the images that a journal names."""

    def where(self, name: str) -> str:
        """What messages call an image: its name, unless this knows more."""
        return name

    def has(self, name: str) -> bool:
        """Whether it is there, as it is unless a job may remove it."""
        del name
        return True

    def create(self, name: str) -> FileDevice:
        """A new and empty one in the place of one that was removed.

        Raises:
            DeviceError: it cannot be made.
        """
        raise DeviceError("it cannot be made anew", where=name)

    def open(self, name: str, *, writable: bool) -> FileDevice:
        """An image by its name in the journal."""

    def modified_us(self, name: str) -> int:
        """When it was last changed, microseconds since 1970 UTC; 0 where nobody knows."""

    def journal_us(self) -> int:
        """When the journal was last changed; 0 where nobody knows."""
        return 0


class ImageFolder(Images):
    """The images of a journal that is a file."""

    def __init__(
        self, journal_path: str | os.PathLike[str], *, allow_outside: bool = False
    ) -> None:
        """Look beside the journal.

        Args:
            journal_path: the journal, or a link to it.
            allow_outside: also follow the absolute paths that it gives.
        """
        self._journal_path = Path(os.path.realpath(journal_path))
        self._folder = Folder(self._journal_path.parent)
        self._allow_outside = allow_outside

    def path(self, name: str) -> Path:
        """Where an image is.

        Raises:
            UndoError: the journal names itself, or a file outside its folder and that is not
                allowed.
            DeviceError: the name is neither plain nor absolute.
        """
        is_absolute = os.path.isabs(name) and "\0" not in name  # noqa: PTH117 - as in `folder`
        if is_absolute and not self._allow_outside:
            raise UndoError(
                f"it names a file outside its folder, {name}",
                where=str(self._journal_path),
                remedy="if that is the image to be taken back, use --allow-outside",
            )
        path = Path(name) if is_absolute else self._folder.resolve(name)
        if os.path.realpath(path) == str(self._journal_path):
            raise UndoError("it names itself as an image", where=str(self._journal_path))
        return path

    def where(self, name: str) -> str:
        """Its path."""
        return str(self.path(name))

    def has(self, name: str) -> bool:
        """Whether anything is there, be it a file or not."""
        return os.path.lexists(self.path(name))

    def create(self, name: str) -> FileDevice:
        """A new file in its place, whose name is durable."""
        path = self.path(name)
        return Folder(path.parent).create(path.name)

    def open(self, name: str, *, writable: bool) -> FileDevice:
        """An image, locked when it is to be changed."""
        return RawDevice(self.path(name), writable=writable)

    def modified_us(self, name: str) -> int:
        """When the host last saw it change."""
        return _modified_us(self.path(name))

    def journal_us(self) -> int:
        """When the host last saw the journal change."""
        return _modified_us(self._journal_path)


def _modified_us(path: Path) -> int:
    try:
        return max(0, path.stat().st_mtime_ns // 1000)
    except OSError:
        return 0


def name_in(folder: Path, path: str) -> str:
    """How a journal in a folder names an image.

    A plain name when the image is in the same folder, so that both can be moved together; else the
    absolute path, which after a move leads to nothing rather than to another file.
    """
    place = Path(os.path.realpath(path))
    if place.parent == folder:
        try:
            Folder(folder).resolve(place.name)
        except DeviceError:  # not a name that every host takes
            return str(place)
        return place.name
    return str(place)
