"""A clock that goes only when told to, the same way every time."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Final

from ipva_storage.errors import UsageError

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""When a clock starts unless told otherwise. Confidence: chosen."""


class VirtualClock:
    """The time of a scenario, in UTC."""

    def __init__(self, start: datetime = START, *, seed: int = 0) -> None:
        """Start at a time; the seed decides how `tick` goes on.

        Raises:
            UsageError: the time has no zone.
        """
        if start.tzinfo is None:
            raise UsageError("a clock needs a time with a zone, such as UTC")
        self._now = start.astimezone(UTC)
        self._choice = random.Random(seed)

    def __repr__(self) -> str:
        return f"<VirtualClock {self._now.isoformat()}>"

    def now(self) -> datetime:
        """The time; the same until it is advanced."""
        return self._now

    def advance(self, seconds: float) -> datetime:
        """Go on by so many seconds.

        Raises:
            UsageError: backwards.
        """
        if seconds < 0:
            raise UsageError("a clock does not go back")
        self._now += timedelta(seconds=seconds)
        return self._now

    def tick(self, longest_seconds: float = 60.0) -> datetime:
        """Go on by a moment that the seed chooses, above 0 and at most `longest_seconds`."""
        return self.advance(longest_seconds * (1.0 - self._choice.random()))
