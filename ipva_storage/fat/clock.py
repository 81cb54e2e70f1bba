"""Dates and times as FAT keeps them: local wall clock, from 1980 to 2107, no time zone."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Final

EPOCH: Final = datetime(1980, 1, 1)
"""The earliest time there is. Source: MS, "Date and Time Formats". Confidence: stated."""
_LATEST: Final = datetime(2107, 12, 31, 23, 59, 59)


def now() -> datetime:
    """The local wall clock, or SOURCE_DATE_EPOCH in UTC where that is set.

    With it set, an image comes out the same every time.
    """
    return _fixed() or datetime.now()


def clamp(moment: datetime) -> datetime:
    """A file's time, or SOURCE_DATE_EPOCH in UTC where that is set and earlier.

    So does all that makes images the same every time: what is older is the file's own.
    """
    fixed = _fixed()
    if fixed is None:
        return moment
    if moment.tzinfo is None:
        moment = moment.astimezone()
    return min(moment.astimezone(UTC).replace(tzinfo=None), fixed)


def _fixed() -> datetime | None:
    """SOURCE_DATE_EPOCH, where it is set to a number."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        return None
    return datetime.fromtimestamp(min(int(text), 4_354_819_199), UTC).replace(tzinfo=None)


def encode(moment: datetime) -> tuple[int, int, int]:
    """Date, time, and hundredths (0 to 199) of a moment.

    A moment outside 1980 to 2107 becomes the nearest inside; a time zone is dropped after a turn
    to local time.
    """
    if moment.tzinfo is not None:
        moment = moment.astimezone().replace(tzinfo=None)
    moment = min(max(moment, EPOCH), _LATEST)
    date = (moment.year - 1980) << 9 | moment.month << 5 | moment.day
    time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
    return date, time, moment.second % 2 * 100 + moment.microsecond // 10_000


def decode(date: int, time: int, hundredths: int = 0) -> datetime:
    """The moment of a date, a time and hundredths; `EPOCH` where they make none."""
    try:
        return datetime(
            (date >> 9) + 1980,
            date >> 5 & 0x0F,
            date & 0x1F,
            time >> 11,
            time >> 5 & 0x3F,
            (time & 0x1F) * 2 + hundredths // 100,
            hundredths % 100 * 10_000,
        )
    except ValueError:
        return EPOCH
