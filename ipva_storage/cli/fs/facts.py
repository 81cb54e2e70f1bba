"""`ipva fs info, label`: what a volume is, and what it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ipva_storage.cli import output, targets
from ipva_storage.cli.fs import changing
from ipva_storage.units import format_size

if TYPE_CHECKING:
    from ipva_storage.fat import FatVolume


@click.command()
@click.argument("disk")
@changing.code_page_option
@output.json_option
def info(disk: str, code_page: str, as_json: bool) -> None:
    """Show the first FAT volume of DISK: its kind, its room, and in how many pieces files lie.

    \b
    Example:
      ipva fs info demo#cf
    """
    with targets.open_volume(disk, code_page=code_page) as volume:
        facts = _facts(volume)
    if as_json:
        output.document(facts)
        return
    state = "clean" if facts["clean"] else "not closed after the last change; check it"
    rows = (
        ("kind", f"FAT{facts['fat']}, clusters of {format_size(facts['cluster'])}"),
        ("label", facts["label"] or "none"),
        ("room", f"{format_size(facts['size'])}, {format_size(facts['free'])} free"),
        ("largest free", f"{format_size(facts['largest_free'])}, of {facts['free_runs']} pieces"),
        ("files", f"{facts['files']} in {facts['folders'] + 1} folders"),
        ("in pieces", f"{facts['fragmented']} files"),
        ("state", state + (", has seen disk errors" if facts["errors"] else "")),
    )
    output.table(rows)


def _facts(volume: FatVolume) -> dict[str, Any]:
    geometry, usage = volume.geometry, volume.usage()
    return {
        "fat": volume.fat_bits,
        "label": volume.label,
        "volume_id": geometry.volume_id,
        "sector": geometry.sector_bytes,
        "cluster": volume.cluster_bytes,
        "size": volume.size_bytes,
        "used": usage.used_bytes,
        "free": usage.free_bytes,
        "bad": usage.bad_bytes,
        "largest_free": usage.largest_free_bytes,
        "free_runs": usage.free_run_count,
        "files": usage.file_count,
        "folders": usage.folder_count,
        "fragmented": usage.fragmented_count,
        "clean": volume.is_clean,
        "errors": volume.has_errors,
    }


@click.command()
@click.argument("disk")
@click.argument("name", required=False)
@click.option("--remove", is_flag=True, help="Leave the volume without a label.")
@changing.options
def label(
    disk: str,
    name: str | None,
    remove: bool,
    undo_file: str | None,
    dry_run: bool,
    code_page: str,
    as_json: bool,
) -> None:
    """Show the label of the first FAT volume of DISK, or make it NAME.

    \b
    Example:
      ipva fs label demo#cf CF0
    """
    if name is None and not remove:
        with targets.open_volume(disk, code_page=code_page) as volume:
            _show(volume.label, as_json=as_json)
        return
    if name is not None and remove:
        raise click.UsageError("a NAME and --remove do not go together")
    with changing.changed(
        disk, undo_file=undo_file, dry_run=dry_run, code_page=code_page
    ) as change:
        change.volume.set_label(name)
        found = change.volume.label
    _show(found, as_json=as_json)
    if not as_json:
        change.undo.say()


def _show(found: str | None, *, as_json: bool) -> None:
    if as_json:
        output.document({"label": found})
    else:
        output.say(found or "no label")
