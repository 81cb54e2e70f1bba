"""A stream-optimized extent, read at random: compressed grains, found through tables.

Invariants:

1. A grain is handed out only where its marker says that it is that grain, its checksum is right,
   and it holds all of the grain that the disk has; anything else is an error, never other bytes.
2. No more than one grain's size comes out of a compressed grain, whatever it says.
"""

from __future__ import annotations

import contextlib
import struct
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from ipva_storage.device import byte_view, read
from ipva_storage.errors import IpvaError, VmdkError
from ipva_storage.units import MIB, SECTOR_BYTES
from ipva_storage.vmdk.codec import inflate, workers
from ipva_storage.vmdk.extent.base import (
    NOWHERE,
    ZEROED,
    GrainExtent,
    ReadOnlyExtent,
    fill_zeros,
    sector_place,
)
from ipva_storage.vmdk.extent.header import SPARSE_MAGIC, SparseHeader, check_usable, parse_header
from ipva_storage.vmdk.extent.runs import grain_extents
from ipva_storage.vmdk.extent.tables import GrainTables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    from _typeshed import WriteableBuffer

    from ipva_storage.device import BlockDevice, Extent

GRAIN_MARKER: Final = struct.Struct("<QI")
"""The same as `ipva_formats.vmdk.GRAIN_MARKER`, for the inner loop."""

FOOTER_OFFSET_BYTES: Final = 1024
"""How far before the end of the file the footer starts. Source: Virtual Disk Format 5.0 (footer,
then the end-of-stream marker). Confidence: stated.
"""

SPAN_BYTES: Final = 2 * MIB
"""How much of the file is read at once, about. Confidence: chosen."""

CACHE_GRAINS: Final = 16
"""Grains kept for small reads, 1 MiB as a rule. Confidence: chosen."""

AHEAD_FACTOR: Final = 4
"""How much of what follows a large read is inflated meanwhile, in reads. Confidence: chosen."""

AHEAD_REACH_GRAINS: Final = 4096
"""How far behind a read the next grains are looked for. Confidence: chosen."""

TASK_GRAINS: Final = 8
"""Grains that a thread inflates at once. Confidence: chosen."""

REMEDY: Final = "see what is left with: ipva disk check DISK; mend it with: ipva disk repair DISK"


def record_bytes_max(grain_bytes: int) -> int:
    """The most that a compressed grain with its marker is taken to need, in bytes.

    Deflate adds a few bytes to what does not shrink; some writers add a quarter. Source: qemu reads
    two grains' worth. Confidence: chosen, as there.
    """
    return 2 * grain_bytes + GRAIN_MARKER.size


def effective_header(raw: BlockDevice, header: SparseHeader) -> SparseHeader:
    """The header with the place of the grain directory, from the footer where that is to say it.

    Raises:
        VmdkError: the footer is missing or damaged.
    """
    if not header.is_gd_at_end:
        return header
    at = raw.size_bytes - FOOTER_OFFSET_BYTES
    if at < SECTOR_BYTES or read(raw, at, 4) != SPARSE_MAGIC:
        raise VmdkError(
            "its footer, which says where its grains are, is missing",
            where=raw.name,
            offset_bytes=max(at, 0),
            remedy=f"the file was cut or damaged; {REMEDY}",
        )
    footer = parse_header(read(raw, at, SECTOR_BYTES))
    if footer.is_gd_at_end or footer.capacity_sectors != header.capacity_sectors:
        raise VmdkError("its footer is damaged", where=raw.name, offset_bytes=at, remedy=REMEDY)
    return replace(header, gd_offset_sectors=footer.gd_offset_sectors)


class Grain(NamedTuple):
    """A piece of a read that lies in one grain."""

    number: int
    """Which grain of the extent it is."""
    place: int
    """Byte of the file where its marker is."""
    skip: int
    """First byte of the grain that is wanted."""
    start: int
    """Where it belongs in the buffer."""
    stop: int


class StreamExtent(ReadOnlyExtent, GrainExtent):
    """One stream-optimized extent."""

    kind = "stream-optimized"

    def __init__(
        self,
        raw: BlockDevice,
        header: SparseHeader,
        *,
        size_bytes: int | None = None,
        below: BlockDevice | None = None,
    ) -> None:
        """Open an extent.

        Args:
            raw: its file.
            header: its header, as it stands at the file's start.
            size_bytes: how much of it belongs to the disk; all of it unless given.
            below: what shows where it has no grain.

        Raises:
            VmdkError: the header or the footer is damaged.
        """
        self.header = effective_header(raw, header)
        check_usable(self.header, raw)
        capacity_bytes = header.capacity_bytes
        size_bytes = capacity_bytes if size_bytes is None else min(size_bytes, capacity_bytes)
        GrainExtent.__init__(self, raw, size_bytes, header.grain_bytes, below)
        self.tables = GrainTables(raw, self.header, writable=False)
        self._start_empty()

    def _start_empty(self) -> None:
        """Remember no grain yet."""
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._ahead: dict[int, tuple[Future[list[bytes | VmdkError]], int]] = {}

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer; grains are inflated on all cores.

        Raises:
            VmdkError: a table or a grain is damaged.
        """
        view = byte_view(buffer)
        self._check(offset_bytes, len(view))
        grains: list[Grain] = []
        for start, stop, place in self._runs(offset_bytes, len(view)):
            if place == NOWHERE:
                self._read_below(offset_bytes + start, view[start:stop])
            elif place == ZEROED:
                fill_zeros(view[start:stop])
            else:
                number, skip = divmod(offset_bytes + start, self.grain_bytes)
                grains.append(Grain(number, place - skip, skip, start, stop))
        self._take_ahead(grains, view)
        for batch in self._batches([grain for grain in grains if grain.number not in self._ahead]):
            self._read_grains(batch, view)
        if len(grains) >= TASK_GRAINS:
            self._go_ahead(grains[-1].number + 1, AHEAD_FACTOR * len(grains))

    def own_extents(self) -> Iterator[Extent]:
        """Runs of grains and of none, by the tables."""
        has_below = self.below is not None
        return grain_extents(self.header, self.tables, count_zeroed=has_below)

    def _lookup(self, grain: int, grain_count: int) -> Iterator[tuple[int, int]]:
        """Where grains are; each compressed one is a run by itself."""
        gtes = self.header.gtes_per_gt
        while grain_count:
            index, at = divmod(grain, gtes)
            count = min(gtes - at, grain_count)
            if self.tables.is_empty(index):
                yield count, NOWHERE
            else:
                for number, entry in enumerate(self.tables.table(index)[at : at + count], grain):
                    self.tables.check_run(number, 1, entry)
                    yield 1, sector_place(entry)
            grain += count
            grain_count -= count

    def _batches(self, grains: Sequence[Grain]) -> Iterator[list[Grain]]:
        """Grains that lie close together in the file, to be read at once."""
        batch: list[Grain] = []
        for grain in grains:
            if batch and not 0 <= grain.place - batch[0].place < SPAN_BYTES:
                yield batch
                batch = []
            batch.append(grain)
        if batch:
            yield batch

    def _take_ahead(self, grains: Sequence[Grain], view: memoryview) -> None:
        """Put what was inflated ahead into its place."""
        for grain in grains:
            found = self._ahead.get(grain.number)
            if found is not None:
                job, index = found
                plain = job.result()[index]
                if isinstance(plain, VmdkError):
                    raise plain
                self._put(grain, plain, view)

    def _go_ahead(self, first: int, count: int) -> None:
        """Begin to inflate grains that are likely to be read next."""
        self._ahead = {number: job for number, job in self._ahead.items() if number >= first}
        with contextlib.suppress(IpvaError):  # of a place that nobody asked for yet
            for batch in self._batches(self._next_grains(first, count - len(self._ahead))):
                span, start = self._span(batch), batch[0].place
                for at in range(0, len(batch), TASK_GRAINS):
                    part = batch[at : at + TASK_GRAINS]
                    job = workers().submit(self._inflated_all, part, span, start)
                    self._ahead.update({one.number: (job, index) for index, one in enumerate(part)})

    def _next_grains(self, first: int, count: int) -> list[Grain]:
        """Some grains that follow and are not inflated yet."""
        grains: list[Grain] = []
        reach = min(AHEAD_REACH_GRAINS, self.header.grain_count - first)
        number = first
        for length, place in self._lookup(first, max(reach, 0)):
            if len(grains) >= count:
                break
            if place >= 0 and number not in self._ahead:
                grains.append(Grain(number, place, 0, 0, 0))
            number += length
        return grains

    def _inflated_all(
        self, grains: Sequence[Grain], span: memoryview, first: int
    ) -> list[bytes | VmdkError]:
        """Each grain's bytes, or what is wrong with it, for the day that somebody asks for it."""
        found: list[bytes | VmdkError] = []
        for grain in grains:
            try:
                found.append(self._inflated(grain, span[grain.place - first :]))
            except VmdkError as error:
                found.append(error)
        return found

    def _read_grains(self, batch: list[Grain], view: memoryview) -> None:
        if len(batch) == 1 and batch[0].stop - batch[0].start < self.grain_bytes:
            self._put(batch[0], self._cached(batch[0]), view)
            return
        span = self._span(batch)
        parts = [batch[at : at + TASK_GRAINS] for at in range(0, len(batch), TASK_GRAINS)]
        if len(parts) == 1:
            self._inflate_all(batch, span, batch[0].place, view)
            return
        jobs = [
            workers().submit(self._inflate_all, part, span, batch[0].place, view) for part in parts
        ]
        for job in jobs:
            job.result()

    def _span(self, batch: Sequence[Grain]) -> memoryview:
        """The part of the file that holds a batch, up to the most that its last grain may need."""
        first = min(grain.place for grain in batch)
        last = max(grain.place for grain in batch)
        end = min(last + record_bytes_max(self.grain_bytes), self.raw.size_bytes)
        span = memoryview(bytearray(end - first))
        self.raw.read_into(first, span)
        return span

    def _inflate_all(
        self, grains: Sequence[Grain], span: memoryview, first: int, view: memoryview
    ) -> None:
        for grain in grains:
            self._put(grain, self._inflated(grain, span[grain.place - first :]), view)

    def _cached(self, grain: Grain) -> bytes:
        found = self._cache.get(grain.number)
        if found is None:
            found = self._inflated(grain, self._span([grain]))
            self._cache[grain.number] = found
            if len(self._cache) > CACHE_GRAINS:
                self._cache.popitem(last=False)
        return found

    def _inflated(self, grain: Grain, record: memoryview) -> bytes:
        """The bytes of a grain, out of the file from its marker on (invariants 1 and 2)."""
        try:
            data = self._payload(grain, record)
            plain, _ = inflate(data, self.grain_bytes)
        except VmdkError as error:
            raise self._damaged(grain, error.message) from error
        if len(plain) < min(self.grain_bytes, self.size_bytes - grain.number * self.grain_bytes):
            raise self._damaged(grain, f"it holds {len(plain)} bytes only")
        return plain

    def _payload(self, grain: Grain, record: memoryview) -> memoryview:
        if not self.header.has_markers:
            return record
        if len(record) < GRAIN_MARKER.size:
            raise VmdkError("the file ends within its marker")
        lba_sector, size_bytes = GRAIN_MARKER.unpack_from(record)
        if lba_sector != grain.number * self.header.grain_sectors:
            raise VmdkError(f"its marker says that it belongs to sector {lba_sector}")
        if not size_bytes:
            raise VmdkError("its marker says that it has no bytes")
        if GRAIN_MARKER.size + size_bytes > len(record):
            raise VmdkError("the file ends within it, or its marker gives a wrong length")
        return record[GRAIN_MARKER.size : GRAIN_MARKER.size + size_bytes]

    def _damaged(self, grain: Grain, message: str) -> VmdkError:
        return VmdkError(
            f"grain {grain.number} is damaged: {message}",
            where=self.name,
            offset_bytes=grain.place,
            remedy=REMEDY,
        )

    @staticmethod
    def _put(grain: Grain, plain: bytes, view: memoryview) -> None:
        length = grain.stop - grain.start
        view[grain.start : grain.stop] = memoryview(plain)[grain.skip : grain.skip + length]
