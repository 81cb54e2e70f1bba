"""The journal as it is written: what an image holds goes in before the image is changed.

Invariants:

1. When `secure` returns, all that it was asked to save is durable, and so is the image's entry.
2. A range is saved once, as it was before the job; nothing beyond the original length is saved.
3. At most one batch is not durable, the last, and nothing that it saves was overwritten.
4. A journal that could not be flushed saves nothing more, so that nothing more is changed.
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zlib import crc32

from ipva_storage.device.copy import data_runs
from ipva_storage.device.undo import records
from ipva_storage.device.undo.ledger import BLOCK_BYTES, Ledger
from ipva_storage.device.undo.places import name_in
from ipva_storage.device.undo.records import Entry, FileEntry, LeftEntry, RangeEntry, State, Status
from ipva_storage.errors import DeviceError, UndoError
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipva_storage.device.base import BlockDevice
    from ipva_storage.device.folder import Folder
    from ipva_storage.device.undo.places import Images

BATCH_BYTES: Final = 4 * MIB
"""How much is saved with one flush, at most. Confidence: chosen (measured, see ADR 0007)."""

BATCH_ENTRIES: Final = 4096

LONG_BYTES: Final = 16 * MIB
"""From this length on the host is asked where the holes are, instead of reading them."""

BEAT_US: Final = 5_000_000
"""How often a job that saves nothing new notes that it is at work. Confidence: chosen."""

_STEP_BYTES: Final = 1 * MIB


class SavedImage:
    """What the journal knows about one image."""

    def __init__(self, name: str, original_bytes: int) -> None:
        """An image of which nothing is saved."""
        self.name = name
        self.number: int | None = None
        """Its number, once its entry is durable."""
        self.ledger = Ledger(original_bytes)
        self.compared: list[tuple[int, int]] = []
        """Saved ranges in the order of their entries, up to what the entry LEFT compares."""
        self._compared_bytes = 0

    def note(self, entry: RangeEntry) -> None:
        """Take account of a range that is durable now."""
        start, stop = entry.offset_bytes, entry.offset_bytes + entry.length_bytes
        self.ledger.mark(start, stop)
        stop = min(stop, start + records.COMPARED_LIMIT_BYTES - self._compared_bytes)
        if start < stop:
            self.compared.append((start, stop))
            self._compared_bytes += stop - start


class UndoJournal:
    """One journal for one job, over any number of images."""

    def __init__(
        self,
        device: BlockDevice,
        folder: Path | None = None,
        *,
        journal_id: int | None = None,
        time_us: int | None = None,
    ) -> None:
        """Start a journal.

        Args:
            device: an empty device that can grow.
            folder: where it is, which says how images are named; None takes names as they are.
            journal_id: random unless given.
            time_us: microseconds since 1970 UTC; now unless given.

        Raises:
            DeviceError: the device is not empty, or refuses.
        """
        if device.size_bytes:
            raise DeviceError("it is not empty", where=device.name, remedy="choose another name")
        self.name = device.name
        self.saved_bytes = 0
        """How much of all images is saved."""
        self._device: BlockDevice | None = device
        self._folder = folder
        self._journal_id = secrets.randbits(64) if journal_id is None else journal_id
        self._time_us = time_us
        self._images: dict[str, SavedImage] = {}  # by name, as they were met
        self._entered: list[SavedImage] = []  # those with a durable entry, by their number
        self._batch_count = 0
        self._end_bytes = records.BATCHES_OFFSET_BYTES
        self._generation = 0
        self._told_us = 0
        self._is_broken = False
        self._start(device)

    @classmethod
    def create(cls, folder: Folder, name: str) -> UndoJournal:
        """A journal as a new file, under its own name from the start. It replaces nothing.

        Raises:
            DeviceError: a file of that name exists, or cannot be made.
        """
        file = folder.create(name)
        try:
            return cls(file, Path(os.path.realpath(folder.path)))
        except BaseException:
            file.close()
            folder.resolve(name).unlink(missing_ok=True)
            raise

    @property
    def is_empty(self) -> bool:
        """Whether no image was changed, so that there is nothing to take back."""
        return not self._entered

    def image(self, name: str, size_bytes: int) -> SavedImage:
        """The image of that name; as long as it was when it was first met.

        Args:
            name: the path, as the device calls it.
            size_bytes: its length now.

        Raises:
            UndoError: it is the journal itself.
        """
        if name == self.name:
            raise UndoError("a journal cannot save itself", where=name)
        stored = name if self._folder is None else name_in(self._folder, name)
        if stored not in self._images:
            if len(self._images) == records.FILE_LIMIT:
                raise UndoError(f"a job over more than {records.FILE_LIMIT} files", where=name)
            self._images[stored] = SavedImage(stored, size_bytes)
        return self._images[stored]

    def secure(
        self,
        image: SavedImage,
        device: BlockDevice,
        ranges: Iterable[tuple[int, int]],
        *,
        ahead: bool = False,
    ) -> None:
        """Make durable what the image holds, before it is changed.

        Args:
            image: from `image`.
            device: reads as the image.
            ranges: start and stop of what is about to change; an empty one is enough for a change
                beyond the original length.
            ahead: save what follows as well when the ranges follow those of the last call.

        Raises:
            DeviceError: the image cannot be read, or the journal cannot be written. The image must
                not be changed then.
        """
        journal = self._check_open()
        ranges = list(ranges)
        if image.number is not None and all(image.ledger.has(*each) for each in ranges):
            if self._now_us() - self._told_us > BEAT_US:
                self._write_status(journal, State.WORKING)
            return
        number, batch = self._begin(image)
        for start, stop in image.ledger.gaps(ranges, ahead=ahead):
            for entry in _saved(device, number, start, stop):
                if not batch.has_room(entry):
                    self._append(batch.entries, image)
                    batch = _Batch([])
                batch.add(entry)
        self._append(batch.entries, image)

    def finish(self, images: Images) -> None:
        """Note how the job left the images, so that a change by someone else is noticed later.

        The job must have closed them: they are opened for writing, flushed and read.

        Raises:
            DeviceError: one of them, or the journal, refuses. The journal stays good without this.
        """
        device = self._check_open()
        self._append([_left(*each, images) for each in enumerate(self._entered)])
        self._write_status(device, State.FINISHED)
        device.flush()

    def close(self) -> None:
        """Close the file. From now on no image can be changed through it. Twice is harmless."""
        if self._device is not None:
            self._device.close()
            self._device = None

    def _start(self, device: BlockDevice) -> None:
        time_us = self._now_us()
        device.resize(records.BATCHES_OFFSET_BYTES)
        device.write(0, records.build_header(records.Header(self._journal_id, time_us)))
        self._write_status(device, State.WORKING)
        device.flush()

    def _begin(self, image: SavedImage) -> tuple[int, _Batch]:
        """The number of an image, and a batch that starts with its entry if that is still due."""
        if image.number is not None:
            return image.number, _Batch([])
        number = len(self._entered)
        return number, _Batch([FileEntry(number, image.ledger.original_bytes, image.name)])

    def _append(self, entries: Sequence[Entry], image: SavedImage | None = None) -> None:
        """Make a batch durable, and only then take account of it."""
        if not entries:
            return
        device = self._check_open()
        data = records.build_batch(self._journal_id, self._batch_count, entries)
        device.resize(self._end_bytes + len(data))  # also drops an earlier attempt that failed
        device.write(self._end_bytes, data)
        # No second try after a flush that failed, for the host may have dropped what it could not
        # write; nor after an interrupt before all is accounted for.
        self._is_broken = True
        device.flush()
        self._batch_count += 1
        self._end_bytes += len(data)
        if image is not None:
            self._account(image, entries)
        self._write_status(device, State.WORKING)
        self._is_broken = False

    def _account(self, image: SavedImage, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if isinstance(entry, FileEntry):
                image.number = entry.file_number
                self._entered.append(image)
            elif isinstance(entry, RangeEntry):
                image.note(entry)
                self.saved_bytes += entry.length_bytes

    def _write_status(self, device: BlockDevice, state: State) -> None:
        self._generation += 1
        self._told_us = self._now_us()
        status = Status(state, self._generation, self._told_us, self._batch_count, self._end_bytes)
        place = records.STATUS_OFFSETS_BYTES[self._generation % 2]
        device.write(place, records.build_status(status, self._journal_id))

    def _check_open(self) -> BlockDevice:
        if self._device is None or self._is_broken:
            state = "could not be written" if self._is_broken else "is closed"
            raise DeviceError(f"the undo journal {state}, so nothing is changed", where=self.name)
        return self._device

    def _now_us(self) -> int:
        return time.time_ns() // 1000 if self._time_us is None else self._time_us


class _Batch:
    """Entries that become durable together."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self._data_bytes = 0

    def has_room(self, entry: RangeEntry) -> bool:
        added = 0 if entry.data is None else len(entry.data)
        return self._data_bytes + added <= BATCH_BYTES and len(self.entries) < BATCH_ENTRIES

    def add(self, entry: RangeEntry) -> None:
        last = self.entries[-1] if self.entries else None
        if entry.data is not None:
            self._data_bytes += len(entry.data)
        elif _continues(last, entry):
            assert isinstance(last, RangeEntry)
            entry = last._replace(length_bytes=last.length_bytes + entry.length_bytes)
            self.entries.pop()
        self.entries.append(entry)


def _continues(last: Entry | None, entry: RangeEntry) -> bool:
    """Whether a range of zeros goes on where another ends."""
    return (
        isinstance(last, RangeEntry)
        and last.data is None
        and last.file_number == entry.file_number
        and last.offset_bytes + last.length_bytes == entry.offset_bytes
    )


def _saved(device: BlockDevice, number: int, start: int, stop: int) -> Iterator[RangeEntry]:
    """Entries for a part of an image: zeros that are known or seen as such, and data."""
    for first, end, is_data in _host_runs(device, start, stop):
        if not is_data:
            yield RangeEntry(number, first, end - first, None)
            continue
        for at in range(first, end, _STEP_BYTES):
            buffer = bytearray(min(_STEP_BYTES, end - at))
            device.read_into(at, buffer)
            yield from _entries(number, at, buffer)


def _entries(number: int, offset_bytes: int, buffer: bytearray) -> Iterator[RangeEntry]:
    view = memoryview(buffer)
    at = 0
    for start, stop in data_runs(view, BLOCK_BYTES):
        if at < start:
            yield RangeEntry(number, offset_bytes + at, start - at, None)
        yield RangeEntry(number, offset_bytes + start, stop - start, view[start:stop])
        at = stop
    if at < len(buffer):
        yield RangeEntry(number, offset_bytes + at, len(buffer) - at, None)


def _host_runs(device: BlockDevice, start: int, stop: int) -> Iterator[tuple[int, int, bool]]:
    """A range in runs of data and holes; a short one counts as data, which costs less than to ask.

    Where a hole does not start or end at a block, the block counts as data: what is saved is marked
    by blocks.
    """
    if stop - start < LONG_BYTES:
        yield start, stop, True
        return
    at = start
    for run in device.extents():
        if run.is_data:
            continue
        first = max(at, -(-run.offset_bytes // BLOCK_BYTES) * BLOCK_BYTES)
        end = min(stop, run.offset_bytes + run.length_bytes)
        if end < stop:
            end -= end % BLOCK_BYTES
        if first < end:
            if at < first:
                yield at, first, True
            yield first, end, False
            at = end
        if run.offset_bytes >= stop:
            break
    if at < stop:
        yield at, stop, True


def _left(number: int, image: SavedImage, images: Images) -> LeftEntry:
    """How the job left an image, with what it wrote made durable; 0 bytes where it is gone."""
    if not images.has(image.name):
        return LeftEntry(number, 0, 0, 0)
    with images.open(image.name, writable=True) as device:
        device.flush()
        found = 0
        for start, stop in image.compared:
            found = left_crc32(device, start, stop, found)
        modified_us = images.modified_us(image.name)
        return LeftEntry(number, device.size_bytes, modified_us, found)


def left_crc32(device: BlockDevice, start: int, stop: int, before: int) -> int:
    """The CRC-32 of a range as it is now, continued; what is beyond the end does not count."""
    stop = min(stop, device.size_bytes)
    for at in range(start, stop, _STEP_BYTES):
        buffer = bytearray(min(_STEP_BYTES, stop - at))
        device.read_into(at, buffer)
        before = crc32(buffer, before)
    return before
