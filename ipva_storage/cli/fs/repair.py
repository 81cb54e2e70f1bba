"""`ipva fs repair`: mending the FAT volumes of a disk."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import click

from ipva_storage.cli import interrupts, output, undoing
from ipva_storage.cli.disk.place import image_place, stoppable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipva_storage.cli.disk.place import Place
    from ipva_storage.fat import RepairedVolume

LOST_SHOWN_MAX: Final = 50
"""Files that are named one by one; JSON has them all. Confidence: chosen."""


@click.command()
@click.argument("disk")
@output.dry_run_option
@undoing.repair_options
@output.outside_option
@output.json_option
@click.pass_context
def repair(
    context: click.Context,
    disk: str,
    dry_run: bool,
    undo_file: str | None,
    no_undo: bool,
    allow_outside: bool,
    as_json: bool,
) -> None:
    """Mend the FAT volumes of DISK, partitioned or not, from whatever is left of them.

    No file that the check finds whole is changed. What cannot be brought back is listed by file;
    what belongs to no file any more becomes a file of its own. What is overwritten is saved first,
    for `ipva undo`. Status 1: something is left or lost.

    \b
    Example:
      ipva fs repair --dry-run demo#cf
    """
    place = image_place(disk, allow_outside=allow_outside)
    journal = undoing.journal_path(undo_file, place.path, by_default=not no_undo, dry_run=dry_run)
    with undoing.undoable(journal) as undo:
        done = _repair(place, undo, dry_run=dry_run)
    if as_json:
        path = None if undo.path is None else str(undo.path)
        output.document(_facts(done, disk) | {"undo": path, "dry_run": dry_run})
    else:
        _show(done, disk, dry_run=dry_run)
        undo.say()
    is_mended = not any(one.repaired.left or one.repaired.lost for one in done)
    is_as_told = not (dry_run and any(one.repaired.fixed for one in done))
    context.exit(0 if is_mended and is_as_told else output.PROBLEMS)


def _repair(place: Place, undo: undoing.Undo, *, dry_run: bool) -> list[RepairedVolume]:
    from ipva_storage import fat
    from ipva_storage.appliance import image

    folder, writable = undo.folder(place.folder), not dry_run
    raw = folder.open(place.name, writable=writable)
    disk = image.disk_in(raw, folder, writable=writable, as_found=True)
    with (
        contextlib.closing(disk) as device,
        output.progress_bar(place.name) as progress,
        interrupts.deferred() as may_stop,
    ):
        told = stoppable(progress, may_stop)
        done = fat.repair_disk(device, dry_run=dry_run, progress=told)
        if not done:
            fat.open_first(device)  # refuses a disk without any FAT volume
        return done


def _facts(done: Sequence[RepairedVolume], disk: str) -> dict[str, Any]:
    every = [(one.partition, one.repaired) for one in done]
    return {
        "fixed": [_finding(each, disk) for _, one in every for each in one.fixed],
        "left": [_finding(each, disk) for _, one in every for each in one.left],
        "lost": [
            {"partition": number, "path": each.path, "reason": each.reason}
            for number, one in every
            for each in one.lost
        ],
        "recovered": [
            {"partition": number, "path": each.path, "size": each.content_bytes}
            for number, one in every
            for each in one.recovered
        ],
    }


def _finding(found: Any, disk: str) -> dict[str, Any]:
    return output.finding_json(output.placed(found, disk))


def _show(done: Sequence[RepairedVolume], disk: str, *, dry_run: bool) -> None:
    if not any(one.repaired.fixed or one.repaired.left or one.repaired.lost for one in done):
        output.say("nothing wrong was found")
        return
    for one in done:
        if one.partition is not None and len(done) > 1:
            output.say(f"partition {one.partition}:")
        _show_volume(one, disk, dry_run=dry_run)


def _show_volume(one: RepairedVolume, disk: str, *, dry_run: bool) -> None:
    done = one.repaired
    verb = "would be mended" if dry_run else "mended"
    for each in done.fixed:
        place = "" if each.offset_bytes is None else f" at byte {each.offset_bytes}"
        output.say(f"{verb}: {each.code}  {each.structure}{place}: {each.message}")
    if done.left:
        output.say("what is left:" if not dry_run else "what would be left:")
        output.show_findings([output.placed(each, disk) for each in done.left])
    _show_paths("made of what belonged to no file", [each.path for each in done.recovered])
    _show_paths("lost", [f"{each.path}: {each.reason}" for each in done.lost])


def _show_paths(title: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    output.say(f"{title}:")
    for line in lines[:LOST_SHOWN_MAX]:
        output.say(f"  {line}")
    if len(lines) > LOST_SHOWN_MAX:
        output.say(f"  and {len(lines) - LOST_SHOWN_MAX} more (--json has them all)")
