"""How the command line names things: a VM, a disk, one of a VM's disks, a path inside a disk."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ipva_storage.cli import leftovers
from ipva_storage.device import Folder, RawDevice
from ipva_storage.errors import IpvaError, UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from ipva_storage.appliance import Appliance
    from ipva_storage.device import BlockDevice
    from ipva_storage.fat import FatVolume

ROLES = ("boot", "cf", "flash", "dump")


class DiskPath(NamedTuple):
    """A disk and a path in its file system, as `DISK:/folder/file.txt` names them."""

    disk: str
    path: str


def split_disk_path(text: str) -> DiskPath:
    r"""Take `DISK:/path` apart; a drive letter (`C:/…`) is part of the disk.

    >>> split_disk_path("demo#cf:/folder/file.txt")
    DiskPath(disk='demo#cf', path='/folder/file.txt')
    >>> split_disk_path("C:/vm/hd-cf.vmdk:/a")
    DiskPath(disk='C:/vm/hd-cf.vmdk', path='/a')

    Raises:
        UsageError: there is no `:/` in it.
    """
    at = text.find(":/", 2)
    if at < 0:
        raise UsageError(
            f"“{text}” names no path in a disk", remedy="write DISK:/path, like demo#cf:/file.txt"
        )
    return DiskPath(text[:at], text[at + 1 :])


def is_disk_path(text: str) -> bool:
    """Whether the text is meant as `DISK:/path`."""
    return text.find(":/", 2) >= 0


def split_role(text: str) -> tuple[str, str | None]:
    """Take `VM#role` apart; the role is None where there is none."""
    vm, mark, role = text.rpartition("#")
    if not mark or Path(text).exists():
        return text, None
    if role not in ROLES:
        raise UsageError(
            f"“{role}” is not a disk of an appliance", remedy=f"write one of {', '.join(ROLES)}"
        )
    return vm, role


def is_vm(text: str) -> bool:
    """Whether a target names a VM: a folder, or a .vmx."""
    return Path(text).is_dir() or text.lower().endswith(".vmx")


def open_vm(text: str, *, allow_outside: bool = False) -> Appliance:
    """The VM of that name: a folder with one .vmx, or the .vmx.

    Args:
        text: its name.
        allow_outside: follow disks, their extents and parents out of its folder.

    Raises:
        IpvaError: there is none, or it cannot be read.
    """
    from ipva_storage import appliance
    from ipva_storage.appliance import image

    path = Path(text)
    if path.is_dir():
        return appliance.open(Folder(path, allow_outside=allow_outside))
    if not path.exists():
        raise UsageError("there is no such folder or .vmx", where=text)
    if path.suffix.lower() != ".vmx":
        with RawDevice(path) as raw:
            image.refuse_foreign(raw)
        raise UsageError("it is no VM", where=text, remedy="name the folder of the VM, or its .vmx")
    return appliance.open(Folder(path.parent, allow_outside=allow_outside), path.name)


@contextlib.contextmanager
def open_disk(
    text: str, *, writable: bool = False, dry_run: bool = False, allow_outside: bool = False
) -> Iterator[BlockDevice]:
    """The disk of that name, whatever its kind, closed at the end of the block.

    Args:
        text: an image file, or `VM#role`.
        writable: open it for writing, which locks it.
        dry_run: let everything be written, to memory.
        allow_outside: follow extents and parents out of its folder.
    """
    device = _open_device(text, writable=writable and not dry_run, allow_outside=allow_outside)
    try:
        if writable:
            _refuse_change(device)
        if dry_run:
            from ipva_storage.device import OverlayDevice

            yield OverlayDevice(device)
        else:
            yield device
            if writable:
                device.flush()
    finally:
        device.close()


def _refuse_change(device: BlockDevice) -> None:
    """Refuse to write to a disk that a snapshot needs, or that an earlier job left half changed.

    Raises:
        IpvaError: it is one of them.
    """
    descriptor = getattr(device, "descriptor", None)
    path = Path(device.name)
    if descriptor is not None:
        from ipva_storage.vmdk import chain

        other_way = "write to that one instead, or "
        place = Folder(path.parent)
        chain.refuse_children(place, path.name, descriptor, device.name, other_way=other_way)
    leftovers.refuse_unfinished(Path(file.name) for file in getattr(device, "files", (device,)))


def files_of(path: Path, *, allow_outside: bool = False) -> list[Path]:
    """The files of the disk in an image file, and of those below it; itself where it is damaged."""
    try:
        with contextlib.closing(open_image(path, allow_outside=allow_outside)) as device:
            return list(_files(device))
    except IpvaError:
        return [path]


def _open_device(text: str, *, writable: bool, allow_outside: bool) -> BlockDevice:
    vm, role = split_role(text)
    if role is not None:
        from ipva_storage.appliance import Role

        machine = open_vm(vm, allow_outside=allow_outside)
        return machine.open_disk(Role(role), writable=writable)
    _refuse_folder(text)
    return open_image(text, writable=writable, allow_outside=allow_outside)


def _refuse_folder(text: str) -> None:
    if Path(text).is_dir():
        raise UsageError(
            "it is a folder, not a disk",
            where=text,
            remedy=f"name one of its disks, like {shlex.quote(f'{text}#cf')}",
        )


def open_image(
    path: str | os.PathLike[str], *, writable: bool = False, allow_outside: bool = False
) -> BlockDevice:
    """An image file as a device: a VMDK by content, anything else as it is.

    Raises:
        IpvaError: it cannot be opened, or holds no disk that is read here.
    """
    from ipva_storage.appliance import image

    raw = RawDevice(path, writable=writable)
    folder = Folder(Path(path).parent, allow_outside=allow_outside)
    return image.disk_in(raw, folder, writable=writable, as_found=True)


def open_volume(
    text: str, *, writable: bool = False, dry_run: bool = False, code_page: str = "cp437"
) -> AbstractContextManager[FatVolume]:
    """The first FAT volume of a disk, flushed and closed at the end of the block."""
    opened = open_disk(text, writable=writable, dry_run=dry_run)
    return volume_on(opened, writable=writable, code_page=code_page)


@contextlib.contextmanager
def volume_on(
    opened: AbstractContextManager[BlockDevice], *, writable: bool, code_page: str
) -> Iterator[FatVolume]:
    """As `open_volume`, on a disk that is opened otherwise."""
    from ipva_storage import fat

    with opened as device:
        volume = fat.open_first(device, code_page=code_page)
        try:
            yield volume
            if writable:
                volume.flush()
        finally:
            if writable:
                volume.close()  # also after a refusal: what was finished stays, marked clean


def describe(error: IpvaError) -> str:
    """An error as one line."""
    return " ".join(str(error).split())


def image_path(text: str, *, allow_outside: bool = False) -> Path:
    """The file that holds a disk, for jobs that look at the image and not through it."""
    vm, role = split_role(text)
    if role is None:
        _refuse_folder(text)
        return Path(text)
    from ipva_storage.appliance import Role

    machine = open_vm(vm, allow_outside=allow_outside)
    return machine.folder.resolve(machine.disk_name(Role(role)))


def disk_of(target: str, role: str) -> str:
    """The disk that a store is on: `VM#role` for a VM, or the target itself when it is a disk."""
    return f"{target}#{role}" if is_vm(target) else target


def output_folder(path: Path) -> Folder:
    """The folder that a new file is to be in, which must be there: a typo makes no folders.

    Raises:
        UsageError: there is no such folder.
    """
    if not path.parent.is_dir():
        raise UsageError("there is no such folder", where=str(path.parent), remedy="make it first")
    return Folder(path.parent)


def refuse_source(disk: str, target: Path) -> None:
    """Refuse to write a new file over the disk that it is read from, `--force` or not.

    Raises:
        UsageError: the target is one of the files that the disk is in.
    """
    if target.exists():
        with open_disk(disk) as device:
            refuse_files(device, [target])


def refuse_files(device: BlockDevice, targets: Iterable[Path]) -> None:
    """Refuse new files in the place of those that a disk is in, of those below it too.

    Raises:
        UsageError: one of them is.
    """
    sources = list(_files(device))
    for target in targets:
        if any(_is_same(source, target) for source in sources):
            raise UsageError(
                "it belongs to the disk that is read",
                where=str(target),
                remedy="choose another name",
            )


def _files(device: BlockDevice | None) -> Iterator[Path]:
    """The files of a disk and of all disks below it, those too that its descriptor only names."""
    while device is not None:
        paths = [Path(file.name) for file in getattr(device, "files", (device,))]
        yield from paths
        for line in getattr(getattr(device, "descriptor", None), "extents", ()):
            if line.file_name:
                yield paths[0].parent / line.file_name
        device = getattr(device, "parent", None)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # one of them is not there, or has a name that no file has
        return False
