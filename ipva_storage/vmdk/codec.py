"""Deflate, for the grains of stream-optimized disks: the fastest codec that is installed.

All write and read zlib streams (RFC 1950); what one wrote the others read. With the extra `fast`
ISA-L and libdeflate do the work, at about the size of zlib's level 6 and a tenth of its time; else
zlib. Why so: ADR 0008.
"""

from __future__ import annotations

import functools
import os
import re
import zlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ipva_storage.device import byte_view
from ipva_storage.errors import VmdkError
from ipva_storage.units import KIB

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from _typeshed import ReadableBuffer

LEVELS: Final = range(1, 10)
"""As zlib counts them. Confidence: stated."""

DEFAULT_LEVEL: Final = 6
"""About the size of zlib's level 6. Confidence: chosen, as qemu does."""

_QUICK_LEVEL_MAX: Final = 3
"""Levels that ISA-L has."""

_HOPELESS: Final = 0.97
"""Data that shrinks to no less than this part of it is not worth any effort. Confidence: chosen."""

_WANTED: Final = 1.015
"""Size that is good enough, in the terms of zlib's level 6. Confidence: chosen."""

_WINDOW_MAX: Final = 7
"""The largest window, 32 KiB, as a zlib stream's first byte has it. Source: RFC 1950, 2.2.
Confidence: stated.
"""

_SAMPLE_BYTES: Final = 32 * KIB
"""How much of a grain is deflated in three ways to learn what it takes. Confidence: chosen."""


@functools.cache
def _isal() -> Any:
    """ISA-L, by the names of zlib's module, or None where it is not installed."""
    try:
        from isal import isal_zlib
    except ImportError:
        return None
    return isal_zlib


@functools.cache
def _libdeflate() -> Callable[[ReadableBuffer, int], bytes | bytearray] | None:
    """Libdeflate's compression, or None where it is not installed."""
    try:
        from deflate import zlib_compress
    except ImportError:
        return None
    found: Callable[[ReadableBuffer, int], bytes | bytearray] = zlib_compress
    return found


@functools.cache
def workers() -> ThreadPoolExecutor:
    """Threads for deflating and inflating, one a core; both let other threads run."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="deflate")


class Deflated(NamedTuple):
    """Grains as zlib streams."""

    streams: list[bytes | bytearray]
    share: float | None
    """How many of them libdeflate did, out of one; None where nothing was learnt about that."""


class Deflater:
    """Makes zlib streams of grains that are much alike.

    Up to level 3 ISA-L does it, and above libdeflate; at the default level they share the grains.
    ISA-L is three times as fast, and on some data, such as logs, its streams are longer than those
    of zlib's level 6, and libdeflate's are not. So a sample is deflated in all three ways, and
    libdeflate gets as many grains as it takes to stay near zlib's size.
    """

    def __init__(self, level: int, *, share: float | None = None) -> None:
        """Choose how hard to try.

        Args:
            level: one of `LEVELS`.
            share: what came before took, at the default level; a sample tells unless given.
        """
        self._isal, self._libdeflate = _isal(), _libdeflate()
        self._level = level
        self._share = share
        self._is_balanced = level == DEFAULT_LEVEL and None not in (self._isal, self._libdeflate)
        self._is_hopeless = False  # what came last did not shrink

    def deflate(self, grains: Sequence[ReadableBuffer]) -> Deflated:
        """A zlib stream of each grain; the same for the same grains, whatever else goes on."""
        learnt: float | None = None
        debt = 0.0
        streams: list[bytes | bytearray] = []
        for grain in grains:
            stream = self._quick(grain) if self._is_hopeless else None
            if stream is None and self._is_balanced:
                if self._share is None:
                    self._share = learnt = self._sampled(memoryview(grain)[:_SAMPLE_BYTES])
                debt += self._share or 0
                if debt >= 1:
                    debt -= 1
                    stream = self._thorough(grain)
            if stream is None:
                stream = self._plainly(grain)
            self._is_hopeless = len(stream) > memoryview(grain).nbytes * _HOPELESS
            streams.append(stream)
        return Deflated(streams, learnt)

    def _quick(self, grain: ReadableBuffer) -> bytes | bytearray | None:
        """A stream of what is taken not to shrink, or None where it does shrink, after all."""
        if self._isal is None:
            return None
        stream: bytes = self._isal.compress(grain, 1)
        return stream if len(stream) > memoryview(grain).nbytes * _HOPELESS else None

    def _plainly(self, grain: ReadableBuffer) -> bytes | bytearray:
        """A stream by the codec that the level names."""
        if self._isal is not None and (self._is_balanced or self._level <= _QUICK_LEVEL_MAX):
            stream: bytes = self._isal.compress(grain, min(self._level, _QUICK_LEVEL_MAX))
            return stream
        if self._libdeflate is not None:
            return self._libdeflate(grain, self._level)
        return zlib.compress(grain, self._level)

    def _thorough(self, grain: ReadableBuffer) -> bytes | bytearray:
        """A stream no longer than zlib's level 6 makes it, as a rule."""
        assert self._libdeflate is not None
        return self._libdeflate(grain, 4)

    def _sampled(self, sample: memoryview) -> float | None:
        """How many grains out of one libdeflate has to do to stay near zlib's size.

        None where the sample does not shrink, and tells nothing.
        """
        quick = len(self._plainly(sample))
        if quick > len(sample) * _HOPELESS:
            return None
        wanted, thorough = len(zlib.compress(sample, 6)) * _WANTED, len(self._thorough(sample))
        if quick <= wanted or thorough >= quick:
            return 0.0
        return min(1.0, (quick - wanted) / (quick - thorough))


def inflate(data: ReadableBuffer, size_max_bytes: int) -> tuple[bytes, int]:
    """What a zlib stream holds, and how many bytes of `data` it took; its checksum is verified.

    Args:
        data: the stream; what follows it does not count.
        size_max_bytes: how much may come out.

    Raises:
        VmdkError: it is no such stream, is cut or damaged, or holds more.
    """
    if any(first >> 4 > _WINDOW_MAX for first in byte_view(data)[:1]):  # ISA-L does not look
        raise VmdkError("its compressed data is damaged (invalid window size)")
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
    words = re.sub(r"^Error -?\d+ (while [a-z ]+(: |$))?", "", str(error))
    return words[:1].lower() + words[1:] if words else "unreadable"
