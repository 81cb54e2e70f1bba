"""`ipva dump`: crash dumps."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, BinaryIO

import click

from ipva_storage.cli import output, targets
from ipva_storage.errors import DumpError
from ipva_storage.units import MIB, format_size

if TYPE_CHECKING:
    from ipva_storage.dump import CrashRecord


@click.group("dump", short_help="crash dumps")
def command() -> None:
    """List, show and add crash dumps. VM may also be a dump disk's image file."""


@command.command("list")
@click.argument("vm", metavar="VM")
@output.json_option
def list_dumps(vm: str, as_json: bool) -> None:
    """List the crash dumps of VM, oldest first.

    \b
    Example:
      ipva dump list demo
    """
    from ipva_storage import dump

    with targets.open_disk(targets.disk_of(vm, "dump")) as device:
        records = dump.open(device).records()
    if as_json:
        output.document([_facts(record) for record in records])
        return
    output.table(
        [
            (
                str(each.sequence),
                f"{each.time:%Y-%m-%d %H:%M:%S}",
                each.kind,
                format_size(each.size_bytes),
                "" if each.is_valid else "damaged",
            )
            for each in records
        ],
        right=frozenset({0, 3}),
    )
    if not records:
        click.echo("no crash dumps")


@command.command()
@click.argument("vm", metavar="VM")
@click.argument("sequence", type=int, required=False)
@output.json_option
def show(vm: str, sequence: int | None, as_json: bool) -> None:
    """Print a crash dump's text, as the appliance serves it; the newest unless SEQUENCE is given.

    \b
    Example:
      ipva dump show demo
    """
    from ipva_storage import dump

    with targets.open_disk(targets.disk_of(vm, "dump")) as device:
        log = dump.open(device)
        records = log.records()
        chosen = [each for each in records if sequence in (None, each.sequence)]
        if not chosen:
            raise DumpError(
                "there is no crash dump" if sequence is None else f"there is no dump {sequence}",
                where=vm,
                remedy=f"see them with: ipva dump list {vm}",
            )
        text = log.read(chosen[-1].sequence)
    if as_json:
        output.document({**_facts(chosen[-1]), "text": text})
    else:
        click.echo(text, nl=not text.endswith("\n"))


@command.command()
@click.argument("vm", metavar="VM")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--kind", default="trap", show_default=True, help="What happened, in a word.")
@output.dry_run_option
@output.json_option
def add(vm: str, file: BinaryIO, kind: str, dry_run: bool, as_json: bool) -> None:
    """Add a crash dump with the text of FILE (or of standard input).

    \b
    Example:
      echo "trap at 0x1234" | ipva dump add demo
    """
    from ipva_storage import dump

    text = file.read(16 * MIB).decode("utf-8", "replace")
    with targets.open_disk(targets.disk_of(vm, "dump"), writable=True, dry_run=dry_run) as device:
        record = dump.open(device).append(kind, text, time=dt.datetime.now(dt.UTC))
    if as_json:
        output.document(_facts(record))
    else:
        click.echo(f"added dump {record.sequence} ({format_size(record.size_bytes)})")


@command.command()
@click.argument("vm", metavar="VM")
@output.dry_run_option
def clear(vm: str, dry_run: bool) -> None:
    """Remove all crash dumps.

    \b
    Example:
      ipva dump clear demo
    """
    from ipva_storage import dump

    with targets.open_disk(targets.disk_of(vm, "dump"), writable=True, dry_run=dry_run) as device:
        dump.open(device).clear()
    click.echo("the crash dumps are gone" if not dry_run else "the crash dumps would be gone")


@command.command()
@click.argument("vm", metavar="VM")
@output.json_option
@click.pass_context
def check(context: click.Context, vm: str, as_json: bool) -> None:
    """Check the dump disk's structure.

    \b
    Example:
      ipva dump check demo
    """
    from ipva_storage import dump

    with targets.open_disk(targets.disk_of(vm, "dump")) as device:
        findings = list(dump.check(device))
    output.report_findings(context, findings, vm, as_json=as_json)


def _facts(record: CrashRecord) -> dict[str, object]:
    return {
        "sequence": record.sequence,
        "time": record.time.astimezone(dt.UTC).isoformat().replace("+00:00", "Z"),
        "kind": record.kind,
        "size": record.size_bytes,
        "valid": record.is_valid,
    }
