"""`ipva disk convert`: a disk as another kind, verified, or what is left of a damaged one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from ipva_storage.cli import output, targets
from ipva_storage.cli.disk import ranges
from ipva_storage.cli.disk.make import (
    DEFAULT_LEVEL,
    KINDS,
    RAW,
    STREAM,
    Wanted,
    adapter_option,
    make,
)
from ipva_storage.cli.disk.place import image_place, is_vmdk, new_path
from ipva_storage.errors import DeviceError, ImageError, IpvaError, VmdkError
from ipva_storage.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice, Folder, SalvageDevice
    from ipva_storage.progress import Progress


@click.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@click.option("-O", "kind", type=click.Choice(KINDS), required=True, help="Kind of image to make.")
@click.option(
    "--level",
    type=click.IntRange(1, 9),
    help=f"How hard to compress {STREAM}; {DEFAULT_LEVEL} unless given.",
)
@adapter_option
@click.option("--verify", is_flag=True, help="Read OUT back and compare, before it gets its name.")
@click.option(
    "--salvage", is_flag=True, help="Make zeros of what cannot be read, list it, and end with 1."
)
@output.force_option
@output.outside_option
@output.json_option
@click.pass_context
def convert(
    context: click.Context,
    source: str,
    target: str,
    kind: str,
    level: int | None,
    adapter: str | None,
    verify: bool,
    salvage: bool,
    force: bool,
    allow_outside: bool,
    as_json: bool,
) -> None:
    """Copy disk IN to a new image OUT of another kind; holes stay holes.

    A snapshot's child becomes a whole disk, with all that is below it.

    \b
    Example:
      ipva disk convert demo/hd-cf.vmdk cf.img -O raw
    """
    wanted = Wanted(new_path(target), kind, adapter, level, force)
    folder = targets.output_folder(wanted.path)
    with _open_source(source, salvage=salvage, allow_outside=allow_outside) as device:
        names = wanted.names(device.size_bytes)
        targets.refuse_files(device, (folder.path / name for name in names))
        salvaged = _salvaged(device) if salvage else None
        _copy(folder, wanted, device, salvaged or device, verify=verify)
        size_bytes = device.size_bytes
        facts = {
            "file": target,
            "format": kind,
            "virtual_size": size_bytes,
            "files": [str(folder.path / name) for name in names],
            "verified": verify,
        }
    lost = [] if salvaged is None else salvaged.lost
    if as_json:
        output.document(facts | _lost_facts(lost))
    else:
        told = f"{kind}, {format_size(size_bytes)}{', verified' if verify else ''}"
        output.say(f"made {target} ({told})")
        _show_lost(lost, size_bytes)
    context.exit(output.PROBLEMS if lost else 0)


@contextlib.contextmanager
def _open_source(disk: str, *, salvage: bool, allow_outside: bool) -> Iterator[BlockDevice]:
    """The disk to be read; for salvage also one that does not open as a whole."""
    from ipva_storage import vmdk

    place = image_place(disk, allow_outside=allow_outside)
    with contextlib.ExitStack() as opened:
        if salvage and is_vmdk(place):
            yield opened.enter_context(vmdk.open_remains(place.folder, place.name))
            return
        try:
            device = opened.enter_context(targets.open_disk(disk, allow_outside=allow_outside))
        except VmdkError as error:
            if vmdk.has_remains(place.folder, place.name):
                _hint(error)
            raise
        if isinstance(device, vmdk.VmdkDevice):
            vmdk.hide_lost(device)  # rather no copy than zeros that look like one
        yield device


def _salvaged(device: BlockDevice) -> SalvageDevice:
    """A disk as far as it can be read, grain by grain, also of the disks below it."""
    from ipva_storage.device import SalvageDevice
    from ipva_storage.device.salvage import PIECE_BYTES

    sizes: list[int] = [PIECE_BYTES]
    disk: BlockDevice | None = device
    while disk is not None:
        parts = getattr(disk, "parts", ())
        sizes += [getattr(part, "grain_bytes", PIECE_BYTES) for part in parts]
        disk = getattr(disk, "parent", None)
    return SalvageDevice(device, piece_bytes=min(sizes))


def _copy(
    folder: Folder, wanted: Wanted, device: BlockDevice, source: BlockDevice, *, verify: bool
) -> None:
    """Make the image of `source`, which is `device` or what can be read of it."""
    name = wanted.path.name

    def fill(new: BlockDevice) -> None:
        from ipva_storage.device import copy

        try:
            with output.progress_bar(name) as progress:
                copy(source, new, progress=progress)
        except IpvaError as error:
            files = [file.name for file in getattr(device, "files", (device,))]
            if isinstance(error, ImageError) or error.where in files:
                _hint(error)
            raise

    def compare(place: Folder) -> None:
        with output.progress_bar(f"verifying {name}") as progress:
            _verify(place, wanted, source, progress)

    make(
        folder,
        wanted,
        device.size_bytes,
        adapter=wanted.adapter or _adapter_of(device),
        fill=fill,
        verify=compare if verify else None,
    )


def _adapter_of(device: BlockDevice) -> str:
    """The adapter that a disk names, where it is one that can be made."""
    descriptor = getattr(device, "descriptor", None)
    said = "" if descriptor is None else descriptor.ddb.get("adapterType", "").lower()
    return {each.lower(): each for each in output.ADAPTERS}.get(said, "ide")


def _hint(error: IpvaError) -> None:
    """Where the source is damaged, name the way to what is left of it."""
    hint = "copy what can be read with --salvage"
    error.remedy = hint if error.remedy is None else f"{error.remedy}; or {hint}"


def _verify(place: Folder, wanted: Wanted, source: BlockDevice, progress: Progress) -> None:
    """Read the finished disk back, from the medium where the host can, and compare.

    Raises:
        DeviceError: it cannot be read, or reads as anything else than the source.
    """
    from ipva_storage import vmdk
    from ipva_storage.device import RawDevice, SliceDevice, differences

    name = wanted.path.name
    for each in place.names():
        with RawDevice(place.resolve(each)) as file:
            file.forget()
    try:
        file = RawDevice(place.resolve(name))
        with file if wanted.kind == RAW else vmdk.open(file, place) as made:
            part = SliceDevice(made, 0, source.size_bytes)  # a VMDK is whole sectors
            found = next(differences(source, part, progress=progress), None)
    except IpvaError as error:
        if error.where is None or not error.where.startswith(str(place.path)):
            raise
        raise _unlike(wanted, f"cannot be read back ({error.message})", None) from error
    if found is not None:
        raise _unlike(wanted, "reads back as something else than the source", found[0])


def _unlike(wanted: Wanted, what: str, offset_bytes: int | None) -> DeviceError:
    return DeviceError(
        f"what was written {what}; nothing of it was kept",
        where=str(wanted.path),
        offset_bytes=offset_bytes,
        remedy="do not trust this host's disk and memory; try it elsewhere",
    )


def _lost_facts(lost: list[tuple[int, int]]) -> dict[str, Any]:
    return {
        "lost": [{"offset": offset, "length": length} for offset, length in lost],
        "lost_bytes": sum(length for _, length in lost),
    }


def _show_lost(lost: list[tuple[int, int]], size_bytes: int) -> None:
    if lost:
        size = format_size(sum(length for _, length in lost))
        output.say(f"{size} could not be read, and are zeros in it:")
        ranges.show(lost, len(lost), size_bytes)
