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

_COMMIT_PAGES: Final = 256  # pages written at a time, so that a commit takes 1 MiB of memory


class OverlayDevice(Device):
    """Copy on write over `device`, a page at a time."""

    def __init__(self, device: BlockDevice) -> None:
        """Start without changes. Closing it drops the changes and leaves `device` open."""
        self._device = device
        self._pages: dict[int, bytearray | None] = {}  # None: discarded, all zero
        self._size_bytes = device.size_bytes
        self._below_bytes = device.size_bytes  # what of the device below may still be read
        self.name = device.name

    @property
    def size_bytes(self) -> int:
        """Length in bytes, with a resize that is not committed yet."""
        return self._size_bytes

    @property
    def changed_bytes(self) -> int:
        """How much memory the changes take, in whole pages; discarded ones take none."""
        return sum(page is not None for page in self._pages.values()) * PAGE_BYTES

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer, each run from above or below."""
        view = byte_view(buffer)
        self._check(offset_bytes, len(view))
        self._read_below(offset_bytes, view)
        if not self._pages:
            return
        for page, start, stop, at in _pieces(offset_bytes, len(view)):
            if page in self._pages:
                changed = self._pages[page] or bytes(PAGE_BYTES)
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
            if stop - start == PAGE_BYTES:
                self._pages[page] = None
            else:
                self._page(page, whole=False)[start:stop] = bytes(stop - start)

    def extents(self) -> Iterator[Extent]:
        """The runs below, with written pages as data and discarded ones as holes."""
        return merge_extents(self._runs())

    def resize(self, size_bytes: int, /) -> None:
        """Change the length above; committed with the rest."""
        self._check_size(size_bytes)
        if size_bytes < self._size_bytes:
            self._cut(size_bytes)
        self._size_bytes = size_bytes

    def changed_extents(self) -> Iterator[Extent]:
        """What a commit will write, or discard where it is no data, in order of offset."""
        for first, stop, is_data in self._changed_runs():
            offset_bytes = first * PAGE_BYTES
            end_bytes = min(stop * PAGE_BYTES, self._size_bytes)
            yield Extent(offset_bytes, end_bytes - offset_bytes, is_data)

    def commit(self) -> None:
        """Write the changes to the device below, in order of offset, and flush it.

        For an order that a power cut cannot turn into loss, commit the steps one after the other,
        each with an overlay of its own.
        """
        for size_bytes in (self._below_bytes, self._size_bytes):
            if size_bytes != self._device.size_bytes:
                self._device.resize(size_bytes)
        for first, stop, is_data in self._changed_runs():
            offset_bytes = first * PAGE_BYTES
            length_bytes = min(stop * PAGE_BYTES, self._size_bytes) - offset_bytes
            if is_data:
                data = b"".join(self._pages[page] or b"" for page in range(first, stop))
                self._device.write(offset_bytes, memoryview(data)[:length_bytes])
            else:
                self._device.discard(offset_bytes, length_bytes)
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
            found = bytearray(PAGE_BYTES)
            if not whole and page not in self._pages:
                start = page * PAGE_BYTES
                length = min(PAGE_BYTES, self._size_bytes - start)
                self._read_below(start, memoryview(found)[:length])
            self._pages[page] = found
        return found

    def _cut(self, size_bytes: int) -> None:
        """Drop what is above the new end; if it grows back, it reads as zero."""
        last, kept = divmod(size_bytes, PAGE_BYTES)
        if kept and last in self._pages:
            page = self._pages[last]
            if page is not None:
                page[kept:] = bytes(PAGE_BYTES - kept)
            last += 1
        for number in [page for page in self._pages if page >= last]:
            del self._pages[number]
        self._below_bytes = min(self._below_bytes, size_bytes)

    def _changed_runs(self) -> Iterator[tuple[int, int, bool]]:
        """Runs of changed pages: the first, the one after the last, whether they hold data."""
        first = stop = 0
        is_data = False
        for page in sorted(self._pages):
            written = self._pages[page] is not None
            if page != stop or written is not is_data or stop - first == _COMMIT_PAGES:
                if first < stop:
                    yield first, stop, is_data
                first, is_data = page, written
            stop = page + 1
        if first < stop:
            yield first, stop, is_data

    def _runs_below(self) -> Iterator[Extent]:
        for run in self._device.extents():
            stop = min(run.offset_bytes + run.length_bytes, self._below_bytes)
            if run.offset_bytes < stop:
                yield Extent(run.offset_bytes, stop - run.offset_bytes, run.is_data)
        yield Extent(self._below_bytes, self._size_bytes - self._below_bytes, is_data=False)

    def _runs(self) -> Iterator[Extent]:
        changed = [
            (first * PAGE_BYTES, stop * PAGE_BYTES, is_data)
            for first, stop, is_data in self._changed_runs()
        ]
        index = 0
        for run in self._runs_below():
            at, stop = run.offset_bytes, run.offset_bytes + run.length_bytes
            while at < stop:
                while index < len(changed) and changed[index][1] <= at:
                    index += 1
                first, end, written = changed[index] if index < len(changed) else (stop, stop, True)
                is_above = first <= at
                next_at = min(stop, end if is_above else first)
                yield Extent(at, next_at - at, written if is_above else run.is_data)
                at = next_at


def _pieces(offset_bytes: int, length_bytes: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut a range at page borders: page, start and stop in it, and where that is in the range."""
    at = 0
    while at < length_bytes:
        page, start = divmod(offset_bytes + at, PAGE_BYTES)
        stop = min(PAGE_BYTES, start + length_bytes - at)
        yield page, start, stop, at
        at += stop - start
