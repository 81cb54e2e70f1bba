"""Every block device passes the one contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ipva_storage import vmdk
from ipva_storage.device import (
    BlockDevice,
    FaultDevice,
    Folder,
    MemoryDevice,
    OverlayDevice,
    RawDevice,
    SliceDevice,
    TraceDevice,
)
from ipva_storage.device.undo import UndoDevice, UndoJournal
from ipva_storage.testing.device_contract import DeviceContract
from ipva_storage.vmdk.creation import new_sparse

if TYPE_CHECKING:
    from pathlib import Path


class TestMemoryDevice(DeviceContract):
    """Bytes in memory."""

    can_resize = True

    def make(self, content: bytes) -> BlockDevice:
        return MemoryDevice(content)


class TestRawDevice(DeviceContract):
    """A file of the host."""

    can_resize = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make(self, content: bytes) -> BlockDevice:
        path = self.folder / "disk.img"
        path.write_bytes(content)
        return RawDevice(path, writable=True)


class TestRawDeviceElsewhere(TestRawDevice):
    """A file of a host without positioned reads and holes, as Windows is."""

    @pytest.fixture(autouse=True)
    def _poor_host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("preadv", "pwrite", "fdatasync", "SEEK_DATA"):
            monkeypatch.delattr(f"os.{name}")
        monkeypatch.setattr("ipva_storage.device.raw._punch", lambda *_: False)


class TestSliceDevice(DeviceContract):
    """A part of a device."""

    def make(self, content: bytes) -> BlockDevice:
        around = MemoryDevice(b"\xff" * 1000 + content + b"\xff" * 3000)
        return SliceDevice(around, 1000, len(content))


class TestSliceOfFile(TestRawDevice):
    """A part of a sparse file, which has holes of its own."""

    can_resize = False

    def make(self, content: bytes) -> BlockDevice:
        raw = RawDevice.create(self.folder / "disk.img", 1 << 20)
        raw.write(65536 + 512, content)
        return _Owner(SliceDevice(raw, 65536 + 512, len(content)), raw)


class TestOverlayDevice(DeviceContract):
    """Changes held above an unchanged device."""

    can_resize = True

    def make(self, content: bytes) -> BlockDevice:
        return OverlayDevice(MemoryDevice(content))


class TestTraceDevice(DeviceContract):
    """A device under account."""

    can_resize = True

    def make(self, content: bytes) -> BlockDevice:
        return TraceDevice(MemoryDevice(content), keep_data=True)


class TestFaultDevice(DeviceContract):
    """A device whose power stays on."""

    can_resize = True

    def make(self, content: bytes) -> BlockDevice:
        return FaultDevice(MemoryDevice(content))


class TestUndoDevice(DeviceContract):
    """A device that is saved before it is changed."""

    can_resize = True

    def make(self, content: bytes) -> BlockDevice:
        return UndoDevice(MemoryDevice(content), UndoJournal(MemoryDevice(name="journal")))


class TestUndoOfFile(TestRawDevice):
    """A file that is saved in another, within a stack of other kinds."""

    def make(self, content: bytes) -> BlockDevice:
        raw = FaultDevice(TraceDevice(super().make(content)))
        journal = UndoJournal.create(Folder(self.folder), "disk.img.undo")
        return _Owner(UndoDevice(raw, journal), raw, journal)


class TestSparseVmdk(DeviceContract):
    """A sparse VMDK in memory, with small grains so that they have gaps."""

    def make(self, content: bytes) -> BlockDevice:
        disk = new_sparse(
            MemoryDevice(name="disk.vmdk"),
            "disk.vmdk",
            len(content),
            grain_sectors=8,
            gtes_per_gt=4,
        )
        disk.write(0, content)
        return disk


class TestCreatedVmdk(DeviceContract):
    """A VMDK file as the room makes and opens it."""

    subformat = "monolithicSparse"

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = Folder(tmp_path)

    def make(self, content: bytes) -> BlockDevice:
        vmdk.create(
            self.folder,
            "disk.vmdk",
            len(content),
            subformat=self.subformat,
            fill=lambda disk: disk.write(0, content),
        )
        raw = self.folder.open("disk.vmdk", writable=True)
        return vmdk.open(raw, self.folder, writable=True)


class TestFlatVmdk(TestCreatedVmdk):
    """A flat VMDK: descriptor and content in two files."""

    subformat = "monolithicFlat"


class _Owner(TraceDevice):
    """Closes what it was built on as well."""

    def __init__(self, device: BlockDevice, *below: BlockDevice | UndoJournal) -> None:
        super().__init__(device)
        self._below = below

    def close(self) -> None:
        for each in self._below:
            each.close()
