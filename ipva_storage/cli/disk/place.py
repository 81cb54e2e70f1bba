"""Where a command finds the image that it changes, and the new files that it makes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ipva_storage.cli import targets
from ipva_storage.device import Folder
from ipva_storage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipva_storage.progress import Progress


class Place(NamedTuple):
    """An image by its folder, through which all its files are opened, and its name in there."""

    folder: Folder
    name: str

    @property
    def path(self) -> Path:
        """The image's file."""
        return self.folder.path / self.name


def image_place(disk: str, *, allow_outside: bool) -> Place:
    """The place of an image that is to be changed; a link is followed to the file itself.

    Args:
        disk: an image file, or `VM#role`.
        allow_outside: follow extents and parents out of its folder.
    """
    path = targets.image_path(disk, allow_outside=allow_outside)
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    return Place(Folder(path.parent, allow_outside=allow_outside), path.name)


def is_vmdk(place: Place) -> bool:
    """Whether an image is a VMDK; if not, it is a raw one.

    Raises:
        IpvaError: it is neither, but an archive or a VMDK whose start is lost.
    """
    from ipva_storage import vmdk

    with place.folder.open(place.name) as raw:
        if vmdk.is_vmdk(raw):
            return True
    targets.open_image(place.path).close()
    return False


def new_path(text: str) -> Path:
    """The path of a file that is to be made.

    Raises:
        UsageError: it names a disk of a VM, which is no file name.
    """
    vm, mark, role = text.rpartition("#")
    if mark and role in targets.ROLES and targets.is_vm(vm):
        raise UsageError(
            "that names a disk which is there already, and not a new file",
            where=text,
            remedy=f"write a file name, like {role}.vmdk",
        )
    return Path(text)


def stoppable(progress: Progress, may_stop: Callable[[], None]) -> Progress:
    """Progress at which a job may stop, because it is between two steps then."""

    def told(done_bytes: int, total_bytes: int, /) -> None:
        may_stop()
        progress(done_bytes, total_bytes)

    return told
