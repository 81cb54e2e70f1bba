"""`ipva fs undelete` and `ipva fs ls --deleted`: what was deleted on a FAT volume."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ipva_storage.cli import interrupts, output, targets, undoing
from ipva_storage.cli.disk.place import image_place
from ipva_storage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.deleted import Deleted, DeletedFiles

SHOWN_MAX: Final = 50
"""Files that are named one by one; JSON has them all. Confidence: chosen."""


@click.command()
@click.argument("path", metavar="DISK:/PATH")
@click.argument("out", metavar="[OUT]", required=False)
@output.force_option
@output.dry_run_option
@undoing.repair_options
@output.json_option
@click.pass_context
def undelete(
    context: click.Context,
    path: str,
    out: str | None,
    force: bool,
    dry_run: bool,
    undo_file: str | None,
    no_undo: bool,
    as_json: bool,
) -> None:
    """Put a deleted file back, or a folder with all that was in it; or copy it OUT.

    PATH is where it was, as “ipva fs ls --deleted” shows it. What is overwritten is saved first,
    for `ipva undo`; with OUT the disk is only read. Status 1: something is a guess, because other
    files are where it may have been, or is lost.

    \b
    Example:
      ipva fs undelete --dry-run demo#cf:/docs/README.md
    """
    disk, inner = targets.split_disk_path(path)
    if out is not None:
        if undo_file is not None:
            raise UsageError("with OUT nothing on the disk is changed", where="--undo")
        done, left = _copy_out(disk, inner, Path(out), force=force, dry_run=dry_run)
        undo = None
    else:
        place = image_place(disk, allow_outside=False)
        journal = undoing.journal_path(
            undo_file, place.path, by_default=not no_undo, dry_run=dry_run
        )
        with undoing.undoable(journal) as undo, _opened(disk, undo, dry_run=dry_run) as device:
            done, left = _put_back(device, inner, dry_run=dry_run)
    if as_json:
        saved = None if undo is None or undo.path is None else str(undo.path)
        facts = {"restored": _all(done), "left": _all(left), "undo": saved, "dry_run": dry_run}
        output.document(facts)
    else:
        _show(done, left, "copied out" if out is not None else "put back", dry_run=dry_run)
        if undo is not None:
            undo.say()
    is_sure = all(one.state == "whole" for one in [*done, *left])
    context.exit(0 if is_sure else output.PROBLEMS)


@contextlib.contextmanager
def _opened(disk: str, undo: undoing.Undo, *, dry_run: bool) -> Iterator[BlockDevice]:
    """The first FAT volume of a disk, guarded by an undo journal."""
    from ipva_storage import fat
    from ipva_storage.appliance import image

    place = image_place(disk, allow_outside=False)
    folder, writable = undo.folder(place.folder), not dry_run
    raw = folder.open(place.name, writable=writable)
    whole = image.disk_in(raw, folder, writable=writable, as_found=True)
    with contextlib.closing(whole) as device, interrupts.deferred():
        yield fat.first_fat(device)


def _put_back(
    device: BlockDevice, inner: str, *, dry_run: bool
) -> tuple[Sequence[Deleted], Sequence[Deleted]]:
    from ipva_storage import fat

    found = fat.undelete(device, inner, dry_run=dry_run)
    return found.restored, found.left


# -- copying out ------------------------------------------------------------------------------


def _copy_out(
    disk: str, inner: str, out: Path, *, force: bool, dry_run: bool
) -> tuple[Sequence[Deleted], Sequence[Deleted]]:
    """Copy a deleted file, or a folder with all in it, to the host."""
    from ipva_storage import fat

    targets.refuse_source(disk, out)
    with targets.open_disk(disk) as device:
        found = fat.DeletedFiles(fat.first_fat(device))
        first = found.find(inner)
        found.refuse_lost(first)
        target = out / first.entry.name if out.is_dir() else out
        copied: list[Deleted] = []
        left: list[Deleted] = []
        for one, where in _tree(found, first, target):
            if one.state == "lost":
                left.append(one)
                continue
            copied.append(one)
            if not dry_run:
                _write(found, one, where, force=force)
    return copied, left


def _tree(found: DeletedFiles, one: Deleted, target: Path) -> Iterator[tuple[Deleted, Path]]:
    """A deleted file or folder, and all in it, each with the place it is copied to."""
    yield one, target
    if one.entry.is_dir and one.state != "lost":
        for child in found.within(one):
            yield from _tree(found, child, target / child.entry.name)


def _write(found: DeletedFiles, one: Deleted, target: Path, *, force: bool) -> None:
    if one.entry.is_dir:
        target.mkdir(exist_ok=True)
        return
    if target.exists() and not force:
        raise UsageError("it exists already", where=str(target), remedy="add --force to replace it")
    with targets.output_folder(target).new_file(target.name, force=force) as file:
        file.resize(one.entry.size_bytes)
        at = 0
        for chunk in found.read_chunks(one):
            file.write(at, chunk)
            at += len(chunk)


# -- showing ----------------------------------------------------------------------------------


def list_deleted(path: str, *, as_json: bool) -> None:
    """List what was deleted in a folder: how `ls --deleted` ends."""
    from ipva_storage import fat

    disk, inner = targets.split_disk_path(path)
    with targets.open_disk(disk) as device:
        found = fat.DeletedFiles(fat.first_fat(device)).in_folder(inner)
    if as_json:
        output.document(_all(found))
        return
    output.table(
        (
            (
                "" if one.entry.is_dir else str(one.entry.size_bytes),
                f"{one.entry.modified:%Y-%m-%d %H:%M:%S}",
                one.state.value,
                one.entry.name + ("/" if one.entry.is_dir else ""),
            )
            for one in found
        ),
        right=frozenset({0}),
    )


def _all(found: Sequence[Deleted]) -> list[dict[str, Any]]:
    return [_facts(one) for one in found]


def _facts(one: Deleted) -> dict[str, Any]:
    return {
        "path": one.path,
        "name": one.entry.name,
        "short_name": one.entry.short_name,
        "size": one.entry.size_bytes,
        "modified": one.entry.modified.isoformat(),
        "is_dir": one.entry.is_dir,
        "deleted": True,
        "state": one.state.value,
        "reason": one.reason,
    }


def _show(done: Sequence[Deleted], left: Sequence[Deleted], verb: str, *, dry_run: bool) -> None:
    would = f"would be {verb}" if dry_run else verb
    lines = [
        f"{would}: {one.path}" + (f" (a guess: {one.reason})" if one.reason else "") for one in done
    ]
    lines += [
        f"lost: {one.path}: {one.reason or 'its clusters or its name are taken'}" for one in left
    ]
    for line in lines[:SHOWN_MAX]:
        output.say(line)
    if len(lines) > SHOWN_MAX:
        output.say(f"and {len(lines) - SHOWN_MAX} more (--json has them all)")
