"""Files and folders of a volume: what works, and what is refused how."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime

import pytest

from ipva_storage import fat
from ipva_storage.device import MemoryDevice, TraceDevice
from ipva_storage.errors import (
    FatError,
    FatExistsError,
    FatNotFoundError,
    NoSpaceError,
    UsageError,
)
from ipva_storage.fat import FatVolume, tree
from ipva_storage.units import KIB, MIB


def make(bits: int = 16, size_bytes: int = 5 * MIB, cluster_bytes: int | None = None) -> FatVolume:
    """An empty volume in memory."""
    device = MemoryDevice(size_bytes)
    fat.format(device, fat_bits=bits, cluster_bytes=cluster_bytes, label="test", volume_id=1)
    return fat.open(device)


def test_names_match_in_any_case() -> None:
    """A file is found by its long and its short name, whatever the case."""
    volume = make()
    volume.mkdir("/Übergröße")
    volume.write("/Übergröße/A long name.txt", b"x")
    for path in (
        "/übergrößE/a LONG name.TXT",
        "/Übergröße/alongn~1.txt",
        "übergröße/./A long name.txt",
    ):
        assert volume.read(path) == b"x"


def test_lower_case_short_names_take_one_record() -> None:
    """`readme.txt` is kept in one record with the case bits, and reads back in lower case."""
    volume = make()
    volume.write("/readme.txt", b"")
    volume.write("/IPVA.bin", b"")
    assert [entry.name for entry in volume.list()] == ["readme.txt", "IPVA.bin"]
    assert [entry.short_name for entry in volume.list()] == ["README.TXT", "IPVA.BIN"]
    assert volume.stat("/ipva.bin").name == "IPVA.bin"


def test_replacing_keeps_the_name_and_frees_the_old_clusters() -> None:
    """A replaced file keeps its name as first written; its old clusters are free."""
    volume = make()
    free_bytes = volume.free_bytes
    volume.write("/Long file name.txt", bytes(100_000))
    entry = volume.write("/LONG FILE NAME.TXT", b"short", modified=datetime(2020, 2, 3, 4, 5, 6))
    assert entry.name == "Long file name.txt"
    assert entry.modified == datetime(2020, 2, 3, 4, 5, 6)
    assert volume.free_bytes == free_bytes - volume.cluster_bytes
    volume.delete("/Long file name.txt")
    assert volume.free_bytes == free_bytes
    assert volume.list() == []


def test_missing_and_present_names() -> None:
    """What is missing, in the way, of the wrong kind or not empty is refused by name."""
    volume = make()
    volume.mkdir("/a/b", parents=True)
    volume.mkdir("/a/b", parents=True)
    volume.write("/file", b"x")
    with pytest.raises(FatNotFoundError, match="nothing"):
        volume.read("/nothing")
    with pytest.raises(FatNotFoundError):
        volume.write("/no folder/x", b"")
    with pytest.raises(FatExistsError):
        volume.mkdir("/FILE")
    with pytest.raises(FatExistsError):
        volume.write("/a", b"x")
    with pytest.raises(FatExistsError):
        volume.mkdir("/file/below", parents=True)
    with pytest.raises(FatError, match="not empty"):
        volume.delete("/a")
    with pytest.raises(FatError, match="is a folder"):
        volume.read("/a")
    with pytest.raises(FatError, match="is a file"):
        volume.list("/file")
    with pytest.raises(UsageError):
        volume.delete("/")


@pytest.mark.parametrize(
    "name", ["a:b", "a?", "tab\t", "dot.", "space ", " lead", "x" * 256, "𝒳" * 128, 'q"', "a\\b"]
)
def test_impossible_names(name: str) -> None:
    """Names that Windows refuses are refused, and nothing is written."""
    device = TraceDevice(MemoryDevice(MIB))
    fat.format(device)
    device.reset()
    volume = fat.open(device)
    with pytest.raises(UsageError):
        volume.write("/" + name, b"x")
    with pytest.raises(UsageError):
        volume.mkdir("/" + name)
    assert device.work.write_count == 0


def test_longest_name() -> None:
    """255 units work, with characters beyond the basic plane as well."""
    volume = make()
    for name in ("n" * 255, "𝒳" * 127 + "y"):
        volume.write("/" + name, name.encode())
        assert volume.read("/" + name) == name.encode()
    volume.flush()
    assert list(fat.check(volume._device)) == []


def test_full_disk_loses_nothing() -> None:
    """A file that does not fit leaves everything as it was, also when it would replace one."""
    volume = make(12, 256 * KIB, 512)
    volume.write("/kept.txt", b"k" * 150_000)
    free_bytes = volume.free_bytes
    with pytest.raises(NoSpaceError):
        volume.write("/kept.txt", b"n" * 150_000)
    with pytest.raises(NoSpaceError):
        volume.write("/other.txt", b"n" * 150_000)
    assert volume.free_bytes == free_bytes
    assert volume.read("/kept.txt") == b"k" * 150_000
    volume.flush()
    assert list(fat.check(volume._device)) == []


def test_full_root_folder() -> None:
    """The fixed root folder holds 512 records; then it is full, and folders go on."""
    volume = make(16)
    with volume.batch():
        for number in range(511):
            volume.write(f"/F{number}.TXT", b"")
    with pytest.raises(NoSpaceError, match="root folder is full"):
        volume.write("/F511.TXT", b"")
    assert len(volume.list()) == 511  # one record is the label
    volume.delete("/F0.TXT")
    volume.mkdir("/D")
    volume.write("/D/One with a long name.txt", b"x")
    volume.flush()
    assert list(fat.check(volume._device)) == []


def test_folder_ends_at_65536_records() -> None:
    """A folder takes 65,536 records and then says that it is full."""
    volume = make(16, 40 * MIB)
    volume.mkdir("/D")
    folder = volume.tree.folder(volume.stat("/D").first_cluster)
    while folder.record_capacity < 65_536:
        folder.extend(folder.clusters[-1])
    with pytest.raises(NoSpaceError, match="65536"):
        folder.extend(folder.clusters[-1])


def test_content_of_another_length_is_refused() -> None:
    """Pieces that are longer or shorter than promised change nothing."""
    volume = make()
    free_bytes = volume.free_bytes
    for size_bytes in (5, 7, 100_000):
        with pytest.raises(UsageError):
            volume.write_chunks("/x", [b"abc", b"def"], size_bytes=size_bytes)
    with pytest.raises(UsageError):
        volume.write_chunks("/x", [], size_bytes=1 << 32)
    assert volume.list() == []
    assert volume.free_bytes == free_bytes
    volume.write_chunks("/x", [b"abc", b"", b"def"], size_bytes=6)
    assert volume.read("/x") == b"abcdef"


def test_pieces_cross_clusters() -> None:
    """Content in odd pieces over broken-up free space reads back, piece by piece."""
    volume = make(12, 256 * KIB, 512)
    for number in range(20):
        volume.write(f"/{number}", bytes(600))
    for number in range(0, 20, 2):
        volume.delete(f"/{number}")
    content = bytes(range(256)) * 700
    pieces = [content[at : at + 333] for at in range(0, len(content), 333)]
    volume._table.next_free = 2
    volume.write_chunks("/big", pieces, size_bytes=len(content))
    assert volume.read("/big") == content
    assert len(list(volume.read_chunks("/big"))) > 5


def test_times_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """SOURCE_DATE_EPOCH makes two volumes the same, byte for byte."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    images = []
    for _ in range(2):
        device = MemoryDevice(MIB)
        fat.format(device, label="same")
        with fat.open(device) as volume:
            volume.write("/file.txt", b"x")
            assert volume.stat("/file.txt").modified == datetime(2001, 9, 9, 1, 46, 40)
        images.append(bytes(device.data))
    assert images[0] == images[1]


def test_walk_goes_depth_first() -> None:
    """A walk names full paths, each folder before its content."""
    volume = make()
    volume.mkdir("/a/b", parents=True)
    volume.write("/a/b/c", b"")
    volume.write("/d", b"")
    assert [path for path, _ in volume.walk()] == ["/a", "/a/b", "/a/b/c", "/d"]
    assert [path for path, _ in volume.walk("/A/b")] == ["/A/b/c"]


def test_deep_and_many_folders() -> None:
    """More folders than the cache holds, one in the other, work in one batch."""
    volume = make()
    path = ""
    with volume.batch():
        for number in range(100):
            path += f"/{number}"
            volume.mkdir(path)
            volume.write(f"{path}/f", str(number).encode())
    assert volume.read(path + "/f") == b"99"
    assert len(list(volume.walk())) == 200
    volume.flush()
    assert list(fat.check(volume._device)) == []


def test_a_walk_holds_a_bounded_number_of_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full folders in full folders end a walk with a refusal, not with the memory."""
    volume = make()
    with volume.batch():
        for folder in ("", "/d", "/d/d"):
            for number in range(20):
                volume.write(f"{folder}/{number}", b"")
            volume.mkdir(f"{folder}/d")
    assert len(list(volume.walk())) == 63
    monkeypatch.setattr(tree, "_HELD_MAX", 63)
    assert len(list(volume.walk())) == 63
    monkeypatch.setattr(tree, "_HELD_MAX", 62)
    with pytest.raises(FatError, match="over 62 entries"):
        list(volume.walk())


def test_free_space_summary_is_kept() -> None:
    """FAT32's summary says after a flush what is free."""
    volume = make(32, 34 * MIB)
    volume.write("/a", bytes(5000))
    volume.flush()
    assert list(fat.check(volume._device)) == []


def test_opening_needs_no_numpy() -> None:
    """Looking for volumes and opening one does not import NumPy."""
    program = (
        "import sys; from ipva_storage import fat; from ipva_storage.device import MemoryDevice;"
        "device = MemoryDevice(1 << 20); fat.format(device); fat.find_volumes(device);"
        "assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
