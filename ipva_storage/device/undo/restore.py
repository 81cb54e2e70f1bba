"""Taking a job back: every image gets the bytes and the length that it had before.

Invariants:

1. Nothing is written before the whole journal is read and found sound, every image that is there is
   open and locked, and each is as the job left it (unless forced).
2. Doing it again, after a cut at any write, gives the same.
3. The journal is kept; only its status changes.
4. An image that is not there is made anew, where the journal has all of it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipva_storage.device.base import read
from ipva_storage.device.copy import chunks, is_zero
from ipva_storage.device.memory import MemoryDevice
from ipva_storage.device.slice import SliceDevice
from ipva_storage.device.undo.journal import left_crc32
from ipva_storage.device.undo.reader import JournalReader
from ipva_storage.device.undo.records import (
    COMPARED_LIMIT_BYTES,
    FileEntry,
    LeftEntry,
    RangeEntry,
    State,
    Status,
)
from ipva_storage.errors import UndoError
from ipva_storage.progress import silent

if TYPE_CHECKING:
    from ipva_storage.device.base import BlockDevice
    from ipva_storage.device.undo.places import Images
    from ipva_storage.progress import Progress

_SECOND_US: Final = 1_000_000

LATE_US: Final = 60 * _SECOND_US
"""How much later than its journal an image may have been changed by a job that was cut.

A job writes to its journal every few seconds (`BEAT_US`), and after a power cut the last of that,
which is not flushed, is missing: half a minute as a rule. Confidence: chosen.
"""

_FORCE: Final = "if you want the old bytes all the same, use --force"


@dataclass(frozen=True, slots=True)
class RestoredImage:
    """What was restored of one image, or would be."""

    name: str
    """The path of the image."""
    ranges: int
    saved_bytes: int
    original_bytes: int
    """The length that it has again."""


@dataclass(frozen=True, slots=True)
class Restoration:
    """What a journal restored, or would restore."""

    images: tuple[RestoredImage, ...]
    was_finished: bool
    """Whether the job came to its end. If not, nobody knows how it left the images, so nothing was
    compared but their lengths, and the time."""
    is_again: bool
    """Whether an earlier restore was cut, or repeated by force."""


def restore(
    journal: BlockDevice,
    images: Images,
    *,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Restoration:
    """Put the images of a journal back as they were before its job.

    Args:
        journal: the journal; writable unless `dry_run`.
        images: opens what it names.
        force: also when an image changed since the job, or was restored already. A damaged
            journal is refused all the same.
        dry_run: look at everything, write nothing.
        progress: told how much of the saved bytes is written.

    Raises:
        UndoError: the journal is damaged, or does not fit its images; nothing was written.
        DeviceError: the journal or an image refuses. When it came while writing, run it again.
    """
    reader = JournalReader(journal)
    state = reader.status.state
    if state is State.RESTORED and not force:
        raise UndoError(
            f"it was taken back already, {_when(reader.status.time_us)}",
            where=journal.name,
            remedy="to do it again, use --force",
        )
    with contextlib.ExitStack() as stack:
        found: list[_Image] = []
        for _, entry in reader.entries():
            if isinstance(entry, FileEntry):
                _refuse_twice(entry, found, journal.name)
                if images.has(entry.name):
                    device = stack.enter_context(images.open(entry.name, writable=not dry_run))
                    found.append(_Image(entry, device))
                else:
                    gone = MemoryDevice(name=images.where(entry.name))
                    found.append(_Image(entry, gone, is_there=False))
            else:
                found[entry.file_number].take(entry)
        for image in found:
            image.require()
            if not force:
                image.compare(images, reader.status)
        if found and not dry_run:
            reader.set_state(State.RESTORING, _now_us())
            for image in found:
                if not image.is_there:
                    image.device = stack.enter_context(images.create(image.name))
            _write(reader, found, progress)
        return Restoration(
            tuple(image.summary for image in found),
            all(image.left is not None for image in found),
            state in (State.RESTORING, State.RESTORED),
        )


class _Image:
    """An image while its journal is read."""

    def __init__(self, entry: FileEntry, device: BlockDevice, *, is_there: bool = True) -> None:
        self.is_there = is_there
        """Whether there is a file; the job may have removed it."""
        self.name = entry.name
        self.original_bytes = entry.original_bytes
        self.device = device
        self.left: LeftEntry | None = None
        self._size_bytes = device.size_bytes
        self._missing_bytes = max(0, entry.original_bytes - device.size_bytes)
        self._ranges = 0
        self._saved_bytes = 0
        self._compared_bytes = 0
        self._crc32 = 0

    @property
    def summary(self) -> RestoredImage:
        return RestoredImage(self.device.name, self._ranges, self._saved_bytes, self.original_bytes)

    def take(self, entry: RangeEntry | LeftEntry) -> None:
        """Take account of an entry, and read what the image holds there now."""
        if isinstance(entry, LeftEntry):
            self.left = entry
            return
        start, stop = entry.offset_bytes, entry.offset_bytes + entry.length_bytes
        self._ranges += 1
        self._saved_bytes += entry.length_bytes
        self._missing_bytes -= max(0, stop - max(start, self._size_bytes))
        stop = min(stop, start + COMPARED_LIMIT_BYTES - self._compared_bytes)
        if start < stop:
            self._compared_bytes += stop - start
            self._crc32 = left_crc32(self.device, start, stop, self._crc32)

    def require(self) -> None:
        """Refuse an image that is gone, and of which the journal has a part only.

        Raises:
            UndoError: it is.
        """
        if not self.is_there and self._missing_bytes > 0:
            raise UndoError(
                "there is no such file, and the journal has only a part of it",
                where=self.device.name,
                remedy="put the file back where it was",
            )

    def compare(self, images: Images, status: Status) -> None:
        """Refuse an image that is not as the job left it, as far as that is known.

        Args:
            images: knows when it was changed.
            status: of the journal; after a restore that was cut the image is neither one nor the
                other.
        """
        fault, modified_us = None, images.modified_us(self.name)
        if self._missing_bytes > 0:
            fault = f"it is {self._size_bytes} bytes long, and the journal does not have the rest"
        elif status.state is State.RESTORING:
            fault = None
        elif self.left is not None:
            fault = self._change_since(self.left, modified_us)
        else:
            fault = _late(modified_us, max(images.journal_us(), status.time_us))
        if fault is not None:
            raise UndoError(fault, where=self.device.name, remedy=_FORCE)

    def _change_since(self, left: LeftEntry, modified_us: int) -> str | None:
        if not self.is_there and left.left_bytes:
            return "it is not there any more"
        if self._size_bytes != left.left_bytes:
            return f"the job left it {left.left_bytes} bytes long, now it has {self._size_bytes}"
        if self._crc32 != left.crc32:
            return "it was changed since the job, in the very parts that the journal restores"
        if not _is_same_time(modified_us, left.modified_us):
            return (
                f"something wrote to it {_when(modified_us)}, after the job; "
                "restoring would mix old and new, unless that was only a copy or a later undo"
            )
        return None


def _late(modified_us: int, journal_us: int) -> str | None:
    """Why an image was changed after a job that did not come to its end; None where it was not."""
    if modified_us <= journal_us + LATE_US:
        return None
    return (
        f"something wrote to it {_when(modified_us)}, after the job, which did not come to its end "
        f"{_when(journal_us)}; restoring would mix old and new"
    )


def _refuse_twice(entry: FileEntry, found: list[_Image], journal_name: str) -> None:
    if any(image.name == entry.name for image in found):
        raise UndoError(f"it names the image {entry.name} twice", where=journal_name)


def _write(reader: JournalReader, found: list[_Image], progress: Progress) -> None:
    total_bytes = sum(image.summary.saved_bytes for image in found)
    for image in found:
        if image.device.size_bytes != image.original_bytes:
            image.device.resize(image.original_bytes)
    done_bytes = 0
    for _, entry in reader.entries():
        if isinstance(entry, RangeEntry):
            _put(found[entry.file_number].device, entry)
            done_bytes += entry.length_bytes
            progress(done_bytes, total_bytes)
    for image in found:
        image.device.flush()
    reader.set_state(State.RESTORED, _now_us())


def _put(device: BlockDevice, entry: RangeEntry) -> None:
    """Give a range its old bytes, where it has others: most of what is saved is never changed.

    So an image that the job did not get to is not written to, even where that is impossible.
    """
    at, length_bytes = entry.offset_bytes, entry.length_bytes
    if entry.data is None:
        part = SliceDevice(device, at, length_bytes)
        if any(not is_zero(read(part, *chunk)) for chunk in chunks(part)):
            device.discard(at, length_bytes)
    elif read(device, at, length_bytes) != entry.data:
        device.write(at, entry.data)


def _is_same_time(now_us: int, left_us: int) -> bool:
    """Whether a file was last changed at a time, as far as its file system can say.

    FAT keeps even seconds, others whole ones. 0 says nothing.
    """
    is_coarse = now_us % _SECOND_US == 0 and abs(now_us - left_us) <= 2 * _SECOND_US
    return 0 in (now_us, left_us) or now_us == left_us or is_coarse


def _now_us() -> int:
    return time.time_ns() // 1000


def _when(time_us: int) -> str:
    """A time for people, UTC; the number where it is none."""
    try:
        moment = dt.datetime.fromtimestamp(time_us // 1_000_000, dt.UTC)
    except (ValueError, OverflowError, OSError):
        return f"{time_us} microseconds after 1970"
    return f"on {moment:%Y-%m-%d %H:%M:%S} UTC"
