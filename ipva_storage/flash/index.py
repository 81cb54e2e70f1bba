"""What is live: objects, tombstones and commits, and how much they take of which segment.

Invariants:

1. `live_bytes` of every segment is the sum over the live records in it: entries of objects,
   tombstones that hide something, commits on which a live member still depends.
2. `stale[key]` counts the readable data entries of a key that are on flash and not live.
3. A tombstone is live as long as its key has stale entries; then it is dropped.
4. A commit is live as long as a live entry carries the MEMBER flag of its version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from ipva_storage.flash.records import (
    CHUNK,
    COMMIT,
    DELETE,
    ENTRY,
    ENTRY_BYTES,
    LARGE,
    MEMBER,
    PUT,
    record_bytes,
)

if TYPE_CHECKING:
    from ipva_storage.flash.log import Log

Place = int | list[int]
"""Address of an object's entry; of a large one, the LARGE entry and then its chunks in order."""


class Index:
    """The objects in memory, with their places on flash."""

    def __init__(self, log: Log) -> None:
        """Start empty; a mount fills it."""
        self._log = log
        self.objects: dict[bytes, Place] = {}
        self.tombstones: dict[bytes, int] = {}
        self.stale: dict[bytes, int] = {}
        self.commits: dict[int, list[int]] = {}
        """Version of a batch: how many live members depend on it, and the COMMIT's address."""
        self.live_bytes = 0
        """Sum over all segments."""
        self.next_version = 1

    def born(self, address: int, size_bytes: int) -> None:
        """Count a record as live."""
        self._log.segments[address >> self._log.shift].live_bytes += size_bytes
        self.live_bytes += size_bytes

    def died(self, address: int) -> None:
        """Count a live record out, and what depended on it."""
        _, flags, _, _, length, version, _, _, _, _ = ENTRY.unpack_from(
            self._log.nor.image, address
        )
        self.born(address, -record_bytes(length))
        if flags & MEMBER:
            self._release(version)

    def _release(self, version: int) -> None:
        commit = self.commits.get(version)
        if commit is None:
            return
        commit[0] -= 1
        if not commit[0]:
            del self.commits[version]
            self.born(commit[1], -ENTRY_BYTES)

    def place_bytes(self, place: Place) -> int:
        """What an object takes of the flash, entries included."""
        image = self._log.nor.image
        places = (place,) if isinstance(place, int) else place
        return sum(record_bytes(ENTRY.unpack_from(image, at)[4]) for at in places)

    def set_object(self, key: bytes, place: Place) -> None:
        """Let a key have its (already counted) record, in place of what it had."""
        old = self.objects.get(key)
        if old is not None:
            self._retire(key, old)
        elif self.tombstones:
            self._drop_tombstone(key)
        self.objects[key] = place

    def set_tombstone(self, key: bytes, address: int) -> None:
        """Let a key be gone, by an (already counted) tombstone."""
        old = self.objects.pop(key, None)
        if old is not None:
            self._retire(key, old)
        self._drop_tombstone(key)
        self.tombstones[key] = address
        if key not in self.stale:
            self._drop_tombstone(key)

    def _retire(self, key: bytes, place: Place) -> None:
        places = (place,) if isinstance(place, int) else place
        for address in places:
            self.died(address)
        self.stale[key] = self.stale.get(key, 0) + len(places)

    def _drop_tombstone(self, key: bytes) -> None:
        address = self.tombstones.pop(key, None)
        if address is not None:
            self.died(address)

    # -- reclaim ------------------------------------------------------------------------------

    def is_live(self, address: int, kind: int, key: bytes, version: int) -> bool:
        """Whether the entry at an address is one that counts."""
        if kind in (PUT, LARGE, CHUNK):
            place = self.objects.get(key)
            return place == address if isinstance(place, int) else address in (place or ())
        if kind == DELETE:
            return self.tombstones.get(key) == address
        if kind == COMMIT:
            commit = self.commits.get(version)
            return commit is not None and commit[1] == address
        return False

    def moved(self, kind: int, key: bytes, version: int, old: int, new: int) -> None:
        """Follow a live record to its copy, which carries no MEMBER flag and is counted already."""
        if kind == COMMIT:
            self.commits[version][1] = new
            self.born(old, -ENTRY_BYTES)
            return
        if kind == DELETE:
            self.tombstones[key] = new
        else:
            place = self.objects[key]
            if isinstance(place, int):
                self.objects[key] = new
            else:
                place[place.index(old)] = new
        self.died(old)

    def forgot(self, kind: int, key: bytes, key_crc: int) -> None:
        """Count one stale data entry out, because its segment is being reclaimed."""
        count = self.stale.get(key)
        if kind not in (PUT, LARGE, CHUNK) or count is None or crc32(key) != key_crc:
            return
        if count > 1:
            self.stale[key] = count - 1
        else:
            del self.stale[key]
            self._drop_tombstone(key)
