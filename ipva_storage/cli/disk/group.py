"""The group `ipva disk`, and what is in it."""

from __future__ import annotations

import click

from ipva_storage.cli.disk import change, convert, inspect, make, repair, snapshot


@click.group("disk", short_help="VMDK and raw images")
def command() -> None:
    """Inspect, check, repair, convert and change disk images: VMDK of every kind, and raw ones."""


for each in (
    inspect.info,
    inspect.check,
    repair.repair,
    inspect.map_runs,
    convert.convert,
    make.create,
    inspect.diff,
    change.resize,
    change.compact,
    snapshot.group,
):
    command.add_command(each)
