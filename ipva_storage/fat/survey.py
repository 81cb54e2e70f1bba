"""A walk through all folders, level by level: what is wrong in them, and where every chain starts.

Whole levels of folders are read and sorted out at once; a name is made only where one is asked for.

Invariants:

1. Every cluster is read once as a folder, whatever the folders claim, so that the walk ends.
2. `entries` has one element for each file and folder that a record names, in the order of the walk;
   `.` and `..`, labels and what is behind a folder's end are not among them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.fat import faults, names, records
from ipva_storage.fat.geometry import RECORDS_MAX
from ipva_storage.fat.table import runs
from ipva_storage.findings import Finding
from ipva_storage.progress import silent
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.records import Records
    from ipva_storage.fat.table import FatTable
    from ipva_storage.progress import Progress

RECORDS_LOOKED_AT_MAX: Final = 2_000_000
"""Most records a survey looks at, 64 MiB, to bound its memory. Confidence: chosen."""
DEPTH_MAX: Final = 1024
"""Most folders within each other that are looked into. Confidence: chosen (Windows ends at 128)."""
PATH_SHOWN_MAX: Final = 400
_BATCH_BYTES: Final = 8 * MIB
_ROOT: Final = -1


@dataclass(frozen=True, slots=True)
class Owner:
    """What owns a chain."""

    path: str
    first_cluster: int
    content_bytes: int
    """Length of a file; 0 for a folder."""
    is_dir: bool
    offset_bytes: int
    """Where its record is, in bytes from the start of the volume."""


@dataclass(slots=True)
class Place:
    """A folder that was looked into."""

    start: int
    """First cluster; 0 for the fixed root folder."""
    parent: int
    """Index of the folder that it is in; -1 for the root."""
    entry: int
    """Index of its entry; -1 for the root."""
    depth: int = 0
    pieces: list[tuple[int, int]] = field(default_factory=list)
    """Where it is: offset and length of each piece, in bytes."""
    is_garbage: bool = False
    """Whether what is in its clusters is no folder, so that nothing in there counts."""


@dataclass(slots=True, eq=False)
class Batch:
    """Some folders that were read together."""

    number: int
    """Index among the batches."""
    parsed: Records
    first_folder: int
    """Index of the first of the folders among all."""
    counts: npt.NDArray[np.int64]
    """How many records each of the folders has."""
    offsets: npt.NDArray[np.int64]
    """Where each record that was read is, those behind the ends included; in bytes."""
    stale_folder: npt.NDArray[np.int64]
    """Index of the folder of each record in `parsed.stale`."""

    @property
    def folder(self) -> npt.NDArray[np.int64]:
        """Index among all folders, a record."""
        return self.parsed.folder + np.int64(self.first_folder)

    def folder_at(self, place: int) -> int:
        """Index of the folder of a record, counted as in `Records.place`."""
        return self.first_folder + int(np.searchsorted(np.cumsum(self.counts), place, "right"))

    @property
    def offset_bytes(self) -> npt.NDArray[np.int64]:
        """Where each record is, in bytes from the start of the volume."""
        return self.offsets[self.parsed.place]


ENTRIES: Final = np.dtype(
    [
        ("start", np.int64),
        ("content_bytes", np.int64),
        ("offset_bytes", np.int64),
        ("folder", np.int32),
        ("batch", np.int32),
        ("record", np.int32),
        ("is_dir", np.bool_),
    ]
)
"""What is known of a file or folder: first cluster, length (0 for a folder), where its record is,
which folder it is in, and where that was read."""

_OWNED: Final = ("start", "content_bytes", "is_dir", "offset_bytes")


class Survey:
    """The walk, and what it gathers for the check of the chains and for a repair."""

    def __init__(self, device: BlockDevice, geometry: Geometry, table: FatTable) -> None:
        """Nothing is read before `walk`."""
        self.device = device
        self.geometry = geometry
        self.table = table
        self.folders: list[Place] = []
        self.batches: list[Batch] = []
        self.entries = np.empty(0, ENTRIES)
        self.folder_at: dict[int, int] = {}
        """Index of the folder that starts at a cluster."""
        self.label: bytes | None = None
        """The label entry of the root folder, 11 bytes."""
        self.is_complete = True
        """Whether everything was looked at."""
        self._seen = bytearray(geometry.entry_count)
        self._parts: list[npt.NDArray[Any]] = []
        self._entry_count = 0
        self._record_count = 0

    def walk(self, *, progress: Progress = silent) -> Iterator[Finding]:
        """What is wrong with the records of all folders, level by level.

        Args:
            progress: told how much of the folders known so far was read, in bytes.
        """
        level = [Place(self.geometry.root_cluster, _ROOT, _ROOT)]
        while level and self.is_complete:
            below: list[Place] = []
            for first, raw, counts in self._read_level(level):
                batch = self._sort_out(first, raw, counts)
                yield from faults.findings(self, batch)
                below += self._gather(batch)
                read_bytes = self._record_count * layout.ENTRY_BYTES
                progress(read_bytes, read_bytes + len(below) * self.geometry.cluster_bytes)
            level = below
        self.entries = np.concatenate(self._parts) if self._parts else self.entries
        yield from faults.places(self)

    @property
    def owners(self) -> list[Owner]:
        """All files and folders one by one, FAT32's root folder first."""
        root = self.geometry.root_cluster
        every = [Owner("/", root, 0, is_dir=True, offset_bytes=0)] if root else []
        for index, row in enumerate(self.entries[list(_OWNED)].tolist()):
            every.append(Owner(self.path(index), *row))
        return every

    def path(self, entry: int) -> str:
        """Path of a file or folder; a very long one is cut in its middle."""
        parts: list[str] = []
        while entry >= 0:
            row = self.entry(entry)
            parts.append(self.record_name(int(row["batch"]), int(row["record"])))
            entry = self.folders[int(row["folder"])].entry
        whole = "/" + "/".join(reversed(parts))
        half = PATH_SHOWN_MAX // 2
        return whole if len(whole) <= PATH_SHOWN_MAX else f"{whole[:half]}…{whole[-half:]}"

    def entry(self, index: int) -> Any:
        """One element of `entries`, also while the walk goes on."""
        if len(self.entries):
            return self.entries[index]
        for part in self._parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError(index)

    def folder_path(self, folder: int) -> str:
        """Path of a folder that was looked into; empty for the root."""
        entry = self.folders[folder].entry
        return self.path(entry) if entry >= 0 else ""

    def above(self, place: Place) -> int:
        """The cluster that `..` of a folder should name: 0 for the root."""
        start = self.folders[place.parent].start
        return 0 if start == self.geometry.root_cluster else start

    def record_name(self, batch: int, record: int) -> str:
        """Name of the file or folder with that short record."""
        parsed = self.batches[batch].parsed
        count = int(parsed.long_count[record])
        if count:
            units = records.name_units(parsed.table[record - count : record])
            name = records.long_name(units, count, count)
            if name:
                return name
        row = parsed.table[record]
        return names.show_short(row["name"].tobytes(), int(row["case_flags"])) or "_"

    def finding(self, code: str, text: str, offset_bytes: int) -> Finding:
        """A finding in a folder."""
        return Finding(
            code, "folder", printable(text), where=self.device.name, offset_bytes=offset_bytes
        )

    # -- reading ------------------------------------------------------------------------------

    def _read_level(self, level: list[Place]) -> Iterator[tuple[int, bytes, list[int]]]:
        """Read folders, some MiB at a time: index of the first, records, how many each has."""
        pieces: list[bytearray] = []
        counts: list[int] = []
        size = 0
        first = len(self.folders)
        for place in level:
            raw = self._read(place)
            self._record_count += len(raw) // layout.ENTRY_BYTES
            if self._record_count > RECORDS_LOOKED_AT_MAX:
                self.is_complete = False
                break
            self.folder_at.setdefault(place.start, len(self.folders))
            self.folders.append(place)
            pieces.append(raw)
            counts.append(len(raw) // layout.ENTRY_BYTES)
            size += len(raw)
            if size >= _BATCH_BYTES:
                yield first, b"".join(pieces), counts
                pieces, counts, size, first = [], [], 0, len(self.folders)
        if pieces:
            yield first, b"".join(pieces), counts

    def _read(self, place: Place) -> bytearray:
        """The records of a folder, up to the first cluster that was read before."""
        geometry = self.geometry
        if not place.start:
            size = geometry.root_entry_count * layout.ENTRY_BYTES
            place.pieces = [(geometry.root_offset_bytes, size)]
        else:
            new = self._new_clusters(place.start)
            place.pieces = [
                (geometry.cluster_offset_bytes(first), count * geometry.cluster_bytes)
                for first, count in runs(new)
            ]
        raw = self._read_pieces(place.pieces)
        if place.entry >= 0 and faults.is_garbage(raw, geometry):
            place.is_garbage = True
            place.pieces, raw = [], bytearray()
        return raw

    def _read_pieces(self, pieces: list[tuple[int, int]]) -> bytearray:
        """Pieces one after the other, read into their place at once."""
        raw = bytearray(sum(size for _, size in pieces))
        view, done = memoryview(raw), 0
        for at, size in pieces:
            self.device.read_into(at, view[done : done + size])
            done += size
        return raw

    def _new_clusters(self, start: int) -> list[int]:
        limit = -(-RECORDS_MAX * layout.ENTRY_BYTES // self.geometry.cluster_bytes)
        chain, _ = self.table.follow(start, limit=limit)
        new: list[int] = []
        for cluster in chain:
            if self._seen[cluster] or cluster >= self.table.limit:
                break
            self._seen[cluster] = 1
            new.append(cluster)
        return new

    def _sort_out(self, first: int, raw: bytes, counts: list[int]) -> Batch:
        parsed = records.parse(raw, counts)
        places = self.folders[first : first + len(counts)]
        pieces = [piece for place in places for piece in place.pieces]
        starts = np.array([at for at, _ in pieces], np.int64)
        sizes = np.array([size for _, size in pieces], np.int64) // layout.ENTRY_BYTES
        within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        offsets = np.repeat(starts, sizes) + within * layout.ENTRY_BYTES
        sizes = np.array(counts, np.int64)
        stale_folder = first + np.searchsorted(np.cumsum(sizes), parsed.stale, side="right")
        batch = Batch(len(self.batches), parsed, first, sizes, offsets, stale_folder)
        self.batches.append(batch)
        return batch

    # -- gathering ----------------------------------------------------------------------------

    def _gather(self, batch: Batch) -> list[Place]:
        """Take the entries of a batch in; return the folders among them that are to be entered."""
        parsed, geometry = batch.parsed, self.geometry
        if not batch.first_folder:
            labels = np.flatnonzero(parsed.is_label & (parsed.folder == 0))
            self.label = parsed.table["name"][labels[0]].tobytes() if len(labels) else None
        at = np.flatnonzero(parsed.is_short & ~faults.is_dot(parsed))
        rows = parsed.table[at]
        found = np.empty(len(at), ENTRIES)
        found["start"] = records.first_clusters(rows, geometry.fat_bits)
        found["is_dir"] = (rows["attributes"] & layout.ATTRIBUTE_FOLDER) != 0
        found["content_bytes"] = np.where(found["is_dir"], 0, rows["content_bytes"])
        found["offset_bytes"] = batch.offsets[parsed.place[at]]
        found["folder"] = parsed.folder[at] + batch.first_folder
        found["batch"] = len(self.batches) - 1
        found["record"] = at
        below = self._below(found)
        self._parts.append(found)
        self._entry_count += len(found)
        return below

    def _below(self, found: npt.NDArray[Any]) -> list[Place]:
        start, limit = found["start"], min(self.geometry.entry_count, self.table.limit)
        is_entered = found["is_dir"] & (start >= layout.FIRST_CLUSTER) & (start < limit)
        below = []
        for index in np.flatnonzero(is_entered).tolist():
            cluster, folder = int(start[index]), int(found["folder"][index])
            if self._seen[cluster]:
                continue
            depth = self.folders[folder].depth + 1
            if depth > DEPTH_MAX:
                self.is_complete = False
                break
            self._seen[cluster] = 1
            below.append(Place(cluster, folder, self._entry_count + index, depth))
        for place in below:
            self._seen[place.start] = 0
        return below


def valid_names(parsed: Records) -> npt.NDArray[np.bool_]:
    """Which records have a valid short name, for all at once; see `names.is_short_valid`."""
    return faults.valid_shorts(parsed.table)


def printable(text: str) -> str:
    """A text whose control characters and lone surrogates are spelled out."""
    plain = text.encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in plain)
