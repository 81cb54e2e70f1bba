"""The flash directory: a crash-safe mapping of keys to values on NOR flash.

Promises:

1. What `put`, `delete` and `batch` have returned from survives any power cut (on a device that
   keeps what it was told, and, without `durable`, in order).
2. A cut during one of them leaves the state before it or the state after it.
3. `get` returns a value that was put under that key, or raises; never other bytes.
4. A full directory stays readable, deletable and mountable.
5. At most `segment_limit` segments are in use, and the copy segment while one is being reclaimed,
   unless the flash was found with more (see `open`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from zlib import crc32

from ipva_storage.errors import (
    DeviceError,
    FlashError,
    FlashNotFoundError,
    NoSpaceError,
    UsageError,
)
from ipva_storage.flash.log import KEY_LIMIT_BYTES
from ipva_storage.flash.reclaim import make_room, reserve
from ipva_storage.flash.records import (
    CHUNK,
    COMMIT,
    DELETE,
    ENTRY,
    ENTRY_BYTES,
    LARGE,
    LARGE_TAIL,
    MEMBER,
    PUT,
    record_bytes,
)
from ipva_storage.flash.shrink import ShrinkPlan, plan_shrink, shrink

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ipva_storage.findings import Finding
    from ipva_storage.flash.index import Place
    from ipva_storage.flash.mount import Mounted


@dataclass(frozen=True, slots=True)
class FlashUsage:
    """How full and how worn a flash directory is."""

    segment_count_physical: int
    segment_count_usable: int
    """The limit: how many may hold data."""
    segment_count_used: int
    object_count: int
    used_bytes: int
    """What is live, entries included: `used` of the appliance's FLASHMAN0 info."""
    free_bytes: int
    """What can still be put in small objects, entries included."""
    owned_bytes: int
    """Whole segments in use: live, and not reclaimed yet."""
    erase_count_min: int
    erase_count_max: int


@dataclass(slots=True)
class _Record:
    """A record that is about to be written."""

    kind: int
    key: bytes
    payload: bytes
    detail: int = 0


class FlashDirectory:
    """A mounted flash directory. Use `ipva_storage.flash.open`.

    One object a flash at a time: it keeps in memory what it believes to be there.
    """

    def __init__(
        self, mounted: Mounted, segment_limit: int, *, durable: bool, read_only: bool
    ) -> None:
        """Take a mounted flash."""
        self._log = mounted.log
        self._index = mounted.index
        self._limit = segment_limit
        self._capacity = segment_limit * mounted.log.dependable_bytes
        self._durable = durable
        self._why_not = "it was opened read-only" if read_only else ""
        self.damaged: tuple[Finding, ...] = tuple(mounted.findings)
        """What the mount found wrong, and left out of account."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._index.objects)

    def __contains__(self, key: object) -> bool:
        return key in self._index.objects

    def __iter__(self) -> Iterator[bytes]:
        return self.keys()

    @property
    def name(self) -> str:
        """Name of the device."""
        return self._log.nor.name

    @property
    def segment_limit(self) -> int:
        """How many segments may hold data."""
        return self._limit

    # -- reading ------------------------------------------------------------------------------

    def keys(self) -> Iterator[bytes]:
        """The keys that are there now, in no promised order. Writing meanwhile is allowed."""
        return iter(list(self._index.objects))

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values; objects deleted meanwhile are left out.

        Raises:
            FlashError: a value does not match its CRC.
        """
        objects = self._index.objects
        for key in list(objects):
            place = objects.get(key)
            if place is not None:
                yield key, self._read(place)

    def get(self, key: bytes) -> bytes:
        """The value of a key.

        Raises:
            FlashNotFoundError: there is none.
            FlashError: its bytes do not match their CRC.
        """
        place = self._index.objects.get(key)
        if place is None:
            raise FlashNotFoundError(f"there is no object {_text(key)}", where=self.name)
        return self._read(place)

    def _read(self, place: Place) -> bytes:
        if not isinstance(place, int):
            return b"".join([self._read(part) for part in place[1:]])
        log = self._log
        image = log.nor.image
        _, _, key_bytes, units, length, _, _, _, wanted, _ = ENTRY.unpack_from(image, place)
        start = (place & -log.segment_bytes) + (units << 2)
        payload = image[start : start + length]
        if crc32(payload) != wanted:
            raise FlashError(
                "the bytes of an object do not match their CRC",
                where=self.name,
                offset_bytes=start,
                remedy="open the directory again; an older version may be there",
            )
        return bytes(payload[key_bytes:])

    # -- writing ------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes) -> None:
        """Store a value, in place of the key's old one.

        Raises:
            NoSpaceError: it does not fit; nothing is changed.
            UsageError: the key is empty or longer than 255 bytes.
            DeviceError: the device refused; the directory must be opened again.
        """
        log, index = self._log, self._index
        key_bytes = len(key)
        if not 0 < key_bytes <= KEY_LIMIT_BYTES or self._why_not:
            self._refuse(key)
        payload = key + value
        length = len(payload)
        if length > log.record_limit_bytes:
            self._write_batch({key: value})
            return
        size_bytes = ((length + 3) & ~3) + ENTRY_BYTES
        if index.live_bytes + size_bytes > self._capacity:
            self._check_replacement(key, size_bytes)
        try:
            if log.slot - log.end < size_bytes:
                make_room(log, index, size_bytes, self._limit, may_exceed=False)
            version = index.next_version
            index.next_version = version + 1
            key_crc = crc32(key)
            payload_crc = crc32(value, key_crc)
            address = log.append(PUT, 0, key_bytes, payload, version, key_crc, 0, payload_crc)
            if self._durable:
                log.nor.barrier()
        except DeviceError:
            self._give_up()
            raise
        index.born(address, size_bytes)
        index.set_object(key, address)

    def delete(self, key: bytes) -> None:
        """Remove an object. There is room for that however full the directory is.

        Raises:
            FlashNotFoundError: there is none.
            DeviceError: the device refused; the directory must be opened again.
        """
        if self._why_not:
            self._refuse(key)
        if key not in self._index.objects:
            raise FlashNotFoundError(f"there is no object {_text(key)}", where=self.name)
        try:
            self._delete(bytes(key))
            if self._durable:
                self._log.nor.barrier()
        except DeviceError:
            self._give_up()
            raise

    def _delete(self, key: bytes) -> None:
        log, index = self._log, self._index
        size_bytes = record_bytes(len(key))
        if log.slot - log.end < size_bytes:
            make_room(log, index, size_bytes, self._limit, may_exceed=True)
        address = self._append(_Record(DELETE, key, key), 0, self._new_version())
        index.born(address, size_bytes)
        index.set_tombstone(key, address)

    def batch(self, items: Mapping[bytes, bytes | None]) -> None:
        """Store and delete several objects: all of them, or none if the power goes.

        Args:
            items: values by key; None deletes, and an absent object stays absent.

        Raises:
            NoSpaceError: it does not fit beside what is there; nothing is changed.
            UsageError: a key is empty or longer than 255 bytes.
            DeviceError: the device refused; the directory must be opened again.
        """
        for key in items:
            if not 0 < len(key) <= KEY_LIMIT_BYTES or self._why_not:
                self._refuse(key)
        present = self._index.objects
        wanted = {k: v for k, v in items.items() if v is not None or k in present}
        if len(wanted) > 1:
            self._write_batch(wanted)
            return
        for key, value in wanted.items():  # one alone is atomic by itself, and needs less room
            if value is None:
                self.delete(key)
            else:
                self.put(key, value)

    def _write_batch(self, items: Mapping[bytes, bytes | None]) -> None:
        log, index = self._log, self._index
        records = [record for key, value in items.items() for record in self._records(key, value)]
        need_bytes = sum(record_bytes(len(one.payload)) for one in records) + ENTRY_BYTES
        if index.live_bytes + need_bytes > self._capacity:
            raise self._full(need_bytes)
        try:
            reserve(log, index, need_bytes, self._limit)
            version = self._new_version()
            places = [self._append_member(one, version) for one in records]
            if log.slot < log.end + ENTRY_BYTES:
                log.seal_head()
                log.open_segment()
            log.nor.barrier()
            commit = log.append(COMMIT, 0, 0, b"", version, 0, len(records), 0)
            if self._durable:
                log.nor.barrier()
        except DeviceError:
            self._give_up()
            raise
        index.commits[version] = [len(records), commit]
        index.born(commit, ENTRY_BYTES)
        for one, place in zip(records, places, strict=True):
            index.born(place, record_bytes(len(one.payload)))
        self._enter(records, places)

    def _records(self, key: bytes, value: bytes | None) -> list[_Record]:
        """The records of one member; the LARGE one comes before its chunks."""
        if value is None:
            return [_Record(DELETE, key, bytes(key))]
        limit = self._log.record_limit_bytes
        if len(key) + len(value) <= limit:
            return [_Record(PUT, key, key + value)]
        step = limit - len(key)
        chunks = [key + value[at : at + step] for at in range(0, len(value), step)]
        tail = LARGE_TAIL.pack(len(value), len(chunks))
        parts = [_Record(CHUNK, key, part, at) for at, part in enumerate(chunks)]
        return [_Record(LARGE, key, key + tail), *parts]

    def _append_member(self, one: _Record, version: int) -> int:
        log = self._log
        if log.slot - log.end < record_bytes(len(one.payload)):
            log.seal_head()
            log.open_segment()
        return self._append(one, MEMBER, version)

    def _append(self, one: _Record, flags: int, version: int) -> int:
        payload_crc = crc32(one.payload)
        key_crc = crc32(one.key)
        return self._log.append(
            one.kind, flags, len(one.key), one.payload, version, key_crc, one.detail, payload_crc
        )

    def _enter(self, records: list[_Record], places: list[int]) -> None:
        """Let the members of a committed batch count."""
        index = self._index
        for one, place in zip(records, places, strict=True):
            key = bytes(one.key)
            if one.kind == DELETE:
                index.set_tombstone(key, place)
            elif one.kind == PUT:
                index.set_object(key, place)
            elif one.kind == LARGE:
                index.set_object(key, [place])
            else:
                parts = index.objects[key]
                assert isinstance(parts, list)
                parts.append(place)

    def _new_version(self) -> int:
        version = self._index.next_version
        self._index.next_version = version + 1
        return version

    # -- room ---------------------------------------------------------------------------------

    def usage(self) -> FlashUsage:
        """How full and how worn it is."""
        log, index = self._log, self._index
        wear = [one.erase_count for one in log.segments]
        return FlashUsage(
            segment_count_physical=log.nor.segment_count,
            segment_count_usable=self._limit,
            segment_count_used=log.used_count,
            object_count=len(index.objects),
            used_bytes=index.live_bytes,
            free_bytes=max(0, self._capacity - index.live_bytes),
            owned_bytes=log.used_count * log.segment_bytes,
            erase_count_min=min(wear),
            erase_count_max=max(wear),
        )

    def plan(self, segment_count: int) -> ShrinkPlan:
        """What a limit of `segment_count` segments would lose. Changes nothing.

        Raises:
            UsageError: the flash cannot have such a limit.
        """
        self._check_limit(segment_count)
        return plan_shrink(self._log, self._index, segment_count)

    def shrink(self, segment_count: int) -> tuple[bytes, ...]:
        """Make the plan true: lose what it names, pack the rest, set the limit.

        A cut in the middle leaves every object that the plan keeps, and some that it does not; the
        same call on the next mount then loses exactly those.

        Returns:
            The keys that were lost: `plan(segment_count).lost`.

        Raises:
            UsageError: the flash cannot have such a limit.
            DeviceError: the device refused; the directory must be opened again.
        """
        if self._why_not:
            self._refuse(b"x")
        plan = self.plan(segment_count)
        self._set_limit(self._log.nor.segment_count - 1)
        try:
            shrink(self._log, self._index, plan, self._delete)
        except DeviceError:
            self._give_up()
            raise
        self._set_limit(segment_count)
        return plan.lost

    def _set_limit(self, segment_count: int) -> None:
        self._limit = segment_count
        self._capacity = segment_count * self._log.dependable_bytes

    def _check_limit(self, segment_count: int) -> None:
        most = self._log.nor.segment_count - 1
        if not 1 <= segment_count <= most:
            raise UsageError(f"{segment_count} segments cannot hold data here: 1 to {most} can")

    def _check_replacement(self, key: bytes, size_bytes: int) -> None:
        """At the limit a value may still replace one that is as large.

        Raises:
            NoSpaceError: it is not.
        """
        old = self._index.objects.get(key)
        freed_bytes = 0 if old is None else self._index.place_bytes(old)
        if self._index.live_bytes - freed_bytes + size_bytes > self._capacity:
            raise self._full(size_bytes)

    def _full(self, need_bytes: int) -> NoSpaceError:
        free_bytes = max(0, self._capacity - self._index.live_bytes)
        return NoSpaceError(
            f"the flash directory has {free_bytes} bytes left, and this takes {need_bytes}",
            where=self.name,
            remedy="delete objects, or give the appliance more RAM",
        )

    # -- end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Seal the head, so that later damage is told from a cut. The device stays open."""
        if not self._why_not:
            self._log.seal_head()
            self._log.nor.barrier()
            self._why_not = "the directory was closed"

    def _give_up(self) -> None:
        self._why_not = "a write failed; open the directory again"

    def _refuse(self, key: bytes) -> None:
        """Say why nothing can be written, or what is wrong with the key."""
        if self._why_not:
            raise DeviceError(self._why_not, where=self.name)
        raise UsageError(f"a key has 1 to {KEY_LIMIT_BYTES} bytes, not {len(key)}")


def _text(key: bytes) -> str:
    return repr(bytes(key[:80]))[1:]
