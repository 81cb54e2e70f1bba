"""The volume as a repair would leave it: drawn up in memory, committed step by step.

Invariants:

1. Until `commit`, the device below is only read.
2. The draft reads as the device below with all steps applied.
3. A commit writes the steps in the order in which they were drawn up, each durable before the next,
   and of each only the sectors that change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_storage.device import OverlayDevice, read
from ipva_storage.device.base import Device, announce
from ipva_storage.units import MIB, SECTOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

    from ipva_storage.device import BlockDevice
    from ipva_storage.device.base import Extent

_PIECE_BYTES: Final = MIB


class Draft(Device):
    """A volume's device with the changes of a repair over it, a layer a step."""

    def __init__(self, device: BlockDevice) -> None:
        """Start without changes. Closing it drops the changes and leaves `device` open."""
        self._device = device
        self._layers = [OverlayDevice(device)]
        self.name = device.name

    @property
    def size_bytes(self) -> int:
        """Length in bytes, which no repair changes."""
        return self._device.size_bytes

    @property
    def is_changed(self) -> bool:
        """Whether the volume would be another than it is."""
        changed = (extent for step in self._layers for extent in step.changed_extents())
        return any(
            read(self, one.offset_bytes, one.length_bytes)
            != read(self._device, one.offset_bytes, one.length_bytes)
            for one in changed
        )

    def step(self) -> None:
        """What is written from here on reaches the medium after all that was written before."""
        if self._layers[-1].changed_bytes:
            self._layers.append(OverlayDevice(self._layers[-1]))

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer with what would be there."""
        self._layers[-1].read_into(offset_bytes, buffer)

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        """Put `data` into the step that is open."""
        self._layers[-1].write(offset_bytes, data)

    def flush(self) -> None:
        """Begin a new step: to who writes through a draft, a barrier is one."""
        self.step()

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        """Zero a range; written as zeros, a page at a time."""
        for at in range(offset_bytes, offset_bytes + length_bytes, _PIECE_BYTES):
            self.write(at, bytes(min(_PIECE_BYTES, offset_bytes + length_bytes - at)))

    def extents(self) -> Iterator[Extent]:
        """The runs below, with what is written as data."""
        return self._layers[-1].extents()

    def commit(self) -> None:
        """Write the steps to the device below, each durable before the next.

        Raises:
            DeviceError: the medium refused; the steps before are done.
        """
        every = (write for step in self._layers for write in self._writes(step))
        announce(self._device, [(at, len(data)) for at, data in every])
        for step in self._layers:
            is_written = False
            for at, data in self._writes(step):
                self._device.write(at, data)
                is_written = True
            if is_written:
                self._device.flush()
        self.close()

    def close(self) -> None:
        """Forget the changes; the device below stays open."""
        self._layers = [OverlayDevice(self._device)]

    def _writes(self, step: OverlayDevice) -> Iterator[tuple[int, bytes]]:
        """What of a step differs from what is below now: offsets and whole sectors."""
        for extent in step.changed_extents():
            wanted = read(step, extent.offset_bytes, extent.length_bytes)
            there = read(self._device, extent.offset_bytes, extent.length_bytes)
            for start, stop in _differing(wanted, there):
                yield extent.offset_bytes + start, wanted[start:stop]


def _differing(wanted: bytes, there: bytes) -> Iterator[tuple[int, int]]:
    """Runs of sectors in which two pieces differ: (start, stop) in bytes."""
    if wanted == there:
        return
    ours, theirs = (np.frombuffer(data, np.uint8) for data in (wanted, there))
    sectors = np.unique(np.flatnonzero(ours != theirs) // SECTOR_BYTES)
    cuts = np.flatnonzero(np.diff(sectors) > 1) + 1
    for run in np.split(sectors, cuts):
        yield int(run[0]) * SECTOR_BYTES, min((int(run[-1]) + 1) * SECTOR_BYTES, len(wanted))
