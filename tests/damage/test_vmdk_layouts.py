"""Layouts that no program writes as a rule, but that are sound: a repair leaves them alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, MemoryDevice, read
from ipva_storage.errors import VmdkError
from ipva_storage.vmdk.creation import new_sparse
from ipva_storage.vmdk.extent.header import read_header
from ipva_storage.vmdk.repairing import sparse
from tests.damage.images import SECTOR

NAME = "disk.vmdk"
GRAIN_BYTES = 4096
TABLES = 10
UNCLEAN = 72


def disk() -> MemoryDevice:
    """Forty grains, four in a table of one sector; all are there."""
    raw = MemoryDevice(name=NAME)
    size_bytes = 4 * TABLES * GRAIN_BYTES
    with new_sparse(raw, NAME, size_bytes, grain_sectors=8, gtes_per_gt=4) as made:
        for number in range(4 * TABLES):
            made.write(number * GRAIN_BYTES, bytes([number + 1]) * GRAIN_BYTES)
    return raw


def entries(raw: MemoryDevice) -> list[list[int]]:
    """Where each table is in the file, in bytes, by either directory."""
    header = read_header(raw)
    found = []
    for sector in (header.rgd_offset_sectors, header.gd_offset_sectors):
        data = read(raw, sector * SECTOR, 4 * TABLES)
        found.append([int.from_bytes(data[at : at + 4], "little") for at in range(0, 40, 4)])
    return found


def put_entries(raw: MemoryDevice, directories: list[list[int]]) -> None:
    """The inverse of `entries`."""
    header = read_header(raw)
    sectors = (header.rgd_offset_sectors, header.gd_offset_sectors)
    for sector, places in zip(sectors, directories, strict=True):
        raw.write(sector * SECTOR, b"".join(one.to_bytes(4, "little") for one in places))


def swapped(raw: MemoryDevice) -> None:
    """Two tables in each other's place, and so gaps between the first ones."""
    directories = entries(raw)
    for places in directories:
        one, other = (read(raw, places[at] * SECTOR, SECTOR) for at in (1, 2))
        raw.write(places[1] * SECTOR, other)
        raw.write(places[2] * SECTOR, one)
        places[1], places[2] = places[2], places[1]
    put_entries(raw, directories)


def moved(raw: MemoryDevice) -> None:
    """The last tables behind all others, where there is room before the first grain."""
    directories = entries(raw)
    free = directories[1][-1] + 1
    for number, places in enumerate(directories):
        raw.write((free + number) * SECTOR, read(raw, places[-1] * SECTOR, SECTOR))
        raw.write(places[-1] * SECTOR, bytes(SECTOR))
        places[-1] = free + number
    put_entries(raw, directories)


LAYOUTS: dict[str, Callable[[MemoryDevice], None]] = {"swapped": swapped, "moved": moved}


def content(raw: MemoryDevice) -> bytes:
    """What it reads as."""
    with vmdk.open(MemoryDevice(raw.data)) as opened:
        return read(opened, 0, opened.size_bytes)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_sound_layout_is_no_fault(layout: str) -> None:
    """The check says nothing, and it reads as before."""
    raw = disk()
    LAYOUTS[layout](raw)
    assert content(raw) == content(disk())
    assert list(vmdk.check(raw)) == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_repair_keeps_a_sound_layout(tmp_path: Path, layout: str) -> None:
    """Mending something else leaves the tables where they are, and the data with them."""
    raw = disk()
    LAYOUTS[layout](raw)
    raw.write(UNCLEAN, b"\1")
    path = tmp_path / NAME
    path.write_bytes(raw.data)
    assert vmdk.repair(Folder(tmp_path), NAME).lost == ()
    assert content(MemoryDevice(path.read_bytes())) == content(disk())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("copy", [0, 1])
def test_a_bad_entry_among_sound_ones(tmp_path: Path, layout: str, copy: int) -> None:
    """One entry that cannot be is put right; the unusual ones stay."""
    raw = disk()
    LAYOUTS[layout](raw)
    directories = entries(raw)
    directories[copy][4] = 5
    put_entries(raw, directories)
    path = tmp_path / NAME
    path.write_bytes(raw.data)
    done = vmdk.repair(Folder(tmp_path), NAME)
    assert (done.left, done.lost) == ((), ())
    assert content(MemoryDevice(path.read_bytes())) == content(disk())


def test_a_repair_that_would_lose_readable_grains_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is mistaken in the mending, what all copies say of sound tables has to stay."""
    raw = disk()
    raw.write(UNCLEAN, b"\1")
    path = tmp_path / NAME
    path.write_bytes(raw.data)

    def wrong(*arguments: Any) -> list[Any]:
        return [places[::-1].copy() for _, places in arguments[2]]

    monkeypatch.setattr(sparse, "mended_directories", wrong)
    with pytest.raises(VmdkError, match="would lose 40 grains"):
        vmdk.repair(Folder(tmp_path), NAME)
    assert path.read_bytes() == raw.data


def test_zeros_of_a_split_child_hide_the_parent(tmp_path: Path) -> None:
    """VMDK018 in a part of a child: the header gets to announce the zeros, and they stay."""
    folder = Folder(tmp_path)
    size_bytes = 4 * 65_536
    vmdk.create(folder, "base.vmdk", size_bytes)
    with vmdk.open(folder.open("base.vmdk", writable=True), folder, writable=True) as base:
        base.write(0, b"P" * size_bytes)
        cid = base.descriptor.cid
    vmdk.create(folder, NAME, size_bytes, subformat="twoGbMaxExtentSparse")
    text = (tmp_path / NAME).read_text()
    hint = f'parentCID={cid:08x}\nparentFileNameHint="base.vmdk"'
    (tmp_path / NAME).write_text(text.replace("parentCID=ffffffff", hint))
    with folder.open("disk-s001.vmdk", writable=True) as part:
        header = read_header(part)
        for sector in (header.rgd_offset_sectors, header.gd_offset_sectors):
            part.write((sector + 1) * SECTOR + 4, b"\1\0\0\0")

    def shown() -> bytes:
        with vmdk.open(folder.open(NAME), folder) as opened:
            return read(opened, 0, opened.size_bytes)

    before = shown()
    assert before[65_536 : 2 * 65_536] == bytes(65_536)
    assert {one.code for one in vmdk.repair(folder, NAME).fixed} == {"VMDK018"}
    assert shown() == before
