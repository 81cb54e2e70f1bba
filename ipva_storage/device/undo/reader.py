"""Reading a journal: batch by batch, never past a damaged one; a torn end is told from damage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from zlib import crc32

from ipva_storage.device.base import read
from ipva_storage.device.undo import records
from ipva_storage.device.undo.records import FileEntry, LeftEntry, RangeEntry, State, Status
from ipva_storage.errors import UndoError
from ipva_storage.units import SECTOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device.base import BlockDevice
    from ipva_storage.device.undo.records import BatchHead, Entry

_UNKNOWN: Final = Status(State.WORKING, 0, 0, 0, records.BATCHES_OFFSET_BYTES)


class JournalReader:
    """A journal that was written before. Nothing of it is held in memory but one batch."""

    def __init__(self, device: BlockDevice) -> None:
        """Read the header and the status.

        Raises:
            UndoError: it is no journal, or its header is damaged.
            DeviceError: it cannot be read.
        """
        self._device = device
        head = read(device, 0, min(SECTOR_BYTES, device.size_bytes))
        header = records.parse_header(head)
        if header is None:
            raise _refusal(device, head)
        self._journal_id, self.time_us = header
        if device.size_bytes < records.BATCHES_OFFSET_BYTES:
            raise self._damage(device.size_bytes)
        statuses = list(self._statuses())
        if not statuses and device.size_bytes > records.BATCHES_OFFSET_BYTES:
            raise self._damage(records.STATUS_OFFSETS_BYTES[0])  # one of them is always whole
        self.status = max([_UNKNOWN, *statuses], key=lambda status: status.generation)

    def entries(self) -> Iterator[tuple[int, Entry]]:
        """Every entry, in order, with the offset of its batch in the journal.

        Raises:
            UndoError: a batch is damaged that was durable, or an entry contradicts an earlier one.
        """
        originals: list[int] = []
        at, sequence = records.BATCHES_OFFSET_BYTES, 0
        while at < self._device.size_bytes:
            batch = self._batch(at, sequence)
            if batch is None:
                self._end(at, sequence)
                return
            head, entries = batch
            for entry in entries:
                fault = _fault(entry, originals)
                if fault is not None:
                    raise UndoError(fault, where=self._device.name, offset_bytes=at)
                if isinstance(entry, FileEntry):
                    originals.append(entry.original_bytes)
                yield at, entry
            at, sequence = at + head.whole_bytes, sequence + 1
        self._end(at, sequence)

    def left_images(self) -> list[str]:
        """Names of the images, where the job or a restore was cut; else none.

        Raises:
            UndoError: the journal is damaged.
        """
        if self.status.state not in (State.WORKING, State.RESTORING):
            return []
        return [entry.name for _, entry in self.entries() if isinstance(entry, FileEntry)]

    def set_state(self, state: State, time_us: int) -> None:
        """Write and flush the status; what is durable of the batches stays as it was stated."""
        last = self.status
        self.status = last._replace(state=state, generation=last.generation + 1, time_us=time_us)
        place = records.STATUS_OFFSETS_BYTES[self.status.generation % 2]
        self._device.write(place, records.build_status(self.status, self._journal_id))
        self._device.flush()

    def _statuses(self) -> Iterator[Status]:
        for place in records.STATUS_OFFSETS_BYTES:
            sector = read(self._device, place, SECTOR_BYTES)
            status = records.parse_status(sector, self._journal_id)
            if status is not None:
                yield status

    def _batch(self, at: int, sequence: int) -> tuple[BatchHead, list[Entry]] | None:
        """The batch at a place, or None where none is whole."""
        head = self._head(at)
        if head is None or head.sequence != sequence:
            return None
        start = at + records.BATCH_HEADER_BYTES
        if start + head.payload_bytes > self._device.size_bytes:
            return None
        payload = read(self._device, start, head.payload_bytes)
        if crc32(payload) != head.payload_crc32:
            return None
        entries = records.parse_entries(head, payload)
        if entries is None:
            raise UndoError("a batch contradicts itself", where=self._device.name, offset_bytes=at)
        return head, entries

    def _head(self, at: int) -> BatchHead | None:
        length_bytes = min(records.BATCH_HEADER_BYTES, self._device.size_bytes - at)
        return records.parse_batch_head(read(self._device, at, length_bytes), self._journal_id)

    def _end(self, at: int, sequence: int) -> None:
        """Accept that the journal ends at a place.

        Raises:
            UndoError: it went on there once, for certain.
        """
        is_known = sequence < self.status.batch_count or at < self.status.end_bytes
        if is_known or self._goes_on(at, sequence):
            raise self._damage(at)

    def _damage(self, at: int) -> UndoError:
        return UndoError(
            "it is damaged or cut off there; nothing was restored",
            where=self._device.name,
            offset_bytes=at,
            remedy="fetch an undamaged copy of the journal, or the image from a backup",
        )

    def _goes_on(self, at: int, sequence: int) -> bool:
        """Whether another batch is there or follows, which was only written after this one.

        At any byte, so that a part which is missing or there twice is noticed as well; the start
        of a batch has the journal's random number, and is met nowhere else.
        """
        rest_bytes = max(0, self._device.size_bytes - at)
        if not rest_bytes or rest_bytes > records.BATCH_LIMIT_BYTES:
            return bool(rest_bytes)
        head = self._head(at)
        if head is not None and head.sequence != sequence:
            return True
        return read(self._device, at, rest_bytes).find(records.batch_mark(self._journal_id), 1) >= 0


def _fault(entry: Entry, originals: list[int]) -> str | None:
    """Why an entry cannot be true after those before it, whose images had these lengths."""
    number = entry.file_number
    if isinstance(entry, FileEntry):
        if number != len(originals) or number >= records.FILE_LIMIT:
            return f"it has file {number} out of order"
        if entry.original_bytes > records.IMAGE_LIMIT_BYTES:
            return f"an image of {entry.original_bytes} bytes is none"
        name_bytes = len(entry.name)
        return None if 0 < name_bytes <= records.NAME_LIMIT_BYTES else "a file of it has no name"
    if number >= len(originals):
        return f"it saves parts of file {number}, which it does not name"
    if isinstance(entry, RangeEntry):
        end_bytes = entry.offset_bytes + entry.length_bytes
        if not entry.length_bytes or end_bytes > originals[number]:
            return f"a range of it ends at {end_bytes}, which its image never had"
    elif isinstance(entry, LeftEntry) and entry.left_bytes > records.IMAGE_LIMIT_BYTES:
        return f"an image of {entry.left_bytes} bytes is none"
    return None


def _refusal(device: BlockDevice, head: bytes) -> UndoError:
    """Why a file without a whole header is not read."""
    start = head[: len(records.MAGIC)].rstrip(b"\0")
    is_torn = records.MAGIC.startswith(start) and (bool(start) or not any(head))
    if is_torn and device.size_bytes <= records.BATCHES_OFFSET_BYTES:
        return UndoError(
            "it has no whole header: the power went before its job changed anything, or it was cut",
            where=device.name,
        )
    if start != records.MAGIC:
        return UndoError(
            "it is no undo journal", where=device.name, remedy="name the file that --undo made"
        )
    version = int.from_bytes(head[8:10], "little")
    if version != records.VERSION:
        return UndoError(f"version {version} of undo journals is not known", where=device.name)
    return UndoError(
        "its header is damaged; nothing was restored", where=device.name, offset_bytes=0
    )
