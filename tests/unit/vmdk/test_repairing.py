"""Mending descriptors that are files of their own: whole, or as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, read
from ipva_storage.units import MIB

DATA = b"data" * 1000


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder with a flat disk."""
    folder = Folder(tmp_path)
    vmdk.create(
        folder, "disk.vmdk", MIB, subformat="monolithicFlat", fill=lambda disk: disk.write(0, DATA)
    )
    return folder


def mended(folder: Folder) -> bytes:
    """The descriptor after a repair, which leaves nothing and keeps the data."""
    done = vmdk.repair(folder, "disk.vmdk")
    assert done.is_changed
    assert done.fixed
    assert (done.left, done.lost) == ((), ())
    with vmdk.open(folder.open("disk.vmdk"), folder) as disk:
        assert read(disk, 0, len(DATA)) == DATA
    return (folder.path / "disk.vmdk").read_bytes()


def test_a_descriptor_that_gets_longer(folder: Folder) -> None:
    """One without a content identifier gets one; it was refused for its length."""
    path = folder.path / "disk.vmdk"
    path.write_bytes(path.read_bytes().replace(b"\nCID=", b"\nXXX="))
    assert b"\nCID=" in mended(folder)


def test_a_descriptor_that_gets_shorter(folder: Folder) -> None:
    """Nothing of a long damaged one stays behind the new one."""
    path = folder.path / "disk.vmdk"
    whole = len(path.read_bytes())
    path.write_bytes(b"# Disk DescriptorFile\n" + b"garbage" * 300)
    assert len(mended(folder)) <= whole


def test_a_new_descriptor_comes_in_one_piece(folder: Folder) -> None:
    """It replaces the damaged one, so that at no moment there is half of one."""
    path = folder.path / "disk.vmdk"
    path.write_bytes(path.read_bytes().replace(b"createType", b"createTypo"))
    number = path.stat().st_ino
    mended(folder)
    assert path.stat().st_ino != number
