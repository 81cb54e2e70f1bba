"""The flash directory against a dict: a Hypothesis state machine with power cuts, and strategies.

Run it with `hypothesis.stateful.run_state_machine_as_test(FlashMachine)`, or as the `TestCase`
that `FlashMachine.TestCase` is.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ipva_storage import flash
from ipva_storage.errors import NoSpaceError, PowerCutError
from ipva_storage.flash.segments import MAXIMUM_RAM_BYTES, MINIMUM_RAM_BYTES
from ipva_storage.testing.flash_crash import SEGMENT_COUNT, CutNor, apply_items, make_tear
from ipva_storage.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

    from ipva_storage.testing.flash_crash import Model


SMALL_RECORD_BYTES = 288
"""Key and value of a single record in segments of 1 KiB."""


def keys() -> SearchStrategy[bytes]:
    """Keys: mostly from a small set, so that they meet again; some with odd bytes and lengths."""
    few = st.sampled_from([b"k%d" % at for at in range(8)])
    return st.one_of(few, few, few, st.binary(min_size=1, max_size=20))


def values(max_bytes: int = 700) -> SearchStrategy[bytes]:
    """Values of 0 to `max_bytes`; the longer ones are stored in chunks."""
    long = st.integers(0, max_bytes).flatmap(
        lambda size: st.integers(0, 0xFFFF).map(lambda seed: random.Random(seed).randbytes(size))
    )
    return st.one_of(st.binary(max_size=60), long)


def ram_sizes() -> SearchStrategy[int]:
    """RAM an appliance may have, in bytes: whole MiB and not, up to beyond what counts."""
    whole = st.integers(MINIMUM_RAM_BYTES // MIB, 4 * GIB // MIB).map(lambda mib: mib * MIB)
    low = st.integers(MINIMUM_RAM_BYTES // MIB, 256).map(lambda mib: mib * MIB)
    odd = st.integers(MINIMUM_RAM_BYTES, MAXIMUM_RAM_BYTES + MIB)
    return st.one_of(low, whole, odd)


def _limit_for(ram_bytes: int) -> int:
    """A limit of the small flash here, as RAM limits the large one."""
    most = SEGMENT_COUNT - 1
    return max(1, flash.DEFAULT_RULE.segment_count(ram_bytes) * most // flash.USABLE_SEGMENTS)


def needed_bytes(items: dict[bytes, bytes | None]) -> int:
    """The most a batch takes of the small flash, told from the layout and not from the engine."""
    total = 32
    for key, value in items.items():
        length = len(key) + len(value or b"")
        if length <= SMALL_RECORD_BYTES:
            total += (length + 3) // 4 * 4 + 32
            continue
        step = SMALL_RECORD_BYTES - len(key)
        parts = -(-len(value or b"") // step)
        total += len(key) + 15 + 32 + parts * (SMALL_RECORD_BYTES + 35)
    return total


_FUSES = st.one_of(st.none(), st.none(), st.integers(0, 14))
_TEARS = st.tuples(st.integers(0, 60), st.integers(0, 0xFFFF))


class FlashMachine(RuleBasedStateMachine):
    """Random operations on a directory of 6 × 1 KiB, each of which may lose its power."""

    def __init__(self) -> None:
        super().__init__()
        self.nor = CutNor()
        self.model: Model = {}
        self.directory = flash.open(self.nor)

    @initialize(is_formatted=st.booleans())
    def start(self, is_formatted: bool) -> None:
        """Start on a formatted disk, or on one of zeros."""
        if is_formatted:
            flash.format(self.nor)
        self.directory = flash.open(self.nor)

    @rule(key=keys(), value=values(), fuse=_FUSES, tear=_TEARS)
    def put(self, key: bytes, value: bytes, fuse: int | None, tear: tuple[int, int]) -> None:
        """Put one object."""
        self._try(lambda: self.directory.put(key, value), {key: value}, fuse, tear)

    @rule(key=keys(), fuse=_FUSES, tear=_TEARS)
    def delete(self, key: bytes, fuse: int | None, tear: tuple[int, int]) -> None:
        """Delete one object, if it is there: that never fails for want of room."""
        if key not in self.model:
            return
        self._try(lambda: self.directory.delete(key), {key: None}, fuse, tear, may_be_full=False)

    @rule(
        items=st.dictionaries(keys(), st.one_of(st.none(), values(400)), min_size=1, max_size=4),
        fuse=_FUSES,
        tear=_TEARS,
    )
    def batch(
        self, items: dict[bytes, bytes | None], fuse: int | None, tear: tuple[int, int]
    ) -> None:
        """Put and delete several objects at once."""
        self._try(lambda: self.directory.batch(items), items, fuse, tear)

    @rule(ram_bytes=ram_sizes(), fuse=_FUSES, tear=_TEARS)
    def change_ram(self, ram_bytes: int, fuse: int | None, tear: tuple[int, int]) -> None:
        """Boot with other RAM: what is lost is what the plan named, cut or not."""
        limit = _limit_for(ram_bytes)
        self.directory = flash.open(self.nor, segment_limit=limit)
        plan = self.directory.plan(limit)
        assert self.directory.plan(limit) == plan
        assert plan.fits == (not plan.lost) == (plan.needed_segment_count <= limit)
        before = dict(self.model)
        after = {key: value for key, value in before.items() if key not in plan.lost}
        self._arm(fuse, tear)
        try:
            assert self.directory.shrink(limit) == plan.lost
        except PowerCutError:
            self._remount(limit)
            between = dict(self.directory.items())
            assert after.items() <= between.items() <= before.items()
            assert set(self.directory.shrink(limit)) == between.keys() - after.keys()
        self.nor.fuse = None
        self.model = after
        assert self.directory.usage().segment_count_used <= limit

    @rule(is_clean=st.booleans(), limit=st.integers(1, SEGMENT_COUNT - 1))
    def remount(self, is_clean: bool, limit: int) -> None:
        """Open it again, closed properly or not; a smaller limit alone loses nothing."""
        if is_clean:
            self.directory.close()
        before = bytes(self.nor.image)
        assert dict(flash.open(self.nor, read_only=True).items()) == self.model
        assert list(flash.check(self.nor)) == list(flash.check(self.nor))
        assert bytes(self.nor.image) == before
        self._remount(limit)

    @invariant()
    def shows_what_was_put(self) -> None:
        """The directory equals the dict, in memory."""
        assert dict(self.directory.items()) == self.model
        assert len(self.directory) == len(self.model)

    @invariant()
    def keeps_the_copy_segment(self) -> None:
        """One segment is free, and nothing was programmed twice."""
        usage = self.directory.usage()
        assert usage.segment_count_used < usage.segment_count_physical
        assert self.nor.reprogram_count == 0

    @invariant()
    def counts_what_is_live(self) -> None:
        """A mount counts the same bytes as live, and finds the same objects."""
        again = flash.open(self.nor, segment_limit=self.directory.segment_limit, read_only=True)
        assert again.usage().used_bytes == self.directory.usage().used_bytes
        assert dict(again.items()) == self.model

    def _try(
        self,
        do: Callable[[], object],
        change: dict[bytes, bytes | None],
        fuse: int | None,
        tear: tuple[int, int],
        *,
        may_be_full: bool = True,
    ) -> None:
        after = apply_items(self.model, change)
        limit = self.directory.segment_limit
        free_bytes = self.directory.usage().free_bytes
        self._arm(fuse, tear)
        try:
            do()
            self.model = after
        except NoSpaceError:
            assert may_be_full
            assert needed_bytes(change) > free_bytes
        except PowerCutError:
            self._remount(limit)
            found = dict(self.directory.items())
            assert found in (self.model, after)
            self.model = found
        self.nor.fuse = None

    def _arm(self, fuse: int | None, tear: tuple[int, int]) -> None:
        self.nor.fuse = fuse
        self.nor.tear = make_tear(*tear)

    def _remount(self, limit: int) -> None:
        """Power on: the flash is what the cut left, and nothing else is known."""
        self.nor = CutNor(self.nor.image)
        self.directory = flash.open(self.nor, segment_limit=limit)
