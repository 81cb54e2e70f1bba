"""A stream-optimized extent, written once from start to end, compressed on all cores.

Layout, as VMware's tools write it, so that a reader can go through it without seeking: grains with
their markers in order; behind those of one grain table that table; the directory, the footer, the
end of the stream.
"""

from __future__ import annotations

import struct
from array import array
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from ipva_storage.device import Extent, byte_view, is_zero
from ipva_storage.errors import DeviceError, NoSpaceError
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.codec import Deflater, workers
from ipva_storage.vmdk.extent.base import DiskExtent
from ipva_storage.vmdk.extent.header import GD_AT_END, SparseHeader, build_header
from ipva_storage.vmdk.extent.stream import GRAIN_MARKER
from ipva_storage.vmdk.extent.tables import ENTRY_MAX, bytes_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from _typeshed import ReadableBuffer, WriteableBuffer

    from ipva_storage.device import BlockDevice

TASK_GRAINS: Final = 16
"""Grains that a thread deflates at once. Confidence: chosen."""

SAMPLED_TASKS: Final = 4
"""Of so many tasks one finds out how to deflate, and the next ones do likewise. Confidence: chosen.
"""

JOBS_MAX: Final = 16
"""Tasks under way, which bounds memory. Confidence: chosen."""

MARKER: Final = struct.Struct("<QII496x")
"""The same as `ipva_formats.vmdk.MARKER`."""

MARKER_END_OF_STREAM: Final = 0
MARKER_GRAIN_TABLE: Final = 1
MARKER_GRAIN_DIRECTORY: Final = 2
MARKER_FOOTER: Final = 3


class _Packed(NamedTuple):
    """Grains with their markers."""

    data: bytes
    places: list[tuple[int, int]]
    """Each grain's number, and its first sector in there."""
    share: float | None
    """What was learnt for the next tasks (`codec.Deflated`)."""


def stream_header(
    sector_count: int, grain_sectors: int, gtes_per_gt: int, descriptor_sectors: int
) -> SparseHeader:
    """The header of a stream-optimized extent: the footer says where the directory is."""
    from ipva_formats.vmdk import FLAG_COMPRESSED, FLAG_MARKERS, FLAG_NEWLINES, NEWLINES

    overhead = -(-(1 + descriptor_sectors) // grain_sectors) * grain_sectors
    return SparseHeader(
        version=3,
        flags=FLAG_NEWLINES | FLAG_COMPRESSED | FLAG_MARKERS,
        capacity_sectors=sector_count,
        grain_sectors=grain_sectors,
        descriptor_offset_sectors=1,
        descriptor_sectors=descriptor_sectors,
        gtes_per_gt=gtes_per_gt,
        rgd_offset_sectors=0,
        gd_offset_sectors=GD_AT_END,
        overhead_sectors=overhead,
        unclean_shutdown=0,
        newlines=NEWLINES,
        compress_algorithm=1,
    )


class StreamWriter(DiskExtent):
    """Takes the bytes of a disk in rising order; `seal` ends the stream."""

    def __init__(self, raw: BlockDevice, header: SparseHeader, *, level: int) -> None:
        """Write behind the metadata of `stream_header`, which is in the file already."""
        self.name = raw.name
        self.raw: BlockDevice = raw
        self.header = header
        self._level = level
        self._end_bytes = 0  # of what was given so far
        self._partial: tuple[int, bytearray] | None = None
        self._batch: list[tuple[int, memoryview]] = []
        self._jobs: deque[Future[_Packed]] = deque()
        self._at_sector = header.overhead_sectors
        self._directory = array("I", bytes(4 * header.table_count))
        self._table = array("I", bytes(4 * header.gtes_per_gt))
        self._table_index = 0
        self._is_sealed = False
        self._task_count = 0
        self._share: float | None = None

    @property
    def size_bytes(self) -> int:
        """Size of the disk."""
        return self.header.capacity_bytes

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Refuse.

        Raises:
            DeviceError: always.
        """
        del buffer
        raise self._refusal("and cannot be read meanwhile", offset_bytes)

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        """Take the next bytes; what was left out is zeros.

        Raises:
            DeviceError: they lie before bytes that were given already.
        """
        view = byte_view(data)
        self._check(offset_bytes, len(view))
        if offset_bytes < self._end_bytes or self._is_sealed:
            raise self._refusal("and what was written stays", offset_bytes)
        grain_bytes = self.header.grain_bytes
        kept = bytes(view)  # the caller may use its buffer again, and the threads are not done
        at = 0
        while at < len(kept):
            grain, skip = divmod(offset_bytes + at, grain_bytes)
            count = min(grain_bytes - skip, len(kept) - at)
            self._take(grain, skip, kept, at, count)
            at += count
        self._end_bytes = offset_bytes + len(view)

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        """Leave the next bytes out, which makes them zeros.

        Raises:
            DeviceError: they lie before bytes that were given already.
        """
        self._check(offset_bytes, length_bytes)
        if offset_bytes < self._end_bytes:
            raise self._refusal("and what was written stays", offset_bytes)

    def extents(self) -> Iterator[Extent]:
        """One run of data: nothing is known to be zero."""
        yield Extent(0, self.size_bytes, is_data=True)

    def seal(self) -> None:
        """Write what is left, the directory, the footer and the end of the stream."""
        if self._is_sealed:
            return
        self._finish_partial()
        self._submit()
        while self._jobs:
            self._land(self._jobs.popleft().result())
        self._finish_table()
        directory_sector = self._metadata(MARKER_GRAIN_DIRECTORY, bytes_of(self._directory))
        footer = replace(self.header, gd_offset_sectors=directory_sector)
        self._metadata(MARKER_FOOTER, build_header(footer))
        self._append(MARKER.pack(0, 0, MARKER_END_OF_STREAM))
        self.raw.flush()
        self._is_sealed = True

    def _take(self, grain: int, skip: int, data: bytes, at: int, count: int) -> None:
        """A piece of one grain: `count` bytes of `data` from `at` on."""
        grain_bytes = self.header.grain_bytes
        if self._partial is not None and self._partial[0] != grain:
            self._finish_partial()
        if is_zero(memoryview(data)[at : at + count]):
            return
        if count == grain_bytes:
            self._add(grain, memoryview(data)[at : at + count])
            return
        if self._partial is None:
            self._partial = (grain, bytearray(grain_bytes))
        self._partial[1][skip : skip + count] = data[at : at + count]

    def _finish_partial(self) -> None:
        if self._partial is not None:
            grain, data = self._partial
            self._partial = None
            self._add(grain, memoryview(data))

    def _add(self, grain: int, data: memoryview) -> None:
        """A whole grain; grains of one task belong to one table."""
        gtes = self.header.gtes_per_gt
        if len(self._batch) == TASK_GRAINS or (
            self._batch and self._batch[0][0] // gtes != grain // gtes
        ):
            self._submit()
        self._batch.append((grain, data))

    def _submit(self) -> None:
        if self._batch:
            is_sampled = self._task_count % SAMPLED_TASKS == 0
            share = None if is_sampled else self._share
            step = self.header.grain_sectors
            self._jobs.append(workers().submit(_pack, self._batch, step, self._level, share))
            self._task_count += 1
            self._batch = []
        while len(self._jobs) > JOBS_MAX:
            self._land(self._jobs.popleft().result())

    def _land(self, packed: _Packed) -> None:
        """Write grains behind the others, and enter them into their table."""
        data, places = packed.data, packed.places
        # Tasks land in order, and a fixed number behind: so the file is the same every time.
        self._share = packed.share if packed.share is not None else self._share
        gtes = self.header.gtes_per_gt
        index = places[0][0] // gtes
        if index != self._table_index:
            self._finish_table()
            self._table_index = index
        for grain, sector in places:
            self._table[grain % gtes] = self._at_sector + sector
        self._append(data)

    def _finish_table(self) -> None:
        if any(self._table):
            sector = self._metadata(MARKER_GRAIN_TABLE, bytes_of(self._table))
            self._directory[self._table_index] = sector
            self._table = array("I", bytes(4 * self.header.gtes_per_gt))

    def _metadata(self, kind: int, data: bytes) -> int:
        """Write a marker and what it announces; the sector of the latter."""
        sector_count = -(-len(data) // SECTOR_BYTES)
        padded = data.ljust(sector_count * SECTOR_BYTES, b"\0")
        self._append(MARKER.pack(sector_count, 0, kind) + padded)
        return self._at_sector - sector_count

    def _append(self, data: bytes) -> None:
        offset_bytes = self._at_sector * SECTOR_BYTES
        end_sector = self._at_sector + len(data) // SECTOR_BYTES
        if end_sector > ENTRY_MAX:
            raise NoSpaceError("a sparse file cannot grow beyond 2 TiB", where=self.name)
        self.raw.resize(offset_bytes + len(data))
        self.raw.write(offset_bytes, data)
        self._at_sector = end_sector

    def _refusal(self, what: str, offset_bytes: int) -> DeviceError:
        return DeviceError(
            f"a stream-optimized disk is written once, from start to end, {what}",
            where=self.name,
            offset_bytes=offset_bytes,
            remedy="make a disk of another kind, and convert that",
        )


def _pack(
    batch: list[tuple[int, memoryview]], grain_sectors: int, level: int, share: float | None
) -> _Packed:
    """Grains, each deflated behind its marker and padded to whole sectors."""
    parts: list[bytes | bytearray] = []
    places: list[tuple[int, int]] = []
    sector = 0
    deflated = Deflater(level, share=share).deflate([data for _, data in batch])
    for (grain, _), packed in zip(batch, deflated.streams, strict=True):
        length = GRAIN_MARKER.size + len(packed)
        sector_count = -(-length // SECTOR_BYTES)
        parts += (
            GRAIN_MARKER.pack(grain * grain_sectors, len(packed)),
            packed,
            bytes(sector_count * SECTOR_BYTES - length),
        )
        places.append((grain, sector))
        sector += sector_count
    return _Packed(b"".join(parts), places, deflated.share)
