"""The emulated flash: NOR device, segments tied to RAM, and the directory of objects.

>>> from ipva_storage import flash
>>> from ipva_storage.device import MemoryDevice
>>> nor = flash.NorDevice(MemoryDevice(flash.FLASH_BYTES))
>>> flash.format(nor)
>>> directory = flash.open(nor, segment_limit=224)
>>> directory.put(b"user", b"1")
>>> directory.get(b"user")
b'1'

The layout is our own (`formats/spec/flash.md`); a real appliance's flash is not readable by it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from ipva_storage.errors import UsageError
from ipva_storage.flash.check import check
from ipva_storage.flash.layout import format_flash as format  # noqa: A004 - the room's door
from ipva_storage.flash.layout import identify
from ipva_storage.flash.nor import NorDevice
from ipva_storage.flash.segments import (
    DEFAULT_RULE,
    FLASH_BYTES,
    PHYSICAL_SEGMENTS,
    SEGMENT_BYTES,
    USABLE_SEGMENTS,
    SegmentRule,
    visible_ram_bytes,
)

if TYPE_CHECKING:
    from ipva_storage.flash.directory import FlashDirectory, FlashUsage
    from ipva_storage.flash.shrink import ShrinkPlan

__all__ = [
    "DEFAULT_RULE",
    "FLASH_BYTES",
    "PHYSICAL_SEGMENTS",
    "SEGMENT_BYTES",
    "USABLE_SEGMENTS",
    "FlashDirectory",
    "FlashUsage",
    "NorDevice",
    "SegmentRule",
    "ShrinkPlan",
    "check",
    "format",
    "identify",
    "open",
    "visible_ram_bytes",
]

_ON_DEMAND: Final = {
    "FlashDirectory": "directory",
    "FlashUsage": "directory",
    "ShrinkPlan": "shrink",
}
"""Names, and the module of each: telling a flash disk from others needs none of them."""


def open(  # noqa: A001 - the room's door
    nor: NorDevice,
    *,
    segment_limit: int | None = None,
    read_only: bool = False,
    durable: bool = True,
) -> FlashDirectory:
    """Mount a flash directory, finishing what a power cut interrupted.

    Opening never loses an object. If what is stored exceeds `segment_limit`, everything is there
    and can be read and deleted, puts raise `NoSpaceError`, `plan(segment_limit)` names what will
    not fit, and only `shrink(segment_limit)`, which the appliance calls when it boots, loses it.

    Args:
        nor: the flash. One that reads as zeros throughout is an empty directory.
        segment_limit: segments that may hold data; all but the copy segment if None.
        read_only: write nothing at all; interrupted work is left out of account, not finished.
        durable: end every put, delete and batch with a barrier (`fdatasync` for a file), so that it
            is on the medium when the call returns. Without, a put is as durable as the device's
            own writes; a batch keeps the barrier before its COMMIT either way.

    Raises:
        FlashError: there is content and it is not of our layout. Damage never raises; see
            `FlashDirectory.damaged` and `check`.
        UsageError: the flash cannot have such a limit.
        DeviceError: the device refused.
    """
    from ipva_storage.flash.directory import FlashDirectory
    from ipva_storage.flash.mount import mount

    most = nor.segment_count - 1
    limit = most if segment_limit is None else segment_limit
    if not 1 <= limit <= most:
        raise UsageError(f"{limit} segments cannot hold data here: 1 to {most} can")
    mounted = mount(nor, read_only=read_only)
    return FlashDirectory(mounted, limit, durable=durable, read_only=read_only)


def __getattr__(name: str) -> object:
    """Import what is needed less often when it is first named."""
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
