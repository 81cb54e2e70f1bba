"""`ipva fs check, format`: FAT volumes as a whole."""

from __future__ import annotations

import click

from ipva_storage.cli import guard, output, targets
from ipva_storage.units import format_size


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


@click.command("format")
@click.argument("disk")
@click.option(
    "--fat", "fat_bits", type=click.Choice(["12", "16", "32"]), help="Kind; by size if not given."
)
@click.option("--label", help="Volume label, up to 11 characters.")
@output.force_option
@output.dry_run_option
@output.json_option
def format_volume(
    disk: str, fat_bits: str | None, label: str | None, force: bool, dry_run: bool, as_json: bool
) -> None:
    """Make an empty FAT volume over the whole of DISK.

    Refused while it holds anything, unless --force.

    \b
    Example:
      ipva fs format demo#cf --label CF0 --force
    """
    from ipva_storage import fat

    with targets.open_disk(disk, writable=True, dry_run=dry_run) as device:
        if not force:
            guard.refuse_content(device, disk, purpose="volumes")
        fat.format(device, fat_bits=int(fat_bits) if fat_bits else None, label=label)
        volume = fat.open(device)
        facts = {"fat": volume.fat_bits, "size": volume.size_bytes, "free": volume.free_bytes}
    if as_json:
        output.document(facts)
    else:
        free = format_size(facts["free"])
        output.say(
            f"{'would format' if dry_run else 'formatted'} as FAT{facts['fat']}, {free} free"
        )
