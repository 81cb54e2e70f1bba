"""`ipva disk convert, create`: making images."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from ipva_storage.cli import output, targets
from ipva_storage.cli.disk import ranges
from ipva_storage.cli.disk.place import new_path
from ipva_storage.errors import DeviceError, ImageError, IpvaError, UsageError
from ipva_storage.units import SECTOR_BYTES, format_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ipva_storage.device import BlockDevice, Folder
    from ipva_storage.progress import Progress

RAW: Final = "raw"
STREAM: Final = "streamOptimized"
KINDS: Final = (RAW, *output.SUBFORMATS)
DEFAULT_LEVEL: Final = 3
"""The same as in `ipva_storage.vmdk.codec`, here so that `--help` imports nothing of it."""

adapter_option = click.option(
    "--adapter",
    type=click.Choice(output.ADAPTERS),
    help="Adapter that a VMDK's descriptor names; IDE, or what the source has, unless given.",
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user wants to have made."""

    path: Path
    kind: str
    adapter: str | None
    level: int | None
    force: bool

    def __post_init__(self) -> None:
        """Refuse what makes no sense together.

        Raises:
            UsageError: it does not.
        """
        where = str(self.path)
        if self.level is not None and self.kind != STREAM:
            raise UsageError(
                f"--level is for {STREAM} only; {self.kind} is not compressed",
                where=where,
                remedy=f"leave it out, or use -O {STREAM}",
            )
        if self.adapter is not None and self.kind == RAW:
            raise UsageError(
                "--adapter is for VMDK only; a raw image has no descriptor",
                where=where,
                remedy="leave it out, or choose another kind with -O",
            )
        is_vmdk_name = self.path.suffix.lower() == ".vmdk"
        if self.kind == RAW and is_vmdk_name and not self.path.stem.lower().endswith("-flat"):
            raise UsageError(
                "a raw image of that name would be taken for a damaged VMDK",
                where=where,
                remedy="name it .img, or choose another kind with -O",
            )

    def names(self, size_bytes: int) -> list[str]:
        """Names of all files that are to be made."""
        if self.kind == RAW:
            return [self.path.name]
        from ipva_storage import vmdk

        return vmdk.file_names(self.path.name, size_bytes, self.kind)


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
    from ipva_storage.device import SalvageDevice

    wanted = Wanted(new_path(target), kind, adapter, level, force)
    folder = targets.output_folder(wanted.path)
    with targets.open_disk(source, allow_outside=allow_outside) as device:
        names = wanted.names(device.size_bytes)
        targets.refuse_files(device, (folder.path / name for name in names))
        salvaged = SalvageDevice(device) if salvage else None
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
            _hint(error, device)
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


def make(
    folder: Folder,
    wanted: Wanted,
    size_bytes: int,
    *,
    adapter: str,
    fill: Callable[[BlockDevice], None] | None = None,
    verify: Callable[[Folder], None] | None = None,
) -> None:
    """Make an image of any kind, also a raw one; arguments as for `vmdk.create`."""
    name = wanted.path.name
    if wanted.kind != RAW:
        from ipva_storage import vmdk

        vmdk.create(
            folder,
            name,
            size_bytes,
            subformat=wanted.kind,
            adapter=adapter,
            force=wanted.force,
            level=wanted.level or DEFAULT_LEVEL,
            fill=fill,
            verify=verify,
        )
        return
    from ipva_storage.device.staging import staged

    with staged(folder, last=name, force=wanted.force, names=[name]) as place:
        with place.new_file(name) as file:
            file.resize(size_bytes)
            if fill is not None:
                fill(file)
        if verify is not None:
            verify(place)


def _adapter_of(device: BlockDevice) -> str:
    """The adapter that a disk names, where it is one that can be made."""
    descriptor = getattr(device, "descriptor", None)
    said = "" if descriptor is None else descriptor.ddb.get("adapterType", "").lower()
    return {each.lower(): each for each in output.ADAPTERS}.get(said, "ide")


def _hint(error: IpvaError, device: BlockDevice) -> None:
    """Where the source is damaged, name the way to what is left of it."""
    files = [file.name for file in getattr(device, "files", (device,))]
    if isinstance(error, ImageError) or error.where in files:
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


@click.command()
@click.argument("file", metavar="FILE")
@click.argument("size_bytes", metavar="SIZE", type=output.Size())
@click.option(
    "-O",
    "kind",
    type=click.Choice(KINDS),
    default="monolithicSparse",
    show_default=True,
    help="Kind of image to make.",
)
@adapter_option
@output.force_option
@output.json_option
def create(
    file: str, size_bytes: int, kind: str, adapter: str | None, force: bool, as_json: bool
) -> None:
    """Make an empty disk of SIZE in FILE; it takes next to no space on the host.

    \b
    Example:
      ipva disk create bigger.vmdk 4G
    """
    wanted = Wanted(new_path(file), kind, adapter, None, force)
    folder = targets.output_folder(wanted.path)
    size_bytes = -(-size_bytes // SECTOR_BYTES) * SECTOR_BYTES
    if not size_bytes:
        raise UsageError("a disk of no bytes cannot be", where=file, remedy="write a size like 1G")
    make(folder, wanted, size_bytes, adapter=adapter or "ide")
    if as_json:
        names = [str(folder.path / name) for name in wanted.names(size_bytes)]
        output.document({"file": file, "format": kind, "virtual_size": size_bytes, "files": names})
        return
    output.say(f"made {file} ({kind}, {format_size(size_bytes)}), empty")
    if kind != STREAM:
        output.say(f"for a FAT volume on it: ipva fs format {shlex.quote(file)}")
