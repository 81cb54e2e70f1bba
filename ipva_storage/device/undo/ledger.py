"""Which parts of an image are saved: a byte a block, so that finding the next gap is one search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipva_storage.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK_BYTES: Final = 64 * KIB
"""What is saved at a time: a grain of a usual VMDK. Confidence: chosen (measured, see ADR 0007)."""

AHEAD_LIMIT_BYTES: Final = 4 * MIB
"""How much is saved at once for writes in sequence, at most. Confidence: chosen (measured)."""


class Ledger:
    """The blocks of one image that are saved, up to its original length.

    It takes a byte of memory a block, up to the last one that was touched: 16 MiB for 1 TiB.
    """

    def __init__(self, original_bytes: int) -> None:
        """Start with nothing saved."""
        self.original_bytes = original_bytes
        self._is_saved = bytearray()
        self._block_count = -(-original_bytes // BLOCK_BYTES)
        self._next_block = 0  # where a write in sequence would go on
        self._run_blocks = 1  # length of the last gap that a write had

    def gaps(
        self, ranges: Iterable[tuple[int, int]], *, ahead: bool = False
    ) -> list[tuple[int, int]]:
        """What of the ranges has still to be saved, in whole blocks, in order, without overlap.

        Args:
            ranges: start and stop of each, in bytes; what is beyond the original length is ignored.
            ahead: these are writes; when they follow the last gap, include what comes next, twice
                as much each time.
        """
        found = [
            run for first, stop in self._blocks(ranges) for run in self._unsaved_runs(first, stop)
        ]
        if found and ahead:
            first, stop = found[-1]
            found[-1] = (first, self._look_ahead(first, stop))
        return [
            (first * BLOCK_BYTES, min(stop * BLOCK_BYTES, self.original_bytes))
            for first, stop in found
        ]

    def mark(self, start: int, stop: int) -> None:
        """Note that a part is saved; it starts at a block, and ends at one or at the end."""
        first, end = start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)
        if end > len(self._is_saved):
            self._is_saved.extend(bytes(end - len(self._is_saved)))
        self._is_saved[first:end] = b"\1" * (end - first)

    def has(self, start: int, stop: int) -> bool:
        """Whether nothing of a range has to be saved any more."""
        stop = min(stop, self.original_bytes)
        if start >= stop:
            return True
        first, end = start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)
        return end <= len(self._is_saved) and self._is_saved.find(0, first, end) < 0

    def _blocks(self, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """The ranges in blocks, sorted and joined."""
        clipped = ((max(0, start), min(stop, self.original_bytes)) for start, stop in ranges)
        runs = sorted(
            (start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))
            for start, stop in clipped
            if start < stop
        )
        if not runs:
            return
        first, end = runs[0]
        for start, stop in runs:
            if start > end:
                yield first, end
                first = start
            end = max(end, stop)
        yield first, end

    def _unsaved_runs(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        known = min(stop, len(self._is_saved))
        at = first
        while at < stop:
            start = self._is_saved.find(0, at, known) if at < known else at
            if start < 0:
                start = max(at, known)
            at = self._is_saved.find(1, start, known) if start < known else -1
            at = stop if at < 0 else at
            if start < at:
                yield start, at

    def _look_ahead(self, first: int, stop: int) -> int:
        """Where to stop instead, when this gap follows the last one."""
        is_next = first == self._next_block and first > 0
        wanted = min(2 * self._run_blocks, AHEAD_LIMIT_BYTES // BLOCK_BYTES) if is_next else 1
        end = max(stop, min(first + wanted, self._block_count))
        end = next(self._unsaved_runs(first, end))[1]
        self._next_block, self._run_blocks = end, end - first
        return end
