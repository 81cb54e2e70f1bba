"""Where two devices differ: only what either of them has as data is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipva_storage.device.copy import CHUNK_BYTES
from ipva_storage.progress import silent
from ipva_storage.units import SECTOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device.base import BlockDevice
    from ipva_storage.progress import Progress

_BLOCK_BYTES: Final = 64 * 1024
"""What is compared at once before single sectors are. Confidence: chosen."""


def differences(
    one: BlockDevice, other: BlockDevice, *, progress: Progress = silent
) -> Iterator[tuple[int, int]]:
    """Ranges in which two devices differ, in whole sectors: offset and length, in order.

    What one device has and the other, being shorter, has not, is a difference as a whole.

    Raises:
        DeviceError: either cannot be read.
    """
    at = length = 0
    for start, stop in _differing(one, other, progress):
        if start == at + length:
            length += stop - start
            continue
        if length:
            yield at, length
        at, length = start, stop - start
    if length:
        yield at, length


def _differing(
    one: BlockDevice, other: BlockDevice, progress: Progress
) -> Iterator[tuple[int, int]]:
    """Parts that differ, in order; those that touch are not joined."""
    end = min(one.size_bytes, other.size_bytes)
    total = max(one.size_bytes, other.size_bytes)
    buffers = bytearray(CHUNK_BYTES), bytearray(CHUNK_BYTES)
    for start, stop in _data(one, other, end):
        for at in range(start, stop, CHUNK_BYTES):
            length = min(CHUNK_BYTES, stop - at)
            views = [memoryview(buffer)[:length] for buffer in buffers]
            for device, view in zip((one, other), views, strict=True):
                device.read_into(at, view)
            if buffers[0][:length] != buffers[1][:length]:
                for first, last in _parts(*buffers, length):
                    yield at + first, at + last
            progress(at + length, total)
    if end < total:
        yield end, total
    progress(total, total)


def _data(one: BlockDevice, other: BlockDevice, end: int) -> Iterator[tuple[int, int]]:
    """What is data in either device, in whole sectors, up to a byte."""
    starts: list[tuple[int, int]] = sorted(
        (
            run.offset_bytes // SECTOR_BYTES * SECTOR_BYTES,
            min(-(-(run.offset_bytes + run.length_bytes) // SECTOR_BYTES) * SECTOR_BYTES, end),
        )
        for device in (one, other)
        for run in device.extents()
        if run.is_data and run.offset_bytes < end
    )
    start = stop = 0
    for first, last in starts:
        if first > stop:
            if start < stop:
                yield start, stop
            start = first
        stop = max(stop, last)
    if start < stop:
        yield start, stop


def _parts(one: bytearray, other: bytearray, length: int) -> Iterator[tuple[int, int]]:
    """Runs of sectors that differ in two buffers."""
    for block in range(0, length, _BLOCK_BYTES):
        block_end = min(block + _BLOCK_BYTES, length)
        if one[block:block_end] == other[block:block_end]:
            continue
        start: int | None = None
        for at in range(block, block_end, SECTOR_BYTES):
            end = min(at + SECTOR_BYTES, block_end)
            if one[at:end] == other[at:end]:
                if start is not None:
                    yield start, at
                    start = None
            elif start is None:
                start = at
        if start is not None:
            yield start, block_end
