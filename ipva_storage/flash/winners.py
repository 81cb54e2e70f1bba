"""Which of all records of a key counts: the newest committed one whose bytes are whole.

Entries are sorted by key CRC, version and age of segment through NumPy; keys with a single record
(nearly all, in a directory that was not overwritten) take the fast way, the others are looked at
key by key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import numpy as np

from ipva_storage.flash.records import CHUNK, COMMIT, DELETE, LARGE, LARGE_TAIL, MEMBER, PUT

if TYPE_CHECKING:
    import numpy.typing as npt

    from ipva_storage.flash.index import Index
    from ipva_storage.flash.nor import NorDevice
    from ipva_storage.flash.scan import Scan

    Array = npt.NDArray[Any]


SLICE_ROWS: Final = 1 << 16
"""Rows that become Python objects at a time, to bound the memory that takes."""


@dataclass(slots=True)
class Rows:
    """All sane entries of a flash; the arrays have one row an entry."""

    nor: NorDevice
    addresses: Array
    """Where the entry is, int64."""
    entries: Array
    """Its fields, in the dtype of `ipva_formats.flash.ENTRY`."""
    sequences: Array
    """When its segment was opened, int64."""


def pick_winners(rows: Rows, index: Index, found: Scan) -> Array:
    """Fill the index's objects, tombstones and stale counts.

    Returns:
        Row numbers of everything live, commits apart; shape (n,), int64.
    """
    entries = rows.entries
    kinds, versions = entries["type"], entries["version"]
    committed = _committed(rows, found)
    data = np.flatnonzero(np.isin(kinds, (PUT, DELETE, CHUNK, LARGE)))
    order = data[
        np.lexsort(
            (
                rows.addresses[data],
                rows.sequences[data],
                versions[data],
                entries["key_crc"][data],
            )
        )
    ]
    crcs = entries["key_crc"][order]
    edge = np.ones(len(order) + 1, bool)
    edge[1:-1] = crcs[1:] != crcs[:-1]
    single = edge[:-1] & edge[1:] & (kinds[order] == PUT) & committed[order]
    winners = _pick_singles(rows, index, found, order[single])
    rest = order[~single]
    others = _Resolver(rows, index, found, committed).resolve(rest)
    return np.concatenate([winners, np.array(others, dtype=np.int64)])


def _committed(rows: Rows, found: Scan) -> Array:
    """Which rows count as far as batches go; shape (n,), bool."""
    entries = rows.entries
    is_member = (entries["flags"] & MEMBER) != 0
    versions = entries["version"]
    done = versions[entries["type"] == COMMIT]
    committed: Array = ~is_member | np.isin(versions, done)
    for version in np.unique(versions[~committed])[:100].tolist():
        at = int(rows.addresses[~committed & (versions == version)][0])
        message = f"batch {version} was never committed; it does not count"
        found.report("FLASH009", "batch", message, at)
    return committed


def _pick_singles(rows: Rows, index: Index, found: Scan, picked: Array) -> Array:
    """Keys that have one record each."""
    picked = np.sort(picked)  # in order of address, which the caches like
    parts = range(0, len(picked), SLICE_ROWS)
    good = [_pick_slice(rows, index, found, picked[at : at + SLICE_ROWS]) for at in parts]
    return np.concatenate([np.empty(0, np.int64), *good])


def _pick_slice(rows: Rows, index: Index, found: Scan, picked: Array) -> Array:
    places, starts, stops = _payloads(rows, picked)
    with memoryview(rows.nor.image) as image:
        wanted = rows.entries["payload_crc"][picked].tolist()
        spans = zip(starts.tolist(), stops.tolist(), wanted, strict=True)
        bad = [at for at, (start, stop, crc) in enumerate(spans) if crc32(image[start:stop]) != crc]
        if bad:
            for place in places[bad].tolist():
                _report_payload(found, place)
            picked = np.delete(picked, bad)
            places, starts, _ = _payloads(rows, picked)
        key_stops = starts + rows.entries["key_bytes"][picked]
        spans_of_keys = zip(starts.tolist(), key_stops.tolist(), strict=True)
        keys = [image[start:stop].tobytes() for start, stop in spans_of_keys]
    index.objects.update(zip(keys, places.tolist(), strict=True))
    return picked


def _payloads(rows: Rows, picked: Array) -> tuple[Array, Array, Array]:
    """Of some rows: addresses of the entries, of their payloads, and of the ends of those."""
    entries, places = rows.entries[picked], rows.addresses[picked]
    starts = (places & -rows.nor.segment_bytes) + entries["offset_units"].astype(np.int64) * 4
    return places, starts, starts + entries["payload_bytes"]


def _report_payload(found: Scan, address: int) -> None:
    message = "the bytes of an object do not match their CRC; an older version counts, if any"
    found.report("FLASH006", "payload", message, address)


class _Resolver:
    """Keys with several records, or with large values."""

    def __init__(self, rows: Rows, index: Index, found: Scan, committed: Array) -> None:
        self._rows = rows
        self._index = index
        self._found = found
        self._committed = committed
        self._image = rows.nor.image
        self._mask = -rows.nor.segment_bytes

    def resolve(self, picked: Array) -> list[int]:
        """Winners among rows sorted by age within a key."""
        entries = self._rows.entries[picked]
        groups: dict[bytes, list[tuple[int, ...]]] = {}
        for row, address, is_committed, fields in zip(
            picked.tolist(),
            self._rows.addresses[picked].tolist(),
            self._committed[picked].tolist(),
            entries.tolist(),
            strict=True,
        ):
            start = (address & self._mask) + 4 * fields[3]
            key = bytes(self._image[start : start + fields[2]])
            if crc32(key) == fields[6]:
                record = (row, address, is_committed, start, *fields)
                groups.setdefault(key, []).append(record)
            else:
                _report_payload(self._found, address)
        winners: list[int] = []
        for key, records in groups.items():
            winners += self._resolve_key(key, records)
        return winners

    def _resolve_key(self, key: bytes, records: list[tuple[int, ...]]) -> list[int]:
        live: list[tuple[int, ...]] = []
        for record in reversed(records):
            kind, is_committed = record[4], record[2]
            if kind == CHUNK or not is_committed:
                continue
            if not self._is_whole(record):
                _report_payload(self._found, record[1])
                continue
            live = [record] if kind != LARGE else self._gather(record, records)
            if live:
                break
        copies = sum(1 for record in records if record[4] != DELETE)
        return self._enter(key, live, copies)

    def _enter(self, key: bytes, live: list[tuple[int, ...]], copies: int) -> list[int]:
        index = self._index
        if live and live[0][4] == DELETE:
            if not copies:
                return []
            index.tombstones[key] = live[0][1]
            index.stale[key] = copies
            return [live[0][0]]
        if copies > len(live):
            index.stale[key] = copies - len(live)
        if live:
            places = [record[1] for record in live]
            index.objects[key] = places if live[0][4] == LARGE else places[0]
        return [record[0] for record in live]

    def _is_whole(self, record: tuple[int, ...]) -> bool:
        start, length, wanted = record[3], record[8], record[12]
        return crc32(self._image[start : start + length]) == wanted

    def _gather(
        self, manifest: tuple[int, ...], records: list[tuple[int, ...]]
    ) -> list[tuple[int, ...]]:
        """A LARGE record and its chunks in order; empty if one is missing or broken."""
        start, version, key_bytes = manifest[3], manifest[9], manifest[6]
        tail = self._image[start + key_bytes : start + manifest[8]]
        chunks: dict[int, tuple[int, ...]] = {}
        for record in records:
            is_part = record[4] == CHUNK and record[9] == version and record[2]
            if is_part and self._is_whole(record):
                chunks[record[11]] = record
        if len(tail) == LARGE_TAIL.size:
            value_bytes, count = LARGE_TAIL.unpack(tail)
            parts = [chunks[at] for at in range(len(chunks)) if at in chunks]
            found_bytes = sum(record[8] - record[6] for record in parts)
            if len(parts) == count == len(chunks) and found_bytes == value_bytes:
                return [manifest, *parts]
        message = "parts of a large object are missing; an older version counts, if any"
        self._found.report("FLASH007", "large object", message, manifest[1])
        return []
