"""`ipva fs`: files on the FAT volumes of disks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ipva_storage.cli import guard, interrupts, output, targets, transfer
from ipva_storage.errors import UsageError
from ipva_storage.units import format_size

if TYPE_CHECKING:
    from ipva_storage.fat import FatEntry


@click.group("fs", short_help="files on FAT disks")
def command() -> None:
    """Work with files on FAT12/16/32 disks, partitioned or not.

    A path in a disk is written DISK:/folder/file.txt, where DISK is an image file or one of a
    VM's disks, VM#boot or VM#cf. Names match whatever their case.
    """


@command.command("ls")
@click.argument("path", metavar="DISK:/PATH")
@output.json_option
def list_folder(path: str, as_json: bool) -> None:
    """List a folder, or one file.

    \b
    Example:
      ipva fs ls demo#boot:/
    """
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


@command.command()
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


@command.command()
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


@command.command()
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


@command.command()
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


@command.command()
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


@command.command()
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


@command.command()
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

    with targets.open_disk(disk) as device:
        findings = list(fat.check_disk(device))
        if not findings:
            fat.open_first(device)  # refuses a disk without any FAT volume
    output.report_findings(context, findings, disk, as_json=as_json)


@command.command("format")
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
