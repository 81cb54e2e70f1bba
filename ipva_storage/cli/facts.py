"""What `ipva info` and `ipva disk info` say of a disk, as facts and as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ipva_storage.cli import output
from ipva_storage.errors import IpvaError
from ipva_storage.units import format_size, printable

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice
    from ipva_storage.flash import FlashDirectory

_BLOCK_BYTES: Final = 512
"""What `st_blocks` counts. Source: POSIX stat(2) of Linux, macOS and BSD. Confidence: stated."""


def disk(device: BlockDevice, *, segment_limit: int | None = None) -> dict[str, Any]:
    """Facts of a disk: format, sizes, volumes, and the store it holds, if one is recognised."""
    facts: dict[str, Any] = {
        "kind": "disk",
        "file": printable(device.name),
        "format": getattr(device, "subformat", "raw"),
        "virtual_size": device.size_bytes,
        "file_size": getattr(device, "file_size_bytes", device.size_bytes),
    }
    allocated_bytes = allocated(device)
    if allocated_bytes is not None:
        facts["allocated_size"] = allocated_bytes
    return facts | content(device, segment_limit)


def allocated(device: BlockDevice) -> int | None:
    """Bytes that the files of a disk take on the host; None where it does not tell."""
    paths = [Path(file.name) for file in getattr(device, "files", (device,))]
    try:
        return int(sum(path.stat().st_blocks for path in paths)) * _BLOCK_BYTES
    except (OSError, ValueError, AttributeError):  # Windows counts no blocks
        return None


def has_unreadable(facts: dict[str, Any]) -> bool:
    """Whether a disk, or a volume on it, could not be read."""
    return "error" in facts or any("error" in volume for volume in facts.get("volumes", ()))


def content(device: BlockDevice, segment_limit: int | None) -> dict[str, Any]:
    """What is on a disk: `volumes`, and `flash` or `dumps` where it is one of ours."""
    facts: dict[str, Any] = {"volumes": volumes(device)}
    if facts["volumes"]:
        return facts
    from ipva_storage import dump, flash

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
                summary = fat.summarise(part)
                facts |= {"label": summary.label, "free": summary.free_bytes}
            except IpvaError as error:
                facts["error"] = printable(str(error))
        found.append(facts)
    return found


def flash_use(device: BlockDevice, segment_limit: int | None) -> dict[str, Any]:
    """How full a flash directory is, read without writing."""
    from ipva_storage import flash

    nor = flash.NorDevice(device)
    directory = flash.open(nor, segment_limit=segment_limit, read_only=True)
    facts = directory_use(directory)
    if segment_limit is not None:
        facts["fits"] = directory.plan(segment_limit).fits
    return facts


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
    size = format_size(facts["virtual_size"])
    on_host = f"a file of {format_size(facts['file_size'])}"
    if facts["format"] != "monolithicSparse" and "allocated_size" in facts:  # others have holes
        on_host = f"{format_size(facts['allocated_size'])} on the host"
    output.say(f"{indent}{facts['file']}: {facts['format']}, {size}, {on_host}")
    for volume in facts["volumes"]:
        output.say(f"{indent}  {_volume_text(volume)}")
    if "flash" in facts:
        _show_flash(facts["flash"], indent)
    if "dumps" in facts:
        dumps = facts["dumps"]
        output.say(f"{indent}  crash dumps: {dumps['count']}, {format_size(dumps['size'])}")
    if "content" in facts:
        output.say(f"{indent}  {facts['content']}")


def _volume_text(volume: dict[str, Any]) -> str:
    number = volume["partition"]
    name = "volume" if number is None else f"partition {number}"
    text = f"{name}: {volume['kind']}, {format_size(volume['size'])}"
    if "error" in volume:
        return f"{text}, unreadable: {volume['error']}"
    if "free" in volume:
        return f"{text}, {format_size(volume['free'])} free, label {volume['label'] or 'none'}"
    return text


def _show_flash(use: dict[str, Any], indent: str) -> None:
    used, usable = use["segments"]["used"], use["segments"]["usable"]
    count = f"{used}" if usable is None else f"{used} of {usable}"
    plural = "" if use["objects"] == 1 else "s"
    objects = f"{use['objects']} object{plural}, {format_size(use['used'])} used"
    output.say(f"{indent}  flash directory: {objects}, {count} segments in use")
