"""Block devices: the raw file, memory, a slice, an overlay, a trace, a fault, and a folder of them.

Every store is written on `BlockDevice`, so trace, fault and overlay fit around each of them. What
saves before it lets change, and takes back, is in `ipva_storage.device.undo`.
"""

from ipva_storage.device.base import BlockDevice, Device, Extent, byte_view, merge_extents, read
from ipva_storage.device.copy import copy, data_runs, is_zero
from ipva_storage.device.fault import FaultDevice
from ipva_storage.device.folder import Folder
from ipva_storage.device.memory import MemoryDevice
from ipva_storage.device.overlay import OverlayDevice
from ipva_storage.device.raw import RawDevice
from ipva_storage.device.slice import SliceDevice
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
    "SliceDevice",
    "TraceDevice",
    "TraceRecord",
    "Work",
    "byte_view",
    "copy",
    "data_runs",
    "is_zero",
    "merge_extents",
    "read",
]
