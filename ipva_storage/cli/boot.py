"""`ipva boot`: power the simulated appliance on."""

from __future__ import annotations

import click

from ipva_storage.cli import output, targets
from ipva_storage.units import MIB


@click.command("boot", short_help="boot the simulated appliance")
@click.argument("vm", metavar="VM")
@click.option(
    "--ram",
    "ram_bytes",
    type=output.Size(MIB),
    help="Boot with this RAM instead of the .vmx's; a plain number is MiB. "
    "Less RAM can lose objects: see `ipva flash plan` first.",
)
@output.dry_run_option
@output.json_option
@click.pass_context
def command(
    context: click.Context, vm: str, ram_bytes: int | None, dry_run: bool, as_json: bool
) -> None:
    """Boot VM and print its trace, or the console error where it stops.

    The flash directory is mounted, recovered and fitted to the RAM as the appliance does it: with
    less RAM, objects that do not fit are lost. `--dry-run` shows that and keeps them. Exit status
    1: it did not boot, or objects were lost.

    \b
    Example:
      ipva boot demo --ram 192
    """
    from ipva_storage import appliance
    from ipva_storage.appliance.power import printable

    result = appliance.boot(targets.open_vm(vm), ram_bytes=ram_bytes, dry_run=dry_run)
    if as_json:
        output.document(
            {
                "booted": result.booted,
                "error": result.error,
                "reason": result.reason,
                "trace": list(result.trace),
                "ram": result.ram_bytes,
                "dram": result.dram_bytes,
                "segments": result.segments,
                "lost": [printable(key) for key in result.lost],
            }
        )
    else:
        for line in result.trace:
            output.say(line)
        if result.error is not None:
            output.say(result.error)
            if result.reason is not None and result.reason != result.error:
                output.say(f"ipva: {result.reason}", err=True)
        if result.lost:
            would = "would be" if dry_run else "were"
            output.say(f"objects that {would} lost: {len(result.lost)} (too little RAM)", err=True)
    context.exit(0 if result.booted and not result.lost else output.PROBLEMS)
