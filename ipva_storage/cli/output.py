"""What commands print: one JSON document, or lines and tables for people."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
import time
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from ipva_storage.progress import silent
from ipva_storage.units import parse_size, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipva_storage.findings import Finding
    from ipva_storage.progress import Progress

PROBLEMS: Final = 1

REWRITABLE: Final = (
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "vmfs",
)
"""The same as in `ipva_storage.vmdk`, here so that `--help` imports nothing of it."""

SUBFORMATS: Final = (*REWRITABLE, "streamOptimized")
ADAPTERS: Final = ("ide", "buslogic", "lsilogic", "legacyESX")
"""Likewise."""

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Do everything but write to the image."
)
outside_option = click.option(
    "--allow-outside",
    is_flag=True,
    help="Follow extents and parents out of the disk's folder.",
)
force_option = click.option("--force", is_flag=True, help="Replace what is there.")


class Size(click.ParamType[int]):
    """A size in bytes on the command line."""

    name = "SIZE"

    def __init__(self, default_factor: int = 1) -> None:
        self.default_factor = default_factor

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes, from `64M` and the like."""
        if isinstance(value, int):
            return value
        try:
            return parse_size(value, default_factor=self.default_factor)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def say(text: str, *, err: bool = False) -> None:
    """Print a line; what a terminal would obey comes out as an escape."""
    click.echo(printable(text), err=err)


def document(value: Any) -> None:
    """Print one JSON document."""
    import json

    click.echo(json.dumps(value, indent=2))


def table(rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()) -> None:
    """Print rows in aligned columns; `right` names those of numbers."""
    lines = [[printable(cell) for cell in row] for row in rows]
    if not lines:
        return
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding with the keys of the command-line contract."""
    return {
        "id": finding.code,
        "severity": str(finding.severity),
        "where": finding.where,
        "structure": finding.structure,
        "offset": finding.offset_bytes,
        "message": finding.message,
        "repair": finding.repair,
    }


def show_findings(findings: Sequence[Finding]) -> None:
    """Print findings for people, worst first; a remedy of several once, behind the last of them."""
    colours = {"error": "red", "warning": "yellow", "info": "blue"}
    order = list(colours)
    ordered = sorted(findings, key=lambda found: order.index(found.severity))
    for finding, following in zip_longest(ordered, ordered[1:]):
        severity = click.style(f"{finding.severity:7}", fg=colours[finding.severity])
        place = "" if finding.offset_bytes is None else f" at byte {finding.offset_bytes}"
        where = f"{finding.where}: " if finding.where else ""
        head = printable(f"{finding.code}  {where}{finding.structure}{place}")
        click.echo(f"{severity} {head}")
        say(f"        {finding.message}")
        if finding.repair and (following is None or following.repair != finding.repair):
            say(f"        to mend it: {finding.repair}")
    if not findings:
        say("nothing wrong was found")


def report_findings(
    context: click.Context, findings: Iterable[Finding], where: str, *, as_json: bool
) -> NoReturn:
    """Print what a check found in `where`; end with status 1 if it is more than information."""
    found = [placed(each, where) for each in findings]
    if as_json:
        document({"findings": [finding_json(each) for each in found]})
    else:
        show_findings(found)
    context.exit(status_of(found))


def placed(finding: Finding, where: str) -> Finding:
    """A finding with the target's name where its room left a blank."""
    repair = finding.repair
    if repair is not None:
        from ipva_storage.doctor import advice

        repair = advice.fill_image(repair, shlex.quote(where))
    return dataclasses.replace(finding, where=finding.where or where, repair=repair)


def status_of(findings: Iterable[Finding]) -> int:
    """Exit status for a check: 1 when anything worse than information was found."""
    return PROBLEMS if any(finding.severity != "info" for finding in findings) else 0


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """A bar with rate and remaining time on stderr; none when that is no terminal."""
    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield _throttled(lambda done, total: bar.update(task, completed=done, total=total))


def _throttled(update: Callable[[int, int], None]) -> Progress:
    last = 0.0

    def report(done_bytes: int, total_bytes: int, /) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > 0.05 or done_bytes == total_bytes:
            last = now
            update(done_bytes, total_bytes)

    return report
