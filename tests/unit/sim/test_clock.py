"""The virtual clock goes when told to, forwards, the same way for the same seed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipva_storage.errors import UsageError
from ipva_storage.sim import VirtualClock


def test_stands_still() -> None:
    """Without being told it stays where it is."""
    clock = VirtualClock()
    assert clock.now() == clock.now() == datetime(2026, 1, 1, tzinfo=UTC)


def test_advances() -> None:
    """It goes on by exactly what it is told."""
    clock = VirtualClock()
    assert clock.advance(90.5) == clock.now() == datetime(2026, 1, 1, 0, 1, 30, 500000, UTC)


@given(st.integers(), st.floats(0.001, 10**6))
def test_ticks_forward(seed: int, longest_seconds: float) -> None:
    """A tick goes forward, no further than allowed; the same seed makes the same ticks."""
    clock, same = VirtualClock(seed=seed), VirtualClock(seed=seed)
    for _ in range(5):
        before = clock.now()
        after = clock.tick(longest_seconds)
        assert before <= after <= before + timedelta(seconds=longest_seconds + 1e-6)
        assert same.tick(longest_seconds) == after


def test_seeds_differ() -> None:
    """Another seed makes other ticks."""
    assert VirtualClock(seed=1).tick() != VirtualClock(seed=2).tick()


def test_time_is_utc() -> None:
    """A start in another zone is the same moment in UTC."""
    zone = timezone(timedelta(hours=2))
    clock = VirtualClock(datetime(2026, 6, 1, 12, tzinfo=zone))
    assert clock.now().isoformat() == "2026-06-01T10:00:00+00:00"


def test_refusals() -> None:
    """A start without a zone, and a way back, are refused."""
    with pytest.raises(UsageError, match="zone"):
        VirtualClock(datetime(2026, 1, 1))
    with pytest.raises(UsageError, match="back"):
        VirtualClock().advance(-1)
