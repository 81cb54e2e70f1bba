"""`ipva undo`: take a job back that saved what it overwrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ipva_storage.cli import interrupts, output
from ipva_storage.units import format_size

if TYPE_CHECKING:
    from ipva_storage.device.undo import Restoration


@click.command("undo", short_help="take a repair or another change back")
@click.argument("journal", metavar="JOURNAL")
@click.option("--dry-run", is_flag=True, help="Look at everything, and write nothing.")
@click.option("--force", is_flag=True, help="Also when an image changed since, or once more.")
@click.option("--allow-outside", is_flag=True, help="Also images outside the journal's folder.")
@output.json_option
def command(journal: str, dry_run: bool, force: bool, allow_outside: bool, as_json: bool) -> None:
    """Put images back, byte for byte, as they were before the job that made JOURNAL.

    JOURNAL is the file that the job's --undo named. It is kept. An image that was changed since
    the job is refused, unless --force. When this is interrupted, run it again.

    \b
    Example:
      ipva undo demo/hd-cf.vmdk.undo
    """
    from ipva_storage.device import RawDevice
    from ipva_storage.device.undo import ImageFolder, restore

    images = ImageFolder(journal, allow_outside=allow_outside)
    with (
        RawDevice(journal, writable=not dry_run) as file,
        output.progress_bar(Path(journal).name) as progress,
        interrupts.deferred(),
    ):
        done = restore(file, images, force=force, dry_run=dry_run, progress=progress)
    if as_json:
        output.document(_facts(done, dry_run=dry_run))
    else:
        _show(done, dry_run=dry_run)


def _facts(done: Restoration, *, dry_run: bool) -> dict[str, object]:
    return {
        "restored": [
            {
                "file": image.name,
                "ranges": image.ranges,
                "bytes": image.saved_bytes,
                "size": image.original_bytes,
            }
            for image in done.images
        ],
        "finished": done.was_finished,
        "dry_run": dry_run,
    }


def _show(done: Restoration, *, dry_run: bool) -> None:
    would = "would restore" if dry_run else "restored"
    for image in done.images:
        size, length = format_size(image.saved_bytes), format_size(image.original_bytes)
        ranges = "1 range" if image.ranges == 1 else f"{image.ranges} ranges"
        output.say(f"{would} {image.name}: {size} in {ranges}, {length} long")
    if not done.images:
        output.say("nothing to restore: the job changed nothing")
    elif not done.was_finished:
        output.say("the job had not come to its end, so a later change would not have been noticed")
