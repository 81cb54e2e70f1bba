"""`ipva flash`: the emulated flash and its directory of objects."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from ipva_storage.cli import facts as disk_facts
from ipva_storage.cli import guard, output, targets
from ipva_storage.errors import FlashNotFoundError, NoSpaceError, UsageError
from ipva_storage.units import MIB, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.flash import FlashDirectory

VALUE_LIMIT_BYTES = 16 * MIB


@click.group("flash", short_help="the emulated flash")
def command() -> None:
    """Look at and change the flash directory. VM may also be a flash disk's image file.

    The layout is our own: the appliance's is not public, and a real hd-flash shows as unknown.
    """


@contextlib.contextmanager
def open_directory(
    vm: str, *, writable: bool = False, dry_run: bool = False
) -> Iterator[FlashDirectory]:
    """The flash directory of a VM or disk, with the segments that the VM's RAM allows."""
    from ipva_storage import flash

    limit = None
    if targets.is_vm(vm):
        limit = flash.DEFAULT_RULE.segment_count(targets.open_vm(vm).ram_bytes)
    disk = targets.disk_of(vm, "flash")
    with targets.open_disk(disk, writable=writable, dry_run=dry_run) as device:
        nor = flash.NorDevice(device)
        directory = flash.open(nor, segment_limit=limit, read_only=not writable)
        yield directory
        if writable:
            directory.close()


@command.command()
@click.argument("vm", metavar="VM")
@output.json_option
def info(vm: str, as_json: bool) -> None:
    """Say how full and how worn the flash directory is.

    \b
    Example:
      ipva flash info demo
    """
    with open_directory(vm) as directory:
        facts = disk_facts.directory_use(directory)
    if as_json:
        output.document(facts)
        return
    segments, wear = facts["segments"], facts["wear"]
    rows = [
        ("segments", f"{segments['physical']} physical, {segments['usable']} usable with this RAM"),
        ("", f"{segments['used']} in use"),
        ("objects", str(facts["objects"])),
        ("used", format_size(facts["used"])),
        ("free", format_size(facts["free"])),
        ("wear", f"{wear['min']} to {wear['max']} erases a segment"),
    ]
    output.table(rows)


@command.command("ls")
@click.argument("vm", metavar="VM")
@output.json_option
def list_objects(vm: str, as_json: bool) -> None:
    """List the objects by name, with the size of each.

    \b
    Example:
      ipva flash ls demo
    """
    from ipva_storage.appliance.power import printable

    with open_directory(vm) as directory:
        rows = [(printable(key), len(value)) for key, value in sorted(directory.items())]
    if as_json:
        output.document([{"name": name, "size": size} for name, size in rows])
    else:
        output.table(((str(size), name) for name, size in rows), right=frozenset({0}))


@command.command()
@click.argument("vm", metavar="VM")
@click.argument("name")
@click.argument("out", type=click.Path(dir_okay=False), default="-")
@output.force_option
def get(vm: str, name: str, out: str, force: bool) -> None:
    """Write the object NAME to a file, or to standard output.

    \b
    Example:
      ipva flash get demo alice
    """
    with open_directory(vm) as directory:
        try:
            value = directory.get(_key(name))
        except FlashNotFoundError as error:
            raise _unknown(vm, name) from error
    if out == "-":
        sys.stdout.buffer.write(value)
        return
    path = Path(out)
    targets.refuse_source(targets.disk_of(vm, "flash"), path)
    with targets.output_folder(path).new_file(path.name, force=force) as file:
        file.resize(len(value))
        file.write(0, value)


@command.command()
@click.argument("vm", metavar="VM")
@click.argument("name")
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--value", help="The object itself, instead of FILE.")
@output.dry_run_option
@output.json_option
def put(
    vm: str,
    name: str,
    file: BinaryIO | None,
    value: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Store FILE (or standard input, or --value) as the object NAME; replaces it as a whole.

    \b
    Example:
      ipva flash put demo alice --value "(cn=Alice)(h323=alice)"
    """
    if value is not None and file is not None:
        raise UsageError("both FILE and --value were given", remedy="give one of them")
    if value is not None:
        content = value.encode("utf-8", "surrogateescape")
    else:
        source = sys.stdin.buffer if file is None else file
        content = source.read(VALUE_LIMIT_BYTES + 1)
        if len(content) > VALUE_LIMIT_BYTES:
            raise UsageError(f"the object is larger than {format_size(VALUE_LIMIT_BYTES)}")
    with open_directory(vm, writable=True, dry_run=dry_run) as directory:
        directory.put(_key(name), content)
    if as_json:
        output.document({"name": name, "size": len(content)})
    else:
        output.say(f"{'would store' if dry_run else 'stored'} {name} ({format_size(len(content))})")


@command.command()
@click.argument("vm", metavar="VM")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@output.dry_run_option
@output.json_option
def rm(vm: str, names: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Delete objects, all or none; in a full flash one after the other, because all need room.

    \b
    Example:
      ipva flash rm demo alice
    """
    with open_directory(vm, writable=True, dry_run=dry_run) as directory:
        for name in names:
            if _key(name) not in directory:
                raise _unknown(vm, name)
        _delete(directory, [_key(name) for name in names])
    if as_json:
        output.document({"removed": list(names)})
    else:
        output.say(f"{'would remove' if dry_run else 'removed'} {', '.join(names)}")


@command.command()
@click.argument("vm", metavar="VM")
@click.option(
    "--ram",
    "ram_bytes",
    type=output.Size(MIB),
    required=True,
    help="The RAM to plan for; a plain number is MiB.",
)
@output.json_option
@click.pass_context
def plan(context: click.Context, vm: str, ram_bytes: int, as_json: bool) -> None:
    """Say how many segments RAM leaves, and list every object that a boot with it would lose.

    Exit status 1 when any would be lost. Nothing is written.

    \b
    Example:
      ipva flash plan demo --ram 20
    """
    from ipva_storage import flash
    from ipva_storage.appliance.power import printable

    segment_count = flash.DEFAULT_RULE.segment_count(ram_bytes)
    with open_directory(vm) as directory:
        shrink = directory.plan(segment_count)
    minimum = flash.DEFAULT_RULE.minimum_ram_bytes(shrink.needed_segment_count)
    lost = [printable(key) for key in shrink.lost]
    if as_json:
        output.document(
            {
                "ram": ram_bytes,
                "segments": segment_count,
                "fits": shrink.fits,
                "needed_segments": shrink.needed_segment_count,
                "minimum_ram": minimum,
                "lost": lost,
            }
        )
    else:
        output.say(f"segments with {format_size(ram_bytes)} RAM: {segment_count}")
        output.say(
            f"segments needed: {shrink.needed_segment_count}, "
            f"so at least {format_size(minimum)} RAM"
        )
        if shrink.fits:
            output.say("nothing would be lost")
        for name in lost:
            output.say(f"lost: {name}")
    context.exit(output.PROBLEMS if lost else 0)


@command.command()
@click.argument("vm", metavar="VM")
@output.json_option
@click.pass_context
def check(context: click.Context, vm: str, as_json: bool) -> None:
    """Check the flash directory's structure and every object's checksum.

    \b
    Example:
      ipva flash check demo
    """
    from ipva_storage import flash

    with targets.open_disk(targets.disk_of(vm, "flash")) as device:
        findings = list(flash.check(flash.NorDevice(device)))
    output.report_findings(context, findings, vm, as_json=as_json)


@command.command("format")
@click.argument("vm", metavar="VM")
@output.force_option
@output.dry_run_option
@output.json_option
def format_flash(vm: str, force: bool, dry_run: bool, as_json: bool) -> None:
    """Make the flash empty. Refused while it holds anything, unless --force.

    \b
    Example:
      ipva flash format demo --force
    """
    from ipva_storage import flash

    disk = targets.disk_of(vm, "flash")
    with targets.open_disk(disk, writable=True, dry_run=dry_run) as device:
        if not force:
            guard.refuse_content(device, disk, purpose="flash")
        flash.format(flash.NorDevice(device))
    if as_json:
        output.document({"formatted": not dry_run})
    else:
        output.say("the flash would be empty" if dry_run else "the flash is empty")


def _delete(directory: FlashDirectory, keys: list[bytes]) -> None:
    try:
        directory.batch(dict.fromkeys(keys))
    except NoSpaceError:
        for key in dict.fromkeys(keys):
            directory.delete(key)


def _key(name: str) -> bytes:
    """An object's name as typed, byte for byte, whatever the terminal's encoding."""
    return name.encode("utf-8", "surrogateescape")


def _unknown(vm: str, name: str) -> FlashNotFoundError:
    return FlashNotFoundError(
        f"there is no object “{name}”", where=vm, remedy=f"see them with: ipva flash ls {vm}"
    )
