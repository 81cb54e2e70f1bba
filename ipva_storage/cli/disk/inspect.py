"""`ipva disk`: VMDK and raw images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ipva_storage.cli import facts as disk_facts
from ipva_storage.cli import output, targets
from ipva_storage.units import format_size

RAW = "raw"
KINDS = (RAW, "monolithicSparse", "monolithicFlat")


@click.group("disk", short_help="VMDK and raw images")
def command() -> None:
    """Inspect, check and convert disk images."""


@command.command()
@click.argument("disk")
@output.json_option
def info(disk: str, as_json: bool) -> None:
    """Say what DISK is, down to its volumes.

    \b
    Example:
      ipva disk info demo/hd-cf.vmdk
    """
    with targets.open_disk(disk) as device:
        facts = disk_facts.disk(device)
    if as_json:
        output.document(facts)
    else:
        disk_facts.show_disk(facts)


@command.command()
@click.argument("disk")
@output.json_option
@click.pass_context
def check(context: click.Context, disk: str, as_json: bool) -> None:
    """Check the structure of DISK's image file; `fs check` looks at the files inside.

    \b
    Example:
      ipva disk check demo/hd-cf.vmdk
    """
    from ipva_storage import vmdk
    from ipva_storage.device import Folder, RawDevice

    path = targets.image_path(disk)
    with RawDevice(path) as raw:
        is_vmdk = vmdk.is_vmdk(raw)
        findings = list(vmdk.check(raw, Folder(path.parent))) if is_vmdk else []
    if not is_vmdk:  # a raw image has no structure, but an archive or a lost start is refused
        targets.open_image(path).close()
    errors = sum(found.severity == "error" for found in findings)
    facts: dict[str, Any] = {
        "errors": errors,
        "leaks": 0,
        "findings": [output.finding_json(found) for found in findings],
    }
    if as_json:
        output.document(facts)
    else:
        output.show_findings(findings)
    context.exit(output.status_of(findings))


@command.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@click.option(
    "-O",
    "kind",
    type=click.Choice(KINDS),
    required=True,
    help="Kind of image to make.",
)
@output.force_option
@output.json_option
def convert(source: str, target: str, kind: str, force: bool, as_json: bool) -> None:
    """Copy disk IN to a new image OUT of another kind; holes stay holes.

    \b
    Example:
      ipva disk convert demo/hd-cf.vmdk cf.img -O raw
    """
    from ipva_storage import vmdk
    from ipva_storage.device import BlockDevice, copy

    path = Path(target)
    targets.refuse_source(source, path)
    folder = targets.output_folder(path)
    with targets.open_disk(source) as device, output.progress_bar(path.name) as progress:

        def fill(new: BlockDevice) -> None:
            copy(device, new, progress=progress)

        if kind == RAW:
            with folder.new_file(path.name, force=force) as file:
                file.resize(device.size_bytes)
                fill(file)
        else:
            vmdk.create(
                folder, path.name, device.size_bytes, subformat=kind, force=force, fill=fill
            )
        size_bytes = device.size_bytes
    if as_json:
        output.document({"file": target, "format": kind, "virtual_size": size_bytes})
    else:
        output.say(f"made {target} ({kind}, {format_size(size_bytes)})")
