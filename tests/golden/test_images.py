"""Images that earlier versions wrote stay readable, and are found sound."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

import pytest

import ipva_formats
from ipva_storage import boot, dump, fat, flash, vmdk
from ipva_storage.device import BlockDevice, MemoryDevice
from ipva_storage.device.undo import Images, restore
from ipva_storage.findings import Finding

FOLDER = Path(__file__).parent / "images"
TEXT = b"golden " * 100
NO_IMAGE = {"mbr": "the real partition tables beside the project serve"}


def golden(name: str) -> MemoryDevice:
    """An image, unpacked into memory."""
    return MemoryDevice(gzip.decompress((FOLDER / f"{name}.gz").read_bytes()), name=name)


def problems(findings: Iterable[Finding]) -> list[Finding]:
    """Findings that are more than information."""
    return [found for found in findings if found.severity != "info"]


def test_every_format_has_a_golden_image() -> None:
    """Each module of the formats has an image that starts with its name, or a reason."""
    folder = Path(ipva_formats.__file__).parent
    formats = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    images = {path.stem for path in FOLDER.glob("*.gz")}
    without = {name for name in formats if not any(image.startswith(name) for image in images)}
    assert without == set(NO_IMAGE)


def assert_holds_the_file(device: BlockDevice) -> None:
    """The volume is sound and has the label, the folder and the file."""
    assert problems(fat.check(device)) == []
    volume = fat.open(device)
    assert volume.label == "GOLDEN"
    (folder, file) = volume.walk("/")
    assert folder[0] == "/Ein Ordner"
    assert file[0] == "/Ein Ordner/Größe – a long name.txt"
    assert f"{file[1].modified}" == "2026-11-23 12:00:00"
    assert volume.read(file[0]) == TEXT


@pytest.mark.parametrize("name", ["fat12", "fat16", "fat32"])
def test_fat_volumes(name: str) -> None:
    """The three kinds read as they were written."""
    assert_holds_the_file(golden(name))


def test_vmdk() -> None:
    """The sparse disk is sound and holds the volume."""
    image = golden("vmdk")
    assert problems(vmdk.check(image)) == []
    with vmdk.open(image) as disk:
        assert disk.size_bytes == 2**20
        assert_holds_the_file(disk)


def test_flash() -> None:
    """The directory is sound and holds the newest of each object, and not what was deleted."""
    nor = flash.NorDevice(golden("flash"), segment_count=4)
    assert problems(flash.check(nor)) == []
    directory = flash.open(nor, read_only=True)
    assert dict(directory.items()) == {
        b"alice": TEXT,
        b"bob": b"(cn=Bob)",
        b"large": TEXT * 20,
    }


def test_dump() -> None:
    """Both records are there, oldest first."""
    device = golden("dump")
    assert problems(dump.check(device)) == []
    log = dump.open(device)
    assert [(each.kind, log.read(each.sequence)) for each in log.records()] == [
        ("trap", "trap at 0x1234\n"),
        ("reboot", "watchdog\n"),
    ]


def test_firmware() -> None:
    """The image has its version, build and payload."""
    firmware = boot.parse_firmware(bytes(golden("firmware").data))
    assert (firmware.version, firmware.build) == ("golden", 1)


def test_undo() -> None:
    """The journal still fits its image, and brings back what the job changed and cut off."""
    image = golden("undo-image")
    assert b"changed" in image.data[:200]

    class Opened(Images):
        def open(self, name: str, *, writable: bool) -> MemoryDevice:
            assert name == "golden.img"
            return image

        def modified_us(self, name: str) -> int:
            return 0

    done = restore(golden("undo"), Opened())
    assert done.was_finished
    assert image.data == TEXT * 200 + bytes(200_000) + TEXT * 100
