"""`ipva disk create`, and making images of every kind, whole or not at all."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from ipva_storage.cli import output, targets
from ipva_storage.cli.disk.place import new_path
from ipva_storage.errors import UsageError
from ipva_storage.units import SECTOR_BYTES, format_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ipva_storage.device import BlockDevice, Folder

RAW: Final = "raw"
STREAM: Final = "streamOptimized"
KINDS: Final = (RAW, *output.SUBFORMATS)
DEFAULT_LEVEL: Final = 6
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
