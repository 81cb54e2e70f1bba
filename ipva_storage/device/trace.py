"""A device that counts and remembers what passes through it.

Tests assert device work (bytes and operations) with it, because that does not depend on the
machine; the crash explorer replays what it recorded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from ipva_storage.device.base import Device, byte_view

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

    from ipva_storage.device.base import BlockDevice, Extent


class Operation(StrEnum):
    """What changed the device, or ordered the changes."""

    WRITE = "write"
    DISCARD = "discard"
    FLUSH = "flush"
    RESIZE = "resize"


@dataclass(frozen=True, slots=True)
class TraceRecord:
    """One recorded operation."""

    operation: Operation
    offset_bytes: int
    """Start of the range; the new length of a resize; 0 for a flush."""
    length_bytes: int
    data: bytes | None = None
    """What was written, when the trace keeps data."""


@dataclass(slots=True)
class Work:
    """How much the device below had to do."""

    read_count: int = 0
    read_bytes: int = 0
    write_count: int = 0
    write_bytes: int = 0
    discard_count: int = 0
    discard_bytes: int = 0
    flush_count: int = 0


@dataclass(slots=True)
class _Log:
    records: list[TraceRecord] = field(default_factory=list)
    work: Work = field(default_factory=Work)


class TraceDevice(Device):
    """Passes everything on to `device`, and keeps account of it."""

    def __init__(self, device: BlockDevice, *, keep_data: bool = False) -> None:
        """Trace `device`; `keep_data` also keeps what is written, for a replay."""
        self._device = device
        self._keep_data = keep_data
        self._log = _Log()
        self.name = device.name

    @property
    def records(self) -> list[TraceRecord]:
        """Changes and barriers, oldest first. Reads are only counted."""
        return self._log.records

    @property
    def work(self) -> Work:
        """The totals so far."""
        return self._log.work

    def reset(self) -> None:
        """Start counting anew."""
        self._log = _Log()

    @property
    def size_bytes(self) -> int:
        """Length in bytes."""
        return self._device.size_bytes

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer."""
        self._device.read_into(offset_bytes, buffer)
        self.work.read_count += 1
        self.work.read_bytes += byte_view(buffer).nbytes

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        """Put `data` at `offset_bytes`."""
        view = byte_view(data)
        self._device.write(offset_bytes, view)
        self.work.write_count += 1
        self.work.write_bytes += len(view)
        kept = bytes(view) if self._keep_data else None
        self.records.append(TraceRecord(Operation.WRITE, offset_bytes, len(view), kept))

    def flush(self) -> None:
        """Flush the device below."""
        self._device.flush()
        self.work.flush_count += 1
        self.records.append(TraceRecord(Operation.FLUSH, 0, 0))

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        """Discard in the device below."""
        self._device.discard(offset_bytes, length_bytes)
        self.work.discard_count += 1
        self.work.discard_bytes += length_bytes
        self.records.append(TraceRecord(Operation.DISCARD, offset_bytes, length_bytes))

    def extents(self) -> Iterator[Extent]:
        """The runs of the device below."""
        return self._device.extents()

    def resize(self, size_bytes: int, /) -> None:
        """Resize the device below."""
        self._device.resize(size_bytes)
        self.records.append(TraceRecord(Operation.RESIZE, size_bytes, 0))

    def close(self) -> None:
        """Close the device below."""
        self._device.close()
