"""How a long job tells how far it is, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called now and then by a job that moves bytes."""

    def __call__(self, done_bytes: int, total_bytes: int, /) -> None:
        """Take note that `done_bytes` of `total_bytes` are done."""


def silent(done_bytes: int, total_bytes: int, /) -> None:
    """Listen to nothing: the default."""
