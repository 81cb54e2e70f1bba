"""One folder of a draft, changed record by record.

Invariants:

1. What `write` writes are the records that were put, and nothing else of the folder.
2. Records are put only where free ones were, or in the place of the same file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.errors import NoSpaceError
from ipva_storage.fat import names, records
from ipva_storage.fat.folder import pack_long
from ipva_storage.fat.geometry import RECORDS_MAX
from ipva_storage.fat.survey import Batch

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    import numpy.typing as npt

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.records import Records
    from ipva_storage.fat.table import FatTable

SIZE: Final = layout.ENTRY_BYTES
FREE_RECORD: Final = bytes([layout.MARK_DELETED]) + bytes(SIZE - 1)


class FolderEditor:
    """The records of a folder; it grows where it has clusters and there are free ones."""

    def __init__(
        self,
        device: BlockDevice,
        geometry: Geometry,
        table: FatTable,
        pieces: list[tuple[int, int]],
        *,
        number: int = 0,
    ) -> None:
        """Read a folder.

        Args:
            device: the volume, or a draft of it.
            geometry: of the volume.
            table: its table; grows with the folder.
            pieces: where the folder is: offset and length of each piece, in bytes.
            number: what a survey calls it; 0 is the root folder.
        """
        self._device = device
        self._geometry = geometry
        self._table = table
        self._pieces = list(pieces)
        self._number = number
        self.raw = bytearray().join(read(device, at, size) for at, size in pieces)
        self._changed: set[int] = set()
        self._batch: Batch | None = None

    @property
    def batch(self) -> Batch:
        """The records as they are now, sorted out."""
        if self._batch is None:
            parsed = records.parse(self.raw)
            counts = np.array([len(self.raw) // SIZE], np.int64)
            offsets = piece_offsets(self._pieces)
            stale_folder = np.full(len(parsed.stale), self._number, np.int64)
            self._batch = Batch(0, parsed, self._number, counts, offsets, stale_folder)
        return self._batch

    @property
    def parsed(self) -> Records:
        """As `batch`, the records alone."""
        return self.batch.parsed

    def get(self, record: int) -> bytes:
        """The 32 bytes of a record."""
        return bytes(self.raw[record * SIZE : (record + 1) * SIZE])

    def put(self, record: int, data: bytes) -> None:
        """Change whole records from one on."""
        at = record * SIZE
        if self.raw[at : at + len(data)] != data:
            self.raw[at : at + len(data)] = data
            self._changed.update(range(record, record + len(data) // SIZE))
            self._batch = None

    def patch(self, record: int, at: int, data: bytes) -> None:
        """Change some bytes of a record."""
        whole = bytearray(self.get(record))
        whole[at : at + len(data)] = data
        self.put(record, bytes(whole))

    def free(self, first: int, count: int = 1) -> None:
        """Mark records free."""
        for record in range(first, first + count):
            self.patch(record, 0, bytes([layout.MARK_DELETED]))

    def find_room(self, count: int) -> int | None:
        """First of so many free records in a row; the folder grows if it must and can."""
        while True:
            heads = np.frombuffer(bytes(self.raw), np.uint8)[::SIZE]
            end = self.parsed.end
            free = (heads == layout.MARK_DELETED) | (np.arange(len(heads)) >= end)
            free[: 2 if self._number else 0] = False  # where `.` and `..` belong
            sums = np.concatenate(([0], np.cumsum(free)))
            runs = np.flatnonzero(sums[count:] - sums[:-count] == count)
            if len(runs):
                return self._behind_end(int(runs[0]), end)
            if not self._extend():
                return None

    def _behind_end(self, first: int, end: int) -> int:
        """Fill the gap before a record that comes after the end of the folder."""
        if first > end:
            self.put(end, FREE_RECORD * (first - end))
        return first

    def add(self, data: bytes) -> int | None:
        """Put new records, one after the other, where there is room; the first of them, or None."""
        first = self.find_room(len(data) // SIZE)
        if first is not None:
            self._put_new(first, data)
        return first

    def add_each(self, new: Sequence[bytes]) -> int:
        """Put new records of 32 bytes wherever there is room for one; how many there was room for.

        The folder grows by what it needs.
        """
        done = 0
        while done < len(new):
            heads = np.frombuffer(bytes(self.raw), np.uint8)[::SIZE]
            end = self.parsed.end
            free = np.flatnonzero((heads == layout.MARK_DELETED) | (np.arange(len(heads)) >= end))
            free = free[free >= (2 if self._number else 0)]
            for record, data in zip(free.tolist(), new[done:], strict=False):
                self.raw[record * SIZE : (record + 1) * SIZE] = data
                self._changed.add(record)
                done += 1
            self._batch = None
            if done < len(new) and not self._extend():
                break
        return done

    def _put_new(self, first: int, data: bytes) -> None:
        """Put records where free ones were; the folder's end stays an end."""
        following = first + len(data) // SIZE
        is_at_end = following > self.parsed.end
        self.put(first, data)
        if is_at_end and following * SIZE < len(self.raw):
            self.put(following, bytes(SIZE))

    def rename(self, record: int, count: int, name: str, short: bytes) -> bool:
        """Give a file another long name (none if empty) and another short one.

        The records of other files stay where they are.

        Args:
            record: its short record.
            count: how many long-name records it has.
            name: the long name.
            short: the short one, 11 bytes.

        Returns:
            Whether there was room for both; if not, it gets the short one alone.
        """
        data = (pack_long(name, short) if name else b"") + short + self.get(record)[11:]
        needed = len(data) // SIZE
        if needed <= count + 1:
            self.free(record - count, count + 1 - needed)
            self.put(record + 1 - needed, data)
            return True
        self.put(record, data[-SIZE:])
        self.free(record - count, count)
        first = self.find_room(needed)
        if first is None:
            return False
        self.free(record)
        self._put_new(first, data)
        return True

    def shorts(self, *, but: int | None = None) -> set[bytes]:
        """The short names that are taken, those of labels too."""
        parsed = self.parsed
        taken = parsed.is_short | parsed.is_label
        if but is not None:
            taken[but] = False
        found: set[bytes] = set(parsed.table["name"][taken].tolist())
        return found

    def write(self) -> None:
        """Write what was changed."""
        offsets = piece_offsets(self._pieces)
        for record in sorted(self._changed):
            self._device.write(int(offsets[record]), self.get(record))
        self._changed.clear()

    def _extend(self) -> bool:
        """Take one more cluster, of zeros."""
        geometry = self._geometry
        if not self._number and not geometry.root_cluster:
            return False
        if len(self.raw) + geometry.cluster_bytes > RECORDS_MAX * SIZE or not self._pieces:
            return False
        try:
            cluster = take_cluster(self._table)
        except NoSpaceError:
            return False
        start, size = self._pieces[-1]
        last = (start + size - geometry.data_offset_bytes) // geometry.cluster_bytes + 1
        self._table.put(last, cluster)
        first = len(self.raw) // SIZE
        self._pieces.append((geometry.cluster_offset_bytes(cluster), geometry.cluster_bytes))
        self.raw += bytes(geometry.cluster_bytes)
        self._changed.update(range(first, len(self.raw) // SIZE))
        self._batch = None
        return True


def piece_offsets(pieces: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Where each record of pieces (offset, length) is, in bytes; shape (n,)."""
    starts = np.array([at for at, _ in pieces], np.int64)
    sizes = np.array([size for _, size in pieces], np.int64) // SIZE
    within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    found: npt.NDArray[np.int64] = np.repeat(starts, sizes) + within * SIZE
    return found


def take_cluster(table: FatTable) -> int:
    """A free cluster behind all that are in use, where what was lost is least likely to be.

    Raises:
        NoSpaceError: there is none.
    """
    used = np.flatnonzero(table.values[: table.limit])
    table.next_free = min(int(used[-1]) + 1, table.limit - 1) if len(used) else 0
    return table.allocate(1)[0]


def orphan_names(extension: bytes = b"REC") -> Iterator[bytes]:
    """Names for what belongs to nothing, as fsck.fat gives them: FSCK0000, then FSCK0001 and on."""
    for number in range(1_000_000):
        digits = f"{number:04}".encode()
        yield b"FSCK"[: 8 - len(digits)] + digits + extension.ljust(3)


def renamed_names() -> Iterator[bytes]:
    """Names for files whose own cannot be, as fsck.fat gives them: FSCK0000.000 and on."""
    for number in range(10_000_000):
        yield f"FSCK{number:07}".encode()


def take_name(candidates: Iterator[bytes], taken: set[bytes]) -> bytes:
    """The first name that is not taken; it becomes so.

    Raises:
        NoSpaceError: all are.
    """
    for short in candidates:
        if short not in taken:
            taken.add(short)
            return short
    raise NoSpaceError("no name is left for what was recovered")


def numbered(name: str, taken: Container[str]) -> str:
    """A long name like another, with `~2` or more before its extension, whose fold is new."""
    stem, dot, extension = name.rpartition(".") if "." in name[1:] else (name, "", "")
    for number in range(2, 1_000_000):
        tail = f"~{number}{dot}{extension}"
        room = layout.LONG_NAME_UNITS_MAX - len(names.encode_long(tail)) // 2
        candidate = _cut(stem, room) + tail
        if names.fold(candidate) not in taken:
            return candidate
    raise NoSpaceError(f"no name is left that is like “{name}”")


def _cut(text: str, units: int) -> str:
    """The start of a text that takes so many UTF-16 units at most."""
    while len(names.encode_long(text)) // 2 > units:
        text = text[:-1]
    return text
