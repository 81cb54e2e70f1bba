"""Damage to a sparse VMDK, one kind a part and field: found, and mended where a copy is left."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, read
from ipva_storage.errors import IpvaError
from tests.damage.images import (
    NAME,
    SECTOR,
    Change,
    Image,
    both,
    content_of,
    cut,
    found,
    make,
    noise,
    put,
    text,
    without,
    zeros,
)

RGD, GD, DATA = 21, 34, 128
"""Sectors of the directories and of the first grain; a table follows its directory at once."""
RGT, GT = RGD + 1, GD + 1
TABLE_SECTORS = 4
CAPACITY = 70 * 2048
END = 2**64 - 1

MENDED: dict[str, Change] = {
    "magic": put(0, 0),
    "header-zeros": zeros(0),
    "header-noise": noise(0),
    "version-0": put(4, 0),
    "version-9": put(4, 9),
    "flags-0": put(8, 0),
    "flags-no-redundant": put(8, 1),
    "flags-no-newlines": put(8, 2),
    "flags-compressed": put(8, 0x30003),
    "flags-unknown": put(8, 0x103),
    "capacity-0": put(12, 0, 8),
    "capacity-half": put(12, CAPACITY // 2, 8),
    "capacity-absurd": put(12, 2**50, 8),
    "grain-0": put(20, 0, 8),
    "grain-half": put(20, 64, 8),
    "grain-double": put(20, 256, 8),
    "grain-odd": put(20, 100, 8),
    "descriptor-offset-0": put(28, 0, 8),
    "descriptor-offset-5": put(28, 5, 8),
    "descriptor-offset-absurd": put(28, 2**40, 8),
    "descriptor-size-0": put(36, 0, 8),
    "descriptor-size-absurd": put(36, 2**30, 8),
    "entries-0": put(44, 0),
    "entries-half": put(44, 256),
    "entries-511": put(44, 511),
    "entries-1024": put(44, 1024),
    "rgd-0": put(48, 0, 8),
    "rgd-elsewhere": put(48, 22, 8),
    "rgd-outside": put(48, 2**40, 8),
    "gd-0": put(56, 0, 8),
    "gd-elsewhere": put(56, 22, 8),
    "gd-outside": put(56, 2**40, 8),
    "gd-at-end": put(56, END, 8),
    "overhead-0": put(64, 0, 8),
    "overhead-64": put(64, 64, 8),
    "overhead-100": put(64, 100, 8),
    "overhead-256": put(64, 256, 8),
    "overhead-outside": put(64, 2**40, 8),
    "unclean": put(72, 1, 1),
    "newlines": put(73, 0x0A0A0D20),
    "compression-1": put(77, 1, 2),
    "compression-5": put(77, 5, 2),
    "descriptor-zeros": zeros(SECTOR, 20 * SECTOR),
    "descriptor-noise": noise(SECTOR),
    "descriptor-no-cid": text(b"\nCID=", b"\nXXX="),
    "descriptor-no-kind": text(b"createType", b"createTypo"),
    "descriptor-no-extent": text(b"\nRW ", b"\nXX "),
    "gd-zeros": zeros(GD * SECTOR),
    "gd-noise": noise(GD * SECTOR),
    "gd-entry-in-metadata": put(GD * SECTOR, 5),
    "gd-entry-outside": put(GD * SECTOR + 4, 2**31),
    "gd-entry-0": put(GD * SECTOR + 8, 0),
    "gd-entry-twice": put(GD * SECTOR + 4, GT),
    "rgd-zeros": zeros(RGD * SECTOR),
    "rgd-noise": noise(RGD * SECTOR),
    "rgd-entry-in-metadata": put(RGD * SECTOR, 5),
    "rgd-entry-twice": put(RGD * SECTOR + 4, RGT),
    "both-directories-zeros": both(zeros(GD * SECTOR), zeros(RGD * SECTOR)),
    "gt-zeros": zeros(GT * SECTOR, TABLE_SECTORS * SECTOR),
    "gt-noise": noise(GT * SECTOR),
    "second-gt-sector-zeros": zeros((GT + TABLE_SECTORS) * SECTOR),
    "all-gts-zeros": zeros(GT * SECTOR, 3 * TABLE_SECTORS * SECTOR),
    "rgt-zeros": zeros(RGT * SECTOR, TABLE_SECTORS * SECTOR),
    "rgt-noise": noise(RGT * SECTOR),
    "all-rgts-noise": noise(RGT * SECTOR, 3 * TABLE_SECTORS * SECTOR),
}
"""Everything that one copy, the descriptor or the usual layout lets mend to the byte."""

ENTRY = {
    "0": 0,
    "another-grain": DATA + 128,
    "metadata": 64,
    "unaligned": DATA + 5,
    "outside": 2**31,
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """A sound disk."""
    return make(tmp_path_factory.mktemp("sound"), "monolithicSparse")


def damaged(image: Image, change: Change, path: Path) -> Folder:
    """A folder with the image, damaged."""
    content = bytearray(image.content)
    change(content)
    assert content != image.content
    (path / NAME).write_bytes(content)
    return Folder(path)


def first_grain_entry(image: Image) -> int:
    """Where in a table the first entry with a grain is, in bytes."""
    table = image.content[GT * SECTOR : (GT + TABLE_SECTORS) * SECTOR]
    return next(at for at in range(0, len(table), 4) if any(table[at : at + 4]))


def test_the_image_is_laid_out_as_the_tests_say(image: Image) -> None:
    """The sectors used here are those of the image."""
    header = image.header
    assert (header.rgd_offset_sectors, header.gd_offset_sectors) == (RGD, GD)
    assert (header.overhead_sectors, header.table_count) == (DATA, 3)
    assert header.capacity_sectors == CAPACITY
    assert len(MENDED) + 2 * len(ENTRY) > 60


def assert_mended(image: Image, change: Change, path: Path) -> None:
    """Found before, never read as other bytes without a finding; afterwards all is well."""
    folder = damaged(image, change, path)
    before = found(folder)
    assert before
    repaired = vmdk.repair(folder, NAME)
    assert repaired.is_changed
    assert repaired.fixed
    assert (repaired.left, repaired.lost) == ((), ())
    assert found(folder) == set()
    assert content_of(folder) == image.data


@pytest.mark.parametrize("name", MENDED)
def test_what_a_copy_covers_is_mended(image: Image, tmp_path: Path, name: str) -> None:
    """It is found, and after the repair the disk reads as before and has no finding."""
    assert_mended(image, MENDED[name], tmp_path)


@pytest.mark.parametrize("table", [GT, RGT])
@pytest.mark.parametrize("name", ENTRY)
def test_an_entry_of_one_table_is_mended(
    image: Image, tmp_path: Path, name: str, table: int
) -> None:
    """One entry of either copy, wrong in whatever way, is mended from the other copy."""
    at = table * SECTOR + first_grain_entry(image)
    assert_mended(image, put(at, ENTRY[name]), tmp_path)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_dry_run_changes_nothing(image: Image, tmp_path: Path, dry_run: bool) -> None:
    """What would be mended is told alike, and the file stays as it was."""
    folder = damaged(image, MENDED["gt-zeros"], tmp_path)
    before = (tmp_path / NAME).read_bytes()
    repaired = vmdk.repair(folder, NAME, dry_run=dry_run)
    assert {one.code for one in repaired.fixed} == {"VMDK009"}
    assert ((tmp_path / NAME).read_bytes() == before) is dry_run


def test_a_sound_disk_is_left_alone(image: Image, tmp_path: Path) -> None:
    """Nothing is written to a disk without a finding."""
    (tmp_path / NAME).write_bytes(image.content)
    repaired = vmdk.repair(Folder(tmp_path), NAME)
    assert not repaired.is_changed
    assert (repaired.fixed, repaired.left, repaired.lost) == ((), (), ())
    assert (tmp_path / NAME).read_bytes() == image.content


def test_an_entry_lost_in_both_copies_is_told(image: Image, tmp_path: Path) -> None:
    """Where neither copy knows a grain, its range is told, and reading it is refused as before."""
    at = first_grain_entry(image)
    change = both(put(GT * SECTOR + at, 2**31), put(RGT * SECTOR + at, 2**30 + 1))
    folder = damaged(image, change, tmp_path)
    repaired = vmdk.repair(folder, NAME)
    grain = at // 4
    assert [(one.offset_bytes, one.length_bytes) for one in repaired.lost] == [
        (grain * 65536, 65536)
    ]
    assert {one.code for one in repaired.left} >= {"VMDK010"}
    assert content_of(folder) is None


def test_a_file_cut_off_tells_what_is_lost(image: Image, tmp_path: Path) -> None:
    """Grains behind the end of a cut file are told by range; the others read as before."""
    folder = damaged(image, cut(len(image.content) - 200_000), tmp_path)
    repaired = vmdk.repair(folder, NAME)
    assert sum(one.length_bytes for one in repaired.lost) == 4 * 65536
    assert {one.reason for one in repaired.lost} == {
        "the file ends before it",
        "the file ends within it",
    }
    kept = without(image.data, repaired.lost)
    with vmdk.open(folder.open(NAME), folder) as disk:
        for at, block in kept.items():
            assert at < 0 or read(disk, at, len(block)) == block


def test_a_size_that_nothing_confirms_stays(image: Image, tmp_path: Path) -> None:
    """Where header and descriptor disagree within a cylinder, neither is taken for right."""
    folder = damaged(image, put(12, CAPACITY + 128, 8), tmp_path)
    repaired = vmdk.repair(folder, NAME)
    assert [one.code for one in repaired.left] == ["VMDK004"]
    assert not repaired.is_changed


def test_nothing_is_made_of_nothing(tmp_path: Path) -> None:
    """A file in which nothing is recognised is refused."""
    (tmp_path / NAME).write_bytes(random.Random(1).randbytes(100_000))
    with pytest.raises(IpvaError, match="nothing in it is recognised"):
        vmdk.repair(Folder(tmp_path), NAME)


@pytest.mark.parametrize("seed", range(40))
def test_no_damaged_sector_shows_other_data_unnoticed(
    image: Image, tmp_path: Path, seed: int
) -> None:
    """A sector of the metadata, damaged at random: wrong data is never read without a finding."""
    rng = random.Random(seed)
    at = rng.randrange(GT + 3 * TABLE_SECTORS) * SECTOR
    content = bytearray(image.content)
    way = rng.randrange(4)
    if way == 0:
        content[at : at + SECTOR] = rng.randbytes(SECTOR)
    elif way == 1:
        content[at : at + SECTOR] = bytes(SECTOR)
    elif way == 2:
        other = rng.randrange(GT + 3 * TABLE_SECTORS) * SECTOR
        content[at : at + SECTOR] = content[other : other + SECTOR]
    else:
        for _ in range(rng.choice([1, 3])):
            content[at + rng.randrange(SECTOR)] ^= 1 << rng.randrange(8)
    (tmp_path / NAME).write_bytes(content)
    folder = Folder(tmp_path)
    assert content_of(folder) in (None, image.data) or found(folder)
    repaired = vmdk.repair(folder, NAME)
    after = content_of(folder)
    assert after in (None, image.data) or repaired.left or repaired.lost
