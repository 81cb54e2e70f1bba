"""`ipva new`: make an appliance."""

from __future__ import annotations

from pathlib import Path

import click

from ipva_storage.cli import output
from ipva_storage.errors import FirmwareError, UsageError
from ipva_storage.units import MIB


@click.command("new", short_help="make an appliance")
@click.argument("folder", metavar="DIR")
@click.option(
    "--ram",
    "ram_bytes",
    type=output.Size(MIB),
    default="64",
    show_default=True,
    help="RAM of the VM; a plain number is MiB.",
)
@click.option(
    "--cf-size",
    "cf_bytes",
    type=output.Size(),
    default="1G",
    show_default=True,
    help="Size of the CompactFlash disk.",
)
@click.option(
    "--firmware",
    type=click.Path(exists=True, dir_okay=False),
    help="A firmware file to put on the boot disk as ipva.bin, instead of the stand-in.",
)
@click.option(
    "--subformat",
    type=click.Choice(output.REWRITABLE),
    default="monolithicSparse",
    show_default=True,
    help="Kind of VMDK.",
)
@output.force_option
@output.json_option
def command(
    folder: str,
    ram_bytes: int,
    cf_bytes: int,
    firmware: str | None,
    subformat: str,
    force: bool,
    as_json: bool,
) -> None:
    """Make an appliance in DIR: ipva.vmx and four VMDK disks.

    \b
    Example:
      ipva new demo2 --ram 192
    """
    from ipva_storage import appliance
    from ipva_storage.device import Folder, RawDevice, read

    if not folder:
        raise UsageError("the folder has no name", remedy="name one, like: ipva new demo")
    image = None
    if firmware is not None:
        with RawDevice(firmware) as file:
            image = read(file, 0, file.size_bytes)
        _warn_of_unknown(image, firmware)
    machine = appliance.create(
        Folder(folder),
        ram_bytes=ram_bytes,
        cf_bytes=cf_bytes,
        firmware=image,
        subformat=subformat,
        force=force,
    )
    disks = {str(role): str(Path(folder) / machine.disk_name(role)) for role in appliance.Role}
    vmx = str(Path(folder) / machine.vmx_name)
    if as_json:
        output.document({"vmx": vmx, "disks": disks})
        return
    output.say(f"made {vmx}")
    for role, path in disks.items():
        output.say(f"     {path} ({role})")
    output.say(f"boot it with: ipva boot {folder}")


def _warn_of_unknown(image: bytes, name: str) -> None:
    """Say beforehand that a firmware not of our own layout will not boot here."""
    from ipva_storage import boot

    try:
        boot.parse_firmware(image)
    except FirmwareError as error:
        output.say(f"note: {name}: {error.message}; it is copied as it is", err=True)
        output.say("note: the simulator boots firmware of our own layout only", err=True)
