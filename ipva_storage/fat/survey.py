"""A walk through all folders for the check: bad records, and where every chain starts."""

from __future__ import annotations

import bisect
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.fat import names, records
from ipva_storage.fat.geometry import RECORDS_MAX
from ipva_storage.fat.table import runs
from ipva_storage.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import numpy.typing as npt

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.records import FatEntry, Records
    from ipva_storage.fat.table import FatTable

ENTRIES_MAX: Final = 500_000
"""Most files and folders a check looks at, to bound its memory. Confidence: chosen."""


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
    """A folder to look through."""

    path: str
    start: int
    parent: int


@dataclass(slots=True)
class Survey:
    """The walk, and what it gathers for the check of the chains."""

    device: BlockDevice
    geometry: Geometry
    table: FatTable
    owners: list[Owner] = field(default_factory=list)
    label: bytes | None = None
    """The label entry of the root folder, 11 bytes."""
    _seen: set[int] = field(default_factory=set)

    def walk(self) -> Iterator[Finding]:
        """What is wrong with the records of all folders, folder by folder.

        Every cluster is read once, whatever the folders claim.
        """
        root = self.geometry.root_cluster
        if root:
            self.owners.append(Owner("/", root, 0, is_dir=True, offset_bytes=0))
        todo = deque([Place("", root, 0)])
        while todo:
            place = todo.popleft()
            raw, offsets = self._read(place.start)
            if not offsets:
                continue
            for entry, at in (yield from self._look(place, raw, offsets)):
                path = f"{place.path}/{entry.name}"
                self.owners.append(
                    Owner(path, entry.first_cluster, entry.size_bytes, entry.is_dir, at)
                )
                if entry.is_dir and self.geometry.is_cluster(entry.first_cluster):
                    todo.append(Place(path, entry.first_cluster, place.start))
            if len(self.owners) > ENTRIES_MAX:
                yield self._finding("FAT021", f"more than {ENTRIES_MAX} files and folders", 0)
                return

    def _read(self, start: int) -> tuple[bytes, list[tuple[int, int]]]:
        """The records of a folder and where its pieces are: (first byte in it, offset)."""
        geometry = self.geometry
        if not start:
            size = geometry.root_entry_count * layout.ENTRY_BYTES
            return read(self.device, geometry.root_offset_bytes, size), [
                (0, geometry.root_offset_bytes)
            ]
        limit = -(-RECORDS_MAX * layout.ENTRY_BYTES // geometry.cluster_bytes)
        chain, _ = self.table.follow(start, limit=limit)
        new: list[int] = []
        for cluster in chain:
            if cluster in self._seen or cluster >= self.table.limit:
                break
            new.append(cluster)
        self._seen.update(new)
        pieces, offsets, at = [], [], 0
        for first, count in runs(new):
            offset_bytes = geometry.cluster_offset_bytes(first)
            offsets.append((at, offset_bytes))
            pieces.append(read(self.device, offset_bytes, count * geometry.cluster_bytes))
            at += len(pieces[-1])
        return b"".join(pieces), offsets

    def _look(
        self, place: Place, raw: bytes, offsets: list[tuple[int, int]]
    ) -> Generator[Finding, None, list[tuple[FatEntry, int]]]:
        """Yield what is wrong in one folder; return its entries and where their records are."""
        parsed = records.parse(raw)
        if not place.path and parsed.is_label.any():
            self.label = parsed.table["name"][np.flatnonzero(parsed.is_label)[0]].tobytes()
        slots = list(
            records.slots(parsed, is_fat32=self.geometry.fat_bits == 32, code_page=names.CODE_PAGE)
        )
        spots = [(slot.entry, _offset(offsets, slot.short_record)) for slot in slots]
        yield from self._check_dots(place, parsed, offsets)
        yield from self._check_names(place, parsed, offsets)
        yield from self._check_duplicates(place, spots)
        if parsed.is_orphan.any():
            first = int(np.flatnonzero(parsed.is_orphan)[0])
            count = int(np.count_nonzero(parsed.is_orphan))
            text = f"{count} long-name records in {_shown(place.path)} belong to no file"
            yield self._finding("FAT016", text, _offset(offsets, first))
        return spots

    def _check_dots(
        self, place: Place, parsed: Records, offsets: list[tuple[int, int]]
    ) -> Iterator[Finding]:
        """`.` and `..` are the first two records of each folder but the root, and no others."""
        expected = []
        if place.path:
            above = 0 if place.parent == self.geometry.root_cluster else place.parent
            expected = [(records.DOT, place.start), (records.DOT_DOT, above)]
        for index, (short, cluster) in enumerate(expected):
            if not self._is_dot(parsed, index, short, cluster):
                text = (
                    f"record {index + 1} of {_shown(place.path)} is not the “{_dots(short)}” of it"
                )
                yield self._finding("FAT013", text, _offset(offsets, index))
        dots = _is_name(parsed, records.DOT) | _is_name(parsed, records.DOT_DOT)
        for index in np.flatnonzero(dots).tolist():
            if index >= len(expected):
                text = f"{_shown(place.path)} has a “.” or “..” where none belongs"
                yield self._finding("FAT013", text, _offset(offsets, index))

    def _is_dot(self, parsed: Records, index: int, short: bytes, cluster: int) -> bool:
        if index >= parsed.end or not parsed.is_short[index]:
            return False
        row = parsed.table[index]
        low, high = int(row["cluster_low"]), int(row["cluster_high"])
        found = (high << 16 | low) if self.geometry.fat_bits == 32 else low
        is_folder = bool(row["attributes"] & layout.ATTRIBUTE_FOLDER)
        return row["name"].tobytes() == short and is_folder and found == cluster

    def _check_names(
        self, place: Place, parsed: Records, offsets: list[tuple[int, int]]
    ) -> Iterator[Finding]:
        wrong = parsed.is_short & ~valid_names(parsed)
        wrong &= ~_is_name(parsed, records.DOT) & ~_is_name(parsed, records.DOT_DOT)
        for index in np.flatnonzero(wrong).tolist():
            name = parsed.table["name"][index].tobytes().decode("cp437")
            text = f"“{name}” in {_shown(place.path)} is no valid short name"
            yield self._finding("FAT014", text, _offset(offsets, index))

    def _check_duplicates(
        self, place: Place, spots: list[tuple[FatEntry, int]]
    ) -> Iterator[Finding]:
        for what in ("name", "short_name"):
            found = Counter(names.fold(getattr(entry, what)) for entry, _ in spots)
            twice = {name for name, count in found.items() if count > 1}
            for entry, at in spots if twice else ():
                key = names.fold(getattr(entry, what))
                if key in twice:
                    twice.discard(key)
                    text = f"“{getattr(entry, what)}” is in {_shown(place.path)} more than once"
                    yield self._finding("FAT015", text, at)

    def _finding(self, code: str, text: str, offset_bytes: int) -> Finding:
        return Finding(
            code, "folder", printable(text), where=self.device.name, offset_bytes=offset_bytes
        )


def valid_names(parsed: Records) -> npt.NDArray[np.bool_]:
    """Which records have a valid short name, for all at once; see `names.is_short_valid`."""
    columns = np.ascontiguousarray(parsed.table["name"]).view(np.uint8).reshape(-1, 11)
    is_bad = _BAD_BYTES[columns]
    is_bad[:, 0] &= columns[:, 0] != layout.MARK_KANJI_E5
    is_space = columns == 0x20
    after = ~is_space[:, 1:] & is_space[:, :-1]
    after[:, 7] = False  # the extension starts anew
    found: npt.NDArray[np.bool_] = ~(is_bad.any(axis=1) | is_space[:, 0] | after.any(axis=1))
    return found


def printable(text: str) -> str:
    """A text whose control characters and lone surrogates are spelled out."""
    plain = text.encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in plain)


_BAD_BYTES: Final = np.array(
    [
        byte < 0x20 or byte == 0x7F or chr(byte) in names.RESERVED or byte == 0x2E
        for byte in range(256)
    ]
)


def _is_name(parsed: Records, short: bytes) -> npt.NDArray[np.bool_]:
    wanted = np.frombuffer(short, np.uint8)
    columns = np.ascontiguousarray(parsed.table["name"]).view(np.uint8).reshape(-1, 11)
    found: npt.NDArray[np.bool_] = parsed.is_short & (columns == wanted).all(axis=1)
    return found


def _offset(offsets: list[tuple[int, int]], record: int) -> int:
    """Where a record is on the volume, in bytes."""
    at = record * layout.ENTRY_BYTES
    start, offset_bytes = offsets[bisect.bisect_right(offsets, at, key=lambda piece: piece[0]) - 1]
    return offset_bytes + at - start


def _shown(path: str) -> str:
    return f"“{path}”" if path else "the root folder"


def _dots(short: bytes) -> str:
    return short.decode().rstrip()
