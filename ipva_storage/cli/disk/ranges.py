"""Long lists of ranges: on disk until they are printed, so that they never fill the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

import click

from ipva_storage.cli import output
from ipva_storage.units import MIB, format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

SPOOL_BYTES: Final = 8 * MIB
"""Of a list, what is kept in memory. Confidence: chosen."""

SHOWN_MAX: Final = 50
"""Ranges that people are shown; the rest is counted. Confidence: chosen."""


class JsonList:
    """A JSON list that is printed once all of it is known, because an error may come before."""

    def __init__(self) -> None:
        import json
        import tempfile

        self.count = 0
        self._encode = json.JSONEncoder().encode
        self._file = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by `__exit__`
            SPOOL_BYTES, "w+", encoding="ascii"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, value: dict[str, Any]) -> None:
        """One more value at its end."""
        self._file.write(f"{',' if self.count else ''}\n  {self._encode(value)}")
        self.count += 1

    def print(self, before: str = "", after: str = "") -> None:
        """Print it, within the given text."""
        click.echo(f"{before}[", nl=False)
        self._file.seek(0)
        while text := self._file.read(MIB):
            click.echo(text, nl=False)
        click.echo(f"\n]{after}")


def show(found: Sequence[tuple[int, int]], count: int, size_bytes: int) -> None:
    """Print ranges for people: where each starts, and how long it is.

    Args:
        found: the first `SHOWN_MAX` of them, as offset and length.
        count: how many there are.
        size_bytes: of the disk, for the width of the first column.
    """
    width = len(str(size_bytes))
    for offset_bytes, length_bytes in found[:SHOWN_MAX]:
        output.say(f"  at byte {offset_bytes:{width}}  {format_size(length_bytes)}")
    if count > SHOWN_MAX:
        output.say(f"  and {count - SHOWN_MAX} more (--json lists all)")
