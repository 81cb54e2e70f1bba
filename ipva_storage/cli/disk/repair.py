"""`ipva disk repair`: mending an image from whatever is left of it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

import click

from ipva_storage.cli import interrupts, output, targets, undoing
from ipva_storage.cli.disk.place import Place, image_place, stoppable
from ipva_storage.errors import UsageError
from ipva_storage.units import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipva_storage.vmdk import Lost, Repaired

LOST_SHOWN_MAX: Final = 50
"""Ranges that are named one by one; JSON has them all. Confidence: chosen."""


@click.command()
@click.argument("disk")
@click.option(
    "--accept-parent",
    is_flag=True,
    help="Take a snapshot's child to fit the disk below it, though that was changed since.",
)
@output.dry_run_option
@undoing.repair_options
@output.outside_option
@output.json_option
@click.pass_context
def repair(
    context: click.Context,
    disk: str,
    accept_parent: bool,
    dry_run: bool,
    undo_file: str | None,
    no_undo: bool,
    allow_outside: bool,
    as_json: bool,
) -> None:
    """Mend DISK from its second copies, markers, descriptor or header, whichever is left.

    Nothing is made up: what cannot be brought back is listed by range of the disk. Where a flat or
    split disk has lost its descriptor, name that, or one of its parts. What is overwritten is
    saved first, for `ipva undo`. Status 1: something is left or lost.

    \b
    Example:
      ipva disk repair --dry-run demo/hd-cf.vmdk
    """
    place = image_place(disk, allow_outside=allow_outside)
    _refuse_raw(place)
    journal = undoing.journal_path(undo_file, place.path, by_default=not no_undo, dry_run=dry_run)
    with undoing.undoable(journal) as undo:
        folder = undo.folder(place.folder)
        done = _repair(Place(folder, place.name), accept_parent=accept_parent, dry_run=dry_run)
    if as_json:
        path = None if undo.path is None else str(undo.path)
        made = [str(place.folder.path / name) for name in done.made]
        output.document(_facts(done, disk) | {"made": made, "undo": path, "dry_run": dry_run})
    else:
        _show(done, disk, place, dry_run=dry_run)
        _show_made(done, place, dry_run=dry_run)
        undo.say()
    is_mended = not done.left and not done.lost
    context.exit(0 if is_mended and not (dry_run and done.fixed) else output.PROBLEMS)


def _refuse_raw(place: Place) -> None:
    """Refuse a raw image, which has no structure that could be mended, and what is no disk."""
    from ipva_storage import vmdk

    if not place.path.exists() or place.name.lower().endswith(".vmdk"):
        return
    with place.folder.open(place.name) as raw:
        if vmdk.is_vmdk(raw) or vmdk.is_beheaded(raw):
            return
    targets.open_image(place.path).close()
    raise UsageError(
        "it is a raw image, which has no structure of its own",
        where=str(place.path),
        remedy="look at what is on it with: ipva fs check DISK",
    )


def _repair(place: Place, *, accept_parent: bool, dry_run: bool) -> Repaired:
    from ipva_storage import vmdk

    with output.progress_bar(place.name) as progress, interrupts.deferred() as may_stop:
        return vmdk.repair(
            place.folder,
            place.name,
            accept_parent=accept_parent,
            dry_run=dry_run,
            progress=stoppable(progress, may_stop),
        )


def _facts(done: Repaired, disk: str) -> dict[str, Any]:
    return {
        "fixed": [output.finding_json(output.placed(each, disk)) for each in done.fixed],
        "left": [output.finding_json(output.placed(each, disk)) for each in done.left],
        "lost": [
            {"offset": each.offset_bytes, "length": each.length_bytes, "reason": each.reason}
            for each in done.lost
        ],
    }


def _show(done: Repaired, disk: str, place: Place, *, dry_run: bool) -> None:
    if not done.fixed and not done.left and not done.lost:
        output.say("nothing wrong was found")
        return
    verb = "would be mended" if dry_run else "mended"
    for each in done.fixed:
        at = "" if each.offset_bytes is None else f" at byte {each.offset_bytes}"
        file = f"{each.where}: " if each.where not in (None, str(place.path)) else ""
        output.say(f"{verb}: {each.code}  {file}{each.structure}{at}: {each.message}")
    if done.left:
        output.say("what is left:" if not dry_run else "what would be left:")
        output.show_findings([output.placed(each, disk) for each in done.left])
    _show_lost(done.lost, is_whole=not done.left)
    if any(each.severity == "error" and each.repair is None for each in done.left):
        new = shlex.quote(f"{disk.removesuffix('.vmdk').replace('#', '-')}-rest.img")
        output.say(
            "restore it from a backup, or copy the rest: "
            f"ipva disk convert --salvage {shlex.quote(disk)} {new} -O raw"
        )


def _show_made(done: Repaired, place: Place, *, dry_run: bool) -> None:
    for note in done.notes:
        output.say(note)
    for name in done.made:
        path = place.folder.path / name
        output.say(
            f"would make {path}" if dry_run else f"made {path}; to take that back, delete it"
        )


def _show_lost(lost: Sequence[Lost], *, is_whole: bool) -> None:
    if not lost:
        return
    total = sum(each.length_bytes for each in lost)
    output.say(f"lost, {format_size(total)} of the disk in all:")
    for each in lost[:LOST_SHOWN_MAX]:
        end = each.offset_bytes + each.length_bytes
        output.say(f"  bytes {each.offset_bytes} to {end}: {each.reason}")
    if len(lost) > LOST_SHOWN_MAX:
        output.say(f"  and {len(lost) - LOST_SHOWN_MAX} more ranges (--json has them all)")
    if is_whole:
        output.say("it reads as zeros there")
