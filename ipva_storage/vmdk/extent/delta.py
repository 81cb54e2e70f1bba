"""What the extents of snapshots on an ESXi host have in common: reading through their tables.

A directory names tables of 4096 entries each, and an entry names a grain. Directory and tables are
read when they are needed, and the latest are kept.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from ipva_storage.device import read
from ipva_storage.errors import VmdkError
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.extent.base import NOWHERE, GrainExtent, ReadOnlyExtent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipva_storage.device import BlockDevice, Extent
    from ipva_storage.vmdk.extent.sweep import Sweep

TABLE_ENTRIES: Final = 4096
"""Entries in a table. Source: Virtual Disk Format 5.0 (COWD), qemu (seSparse). Confidence: stated,
inferred.
"""

CACHE_MAX_TABLES: Final = 256
"""Tables, and parts of the directory, kept in memory: 8 MiB at most. Confidence: chosen."""

REMEDY: Final = (
    "see what is left with: ipva disk check DISK; restore it from a backup, or use the parent"
)
"""The way out when reading finds damage."""

NOT_MENDED: Final = (
    "a file of this kind is not written to; restore it from a backup, or save what can be read: "
    "ipva disk convert --salvage DISK rest.img -O raw"
)
"""The way out when a check does."""


class EntryReader:
    """Runs of entries out of a file; the latest are kept."""

    def __init__(self, raw: BlockDevice, entry_bytes: int) -> None:
        """Read entries of 4 or 8 bytes from `raw`."""
        self._raw = raw
        self._type = {4: "I", 8: "Q"}[entry_bytes]
        self._entry_bytes = entry_bytes
        self._kept: OrderedDict[tuple[int, int], array[int]] = OrderedDict()

    def entries(self, offset_bytes: int, count: int) -> array[int]:
        """The entries at a byte of the file."""
        key = offset_bytes, count
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        found = array(self._type, read(self._raw, offset_bytes, count * self._entry_bytes))
        if sys.byteorder == "big":
            found.byteswap()
        self._kept[key] = found
        if len(self._kept) > CACHE_MAX_TABLES:
            self._kept.popitem(last=False)
        return found


class DeltaExtent(ReadOnlyExtent, GrainExtent):
    """An extent with tables of 4096 entries. Subclasses know what an entry means."""

    entry_bytes: int

    def __init__(
        self,
        raw: BlockDevice,
        capacity_bytes: int,
        grain_bytes: int,
        size_bytes: int | None,
        below: BlockDevice | None,
    ) -> None:
        """Keep what reading needs."""
        size_bytes = capacity_bytes if size_bytes is None else min(size_bytes, capacity_bytes)
        GrainExtent.__init__(self, raw, size_bytes, grain_bytes, below)
        self.reader = EntryReader(raw, self.entry_bytes)
        self.end_sectors = -(-raw.size_bytes // SECTOR_BYTES)

    @abstractmethod
    def table_place(self, index: int) -> int | None:
        """The byte of the file where a table starts; None where there is none.

        Raises:
            VmdkError: the directory names one that cannot be.
        """

    @abstractmethod
    def entry_places(
        self, entries: Sequence[int], grain: int, offset_bytes: int
    ) -> Iterator[tuple[int, int]]:
        """Where the grains of some entries are, in runs as `_lookup` gives them.

        Args:
            entries: those of the grains.
            grain: the first grain.
            offset_bytes: where its entry is in the file.

        Raises:
            VmdkError: an entry names what cannot be.
        """

    @abstractmethod
    def sweep(self) -> Sweep:
        """All tables, for going through them with NumPy."""

    def own_extents(self) -> Iterator[Extent]:
        """Runs of grains and of none, by the tables.

        What the tables say wrong counts as data, so that nobody takes it for zeros: reading it says
        what is wrong.
        """
        return self.sweep().extents(count_zeroed=self.below is not None)

    def _lookup(self, grain: int, grain_count: int) -> Iterator[tuple[int, int]]:
        """Where grains are, table by table; an absent table is one run."""
        while grain_count:
            index, at = divmod(grain, TABLE_ENTRIES)
            count = min(TABLE_ENTRIES - at, grain_count)
            place = self.table_place(index)
            if place is None:
                yield count, NOWHERE
            else:
                entries = self.reader.entries(place, TABLE_ENTRIES)[at : at + count]
                yield from self.entry_places(entries, grain, place + at * self.entry_bytes)
            grain += count
            grain_count -= count

    def check_run(
        self, grain: int, grain_count: int, sector: int, offset_bytes: int, overlap: int | None
    ) -> None:
        """Refuse grains that follow each other in the file, where they cannot be.

        Args:
            grain: the first one.
            grain_count: how many they are.
            sector: where it starts.
            offset_bytes: where its entry is in the file.
            overlap: the first sector that is known to be metadata; None where there is none.

        Raises:
            VmdkError: one starts outside the file or lies in the metadata.
        """
        step = self.grain_bytes // SECTOR_BYTES
        inside = (self.end_sectors - 1 - sector) // step + 1  # grains that start in the file
        if overlap is not None:
            bad = max(0, (overlap - sector) // step)
            what = "which is in the metadata"
        elif inside < grain_count:
            bad, what = max(inside, 0), "which is outside the file"
        else:
            return
        raise self.damaged(
            f"grain {grain + bad} is said to be at sector {sector + bad * step}, {what}",
            offset_bytes + bad * self.entry_bytes,
        )

    def damaged(self, message: str, offset_bytes: int) -> VmdkError:
        """The error for something that cannot be, at a byte of the file."""
        return VmdkError(message, where=self.name, offset_bytes=offset_bytes, remedy=REMEDY)
