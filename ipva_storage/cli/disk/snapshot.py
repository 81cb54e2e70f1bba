"""`ipva disk snapshot create, commit`: children over a disk, and giving their changes back."""

from __future__ import annotations

import contextlib
import os
import shlex
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from ipva_storage.cli import interrupts, output, targets, undoing
from ipva_storage.cli.disk.place import Place, image_place, is_vmdk, new_path, stoppable
from ipva_storage.errors import IpvaError, UsageError
from ipva_storage.units import format_size, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ipva_storage.device import Folder
    from ipva_storage.vmdk import Committed


@click.group("snapshot")
def group() -> None:
    """Take snapshots of a VMDK, and give their changes back."""


@group.command()
@click.argument("disk")
@click.argument("child")
@output.force_option
@output.outside_option
@output.json_option
def create(disk: str, child: str, force: bool, allow_outside: bool, as_json: bool) -> None:
    """Make CHILD beside DISK: an empty disk over it, which holds all changes from now on.

    DISK stays as it is, as long as nothing but `snapshot commit` writes to it. CHILD is a name in
    DISK's folder, or a path to there.

    \b
    Example:
      ipva disk snapshot create demo/hd-cf.vmdk demo/hd-cf-1.vmdk
    """
    from ipva_storage import vmdk

    place = image_place(disk, allow_outside=allow_outside)
    if not is_vmdk(place):
        copy = shlex.quote(f"{place.path.stem}.vmdk")
        raise UsageError(
            "a raw image has no snapshots",
            where=str(place.path),
            remedy="make a VMDK of it first: "
            f"ipva disk convert {shlex.quote(str(place.path))} {copy} -O monolithicSparse",
        )
    name = _child_name(place, child)
    with targets.open_disk(disk, allow_outside=allow_outside) as device, _not_written(place):
        targets.refuse_files(device, [place.folder.path / name])
        vmdk.snapshot(place.folder, place.name, name, force=force)
    path = str(place.folder.path / name)
    lines = list(_vmx_lines(place.folder, place.name))
    if as_json:
        facts = {"file": path, "parent": str(place.path)}
        output.document({**facts, "vmx": [each.facts(name) for each in lines]})
        return
    output.say(f"made {path}, which holds all changes to {place.path} from now on")
    _show_lines(place, lines, name)
    output.say(f"nothing may write to {place.name} itself any more, or {name} fits it no longer")


def _child_name(place: Place, child: str) -> str:
    """The name of a child in its disk's folder.

    Raises:
        UsageError: it is elsewhere, or is no name of a VMDK.
    """
    path = new_path(child)
    is_bare = path.name == child
    if not is_bare and not (path.parent.is_dir() and path.parent.samefile(place.folder.path)):
        raise UsageError(
            "a snapshot's child lies beside its disk",
            where=child,
            remedy=f"name a file in {place.folder.path}",
        )
    if path.suffix.lower() != ".vmdk":
        raise UsageError(
            "a snapshot's child is a VMDK, and is to be named so",
            where=child,
            remedy=f"name it {path.name}.vmdk",
        )
    return path.name


@contextlib.contextmanager
def _not_written(place: Place) -> Iterator[None]:
    """Hold the disk's lock, where it may be written to at all, so that nobody does meanwhile."""
    if not os.access(place.path, os.W_OK):
        yield
        return
    with place.folder.open(place.name, writable=True):
        yield


@group.command()
@click.argument("child")
@click.option("--remove", is_flag=True, help="Delete CHILD's files afterwards.")
@click.option("--force", is_flag=True, help="Also when other children then fit no more.")
@output.dry_run_option
@undoing.option
@output.outside_option
@output.json_option
def commit(
    child: str,
    remove: bool,
    force: bool,
    dry_run: bool,
    undo_file: str | None,
    allow_outside: bool,
    as_json: bool,
) -> None:
    """Write the changes that CHILD holds into the disk below it; CHILD stays, empty.

    What CHILD reads as is the same at every moment. When this is interrupted, run it again, and
    do not use the disk below on its own until it is done.

    \b
    Example:
      ipva disk snapshot commit demo/hd-cf-1.vmdk --remove
    """
    place = image_place(child, allow_outside=allow_outside)
    parent = _parent_name(place)
    lines = list(_vmx_lines(place.folder, place.name))
    journal = undoing.journal_path(undo_file, place.path, dry_run=dry_run)
    with undoing.undoable(journal) as undo:
        guarded = Place(undo.folder(place.folder), place.name)
        try:
            done = _commit(guarded, remove=remove, force=force, dry_run=dry_run)
        except KeyboardInterrupt:
            if journal is not None:  # which takes it all back
                raise
            raise IpvaError(
                "interrupted; it reads as before, and the disk below it may be changed in part",
                where=str(place.path),
                remedy="run the commit again before you use that disk, or another child of it",
            ) from None
    if as_json:
        facts = {"file": str(place.path), "parent": str(place.folder.path / parent)}
        state: dict[str, Any] = {
            "written": done.written_bytes,
            "removed": remove and not dry_run,
            "outdated": [str(place.folder.path / name) for name in done.outdated],
            "kept": [str(place.folder.path / name) for name in done.kept_files],
        }
        vmx = [each.facts(parent) for each in lines]
        output.document({**facts, **state, "dry_run": dry_run, "vmx": vmx})
        return
    size = format_size(done.written_bytes)
    output.say(f"{size} of changes {'would go' if dry_run else 'went'} into {parent}")
    for name in done.outdated:
        fits = "would fit" if dry_run else "fits"
        output.say(f"{name}, which was taken over {parent} as well, {fits} it no more")
    for name in done.kept_files:
        stays = "would stay" if dry_run else "stays"
        output.say(f"{printable(name)} {stays}: it is elsewhere, or may hold more than the child")
    if not dry_run:
        output.say(f"{place.path} {'is removed' if remove else KEPT}")
        _show_lines(place, lines, parent)
        undo.say()


KEPT: Final = "is empty now, and reads as before; it can go once the VM has the disk below it"


def _parent_name(place: Place) -> str:
    """The file below a child, as a .vmx in the child's folder is to name it.

    Raises:
        UsageError: there is none.
    """
    device = targets.open_image(place.path, allow_outside=place.folder.allow_outside)
    with contextlib.closing(device):
        parent = getattr(device, "parent", None)
        if parent is None:
            raise UsageError(
                "it is no snapshot's child, so there is nothing to commit it to",
                where=str(place.path),
                remedy="name the child; see what a disk is with: ipva disk info DISK",
            )
        return os.path.relpath(parent.name, place.folder.path)


def _commit(place: Place, *, remove: bool, force: bool, dry_run: bool) -> Committed:
    from ipva_storage import vmdk

    with output.progress_bar(place.name) as progress, interrupts.deferred() as may_stop:
        return vmdk.commit(
            place.folder,
            place.name,
            remove=remove,
            force=force,
            dry_run=dry_run,
            progress=stoppable(progress, may_stop),
        )


class _VmxLine(NamedTuple):
    """A line of a .vmx that names a disk."""

    path: Path
    key: str

    def facts(self, name: str) -> dict[str, Any]:
        """For JSON: the line as it is to be."""
        return {"file": str(self.path), "line": self.text(name)}

    def text(self, name: str) -> str:
        """The line with another file name."""
        return f'{self.key} = "{name}"'


def _vmx_lines(folder: Folder, name: str) -> Iterator[_VmxLine]:
    """The lines of the folder's .vmx files that name a file as one of the four disks."""
    from ipva_storage import appliance
    from ipva_storage.appliance.machine import vmx_names

    for vmx_name in vmx_names(folder):
        try:
            machine = appliance.open(folder, vmx_name)
        except IpvaError:
            continue
        for role in appliance.Role:
            if machine.vmx.disk_file(role.node) == name:
                yield _VmxLine(folder.path / vmx_name, f"ide{role.node}.fileName")


def _show_lines(place: Place, lines: list[_VmxLine], name: str) -> None:
    """Say which file the VM must name from now on, in the place of the one that it names."""
    for line in lines:
        output.say(f"let {line.path} say: {line.text(name)}")
    named = [] if lines else list(_vmx_lines(place.folder, name))
    for line in named:
        output.say(f"{line.path} names {name} already")
    if not lines and not named:
        output.say(f"the .vmx must name {name}, and not {place.name}")
