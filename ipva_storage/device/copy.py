"""Copying and comparing devices: runs of data only, holes stay holes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipva_storage.errors import DeviceError
from ipva_storage.progress import silent
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device.base import BlockDevice
    from ipva_storage.progress import Progress

CHUNK_BYTES: Final = MIB
"""How much is moved at a time, through one buffer that stays in the processor's cache.

Confidence: chosen, by measuring: 4 MiB takes longer, and reading ahead in a second thread costs
more than it gains, except where reading is work for several cores (`vmdk.extent.stream`).
"""

ZERO_TEST_BYTES: Final = 64 * 1024
_ZEROS: Final = bytes(ZERO_TEST_BYTES)


def copy(source: BlockDevice, target: BlockDevice, *, progress: Progress = silent) -> None:
    """Copy all data of `source` to the start of `target`, which must read as zeros.

    Blocks of 64 KiB that are all zero are not written, so that the target stays sparse.

    Raises:
        DeviceError: either refused; the target is smaller (nothing is written then).
    """
    if target.size_bytes < source.size_bytes:
        raise DeviceError(
            f"its {target.size_bytes} bytes do not hold the {source.size_bytes} of {source.name}",
            where=target.name,
        )
    buffer = bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    for offset_bytes, length_bytes in chunks(source):
        source.read_into(offset_bytes, view[:length_bytes])
        for start, stop in data_runs(buffer, ZERO_TEST_BYTES, length_bytes):
            target.write(offset_bytes + start, view[start:stop])
        progress(offset_bytes + length_bytes, source.size_bytes)
    progress(source.size_bytes, source.size_bytes)


def chunks(device: BlockDevice) -> Iterator[tuple[int, int]]:
    """What of a device is data, in pieces of at most `CHUNK_BYTES`: offset and length."""
    for run in device.extents():
        if run.is_data:
            end = run.offset_bytes + run.length_bytes
            for at in range(run.offset_bytes, end, CHUNK_BYTES):
                yield at, min(CHUNK_BYTES, end - at)


def data_runs(
    buffer: bytearray | bytes, block_bytes: int, length_bytes: int | None = None
) -> Iterator[tuple[int, int]]:
    """Runs of blocks that hold anything but zeros, as start and stop in the buffer.

    Args:
        buffer: what to look through; its last block may be short.
        block_bytes: size of a block; up to `ZERO_TEST_BYTES` is fastest.
        length_bytes: how much of the buffer counts; all of it unless given.
    """
    end = len(buffer) if length_bytes is None else length_bytes
    start: int | None = None
    for at in range(0, end, block_bytes):
        if is_zero(buffer, at, min(at + block_bytes, end)):
            if start is not None:
                yield start, at
                start = None
        elif start is None:
            start = at
    if start is not None:
        yield start, end


def is_zero(buffer: bytearray | bytes, start: int, stop: int) -> bool:
    """Whether a part of a buffer is all zero; up to `ZERO_TEST_BYTES` by one memory comparison.

    Bytes and not a memoryview: a comparison of views goes element by element, twelve times slower.
    """
    length = stop - start
    if length > ZERO_TEST_BYTES:
        return buffer.count(0, start, stop) == length
    return buffer.startswith(_ZEROS if length == ZERO_TEST_BYTES else _ZEROS[:length], start)
