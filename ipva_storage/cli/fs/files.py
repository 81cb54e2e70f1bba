"""`ipva fs ls, tree, cat, get, put, rm, mkdir, mv`: the files and folders of FAT volumes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ipva_storage.cli import output, targets, transfer
from ipva_storage.cli.fs import changing
from ipva_storage.errors import UsageError

if TYPE_CHECKING:
    from ipva_storage.cli import undoing
    from ipva_storage.fat import FatEntry


@click.command("ls")
@click.argument("path", metavar="DISK:/PATH")
@click.option("--deleted", is_flag=True, help="List what was deleted in the folder, instead.")
@changing.code_page_option
@output.json_option
def list_folder(path: str, deleted: bool, code_page: str, as_json: bool) -> None:
    """List a folder, or one file.

    \b
    Example:
      ipva fs ls demo#boot:/
    """
    if deleted:
        from ipva_storage.cli.fs.undelete import list_deleted

        list_deleted(path, as_json=as_json)
        return
    disk, inner = targets.split_disk_path(path)
    with targets.open_volume(disk, code_page=code_page) as volume:
        found = None if inner.strip("/") == "" else volume.stat(inner)
        entries = volume.list(inner) if found is None or found.is_dir else [found]
    if as_json:
        output.document([_facts(entry) for entry in entries])
        return
    output.table(
        (
            (
                "" if entry.is_dir else str(entry.size_bytes),
                f"{entry.modified:%Y-%m-%d %H:%M:%S}",
                entry.name + ("/" if entry.is_dir else ""),
            )
            for entry in entries
        ),
        right=frozenset({0}),
    )


@click.command()
@click.argument("path", metavar="DISK:/PATH")
@changing.code_page_option
@output.json_option
def tree(path: str, code_page: str, as_json: bool) -> None:
    """List a folder and all below it.

    \b
    Example:
      ipva fs tree demo#boot:/
    """
    disk, inner = targets.split_disk_path(path)
    with targets.open_volume(disk, code_page=code_page) as volume:
        found = list(volume.walk(inner))
    if as_json:
        output.document([{"path": name, **_facts(entry)} for name, entry in found])
        return
    for name, entry in found:
        output.say(name + ("/" if entry.is_dir else ""))


@click.command()
@click.argument("path", metavar="DISK:/PATH")
@changing.code_page_option
def cat(path: str, code_page: str) -> None:
    """Write a file to standard output.

    \b
    Example:
      ipva fs cat demo#cf:/docs/README.md
    """
    disk, inner = targets.split_disk_path(path)
    with targets.open_volume(disk, code_page=code_page) as volume:
        for chunk in volume.read_chunks(inner):
            sys.stdout.buffer.write(chunk)


@click.command()
@click.argument("path", metavar="DISK:/PATH")
@click.argument("out", metavar="OUT")
@output.force_option
@changing.code_page_option
@output.json_option
def get(path: str, out: str, force: bool, code_page: str, as_json: bool) -> None:
    """Copy a file, or a folder with all in it, out of a disk.

    \b
    Example:
      ipva fs get demo#boot:/ipva.bin ipva.bin
    """
    disk, inner = targets.split_disk_path(path)
    targets.refuse_source(disk, Path(out))
    with (
        targets.open_volume(disk, code_page=code_page) as volume,
        output.progress_bar("get") as progress,
    ):
        count = transfer.get(volume, inner, Path(out), force=force, progress=progress)
    _report(count, "copied out", as_json=as_json)


@click.command()
@click.argument("sources", metavar="IN...", nargs=-1, required=True)
@click.argument("path", metavar="DISK:/PATH")
@output.force_option
@changing.options
def put(
    sources: tuple[str, ...],
    path: str,
    force: bool,
    undo_file: str | None,
    dry_run: bool,
    code_page: str,
    as_json: bool,
) -> None:
    """Copy files, or folders with all in them, into a disk.

    Into a folder that exists, or a PATH that ends in “/”, they go under their own names. All are
    copied, or none: what cannot be copied leaves the disk as it was.

    \b
    Example:
      ipva fs put README.md demo#cf:/docs/
    """
    disk, inner = targets.split_disk_path(path)
    paths = [Path(source) for source in sources]
    for word, source in zip(sources, paths, strict=True):
        if not word or not source.exists():
            raise UsageError("there is no such file or folder", where=word or "IN")
    with (
        changing.changed(disk, undo_file=undo_file, dry_run=dry_run, code_page=code_page) as change,
        output.progress_bar("put") as progress,
    ):
        copied = transfer.put(
            change.volume, paths, inner, force=force, progress=progress, may_stop=change.may_stop
        )
    for name in copied.skipped:
        output.say(f"skipped {name}: neither a file nor a folder of its own", err=True)
    _report(copied.file_count, "would be copied in" if dry_run else "copied in", as_json=as_json)
    _say_undo(change.undo, as_json=as_json)


@click.command()
@click.argument("paths", metavar="DISK:/PATH...", nargs=-1, required=True)
@click.option("-r", "--recursive", is_flag=True, help="Remove folders with all in them.")
@changing.options
def rm(
    paths: tuple[str, ...],
    recursive: bool,
    undo_file: str | None,
    dry_run: bool,
    code_page: str,
    as_json: bool,
) -> None:
    """Remove files and empty folders; with -r, folders with all in them.

    \b
    Example:
      ipva fs rm demo#cf:/docs/README.md
    """
    found: dict[str, list[str]] = {}
    for disk, inner in map(targets.split_disk_path, paths):
        found.setdefault(disk, []).append(inner)
    if undo_file is not None and len(found) > 1:
        raise UsageError("one --undo FILE is for one disk", remedy="remove disk by disk")
    for disk, inners in found.items():  # a name that is not there stops it before anything is gone
        with targets.open_volume(disk, code_page=code_page) as volume:
            for inner in inners:
                volume.stat(inner)
    count = 0
    for disk, inners in found.items():
        with changing.changed(
            disk, undo_file=undo_file, dry_run=dry_run, code_page=code_page
        ) as change:
            for inner in inners:
                count += change.volume.delete(inner, recursive=recursive)
    if as_json:
        output.document({"count": count})
    else:
        output.say(
            f"files and folders {'that would be removed' if dry_run else 'removed'}: {count}"
        )
    _say_undo(change.undo, as_json=as_json)


@click.command()
@click.argument("path", metavar="DISK:/PATH")
@click.option("-p", "--parents", is_flag=True, help="Make what is missing above it, too.")
@changing.options
def mkdir(
    path: str,
    parents: bool,
    undo_file: str | None,
    dry_run: bool,
    code_page: str,
    as_json: bool,
) -> None:
    """Make a folder.

    \b
    Example:
      ipva fs mkdir demo#cf:/sounds
    """
    disk, inner = targets.split_disk_path(path)
    with (
        changing.changed(disk, undo_file=undo_file, dry_run=dry_run, code_page=code_page) as change,
        change.volume.batch(all_or_nothing=True),
    ):
        change.volume.mkdir(inner, parents=parents)
    if as_json:
        output.document({"path": inner})
    else:
        output.say(f"{'would make' if dry_run else 'made'} {inner}")
    _say_undo(change.undo, as_json=as_json)


@click.command()
@click.argument("path", metavar="DISK:/FROM")
@click.argument("target", metavar="TO")
@output.force_option
@changing.options
def mv(
    path: str,
    target: str,
    force: bool,
    undo_file: str | None,
    dry_run: bool,
    code_page: str,
    as_json: bool,
) -> None:
    """Move or rename a file or folder within a disk. Its times are kept.

    TO is a path in the same disk, /folder/name or DISK:/folder/name. Into a folder that exists, or
    a TO that ends in “/”, it goes under its own name.

    \b
    Example:
      ipva fs mv demo#cf:/sounds /ringtones
    """
    disk, inner = targets.split_disk_path(path)
    if targets.is_disk_path(target):
        other, target = targets.split_disk_path(target)
        if other != disk:
            raise UsageError(
                f"“{other}” is another disk than “{disk}”",
                remedy="copy it with ipva fs get and ipva fs put",
            )
    with changing.changed(
        disk, undo_file=undo_file, dry_run=dry_run, code_page=code_page
    ) as change:
        moved = transfer.move(change.volume, inner, target, force=force)
    if as_json:
        output.document({"from": inner, "to": moved})
    else:
        output.say(f"{'would move' if dry_run else 'moved'} {inner} to {moved}")
    _say_undo(change.undo, as_json=as_json)


def _say_undo(undo: undoing.Undo, *, as_json: bool) -> None:
    if not as_json:
        undo.say()


def _facts(entry: FatEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "short_name": entry.short_name,
        "size": entry.size_bytes,
        "modified": entry.modified.isoformat(),
        "is_dir": entry.is_dir,
        "deleted": entry.is_deleted,
    }


def _report(count: int, done: str, *, as_json: bool) -> None:
    if as_json:
        output.document({"count": count})
    else:
        output.say(f"{count} {'file' if count == 1 else 'files'} {done}")
