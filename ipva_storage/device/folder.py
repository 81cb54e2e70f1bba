"""A folder of the host: where an image finds the files that belong to it, and no others."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ipva_storage.device.raw import RawDevice
from ipva_storage.errors import DeviceError
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator


class Folder:
    """Opens and makes files in one folder. Names that leave it are refused.

    A descriptor, a `.vmx` or an archive names files; it is input, and may lie.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Work in the folder at `path`, which need not exist until a file is made."""
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"<Folder {self.path}>"

    def resolve(self, name: str) -> Path:
        """The path of a file of this folder, which need not exist.

        Raises:
            DeviceError: the name is absolute, has a separator or `..`, or is a link that leaves.
        """
        plain = name.replace("\\", "/")
        is_inside = plain not in ("", ".", "..") and "/" not in plain and "\0" not in plain
        if is_inside and ":" not in plain:
            path = self.path / plain
            if not path.is_symlink() or path.resolve().parent == self.path.resolve():
                return path
        raise DeviceError(
            f"“{name}” is not a plain file name in its folder",
            where=str(self.path),
            remedy="put the file beside the one that names it",
        )

    def names(self) -> list[str]:
        """Names of the files here, sorted; empty where there is no folder."""
        try:
            return sorted(entry.name for entry in self.path.iterdir() if entry.is_file())
        except OSError:
            return []

    def open(self, name: str, *, writable: bool = False) -> RawDevice:
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

    def write_text(self, name: str, text: str, *, force: bool = False) -> None:
        """Make a small text file, whole or not at all."""
        with self.new_file(name, force=force) as file:
            content = text.encode()
            file.resize(len(content))
            file.write(0, content)

    @contextlib.contextmanager
    def new_file(self, name: str, *, force: bool = False) -> Iterator[RawDevice]:
        """A file that appears under its name only when the block ends well.

        It is written beside its place, flushed and renamed; on an error or Ctrl-C it is removed.

        Raises:
            DeviceError: it exists and `force` was not given, or cannot be made.
        """
        path = self.resolve(name)
        self._refuse_existing(path, force=force)
        handle, temporary = self._temporary(path)
        os.close(handle)
        try:
            with RawDevice(temporary, writable=True) as device:
                yield device
                device.flush()
            _finish(Path(temporary), path, force=force)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def _refuse_existing(self, path: Path, *, force: bool) -> None:
        if not force and os.path.lexists(path):
            raise DeviceError(
                "it exists already", where=str(path), remedy="choose another name, or use --force"
            )

    def _temporary(self, path: Path) -> tuple[int, str]:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=self.path)
        except OSError as error:
            raise DeviceError(
                f"nothing can be written there ({error.strerror})", where=str(self.path)
            ) from error


def _finish(temporary: Path, path: Path, *, force: bool) -> None:
    """Give the finished file its name and the rights that the umask asks for."""
    umask = os.umask(0)
    os.umask(umask)
    try:
        temporary.chmod(0o666 & ~umask)
        if force:
            temporary.replace(path)
        else:
            _rename_new(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        raise DeviceError(
            f"it cannot be given its name ({error.strerror})", where=str(path)
        ) from error


def _rename_new(temporary: Path, path: Path) -> None:
    """Rename without replacing a file that appeared in the meantime."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        temporary.replace(path)


def _flush_folder(path: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
