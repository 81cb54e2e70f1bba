"""Make the golden images anew: `python tests/golden/make_images.py`.

Only for a change of a layout, which the changelog lists under *Format*. Until then these files are
what earlier versions wrote, and must stay readable.
"""

from __future__ import annotations

import datetime as dt
import gzip
from pathlib import Path

from ipva_storage import boot, dump, fat, flash, vmdk
from ipva_storage.device import BlockDevice, Folder, MemoryDevice
from ipva_storage.device.undo import Images, UndoDevice, UndoJournal

FOLDER = Path(__file__).parent / "images"
WHEN = dt.datetime(2026, 11, 23, 12, 0, 0, tzinfo=dt.UTC)
TEXT = b"golden " * 100


def fat_volume(fat_bits: int, size_bytes: int) -> MemoryDevice:
    """A volume with a file of a long name in a folder."""
    device = MemoryDevice(size_bytes)
    fill_fat(device, fat_bits)
    return device


def fill_fat(device: BlockDevice, fat_bits: int) -> None:
    """Format and put the file in."""
    fat.format(device, fat_bits=fat_bits, label="GOLDEN", volume_id=0x12345678)
    with fat.open(device) as volume:
        volume.mkdir("/Ein Ordner")
        when = WHEN.replace(tzinfo=None)
        volume.write("/Ein Ordner/Größe – a long name.txt", TEXT, modified=when)


def flash_directory() -> MemoryDevice:
    """Four segments with puts, a replacement, a deletion, a batch and a large object."""
    device = MemoryDevice(4 * flash.SEGMENT_BYTES)
    nor = flash.NorDevice(device, segment_count=4)
    flash.format(nor)
    directory = flash.open(nor)
    directory.put(b"alice", b"old")
    directory.put(b"alice", TEXT)
    directory.put(b"gone", b"gone")
    directory.delete(b"gone")
    directory.batch({b"bob": b"(cn=Bob)", b"large": TEXT * 20})
    directory.close()
    return device


def dump_disk() -> MemoryDevice:
    """Two crash records."""
    device = MemoryDevice(256 * 1024)
    dump.format(device, log_id=1)
    log = dump.open(device)
    log.append("trap", "trap at 0x1234\n", time=WHEN)
    log.append("reboot", "watchdog\n", time=WHEN)
    return device


class Opened(Images):
    """An image in memory, for a journal to look at."""

    def __init__(self, device: MemoryDevice) -> None:
        self.device = device

    def open(self, name: str, *, writable: bool) -> MemoryDevice:
        """The one there is."""
        return self.device

    def modified_us(self, name: str) -> int:
        """Nobody knows."""
        return 0


def undo_journal() -> tuple[MemoryDevice, MemoryDevice]:
    """A job that writes, discards, grows and cuts an image of text and zeros; and that image."""
    image = MemoryDevice(TEXT * 200 + bytes(200_000) + TEXT * 100, name="golden.img")
    file = MemoryDevice(name="golden.img.undo")
    journal = UndoJournal(file, journal_id=1, time_us=int(WHEN.timestamp()) * 1_000_000)
    device = UndoDevice(image, journal)
    device.write(100, b"changed")
    device.discard(70_000, 200_000)
    device.resize(500_000)
    device.write(450_000, b"new")
    device.resize(400_000)
    journal.finish(Opened(image))
    return file, image


def main() -> None:
    """Write every image."""
    FOLDER.mkdir(exist_ok=True)
    images = {
        "fat12": fat_volume(12, 64 * 1024).data,
        "fat16": fat_volume(16, 10 * 2**20).data,
        "fat32": fat_volume(32, 40 * 2**20).data,
        "flash": flash_directory().data,
        "dump": dump_disk().data,
        "firmware": boot.build_firmware(TEXT, version="golden", build=1, time=WHEN),
    }
    images["undo"], images["undo-image"] = (device.data for device in undo_journal())
    vmdk.create(
        Folder(FOLDER), "disk.vmdk", 2**20, force=True, fill=lambda disk: fill_fat(disk, 12)
    )
    disk = FOLDER / "disk.vmdk"
    images["vmdk"] = disk.read_bytes()
    disk.unlink()
    for name, content in images.items():
        (FOLDER / f"{name}.gz").write_bytes(gzip.compress(bytes(content), 9, mtime=0))


if __name__ == "__main__":
    main()
