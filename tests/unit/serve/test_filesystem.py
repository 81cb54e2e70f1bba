"""The files of a FAT disk through fsspec."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ipva_storage import appliance, fat
from ipva_storage.appliance import Role
from ipva_storage.device import Folder
from ipva_storage.errors import FatNotFoundError, UsageError

fsspec = pytest.importorskip("fsspec")

from ipva_storage.serve.filesystem import VolumeFileSystem  # noqa: E402

CONTENT = bytes(range(256)) * 300


@pytest.fixture
def vm(tmp_path: Path) -> Path:
    """An appliance with a few files on its card."""
    machine = appliance.create(Folder(tmp_path / "vm"))
    disk = machine.open_disk(Role.CF, writable=True)
    with fat.open_first(disk) as volume:
        volume.mkdir("/docs/deep", parents=True)
        volume.write("/docs/A long name.csv", b"a,b\n1,2\n", modified=datetime(2024, 5, 6, 7, 8))
        volume.write("/docs/deep/noise.bin", CONTENT)
    disk.close()
    return tmp_path / "vm"


@pytest.fixture
def files(vm: Path) -> Iterator[Any]:
    """The card, to be written to."""
    found = VolumeFileSystem(f"{vm}#cf", writable=True)
    yield found
    found.close()


@pytest.mark.parametrize("disk", ["vm#cf", "vm/ipva.vmx#cf", "vm/hd-cf.vmdk"])
def test_a_url_opens_a_file(vm: Path, disk: str) -> None:
    """A URL names the disk as the command line does, and the path in it, whatever its case."""
    with fsspec.open(f"ipva://{vm.parent / disk}:/docs/a LONG name.CSV", "rt") as file:
        assert file.read() == "a,b\n1,2\n"


def test_facts_and_lists(files: Any) -> None:
    """Folders and files with sizes and times; what is not there is not found."""
    assert sorted(files.ls("/docs", detail=False)) == ["/docs/A long name.csv", "/docs/deep"]
    facts = files.info("ipva://docs/A long name.csv")
    assert (facts["size"], facts["type"]) == (8, "file")
    assert files.modified("/docs/A long name.csv") == datetime(2024, 5, 6, 7, 8)
    assert files.isdir("/")
    assert files.isdir("docs/deep")
    assert not files.exists("/nothing")
    assert files.find("/") == ["/docs/A long name.csv", "/docs/deep/noise.bin"]
    assert files.glob("/docs/*.csv") == ["/docs/A long name.csv"]
    with pytest.raises(FatNotFoundError):
        files.info("/nothing")


def test_ranges_are_read(files: Any) -> None:
    """A piece of a file, and whole ones."""
    assert files.cat_file("/docs/deep/noise.bin", start=1000, end=70_000) == CONTENT[1000:70_000]
    assert files.cat("/docs/deep/noise.bin") == CONTENT
    with files.open("/docs/deep/noise.bin", "rb") as file:
        file.seek(-10, 2)
        assert file.read() == CONTENT[-10:]


def test_changes_are_on_the_disk(vm: Path, files: Any) -> None:
    """What was written, moved, copied and removed is so for everybody once it is closed."""
    with files.open("/new.txt", "wb") as file:
        file.write(b"new")
    files.mkdir("/x/y")
    files.mv("/new.txt", "/x/y/moved.txt")
    files.cp_file("/x/y/moved.txt", "/copy.txt")
    files.rm("/docs", recursive=True)
    files.close()
    disk = appliance.open(Folder(vm)).open_disk(Role.CF)
    volume = fat.open_first(disk)
    assert sorted(path for path, _ in volume.walk()) == [
        "/copy.txt",
        "/x",
        "/x/y",
        "/x/y/moved.txt",
    ]
    assert volume.read("/copy.txt") == volume.read("/x/y/moved.txt") == b"new"
    assert not list(fat.check_disk(disk))
    disk.close()


def test_a_tree_comes_out(vm: Path, tmp_path: Path) -> None:
    """`get` copies a folder with all below it."""
    files = VolumeFileSystem(str(vm / "hd-cf.vmdk"))
    files.get("/docs", str(tmp_path / "out"), recursive=True)
    files.close()
    assert (tmp_path / "out" / "deep" / "noise.bin").read_bytes() == CONTENT


def test_reading_only_changes_nothing(vm: Path) -> None:
    """Without leave to write every change is refused, and another program may write."""
    files = VolumeFileSystem(f"{vm}#cf")
    before = (vm / "hd-cf.vmdk").read_bytes()
    for change in (
        lambda: files.open("/new.txt", "wb"),
        lambda: files.mkdir("/x"),
        lambda: files.rm_file("/docs/A long name.csv"),
        lambda: files.mv("/docs", "/d"),
        lambda: files.cp_file("/docs/A long name.csv", "/b"),
    ):
        with pytest.raises(UsageError, match="open for reading"):
            change()
    files.close()
    assert (vm / "hd-cf.vmdk").read_bytes() == before


@pytest.mark.parametrize("disk", ["vm#flash", "vm#nothing"])
def test_what_is_no_fat_disk(vm: Path, disk: str) -> None:
    """The roles without files are refused by name."""
    with pytest.raises(UsageError, match="no FAT disk"):
        VolumeFileSystem(str(vm.parent / disk))
