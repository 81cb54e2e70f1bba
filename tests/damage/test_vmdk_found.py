"""What fuzzing found (see `tests/fuzz`), each with the smallest disk that shows it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, MemoryDevice, read
from ipva_storage.errors import VmdkError
from ipva_storage.units import KIB
from ipva_storage.vmdk.creation import new_sparse
from ipva_storage.vmdk.extent.header import read_header
from tests.damage.images import NAME, SECTOR, found, put

SIZE_BYTES = 256 * KIB + SECTOR
CONTENT = random.Random(7).randbytes(SIZE_BYTES)
FLAT = "disk-flat.vmdk"


def made(path: Path, subformat: str = "monolithicSparse") -> Folder:
    """A disk that is full of noise."""
    folder = Folder(path)
    vmdk.create(folder, NAME, SIZE_BYTES, subformat=subformat, fill=lambda d: d.write(0, CONTENT))
    return folder


def replace(folder: Folder, old: bytes, new: bytes) -> None:
    """Change the text of the descriptor, in its place."""
    path = folder.path / NAME
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def content(folder: Folder, name: str = NAME) -> bytes:
    """What a disk reads as."""
    with vmdk.open(folder.open(name), folder) as disk:
        return read(disk, 0, disk.size_bytes)


def change(folder: Folder, offset_bytes: int, value: int, length: int = 8) -> None:
    """Overwrite a number of the disk's file."""
    data = bytearray((folder.path / NAME).read_bytes())
    put(offset_bytes, value, length)(data)
    (folder.path / NAME).write_bytes(data)


@pytest.mark.parametrize("rest", [b"", b"x" * 4000], ids=["shorter", "longer"])
def test_a_descriptor_of_another_length_is_mended(tmp_path: Path, rest: bytes) -> None:
    """A damaged descriptor is replaced as a whole, whether the new one is longer or shorter."""
    folder = made(tmp_path, "monolithicFlat")
    (tmp_path / NAME).write_bytes(b"# Disk DescriptorFile\n" + rest)
    assert vmdk.repair(folder, NAME).left == ()
    assert content(folder) == CONTENT
    assert b"xx" not in (tmp_path / NAME).read_bytes()
    assert not vmdk.repair(folder, NAME).is_changed


def test_a_disk_with_impossible_entries_closes_without_more_ado(tmp_path: Path) -> None:
    """A write that is refused for a table leaves nothing pending that closing would look for."""
    folder = made(tmp_path)
    header = read_header(MemoryDevice((tmp_path / NAME).read_bytes()))
    for sector in (header.gd_offset_sectors, header.rgd_offset_sectors):
        change(folder, (sector + header.directory_sectors) * SECTOR, 2**31 + sector, 4)
    raw = folder.open(NAME, writable=True)
    with (
        pytest.raises(VmdkError, match="entries that cannot be"),
        vmdk.open(raw, folder, writable=True) as disk,
    ):
        disk.write(0, b"new")


@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentSparse"])
def test_a_descriptor_without_its_first_line_is_mended(tmp_path: Path, subformat: str) -> None:
    """What is still there of it does not pass for a descriptor that needs nothing."""
    folder = made(tmp_path, subformat)
    replace(folder, b"# Disk DescriptorFile\nversion=1\n", b"\1\2\3 noise\nx\n")
    repaired = vmdk.repair(folder, NAME)
    assert [one.code for one in repaired.fixed] == ["VMDK003"]
    assert repaired.left == ()
    assert content(folder) == CONTENT


def test_one_repair_is_enough(tmp_path: Path) -> None:
    """What comes to light when the first fault is mended is mended in the same job."""
    folder = made(tmp_path)
    header = read_header(MemoryDevice((tmp_path / NAME).read_bytes()))
    change(folder, 72, 1, 1)
    change(folder, header.gd_offset_sectors * SECTOR, 0, 4)
    table = (header.gd_offset_sectors + header.directory_sectors) * SECTOR
    change(folder, table + 4, 0, 4)
    repaired = vmdk.repair(folder, NAME)
    assert repaired.left == ()
    assert content(folder) == CONTENT
    assert not vmdk.repair(folder, NAME).is_changed


def test_an_extent_that_was_not_checked_is_not_believed(tmp_path: Path) -> None:
    """With the descriptor lost, the header of an extent is judged before it is used."""
    folder = made(tmp_path, "twoGbMaxExtentSparse")
    (tmp_path / NAME).unlink()
    part = bytearray((tmp_path / "disk-s001.vmdk").read_bytes())
    put(64, 2**63, 8)(part)
    (tmp_path / "disk-s001.vmdk").write_bytes(part)
    assert vmdk.repair(folder, NAME).left == ()
    assert content(folder) == CONTENT


def test_no_descriptor_is_made_for_an_extent_that_cannot_be(tmp_path: Path) -> None:
    """A capacity beyond any disk's is not believed, nor written down again with each repair."""
    folder = made(tmp_path, "twoGbMaxExtentSparse")
    (tmp_path / NAME).write_bytes(b"lost")
    part = bytearray((tmp_path / "disk-s001.vmdk").read_bytes())
    put(12, 2**37 + 19, 8)(part)
    (tmp_path / "disk-s001.vmdk").write_bytes(part)
    with pytest.raises(VmdkError, match="nothing in it is recognised"):
        vmdk.repair(folder, NAME)
    assert (tmp_path / NAME).read_bytes() == b"lost"


def test_an_extent_is_not_repaired_by_a_descriptor_of_another(tmp_path: Path) -> None:
    """What is asked for is mended or refused, and nothing else is made in its place."""
    folder = made(tmp_path, "monolithicFlat")
    (tmp_path / NAME).write_bytes(b"lost")
    (tmp_path / "disk-s001.vmdk").write_bytes(b"no header" * 1000)
    with pytest.raises(VmdkError, match="nothing in it is recognised"):
        vmdk.repair(folder, "disk-s001.vmdk")
    assert (tmp_path / NAME).read_bytes() == b"lost"
    (tmp_path / NAME).unlink()
    with pytest.raises(VmdkError, match="nothing in it is recognised"):
        vmdk.repair(folder, "disk-s001.vmdk")
    assert not (tmp_path / NAME).exists()
    assert vmdk.repair(folder, FLAT).left == ()
    assert content(folder) == CONTENT


def test_a_lost_copy_of_a_table_is_no_reason_to_read_the_rest_in_another_way(
    tmp_path: Path,
) -> None:
    """Tables that are not of the usual length stay so, where the disk reads without an error."""
    raw, few = MemoryDevice(), CONTENT[: 72 * KIB]
    with new_sparse(raw, NAME, len(few), grain_sectors=8, gtes_per_gt=4) as disk:
        disk.write(0, few)
    put(read_header(raw).rgd_offset_sectors * SECTOR + 4, 0)(raw.data)
    (tmp_path / NAME).write_bytes(raw.data)
    folder = Folder(tmp_path)
    assert found(folder) == {"VMDK008"}
    assert vmdk.repair(folder, NAME).left == ()
    assert content(folder) == few
    assert found(folder) == set()


def test_no_remains_are_promised_where_nothing_is_named(tmp_path: Path) -> None:
    """A descriptor without extents has nothing to salvage."""
    folder = made(tmp_path, "monolithicFlat")
    assert vmdk.has_remains(folder, NAME)
    replace(folder, b"RW 513 FLAT", b"XX 513 FLAT")
    assert not vmdk.has_remains(folder, NAME)


def test_a_parent_that_is_no_vmdk_is_found(tmp_path: Path) -> None:
    """The check of a child looks at its parent as opening does."""
    folder = made(tmp_path, "monolithicFlat")
    vmdk.snapshot(folder, NAME, "child.vmdk")
    replace(folder, b"# Disk DescriptorFile\nversion=1\n", b"\1\2\3 noise\nx\n")
    with folder.open("child.vmdk") as raw:
        assert "VMDK031" in {one.code for one in vmdk.check(raw, folder)}


def test_the_identifier_that_means_no_parent_is_no_identifier(tmp_path: Path) -> None:
    """A child over such a disk would forget it, and show zeros; so there is none until mended."""
    folder = made(tmp_path)
    with vmdk.open(folder.open(NAME), folder) as disk:
        cid = disk.descriptor.cid or 0
    replace(folder, b"\nCID=%08x" % cid, b"\nCID=ffffffff")
    assert found(folder) == {"VMDK017"}
    with pytest.raises(VmdkError, match="no content identifier"):
        vmdk.snapshot(folder, NAME, "child.vmdk")
    assert vmdk.repair(folder, NAME).left == ()
    vmdk.snapshot(folder, NAME, "child.vmdk")
    assert content(folder, "child.vmdk") == CONTENT


@pytest.mark.parametrize("field", [48, 56], ids=["redundant", "primary"])
@pytest.mark.parametrize("place", [0, 2**40], ids=["none", "outside"])
@pytest.mark.parametrize("size_bytes", [SIZE_BYTES - 64 * KIB, SIZE_BYTES + 64 * KIB])
def test_a_disk_with_one_directory_left_is_resized_or_left_alone(
    tmp_path: Path, field: int, place: int, size_bytes: int
) -> None:
    """Nothing is written where the lost directory is said to be."""
    folder = made(tmp_path)
    change(folder, field, place)
    expected = [CONTENT, CONTENT[:size_bytes].ljust(size_bytes, b"\0")]
    is_done = True
    try:
        vmdk.resize(folder, NAME, size_bytes, allow_loss=True)
    except VmdkError:
        is_done = False
    assert content(folder) == expected[is_done]


def test_a_last_grain_that_is_not_whole_grows(tmp_path: Path) -> None:
    """A file may end with the disk, within its last grain; a larger disk needs all of that."""
    folder = made(tmp_path)
    size = (tmp_path / NAME).stat().st_size
    with (tmp_path / NAME).open("r+b") as file:
        file.truncate(size - 64 * KIB + SECTOR)
    assert found(folder) == set()
    vmdk.resize(folder, NAME, SIZE_BYTES + 4 * KIB)
    assert found(folder) == set()
    assert content(folder) == CONTENT + bytes(4 * KIB)


def test_a_stream_for_a_foreign_adapter_is_resized(tmp_path: Path) -> None:
    """What it says of its adapter is no argument that the user gave."""
    folder = made(tmp_path, "streamOptimized")
    replace(folder, b'adapterType = "ide"', b'adapterType = "nvm"')
    vmdk.resize(folder, NAME, SIZE_BYTES + 4 * KIB)
    assert content(folder) == CONTENT + bytes(4 * KIB)


def test_a_disk_without_an_extent_line_is_not_resized(tmp_path: Path) -> None:
    """The refusal names the file, and what to do."""
    folder = made(tmp_path)
    replace(folder, b"RW 513 SPARSE", b"XX 513 SPARSE")
    with pytest.raises(VmdkError) as refused:
        vmdk.resize(folder, NAME, SIZE_BYTES + SECTOR)
    assert refused.value.where == str(tmp_path / NAME)
    assert refused.value.remedy == "mend that first: ipva disk repair DISK"
    assert content(folder) == CONTENT
