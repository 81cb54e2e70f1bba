"""Making disks: complete or not at all, small, and as named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, read
from ipva_storage.errors import DeviceError, UsageError
from ipva_storage.vmdk.describe import ADAPTERS

if TYPE_CHECKING:
    from pathlib import Path

    from ipva_storage.device import BlockDevice

MIB = 1 << 20
NAMES = {
    "monolithicSparse": ["disk.vmdk"],
    "monolithicFlat": ["disk-flat.vmdk", "disk.vmdk"],
    "twoGbMaxExtentSparse": ["disk-s001.vmdk", "disk.vmdk"],
    "twoGbMaxExtentFlat": ["disk-f001.vmdk", "disk.vmdk"],
    "vmfs": ["disk-flat.vmdk", "disk.vmdk"],
    "streamOptimized": ["disk.vmdk"],
}


@pytest.mark.parametrize("subformat", vmdk.SUBFORMATS)
def test_files(tmp_path: Path, subformat: str) -> None:
    """The files have their names, and take little room on the host."""
    vmdk.create(Folder(tmp_path), "disk.vmdk", 1024 * MIB, subformat=subformat)
    assert Folder(tmp_path).names() == NAMES[subformat]
    assert sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()) < MIB


@pytest.mark.parametrize("subformat", vmdk.SUBFORMATS)
def test_nothing_appears_when_filling_fails(tmp_path: Path, subformat: str) -> None:
    """When the content cannot be written, no file is left."""

    def fill(disk: BlockDevice) -> None:
        disk.write(0, b"x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vmdk.create(Folder(tmp_path), "disk.vmdk", MIB, subformat=subformat, fill=fill)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("subformat", vmdk.SUBFORMATS)
def test_existing_files_stay(tmp_path: Path, subformat: str) -> None:
    """A file of one of the names is replaced by force only."""
    folder = Folder(tmp_path)
    for name in NAMES[subformat]:
        folder.write_text(name, "precious")
        with pytest.raises(DeviceError, match="exists already"):
            vmdk.create(folder, "disk.vmdk", MIB, subformat=subformat)
        assert folder.names() == [name]
        assert folder.read_text(name) == "precious"
        (tmp_path / name).unlink()
    folder.write_text("disk.vmdk", "worthless")
    vmdk.create(folder, "disk.vmdk", MIB, subformat=subformat, force=True)
    with vmdk.open(folder.open("disk.vmdk"), folder) as disk:
        assert disk.size_bytes == MIB


@pytest.mark.parametrize("size_bytes", [1, 511, 512, 513, 65536, 65537])
@pytest.mark.parametrize("subformat", vmdk.SUBFORMATS)
def test_sizes_are_whole_sectors(tmp_path: Path, subformat: str, size_bytes: int) -> None:
    """The disk has the size asked for, rounded up to sectors."""
    folder = Folder(tmp_path)
    vmdk.create(folder, "disk.vmdk", size_bytes, subformat=subformat)
    with vmdk.open(folder.open("disk.vmdk"), folder) as disk:
        assert disk.size_bytes == -(-size_bytes // 512) * 512
        assert read(disk, 0, disk.size_bytes) == bytes(disk.size_bytes)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_geometry(tmp_path: Path, adapter: str) -> None:
    """The descriptor names adapter and geometry; IDE has 16 heads and an end."""
    folder = Folder(tmp_path)
    vmdk.create(folder, "disk.vmdk", 100 * 1024 * MIB, adapter=adapter)
    with vmdk.open(folder.open("disk.vmdk")) as disk:
        ddb = disk.descriptor.ddb
    assert ddb["adapterType"] == adapter
    geometry = (ddb["geometry.cylinders"], ddb["geometry.heads"], ddb["geometry.sectors"])
    assert geometry == (("16383", "16", "63") if adapter == "ide" else ("13054", "255", "63"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"size_bytes": 0},
        {"size_bytes": -1},
        {"size_bytes": 65 << 40},
        {"subformat": "seSparse"},
        {"level": 0},
        {"adapter": "nvme"},
        {"name": 'a"b.vmdk'},
        {"name": "a\nRW 1 FLAT.vmdk"},
    ],
)
def test_arguments_that_make_no_sense(tmp_path: Path, wrong: dict[str, object]) -> None:
    """A size, kind, adapter or name that cannot be is refused before anything is made."""
    arguments: dict[str, object] = {"name": "disk.vmdk", "size_bytes": MIB, **wrong}
    with pytest.raises(UsageError):
        vmdk.create(Folder(tmp_path), **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_names_leave_no_folder(tmp_path: Path) -> None:
    """A name with a path in it is refused."""
    with pytest.raises(DeviceError, match="not a plain file name"):
        vmdk.create(Folder(tmp_path / "vm"), "../disk.vmdk", MIB)
    assert list(tmp_path.iterdir()) == []
