"""A folder of the host: where an image finds the files that belong to it, and no others."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipva_storage.device.raw import RawDevice
from ipva_storage.errors import DeviceError
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device.base import FileDevice

_NAME_BYTES_MAX: Final = 255
"""Longest file name of the usual file systems. Source: Linux, NAME_MAX. Confidence: stated."""


class Folder:
    """Opens and makes files in one folder. Names that leave it are refused.

    A descriptor, a `.vmx` or an archive names files; it is input, and may lie. So a name that
    leaves the folder is followed only where the user said that it may (`allow_outside`).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        allow_outside: bool = False,
        shown: Path | None = None,
    ) -> None:
        """Work in the folder at `path`, which need not exist until a file is made.

        Args:
            path: where it is.
            allow_outside: follow names that leave it.
            shown: where messages say that new files are, when they are to be there in the end.
        """
        self.path = Path(path)
        self.allow_outside = allow_outside
        self._shown = self.path if shown is None else shown

    def __repr__(self) -> str:
        return f"<Folder {self.path}>"

    def resolve(self, name: str) -> Path:
        """The path of a file of this folder, which need not exist.

        Raises:
            DeviceError: the name is absolute, has a separator or `..`, or is a link that leaves.
        """
        if self.allow_outside and name and "\0" not in name:
            path = self.path / name
            # A name from Windows; the check is of text only, because such a file may not exist.
            return path if path.exists() else self.path / name.replace("\\", "/")
        if _is_plain(name):
            path = self.path / name
            # os.path and not pathlib: it answers where pathlib raises (rings of links, no rights).
            place, home = (Path(os.path.realpath(each)) for each in (path, self.path))
            if not os.path.islink(path) or place.parent == home:  # noqa: PTH114
                return path
        raise DeviceError(
            f"“{name[:80]}” is not a plain file name in its folder",
            where=str(self.path),
            remedy="put the file beside the one that names it, or allow it with --allow-outside",
        )

    def beside(self, name: str) -> Folder:
        """The folder that a file is in: this one, unless names may leave it.

        Raises:
            DeviceError: the name leaves the folder.
        """
        parent = self.resolve(name).parent
        return self if parent == self.path else self._at(parent)

    def _at(self, path: Path) -> Folder:
        """Another folder of the same kind."""
        return Folder(path, allow_outside=self.allow_outside)

    def names(self) -> list[str]:
        """Names of the files here, sorted; empty where there is no folder."""
        try:
            return sorted(entry.name for entry in self.path.iterdir() if entry.is_file())
        except OSError:
            return []

    def has(self, name: str) -> bool:
        """Whether there is a file of that name; a name that leaves the folder has none."""
        try:
            return self.resolve(name).is_file()
        except (DeviceError, OSError):
            return False

    def open(self, name: str, *, writable: bool = False) -> FileDevice:
        """Open a file of this folder.

        Raises:
            DeviceError: the name leaves the folder, or the file cannot be opened.
        """
        return RawDevice(self.resolve(name), writable=writable)

    def read_text(self, name: str, *, limit_bytes: int = MIB) -> str:
        """A small text file, as UTF-8 or else Latin-1.

        Raises:
            DeviceError: it cannot be read, or is longer than `limit_bytes`.
        """
        with self.open(name) as file:
            if file.size_bytes > limit_bytes:
                raise DeviceError(f"it is longer than {limit_bytes} bytes", where=file.name)
            content = bytearray(file.size_bytes)
            file.read_into(0, content)
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            return content.decode("latin-1")

    def create(self, name: str) -> FileDevice:
        """A new, empty file under its own name at once, for what must outlive a cut half made.

        Raises:
            DeviceError: it exists already, or cannot be made.
        """
        path = self.resolve(name)
        self._make()
        device = RawDevice.create(path)
        flush_folder(path.parent)
        return device

    def write_text(self, name: str, text: str, *, force: bool = False) -> None:
        """Make a small text file, whole or not at all."""
        with self.new_file(name, force=force) as file:
            content = text.encode()
            file.resize(len(content))
            file.write(0, content)

    def replace(self, name: str, content: bytes) -> None:
        """Give a file of this folder other content, all of it or none, whatever happens."""
        with self.new_file(name, force=True) as file:
            file.resize(len(content))
            file.write(0, content)

    def remove(self, name: str) -> None:
        """Delete a file of this folder; it is gone for good when this returns.

        Raises:
            DeviceError: the name leaves the folder, or the file is in use or cannot be deleted.
        """
        path = self.resolve(name)
        with held(path):
            try:
                path.unlink()
            except OSError as error:
                raise DeviceError(
                    f"it cannot be deleted ({error.strerror})", where=str(path)
                ) from error
            flush_folder(path.parent)

    @contextlib.contextmanager
    def new_file(self, name: str, *, force: bool = False) -> Iterator[FileDevice]:
        """A file that appears under its name only when the block ends well.

        It is written beside its place, flushed and renamed; on an error or Ctrl-C it is removed.

        Raises:
            DeviceError: it exists and `force` was not given, or cannot be made.
        """
        path = self.resolve(name)
        _refuse_existing(path, force=force)
        self._make()
        # Short enough for any file system, and not the name's end, so that nobody takes it for one.
        temporary = self.path / f".{path.name[:40]}.{os.urandom(4).hex()}.part"
        try:
            with RawDevice.create(temporary, name=str(self._shown / path.name)) as device:
                yield device
            with RawDevice(temporary, writable=True) as device:  # a VMDK may have closed it
                device.flush()
            _finish(temporary, path, force=force)
        finally:
            with contextlib.suppress(OSError, ValueError):
                temporary.unlink(missing_ok=True)

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise DeviceError(
                f"there can be no such folder ({error})",
                where=str(self.path),
                remedy="name another",
            ) from error


class FolderAround(Folder):
    """A folder around another one, which does all that a class made from this one does not."""

    def __init__(self, folder: Folder) -> None:
        """Stand for `folder`."""
        super().__init__(folder.path, allow_outside=folder.allow_outside)
        self._folder = folder

    def resolve(self, name: str) -> Path:
        """The path of a file in the folder within."""
        return self._folder.resolve(name)

    def beside(self, name: str) -> Folder:
        """The folder that a file is in."""
        beside = self._folder.beside(name)
        return self if beside is self._folder else self._around(beside)

    def _around(self, folder: Folder) -> Folder:
        """The same around another folder."""
        return FolderAround(folder)

    def names(self) -> list[str]:
        """Names of the files of the folder within."""
        return self._folder.names()

    def has(self, name: str) -> bool:
        """Whether the folder within has a file of that name."""
        return self._folder.has(name)

    def open(self, name: str, *, writable: bool = False) -> FileDevice:
        """Open a file of the folder within."""
        return self._folder.open(name, writable=writable)

    def create(self, name: str) -> FileDevice:
        """A new, empty file in the folder within."""
        return self._folder.create(name)

    def remove(self, name: str) -> None:
        """Delete a file of the folder within."""
        self._folder.remove(name)

    @contextlib.contextmanager
    def new_file(self, name: str, *, force: bool = False) -> Iterator[FileDevice]:
        """A file that appears in the folder within when the block ends well."""
        with self._folder.new_file(name, force=force) as file:
            yield file


def _is_plain(name: str) -> bool:
    """Whether a name is one of a file right here, on every host."""
    if name in ("", ".", "..") or any(letter in name for letter in "/\\:\0"):
        return False
    try:
        return len(os.fsencode(name)) <= _NAME_BYTES_MAX
    except UnicodeEncodeError:
        return False


def _refuse_existing(path: Path, *, force: bool) -> None:
    if os.path.isdir(path):  # noqa: PTH112 - as above
        raise DeviceError("it is a folder", where=str(path), remedy="choose another name")
    if not force and os.path.lexists(path):
        raise DeviceError(
            "it exists already", where=str(path), remedy="choose another name, or use --force"
        )


def _finish(temporary: Path, path: Path, *, force: bool) -> None:
    """Give the finished file its name."""
    try:
        if force:
            with held(path):
                temporary.replace(path)
        else:
            _rename_new(temporary, path)
    except FileExistsError as error:
        raise DeviceError("it appeared while it was being made", where=str(path)) from error
    except OSError as error:
        raise DeviceError(
            f"it cannot be given its name ({error.strerror})", where=str(path)
        ) from error
    flush_folder(path.parent)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock of a file while it is replaced, if there is one.

    Raises:
        DeviceError: another process is writing to it, which would be lost; or it may not be
            written to.
    """
    if not path.is_file():
        yield
        return
    with RawDevice(path, writable=True):
        yield


def _rename_new(temporary: Path, path: Path) -> None:
    """Rename without replacing a file that appeared in the meantime."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError as error:  # no hard links there: look, then rename
        if os.path.lexists(path):
            raise FileExistsError from error
        temporary.rename(path)
    else:
        temporary.unlink()


def flush_folder(path: Path) -> None:
    """Make the new name durable, on hosts where a folder can be flushed."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
