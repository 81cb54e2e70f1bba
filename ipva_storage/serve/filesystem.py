"""The files of a FAT disk as an fsspec filesystem, for pandas, Dask and all that opens such URLs.

`ipva://DISK:/folder/file.csv`, where DISK is an image file or a disk of a VM, `VM#boot` or `VM#cf`,
as on the command line. Needs the extra `fsspec`, which registers the protocol.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fsspec import AbstractFileSystem

from ipva_storage import appliance, fat
from ipva_storage.appliance import Role
from ipva_storage.appliance.image import open_image
from ipva_storage.device import Folder
from ipva_storage.errors import UsageError

if TYPE_CHECKING:
    import io

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat import FatEntry

PROTOCOL: Final = "ipva"
_ROLES: Final = {"boot": Role.BOOT, "cf": Role.CF}


class VolumeFileSystem(AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
    """The first FAT volume of a disk. Paths start at its root and match whatever their case.

    >>> VolumeFileSystem._strip_protocol("ipva://demo#cf:/docs/a.csv")
    '/docs/a.csv'
    """

    protocol = PROTOCOL
    root_marker = "/"
    cachable = False  # it holds a disk open, and sees no change that others make

    def __init__(
        self,
        disk: str,
        *,
        writable: bool = False,
        allow_outside: bool = False,
        code_page: str = "cp437",
        **options: Any,
    ) -> None:
        """Open a disk.

        Args:
            disk: an image file, or `VM#boot` or `VM#cf`, where VM is a folder with a .vmx.
            writable: whether files may be changed; the image is locked then.
            allow_outside: follow extents and parents out of the disk's folder.
            code_page: of short names, as Python calls it.
            options: fsspec's own.

        Raises:
            IpvaError: there is no such disk, or no FAT volume on it.
        """
        super().__init__(**options)
        self._lock = threading.RLock()
        self._device = _open_disk(disk, writable=writable, allow_outside=allow_outside)
        self._writable = writable
        try:
            self._volume = fat.open_first(self._device, code_page=code_page)
        except BaseException:
            self._device.close()
            raise

    def close(self) -> None:
        """Write what is left, and close the disk."""
        with self._lock:
            if self._writable:
                self._volume.close()
            self._device.close()

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """What is in a folder, or one file: facts, or names."""
        path = self._strip_protocol(path)
        with self._lock:
            entry = None if path == "/" else self._volume.stat(path)
            if entry is None or entry.is_dir:
                base = path.rstrip("/")
                found = [_facts(f"{base}/{one.name}", one) for one in self._volume.list(path)]
            else:
                found = [_facts(path, entry)]
        return found if detail else [each["name"] for each in found]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Facts of one file or folder."""
        path = self._strip_protocol(path)
        if path == "/":
            return {"name": "/", "size": 0, "type": "directory"}
        with self._lock:
            return _facts(path, self._volume.stat(path))

    def modified(self, path: str) -> Any:
        """When a file was last written to, by the local clock of who wrote it."""
        return self.info(path)["mtime"]

    def created(self, path: str) -> Any:
        """When a file was made, or None."""
        return self.info(path)["created"]

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Make a folder."""
        with self._changing(path):
            self._volume.mkdir(self._strip_protocol(path), parents=create_parents)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a folder and those above it."""
        if not exist_ok and self.exists(path):
            raise FileExistsError(path)
        self.mkdir(path, create_parents=True)

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        self._rm(path)

    def _rm(self, path: str) -> None:
        with self._changing(path):
            self._volume.delete(self._strip_protocol(path))

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        """Move or rename; a file of the new name is replaced."""
        with self._changing(path1):
            self._volume.move(self._strip_protocol(path1), self._strip_protocol(path2), force=True)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Copy a file within the volume."""
        with self._changing(path2):
            content = self._volume.read(self._strip_protocol(path1))
            self._volume.write(self._strip_protocol(path2), content)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> io.IOBase:
        with self._lock if mode == "rb" else self._changing(path):
            return self._volume.open(self._strip_protocol(path), mode.replace("b", ""))

    def _changing(self, path: str) -> threading.RLock:
        """The lock, for a change.

        Raises:
            UsageError: the disk was opened for reading.
        """
        if not self._writable:
            raise UsageError(
                "the disk is open for reading",
                where=path,
                remedy="open it with writable=True",
            )
        return self._lock

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        """The path within the volume, from its root on."""
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        _, inner = _split(str(path))
        return "/" + inner.strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        disk, _ = _split(path)
        return {} if disk is None else {"disk": disk}


def _split(url: str) -> tuple[str | None, str]:
    """The disk and the path of a URL; a plain path names no disk."""
    text = url.removeprefix(f"{PROTOCOL}://")
    at = text.find(":/", 2)
    return (None, text) if at < 0 else (text[:at], text[at + 1 :])


def _open_disk(text: str, *, writable: bool, allow_outside: bool) -> BlockDevice:
    vm, mark, role = text.rpartition("#")
    if mark and not Path(text).exists():
        if role not in _ROLES:
            raise UsageError(f"“{role}” is no FAT disk of a VM", remedy="write VM#boot or VM#cf")
        path = Path(vm)
        place = path if path.is_dir() else path.parent
        name = None if path.is_dir() else path.name
        machine = appliance.open(Folder(place, allow_outside=allow_outside), name)
        return machine.open_disk(_ROLES[role], writable=writable)
    path = Path(text)
    folder = Folder(path.parent, allow_outside=allow_outside)
    return open_image(folder, path.name, writable=writable)


def _facts(path: str, entry: FatEntry) -> dict[str, Any]:
    return {
        "name": path,
        "size": entry.size_bytes,
        "type": "directory" if entry.is_dir else "file",
        "mtime": entry.modified,
        "created": entry.created,
    }
