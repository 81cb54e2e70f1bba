"""Devices, alone and stacked, behave like a bytearray whatever is done to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis.stateful import rule

from ipva_storage import vmdk
from ipva_storage.device import MemoryDevice
from ipva_storage.testing.device_machine import (
    DEVICE_BYTES,
    DeviceMachine,
    OverlayMachine,
    StackMachine,
)
from ipva_storage.vmdk.creation import new_sparse

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice


class SparseVmdkMachine(DeviceMachine):
    """A sparse VMDK with small grains and tables, closed and opened now and then."""

    def make(self) -> BlockDevice:
        self.file = MemoryDevice(name="disk.vmdk")
        return new_sparse(self.file, "disk.vmdk", 3 * DEVICE_BYTES, grain_sectors=8, gtes_per_gt=4)

    @rule()
    def reopen(self) -> None:
        """Close the disk, find nothing wrong with it, and open it again."""
        self.device.close()
        assert list(vmdk.check(self.file)) == []
        self.device = vmdk.open(self.file, writable=True)


TestMemory = DeviceMachine.TestCase
TestOverlay = OverlayMachine.TestCase
TestStack = StackMachine.TestCase
TestSparseVmdk = SparseVmdkMachine.TestCase
