"""`ipva fs defrag`: files in one piece, folders without gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ipva_storage.cli import interrupts, output, undoing
from ipva_storage.cli.disk.place import Place, image_place, stoppable
from ipva_storage.cli.fs.grow import opened
from ipva_storage.units import format_size

if TYPE_CHECKING:
    from ipva_storage.fat import Defragmented


@click.command()
@click.argument("disk")
@output.dry_run_option
@undoing.option
@output.outside_option
@output.json_option
def defrag(
    disk: str, dry_run: bool, undo_file: str | None, allow_outside: bool, as_json: bool
) -> None:
    """Put each file and folder of DISK's volume in one piece, and close the gaps in folders.

    A file stays in pieces where no free run is as long as it is. Deleted files cannot be undeleted
    afterwards. A power cut loses no file.

    \b
    Example:
      ipva fs defrag demo#cf
    """
    place = image_place(disk, allow_outside=allow_outside)
    journal = undoing.journal_path(undo_file, place.path, dry_run=dry_run)
    with undoing.undoable(journal) as undo:
        done = _carry_out(Place(undo.folder(place.folder), place.name), dry_run=dry_run)
    if as_json:
        facts = {"moved": done.moved_count, "left": done.left_count}
        sizes = {"moved_bytes": done.moved_bytes, "freed": done.freed_bytes}
        path = None if undo.path is None else str(undo.path)
        output.document(facts | sizes | {"undo": path, "dry_run": dry_run})
        return
    _show(done, dry_run=dry_run)
    undo.say()


def _carry_out(place: Place, *, dry_run: bool) -> Defragmented:
    from ipva_storage import fat

    with (
        opened(place, writable=not dry_run) as device,
        output.progress_bar(place.name) as bar,
        interrupts.deferred() as may_stop,
    ):
        volume = fat.first_fat(device)
        done = fat.defrag(volume, dry_run=dry_run, progress=stoppable(bar, may_stop))
        if not dry_run:
            device.flush()
    return done


def _show(done: Defragmented, *, dry_run: bool) -> None:
    verb = "would be put" if dry_run else "put"
    size = format_size(done.moved_bytes)
    output.say(f"files {verb} in one piece: {done.moved_count} ({size})")
    if done.freed_bytes:
        given = "would be" if dry_run else "were"
        output.say(f"{format_size(done.freed_bytes)} of folders {given} given back")
    if done.left_count:
        output.say(f"files in pieces for which no free run is long enough: {done.left_count}")
