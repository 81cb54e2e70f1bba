"""Small images of real geometry, and ways to damage them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ipva_storage import vmdk
from ipva_storage.device import BlockDevice, Folder, MemoryDevice, read
from ipva_storage.errors import IpvaError
from ipva_storage.vmdk.extent.header import SparseHeader, read_header
from ipva_storage.vmdk.extent.markers import Kind, Record, walk

NAME: Final = "disk.vmdk"
SIZE_BYTES: Final = 70 * 1024 * 1024
"""Three grain tables, the last one not full."""
SECTOR: Final = 512

BLOCK: Final = 65536

Change = Callable[[bytearray], None]
Blocks = dict[int, bytes]
"""What a disk reads as: its blocks of 64 KiB by offset, those of zeros left out; and its size."""


def fill(disk: BlockDevice) -> None:
    """Text and noise in some forty grains of all three tables, in rising order."""
    rng, at = random.Random(3), 0
    while at < SIZE_BYTES - 4_000_000:
        at += rng.randrange(3_500_000)
        length = rng.choice([500, 65_536, 150_000])
        data = rng.randbytes(length) if rng.random() < 0.5 else b"log line %d\n" % at * 15_000
        disk.write(at, data[:length])
        at += length


@dataclass(frozen=True)
class Image:
    """A sound image, where its parts are, and what the disk reads as."""

    content: bytes
    header: SparseHeader
    data: Blocks

    @classmethod
    def of(cls, content: bytes) -> Image:
        """Look at an image."""
        raw = MemoryDevice(content, name=NAME)
        with vmdk.open(MemoryDevice(content)) as disk:
            data = blocks_of(disk)
        return cls(content, read_header(raw), data)

    @property
    def records(self) -> list[Record]:
        """The parts of a stream."""
        return list(walk(MemoryDevice(self.content), self.header))

    @property
    def grains(self) -> list[Record]:
        """The compressed grains of a stream."""
        return [record for record in self.records if record.kind is Kind.GRAIN]

    def part(self, kind: Kind) -> Record:
        """The first part of a kind in a stream."""
        return next(record for record in self.records if record.kind is kind)


def make(folder: Path, subformat: str) -> Image:
    """A disk of a kind that is one file."""
    vmdk.create(Folder(folder), NAME, SIZE_BYTES, subformat=subformat, fill=fill)
    return Image.of((folder / NAME).read_bytes())


def put(offset_bytes: int, value: int, length: int = 4) -> Change:
    """Overwrite a number."""

    def change(content: bytearray) -> None:
        content[offset_bytes : offset_bytes + length] = value.to_bytes(length, "little")

    return change


def zeros(offset_bytes: int, length: int = SECTOR) -> Change:
    """Overwrite with zeros."""

    def change(content: bytearray) -> None:
        content[offset_bytes : offset_bytes + length] = bytes(length)

    return change


def noise(offset_bytes: int, length: int = SECTOR) -> Change:
    """Overwrite with what comes from nowhere."""

    def change(content: bytearray) -> None:
        data = random.Random(offset_bytes).randbytes(length)
        content[offset_bytes : offset_bytes + length] = data

    return change


def text(old: bytes, new: bytes) -> Change:
    """Replace the first place of a text."""

    def change(content: bytearray) -> None:
        at = content.index(old)
        content[at : at + len(old)] = new.ljust(len(old))

    return change


def cut(length: int) -> Change:
    """End the file there."""

    def change(content: bytearray) -> None:
        del content[length:]

    return change


def longer(data: bytes) -> Change:
    """Put something behind the end."""

    def change(content: bytearray) -> None:
        content.extend(data)

    return change


def both(*changes: Change) -> Change:
    """Several at once."""

    def change(content: bytearray) -> None:
        for each in changes:
            each(content)

    return change


def found(folder: Folder) -> set[str]:
    """Codes of what is wrong, without what is for information."""
    try:
        with folder.open(NAME) as raw:
            return {one.code for one in vmdk.check(raw, folder) if one.severity != "info"}
    except IpvaError:
        return {"refused"}


def blocks_of(disk: BlockDevice) -> Blocks:
    """All that a disk reads as."""
    found = {-1: str(disk.size_bytes).encode()}
    for run in disk.extents():
        end = run.offset_bytes + run.length_bytes if run.is_data else 0
        for at in range(run.offset_bytes // BLOCK * BLOCK, end, BLOCK):
            block = read(disk, at, min(BLOCK, disk.size_bytes - at))
            if any(block):
                found[at] = block
    return found


def content_of(folder: Folder) -> Blocks | None:
    """What the disk reads as; None where it cannot be read."""
    try:
        with vmdk.open(folder.open(NAME), folder) as disk:
            return blocks_of(disk)
    except IpvaError:
        return None


def without(data: Blocks, lost: tuple[vmdk.Lost, ...]) -> Blocks:
    """Content without the blocks that are lost, which all are whole ones."""
    gone = {
        at
        for one in lost
        for at in range(one.offset_bytes, one.offset_bytes + one.length_bytes, BLOCK)
    }
    return {at: block for at, block in data.items() if at not in gone}
