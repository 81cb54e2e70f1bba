"""A medium in memory that can go back: what the crash explorer visits states on.

Invariants:

1. `rollback(mark)` restores content and length as they were when `mark()` gave that number.
2. Each change is one journal entry, so that the same changes made again get the same marks.
3. `digest()` depends on content and length only; it costs what was touched since the last one.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

from ipva_storage.device import Device, Extent, byte_view

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

PAGE_BYTES: Final = 4096
"""What is hashed at a time. Confidence: chosen."""

DIGEST_BYTES: Final = 16


class _Change(NamedTuple):
    offset_bytes: int
    before: bytes
    size_bytes: int  # length of the medium before


class Medium(Device):
    """Bytes with a journal of what they were before."""

    def __init__(self, content: ReadableBuffer, *, name: str = "medium") -> None:
        """Hold a copy of `content`."""
        self.data = bytearray(content)
        self.name = name
        self._journal: list[_Change] = []
        self._digests: dict[int, int] = {}
        self._sum = 0
        self._dirty = set(range(-(-len(self.data) // PAGE_BYTES)))

    @property
    def size_bytes(self) -> int:
        """Length in bytes."""
        return len(self.data)

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer."""
        view = byte_view(buffer)
        self._check(offset_bytes, len(view))
        view[:] = self.data[offset_bytes : offset_bytes + len(view)]

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        """Put `data` at `offset_bytes`, and remember what was there."""
        view = byte_view(data)
        self._check(offset_bytes, len(view))
        before = bytes(self.data[offset_bytes : offset_bytes + len(view)])
        self._journal.append(_Change(offset_bytes, before, len(self.data)))
        self.data[offset_bytes : offset_bytes + len(view)] = view
        self._touch(offset_bytes, offset_bytes + len(view))

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        """Zero a range, and remember what was there."""
        self._check(offset_bytes, length_bytes)
        self.write(offset_bytes, bytes(length_bytes))

    def extents(self) -> Iterator[Extent]:
        """One run of data: nothing is known to be zero."""
        if self.data:
            yield Extent(0, len(self.data), is_data=True)

    def resize(self, size_bytes: int, /) -> None:
        """Cut the end off, or add zeros, and remember the end."""
        self._check_size(size_bytes)
        self._journal.append(_Change(size_bytes, bytes(self.data[size_bytes:]), len(self.data)))
        self._set_size(size_bytes)

    def mark(self) -> int:
        """A number that `rollback` takes to come back here."""
        return len(self._journal)

    def rollback(self, mark: int) -> None:
        """Undo every change made since `mark()` gave this number."""
        while len(self._journal) > mark:
            change = self._journal.pop()
            self._set_size(change.size_bytes)
            end_bytes = change.offset_bytes + len(change.before)
            self.data[change.offset_bytes : end_bytes] = change.before
            self._touch(change.offset_bytes, end_bytes)

    def settle(self) -> None:
        """Forget how to go back; marks begin at 0 again."""
        self._journal.clear()

    def digest(self) -> bytes:
        """A hash of content and length: the sum of one hash a page, each with its number."""
        for page in self._dirty:
            self._sum -= self._digests.pop(page, 0)
            start = page * PAGE_BYTES
            if start < len(self.data):
                content = self.data[start : start + PAGE_BYTES]
                found = blake2b(content, digest_size=DIGEST_BYTES, salt=page.to_bytes(16, "little"))
                self._digests[page] = int.from_bytes(found.digest(), "little")
                self._sum += self._digests[page]
        self._dirty.clear()
        self._sum %= 1 << (8 * DIGEST_BYTES)
        return self._sum.to_bytes(DIGEST_BYTES, "little") + len(self.data).to_bytes(8, "little")

    def _set_size(self, size_bytes: int) -> None:
        old_bytes = len(self.data)
        if size_bytes < old_bytes:
            del self.data[size_bytes:]
        else:
            self.data.extend(bytes(size_bytes - old_bytes))
        if size_bytes != old_bytes:
            self._touch(min(size_bytes, old_bytes), max(size_bytes, old_bytes))

    def _touch(self, start: int, stop: int) -> None:
        self._dirty.update(range(start // PAGE_BYTES, -(-stop // PAGE_BYTES)))
