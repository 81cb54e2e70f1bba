"""Mount: from the segments as they are, the log and the index; then what a cut left is mended.

Steps, each from the one before: scan the segments; join the entry tables into one NumPy array;
decide which reclaims to finish or to roll back; pick the winner of every key; count what is live;
erase and seal what the decision asks for, unless mounted read-only.

Rules (numbers as in `formats/spec/flash.md`):

* A RECLAIMED entry that names a segment by its open sequence: the segment is erased again. One
  whose header is unreadable is erased too if the RECLAIMED entry is the last of the newest segment
  and that is not sealed, because then the erase was the last thing begun.
* A reclaim segment without the RECLAIMED entry for its victim, which is still there: rolled back.
* Otherwise an unreadable header never costs a record: the entries are salvaged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ipva_formats import dtype_of
from ipva_formats.flash import ENTRY
from ipva_storage.flash.index import Index
from ipva_storage.flash.log import Log
from ipva_storage.flash.records import (
    CHUNK,
    COMMIT,
    COUNTER_LIMIT,
    DELETE,
    ENTRY_BYTES,
    LARGE,
    MEMBER,
    PAYLOAD_AT,
    PUT,
    RECLAIM,
    RECLAIMED,
)
from ipva_storage.flash.scan import SALVAGED_SEQUENCE, Scan, Table, scan
from ipva_storage.flash.winners import Rows, pick_winners

if TYPE_CHECKING:
    import numpy.typing as npt

    from ipva_storage.findings import Finding
    from ipva_storage.flash.nor import NorDevice

    Array = npt.NDArray[Any]


@dataclass(slots=True)
class Mounted:
    """A flash directory in memory."""

    log: Log
    index: Index
    findings: list[Finding] = field(default_factory=list)
    """What is wrong with the image, in order of discovery."""


def mount(nor: NorDevice, *, read_only: bool) -> Mounted:
    """Read a flash directory, and finish what a power cut interrupted.

    Args:
        nor: the flash; one of zeros is an empty directory.
        read_only: write nothing; the interrupted work is only left out of account.

    Raises:
        FlashError: the layout is not ours.
        DeviceError: the device refused.
    """
    found = scan(nor)
    addresses, entries = _join(nor, found)
    doomed = _interrupted(nor, found, addresses, entries)
    if doomed:
        found.forget(doomed, nor.segment_bytes)
        keep = ~np.isin(addresses // nor.segment_bytes, sorted(doomed))
        addresses, entries = addresses[keep], entries[keep]
        found.tables = [table for table in found.tables if table.segment not in doomed]
    log, index = _build(nor, found, addresses, entries)
    if not read_only:
        _mend(log, found, doomed)
    else:
        for at in doomed:
            log.segments[at].sequence = 0
        log.used_count -= len(doomed)
    return Mounted(log, index, found.findings)


def _join(nor: NorDevice, found: Scan) -> tuple[Array, Array]:
    """Addresses and fields of all readable entries; shapes (n,) and (n,)."""
    image, size = nor.image, nor.segment_bytes
    pieces: list[bytes | bytearray] = []
    addresses: list[Array] = []
    for table in found.tables:
        stop = (table.segment + 1) * size
        if isinstance(table.slots, int):
            start = stop - ENTRY_BYTES * table.slots
            pieces.append(image[start:stop])
            addresses.append(np.arange(start, stop, ENTRY_BYTES))
        else:
            pieces += [image[slot : slot + ENTRY_BYTES] for slot in table.slots]
            addresses.append(np.array(table.slots, dtype=np.int64))
    entries = np.frombuffer(b"".join(pieces), dtype_of(ENTRY))
    where = np.concatenate(addresses) if addresses else np.empty(0, np.int64)
    return where, entries


# -- interrupted reclaims ---------------------------------------------------------------------


def _interrupted(nor: NorDevice, found: Scan, addresses: Array, entries: Array) -> set[int]:
    """Segments in use of which nothing counts: victims not erased to the end, copies not named."""
    tables = {table.segment: table for table in found.tables}
    marks = entries["type"] == RECLAIMED
    named: dict[int, set[int]] = {}
    for holder, victim, sequence in zip(
        (addresses[marks] // nor.segment_bytes).tolist(),
        entries["detail"][marks].tolist(),
        entries["version"][marks].tolist(),
        strict=True,
    ):
        named.setdefault(holder, set()).add(victim)
        named.setdefault(-1, set())
        table = tables.get(victim)
        if table and table.header and table.header.sequence == sequence:
            named[-1].add(victim)
    doomed = named.get(-1, set()) | _unfinished(nor, found, tables)
    doomed |= {at for at, table in tables.items() if _is_rollback(table, tables, named)}
    doomed |= _duplicates(nor, found, addresses, entries, doomed)
    for at in sorted(set(tables) - doomed):
        if tables[at].header is None:
            message = f"the open header of segment {at} is unreadable; its records are salvaged"
            found.report("FLASH002", "open header", message, at * nor.segment_bytes + 0x20)
    return doomed


def _unfinished(nor: NorDevice, found: Scan, tables: dict[int, Table]) -> set[int]:
    """The victim whose erase was the last thing begun, if its header is gone already."""
    headed = [table for table in found.tables if table.header is not None]
    if not headed:
        return set()
    newest = max(headed, key=lambda table: table.header.sequence if table.header else 0)
    if newest.is_sealed or isinstance(newest.slots, int) or not newest.slots:
        return set()
    kind, detail = _kind_and_detail(nor, newest.slots[-1])
    victim = tables.get(detail)
    if kind == RECLAIMED and newest.end_is_clean and victim and victim.header is None:
        return {detail}
    return set()


def _kind_and_detail(nor: NorDevice, slot: int) -> tuple[int, int]:
    fields = np.frombuffer(nor.image[slot : slot + ENTRY_BYTES], dtype_of(ENTRY))[0]
    return int(fields["type"]), int(fields["detail"])


def _is_rollback(table: Table, tables: dict[int, Table], named: dict[int, set[int]]) -> bool:
    header = table.header
    if header is None or header.kind != RECLAIM:
        return False
    if header.victim_segment in named.get(table.segment, ()):
        return False
    victim = tables.get(header.victim_segment)
    if victim is None:
        return False
    sequence = victim.header.sequence if victim.header else SALVAGED_SEQUENCE
    return sequence == header.victim_sequence


def _duplicates(
    nor: NorDevice, found: Scan, addresses: Array, entries: Array, doomed: set[int]
) -> set[int]:
    """Salvaged segments all of whose records are elsewhere too: a roll-back that was cut off."""
    salvaged = [table.segment for table in found.tables if table.header is None]
    salvaged = [at for at in salvaged if at not in doomed]
    if not salvaged:
        return set()
    identity = ["type", "version", "key_crc", "detail", "payload_crc"]
    segments = addresses // nor.segment_bytes
    away = ~np.isin(segments, [*salvaged, *doomed])
    known = set(entries[identity][away].tolist())
    return {at for at in salvaged if known.issuperset(entries[identity][segments == at].tolist())}


# -- the index --------------------------------------------------------------------------------


def _build(nor: NorDevice, found: Scan, addresses: Array, entries: Array) -> tuple[Log, Index]:
    sane = _sane(nor, found, addresses, entries)
    addresses, entries = addresses[sane], entries[sane]
    sequences = np.array([one.sequence for one in found.segments], dtype=np.int64)
    next_sequence = int(sequences.max(initial=0)) + 1
    log = Log(nor, found.segments, next_sequence)
    index = Index(log)
    kinds = entries["type"]
    counted = kinds != RECLAIMED
    index.next_version = int(entries["version"][counted].max(initial=0)) + 1
    rows = Rows(nor, addresses, entries, sequences[addresses // nor.segment_bytes])
    winners = pick_winners(rows, index, found)
    _count_live(log, index, rows, winners)
    return log, index


def _sane(nor: NorDevice, found: Scan, addresses: Array, entries: Array) -> Array:
    """Which entries say only what can be; shape (n,), bool."""
    size = nor.segment_bytes
    kinds = entries["type"]
    has_key = np.isin(kinds, (PUT, DELETE, CHUNK, LARGE))
    start = entries["offset_units"].astype(np.int64) * 4
    stop = start + entries["payload_bytes"]
    key_bytes = entries["key_bytes"]
    good_key = (key_bytes > 0) & (key_bytes < 256) & (key_bytes <= entries["payload_bytes"])
    good_place = (start >= PAYLOAD_AT) & (stop <= addresses % size)
    good_other = np.isin(kinds, (COMMIT, RECLAIMED)) & (entries["payload_bytes"] == 0)
    good_version = (entries["version"] > 0) & (entries["version"] < COUNTER_LIMIT)
    sane: Array = np.where(has_key, good_key & good_place, good_other) & good_version
    for at in addresses[~sane][:100].tolist():
        found.report("FLASH005", "entry", "an entry says what cannot be", at)
    return sane


def _count_live(log: Log, index: Index, rows: Rows, rank: Array) -> None:
    """Count live bytes of every segment, and the commits that members depend on."""
    padded = (rows.entries["payload_bytes"].astype(np.int64) + 3) & ~3
    size_bytes = padded[rank] + ENTRY_BYTES
    totals = np.bincount(
        rows.addresses[rank] >> log.shift, weights=size_bytes, minlength=len(log.segments)
    )
    for one, total in zip(log.segments, totals.tolist(), strict=True):
        one.live_bytes = int(total)
    index.live_bytes = int(size_bytes.sum())
    members = rank[(rows.entries["flags"][rank] & MEMBER) != 0]
    if not len(members):
        return
    at = np.flatnonzero(rows.entries["type"] == COMMIT)
    at = at[np.argsort(rows.sequences[at], kind="stable")]
    newest = dict(
        zip(rows.entries["version"][at].tolist(), rows.addresses[at].tolist(), strict=True)
    )
    versions, counts = np.unique(rows.entries["version"][members], return_counts=True)
    for version, count in zip(versions.tolist(), counts.tolist(), strict=True):
        index.commits[version] = [count, newest[version]]
        index.born(newest[version], ENTRY_BYTES)


# -- mending ----------------------------------------------------------------------------------


def _mend(log: Log, found: Scan, doomed: set[int]) -> None:
    """Finish interrupted erases, then seal the tails that a cut left open."""
    for at in sorted(doomed):
        log.free_segment(at)
    for table in found.tables:
        if table.can_seal and not table.is_sealed:
            log.seal(table.segment)
