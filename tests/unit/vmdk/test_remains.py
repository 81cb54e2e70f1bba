"""What is left of a disk that does not open."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ipva_storage import vmdk
from ipva_storage.device import BlockDevice, Folder, RawDevice, SalvageDevice, read
from ipva_storage.errors import DeviceError, VmdkError
from ipva_storage.units import KIB, MIB
from ipva_storage.vmdk.extent.header import read_header
from ipva_storage.vmdk.extent.markers import Kind, Record, walk

SIZE_BYTES = 40 * MIB + 5 * 512
"""Two grain tables, and an end within a grain."""
GRAIN_BYTES = 64 * KIB
GRAINS = (0, 1, 2, 10, 11, 400, 511, 512, 600, 640)
"""Grains with data; the others are holes."""


def content() -> bytes:
    """Noise in some grains, up to the last byte."""
    chance, disk = random.Random(9), bytearray(SIZE_BYTES)
    for grain in GRAINS:
        at = grain * GRAIN_BYTES
        disk[at : at + GRAIN_BYTES] = chance.randbytes(min(GRAIN_BYTES, SIZE_BYTES - at))
    return bytes(disk)


CONTENT = content()


def fill(disk: BlockDevice) -> None:
    """Write it."""
    disk.write(0, CONTENT)


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    """A stream-optimized disk with it."""
    folder = Folder(tmp_path)
    vmdk.create(folder, "disk.vmdk", SIZE_BYTES, subformat="streamOptimized", fill=fill)
    return tmp_path / "disk.vmdk"


def records(path: Path) -> list[Record]:
    """All parts of a stream."""
    with RawDevice(path) as raw:
        return [record._replace(data=memoryview(b"")) for record in walk(raw, read_header(raw))]


def place_of(path: Path, grain: int) -> int:
    """The byte where a grain's marker is."""
    lba = grain * 128
    (found,) = (
        each.sector for each in records(path) if each.kind is Kind.GRAIN and each.lba_sector == lba
    )
    return found * 512


def assert_left(path: Path, lost: list[tuple[int, int]]) -> None:
    """Grains from `first` to before `stop` are lost, each pair; all else reads as before."""
    assert vmdk.has_remains(Folder(path.parent), path.name)
    expected, parts = bytearray(CONTENT), []
    for first, stop in lost:
        start, end = first * GRAIN_BYTES, min(stop * GRAIN_BYTES, SIZE_BYTES)
        expected[start:end] = bytes(end - start)
        parts.append((start, end - start))
    with vmdk.open_remains(Folder(path.parent), path.name) as disk:
        device = SalvageDevice(disk)
        assert read(device, 0, device.size_bytes) == expected
        assert device.lost == parts
        at = 0
        for run in disk.extents():
            assert run.offset_bytes == at
            at += run.length_bytes
            if not run.is_data:
                assert not CONTENT[run.offset_bytes : at].strip(b"\0")
        assert at == SIZE_BYTES


def test_a_whole_disk_is_opened_as_ever(stream: Path) -> None:
    """Through its tables."""
    assert_left(stream, [])


@pytest.mark.parametrize("grain", GRAINS)
@pytest.mark.parametrize("more_bytes", [0, 5, 512, 30_000])
def test_a_stream_that_was_cut(stream: Path, grain: int, more_bytes: int) -> None:
    """At the start of a grain or within it: from the grain before on, nothing is known."""
    before = GRAINS[GRAINS.index(grain) - 1] + 1 if grain else 0
    place = place_of(stream, grain)
    cut = place + min(more_bytes, 2000 if grain == 640 else more_bytes)
    stream.write_bytes(stream.read_bytes()[:cut])
    assert_left(stream, [(before, 641)])


def test_a_stream_without_its_footer_alone(stream: Path) -> None:
    """All grains are there, and the directory says that no more came."""
    stream.write_bytes(stream.read_bytes()[:-1024])
    with pytest.raises(VmdkError, match="footer"):
        vmdk.open(RawDevice(stream), Folder(stream.parent))
    assert_left(stream, [])


def test_a_stream_with_zeros_for_its_end(stream: Path) -> None:
    """A download into a file of the full length: the zeros are no end of the stream."""
    data, place = stream.read_bytes(), place_of(stream, 512)
    stream.write_bytes(data[:place].ljust(len(data), b"\0"))
    assert_left(stream, [(512, 641)])


def test_damage_within_a_stream_without_end(stream: Path) -> None:
    """Between the grains around the damage nothing is known; elsewhere holes are zeros."""
    data = bytearray(stream.read_bytes()[:-1024])
    for grain in (10, 511):
        place = place_of(stream, grain)
        data[place : place + 12] = b"\xee" * 12
    stream.write_bytes(data)
    assert_left(stream, [(3, 11), (401, 512)])


def test_zeros_in_the_middle_of_a_stream_without_end(stream: Path) -> None:
    """A block that was never downloaded is damage as well, though zeros stand for nothing else."""
    data = bytearray(stream.read_bytes()[:-1024])
    start, stop = place_of(stream, 10), place_of(stream, 400)
    data[start:stop] = bytes(stop - start)
    stream.write_bytes(data)
    assert_left(stream, [(3, 400)])


def test_grains_out_of_order(stream: Path) -> None:
    """They are found; where a part is lost, what was not found may be in there."""
    data = bytearray(stream.read_bytes())
    one, other = place_of(stream, 1), place_of(stream, 2)
    length = other - one
    assert place_of(stream, 10) - other == length
    data[one:other], data[other : other + length] = (
        data[other : other + length],
        data[one:other],
    )
    stream.write_bytes(data[:-1024])
    assert_left(stream, [])
    stream.write_bytes(data[: place_of(stream, 511)])
    assert_left(stream, [(3, 10), (12, 400), (401, 641)])


def test_it_is_only_read(stream: Path) -> None:
    """What is left is not written to."""
    stream.write_bytes(stream.read_bytes()[:-1024])
    with vmdk.open_remains(Folder(stream.parent), stream.name) as disk:
        with pytest.raises(DeviceError, match="read-only"):
            disk.write(0, b"x")
        with pytest.raises(DeviceError, match="read-only"):
            disk.discard(0, 1)


@pytest.mark.parametrize("kind", ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "foreign"])
def test_a_split_disk_with_a_bad_piece(tmp_path: Path, kind: str, damage: str) -> None:
    """Its other pieces are read."""
    folder, letter = Folder(tmp_path), "s" if "Sparse" in kind else "f"
    split = 4_192_256 * 512
    size = 2 * split + MIB

    def mark(disk: BlockDevice) -> None:
        for at in (0, split, 2 * split):
            disk.write(at, b"here" * 10_000)

    vmdk.create(folder, "disk.vmdk", size, subformat=kind, fill=mark)
    piece = tmp_path / f"disk-{letter}002.vmdk"
    if damage == "missing":
        piece.unlink()
    else:
        content = {"cut": piece.read_bytes()[:100] if letter == "s" else b"", "empty": b""}
        piece.write_bytes(content.get(damage, b"something else" * 1000))
    assert vmdk.has_remains(folder, "disk.vmdk")
    with vmdk.open_remains(folder, "disk.vmdk") as disk:
        assert disk.size_bytes == size
        for at in (0, 2 * split):
            assert read(disk, at, 40_000) == b"here" * 10_000
        with pytest.raises(VmdkError):
            read(disk, 2 * split - 512, 512)
        assert any(run.is_data and run.offset_bytes <= split for run in disk.extents())


def test_a_child_is_not_opened_without_its_parent(tmp_path: Path) -> None:
    """Its changes alone are no disk."""
    folder = Folder(tmp_path)
    vmdk.create(folder, "base.vmdk", MIB)
    vmdk.snapshot(folder, "base.vmdk", "child.vmdk")
    (tmp_path / "base.vmdk").unlink()
    assert not vmdk.has_remains(folder, "child.vmdk")
    with pytest.raises(VmdkError, match="parent"):
        vmdk.open_remains(folder, "child.vmdk")


def test_a_split_child_is_not_opened_without_its_parent(tmp_path: Path) -> None:
    """As one file or as several."""
    folder, text = Folder(tmp_path), tmp_path / "disk.vmdk"
    vmdk.create(folder, text.name, MIB, subformat="twoGbMaxExtentSparse")
    hint = 'parentCID=12345678\nparentFileNameHint="gone.vmdk"'
    text.write_text(text.read_text().replace("parentCID=ffffffff", hint))
    assert not vmdk.has_remains(folder, text.name)
    with pytest.raises(VmdkError, match="parent"):
        vmdk.open_remains(folder, text.name)


@pytest.mark.parametrize("name", ["empty.vmdk", "noise.vmdk", "header.vmdk"])
def test_what_is_no_disk_is_refused(tmp_path: Path, name: str) -> None:
    """As by `open`."""
    (tmp_path / "empty.vmdk").write_bytes(b"")
    (tmp_path / "noise.vmdk").write_bytes(b"noise" * 1000)
    (tmp_path / "header.vmdk").write_bytes(b"KDMV" + b"\xff" * 2000)
    folder = Folder(tmp_path)
    assert not vmdk.has_remains(folder, name)
    with pytest.raises(VmdkError):
        vmdk.open_remains(folder, name)
