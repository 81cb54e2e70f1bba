"""A volume to look at or to change: the options that go with it, and how it is opened."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from ipva_storage.cli import interrupts, output, targets, undoing
from ipva_storage.device import Folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat import FatVolume

    Command = TypeVar("Command", bound=Callable[..., Any])

code_page_option = click.option(
    "--code-page",
    default="cp437",
    metavar="NAME",
    help="What short names are in; cp437 unless given.",
)


def options(command: Command) -> Command:
    """The options of all commands that change files: see `changed`."""
    return undoing.option(output.dry_run_option(code_page_option(output.json_option(command))))


class Change(NamedTuple):
    """A volume that is being changed."""

    volume: FatVolume
    undo: undoing.Undo
    may_stop: Callable[[], None]
    """To be called where Ctrl-C may stop the job."""


@contextlib.contextmanager
def changed(disk: str, *, undo_file: str | None, dry_run: bool, code_page: str) -> Iterator[Change]:
    """The first FAT volume of a disk, to be changed; Ctrl-C waits.

    Args:
        disk: an image file, or `VM#role`.
        undo_file: save what is overwritten there; a job that fails is then taken back.
        dry_run: let everything be written, to memory.
        code_page: of short names.
    """
    journal = None
    if undo_file is not None:
        journal = undoing.journal_path(undo_file, targets.image_path(disk), dry_run=dry_run)
    with interrupts.deferred() as may_stop, undoing.undoable(journal) as undo:
        if journal is None:
            opened = targets.open_volume(disk, writable=True, dry_run=dry_run, code_page=code_page)
        else:
            opened = targets.volume_on(_guarded(disk, undo), writable=True, code_page=code_page)
        with opened as volume:
            yield Change(volume, undo, may_stop)


@contextlib.contextmanager
def _guarded(disk: str, undo: undoing.Undo) -> Iterator[BlockDevice]:
    from ipva_storage.appliance import image

    path = targets.image_path(disk)
    folder = undo.folder(Folder(path.parent))
    raw = folder.open(path.name, writable=True)
    with contextlib.closing(
        image.disk_in(raw, folder.beside(path.name), writable=True, as_found=True)
    ) as device:
        yield device
        device.flush()
