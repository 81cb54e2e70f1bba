"""`ipva dump`: crash dumps."""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING, BinaryIO

import click

from ipva_storage.cli import guard, output, targets
from ipva_storage.errors import DumpError, UsageError
from ipva_storage.units import MIB, format_size, printable

if TYPE_CHECKING:
    from ipva_storage.dump import CrashRecord


TEXT_LIMIT_BYTES = MIB


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
        output.say("no crash dumps")


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
        _show(text)


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

    content = file.read(TEXT_LIMIT_BYTES + 1)
    if not content or len(content) > TEXT_LIMIT_BYTES:
        raise UsageError(
            "a crash dump has 1 byte to 1 MiB of text",
            where=file.name,
            remedy="give the end of it, like: tail -c 1M FILE | ipva dump add VM",
        )
    text = content.decode("utf-8", "replace")
    with targets.open_disk(targets.disk_of(vm, "dump"), writable=True, dry_run=dry_run) as device:
        record = dump.open(device).append(kind, text, time=dt.datetime.now(dt.UTC))
    if as_json:
        output.document(_facts(record))
    else:
        done = "would add" if dry_run else "added"
        output.say(f"{done} dump {record.sequence} ({format_size(record.size_bytes)})")


@command.command()
@click.argument("vm", metavar="VM")
@output.dry_run_option
@output.json_option
def clear(vm: str, dry_run: bool, as_json: bool) -> None:
    """Remove all crash dumps.

    \b
    Example:
      ipva dump clear demo
    """
    from ipva_storage import dump

    with targets.open_disk(targets.disk_of(vm, "dump"), writable=True, dry_run=dry_run) as device:
        log = dump.open(device)
        count = len(log.records())
        log.clear()
    if as_json:
        output.document({"removed": count})
    else:
        output.say(f"crash dumps {'that would be removed' if dry_run else 'removed'}: {count}")


@command.command("format")
@click.argument("vm", metavar="VM")
@output.force_option
@output.dry_run_option
@output.json_option
def format_disk(vm: str, force: bool, dry_run: bool, as_json: bool) -> None:
    """Make the dump disk empty. Refused while it holds anything, unless --force.

    \b
    Example:
      ipva dump format demo --force
    """
    from ipva_storage import dump

    disk = targets.disk_of(vm, "dump")
    with targets.open_disk(disk, writable=True, dry_run=dry_run) as device:
        if not force:
            guard.refuse_content(device, disk, purpose="dumps")
        dump.format(device)
    if as_json:
        output.document({"formatted": not dry_run})
    else:
        output.say("the dump disk would be empty" if dry_run else "the dump disk is empty")


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


def _show(text: str) -> None:
    """Print a dump as it is; on a terminal, with escapes for what the terminal would obey."""
    if sys.stdout.isatty():
        text = "\n".join(printable(line) for line in text.splitlines())
    click.echo(text, nl=not text.endswith("\n"))


def _facts(record: CrashRecord) -> dict[str, object]:
    return {
        "sequence": record.sequence,
        "time": record.time.astimezone(dt.UTC).isoformat().replace("+00:00", "Z"),
        "kind": record.kind,
        "size": record.size_bytes,
        "valid": record.is_valid,
    }
