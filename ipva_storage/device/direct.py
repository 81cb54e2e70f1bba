"""Large writes to a new file that go past the host's cache.

A copy of a disk fills the cache with what nobody reads again, and waits for its pages: the medium
is faster than the memory on many virtual hosts, and the flush at the end has nothing left to do.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import Final

ALIGNMENT_BYTES: Final = 4096
"""What offsets, lengths and memory have to be multiples of; some hosts take less.

Source: Linux, open(2), O_DIRECT. Confidence: inferred, from the block size of disks.
"""

DIRECT_MIN_BYTES: Final = 64 * 1024
"""Smaller writes are collected by the cache, which is faster. Confidence: chosen, by measuring."""


def page_buffer(size_bytes: int) -> memoryview:
    """Zeros at an address that a direct write can start from."""
    return memoryview(mmap.mmap(-1, size_bytes))


class DirectWriter:
    """Writes to an open file past the cache, as far as the host and the alignment allow."""

    def __init__(self, file: int) -> None:
        """Open the file once more, by its descriptor, at the first write that may go this way."""
        self._origin: int | None = file if hasattr(os, "O_DIRECT") else None
        self._file = -1

    def write(self, view: memoryview, offset_bytes: int) -> int:
        """How many of the first bytes were written; what is left is for a usual write.

        Errors that a usual write would meet too are left to that.
        """
        length = len(view) // ALIGNMENT_BYTES * ALIGNMENT_BYTES
        if length < DIRECT_MIN_BYTES or offset_bytes % ALIGNMENT_BYTES or not self._is_open():
            return 0
        try:
            return os.pwrite(self._file, view[:length], offset_bytes)
        except OSError:  # memory that is not aligned, for one
            return 0

    def _is_open(self) -> bool:
        if self._origin is not None:
            place, self._origin = f"/proc/self/fd/{self._origin}", None
            with contextlib.suppress(OSError):  # a host or a file system that knows no such thing
                self._file = os.open(place, os.O_WRONLY | os.O_DIRECT)
        return self._file >= 0

    def close(self) -> None:
        """Close what was opened."""
        self._origin = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
