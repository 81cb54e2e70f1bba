"""A folder in memory keeps the rules of one on the host, and remembers what was done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ipva_storage.device import Folder, Operation, read
from ipva_storage.errors import DeviceError, IpvaError
from ipva_storage.sim.files import FileChange, FolderFlush, MemoryFolder, NameChange

FILES = {"a.bin": b"first" * 200, "b.bin": b"second"}
Make = Callable[[], Folder]


@pytest.fixture(params=["host", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """A folder of either kind, with the same files."""
    if request.param == "memory":
        return MemoryFolder(FILES)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return Folder(tmp_path)


def content_of(folder: Folder, name: str) -> bytes:
    """All of a file."""
    with folder.open(name) as file:
        return read(file, 0, file.size_bytes)


def test_open_read_and_write(folder: Folder) -> None:
    """Files are listed, read, changed and made longer and shorter."""
    assert folder.names() == ["a.bin", "b.bin"]
    with folder.open("b.bin", writable=True) as file:
        file.resize(20)
        file.write(3, b"--")
        file.discard(4, 2)
        file.flush()
        assert file.name.endswith("b.bin")
        assert read(file, 0, 20) == content_of(folder, "b.bin")
        file.resize(5)
    assert content_of(folder, "b.bin") == b"sec-\0"
    assert content_of(folder, "a.bin") == FILES["a.bin"]


def test_one_writer(folder: Folder) -> None:
    """A file has one writer at a time, and any number of readers, who do not write."""
    with folder.open("a.bin", writable=True), folder.open("a.bin") as reader:
        with pytest.raises(DeviceError, match="writing to it"):
            folder.open("a.bin", writable=True)
        with pytest.raises(DeviceError, match="writing to it"):
            folder.remove("a.bin")
        with pytest.raises(DeviceError, match="writing to it"):
            folder.replace("a.bin", b"x")
        with pytest.raises(DeviceError, match="read-only"):
            reader.write(0, b"x")
        with pytest.raises(DeviceError, match="read-only"):
            reader.resize(0)
    folder.open("a.bin", writable=True).close()
    assert folder.names() == ["a.bin", "b.bin"]


def test_length_is_as_at_opening(folder: Folder) -> None:
    """Who has a file open does not see that another changes its length."""
    with folder.open("a.bin") as reader:
        with folder.open("a.bin", writable=True) as writer:
            writer.resize(10)
        assert reader.size_bytes == 1000
        assert read(reader, 0, 10) == b"firstfirst"
        with pytest.raises(IpvaError):
            read(reader, 0, 11)


def test_new_file_appears_when_the_block_ends(folder: Folder) -> None:
    """A new file is there under its name only when all went well, and replaces one if forced."""
    with folder.new_file("c.bin") as file:
        file.resize(3)
        file.write(0, b"new")
        assert "c.bin" not in folder.names()
    assert content_of(folder, "c.bin") == b"new"
    with pytest.raises(DeviceError, match="exists already"), folder.new_file("a.bin"):
        pass
    with pytest.raises(ZeroDivisionError), folder.new_file("a.bin", force=True) as file:
        raise ZeroDivisionError
    assert content_of(folder, "a.bin") == FILES["a.bin"]
    folder.replace("a.bin", b"other")
    assert content_of(folder, "a.bin") == b"other"
    assert folder.names() == ["a.bin", "b.bin", "c.bin"]


def test_create(folder: Folder) -> None:
    """A file can be there at once, and empty; one that is there already is refused."""
    with folder.create("c.bin") as file:
        assert folder.names() == ["a.bin", "b.bin", "c.bin"]
        file.resize(2)
        file.write(0, b"ok")
    assert content_of(folder, "c.bin") == b"ok"
    with pytest.raises(DeviceError, match="exists already"):
        folder.create("a.bin")
    assert content_of(folder, "a.bin") == FILES["a.bin"]


def test_remove(folder: Folder) -> None:
    """A file that was removed is there no more, and cannot be opened or removed again."""
    folder.remove("a.bin")
    assert folder.names() == ["b.bin"]
    for verb in (folder.open, folder.remove):
        with pytest.raises(DeviceError):
            verb("a.bin")


@pytest.mark.parametrize("name", ["", ".", "..", "../a.bin", "x/a.bin", "a\0b", "c:a"])
def test_names_stay_inside(folder: Folder, name: str) -> None:
    """A name that leaves the folder is refused."""
    for verb in (folder.resolve, folder.open, folder.beside, folder.remove):
        with pytest.raises(DeviceError):
            verb(name)
    assert folder.beside("a.bin") is folder


def test_changes_are_in_one_order() -> None:
    """What was done to files and names is remembered as it happened, with the bytes."""
    folder = MemoryFolder(FILES)
    with folder.open("b.bin", writable=True) as file:
        file.write(1, b"E")
        folder.replace("a.bin", b"x")
        file.flush()
    told = [
        (change.file, change.record.operation, change.record.data)
        if isinstance(change, FileChange)
        else type(change)
        for change in folder.changes
    ]
    assert told == [
        (1, Operation.WRITE, b"E"),
        NameChange,
        (2, Operation.RESIZE, None),
        (2, Operation.WRITE, b"x"),
        (2, Operation.FLUSH, None),
        NameChange,
        FolderFlush,
        (1, Operation.FLUSH, None),
    ]
    assert folder.files == {"a.bin": b"x", "b.bin": b"sEcond"}


def test_a_new_name_is_there_twice_for_a_moment() -> None:
    """A new file gets its name before it loses the one that it was made under, as by a link."""
    folder = MemoryFolder()
    with folder.new_file("c.bin"):
        pass
    names = [change.names for change in folder.changes if isinstance(change, NameChange)]
    assert [len(each) for each in names] == [1, 2, 1]
    assert names[-1] == {"c.bin": 0}


def test_closed_is_closed() -> None:
    """A file that was closed is not read or written through the old handle."""
    folder = MemoryFolder(FILES)
    file = folder.open("a.bin", writable=True)
    file.close()
    file.close()
    with pytest.raises(DeviceError, match="closed"):
        file.write(0, b"x")
    with pytest.raises(DeviceError, match="closed"):
        read(file, 0, 1)
