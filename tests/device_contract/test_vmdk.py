"""A VMDK disk of each kind is a block device like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ipva_storage import vmdk
from ipva_storage.device import BlockDevice, Folder, MemoryDevice
from ipva_storage.testing.device_contract import DeviceContract
from ipva_storage.vmdk.creation import new_sparse

if TYPE_CHECKING:
    from pathlib import Path


class TestSparse(DeviceContract):
    """Usual grains: the whole content in one."""

    grain_sectors = 128

    def make(self, content: bytes) -> BlockDevice:
        disk = new_sparse(
            MemoryDevice(name="disk.vmdk"),
            "disk.vmdk",
            len(content),
            grain_sectors=self.grain_sectors,
            gtes_per_gt=4,
        )
        disk.write(0, content)
        return disk


class TestSmallGrains(TestSparse):
    """The smallest grains, four in a table."""

    grain_sectors = 8


class TestFlat(DeviceContract):
    """A descriptor and its extent, in a folder."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = Folder(tmp_path)

    def make(self, content: bytes) -> BlockDevice:
        vmdk.create(
            self.folder,
            "disk.vmdk",
            len(content),
            subformat="monolithicFlat",
            fill=lambda disk: disk.write(0, content),
        )
        return vmdk.open(self.folder.open("disk.vmdk", writable=True), self.folder, writable=True)
