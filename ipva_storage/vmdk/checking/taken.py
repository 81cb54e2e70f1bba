"""Which places of a file are taken, in little memory however large the file is.

One bit tells whether a grain starts at a place. The file is looked at through windows; the first is
open from the start, and each further one with a grain in it costs another look at all tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.vmdk.extent.places import Mask, Sectors

WINDOW_PLACES: Final = 1 << 27
"""Places in a window, 16 MiB of bits: of a file 64 GiB in sectors, 512 GiB in grains of 4 KiB.

Confidence: chosen.
"""

PLACES_MAX: Final = 1 << 35
"""Places that are looked at, far more than the largest disk has. Confidence: chosen."""

_PART_BYTES: Final = 1 << 18


class Taken:
    """Places where grains start."""

    def __init__(self, place_count: int, grain_places: int) -> None:
        """Begin with the first window.

        Args:
            place_count: places in the file.
            grain_places: how many of them a grain takes.
        """
        place_count = min(place_count, PLACES_MAX)
        self._window = 0
        self._grain_places = grain_places
        self._bits = np.zeros(min(place_count, WINDOW_PLACES) // 8 + 1, np.uint8)
        self._is_used = np.zeros(place_count // WINDOW_PLACES + 1, bool)
        self._last = -grain_places

    def take(self, places: Sectors) -> Mask:
        """Take places, those of the open window; which of them had been taken."""
        windows = places // WINDOW_PLACES
        self._is_used[np.unique(windows[windows < len(self._is_used)])] = True
        at = np.flatnonzero(windows == self._window)
        found = np.zeros(len(places), bool)
        wanted = places[at] - self._window * WINDOW_PLACES
        order = np.argsort(wanted, kind="stable")
        found[at[order[1:]]] = np.diff(wanted[order]) == 0
        bits = np.left_shift(1, wanted & 7).astype(np.uint8)
        found[at] |= (self._bits[wanted >> 3] & bits) != 0
        np.bitwise_or.at(self._bits, wanted >> 3, bits)
        return found

    def windows(self) -> Iterator[int]:
        """Open one further window after the other, those in which places were asked for."""
        for window in np.flatnonzero(self._is_used[1:]).tolist():
            self._bits[:] = 0
            self._window = window + 1
            yield self._window

    def overlaps(self) -> Iterator[tuple[int, int]]:
        """Grains of the open window that start within the one before: where both start."""
        if self._grain_places == 1:
            return
        for first in range(0, len(self._bits), _PART_BYTES):
            bits = np.unpackbits(self._bits[first : first + _PART_BYTES], bitorder="little")
            starts = np.flatnonzero(bits) + (self._window * WINDOW_PLACES + first * 8)
            joined = np.concatenate(([self._last], starts))
            for at in np.flatnonzero(np.diff(joined) < self._grain_places).tolist():
                yield int(joined[at]), int(joined[at + 1])
            self._last = int(joined[-1])
