"""What a command needs to offer `--undo FILE`: the options, and a block that saves and takes back.

```python
@undoing.repair_options  # or undoing.option, where it is off unless FILE is given
def repair(disk, undo_file, no_undo, dry_run):
    image = targets.image_path(disk)
    journal = undoing.journal_path(undo_file, image, by_default=not no_undo, dry_run=dry_run)
    with undoing.undoable(journal) as undo:
        raw = undo.device(RawDevice(image, writable=True))
        with vmdk.open(raw, undo.folder(Folder(image.parent)), writable=True) as device:
            ...
    undo.say()
```
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ipva_storage.cli import interrupts, leftovers, output, targets
from ipva_storage.errors import DeviceError, IpvaError, UsageError
from ipva_storage.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipva_storage.device import Folder
    from ipva_storage.device.base import FileDevice
    from ipva_storage.device.undo import UndoJournal

    Command = TypeVar("Command", bound=Callable[..., Any])

option = click.option(
    "--undo", "undo_file", metavar="FILE", help="Save what is overwritten to FILE, for ipva undo."
)


def repair_options(command: Command) -> Command:
    """`--undo FILE` and `--no-undo`, for a command that saves unless told otherwise."""
    off = click.option("--no-undo", is_flag=True, help="Do not save what is overwritten.")
    return option(off(command))


def journal_path(
    undo_file: str | None, image: Path, *, by_default: bool = False, dry_run: bool = False
) -> Path | None:
    """The journal of a job on an image; None where there shall be none.

    Args:
        undo_file: what the user gave with `--undo`.
        image: the image file, beside which the default is: its name with `.undo`, or `.undo.1` and
            so on where that exists.
        by_default: make one also when the user gave none.
        dry_run: nothing is overwritten, so nothing is saved.

    Raises:
        UsageError: the user's file is the image, or exists already; or an earlier job on the image
            was cut, and its journal is there.
    """
    if dry_run:
        return None
    leftovers.refuse_unfinished(targets.files_of(image, allow_outside=True))
    if undo_file is not None:
        path = Path(undo_file)
        if path.exists() and path.samefile(image):
            raise UsageError("it is the image itself", where=undo_file, remedy="name a new file")
        if os.path.lexists(path):
            raise UsageError("it exists already", where=undo_file, remedy="name a new file")
        return path
    if not by_default:
        return None
    if image.is_symlink():  # beside the file, so that the journal can name it plainly
        image = Path(os.path.realpath(image))
    first = image.with_name(f"{image.name}.undo")
    names = (first.with_name(f"{first.name}.{number}") for number in itertools.count(1))
    return next(path for path in itertools.chain([first], names) if not os.path.lexists(path))


class Undo:
    """Guards what a job opens; without a journal everything stays as it is."""

    def __init__(self, path: Path | None, journal: UndoJournal | None) -> None:
        self.path = path
        """Where the journal is; None where there is none, also because nothing was changed."""
        self._journal = journal

    @property
    def saved_bytes(self) -> int:
        """How much is saved."""
        return 0 if self._journal is None else self._journal.saved_bytes

    def device(self, device: FileDevice) -> FileDevice:
        """An image file, saved before it is changed."""
        if self._journal is None:
            return device
        from ipva_storage.device.undo import UndoDevice

        return UndoDevice(device, self._journal)

    def folder(self, folder: Folder) -> Folder:
        """A folder whose files are saved before they are changed, such as a disk's extents."""
        if self._journal is None:
            return folder
        from ipva_storage.device.undo import UndoFolder

        return UndoFolder(folder, self._journal)

    def say(self) -> None:
        """Tell the user how to take the job back, where there is anything to."""
        if self.path is not None:
            size = format_size(self.saved_bytes)
            output.say(f"to take it back ({size} saved): ipva undo {shlex.quote(str(self.path))}")


@contextlib.contextmanager
def undoable(path: Path | None) -> Iterator[Undo]:
    """A job that can be taken back; one that fails or is interrupted is taken back at once.

    The images must be opened and closed within the block: they are read once more at its end.

    Args:
        path: where the journal goes; None: nothing is saved, and nothing taken back.

    Yields:
        What the job opens its images through.

    Raises:
        DeviceError: the journal cannot be made.
        IpvaError: an image was left open or the journal could not be ended; or the job failed and
            could not be taken back either. The text says what to do.
    """
    if path is None:
        yield Undo(None, None)
        return
    from ipva_storage.device.undo import UndoJournal

    journal = UndoJournal.create(targets.output_folder(path), path.name)
    undo = Undo(path, journal)
    try:
        try:
            yield undo
        except click.exceptions.Exit:  # a status, not a failure
            _finish(journal, path)
            raise
        except BaseException as error:
            journal.close()
            _take_back(journal, path, error)
            undo.path = None
            raise
        _finish(journal, path)
    finally:
        journal.close()
        if journal.is_empty:
            path.unlink(missing_ok=True)
            undo.path = None


def _finish(journal: UndoJournal, path: Path) -> None:
    from ipva_storage.device.undo import ImageFolder

    try:
        journal.finish(ImageFolder(path, allow_outside=True))
    except DeviceError as error:
        raise IpvaError(
            f"all is done, but a later change of the image will not be noticed ({error})",
            where=str(path),
            remedy=f"it can be taken back: ipva undo {shlex.quote(str(path))}",
        ) from error


def _take_back(journal: UndoJournal, path: Path, error: BaseException) -> None:
    """Restore the images of a job that failed, and remove its journal."""
    from ipva_storage.device import RawDevice
    from ipva_storage.device.undo import ImageFolder, restore

    if journal.is_empty:
        return
    try:
        with interrupts.deferred(), RawDevice(path, writable=True) as file:
            restore(file, ImageFolder(path, allow_outside=True), force=True)
    except (IpvaError, KeyboardInterrupt) as second:
        reason = " ".join(str(error).split()) or "interrupted"
        raise IpvaError(
            f"{reason}; and the image could not be put back as it was ({second})",
            where=str(path),
            remedy=f"run: ipva undo {shlex.quote(str(path))}",
        ) from error
    path.unlink(missing_ok=True)
