"""`ipva fs format`: an empty FAT volume, with a partition table or without."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ipva_storage.cli import guard, output, targets
from ipva_storage.errors import UsageError
from ipva_storage.units import format_size, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

_BOOT_CODE_BYTES_MAX: Final = 512


class Bytes(click.ParamType[int]):
    """A length like `512` or `4K`."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The length in bytes."""
        try:
            return value if isinstance(value, int) else parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class VolumeId(click.ParamType[int]):
    """A volume id of up to eight hexadecimal digits, as other programs show it: `1234-ABCD`."""

    name = "ID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The id as a number."""
        if isinstance(value, int):
            return value
        digits = value.replace("-", "", 1)
        if not 1 <= len(digits) <= 8 or not set(digits.lower()) <= set("0123456789abcdef"):
            self.fail(
                f"“{value}” is not up to eight hexadecimal digits, like 1234-ABCD", param, ctx
            )
        return int(digits, 16)


_OPTIONS: Final = (
    click.option(
        "--fat", type=click.Choice(["12", "16", "32"]), help="Kind; by size if not given."
    ),
    click.option("--label", help="Volume label, up to 11 characters."),
    click.option("--cluster-size", type=Bytes(), help="Such as 4K; by size if not given."),
    click.option("--sector-size", type=Bytes(), help="512 (if not given), 1K, 2K or 4K."),
    click.option("--reserved", type=int, metavar="N", help="Sectors before the tables."),
    click.option("--fats", type=int, metavar="N", help="Copies of the table; 2 if not given."),
    click.option("--root-entries", type=int, metavar="N", help="Room in the root of FAT12 and 16."),
    click.option("--volume-id", type=VolumeId(), help="Such as 1234-ABCD; by time if not given."),
    click.option("--boot-code", metavar="FILE", help="Code for the boot sector."),
)


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command("format")
@click.argument("disk")
@_options
@click.option("--partition", is_flag=True, help="With a partition table, and the volume in it.")
@output.force_option
@output.dry_run_option
@output.json_option
def format_volume(
    disk: str, partition: bool, force: bool, dry_run: bool, as_json: bool, **wishes: Any
) -> None:
    """Make an empty FAT volume over the whole of DISK.

    Refused while it holds anything, unless --force. What is not asked for follows from the size,
    as mkfs.fat chooses. With SOURCE_DATE_EPOCH set, the same comes out every time.

    \b
    Example:
      ipva fs format demo#cf --label CF0 --force
    """
    from ipva_storage import fat

    wanted = _wishes(**wishes)
    with targets.open_disk(disk, writable=True, dry_run=dry_run) as device:
        if not force:
            guard.refuse_content(device, disk, purpose="volumes")
        if partition:
            volume = fat.open(fat.format_partitioned(device, **wanted))
        else:
            fat.format(device, **wanted)
            volume = fat.open(device)
        facts = {
            "fat": volume.fat_bits,
            "size": volume.size_bytes,
            "free": volume.free_bytes,
            "cluster": volume.cluster_bytes,
            "partitioned": partition,
        }
    if as_json:
        output.document(facts)
        return
    verb = "would format" if dry_run else "formatted"
    output.say(f"{verb} as FAT{facts['fat']}, {format_size(facts['free'])} free")


def _wishes(
    *,
    fat: str | None,
    sector_size: int | None,
    fats: int | None,
    boot_code: str | None,
    cluster_size: int | None,
    reserved: int | None,
    root_entries: int | None,
    **rest: Any,
) -> dict[str, Any]:
    """The options as arguments of `fat.format`."""
    given = {
        "fat_bits": None if fat is None else int(fat),
        "cluster_bytes": cluster_size,
        "sector_bytes": sector_size,
        "reserved_sectors": reserved,
        "fat_count": fats,
        "root_entry_count": root_entries,
        "boot_code": None if boot_code is None else _boot_code(boot_code),
    }
    return {name: value for name, value in given.items() if value is not None} | rest


def _boot_code(name: str) -> bytes:
    """The code in a file.

    Raises:
        UsageError: it cannot be read, or is longer than a boot sector.
    """
    try:
        with Path(name).open("rb") as file:
            code = file.read(_BOOT_CODE_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"it cannot be read: {error.strerror}", where=name) from error
    if len(code) > _BOOT_CODE_BYTES_MAX:
        raise UsageError(
            f"it is longer than a boot sector, which has {_BOOT_CODE_BYTES_MAX} bytes",
            where=name,
            remedy="name a file with the boot sector alone",
        )
    return code
