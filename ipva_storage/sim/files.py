"""A folder in memory that remembers, in one order, what was done to all of its files.

What is assumed of a host that loses its power (`jobs` makes the states from it):

- Writes, discards and changes of length of a file are durable after a flush of that file; a flush
  says nothing of any other file. Until then each may be missing, whatever came after it.
- Names change one after the other, each change whole or not at all, and in order, as every
  journaling file system does it. A change of names is durable once the folder was flushed.
- Bytes that were written behind the end that the file has after the cut are gone.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipva_storage.device import Device, Folder, MemoryDevice, Operation, TraceRecord, byte_view
from ipva_storage.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from _typeshed import ReadableBuffer, WriteableBuffer

    from ipva_storage.device import Extent
    from ipva_storage.device.base import FileDevice


@dataclass(frozen=True, slots=True)
class FileChange:
    """One operation on one file."""

    file: int
    """Number of the file: those that were there from the start are numbered by name, the others
    as they were made. A file keeps its number under any name."""
    record: TraceRecord


@dataclass(frozen=True, slots=True)
class NameChange:
    """What the folder names, from now on."""

    names: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class FolderFlush:
    """All names are durable, as they are now."""


Change = FileChange | NameChange | FolderFlush


class MemoryFolder(Folder):
    """Files in memory, by the rules of `Folder`: names stay inside, and each file has one writer.

    `changes` is what was done so far, oldest first.
    """

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        """Start with copies of some files, by name."""
        super().__init__("memory")
        start = dict(sorted((files or {}).items()))
        self._names = {name: number for number, name in enumerate(start)}
        self._files = [
            MemoryDevice(content, name=self._place(name)) for name, content in start.items()
        ]
        self._written: set[int] = set()
        self.changes: list[Change] = []

    @property
    def files(self) -> dict[str, bytes]:
        """What is in each file now, by name."""
        return {name: bytes(self._files[number].data) for name, number in self._names.items()}

    def resolve(self, name: str) -> Path:
        """What messages call a file.

        Raises:
            DeviceError: the name leaves the folder.
        """
        if name in ("", ".", "..") or any(letter in name for letter in "/\\:\0"):
            raise DeviceError(f"“{name}” is not a plain file name", where=str(self.path))
        return self.path / name

    def beside(self, name: str) -> Folder:
        """This folder.

        Raises:
            DeviceError: the name leaves it.
        """
        self.resolve(name)
        return self

    def names(self) -> list[str]:
        """Names of the files, sorted."""
        return sorted(self._names)

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return name in self._names

    def open(self, name: str, *, writable: bool = False) -> FileDevice:
        """Open a file; until it is closed nobody else writes to one that was opened for writing.

        Raises:
            DeviceError: there is none, or it has a writer.
        """
        place = self._place(name)
        if name not in self._names:
            raise DeviceError("there is no such file", where=place)
        return self._handle(self._names[name], place, writable=writable)

    def create(self, name: str) -> FileDevice:
        """A new, empty file under its own name at once.

        Raises:
            DeviceError: it is there.
        """
        place = self._place(name)
        if name in self._names:
            raise DeviceError("it exists already", where=place)
        self._files.append(MemoryDevice(name=place))
        self._rename({**self._names, name: len(self._files) - 1})
        self.changes.append(FolderFlush())
        return self._handle(self._names[name], place, writable=True)

    def remove(self, name: str) -> None:
        """Delete a file.

        Raises:
            DeviceError: there is none, or it has a writer.
        """
        self.open(name, writable=True).close()
        self._rename({each: number for each, number in self._names.items() if each != name})
        self.changes.append(FolderFlush())

    @contextlib.contextmanager
    def new_file(self, name: str, *, force: bool = False) -> Iterator[FileDevice]:
        """A file that appears under its name when the block ends well, by the steps of `Folder`.

        Raises:
            DeviceError: it is there and `force` was not given, or has a writer.
        """
        place = self._place(name)
        if name in self._names and not force:
            raise DeviceError("it exists already", where=place)
        number = len(self._files)
        temporary = f".{name}.{number:08x}.part"
        self._files.append(MemoryDevice(name=place))
        self._rename({**self._names, temporary: number})
        try:
            with self._handle(number, place, writable=True) as file:
                yield file
            with self.open(temporary, writable=True) as file:
                file.flush()
            self._finish(temporary, name, force=force)
        finally:
            if temporary in self._names:
                self._rename({n: f for n, f in self._names.items() if n != temporary})

    def _finish(self, temporary: str, name: str, *, force: bool) -> None:
        number = self._names[temporary]
        if force and name in self._names:
            self.open(name, writable=True).close()
        elif not force:  # a second name first, so that no file is ever replaced
            self._rename({**self._names, name: number})
        kept = {each: file for each, file in self._names.items() if each not in (temporary, name)}
        self._rename({**kept, name: number})
        self.changes.append(FolderFlush())

    def _rename(self, names: Mapping[str, int]) -> None:
        self._names = dict(names)
        self.changes.append(NameChange(dict(names)))

    def _place(self, name: str) -> str:
        return self.resolve(name).as_posix()

    def _handle(self, number: int, place: str, *, writable: bool) -> Device:
        return _Handle(self, number, place, self._files[number], writable=writable)

    def lock(self, number: int, place: str) -> None:
        """Let a file have a writer.

        Raises:
            DeviceError: it has one.
        """
        if number in self._written:
            raise DeviceError("another process is writing to it", where=place)
        self._written.add(number)

    def unlock(self, number: int) -> None:
        """Let a file have no writer."""
        self._written.discard(number)


class _Handle(Device):
    """An open file of a `MemoryFolder`."""

    def __init__(
        self, folder: MemoryFolder, number: int, name: str, data: MemoryDevice, *, writable: bool
    ) -> None:
        if writable:
            folder.lock(number, name)
        self.name = name
        self._folder = folder
        self._number = number
        self._data = data
        self._size_bytes = data.size_bytes  # as of a file of the host: another's resize is not seen
        self._is_writable = writable
        self._is_open = True

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        self._alive()
        self._check(offset_bytes, byte_view(buffer).nbytes)
        self._data.read_into(offset_bytes, buffer)

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        kept = bytes(byte_view(data))
        self._alive(writing=True)
        self._check(offset_bytes, len(kept))
        self._data.write(offset_bytes, kept)
        self._keep(TraceRecord(Operation.WRITE, offset_bytes, len(kept), kept))

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        self._alive(writing=True)
        self._check(offset_bytes, length_bytes)
        self._data.discard(offset_bytes, length_bytes)
        self._keep(TraceRecord(Operation.DISCARD, offset_bytes, length_bytes))

    def flush(self) -> None:
        self._alive()
        if self._is_writable:
            self._keep(TraceRecord(Operation.FLUSH, 0, 0))

    def extents(self) -> Iterator[Extent]:
        return self._data.extents()

    def resize(self, size_bytes: int, /) -> None:
        self._alive(writing=True)
        self._data.resize(size_bytes)
        self._size_bytes = size_bytes
        self._keep(TraceRecord(Operation.RESIZE, size_bytes, 0))

    def close(self) -> None:
        if self._is_open and self._is_writable:
            self._folder.unlock(self._number)
        self._is_open = False

    def _alive(self, *, writing: bool = False) -> None:
        if not self._is_open:
            raise DeviceError("it is closed", where=self.name)
        if writing and not self._is_writable:
            raise DeviceError("it was opened read-only", where=self.name)

    def _keep(self, record: TraceRecord) -> None:
        self._folder.changes.append(FileChange(self._number, record))
