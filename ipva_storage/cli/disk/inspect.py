"""`ipva disk info, check, map, diff`: looking at images without writing to them."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

import click

from ipva_storage.cli import facts as disk_facts
from ipva_storage.cli import output, targets
from ipva_storage.cli.disk import ranges
from ipva_storage.device import Folder, RawDevice
from ipva_storage.units import format_size, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipva_storage.device import BlockDevice
    from ipva_storage.findings import Finding

LEAK: Final = "VMDK030"
"""The finding for space of a file that nothing uses."""


@click.command()
@click.argument("disk")
@output.outside_option
@output.json_option
def info(disk: str, allow_outside: bool, as_json: bool) -> None:
    """Say what DISK is: its kind, its files, the disks below it, and its volumes.

    \b
    Example:
      ipva disk info demo/hd-cf.vmdk
    """
    with targets.open_disk(disk, allow_outside=allow_outside) as device:
        facts = disk_facts.disk(device) | _image_facts(device)
    if as_json:
        output.document(facts)
        return
    disk_facts.show_disk(facts)
    if len(facts["files"]) > 1:
        output.say(f"  files: {_some(facts['files'])}")
    if facts["parents"]:
        output.say(f"  changes since a snapshot; below it: {_some(facts['parents'])}")


def _image_facts(device: BlockDevice) -> dict[str, Any]:
    """The files of a disk, and the disks that show through it, the next one first."""
    parents = []
    parent = getattr(device, "parent", None)
    while parent is not None:
        parents.append(printable(parent.name))
        parent = parent.parent
    files = [printable(file.name) for file in getattr(device, "files", (device,))]
    return {"files": files, "parents": parents}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 5 else ""
    return ", ".join(names[:4] if more else names) + more


@click.command()
@click.argument("disk")
@output.outside_option
@output.json_option
@click.pass_context
def check(context: click.Context, disk: str, allow_outside: bool, as_json: bool) -> None:
    """Check the structure of DISK's image file; `fs check` looks at the files inside.

    Status 1 where anything is wrong. Of a snapshot's child the chain of parents is checked, and not
    the structure of each.

    \b
    Example:
      ipva disk check demo/hd-cf.vmdk
    """
    findings = [output.placed(each, disk) for each in _findings(disk, allow_outside=allow_outside)]
    leaks = [each for each in findings if each.code == LEAK]
    if as_json:
        output.document(
            {
                "errors": sum(each.severity == "error" for each in findings),
                "leaks": sum(each.count or 1 for each in leaks),
                "leaked_bytes": sum(each.length_bytes or 0 for each in leaks),
                "findings": [output.finding_json(each) for each in findings],
            }
        )
    else:
        output.show_findings(findings)
        if leaks and not any(each.severity != "info" for each in findings):
            output.say(f"to give that space back: ipva disk compact {shlex.quote(disk)}")
    context.exit(output.status_of(findings))


def _findings(disk: str, *, allow_outside: bool) -> Sequence[Finding]:
    from ipva_storage import vmdk

    path = targets.image_path(disk, allow_outside=allow_outside)
    folder = Folder(path.parent, allow_outside=allow_outside)
    lost = vmdk.lost_descriptor(folder, path.name)
    if lost is not None:
        return [lost]
    with RawDevice(path) as raw, output.progress_bar(path.name) as progress:
        if vmdk.is_vmdk(raw) or vmdk.is_beheaded(raw):
            return list(vmdk.check(raw, folder, progress=progress))
    # a raw image has no structure, but an archive is refused
    targets.open_image(path).close()
    return []


@click.command("map")
@click.argument("disk")
@output.outside_option
@output.json_option
def map_runs(disk: str, allow_outside: bool, as_json: bool) -> None:
    """List the runs of DISK that hold data, and the holes between them, which read as zeros.

    \b
    Example:
      ipva disk map demo/hd-cf.vmdk
    """
    with targets.open_disk(disk, allow_outside=allow_outside) as device:
        if as_json:
            _print_map(device)
        else:
            _show_map(device)


def _print_map(device: BlockDevice) -> None:
    with ranges.JsonList() as found:
        for run in device.extents():
            found.add({"offset": run.offset_bytes, "length": run.length_bytes, "data": run.is_data})
        found.print()


def _show_map(device: BlockDevice) -> None:
    width = max(len(str(device.size_bytes)), len("length"))
    count = data_bytes = 0
    output.say(f"{'offset':>{width}}  {'length':>{width}}")
    for run in device.extents():
        count += 1
        data_bytes += run.length_bytes if run.is_data else 0
        kind = "data" if run.is_data else "hole"
        output.say(f"{run.offset_bytes:{width}}  {run.length_bytes:{width}}  {kind}")
    size = format_size(device.size_bytes)
    output.say(f"{format_size(data_bytes)} of {size} are data, in {count} runs with the holes")


@click.command()
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@output.outside_option
@output.json_option
@click.pass_context
def diff(context: click.Context, one: str, other: str, allow_outside: bool, as_json: bool) -> None:
    """Compare what two disks of any kind read as: DISK A and DISK B. Status 1 when they differ.

    \b
    Example:
      ipva disk diff demo/hd-cf.vmdk cf.img
    """
    from ipva_storage.device import differences

    first: list[tuple[int, int]] = []
    differing_bytes = 0
    with (
        targets.open_disk(one, allow_outside=allow_outside) as left,
        targets.open_disk(other, allow_outside=allow_outside) as right,
        ranges.JsonList() as found,
    ):
        with output.progress_bar("comparing") as progress:
            for offset_bytes, length_bytes in differences(left, right, progress=progress):
                if len(first) < ranges.SHOWN_MAX:
                    first.append((offset_bytes, length_bytes))
                differing_bytes += length_bytes
                found.add({"offset": offset_bytes, "length": length_bytes})
        sizes = [left.size_bytes, right.size_bytes]
        if as_json:
            equal = "false" if found.count else "true"
            facts = f'"equal": {equal}, "sizes": {sizes}, "bytes": {differing_bytes}'
            found.print(f'{{{facts}, "ranges": ', "}")
        else:
            _show_diff((one, other), sizes, differing_bytes)
            ranges.show(first, found.count, max(sizes))
    context.exit(output.PROBLEMS if found.count else 0)


def _show_diff(names: tuple[str, str], sizes: list[int], differing_bytes: int) -> None:
    if sizes[0] != sizes[1]:
        for name, size_bytes in zip(names, sizes, strict=True):
            output.say(f"{name} has {format_size(size_bytes)} ({size_bytes} bytes)")
    if differing_bytes:
        output.say(f"they differ in {format_size(differing_bytes)}, sector by sector:")
    else:
        output.say(f"they are equal: {format_size(sizes[0])}")
