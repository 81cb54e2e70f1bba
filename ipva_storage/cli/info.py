"""`ipva info`: what a VM or a disk is."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING, Any

import click

from ipva_storage.cli import facts as disk_facts
from ipva_storage.cli import output, targets
from ipva_storage.errors import IpvaError, UsageError
from ipva_storage.units import MIB, format_size, printable

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
    parts = [facts, *facts.get("disks", ())]
    context.exit(output.PROBLEMS if any(map(disk_facts.has_unreadable, parts)) else 0)


def _refuse_unknown(device: BlockDevice, facts: dict[str, Any]) -> None:
    """A raw file in which nothing is recognised may be anything: say so instead of guessing."""
    if facts["format"] != "raw" or "content" not in facts:
        return
    if any(run.is_data for run in device.extents()):
        raise UsageError(
            "nothing in it is recognised: no VMDK, partition table, FAT volume, flash or dump disk",
            where=device.name,
            remedy="for its size alone, use: ipva disk info",
        )


def machine(vm: Appliance) -> dict[str, Any]:
    """Facts of a VM: RAM, what of it the flash directory may use, and each disk.

    With a RAM size that no appliance starts with, `error` says so and `segments` is None.
    """
    from ipva_storage.appliance import Role
    from ipva_storage.flash import DEFAULT_RULE

    facts: dict[str, Any] = {
        "kind": "vm",
        "vmx": printable(str(vm.folder.path / vm.vmx_name)),
        "ram": None,
        "segments": None,
    }
    try:
        facts["ram"] = vm.ram_bytes
        facts["segments"] = DEFAULT_RULE.segment_count(vm.ram_bytes)
    except IpvaError as error:
        facts["error"] = printable(targets.describe(error))
    return facts | {"disks": [_disk(vm, role, facts["segments"]) for role in Role]}


def _disk(vm: Appliance, role: Role, segment_limit: int | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"role": str(role), "node": role.node}
    try:
        with contextlib.closing(vm.open_disk(role)) as device:
            facts |= disk_facts.disk(device, segment_limit=segment_limit)
    except IpvaError as error:
        return facts | {"error": printable(targets.describe(error))}
    if segment_limit is None and "flash" in facts:
        facts["flash"]["segments"]["usable"] = None  # the RAM decides it, and is not known
    return facts


def show_machine(facts: dict[str, Any]) -> None:
    """Print the facts of a VM for people."""
    ram = "unknown" if facts["ram"] is None else format_size(facts["ram"])
    text = f"{facts['vmx']}: {ram} RAM"
    if "error" not in facts:
        count = facts["segments"]
        text += f", the flash directory may use {count} segment{'s' if count > 1 else ''}"
    output.say(text)
    if "error" in facts:
        output.say(f"  it does not start: {facts['error']}")
    for disk in facts["disks"]:
        output.say(f"{disk['role']} (IDE {disk['node']})")
        if "error" in disk:
            output.say(f"  {disk['error']}")
        else:
            disk_facts.show_disk(disk, indent="  ")
        if not disk.get("flash", {}).get("fits", True):
            plan = f"ipva flash plan {shlex.quote(facts['vmx'])} --ram {facts['ram'] // MIB}"
            output.say(f"  that does not fit: the next boot loses objects; to see them: {plan}")
