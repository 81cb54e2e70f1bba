"""Damage to what holds a volume together: found, mended, and no file is lost or changed by it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ipva_formats import fat as layout
from ipva_storage import fat
from ipva_storage.device import MemoryDevice
from ipva_storage.fat.bootfields import BootFields
from tests.damage.fat_volumes import SHAPES, Damage, Tree, Volume, codes, sound, tree

ALL = (12, 16, 32)
SECTOR = 512


@dataclass(frozen=True)
class Kind:
    """A kind of damage, and what the check calls it."""

    name: str
    code: str
    damage: Damage
    bits: tuple[int, ...] = ALL


def boot(v: Volume) -> bytes:
    """The boot sector."""
    return bytes(v.device.data[:SECTOR])


def without_backup(v: Volume) -> None:
    """FAT32's backup boot sector is gone, too."""
    if v.geometry.backup_offset_bytes is not None:
        v.put(v.geometry.backup_offset_bytes, bytes(SECTOR))


def put(at: int, data: bytes, *, at_32: int | None = None, backup: bool = True) -> Damage:
    """Bytes of the boot sector are others; without `backup`, its backup is lost as well."""

    def damage(v: Volume) -> None:
        is_32 = v.geometry.fat_bits == 32
        v.put(at_32 if is_32 and at_32 is not None else at, data)
        if not backup:
            without_backup(v)

    return damage


def field(*, backup: bool = True, **changes: Callable[[int], int]) -> Damage:
    """Fields of the boot sector have other numbers."""

    def damage(v: Volume) -> None:
        fields = BootFields.of(boot(v))
        numbers = {name: change(getattr(fields, name)) for name, change in changes.items()}
        v.put(0, replace(fields, **numbers).put_into(boot(v)))  # type: ignore[arg-type]
        if not backup:
            without_backup(v)

    return damage


def garbage(length_bytes: int) -> bytes:
    """Bytes that mean nothing."""
    return random.Random(length_bytes).randbytes(length_bytes)


def copy_at(v: Volume, copy: int) -> int:
    """Where a copy of the table begins, in bytes."""
    return v.geometry.fat_offset_bytes + copy * v.geometry.fat_bytes


def tables(make: Callable[[int], bytes], *copies: int, sectors: int | None = None) -> Damage:
    """Copies of the table, or their first sectors, hold something else."""

    def damage(v: Volume) -> None:
        length = v.geometry.fat_bytes if sectors is None else sectors * SECTOR
        for copy in copies:
            v.put(copy_at(v, copy), make(length))

    return damage


def heads(data: bytes, *copies: int, at: int = 0) -> Damage:
    """Copies of the table begin with something else."""

    def damage(v: Volume) -> None:
        for copy in copies:
            v.put(copy_at(v, copy) + at, data)

    return damage


def alternately(v: Volume) -> None:
    """Each copy of the table has lost every other of its first sectors."""
    for sector in range(2):
        v.put(copy_at(v, sector % 2) + sector * SECTOR, garbage(SECTOR))


def bits_of_state(mask: int) -> Damage:
    """Bits of the second entry are cleared in all copies."""

    def damage(v: Volume) -> None:
        v.link(1, v.end & ~mask)

    return damage


def unclean(v: Volume) -> None:
    """The table says that the volume was not closed."""
    bits_of_state(layout.CLEAN_BIT[v.geometry.fat_bits])(v)


def with_errors(v: Volume) -> None:
    """The table says that the disk had errors."""
    bits_of_state(layout.NO_ERROR_BIT[v.geometry.fat_bits])(v)


def no_root_label(v: Volume) -> None:
    """The label in the root folder is gone."""
    v.put(v.device.data.rfind(b"GOOD       \x08"), b"\xe5")


def summary(at: int, data: bytes) -> Damage:
    """The free-space summary holds something else."""

    def damage(v: Volume) -> None:
        assert v.geometry.fsinfo_offset_bytes is not None
        v.put(v.geometry.fsinfo_offset_bytes + at, data)

    return damage


def backup(at: int, data: bytes) -> Damage:
    """The backup boot sector holds something else."""

    def damage(v: Volume) -> None:
        assert v.geometry.backup_offset_bytes is not None
        v.put(v.geometry.backup_offset_bytes + at, data)

    return damage


def reserved_lost(v: Volume) -> None:
    """All before the table is zero."""
    v.put(0, bytes(v.geometry.fat_offset_bytes))


def all_but_data_lost(v: Volume) -> None:
    """All before the root folder is zero."""
    v.put(0, bytes(v.geometry.root_offset_bytes))


def cut_short(v: Volume) -> None:
    """The device ends before the volume does, in clusters that no file has."""
    del v.device.data[len(v.device.data) * 9 // 10 // SECTOR * SECTOR :]


def doubled(number: int) -> int:
    """Twice as much."""
    return 2 * number


def halved(number: int) -> int:
    """Half as much."""
    return number // 2


def zero(_: int) -> int:
    """Nothing."""
    return 0


def one_more(number: int) -> int:
    """One more."""
    return number + 1


KINDS = [
    Kind("boot-zero", "FAT001", put(0, bytes(SECTOR))),
    Kind("boot-garbage", "FAT001", put(0, garbage(SECTOR))),
    Kind("boot-text", "FAT001", put(0, b"not a boot sector. " * 26)),
    Kind("boot-and-backup", "FAT001", put(0, bytes(SECTOR), backup=False)),
    Kind("reserved-lost", "FAT001", reserved_lost),
    Kind("signature", "FAT001", put(510, b"\0\0")),
    Kind("signature-no-backup", "FAT001", put(510, b"\0\0", backup=False)),
    Kind("sector-size", "FAT001", put(11, b"\0\0", backup=False)),
    Kind("sector-size-doubled", "FAT022", field(sector_bytes=doubled, backup=False)),
    Kind("cluster-size-zero", "FAT001", put(13, b"\0", backup=False)),
    Kind("cluster-size-doubled", "FAT022", field(cluster_sectors=doubled, backup=False)),
    Kind("cluster-size-from-backup", "FAT022", field(cluster_sectors=doubled), (32,)),
    Kind("reserved-zero", "FAT001", put(14, b"\0\0", backup=False)),
    Kind("reserved-more", "FAT022", field(reserved_sectors=one_more, backup=False)),
    Kind("fat-count-zero", "FAT001", put(16, b"\0", backup=False)),
    Kind("fat-count-one", "FAT022", field(fat_count=halved, backup=False)),
    Kind("fat-count-three", "FAT022", field(fat_count=one_more, backup=False)),
    Kind("root-entries-doubled", "FAT022", field(root_entry_count=doubled), (12, 16)),
    Kind("root-entries-torn", "FAT022", put(17, b"\x69\0"), (12, 16)),
    Kind("root-entries-zero", "FAT001", put(17, b"\0\0"), (12, 16)),
    Kind("fat-size-doubled", "FAT022", field(fat_sectors=doubled, backup=False)),
    Kind("fat-size-halved", "FAT022", field(fat_sectors=halved, backup=False)),
    Kind("volume-size-huge", "FAT022", put(32, b"\xff\xff\xff\x7f", backup=False), (32,)),
    Kind("volume-size-zero", "FAT001", put(32, b"\0\0\0\0", backup=False), (32,)),
    Kind("volume-size-from-backup", "FAT022", field(volume_sectors=halved), (32,)),
    Kind("media", "FAT022", put(21, b"\xf0", backup=False)),
    Kind("media-impossible", "FAT001", put(21, b"\x01", backup=False)),
    Kind("root-cluster", "FAT022", field(root_cluster=one_more), (32,)),
    Kind("root-cluster-no-backup", "FAT022", field(root_cluster=zero, backup=False), (32,)),
    Kind("summary-place", "FAT024", field(fsinfo_sector=one_more, backup=False), (32,)),
    Kind("summary-none", "FAT024", put(48, b"\0\0", backup=False), (32,)),
    Kind("backup-place", "FAT025", put(50, b"\x09\0"), (32,)),
    Kind("backup-none", "FAT025", put(50, b"\0\0"), (32,)),
    Kind("jump", "FAT026", put(0, b"\x01\x02\x03")),
    Kind("type-text", "FAT027", put(0x36, b"\xffABC\x01", at_32=0x52)),
    Kind("mirror-flags", "FAT028", put(40, b"\x8f\x70"), (32,)),
    Kind("boot-label", "FAT017", put(0x2B, b"OTHER      ", at_32=0x47)),
    Kind("boot-label-garbage", "FAT017", put(0x2B, b"\x01\x02\x03", at_32=0x47)),
    Kind("root-label-gone", "FAT017", no_root_label),
    Kind("state-byte", "FAT019", put(0x25, b"\x01", at_32=0x41)),
    Kind("not-clean", "FAT019", unclean, (16, 32)),
    Kind("disk-errors", "FAT019", with_errors, (16, 32)),
    Kind("head-media", "FAT022", heads(b"\xf0", 0, 1)),
    Kind("head-second-entry", "FAT029", heads(b"\0\0\0", 0, 1, at=1)),
    Kind("head-of-first", "FAT005", heads(b"\0\0\0", 0)),
    Kind("head-of-both", "FAT029", heads(b"\0\0\0", 0, 1)),
    Kind("first-copy-zero", "FAT005", tables(bytes, 0)),
    Kind("first-copy-garbage", "FAT005", tables(garbage, 0)),
    Kind("second-copy-garbage", "FAT005", tables(garbage, 1)),
    Kind("sector-of-first", "FAT005", tables(garbage, 0, sectors=1)),
    Kind("sectors-alternately", "FAT005", alternately),
    Kind("both-copies-zero", "FAT029", tables(bytes, 0, 1)),
    Kind("both-copies-garbage", "FAT029", tables(garbage, 0, 1)),
    Kind("sector-of-both", "FAT029", tables(garbage, 0, 1, sectors=1)),
    Kind("sector-of-both-zero", "FAT029", tables(bytes, 0, 1, sectors=1)),
    Kind("boot-and-tables", "FAT001", all_but_data_lost, (12, 16, 32)),
    Kind("summary-marks", "FAT018", summary(0, bytes(8)), (32,)),
    Kind("summary-garbage", "FAT018", summary(0, garbage(SECTOR)), (32,)),
    Kind("summary-count", "FAT018", summary(488, b"\x05\0\0\0"), (32,)),
    Kind("backup-zero", "FAT003", backup(0, bytes(SECTOR)), (32,)),
    Kind("backup-other", "FAT003", backup(3, b"OTHERDOS"), (32,)),
    Kind("cut-short", "FAT020", cut_short),
]
CASES = [pytest.param(kind, bits, id=f"{kind.name}-{bits}") for kind in KINDS for bits in kind.bits]


def damaged(kind: Kind, bits: int) -> MemoryDevice:
    """A volume with this damage."""
    volume = Volume(sound(bits))
    kind.damage(volume)
    return volume.device


def before(bits: int) -> Tree:
    """The tree before the damage."""
    return tree(MemoryDevice(sound(bits)))


@pytest.mark.parametrize(("kind", "bits"), CASES)
def test_damage_is_found_and_mended(kind: Kind, bits: int) -> None:
    """Each kind has its finding; a repair leaves none, every file as it was, and is done."""
    device = damaged(kind, bits)
    assert kind.code in codes(device)
    done = fat.repair(device)
    assert codes(device) == set()
    assert tree(device) == before(bits)
    assert not done.lost
    assert kind.code in {one.code for one in done.fixed}
    assert not fat.repair(device).is_changed


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_data_is_not_touched(kind: Kind) -> None:
    """Behind the root folder and before the end of the tree no byte is written."""
    bits = kind.bits[0]
    device = damaged(kind, bits)
    data = Volume(sound(bits)).geometry.data_offset_bytes
    if bits == 32:
        data += Volume(sound(bits)).geometry.cluster_bytes
    damaged_bytes = bytes(device.data[data:])
    fat.repair(device)
    assert bytes(device.data[data:]) == damaged_bytes


@pytest.mark.interop
@pytest.mark.parametrize(("kind", "bits"), CASES)
def test_peer_finds_nothing(
    kind: Kind, bits: int, tmp_path: Path, peer: Callable[..., object]
) -> None:
    """fsck.fat has nothing to say about a repaired volume."""
    device = damaged(kind, bits)
    fat.repair(device)
    image = tmp_path / "volume.img"
    image.write_bytes(device.data)
    result = peer("fsck.fat", "-n", image)
    assert result.returncode == 0, result.stdout  # type: ignore[attr-defined]
    lines = result.stdout.splitlines()  # type: ignore[attr-defined]
    unusual = kind.name == "cut-short" and bits == 32
    assert len(lines) == 2 or unusual, lines


@pytest.mark.parametrize("bits", [16, 32])
def test_two_halves_of_a_table_make_one(bits: int) -> None:
    """Each copy has what the other has lost: nothing is lost, though neither says much."""
    device = MemoryDevice(bytes(SHAPES[bits][0]))
    fat.format(device, fat_bits=bits)
    files = {f"/Folder/File number {number}.txt": bytes([number]) * 9000 for number in range(40)}
    with fat.open(device) as made, made.batch():
        made.mkdir("/Folder")
        for path, content in files.items():
            made.write(path, content)
    volume = Volume(bytes(device.data))
    length = volume.geometry.fat_bytes
    volume.put(copy_at(volume, 0), bytes(SECTOR))
    volume.put(copy_at(volume, 1) + SECTOR, bytes(length - SECTOR))
    done = fat.repair(volume.device)
    assert (done.left, done.lost, done.recovered) == ((), (), ())
    with fat.open(volume.device) as mended:
        assert {path: mended.read(path) for path in files} == files
        assert [path for path, entry in mended.walk() if not entry.is_dir] == list(files)


def big_folder(*, is_full: bool) -> Volume:
    """A FAT32 volume with a folder of several clusters that lie apart; or of full ones only."""
    device = MemoryDevice(bytes(SHAPES[32][0]))
    fat.format(device, fat_bits=32, cluster_bytes=512)
    count, chance = 78 if is_full else 40, random.Random(5)
    with fat.open(device) as volume:
        volume.mkdir("/Folder")
        for number in range(count):
            name = (
                f"F{number}"
                if is_full
                else f"{number} is a name of more records than a sector has{' and more' * 20}"
            )
            volume.write(f"/Folder/{name}", chance.randbytes(700))
    return Volume(bytes(device.data))


def test_a_folder_in_pieces_is_put_together_again() -> None:
    """Both tables are lost, and pieces of the folder begin in the middle of a long name."""
    volume = big_folder(is_full=False)
    with fat.open(volume.device) as before:
        expected = {path: before.read(path) for path, entry in before.walk() if not entry.is_dir}
    for copy in (0, 1):
        volume.put(copy_at(volume, copy), bytes(volume.geometry.fat_bytes))
    assert fat.repair(volume.device).lost == ()
    with fat.open(volume.device) as mended:
        found = {path: mended.read(path) for path, entry in mended.walk() if not entry.is_dir}
    assert found == expected


def test_a_folder_whose_end_is_not_found_is_told() -> None:
    """It may have had more: the repair says so."""
    volume = big_folder(is_full=True)
    for copy in (0, 1):
        volume.put(copy_at(volume, copy), bytes(volume.geometry.fat_bytes))
    (lost,) = fat.repair(volume.device).lost
    assert lost.path == "/Folder"
    assert "no end of it" in lost.reason
