"""A resize changes what is the disk's, nothing else, and all of it or nothing."""

from __future__ import annotations

import pytest

from ipva_storage import vmdk
from ipva_storage.errors import DeviceError, IpvaError, NoSpaceError, UsageError, VmdkError
from ipva_storage.sim.files import MemoryFolder
from ipva_storage.testing.vmdk_crash import content_of
from ipva_storage.testing.vmdk_small import (
    GRAIN_BYTES,
    SIZE_BYTES,
    disk_files,
    shrink_geometry,
    written,
)
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk import ownership

PART_BYTES = 100 * SECTOR_BYTES


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_geometry(monkeypatch)


def described(*lines: str, kind: str = "monolithicFlat") -> bytes:
    """A descriptor with some extent lines."""
    text = "\n".join(lines)
    head = (
        f'# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="{kind}"'
    )
    return f'{head}\n\n# Extent description\n{text}\n\nddb.adapterType = "ide"\n'.encode()


def refused(folder: MemoryFolder, size_bytes: int, match: str, kind: type[IpvaError]) -> None:
    """A resize of `x.vmdk` is refused before anything is written, in a dry run too if it can be."""
    with pytest.raises(kind, match=match):
        vmdk.resize(folder, "x.vmdk", size_bytes)
    assert folder.changes == []


@pytest.mark.parametrize(
    ("line", "is_told"),
    [
        ('RW 100 ZERO "other.txt"', False),
        ('RDONLY 100 FLAT "other.txt" 0', True),
        ('RDONLY 132 FLAT "other.txt" 0', True),
        ('RW 100 FLAT "other.txt" 0', True),
        ('RW 100 FLAT "other.txt" 20', True),
        ('RW 0 FLAT "other.txt" 0', True),
    ],
)
def test_a_file_with_more_in_it_than_the_disk_stays(line: str, is_told: bool) -> None:
    """A file that only a line of a descriptor calls the disk's is not deleted, and is named."""
    other = bytes(PART_BYTES) + b"precious" * 2048
    files = {
        "x.vmdk": described('RW 100 FLAT "x-flat.vmdk" 0', line, "RW 8 ZERO"),
        "x-flat.vmdk": b"A" * PART_BYTES,
        "other.txt": other,
    }
    folder = MemoryFolder(files)
    done = vmdk.resize(folder, "x.vmdk", PART_BYTES, allow_loss=True)
    assert folder.files["other.txt"] == other
    assert done.kept_files == (("other.txt",) if is_told else ())
    assert content_of(folder, "x.vmdk") == b"A" * PART_BYTES


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_sparse_file_stays_where_it_is_a_disk_of_its_own(is_alone: bool) -> None:
    """A disk that a line names has a descriptor, and is no part of another; a bare extent goes."""
    kind = "twoGbMaxExtentSparse" if is_alone else "monolithicSparse"
    files = disk_files(kind, 4 * GRAIN_BYTES, name="y.vmdk")
    part = "y-s001.vmdk" if is_alone else "y.vmdk"
    files["x.vmdk"] = described('RW 100 FLAT "x-flat.vmdk" 0', f'RW 32 SPARSE "{part}"')
    files["x-flat.vmdk"] = bytes(PART_BYTES)
    folder = MemoryFolder(files)
    done = vmdk.resize(folder, "x.vmdk", PART_BYTES)
    assert folder.has(part) is not is_alone
    assert done.kept_files == (() if is_alone else (part,))


def test_two_dropped_parts_in_one_file_go_with_it() -> None:
    """A file that holds two parts and nothing else is the disk's."""
    lines = ['RW 100 FLAT "a.img" 0', 'RW 10 FLAT "b.img" 10', 'RW 10 FLAT "b.img" 0']
    files = {"x.vmdk": described(*lines), "a.img": bytes(PART_BYTES), "b.img": bytes(10240)}
    folder = MemoryFolder(files)
    assert vmdk.resize(folder, "x.vmdk", PART_BYTES).kept_files == ()
    assert folder.names() == ["a.img", "x.vmdk"]


@pytest.mark.parametrize("size_bytes", [PART_BYTES // 2, PART_BYTES + 4096])
def test_what_lies_behind_a_flat_extent_is_not_lost_unasked(size_bytes: int) -> None:
    """Another disk's part of the same file is neither cut nor written over without allow_loss."""
    behind = b"other disk" * 1000
    files = {
        "x.vmdk": described('RW 100 FLAT "big.img" 0'),
        "big.img": bytes(PART_BYTES) + behind,
    }
    folder = MemoryFolder(files)
    refused(folder, size_bytes, "behind its end in “big.img”", UsageError)
    tried = vmdk.resize(folder, "x.vmdk", size_bytes, dry_run=True)
    grown = size_bytes - PART_BYTES
    assert tried.lost_bytes == (grown if grown > 0 else len(behind))
    done = vmdk.resize(folder, "x.vmdk", size_bytes, allow_loss=True)
    assert done == tried
    assert content_of(folder, "x.vmdk") == bytes(size_bytes)
    left = behind[grown:] if grown > 0 else b""
    assert folder.files["big.img"] == bytes(size_bytes) + left


def test_what_lies_behind_a_sparse_extent_is_not_lost_unasked() -> None:
    """So it is with an extent that has more capacity than the descriptor says."""
    files = disk_files("twoGbMaxExtentSparse", 4 * GRAIN_BYTES, name="x.vmdk")
    files = written(files, [(3 * GRAIN_BYTES, b"end")], name="x.vmdk")
    files["x.vmdk"] = files["x.vmdk"].replace(b"RW 32 ", b"RW 16 ")
    folder = MemoryFolder(files)
    for size_bytes in (GRAIN_BYTES, 6 * GRAIN_BYTES):
        refused(folder, size_bytes, "behind its end", UsageError)
    vmdk.resize(folder, "x.vmdk", 6 * GRAIN_BYTES, allow_loss=True)
    assert content_of(folder, "x.vmdk") == bytes(6 * GRAIN_BYTES)


@pytest.mark.parametrize("size_bytes", [PART_BYTES // 2, PART_BYTES + 512])
def test_a_read_only_extent_keeps_its_length(size_bytes: int) -> None:
    """A file that the descriptor makes read-only is neither cut nor made longer."""
    content = b"A" * (size_bytes // 2) + bytes(PART_BYTES)
    files = {"x.vmdk": described('RDONLY 100 FLAT "a.img" 0'), "a.img": content}
    refused(MemoryFolder(files), size_bytes, "makes its last part, “a.img”, read-only", VmdkError)


def test_the_same_size_again_does_not_cut_a_read_only_file() -> None:
    """Nothing is there to be finished in a file that is not written to."""
    files = {"x.vmdk": described('RDONLY 100 FLAT "a.img" 0'), "a.img": bytes(2 * PART_BYTES)}
    folder = MemoryFolder(files)
    vmdk.resize(folder, "x.vmdk", PART_BYTES, allow_loss=True)
    assert folder.changes == []


def test_a_descriptor_without_room_is_seen_before_the_header_is_written() -> None:
    """A sparse disk whose descriptor cannot say the new size keeps the old one."""
    files = disk_files("monolithicSparse", 99 * SECTOR_BYTES, name="x.vmdk")
    content = bytearray(files["x.vmdk"])
    text = described('RW 99 SPARSE "x.vmdk"', kind="monolithicSparse")
    assert content[36] == 20  # sectors of the descriptor
    content[36] = 1
    content[512 : 21 * 512] = text.ljust(512, b"#").ljust(20 * 512, b"\0")
    folder = MemoryFolder({"x.vmdk": bytes(content)})
    refused(folder, 100 * SECTOR_BYTES, "no room for the new size", NoSpaceError)
    vmdk.resize(folder, "x.vmdk", 98 * SECTOR_BYTES)


def test_an_extent_of_zeros_gets_shorter_in_the_descriptor_alone() -> None:
    """It has no file, whatever name the line has."""
    lines = ['RW 100 FLAT "a.img" 0', 'RW 100 ZERO "note.txt"']
    files = {"x.vmdk": described(*lines), "a.img": bytes(PART_BYTES), "note.txt": b"hello"}
    folder = MemoryFolder(files)
    vmdk.resize(folder, "x.vmdk", PART_BYTES + 512)
    assert len(content_of(folder, "x.vmdk")) == PART_BYTES + 512
    assert folder.files["note.txt"] == b"hello"


@pytest.mark.parametrize("count", [8, 64])
def test_no_parts_are_made_behind_an_extent_of_zeros(count: int) -> None:
    """A split disk whose last piece is no file does not grow, and no file is made."""
    lines = ['RW 64 FLAT "x-f001.vmdk" 0', f"RW {count} ZERO"]
    files = {"x.vmdk": described(*lines, kind="twoGbMaxExtentFlat"), "x-f001.vmdk": bytes(32768)}
    refused(MemoryFolder(files), 512 * 300, "keeps its size", VmdkError)


def test_a_further_part_starts_at_the_start_of_its_file() -> None:
    """It does not take over where the last one starts."""
    lines = ['RW 64 FLAT "x-f001.vmdk" 0', 'RW 8 FLAT "x-f002.vmdk" 16']
    files = {
        "x.vmdk": described(*lines, kind="twoGbMaxExtentFlat"),
        "x-f001.vmdk": bytes(32768),
        "x-f002.vmdk": bytes(24 * 512),
    }
    folder = MemoryFolder(files)
    vmdk.resize(folder, "x.vmdk", 512 * 200)
    assert content_of(folder, "x.vmdk") == bytes(512 * 200)
    assert len(folder.files["x-f004.vmdk"]) == (200 - 3 * 64) * 512


def test_a_further_part_does_not_take_the_name_of_another() -> None:
    """A disk whose second piece is called as its third would be is not torn apart."""
    lines = ['RW 64 FLAT "x-f001.vmdk" 0', 'RW 64 FLAT "x-f003.vmdk" 0']
    files = {
        "x.vmdk": described(*lines, kind="twoGbMaxExtentFlat"),
        "x-f001.vmdk": bytes(32768),
        "x-f003.vmdk": bytes(32768),
    }
    refused(MemoryFolder(files), 512 * 130, "as another is already", UsageError)


@pytest.mark.parametrize("kind", ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_a_resize_that_fails_removes_what_it_made(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the descriptor cannot be written, there are no further parts, and none is longer."""
    files = disk_files(kind, SIZE_BYTES, name="x.vmdk")
    folder = MemoryFolder(files)

    def full(self: MemoryFolder, name: str, content: bytes) -> None:
        assert len(self.names()) > len(files)
        raise DeviceError("the host disk is full", where=name)

    monkeypatch.setattr(MemoryFolder, "replace", full)
    with pytest.raises(DeviceError, match="full"):
        vmdk.resize(folder, "x.vmdk", 40 * GRAIN_BYTES)
    assert folder.names() == sorted(files)
    if kind == "twoGbMaxExtentFlat":
        assert folder.files == files
    monkeypatch.undo()
    assert content_of(folder, "x.vmdk") == content_of(MemoryFolder(files), "x.vmdk")


def test_a_resize_notices_a_writer_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found out is not done to a disk that something wrote to since."""
    files = disk_files("monolithicSparse", SIZE_BYTES, name="x.vmdk")
    folder = MemoryFolder(files)
    look = ownership.lost_tail_bytes

    def slow(*words: object) -> int:
        found = look(*words)  # type: ignore[arg-type]
        with vmdk.open(folder.open("x.vmdk", writable=True), folder, writable=True) as disk:
            disk.write(SIZE_BYTES - 512, b"late")
        return found

    monkeypatch.setattr("ipva_storage.vmdk.resizing.lost_tail_bytes", slow)
    with pytest.raises(VmdkError, match="in this moment"):
        vmdk.resize(folder, "x.vmdk", GRAIN_BYTES)
    assert content_of(folder, "x.vmdk")[-512:] == b"late".ljust(512, b"\0")


def test_a_stream_that_is_made_anew_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two resizes at once the second is refused, so that neither is lost."""
    folder = MemoryFolder(disk_files("streamOptimized", SIZE_BYTES, [(0, b"x")], name="x.vmdk"))
    refusals: list[str] = []

    def second(*words: object, **options: object) -> None:
        monkeypatch.undo()
        with pytest.raises(DeviceError) as refused:
            vmdk.resize(folder, "x.vmdk", SIZE_BYTES + 1024)
        refusals.append(refused.value.message)

    monkeypatch.setattr("ipva_storage.vmdk.resizing.copy", second)
    vmdk.resize(folder, "x.vmdk", SIZE_BYTES + 512)
    assert refusals == ["another process is writing to it"]
    assert len(content_of(folder, "x.vmdk")) == SIZE_BYTES + 512
