"""A file of a volume as Python's raw binary file."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Final

from ipva_formats import fat as layout
from ipva_storage.device import byte_view
from ipva_storage.errors import NoSpaceError, UsageError
from ipva_storage.fat import clock
from ipva_storage.fat.content import Pieces, read_pieces
from ipva_storage.fat.folder import changed
from ipva_storage.fat.table import check_chain, expand, runs
from ipva_storage.fat.writing import FILE_BYTES_MAX, REWRITTEN_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed import ReadableBuffer, WriteableBuffer

    from ipva_storage.fat.opening import Mode
    from ipva_storage.fat.records import Slot
    from ipva_storage.fat.volume import FatVolume

_WHENCES: Final = (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END)


class FatFile(io.RawIOBase):
    """One file, open. See `FatVolume.open` for what a power cut may leave.

    Its clusters are of two sorts: those that are its on the medium, and new ones after them that
    only the table knows. `flush` makes all of them its own.
    """

    def __init__(self, volume: FatVolume, path: str, start: int, slot: Slot, mode: Mode) -> None:
        """Open a file; `opening` has seen that it may be.

        Args:
            volume: where it is.
            path: what errors call it.
            start: where its folder starts.
            slot: its entry.
            mode: what may be done with it.
        """
        super().__init__()
        self.name = path
        self.mode = mode.text
        self.start = start
        self.short = slot.short
        """The 11 bytes of its name: with the start of its folder they find it again."""
        self._volume = volume
        self._mode = mode
        self._at = 0
        self._size = slot.entry.size_bytes
        self._pieces = Pieces(volume.geometry, self._chain(slot))
        self._kept_count = self._pieces.cluster_count  # clusters that are its on the medium
        self._old_first = 0  # a chain to free when the entry names another
        self._is_changed = False
        self._is_abandoned = False
        if mode.is_emptied and self._size:
            self._shrink(0)

    def _chain(self, slot: Slot) -> list[tuple[int, int]]:
        """The runs of its clusters; for writing also those beyond its end, which it then uses."""
        entry = slot.entry
        if not self._mode.is_writing:
            return self._volume.runs_of(self.name, entry)
        needed = self._volume.runs_of(self.name, entry)
        if not entry.first_cluster:
            return needed
        found, fault = self._volume.tree.table.follow_runs(entry.first_cluster)
        check_chain(sum(count for _, count in found), fault, f"“{self.name}”", self._volume.name)
        return found

    # -- what Python asks ---------------------------------------------------------------------

    def readable(self) -> bool:
        """Whether it may be read."""
        return self._mode.is_reading

    def writable(self) -> bool:
        """Whether it may be written."""
        return self._mode.is_writing

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Where the next byte is read or written."""
        self._check_open()
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place; one beyond the end is no fault, and the gap reads as zeros later."""
        self._check_open()
        if whence not in _WHENCES:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        at = offset + (0, self._at, self._size)[whence]
        if at < 0:
            raise ValueError(f"negative seek position {at}")
        self._at = at
        return at

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _check_may(self, *, write: bool) -> None:
        self._check_open()
        if not (self._mode.is_writing if write else self._mode.is_reading):
            raise io.UnsupportedOperation("not writable" if write else "not readable")

    # -- reading ------------------------------------------------------------------------------

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer from where it is, up to the end; how many bytes that were."""
        self._check_may(write=False)
        view = byte_view(buffer)
        length = max(0, min(len(view), self._size - self._at))
        done = 0
        for at, part in self._pieces.ranges(self._at, length):
            self._volume.tree.device.read_into(at, view[done : done + part])
            done += part
        self._at += done
        return done

    def readall(self) -> bytes:
        """Everything from where it is to the end."""
        self._check_may(write=False)
        buffer = bytearray(max(0, self._size - self._at))
        self.readinto(buffer)
        return bytes(buffer)

    # -- writing ------------------------------------------------------------------------------

    def write(self, data: ReadableBuffer, /) -> int:
        """Put bytes where it is, or at the end in mode `a`; a gap before them becomes zeros.

        Raises:
            NoSpaceError: the volume is full; nothing is changed.
            UsageError: it would become longer than FAT's files are.
        """
        self._check_may(write=True)
        view = byte_view(data)
        if self._is_abandoned or not len(view):
            return len(view)
        at = self._size if self._mode.is_appending else self._at
        stop = at + len(view)
        self._volume.writer.changes.check_usable()
        self._reserve(at, stop)
        done = 0
        for place, part in self._pieces.ranges(at, len(view)):
            self._volume.writer.changes.write_data(place, view[done : done + part])
            done += part
        self._at, self._size = stop, max(stop, self._size)
        self._is_changed = True
        return done

    def truncate(self, size: int | None = None, /) -> int:
        """Make it that long, or end where it is; what is new reads as zeros.

        Raises:
            NoSpaceError: the volume is full; nothing is changed.
            UsageError: it would become longer than FAT's files are.
        """
        self._check_may(write=True)
        size = self._at if size is None else size
        if size < 0:
            raise ValueError(f"negative size value {size}")
        self._volume.writer.changes.check_usable()
        if size > self._size:
            self._reserve(size, size)
            self._size, self._is_changed = size, True
        elif size < self._size:
            self._shrink(size)
        return size

    def flush(self) -> None:
        """Make all that was written durable, unless the volume waits for the end of a batch."""
        super().flush()
        if self._is_changed and not self._is_abandoned:
            self._commit()

    def abandon(self) -> None:
        """Let everything go that is not flushed."""
        self._is_abandoned = True

    # -- clusters -----------------------------------------------------------------------------

    def _reserve(self, at: int, stop: int) -> None:
        """See that there are clusters up to `stop`; from the end to `at` they become zero."""
        if stop > FILE_BYTES_MAX:
            raise UsageError(
                f"“{self.name}” would have {stop} bytes, and FAT ends at {FILE_BYTES_MAX}",
                where=self._volume.name,
            )
        room = self._pieces.size_bytes
        if stop > room:
            self._grow(-(-stop // self._volume.cluster_bytes))
            self._zero(max(stop, room), self._pieces.size_bytes)
        if at > self._size:
            self._zero(self._size, at)

    def _zero(self, at: int, stop: int) -> None:
        for place, length in self._pieces.ranges(at, stop - at):
            self._volume.writer.changes.write_zeros(place, length)

    def _grow(self, cluster_count: int) -> None:
        """Get more clusters; all of them new where it is short, so that its entry can switch."""
        if self._kept_count and self._rewrite(cluster_count, self._size):
            return
        pieces, table = self._pieces, self._volume.tree.table
        chain = self._volume.writer.allocate(cluster_count - pieces.cluster_count)
        if pieces.cluster_count > self._kept_count:
            table.put(pieces.last, chain[0])
        pieces.append(chain)

    def _shrink(self, size: int) -> None:
        """Give clusters back that it needs no more."""
        need = -(-size // self._volume.cluster_bytes)
        if need < self._kept_count and not self._rewrite(need, size):
            self._release(self._pieces.cut(self._kept_count))
            self._pieces.cut(need)
            self._kept_count = need
            self._volume.writer.changes.cut_later(self._pieces.last)
            self._size = size
            self._commit()
            self._volume.writer.changes.commit()
        elif need < self._pieces.cluster_count:
            self._release(self._pieces.cut(need))
            if need > self._kept_count:
                table = self._volume.tree.table
                table.put(self._pieces.last, table.end)
        self._size, self._is_changed = size, True

    def _release(self, rest: Iterable[tuple[int, int]]) -> None:
        self._volume.tree.table.release(expand(rest))

    def _rewrite(self, cluster_count: int, size: int) -> bool:
        """Copy the content into clusters that are all new, where it is short and there is room.

        Returns:
            Whether it was; otherwise nothing is changed.
        """
        old, table = self._pieces, self._volume.tree.table
        length = cluster_count * self._volume.cluster_bytes
        if length > REWRITTEN_BYTES_MAX and table.is_whole_entry(old.last):
            return False
        try:
            chain = self._volume.writer.allocate(cluster_count)
        except NoSpaceError:
            return False
        self._pieces = Pieces(self._volume.geometry, runs(chain))
        content = read_pieces(self._volume.tree.device, self._volume.geometry, old.runs, size)
        at = 0
        for chunk in content:
            for place, part in self._pieces.ranges(at, len(chunk)):
                self._volume.writer.changes.write_data(place, chunk[:part])
                chunk, at = chunk[part:], at + part
        self._release(old.cut(self._kept_count))
        self._old_first, self._kept_count = old.first, 0
        return True

    def _commit(self) -> None:
        """Let the entry say what it has become; a chain that grew in place is linked first."""
        writer, pieces = self._volume.writer, self._pieces
        folder = writer.sound(self.start)
        slot = folder.find_short(self.short)
        assert slot is not None, "an open file is not removed"
        is_linked = 0 < self._kept_count < pieces.cluster_count
        if is_linked:
            last, following = pieces.link(self._kept_count)
            writer.changes.link_later(last, following)
        if self._old_first:
            writer.changes.free_later(self._old_first)
        now = clock.now()
        record = changed(
            folder.record_of(slot),
            attributes=slot.entry.attributes | layout.ATTRIBUTE_ARCHIVE,
            modified=now,
            accessed=now,
            cluster=pieces.first,
            content_bytes=self._size,
        )
        folder.update(slot, record)
        self._kept_count, self._old_first = pieces.cluster_count, 0
        self._is_changed = False
        writer.done(folder)
        if is_linked:  # until then the table in memory has not got the link
            writer.changes.commit()
