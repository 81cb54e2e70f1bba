"""Block devices: the raw file, memory, a slice, an overlay, a trace, a fault, and a folder of them.

Every store is written on `BlockDevice`, so trace, fault and overlay fit around each of them. Those
three are imported when they are first named: a command that only looks needs none of them.
What saves before it lets change, and takes back, is in `ipva_storage.device.undo`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from ipva_storage.device.base import BlockDevice, Device, Extent, byte_view, merge_extents, read
from ipva_storage.device.compare import differences
from ipva_storage.device.copy import copy, data_runs, is_zero
from ipva_storage.device.folder import Folder
from ipva_storage.device.memory import MemoryDevice
from ipva_storage.device.raw import RawDevice
from ipva_storage.device.salvage import SalvageDevice
from ipva_storage.device.slice import SliceDevice

if TYPE_CHECKING:
    from ipva_storage.device.fault import FaultDevice
    from ipva_storage.device.overlay import OverlayDevice
    from ipva_storage.device.trace import Operation, TraceDevice, TraceRecord, Work

__all__ = [
    "BlockDevice",
    "Device",
    "Extent",
    "FaultDevice",
    "Folder",
    "MemoryDevice",
    "Operation",
    "OverlayDevice",
    "RawDevice",
    "SalvageDevice",
    "SliceDevice",
    "TraceDevice",
    "TraceRecord",
    "Work",
    "byte_view",
    "copy",
    "data_runs",
    "differences",
    "is_zero",
    "merge_extents",
    "read",
]

_ON_DEMAND: Final = {
    "FaultDevice": "fault",
    "Operation": "trace",
    "OverlayDevice": "overlay",
    "TraceDevice": "trace",
    "TraceRecord": "trace",
    "Work": "trace",
}
"""Names, and the module of each."""


def __getattr__(name: str) -> object:
    """Import what is needed less often when it is first named."""
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
