"""Reclaim: copy what is live out of a segment, say so, erase it.

The order that makes it safe: copies, barrier, RECLAIMED entry that names the victim, barrier,
erase, clean marker. A cut before the RECLAIMED entry leaves the victim whole and only duplicates
beside it; a cut after it makes the next mount erase the victim again, whatever it looks like.

Why there is always room: puts are refused beyond `dependable_bytes` times the segment limit, so
some segment has at least one largest record's worth of dead bytes, and its live ones fit into the
copy segment with room for the next record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_storage.errors import NoSpaceError
from ipva_storage.flash.records import ENTRY, ENTRY_BYTES, RECLAIM, record_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipva_storage.flash.index import Index
    from ipva_storage.flash.log import Log


def choose_victim(log: Log, need_bytes: int) -> int:
    """The segment whose reclaim pays best and leaves room for `need_bytes`; -1 if none does.

    Cost-benefit: free share over cost, times age (Rosenblum and Ousterhout, 1991); ties go to the
    lowest segment.
    """
    most_bytes = log.room_bytes - ENTRY_BYTES - need_bytes
    now = log.next_sequence
    room_bytes = log.room_bytes
    best, best_score = -1, -1.0
    for at, one in enumerate(log.segments):
        live_bytes = one.live_bytes
        if one.sequence and live_bytes <= most_bytes and at != log.head:
            score = (room_bytes - live_bytes) * (now - one.sequence) / (room_bytes + live_bytes)
            if score > best_score:
                best, best_score = at, score
    return best


def reclaim(log: Log, index: Index, victim: int) -> None:
    """Move what is live in `victim` to the head, and free it.

    Where the head is full or absent, a segment is opened that names the victim; it takes the copy
    segment if no other is free.
    """
    for address in log.entries_down(victim):
        _move(log, index, victim, address)
    if log.head < 0 or log.slot < log.end:
        log.seal_head()
        log.open_segment(RECLAIM, victim)
    log.mark_reclaimed(victim)
    log.free_segment(victim)


def _move(log: Log, index: Index, victim: int, address: int) -> None:
    image = log.nor.image
    kind, _, key_bytes, units, length, version, key_crc, detail, payload_crc, _ = ENTRY.unpack_from(
        image, address
    )
    start = (victim << log.shift) + (units << 2)
    key = bytes(image[start : start + key_bytes])
    if not index.is_live(address, kind, key, version):
        index.forgot(kind, key, key_crc)
        return
    size_bytes = record_bytes(length)
    if log.slot - log.end < size_bytes:
        log.seal_head()
        log.open_segment(RECLAIM, victim)
    payload = image[start : start + length]
    # The copy needs no COMMIT any more: that it is copied says that it was committed.
    new = log.append(kind, 0, key_bytes, payload, version, key_crc, detail, payload_crc)
    index.born(new, size_bytes)
    index.moved(kind, key, version, address, new)


def make_room(log: Log, index: Index, need_bytes: int, limit: int, *, may_exceed: bool) -> None:
    """Get a head with room for one record of `need_bytes`.

    Args:
        log: where.
        index: what is live.
        need_bytes: the record with its entry.
        limit: segments that may be in use.
        may_exceed: where the limit is exceeded already, open one more rather than fail (deletes).

    Raises:
        NoSpaceError: there is none; nothing was changed.
    """
    log.seal_head()
    if log.used_count < limit:
        log.open_segment()
        return
    victim = choose_victim(log, need_bytes)
    if victim >= 0:
        reclaim(log, index, victim)
    elif may_exceed and log.free_count > 1:
        log.open_segment()
    else:
        raise NoSpaceError(
            "the flash directory is full",
            where=log.nor.name,
            remedy="delete objects, or give the appliance more RAM",
        )


def reserve(log: Log, index: Index, need_bytes: int, limit: int) -> None:
    """Get room for records of `need_bytes` in all without any reclaim between them.

    Raises:
        NoSpaceError: there is none; what was stored is unchanged.
    """
    spread_bytes = record_bytes(log.record_limit_bytes)

    def has_room() -> bool:
        in_head = max(0, log.slot - log.end - spread_bytes)
        fresh = max(0, limit - log.used_count)
        return in_head + fresh * (log.room_bytes - spread_bytes) >= need_bytes

    if not compact(log, index, has_room):
        raise NoSpaceError(
            "the batch does not fit into the flash directory",
            where=log.nor.name,
            remedy="delete objects one at a time, or split the batch",
        )


def compact(log: Log, index: Index, is_enough: Callable[[], bool]) -> bool:
    """Pack segments together, least live first, until it is enough.

    Returns:
        Whether it became enough. If not, everything is packed as tightly as it goes.
    """
    head_is_packed = False
    for _ in range(3 * log.nor.segment_count + 3):
        if is_enough():
            return True
        victim = _emptiest(log)
        if victim < 0 and not head_is_packed:  # what is dead may all be in the head
            head_is_packed = True
            log.seal_head()
            victim = _emptiest(log)
        if victim < 0:
            return False
        reclaim(log, index, victim)
    return is_enough()


def _emptiest(log: Log) -> int:
    """The segment with the fewest live bytes, the head apart; -1 if all others are full."""
    best, fewest = -1, log.room_bytes
    for at, one in enumerate(log.segments):
        if one.sequence and at != log.head and one.live_bytes < fewest:
            best, fewest = at, one.live_bytes
    return best
