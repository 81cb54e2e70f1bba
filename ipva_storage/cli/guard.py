"""Refusing to format a disk that holds anything, whatever that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_storage.cli import facts
from ipva_storage.device import SliceDevice, read
from ipva_storage.errors import IpvaError, UsageError
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice


def refuse_content(device: BlockDevice, target: str, *, purpose: str) -> None:
    """Stop a format that would lose something.

    Args:
        device: the disk.
        target: what the user called it.
        purpose: what an empty disk of this kind is: `volumes`, `flash` or `dumps`. An empty one of
            its own kind, and a blank disk, may be formatted.

    Raises:
        UsageError: it holds something.
    """
    held = _held(device, purpose)
    if held is not None:
        raise UsageError(
            f"it holds {held}",
            where=target,
            remedy="formatting would lose that; use --force if you mean it",
        )


def _held(device: BlockDevice, purpose: str) -> str | None:
    """What is on a disk, in words; None where nothing would be lost."""
    found = facts.content(device, None)
    if "flash" in found:
        objects = found["flash"]["objects"]
        return f"a flash directory, objects: {objects}" if objects or purpose != "flash" else None
    if "dumps" in found:
        count = found["dumps"]["count"]
        return f"crash dumps: {count}" if count or purpose != "dumps" else None
    if found["volumes"]:
        return _held_files(device, purpose)
    return None if is_blank(device) else "something that is not recognised"


def _held_files(device: BlockDevice, purpose: str) -> str | None:
    from ipva_storage import fat

    count = 0
    for volume in fat.find_volumes(device):
        try:
            part = SliceDevice(device, volume.offset_bytes, volume.length_bytes)
            count += sum(1 for _ in fat.open(part).walk("/"))
        except IpvaError:
            return "a volume or partition table that cannot be read"
    return f"a FAT volume, files and folders: {count}" if count or purpose != "volumes" else None


def is_blank(device: BlockDevice) -> bool:
    """Whether a disk reads as zeros, or as erased flash, throughout."""
    for run in device.extents():
        end = run.offset_bytes + run.length_bytes
        for at in range(run.offset_bytes, end if run.is_data else run.offset_bytes, MIB):
            chunk = read(device, at, min(MIB, end - at))
            if chunk.count(0) + chunk.count(0xFF) != len(chunk):
                return False
    return True
