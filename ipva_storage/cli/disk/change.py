"""`ipva disk resize, compact`: changing images in place, whole at every write."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ipva_storage.cli import interrupts, output, targets, undoing
from ipva_storage.cli.disk import reach
from ipva_storage.cli.disk.place import Place, image_place, is_vmdk, stoppable
from ipva_storage.errors import UsageError
from ipva_storage.units import format_size, parse_size, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.progress import Progress
    from ipva_storage.vmdk import Compacted, Resized


class NewSize(NamedTuple):
    """A size as the user gives it: as such, or by how much it is to change."""

    size_bytes: int
    sign: int
    """1 and -1: so much more, or less; 0: as such."""

    def of(self, before_bytes: int, where: str) -> int:
        """The new size of a disk.

        Raises:
            UsageError: nothing would be left.
        """
        after_bytes = before_bytes * abs(self.sign) + (self.sign or 1) * self.size_bytes
        if after_bytes <= 0:
            raise UsageError(
                f"it has {format_size(before_bytes)}, and nothing of that would be left",
                where=where,
                remedy="write the size that it shall have, like 512M",
            )
        return after_bytes


class NewSizeType(click.ParamType[NewSize]):
    """`1G`, `+1G` or `-1G` on the command line."""

    name = "SIZE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> NewSize:
        """The size in bytes, and what the sign says."""
        if isinstance(value, NewSize):
            return value
        sign = {"+": 1, "-": -1}.get(value[:1], 0)
        try:
            return NewSize(parse_size(value[abs(sign) :]), sign)
        except ValueError as error:
            self.fail(str(error), param, ctx)


# An unknown option is an argument here, because “-1G” looks like one; no argument takes “--typo”.
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("disk")
@click.argument("size", type=NewSizeType())
@click.option("--allow-loss", is_flag=True, help="Cut the end off even if it is not empty.")
@output.dry_run_option
@undoing.option
@output.outside_option
@output.json_option
@click.pass_context
def resize(
    context: click.Context,
    disk: str,
    size: NewSize,
    allow_loss: bool,
    dry_run: bool,
    undo_file: str | None,
    allow_outside: bool,
    as_json: bool,
) -> None:
    """Give DISK another SIZE: 4G, or 1G more (+1G) or less (-1G). New space reads as zeros.

    Partitions and volumes on it stay as they are. It is made smaller only where its end is empty
    and belongs to no volume, unless --allow-loss. With --dry-run, status 1 says that it would be
    refused for that.

    \b
    Example:
      ipva disk resize demo/hd-cf.vmdk +1G
    """
    place = image_place(disk, allow_outside=allow_outside)
    device = targets.open_image(place.path, allow_outside=allow_outside)
    with contextlib.closing(device):
        size_bytes = size.of(device.size_bytes, str(place.path))
        cut = reach.behind(device, size_bytes) if size_bytes < device.size_bytes else []
    if cut and not (allow_loss or dry_run):
        raise _cut_off(cut[0], place)
    journal = undoing.journal_path(undo_file, place.path, dry_run=dry_run)
    with undoing.undoable(journal) as undo, _job(place) as progress:
        guarded = Place(undo.folder(place.folder), place.name)
        done = _resize(
            guarded, size_bytes, allow_loss=allow_loss, dry_run=dry_run, progress=progress
        )
    if as_json:
        facts = {"before": done.before_bytes, "after": done.after_bytes, "lost": done.lost_bytes}
        kept = [str(place.folder.path / each) for each in done.kept_files]
        names = {"cut": [each.name for each in cut], "kept": kept}
        output.document({"file": str(place.path), **facts, **names, "dry_run": dry_run})
    else:
        _show_resized(disk, done, cut, dry_run=dry_run)
        undo.say()
    is_refused = bool(done.lost_bytes or cut) and not allow_loss
    context.exit(output.PROBLEMS if is_refused else 0)


def _cut_off(cut: reach.Holding, place: Place) -> UsageError:
    return UsageError(
        f"the {cut.name} on it reaches to byte {cut.end_bytes}, and would be damaged",
        where=str(place.path),
        remedy="copy what is in there elsewhere first, or use --allow-loss",
    )


def _resize(
    place: Place, size_bytes: int, *, allow_loss: bool, dry_run: bool, progress: Progress
) -> Resized:
    from ipva_storage import vmdk

    if is_vmdk(place):
        return vmdk.resize(
            place.folder,
            place.name,
            size_bytes,
            allow_loss=allow_loss,
            dry_run=dry_run,
            progress=progress,
        )
    if place.path.suffix.lower() == ".vmdk":
        raise UsageError(
            "it is an extent, and its descriptor says how long it is",
            where=str(place.path),
            remedy="name the descriptor's file, which is the disk",
        )
    with place.folder.open(place.name, writable=not dry_run) as raw:
        return vmdk.resize_raw(
            raw, size_bytes, allow_loss=allow_loss, dry_run=dry_run, progress=progress
        )


def _show_resized(disk: str, done: Resized, cut: list[reach.Holding], *, dry_run: bool) -> None:
    before, after = done.before_bytes, done.after_bytes
    if before == after:
        output.say(f"{disk} has {format_size(after)} ({after} bytes) already")
        return
    verb = "would become" if dry_run else "is now"
    output.say(f"{disk} {verb} {format_size(after)} ({after} bytes); it was {format_size(before)}")
    if done.lost_bytes:
        size = format_size(done.lost_bytes)
        output.say(f"{size} at its end, not empty, {'would be' if dry_run else 'are'} cut off")
    for each in cut:
        is_damaged = "would be" if dry_run else "is"
        output.say(f"the {each.name} on it, up to byte {each.end_bytes}, {is_damaged} damaged")
    for name in done.kept_files:
        stays = "would stay" if dry_run else "stays"
        output.say(f"{printable(name)} {stays}: the disk has no use for it, but it may hold more")
    if dry_run and (done.lost_bytes or cut):
        output.say("without --allow-loss that is refused")
    stay = "would stay" if dry_run else "stay"
    output.say(
        f"partitions and volumes on it {stay} as they are; "
        f"to look at them: ipva fs check {shlex.quote(disk)}"
    )


@click.command()
@click.argument("disk")
@click.option(
    "--allow-loss", is_flag=True, help="Also drop data whose tables are lost, which nothing reads."
)
@output.dry_run_option
@undoing.option
@output.outside_option
@output.json_option
def compact(
    disk: str,
    allow_loss: bool,
    dry_run: bool,
    undo_file: str | None,
    allow_outside: bool,
    as_json: bool,
) -> None:
    """Give space back to the host: what DISK keeps though it is zero, and gaps in its files.

    What it reads as stays the same. Deleted files are no zeros; they stay.

    \b
    Example:
      ipva disk compact demo/hd-cf.vmdk
    """
    place = image_place(disk, allow_outside=allow_outside)
    journal = undoing.journal_path(undo_file, place.path, dry_run=dry_run)
    with undoing.undoable(journal) as undo, _job(place) as progress:
        guarded = Place(undo.folder(place.folder), place.name)
        done = _compact(guarded, allow_loss=allow_loss, dry_run=dry_run, progress=progress)
    if as_json:
        facts = {"freed": done.freed_bytes, "dropped": done.dropped_bytes}
        output.document({"file": str(place.path), **facts, "dry_run": dry_run})
        return
    freed = "would be freed" if dry_run else "freed"
    output.say(f"{format_size(done.freed_bytes)} {freed} on the host")
    if done.dropped_bytes:
        kept = "are" if dry_run else "were"
        output.say(f"{format_size(done.dropped_bytes)} of the disk {kept} kept for nothing")
    undo.say()


def _compact(place: Place, *, allow_loss: bool, dry_run: bool, progress: Progress) -> Compacted:
    from ipva_storage import vmdk

    if is_vmdk(place):
        return vmdk.compact(
            place.folder, place.name, allow_loss=allow_loss, dry_run=dry_run, progress=progress
        )
    with place.folder.open(place.name, writable=not dry_run) as raw:
        return vmdk.punch(raw, dry_run=dry_run, progress=progress)


@contextlib.contextmanager
def _job(place: Place) -> Iterator[Progress]:
    """A job on an image: with a bar, and with Ctrl-C between two of its steps only."""
    with output.progress_bar(place.name) as progress, interrupts.deferred() as may_stop:
        yield stoppable(progress, may_stop)
