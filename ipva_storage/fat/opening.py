"""Opening files: modes, buffers, and which files are open."""

from __future__ import annotations

import io
import weakref
from typing import TYPE_CHECKING, Final, NamedTuple

from ipva_storage.errors import FatExistsError, FatNotFoundError, UsageError
from ipva_storage.fat.file import FatFile
from ipva_storage.units import KIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipva_storage.fat.records import Slot
    from ipva_storage.fat.volume import FatVolume

BUFFER_BYTES: Final = 256 * KIB
"""What is gathered before it is written. Confidence: chosen."""


class Mode(NamedTuple):
    """What may be done with an open file."""

    text: str
    is_reading: bool
    is_writing: bool
    is_appending: bool
    is_emptied: bool
    may_make: bool
    must_make: bool


def parse_mode(text: str) -> Mode:
    """Take a mode such as `r+b` apart.

    Raises:
        UsageError: it is none.
    """
    kinds = [char for char in text if char in "rwxa"]
    rest = sorted(char for char in text if char not in "rwxa")
    if len(kinds) != 1 or rest not in ([], ["+"], ["b"], ["+", "b"]):
        raise UsageError(f"“{text}” is no mode of a binary file", remedy="use rb, r+b, wb or ab")
    (kind,) = kinds
    return Mode(
        text=kind + "b" + "+" * ("+" in rest),
        is_reading=kind == "r" or "+" in rest,
        is_writing=kind != "r" or "+" in rest,
        is_appending=kind == "a",
        is_emptied=kind == "w",
        may_make=kind != "r",
        must_make=kind == "x",
    )


def open_file(volume: FatVolume, path: str, mode_text: str, buffering: int) -> io.IOBase:
    """See `FatVolume.open`."""
    mode = parse_mode(mode_text)
    start, slot = _place(volume, path, mode)
    if slot.entry.is_dir:
        raise FatExistsError(f"“{path}” is a folder", where=volume.name)
    volume.open_files.check_closed(start, slot.short, path, may_read=not mode.is_writing)
    file = FatFile(volume, path, start, slot, mode)
    found: io.IOBase = file
    size = BUFFER_BYTES if buffering < 0 else buffering
    if size:
        if not mode.is_writing:
            found = io.BufferedReader(file, size)
        elif mode.is_reading:
            found = _Random(file, size)
        else:
            found = _Writer(file, size)
    if mode.is_appending:
        found.seek(0, io.SEEK_END)
    volume.open_files.add(found)
    return found


def _place(volume: FatVolume, path: str, mode: Mode) -> tuple[int, Slot]:
    """Where the folder starts, and the entry, made if it must be."""
    if not mode.is_writing:
        return volume.tree.existing(path)
    start, name = volume.writer.new_place(path)
    folder = volume.tree.folder(start)
    slot = folder.find(name)
    if slot is not None and mode.must_make:
        raise FatExistsError(f"“{path}” exists already", where=volume.name)
    if slot is None and not mode.may_make:
        raise FatNotFoundError(f"there is no “{path}”", where=volume.name)
    if slot is None:
        slot = volume.writer.put_content(folder, name, None, [], 0)
        volume.writer.done(folder)
    return start, slot


class _Writer(io.BufferedWriter):
    """Whose flush reaches the volume: Python's own ends at the raw file."""

    def flush(self) -> None:
        super().flush()
        self.raw.flush()


class _Random(io.BufferedRandom):
    """As `_Writer`."""

    def flush(self) -> None:
        super().flush()
        self.raw.flush()


class OpenFiles:
    """The open files of a volume; those that nobody holds any more are closed by Python."""

    def __init__(self) -> None:
        self._files: weakref.WeakSet[io.IOBase] = weakref.WeakSet()

    def add(self, file: io.IOBase) -> None:
        """Keep an eye on a file."""
        self._files.add(file)

    def _open(self) -> Iterator[FatFile]:
        for file in list(self._files):
            raw = getattr(file, "raw", file)
            if isinstance(raw, FatFile) and not raw.closed:
                yield raw

    def check_closed(self, start: int, short: bytes, path: str, *, may_read: bool = False) -> None:
        """Refuse what would pull a file from under those that have it open.

        Args:
            start: where its folder starts.
            short: the 11 bytes of its name.
            path: what errors call it.
            may_read: files open for reading do not matter.

        Raises:
            UsageError: it is open.
        """
        for file in self._open():
            is_it = (file.start, file.short) == (start, short)
            if is_it and (file.writable() or not may_read):
                raise UsageError(f"“{path}” is open", remedy="close it first")

    def check_folders(self, starts: Iterable[int], path: str) -> None:
        """As `check_closed`, for all files in some folders."""
        found = set(starts)
        for file in self._open():
            if file.start in found:
                raise UsageError(f"“{file.name}” in “{path}” is open", remedy="close it first")

    def close(self, *, abandon: bool) -> None:
        """Close all.

        Args:
            abandon: let everything go that is not written yet.
        """
        for raw in self._open() if abandon else ():
            raw.abandon()
        for file in list(self._files):
            file.close()
