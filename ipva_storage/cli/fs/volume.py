"""`ipva fs check`: FAT volumes as a whole."""

from __future__ import annotations

import click

from ipva_storage.cli import output, targets


@click.command()
@click.argument("disk")
@output.json_option
@click.pass_context
def check(context: click.Context, disk: str, as_json: bool) -> None:
    """Check the FAT volumes of DISK. Nothing is written.

    \b
    Example:
      ipva fs check demo#cf
    """
    from ipva_storage import fat

    with targets.open_disk(disk) as device, output.progress_bar("check") as progress:
        findings = list(fat.check_disk(device, progress=progress))
        if not findings:
            fat.open_first(device)  # refuses a disk without any FAT volume
    output.report_findings(context, findings, disk, as_json=as_json)
