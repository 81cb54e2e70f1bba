"""`ipva doctor`: the whole VM, looked at."""

from __future__ import annotations

import click

from ipva_storage.cli import output, targets


@click.command("doctor", short_help="say what is wrong with a VM")
@click.argument("vm", metavar="VM")
@output.json_option
@click.pass_context
def command(context: click.Context, vm: str, as_json: bool) -> None:
    """Look at VM: its .vmx, disks, file systems, firmware, flash and dumps. Nothing is written.

    \b
    Example:
      ipva doctor demo
    """
    from ipva_storage import doctor

    findings = list(doctor.examine(targets.open_vm(vm)))
    output.report_findings(context, findings, vm, as_json=as_json)
