"""Fewer segments: which objects are lost, and how the rest is packed together.

The order is ours (confidence: chosen; the vendor only says that objects may get lost). Objects are
kept by age of their last write, oldest first, ties by key; one that does not fit any more is lost,
and younger ones that fit are still kept. Why: it is the order in which a directory reads its log
at start and fills a table that has become too small; and because a lost object never counts, the
plan stays the same while its deletions are under way, so that an interrupted shrink ends as
planned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipva_storage.errors import NoSpaceError
from ipva_storage.flash.reclaim import compact
from ipva_storage.flash.records import ENTRY

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipva_storage.flash.index import Index
    from ipva_storage.flash.log import Log


@dataclass(frozen=True, slots=True)
class ShrinkPlan:
    """What a segment limit would mean for what is stored."""

    segment_count: int
    """The limit that was asked about."""
    fits: bool
    """Whether nothing is lost."""
    needed_segment_count: int
    """The smallest limit that loses nothing; may be more than the flash has after damage."""
    lost: tuple[bytes, ...]
    """Keys of the objects that would be lost, oldest first."""


def plan_shrink(log: Log, index: Index, segment_count: int) -> ShrinkPlan:
    """Say what a limit of `segment_count` would lose, from sizes and ages alone.

    Where records lie, and what was deleted or overwritten, does not matter: every segment is
    counted on to hold `log.dependable_bytes`.
    """
    capacity_bytes = segment_count * log.dependable_bytes
    total_bytes = kept_bytes = 0
    lost: list[bytes] = []
    for _, key, size_bytes in _by_age(log, index):
        total_bytes += size_bytes
        if kept_bytes + size_bytes <= capacity_bytes:
            kept_bytes += size_bytes
        else:
            lost.append(key)
    needed = max(1, -(-total_bytes // log.dependable_bytes))
    return ShrinkPlan(segment_count, not lost, needed, tuple(lost))


def _by_age(log: Log, index: Index) -> list[tuple[int, bytes, int]]:
    """Version, key and bytes of every object, oldest first."""
    image = log.nor.image
    unpack = ENTRY.unpack_from
    rows: list[tuple[int, bytes, int]] = []
    for key, place in index.objects.items():
        if isinstance(place, int):
            fields = unpack(image, place)
            rows.append((fields[5], key, ((fields[4] + 3) & ~3) + 32))
        else:
            rows.append((unpack(image, place[0])[5], key, index.place_bytes(place)))
    rows.sort()
    return rows


def shrink(log: Log, index: Index, plan: ShrinkPlan, delete: Callable[[bytes], None]) -> None:
    """Delete what the plan loses, then pack segments until no more than planned are in use.

    Raises:
        NoSpaceError: it cannot be packed (a directory damaged beyond what a mount can account for).
    """
    for key in plan.lost:
        delete(key)
    log.nor.barrier()
    if log.used_count <= plan.segment_count:
        return
    log.seal_head()
    if not compact(log, index, lambda: log.used_count <= plan.segment_count):
        raise NoSpaceError(
            f"what is stored cannot be packed into {plan.segment_count} segments",
            where=log.nor.name,
        )
    log.nor.barrier()
