"""`ipva fs ls, tree, cat, get, put, rm, mkdir`: the files and folders of FAT volumes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ipva_storage.cli import interrupts, output, targets, transfer
from ipva_storage.errors import UsageError

if TYPE_CHECKING:
    from ipva_storage.fat import FatEntry


@click.command("ls")
@click.argument("path", metavar="DISK:/PATH")
@click.option("--deleted", is_flag=True, help="List what was deleted in the folder, instead.")
@output.json_option
def list_folder(path: str, deleted: bool, as_json: bool) -> None:
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
    with targets.open_volume(disk) as volume:
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
@output.json_option
def tree(path: str, as_json: bool) -> None:
    """List a folder and all below it.

    \b
    Example:
      ipva fs tree demo#boot:/
    """
    disk, inner = targets.split_disk_path(path)
    with targets.open_volume(disk) as volume:
        found = list(volume.walk(inner))
    if as_json:
        output.document([{"path": name, **_facts(entry)} for name, entry in found])
        return
    for name, entry in found:
        output.say(name + ("/" if entry.is_dir else ""))


@click.command()
@click.argument("path", metavar="DISK:/PATH")
def cat(path: str) -> None:
    """Write a file to standard output.

    \b
    Example:
      ipva fs cat demo#cf:/docs/README.md
    """
    disk, inner = targets.split_disk_path(path)
    with targets.open_volume(disk) as volume:
        for chunk in volume.read_chunks(inner):
            sys.stdout.buffer.write(chunk)


@click.command()
@click.argument("path", metavar="DISK:/PATH")
@click.argument("out", metavar="OUT")
@output.force_option
@output.json_option
def get(path: str, out: str, force: bool, as_json: bool) -> None:
    """Copy a file, or a folder with all in it, out of a disk.

    \b
    Example:
      ipva fs get demo#boot:/ipva.bin ipva.bin
    """
    disk, inner = targets.split_disk_path(path)
    targets.refuse_source(disk, Path(out))
    with targets.open_volume(disk) as volume, output.progress_bar("get") as progress:
        count = transfer.get(volume, inner, Path(out), force=force, progress=progress)
    _report(count, "copied out", as_json=as_json)


@click.command()
@click.argument("sources", metavar="IN...", nargs=-1, required=True)
@click.argument("path", metavar="DISK:/PATH")
@output.force_option
@output.dry_run_option
@output.json_option
def put(sources: tuple[str, ...], path: str, force: bool, dry_run: bool, as_json: bool) -> None:
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
        interrupts.deferred() as may_stop,
        targets.open_volume(disk, writable=True, dry_run=dry_run) as volume,
        output.progress_bar("put") as progress,
    ):
        copied = transfer.put(
            volume, paths, inner, force=force, progress=progress, may_stop=may_stop
        )
    for name in copied.skipped:
        output.say(f"skipped {name}: neither a file nor a folder of its own", err=True)
    _report(copied.file_count, "would be copied in" if dry_run else "copied in", as_json=as_json)


@click.command()
@click.argument("paths", metavar="DISK:/PATH...", nargs=-1, required=True)
@click.option("-r", "--recursive", is_flag=True, help="Remove folders with all in them.")
@output.dry_run_option
@output.json_option
def rm(paths: tuple[str, ...], recursive: bool, dry_run: bool, as_json: bool) -> None:
    """Remove files and empty folders; with -r, folders with all in them.

    \b
    Example:
      ipva fs rm demo#cf:/docs/README.md
    """
    count = 0
    found = [targets.split_disk_path(path) for path in paths]
    for disk, inner in found:  # a name that is not there stops it before anything is gone
        with targets.open_volume(disk) as volume:
            volume.stat(inner)
    for disk, inner in found:
        with (
            interrupts.deferred(),
            targets.open_volume(disk, writable=True, dry_run=dry_run) as volume,
        ):
            count += transfer.remove(volume, inner, recursive=recursive)
    if as_json:
        output.document({"count": count})
    else:
        output.say(
            f"files and folders {'that would be removed' if dry_run else 'removed'}: {count}"
        )


@click.command()
@click.argument("path", metavar="DISK:/PATH")
@click.option("-p", "--parents", is_flag=True, help="Make what is missing above it, too.")
@output.dry_run_option
@output.json_option
def mkdir(path: str, parents: bool, dry_run: bool, as_json: bool) -> None:
    """Make a folder.

    \b
    Example:
      ipva fs mkdir demo#cf:/sounds
    """
    disk, inner = targets.split_disk_path(path)
    with (
        interrupts.deferred(),
        targets.open_volume(disk, writable=True, dry_run=dry_run) as volume,
        volume.batch(all_or_nothing=True),
    ):
        volume.mkdir(inner, parents=parents)
    if as_json:
        output.document({"path": inner})
    else:
        output.say(f"{'would make' if dry_run else 'made'} {inner}")


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
