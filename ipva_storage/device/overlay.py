"""A device whose changes stay in memory until they are committed.

Invariants:

1. Until `commit`, the device below is only read.
2. The overlay reads as the device below with the changes applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipva_storage.device.base import Device, Extent, byte_view, merge_extents
from ipva_storage.units import KIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

    from ipva_storage.device.base import BlockDevice

PAGE_BYTES: Final = 4 * KIB
"""Grain of the copy on write. Confidence: chosen (a host page)."""


class OverlayDevice(Device):
    """Copy on write over `device`, a page at a time."""

    def __init__(self, device: BlockDevice) -> None:
        """Start without changes. Closing it drops the changes and leaves `device` open."""
        self._device = device
        self._pages: dict[int, bytearray] = {}
        self._size_bytes = device.size_bytes
        self._below_bytes = device.size_bytes  # what of the device below may still be read
        self.name = device.name

    @property
    def size_bytes(self) -> int:
        """Length in bytes, with a resize that is not committed yet."""
        return self._size_bytes

    @property
    def changed_bytes(self) -> int:
        """How much memory the changes take, in whole pages."""
        return len(self._pages) * PAGE_BYTES

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer, each run from above or below."""
        view = byte_view(buffer)
        self._check(offset_bytes, len(view))
        self._read_below(offset_bytes, view)
        if not self._pages:
            return
        for page, start, stop, at in _pieces(offset_bytes, len(view)):
            changed = self._pages.get(page)
            if changed is not None:
                view[at : at + stop - start] = changed[start:stop]

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        """Put `data` into pages above."""
        view = byte_view(data)
        self._check(offset_bytes, len(view))
        for page, start, stop, at in _pieces(offset_bytes, len(view)):
            self._page(page, whole=stop - start == PAGE_BYTES)[start:stop] = view[
                at : at + stop - start
            ]

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        """Zero a range above."""
        self._check(offset_bytes, length_bytes)
        for page, start, stop, _ in _pieces(offset_bytes, length_bytes):
            whole = stop - start == PAGE_BYTES
            self._page(page, whole=whole)[start:stop] = bytes(stop - start)

    def extents(self) -> Iterator[Extent]:
        """The runs below, with changed pages as data."""
        return merge_extents(self._runs())

    def resize(self, size_bytes: int, /) -> None:
        """Change the length above; committed with the rest."""
        if size_bytes < self._size_bytes:
            last, kept = divmod(size_bytes, PAGE_BYTES)
            if kept and last in self._pages:  # what is cut off reads as zero if it grows back
                self._pages[last][kept:] = bytes(PAGE_BYTES - kept)
                last += 1
            for page in [page for page in self._pages if page >= last]:
                del self._pages[page]
            self._below_bytes = min(self._below_bytes, size_bytes)
        self._size_bytes = size_bytes

    def commit(self) -> None:
        """Write the changes to the device below, in order of offset, and flush it.

        For an order that a power cut cannot turn into loss, commit the steps one after the other,
        each with an overlay of its own.
        """
        for size_bytes in (self._below_bytes, self._size_bytes):
            if size_bytes != self._device.size_bytes:
                self._device.resize(size_bytes)
        for offset_bytes, data in self._changed_runs():
            self._device.write(offset_bytes, data)
        self._device.flush()
        self.rollback()

    def rollback(self) -> None:
        """Forget the changes."""
        self._pages.clear()
        self._size_bytes = self._below_bytes = self._device.size_bytes

    def close(self) -> None:
        """Forget the changes; the device below stays open."""
        self.rollback()

    def _read_below(self, offset_bytes: int, view: memoryview) -> None:
        below = max(0, min(len(view), self._below_bytes - offset_bytes))
        if below:
            self._device.read_into(offset_bytes, view[:below])
        if below < len(view):
            view[below:] = bytes(len(view) - below)

    def _page(self, page: int, *, whole: bool) -> bytearray:
        found = self._pages.get(page)
        if found is None:
            found = self._pages[page] = bytearray(PAGE_BYTES)
            if not whole:
                start = page * PAGE_BYTES
                length = min(PAGE_BYTES, self._size_bytes - start)
                self._read_below(start, memoryview(found)[:length])
        return found

    def _changed_pages(self) -> list[tuple[int, int]]:
        """Runs of changed pages, as first page and the page after the last, in order."""
        runs: list[tuple[int, int]] = []
        for page in sorted(self._pages):
            if runs and runs[-1][1] == page:
                runs[-1] = (runs[-1][0], page + 1)
            else:
                runs.append((page, page + 1))
        return runs

    def _changed_runs(self) -> Iterator[tuple[int, bytes]]:
        for first, stop in self._changed_pages():
            offset_bytes = first * PAGE_BYTES
            data = b"".join(self._pages[page] for page in range(first, stop))
            yield offset_bytes, data[: self._size_bytes - offset_bytes]

    def _runs_below(self) -> Iterator[Extent]:
        for run in self._device.extents():
            stop = min(run.offset_bytes + run.length_bytes, self._below_bytes)
            if run.offset_bytes < stop:
                yield Extent(run.offset_bytes, stop - run.offset_bytes, run.is_data)
        yield Extent(self._below_bytes, self._size_bytes - self._below_bytes, is_data=False)

    def _runs(self) -> Iterator[Extent]:
        changed = [(first * PAGE_BYTES, stop * PAGE_BYTES) for first, stop in self._changed_pages()]
        index = 0
        for run in self._runs_below():
            at, stop = run.offset_bytes, run.offset_bytes + run.length_bytes
            while at < stop:
                while index < len(changed) and changed[index][1] <= at:
                    index += 1
                first, end = changed[index] if index < len(changed) else (stop, stop)
                is_above = first <= at
                next_at = min(stop, end if is_above else first)
                yield Extent(at, next_at - at, is_above or run.is_data)
                at = next_at


def _pieces(offset_bytes: int, length_bytes: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut a range at page borders: page, start and stop in it, and where that is in the range."""
    at = 0
    while at < length_bytes:
        page, start = divmod(offset_bytes + at, PAGE_BYTES)
        stop = min(PAGE_BYTES, start + length_bytes - at)
        yield page, start, stop, at
        at += stop - start
