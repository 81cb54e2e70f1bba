"""Dates and times as FAT keeps them: local wall clock, from 1980 to 2107, no time zone.

A file's creation is kept to 10 ms, its last change to 2 s, its last access to a day. Source: MS,
"Date and Time Formats". Confidence: stated.
"""

from __future__ import annotations

import functools
import os
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

EPOCH: Final = datetime(1980, 1, 1)
"""The earliest time there is. Source: MS, "Date and Time Formats". Confidence: stated."""
_LATEST: Final = datetime(2107, 12, 31, 23, 59, 59)


def fixed() -> datetime | None:
    """SOURCE_DATE_EPOCH in UTC, where it is set: images then come out the same every time."""
    found = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not (found.isascii() and found.isdigit()) or len(found) > 18:
        return None
    return datetime.fromtimestamp(min(int(found), 4_354_819_199), UTC).replace(tzinfo=None)


def now() -> datetime:
    """The local wall clock, or what `fixed` says."""
    return fixed() or datetime.now()


def of_host(seconds: float) -> datetime:
    """What FAT keeps of a time of the host.

    Args:
        seconds: since 1970, UTC, as the host's file system tells them.

    Returns:
        Local wall clock; with SOURCE_DATE_EPOCH in UTC, and no later than that.
    """
    latest = fixed()
    if latest is None:
        return datetime.fromtimestamp(seconds)
    return min(latest, datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None))


def at_midnight(day: date) -> datetime:
    """The start of a day."""
    return datetime(day.year, day.month, day.day)


def encode(moment: datetime) -> tuple[int, int, int]:
    """Date, time, and hundredths (0 to 199) of a moment.

    A moment outside 1980 to 2107 becomes the nearest inside; a time zone is dropped after a turn
    to local time.
    """
    if moment.tzinfo is not None:
        moment = moment.astimezone().replace(tzinfo=None)
    return _encode(moment)


@functools.lru_cache(maxsize=256)
def _encode(moment: datetime) -> tuple[int, int, int]:
    moment = min(max(moment, EPOCH), _LATEST)
    date = (moment.year - 1980) << 9 | moment.month << 5 | moment.day
    time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
    return date, time, moment.second % 2 * 100 + moment.microsecond // 10_000


@functools.lru_cache(maxsize=256)
def decode(date: int, time: int, hundredths: int = 0) -> datetime:
    """The moment of a date, a time and hundredths; `EPOCH` where they make none."""
    if hundredths > 199:
        return EPOCH
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


def decode_all(
    dates: npt.NDArray[np.uint16], times: npt.NDArray[np.uint16], hundredths: npt.NDArray[np.uint8]
) -> list[datetime | None]:
    """The moments of many dates, times and hundredths; None where they make none.

    Args:
        dates: shape (n,), as all three.
        times: in the same order.
        hundredths: 0 to 199.
    """
    import numpy as np

    day, month = dates & 0x1F, dates >> 5 & 0x0F
    hour, minute, second = times >> 11, times >> 5 & 0x3F, (times & 0x1F) * 2
    months = (
        ((dates >> 9) * 12 + month + 119).astype(np.int64).astype("M8[M]")
    )  # 1980-01 is month 120
    days = months.astype("M8[D]") + (day.astype(np.int64) - 1)
    is_good = (month >= 1) & (month <= 12) & (day >= 1) & (days.astype("M8[M]") == months)
    is_good &= (hour < 24) & (minute < 60) & (second < 60) & (hundredths < 200)
    seconds = hour.astype(np.int64) * 3600 + minute * 60 + second
    moments = days.astype("M8[us]") + (seconds * 1_000_000 + hundredths.astype(np.int64) * 10_000)
    moments[~is_good] = np.datetime64("NaT")
    found: list[datetime | None] = moments.tolist()
    return found
