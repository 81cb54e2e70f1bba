"""The file allocation table in memory: entries, chains, allocation, and which sectors changed.

Invariants:

1. `values` holds one number an entry, without FAT32's top four bits; those are kept beside it and
   written back as they were.
2. An entry that differs from the medium is in a sector marked dirty.
3. `free_count` is the number of zero entries among the reachable clusters.
4. Following a chain ends, whatever the entries say.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.errors import FatError, NoSpaceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry

FREE: Final = 0
_WINDOW: Final = 1 << 16
_ATOM_BITS: Final = 512 * 8
"""What a disk is taken to write whole, whatever the sector of the volume. Confidence: chosen."""
_SHORT_RUN: Final = 64
"""From this length on, runs are handled by NumPy instead of cluster by cluster."""


def unpack_fat12(packed: bytes | bytearray, entry_count: int) -> npt.NDArray[np.uint32]:
    """Entries of a FAT12 table.

    Args:
        packed: the table; at least `entry_count` × 12 bits long.
        entry_count: how many entries to take out.

    Returns:
        The entries; shape (entry_count,).

    Source: MS, "FAT Data Structure": two entries in three bytes, low nibble first.
    """
    pairs = -(-entry_count // 2)
    triples = np.zeros((pairs, 3), np.uint32)
    flat = np.frombuffer(packed, np.uint8, min(len(packed), pairs * 3))
    triples.reshape(-1)[: len(flat)] = flat
    values = np.empty((pairs, 2), np.uint32)
    values[:, 0] = triples[:, 0] | (triples[:, 1] & 0x0F) << 8
    values[:, 1] = triples[:, 1] >> 4 | triples[:, 2] << 4
    return values.reshape(-1)[:entry_count].copy()


def pack_fat12(values: npt.NDArray[np.uint32]) -> bytes:
    """The bytes of FAT12 entries: the inverse of `unpack_fat12`.

    Args:
        values: entries below 4096; shape (n,).

    Returns:
        ⌈n × 12 / 8⌉ bytes; the spare nibble of an odd count is zero.
    """
    count = len(values)
    even = np.zeros((-(-count // 2), 2), np.uint32)
    even.reshape(-1)[:count] = values
    triples = np.empty((len(even), 3), np.uint8)
    triples[:, 0] = even[:, 0] & 0xFF
    triples[:, 1] = even[:, 0] >> 8 | (even[:, 1] & 0x0F) << 4
    triples[:, 2] = even[:, 1] >> 4
    return triples.tobytes()[: (count * 12 + 7) // 8]


def runs(chain: Sequence[int]) -> list[tuple[int, int]]:
    """A chain as runs of neighbouring clusters: (first cluster, how many)."""
    if len(chain) <= _SHORT_RUN:
        return _short_runs(chain)
    numbers = np.asarray(chain, np.int64)
    starts = np.concatenate(([0], np.flatnonzero(np.diff(numbers) != 1) + 1))
    lengths = np.diff(np.append(starts, len(numbers)))
    return list(zip(numbers[starts].tolist(), lengths.tolist(), strict=True))


def _short_runs(chain: Sequence[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    first = following = -1
    for cluster in chain:
        if cluster != following:
            if first >= 0:
                found.append((first, following - first))
            first = cluster
        following = cluster + 1
    if first >= 0:
        found.append((first, following - first))
    return found


def expand(pieces: Iterable[tuple[int, int]]) -> list[int]:
    """The chain of which `runs` made these."""
    return [first + index for first, count in pieces for index in range(count)]


def load(device: BlockDevice, geometry: Geometry, copy: int) -> npt.NDArray[np.uint32]:
    """One copy of the table as it is on the medium, FAT32's top bits included.

    Returns:
        Shape (geometry.entry_count,).
    """
    offset_bytes = geometry.fat_offset_bytes + copy * geometry.fat_bytes
    packed = bytearray((geometry.entry_count * geometry.fat_bits + 7) // 8)
    device.read_into(offset_bytes, packed)
    return unpack(packed, geometry)


def unpack(packed: bytes | bytearray, geometry: Geometry) -> npt.NDArray[np.uint32]:
    """The entries of a piece of a table, FAT32's top bits included.

    Args:
        packed: the table; no shorter than its entries, which it may share its memory with.
        geometry: how wide and how many they are.

    Returns:
        Shape (geometry.entry_count,).
    """
    if geometry.fat_bits == 12:
        return unpack_fat12(packed, geometry.entry_count)
    dtype = "<u2" if geometry.fat_bits == 16 else "<u4"
    return np.frombuffer(packed, dtype, geometry.entry_count).astype(np.uint32, copy=False)


class FatTable:
    """The table of one volume."""

    def __init__(self, device: BlockDevice, geometry: Geometry, *, copy: int | None = None) -> None:
        """Read a copy from `device`: the one in use, unless another is asked for."""
        self.copy = (geometry.mirrored_fat or 0) if copy is None else copy
        self._device = device
        self._geometry = geometry
        self._bits = geometry.fat_bits
        raw = load(device, geometry, self.copy)
        self.mask = layout.ENTRY_MASK[self._bits]
        top = (raw >> np.uint32(28)).astype(np.uint8)
        self._kept = top if top.any() else None
        raw &= np.uint32(self.mask)
        self.values = raw
        self._view = self.values.data
        self.bad = layout.BAD_CLUSTER[self._bits]
        self.end = self.mask
        """What ends a chain we write."""
        self._dirty_sectors: set[int] = set()
        self.limit = geometry.reachable_cluster_count + layout.FIRST_CLUSTER
        self.free_count = int(np.count_nonzero(self.values[2 : self.limit] == FREE))
        self.next_free = layout.FIRST_CLUSTER

    def __getitem__(self, cluster: int) -> int:
        return self._view[cluster]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def is_dirty(self) -> bool:
        """Whether something is to be written."""
        return bool(self._dirty_sectors)

    def is_end(self, value: int) -> bool:
        """Whether an entry ends a chain."""
        return value >= layout.END_MIN[self._bits]

    def put(self, cluster: int, value: int) -> None:
        """Change one entry in memory."""
        old = self._view[cluster]
        if old == value:
            return
        if layout.FIRST_CLUSTER <= cluster < self.limit:
            self.free_count += (value == FREE) - (old == FREE)
        self._view[cluster] = value
        first_bit = cluster * self._bits
        sector_bits = self._geometry.sector_bytes * 8
        self._dirty_sectors.add(first_bit // sector_bits)
        self._dirty_sectors.add((first_bit + self._bits - 1) // sector_bits)

    def put_all(
        self,
        clusters: Sequence[int] | npt.NDArray[np.int64],
        values: Sequence[int] | npt.NDArray[np.int64],
    ) -> None:
        """Change many entries in memory.

        Args:
            clusters: which, each once.
            values: what they become, as many.
        """
        if len(clusters) <= _SHORT_RUN:
            for cluster, value in zip(clusters, values, strict=True):
                self.put(int(cluster), int(value))
            return
        at, new = np.asarray(clusters, np.int64), np.asarray(values, np.uint32)
        old = self.values[at]
        counts = (at >= layout.FIRST_CLUSTER) & (at < self.limit)
        self.free_count += int(np.count_nonzero(counts & (new == FREE)))
        self.free_count -= int(np.count_nonzero(counts & (old == FREE)))
        self.values[at] = new
        first_bits = at[old != new] * self._bits
        sector_bits = self._geometry.sector_bytes * 8
        for bits in (first_bits, first_bits + self._bits - 1):
            self._dirty_sectors.update(np.unique(bits // sector_bits).tolist())

    def follow(self, first: int, *, limit: int | None = None) -> tuple[list[int], str | None]:
        """The chain from `first` on, and what is wrong with its end.

        Args:
            first: the first cluster.
            limit: stop after so many clusters; None takes them all.

        Returns:
            The clusters in order, and None when the chain ends as it should (or was cut at
            `limit`), else what stopped it.
        """
        chain: list[int] = []
        view, entries = self._view, len(self.values)
        limit = entries if limit is None else min(limit, entries)
        at = first
        while len(chain) < limit:
            if not layout.FIRST_CLUSTER <= at < entries:
                return chain, None if chain and self.is_end(at) else self._stop(at)
            chain.append(at)
            at = view[at]
        if len(set(chain)) < len(chain):
            return self._cut_ring(chain), "it runs in a ring"
        return chain, None

    def follow_runs(
        self, first: int, *, limit: int | None = None
    ) -> tuple[list[tuple[int, int]], str | None]:
        """As `follow`, with the chain as runs: what a long file in few pieces is fast with."""
        found: list[tuple[int, int]] = []
        view, entries = self._view, len(self.values)
        left = entries if limit is None else min(limit, entries)
        at = first
        while left:
            if not layout.FIRST_CLUSTER <= at < entries:
                return found, None if found and self.is_end(at) else self._stop(at)
            start, stop = at, min(at + left, entries)
            at += 1
            while at < stop and view[at - 1] == at:
                at += 1
                if at - start == _SHORT_RUN:
                    at = self._run_stop(at, stop)
            found.append((start, at - start))
            left -= at - start
            at = view[at - 1]
        ordered = sorted(found) if len(found) > 1 else []
        if any(one + count > other for (one, count), (other, _) in itertools.pairwise(ordered)):
            return runs(self._cut_ring(expand(found))), "it runs in a ring"
        return found, None

    def _run_stop(self, at: int, stop: int) -> int:
        """Where a run of neighbours ends that reaches to before `at`, looking at many at once."""
        while at < stop:
            last = min(at + _WINDOW, stop)
            goes_on = self.values[at - 1 : last - 1] == np.arange(at, last, dtype=np.uint32)
            if not goes_on.all():
                return at + int(np.argmin(goes_on))
            at = last
        return at

    def _cut_ring(self, chain: list[int]) -> list[int]:
        seen = dict.fromkeys(chain)
        return list(seen)

    def _stop(self, value: int) -> str:
        if value == FREE:
            return "it runs into a free cluster"
        if value == self.bad:
            return "it runs into a cluster marked bad"
        return f"it points to cluster {value}, which does not exist"

    def allocate(self, count: int, *, whole_entries: bool = False) -> list[int]:
        """Chain `count` free clusters, neighbours where it can be, and end the chain.

        Args:
            count: how many.
            whole_entries: take only clusters whose entry lies within one sector of 512 bytes, so
                that a torn write cannot break the chain when it grows (FAT12 has others).

        Raises:
            NoSpaceError: there are fewer; nothing is taken.
        """
        if count > self.free_count:
            have = self.free_count * self._geometry.cluster_bytes
            raise NoSpaceError(
                f"the volume is full: {count * self._geometry.cluster_bytes} bytes wanted, "
                f"{have} free",
                where=self._device.name,
                remedy="delete files, or use a larger disk",
            )
        if not count:
            return []
        first, stop = self.next_free, self.next_free + count
        is_run = stop <= self.limit and not self.values[first:stop].any()
        if is_run and not whole_entries:
            return self._take_run(first, stop)
        chain = self._find(count, whole_entries=whole_entries)
        if len(chain) < count:
            raise NoSpaceError("the volume is full", where=self._device.name)
        self.put_all(chain, [*chain[1:], self.end])
        self.next_free = chain[-1] + 1
        return chain

    def _take_run(self, first: int, stop: int) -> list[int]:
        """Chain neighbours that are free."""
        self.values[first:stop] = np.arange(first + 1, stop + 1, dtype=np.uint32)
        self._view[stop - 1] = self.end
        self.free_count -= stop - first
        self.next_free = stop
        sector_bits = self._geometry.sector_bytes * 8
        last = (stop * self._bits - 1) // sector_bits
        self._dirty_sectors.update(range(first * self._bits // sector_bits, last + 1))
        return list(range(first, stop))

    def _find(self, count: int, *, whole_entries: bool) -> list[int]:
        found: list[int] = []
        start = self.next_free if self.next_free < self.limit else layout.FIRST_CLUSTER
        for first, stop in self._windows(start):
            if len(found) >= count:
                break
            free = np.flatnonzero(self.values[first:stop] == FREE) + first
            if whole_entries and self._bits == 12:
                free = free[free * 12 % _ATOM_BITS + 12 <= _ATOM_BITS]
            found.extend(free[: count - len(found)].tolist())
        return found

    def _windows(self, start: int) -> Iterator[tuple[int, int]]:
        """The reachable entries from `start` to the end, then from the first to `start`."""
        for first, stop in ((start, self.limit), (layout.FIRST_CLUSTER, start)):
            width = 64
            while first < stop:
                yield first, min(first + width, stop)
                first += width
                width = min(width * 8, _WINDOW)

    def release(self, chain: Sequence[int]) -> None:
        """Mark the clusters of a chain free, in memory."""
        self.put_all(chain, [FREE] * len(chain))

    def is_whole_entry(self, cluster: int) -> bool:
        """Whether the entry of a cluster lies within one sector of 512 bytes."""
        return self._bits != 12 or cluster * 12 % _ATOM_BITS + 12 <= _ATOM_BITS

    @property
    def has_errors(self) -> bool:
        """Whether the bit is cleared that says that no read or write ever failed."""
        bit = layout.NO_ERROR_BIT[self._bits]
        return bool(bit) and not self._view[1] & bit

    def set_clean(self, is_clean: bool) -> None:
        """Set or clear the clean-shutdown bit; FAT12 has none."""
        bit = layout.CLEAN_BIT[self._bits]
        if bit:
            self.put(1, self._view[1] | bit if is_clean else self._view[1] & ~bit)

    @property
    def is_clean(self) -> bool:
        """Whether the clean-shutdown bit is set; FAT12 always is."""
        bit = layout.CLEAN_BIT[self._bits]
        return not bit or bool(self._view[1] & bit)

    def write(self) -> None:
        """Write the changed sectors into every copy, the first copy whole before the next."""
        geometry = self._geometry
        pieces = [
            (first * geometry.sector_bytes, self._packed(first, count))
            for first, count in runs(sorted(self._dirty_sectors))
        ]
        copies: Iterable[int] = range(geometry.fat_count)
        if geometry.mirrored_fat is not None:
            copies = (geometry.mirrored_fat,)
        for copy in copies:
            base = geometry.fat_offset_bytes + copy * geometry.fat_bytes
            for at, data in pieces:
                self._device.write(base + at, data)
        self._dirty_sectors.clear()

    def with_top_bits(self) -> npt.NDArray[np.uint32]:
        """The entries as they are on the medium, with FAT32's top four bits."""
        if self._kept is None:
            return self.values
        found: npt.NDArray[np.uint32] = self.values | self._kept.astype(np.uint32) << np.uint32(28)
        return found

    def _packed(self, sector: int, count: int) -> bytes:
        """The bytes of a run of sectors; what follows the last entry in them is zero."""
        length = count * self._geometry.sector_bytes
        start = sector * self._geometry.sector_bytes
        if self._bits == 12:
            return pack_fat12(self.values)[start : start + length].ljust(length, b"\0")
        width = self._bits // 8
        part = slice(start // width, (start + length) // width)
        values = self.values[part]
        if self._kept is not None:
            values = values | self._kept[part].astype(np.uint32) << np.uint32(28)
        return values.astype("<u2" if width == 2 else "<u4").tobytes().ljust(length, b"\0")


def check_chain(cluster_count: int, fault: str | None, what: str, name: str) -> None:
    """Refuse a chain that is broken after so many clusters.

    Raises:
        FatError: `fault` says what is wrong with it.
    """
    if fault is not None:
        raise FatError(
            f"the chain of {what} is broken after {cluster_count} clusters: {fault}",
            where=name,
            remedy="run a check of the volume",
        )
