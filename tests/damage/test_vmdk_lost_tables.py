"""Tables of a sparse VMDK that are zeros in both copies: told as lost, and kept from being cut."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, MemoryDevice, SalvageDevice, read
from ipva_storage.errors import VmdkError
from ipva_storage.units import MIB
from ipva_storage.vmdk.extent.header import read_header
from ipva_storage.vmdk.extent.orphans import lost_tables
from tests.damage.images import SECTOR, Change, both, put, zeros

SIZE_BYTES = 300 * MIB
"""Ten grain tables, 4 sectors each."""
GRAIN_BYTES = 65_536

SPLIT: dict[str, Change] = {
    "header-too": zeros(0, 128 * 1024),
    "header-kept": zeros(1024, 127 * 1024),
    "all-but-one": zeros(0, (2 + 40 + 1 + 4 * 9) * SECTOR),
    "half": zeros(0, (2 + 40 + 1 + 4 * 5) * SECTOR),
    "half-a-table": both(zeros(2 * SECTOR, 2 * SECTOR), zeros(43 * SECTOR, 2 * SECTOR)),
}
"""Of a part of a split disk: sectors 1 and 42 have the directories, and their tables follow."""


def fill(path: Path, subformat: str) -> bytes:
    """A disk with data in half of its grains; what it reads as."""
    vmdk.create(Folder(path), "disk.vmdk", SIZE_BYTES, subformat=subformat)
    rng, folder = random.Random(5), Folder(path)
    raw = folder.open("disk.vmdk", writable=True)
    with vmdk.open(raw, folder, writable=True) as disk:
        for grain in rng.sample(range(SIZE_BYTES // GRAIN_BYTES), 400):
            disk.write(grain * GRAIN_BYTES, rng.randbytes(4096))
        return read(disk, 0, SIZE_BYTES)


def damage(path: Path, change: Change) -> None:
    """Change a file."""
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


def codes(folder: Folder) -> set[str]:
    """What a check says."""
    with folder.open("disk.vmdk") as raw:
        return {one.code for one in vmdk.check(raw, folder)}


def assert_told(path: Path, data: bytes) -> None:
    """Each byte that is other than it was is told as lost, by the repair and by a salvage."""
    folder = Folder(path)
    done = vmdk.repair(folder, "disk.vmdk")
    assert "VMDK035" in {one.code for one in done.left}
    assert "VMDK035" in codes(folder)
    assert any("in the file belong to is not known" in one.reason for one in done.lost)
    left = bytearray(data)
    for one in done.lost:
        left[one.offset_bytes : one.offset_bytes + one.length_bytes] = bytes(one.length_bytes)
    with vmdk.open_remains(folder, "disk.vmdk") as disk:
        salvaged = SalvageDevice(disk, piece_bytes=GRAIN_BYTES)
        found = bytearray()
        for run in salvaged.extents():
            found += (
                read(salvaged, run.offset_bytes, run.length_bytes)
                if run.is_data
                else bytes(run.length_bytes)
            )
        assert found == left
        assert salvaged.lost_bytes == sum(one.length_bytes for one in done.lost)
    with pytest.raises(VmdkError, match="would be cut off"):
        vmdk.compact(folder, "disk.vmdk")
    with pytest.raises(VmdkError, match="would be cut off"):
        vmdk.resize(folder, "disk.vmdk", SIZE_BYTES // 2)


@pytest.mark.parametrize("kind", SPLIT)
def test_a_part_of_a_split_disk(tmp_path: Path, kind: str) -> None:
    """Zeros over the start of a part: whatever both copies have lost is told."""
    data = fill(tmp_path, "twoGbMaxExtentSparse")
    damage(tmp_path / "disk-s001.vmdk", SPLIT[kind])
    assert_told(tmp_path, data)


def test_a_disk_of_one_file(tmp_path: Path) -> None:
    """Zeros from the descriptor to the first grain: it is an error, and stays one."""
    data = fill(tmp_path, "monolithicSparse")
    damage(tmp_path / "disk.vmdk", zeros(10 * 1024, 118 * 1024))
    assert "VMDK035" in codes(Folder(tmp_path))
    assert_told(tmp_path, data)


def test_compacting_drops_what_is_lost_when_told_to(tmp_path: Path) -> None:
    """The file gets shorter, and the disk reads as it did without those grains."""
    fill(tmp_path, "monolithicSparse")
    damage(tmp_path / "disk.vmdk", zeros(10 * 1024, 118 * 1024))
    folder = Folder(tmp_path)
    vmdk.repair(folder, "disk.vmdk")
    assert vmdk.compact(folder, "disk.vmdk", allow_loss=True).freed_bytes == 400 * GRAIN_BYTES
    assert "VMDK035" not in codes(folder)


def disk_of(used: int, left: int, *, left_first: bool, zeroed: int = 0) -> MemoryDevice:
    """A disk with grains in use, and others that hold data and belong to nothing."""
    from ipva_storage.vmdk.creation import new_sparse

    raw = MemoryDevice(name="disk.vmdk")
    with new_sparse(raw, "disk.vmdk", 64 * MIB, grain_sectors=8) as disk:
        disk.write(0, b"x" * 4096 * (used + left))
    header, content = read_header(raw), raw.data
    for sector in (header.rgd_offset_sectors, header.gd_offset_sectors):
        at = (sector + header.directory_sectors) * SECTOR
        first = at if left_first else at + 4 * used
        zeros(first, 4 * left)(content)
        for number in range(zeroed):
            put(first + 4 * number, 1)(content)
    return MemoryDevice(content)


@pytest.mark.parametrize(
    ("used", "left", "left_first", "is_lost"),
    [
        (3200, 255, False, False),
        (3200, 255, True, False),
        (1600, 256, True, True),
        (1600, 256, False, True),
        (3200, 256, False, False),
        (0, 255, False, False),
        (0, 256, False, True),
    ],
)
def test_a_few_grains_are_what_a_power_cut_leaves(
    used: int, left: int, left_first: bool, is_lost: bool
) -> None:
    """Less than a MiB, or some behind all others, is room to be given back; more is a loss."""
    raw = disk_of(used, left, left_first=left_first)
    found = lost_tables(raw, read_header(raw))
    assert (found is not None) is is_lost
    assert found is None or found.grain_count == left
    severities = {one.code: one.severity for one in vmdk.check(raw)}
    assert severities["VMDK030"] == "info"
    assert ("VMDK035" in severities) is is_lost


def test_a_file_that_was_not_closed_has_grains_left_over() -> None:
    """After a power cut any number of grains has no entry yet, which is no loss of tables."""
    raw = disk_of(100, 100, left_first=True)
    raw.write(72, b"\1")
    assert lost_tables(raw, read_header(raw)) is None


def test_zeroed_grains_leave_their_old_place() -> None:
    """A grain that a program marks as zeros leaves what it held behind, which is no loss."""
    raw = disk_of(100, 30, left_first=True, zeroed=20)
    assert lost_tables(raw, read_header(raw)) is None


def test_zeros_that_belong_to_nothing_are_no_loss() -> None:
    """Room that holds nothing may be as large as it likes."""
    raw = disk_of(10, 0, left_first=False)
    raw.resize(raw.size_bytes + MIB)
    assert lost_tables(raw, read_header(raw)) is None


def test_other_damage_makes_one_grain_a_loss(tmp_path: Path) -> None:
    """Where the directories were lost, too, the repair tells of a single grain."""
    raw = disk_of(1, 0, left_first=False)
    header = read_header(raw)
    start = header.rgd_offset_sectors * SECTOR
    zeros(start, header.overhead_sectors * SECTOR - start)(raw.data)
    (tmp_path / "disk.vmdk").write_bytes(raw.data)
    (lost,) = vmdk.repair(Folder(tmp_path), "disk.vmdk").lost
    assert (lost.offset_bytes, lost.length_bytes) == (0, 64 * MIB)
