"""`ipva info`: what a VM or a disk is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ipva_storage.cli import facts as disk_facts
from ipva_storage.cli import output, targets
from ipva_storage.errors import IpvaError, UsageError
from ipva_storage.units import format_size

if TYPE_CHECKING:
    from ipva_storage.appliance import Appliance, Role
    from ipva_storage.device import BlockDevice


@click.command("info", short_help="say what a VM or a disk is")
@click.argument("target", metavar="TARGET")
@output.json_option
@click.pass_context
def command(context: click.Context, target: str, as_json: bool) -> None:
    """Say what TARGET is: a VM (folder or .vmx) or a disk image. Nothing is written.

    \b
    Example:
      ipva info demo
    """
    if targets.is_vm(target):
        facts = machine(targets.open_vm(target))
        show = show_machine
    else:
        with targets.open_disk(target) as device:
            facts = disk_facts.disk(device)
            _refuse_unknown(device, facts)
        show = disk_facts.show_disk
    if as_json:
        output.document(facts)
    else:
        show(facts)
    context.exit(output.PROBLEMS if any("error" in disk for disk in facts.get("disks", ())) else 0)


def _refuse_unknown(device: BlockDevice, facts: dict[str, Any]) -> None:
    """A raw file in which nothing is recognised may be anything: say so instead of guessing."""
    is_blank = not any(run.is_data for run in device.extents())
    if facts["format"] == "raw" and "content" in facts and not is_blank:
        raise UsageError(
            "nothing in it is recognised: no VMDK, partition table, FAT volume, flash or dump disk",
            where=device.name,
            remedy="for its size alone, use: ipva disk info",
        )


def machine(vm: Appliance) -> dict[str, Any]:
    """Facts of a VM: RAM, what of it the flash directory may use, and each disk."""
    from ipva_storage.appliance import Role
    from ipva_storage.flash import DEFAULT_RULE

    try:
        segment_count: int | None = DEFAULT_RULE.segment_count(vm.ram_bytes)
    except IpvaError:  # less RAM than the appliance starts with
        segment_count = None
    return {
        "kind": "vm",
        "vmx": str(vm.folder.path / vm.vmx_name),
        "ram": vm.ram_bytes,
        "segments": segment_count,
        "disks": [_disk(vm, role, segment_count) for role in Role],
    }


def _disk(vm: Appliance, role: Role, segment_limit: int | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"role": str(role), "node": role.node}
    try:
        device = vm.open_disk(role)
        try:
            return facts | disk_facts.disk(device, segment_limit=segment_limit)
        finally:
            device.close()
    except IpvaError as error:
        return facts | {"error": targets.describe(error)}


def show_machine(facts: dict[str, Any]) -> None:
    """Print the facts of a VM for people."""
    segments = (
        "too little to start"
        if facts["segments"] is None
        else (f"the flash directory may use {facts['segments']} segments")
    )
    click.echo(f"{facts['vmx']}: {format_size(facts['ram'])} RAM, {segments}")
    for disk in facts["disks"]:
        click.echo(f"{disk['role']} (IDE {disk['node']})")
        if "error" in disk:
            click.echo(f"  {disk['error']}")
        else:
            disk_facts.show_disk(disk, indent="  ")
