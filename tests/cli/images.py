"""Small disks for the commands, what is in them, and some damage."""

from __future__ import annotations

import random
from pathlib import Path

from ipva_storage import vmdk
from ipva_storage.device import BlockDevice, Folder, MemoryDevice, read
from ipva_storage.units import KIB, MIB
from ipva_storage.vmdk.extent.header import read_header
from ipva_storage.vmdk.extent.markers import Kind, walk

SIZE_BYTES = 8 * MIB
DATA = random.Random(6).randbytes(300 * KIB)
FLATS = ("monolithicFlat", "vmfs", "twoGbMaxExtentFlat")


def make(folder: Path, kind: str = "monolithicSparse", name: str = "disk") -> Path:
    """A disk with data at its start and in its middle."""

    def fill(disk: BlockDevice) -> None:
        disk.write(0, DATA)
        disk.write(4 * MIB, DATA)

    vmdk.create(Folder(folder), f"{name}.vmdk", SIZE_BYTES, subformat=kind, fill=fill)
    return folder / f"{name}.vmdk"


def content_of(path: Path) -> bytes:
    """What a disk reads as."""
    folder = Folder(path.parent)
    with vmdk.open(folder.open(path.name), folder) as disk:
        return read(disk, 0, disk.size_bytes)


def change(path: Path, offset_bytes: int, data: bytes) -> None:
    """Write to a disk."""
    folder = Folder(path.parent)
    with vmdk.open(folder.open(path.name, writable=True), folder, writable=True) as disk:
        disk.write(offset_bytes, data)


def overwrite(path: Path, offset_bytes: int, data: bytes) -> None:
    """Write to a file."""
    with path.open("r+b") as file:
        file.seek(offset_bytes)
        file.write(data)


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of a folder, with its time."""
    return {
        each.name: (each.read_bytes(), each.stat().st_mtime_ns)
        for each in sorted(folder.iterdir())
        if each.is_file()
    }


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {name: content for name, (content, _) in state(folder).items()}


def lose_start(path: Path) -> None:
    """Zeros over the header."""
    overwrite(path, 0, bytes(512))


def spoil_entries(path: Path) -> None:
    """Of two grains neither table says where they are."""
    header = read_header(MemoryDevice(path.read_bytes()))
    for directory in (header.rgd_offset_sectors, header.gd_offset_sectors):
        table = (directory + header.directory_sectors) * 512
        overwrite(path, table + 4, b"\xff\xff\xff\x7f" * 2)


def spoil_grain(path: Path) -> None:
    """Noise in the data of a compressed grain."""
    raw = MemoryDevice(path.read_bytes())
    grain = [each for each in walk(raw, read_header(raw)) if each.kind is Kind.GRAIN][1]
    overwrite(path, grain.sector * 512 + 1000, b"noise" * 20)
