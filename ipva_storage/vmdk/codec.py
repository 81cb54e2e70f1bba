"""Deflate, for the grains of stream-optimized disks: ISA-L where it is installed, zlib elsewhere.

Both write and read zlib streams (RFC 1950); what one wrote the other reads. ISA-L (the extra
`fast`) is ten times as fast at the size of zlib's level 6; see `docs/adr/0008-deflate.md`.
"""

from __future__ import annotations

import functools
import os
import re
import zlib
from typing import TYPE_CHECKING, Any, Final

from ipva_storage.errors import VmdkError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from _typeshed import ReadableBuffer

LEVELS: Final = range(1, 10)
"""As zlib counts them. Confidence: stated."""

DEFAULT_LEVEL: Final = 3
"""ISA-L's strongest; about the size of zlib's level 6. Confidence: chosen."""

_ISAL_LEVEL_MAX: Final = 3
_HOPELESS: Final = 0.97
"""Data that shrinks to no less than this part of it is not worth any effort. Confidence: chosen."""


@functools.cache
def _isal() -> Any:
    """ISA-L's module in the place of zlib's, or None where it is not installed."""
    try:
        from isal import isal_zlib
    except ImportError:
        return None
    return isal_zlib


@functools.cache
def workers() -> ThreadPoolExecutor:
    """Threads for deflating and inflating, one a core; both let other threads run."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="deflate")


class Deflater:
    """Makes zlib streams, one after the other, of data that is much alike."""

    def __init__(self, level: int) -> None:
        """Choose how hard to try.

        Args:
            level: one of `LEVELS`. Up to 3 ISA-L does it, where it is installed; above, zlib.
        """
        self._isal = _isal() if level <= _ISAL_LEVEL_MAX else None
        self._level = level
        self._is_hopeless = False  # what came last did not shrink

    def deflate(self, data: ReadableBuffer) -> bytes:
        """A zlib stream.

        What does not shrink is told from what does by what came before it, because ISA-L's level 1
        takes a quarter of the time of level 3 to find out.
        """
        if self._isal is None:
            return zlib.compress(data, self._level)
        wanted = memoryview(data).nbytes * _HOPELESS
        if self._is_hopeless:
            quick: bytes = self._isal.compress(data, 1)
            if len(quick) > wanted:
                return quick
        packed: bytes = self._isal.compress(data, self._level)
        self._is_hopeless = len(packed) > wanted
        return packed


def inflate(data: ReadableBuffer, size_max_bytes: int) -> tuple[bytes, int]:
    """What a zlib stream holds, and how many bytes of `data` it took; its checksum is verified.

    Args:
        data: the stream; what follows it does not count.
        size_max_bytes: how much may come out.

    Raises:
        VmdkError: it is no such stream, is cut or damaged, or holds more.
    """
    codec = _isal() or zlib
    damaged: type[Exception] = codec.error
    try:
        decoder = codec.decompressobj()
        plain: bytes = decoder.decompress(data, size_max_bytes + 1)
    except damaged as error:
        raise VmdkError(f"its compressed data is damaged ({_reason(error)})") from error
    if len(plain) > size_max_bytes:
        raise VmdkError(f"its compressed data holds more than {size_max_bytes} bytes")
    if not decoder.eof:
        raise VmdkError("its compressed data is cut")
    return plain, memoryview(data).nbytes - len(decoder.unused_data)


def _reason(error: Exception) -> str:
    """The codec's words, without the numbers in front."""
    words = re.sub(r"^Error -?\d+ (while [a-z ]+: )?", "", str(error))
    return words[:1].lower() + words[1:] if words else "unreadable"
