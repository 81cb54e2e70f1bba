"""What `ipva info` and `ipva disk info` say of a disk, as facts and as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ipva_storage.errors import IpvaError
from ipva_storage.units import format_size

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice
    from ipva_storage.flash import FlashDirectory


def disk(device: BlockDevice, *, segment_limit: int | None = None) -> dict[str, Any]:
    """Facts of a disk: format, sizes, volumes, and the store it holds, if one is recognised."""
    return {
        "kind": "disk",
        "file": device.name,
        "format": getattr(device, "subformat", "raw"),
        "virtual_size": device.size_bytes,
        "file_size": getattr(device, "file_size_bytes", device.size_bytes),
        **content(device, segment_limit),
    }


def content(device: BlockDevice, segment_limit: int | None) -> dict[str, Any]:
    """What is on a disk: `volumes`, and `flash` or `dumps` where it is one of ours."""
    from ipva_storage import dump, flash

    facts: dict[str, Any] = {"volumes": volumes(device)}
    if facts["volumes"]:
        return facts
    if flash.identify(device):
        facts["flash"] = flash_use(device, segment_limit)
    elif dump.identify(device):
        records = dump.open(device).records()
        facts["dumps"] = {"count": len(records), "size": sum(each.size_bytes for each in records)}
    else:
        facts["content"] = "unknown layout"
    return facts


def volumes(device: BlockDevice) -> list[dict[str, Any]]:
    """The volumes of a disk, partitioned or not; one that cannot be opened says why."""
    from ipva_storage import fat
    from ipva_storage.device import SliceDevice

    found = []
    for volume in fat.find_volumes(device):
        facts: dict[str, Any] = {
            "partition": volume.partition,
            "offset": volume.offset_bytes,
            "size": volume.length_bytes,
            "kind": volume.kind,
        }
        if volume.kind.startswith("FAT"):
            try:
                part = SliceDevice(device, volume.offset_bytes, volume.length_bytes)
                opened = fat.open(part)
                facts |= {"label": opened.label, "free": opened.free_bytes}
            except IpvaError as error:
                facts["error"] = str(error)
        found.append(facts)
    return found


def flash_use(device: BlockDevice, segment_limit: int | None) -> dict[str, Any]:
    """How full a flash directory is, read without writing."""
    from ipva_storage import flash

    nor = flash.NorDevice(device)
    return directory_use(flash.open(nor, segment_limit=segment_limit, read_only=True))


def directory_use(directory: FlashDirectory) -> dict[str, Any]:
    """How full and how worn an opened flash directory is."""
    usage = directory.usage()
    return {
        "segments": {
            "physical": usage.segment_count_physical,
            "usable": usage.segment_count_usable,
            "used": usage.segment_count_used,
        },
        "objects": usage.object_count,
        "used": usage.used_bytes,
        "free": usage.free_bytes,
        "owned": usage.owned_bytes,
        "wear": {"min": usage.erase_count_min, "max": usage.erase_count_max},
    }


def show_disk(facts: dict[str, Any], *, indent: str = "") -> None:
    """Print the facts of a disk for people."""
    size, file_size = format_size(facts["virtual_size"]), format_size(facts["file_size"])
    click.echo(f"{indent}{facts['file']}: {facts['format']}, {size}, {file_size} on the host")
    for volume in facts["volumes"]:
        number = volume["partition"]
        name = "volume" if number is None else f"partition {number}"
        text = f"{indent}  {name}: {volume['kind']}, {format_size(volume['size'])}"
        if "error" in volume:
            text += f", unreadable: {volume['error']}"
        elif "free" in volume:
            text += f", {format_size(volume['free'])} free, label {volume['label'] or 'none'}"
        click.echo(text)
    if "flash" in facts:
        use = facts["flash"]
        segments = use["segments"]
        in_use = f"{segments['used']} of {segments['usable']} segments in use"
        objects = f"{use['objects']} objects, {format_size(use['used'])} used"
        click.echo(f"{indent}  flash directory: {objects}, {in_use}")
    if "dumps" in facts:
        dumps = facts["dumps"]
        click.echo(f"{indent}  crash dumps: {dumps['count']}, {format_size(dumps['size'])}")
    if "content" in facts:
        click.echo(f"{indent}  {facts['content']}")
