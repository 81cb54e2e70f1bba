"""RAM and flash segments: every invariant of the allocator, by name."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipva_storage import flash
from ipva_storage.errors import UsageError
from ipva_storage.testing.flash_crash import SEGMENT_COUNT, CutNor
from ipva_storage.testing.flash_machine import keys, ram_sizes, values
from ipva_storage.units import GIB, MIB

RULE = flash.DEFAULT_RULE
MOST = SEGMENT_COUNT - 1

contents = st.dictionaries(keys(), values(300), max_size=12)
limits = st.integers(1, MOST)


def filled(content: dict[bytes, bytes], limit: int = MOST) -> flash.FlashDirectory:
    """A directory of 6 × 1 KiB with as much of the content as goes in."""
    directory = flash.open(CutNor(), segment_limit=limit)
    for key, value in content.items():
        if directory.usage().free_bytes > len(key) + len(value) + 200:
            directory.put(key, value)
    return directory


@given(ram_sizes(), ram_sizes())
def test_segments_never_fall_when_ram_grows(one: int, other: int) -> None:
    """More RAM never gives fewer segments."""
    low, high = sorted((one, other))
    assert RULE.segment_count(low) <= RULE.segment_count(high)


@given(ram_sizes())
def test_segments_stay_within_1_and_900(ram_bytes: int) -> None:
    """Any RAM that can be given yields 1 to 900 segments."""
    assert 1 <= RULE.segment_count(ram_bytes) <= 900


@pytest.mark.parametrize(("ram_mib", "count"), [(64, 224), (192, 900), (3072, 900), (4096, 900)])
def test_segments_are_exact_at_stated_points(ram_mib: int, count: int) -> None:
    """The vendor's numbers come out exactly."""
    assert RULE.segment_count(ram_mib * MIB) == count


@given(st.integers(20, 3072))
def test_segments_between_follow_the_documented_line(ram_mib: int) -> None:
    """Between the stated points the rule is the formula of the design, rounded down."""
    assert RULE.segment_count(ram_mib * MIB) == max(1, min(900, (ram_mib - 22) * 16 // 3))


@given(st.integers(1, 900))
def test_minimum_ram_gives_enough_and_one_mib_less_does_not(count: int) -> None:
    """The minimum RAM is the smallest whole MiB with at least so many segments."""
    ram_bytes = RULE.minimum_ram_bytes(count)
    assert ram_bytes % MIB == 0
    assert RULE.segment_count(ram_bytes) >= count
    assert ram_bytes == 20 * MIB or RULE.segment_count(ram_bytes - MIB) < count


@given(st.integers(0, 20 * MIB - 1))
def test_ram_below_the_minimum_is_refused(ram_bytes: int) -> None:
    """Less than 20 MiB cannot be given to an appliance."""
    with pytest.raises(UsageError, match="20 MiB or more"):
        RULE.segment_count(ram_bytes)
    with pytest.raises(UsageError):
        flash.visible_ram_bytes(ram_bytes)


@given(ram_sizes())
def test_visible_ram_is_33_times_64_kib_less_and_counts_at_most_3_gib(ram_bytes: int) -> None:
    """The appliance sees its RAM less a constant, and no more than 3 GiB of it."""
    seen = flash.visible_ram_bytes(ram_bytes)
    assert seen == min(ram_bytes, 3 * GIB) - 33 * 64 * 1024


@given(st.dictionaries(ram_sizes(), st.integers(1, 900), max_size=4), ram_sizes(), ram_sizes())
def test_a_calibrated_rule_keeps_the_invariants(
    points: dict[int, int], one: int, other: int
) -> None:
    """Points from traces come out exactly, or are refused; the rule stays monotone and bounded."""
    line = sorted({(64 * MIB, 224), (192 * MIB, 900), *points.items()})
    falls = any(after < before for (_, before), (_, after) in pairwise(line))
    if falls or len(dict(line)) < len(line):
        with pytest.raises(UsageError, match="contradict"):
            flash.SegmentRule.calibrate(points.items())
        return
    rule = flash.SegmentRule.calibrate(points.items())
    for ram_bytes, count in line:
        assert rule.segment_count(ram_bytes) == count
    low, high = sorted((one, other))
    assert 1 <= rule.segment_count(low) <= rule.segment_count(high) <= 900


def test_calibrate_refuses_points_that_contradict_the_vendor() -> None:
    """A point beside a stated one, or below it, is refused; so is a count that cannot be."""
    for point in [(64 * MIB, 223), (80 * MIB, 100), (200 * MIB, 899), (100 * MIB, 901)]:
        with pytest.raises(UsageError):
            flash.SegmentRule.calibrate([point])


def test_calibrate_moves_chosen_points_out_of_the_way() -> None:
    """A trace may show more segments near the minimum, and 900 only at 192 MiB."""
    rule = flash.SegmentRule.calibrate([(21 * MIB, 12), (191 * MIB, 880)])
    assert rule.segment_count(21 * MIB) == 12
    assert rule.segment_count(191 * MIB) == 880
    assert rule.segment_count(20 * MIB) <= 12


@given(contents, limits)
def test_nothing_is_lost_while_it_fits(content: dict[bytes, bytes], limit: int) -> None:
    """What was stored under a limit survives any limit that its size needs, at any place."""
    directory = filled(content)
    stored = dict(directory.items())
    plan = directory.plan(limit)
    assert plan.fits == (plan.needed_segment_count <= limit)
    if plan.fits:
        assert directory.shrink(limit) == ()
        assert dict(directory.items()) == stored
        assert directory.usage().segment_count_used <= limit


@given(contents, limits)
def test_what_was_put_under_a_limit_fits_that_limit(
    content: dict[bytes, bytes], limit: int
) -> None:
    """No put is accepted that a later boot with the same RAM would lose."""
    directory = filled(content, limit)
    assert directory.plan(limit).fits


@given(contents, limits)
def test_plan_equals_loss(content: dict[bytes, bytes], limit: int) -> None:
    """The plan names exactly the objects that the shrink then loses, and changes nothing."""
    directory = filled(content)
    stored = dict(directory.items())
    plan = directory.plan(limit)
    assert dict(directory.items()) == stored
    lost = directory.shrink(limit)
    assert lost == plan.lost
    kept = {key: value for key, value in stored.items() if key not in lost}
    assert dict(directory.items()) == kept
    assert directory.plan(limit).fits


@given(contents, limits)
def test_shrink_then_grow_restores_capacity_but_not_the_lost(
    content: dict[bytes, bytes], limit: int
) -> None:
    """After growing back there is room as before, and the lost objects stay lost."""
    directory = filled(content)
    capacity = directory.usage().free_bytes + directory.usage().used_bytes
    lost = directory.shrink(limit)
    left = dict(directory.items())
    assert directory.shrink(MOST) == ()
    usage = directory.usage()
    assert usage.free_bytes + usage.used_bytes == capacity
    assert dict(directory.items()) == left
    assert not left.keys() & set(lost)


@given(contents, limits)
def test_opening_with_less_loses_nothing_by_itself(content: dict[bytes, bytes], limit: int) -> None:
    """A limit given to open is only a limit to puts; shrink alone loses objects."""
    directory = filled(content)
    again = flash.open(CutNor(directory._log.nor.image), segment_limit=limit)
    assert dict(again.items()) == dict(directory.items())
    for key in list(again.keys()):
        again.delete(key)
    assert len(again) == 0
