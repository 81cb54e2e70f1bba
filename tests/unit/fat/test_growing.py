"""Growing volumes: the layouts, what is kept, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from ipva_formats import mbr
from ipva_storage import fat
from ipva_storage.device import MemoryDevice, OverlayDevice, SliceDevice, TraceDevice, read
from ipva_storage.errors import FatError, NoSpaceError, UsageError
from ipva_storage.fat import geometry, partitions
from ipva_storage.fat.growing import grow, grow_disk
from ipva_storage.fat.growing.layouts import larger, present
from ipva_storage.fat.growing.vacating import Moves, plan_moves
from ipva_storage.fat.relocating import FolderTree
from ipva_storage.fat.table import FatTable
from ipva_storage.testing.fat_growth import codes, contents, fill
from ipva_storage.units import GIB, KIB, MIB


def volume(size_bytes: int, **wishes: object) -> MemoryDevice:
    """A volume with files."""
    device = MemoryDevice(size_bytes)
    fat.format(device, label="KEPT", volume_id=7, **wishes)  # type: ignore[arg-type]
    fill(device, file_count=30, is_full=False)
    return device


@pytest.mark.parametrize(
    ("before", "after", "wishes", "bits"),
    [
        (MIB, 2 * MIB, {}, 12),
        (MIB, 20 * MIB, {}, 16),
        (MIB, 40 * MIB, {"cluster_bytes": 512}, 32),
        (16 * MIB, 64 * MIB, {}, 16),
        (20 * MIB, 200 * MIB, {}, 32),
        (300 * MIB, 400 * MIB, {"fat_bits": 32, "cluster_bytes": 4096}, 32),
        (MIB, 8 * MIB, {"sector_bytes": 2048}, 12),
        (40 * MIB, 300 * MIB, {"sector_bytes": 4096, "fat_bits": 16}, 32),
        (MIB, 3 * MIB, {"fat_count": 3}, 12),
        (MIB, 3 * MIB, {"fat_count": 1}, 12),
    ],
)
def test_grown_volumes(before: int, after: int, wishes: dict[str, object], bits: int) -> None:
    """Files, label and id stay, the type follows, the room is used, nothing wrong is found."""
    device = volume(before, **wishes)
    expected, old = contents(device), fat.open(device).geometry
    device.resize(after)
    done = grow(device)
    new = fat.open(device).geometry
    assert contents(device) == expected
    assert (
        (done.before_bits, done.after_bits) == (old.fat_bits, bits) == (old.fat_bits, new.fat_bits)
    )
    assert (done.before_bytes, done.after_bytes) == (old.volume_bytes, after)
    assert new.cluster_bytes == old.cluster_bytes
    assert (fat.open(device).label, new.volume_id) == ("KEPT", 7)
    assert new.fat_count == max(2, old.fat_count)
    assert (new.data_offset_bytes - old.data_offset_bytes) % old.cluster_bytes == 0
    assert (
        codes(device) <= {"FAT002"}
        if bits == 32 and new.cluster_count < 65525
        else not codes(device)
    )
    with fat.open(device) as opened:
        opened.write("/More than there was room for", bytes(before))
    assert contents(device) == {**expected, "/More than there was room for": bytes(before)}


def test_the_same_table_is_kept_where_it_is_long_enough() -> None:
    """A little more room costs one sector; nothing moves."""
    device = volume(20 * MIB)
    device.resize(20 * MIB + 16 * KIB)
    trace = TraceDevice(device)
    old = fat.open(device).geometry
    assert grow(trace).is_changed
    assert trace.work.write_bytes == 512
    assert fat.open(device).geometry.data_offset_bytes == old.data_offset_bytes
    assert not codes(device)


def test_nothing_to_do_changes_nothing() -> None:
    """A volume that fills its device, or may not, is left as it is."""
    device = volume(4 * MIB)
    trace = TraceDevice(device)
    assert not grow(trace).is_changed
    assert trace.work.write_bytes == 0
    with pytest.raises(UsageError, match="already"):
        grow(device, MIB)


def test_files_in_a_fixed_root_folder_alone() -> None:
    """Where there is no folder but a root with a place of its own, files that move are found."""
    device = MemoryDevice(64 * KIB)
    fat.format(device, fat_bits=12, cluster_bytes=512, volume_id=7)
    with fat.open(device) as opened:
        for number in range(20):
            opened.write(f"/File {number}", bytes([number + 1]) * 700)
    expected = contents(device)
    device.resize(MIB)
    assert grow(device).is_changed
    assert contents(device) == expected
    assert not codes(device)


def test_dry_run_changes_nothing() -> None:
    """What would be done is told."""
    device = volume(2 * MIB)
    device.resize(30 * MIB)
    before = bytes(device.data)
    assert grow(device, dry_run=True).after_bits == 16
    assert device.data == before


def test_room_of_an_earlier_growth_is_used_again() -> None:
    """The fourth growth puts its tables where those of the first were, and moves no file."""
    device = volume(40 * MIB, fat_bits=32, cluster_bytes=512)
    expected = contents(device)
    places = []
    for size_mib in (44, 48, 52, 56, 60):
        device.resize(size_mib * MIB)
        grow(device)
        places.append(fat.open(device).geometry.fat_offset_bytes)
    assert contents(device) == expected
    assert not codes(device)
    assert min(places[1:]) < places[0]


def test_clusters_too_small() -> None:
    """A volume that would have too many clusters is refused, with the size that it can have."""
    device = OverlayDevice(volume(2 * MIB, cluster_bytes=512))
    device.resize(16 * GIB)
    with pytest.raises(UsageError, match=r"8\.0 GiB"):
        larger(device, geometry.parse(device), 16 * GIB // 512)


def test_between_two_types_a_volume_stays_below() -> None:
    """Too large for FAT12 and too small for FAT16, a volume gets all clusters of FAT12."""
    device = volume(2 * MIB, cluster_bytes=512)
    for size_kib in range(2080, 2120):
        found = larger(device, geometry.parse(device), size_kib * 2)
        assert (found.fat_bits == 12) == (found.cluster_count <= 4084)
        assert found.cluster_count > 4000
    device.resize(2086 * KIB)
    expected = contents(device)
    grow(device)
    assert contents(device) == expected
    assert not codes(device)
    assert not grow(device).is_changed


def test_a_damaged_volume_is_refused() -> None:
    """What the check calls an error has to be mended first; nothing is written."""
    device = volume(2 * MIB)
    first = fat.open(device).geometry.fat_offset_bytes
    for copy in range(2):
        at = first + copy * fat.open(device).geometry.fat_bytes
        device.write(at + 3, bytes(300))
    device.resize(4 * MIB)
    before = bytes(device.data)
    with pytest.raises(FatError, match="ipva fs repair"):
        grow(device)
    assert device.data == before


def test_lost_clusters_are_carried_along() -> None:
    """Clusters of no file stay what they are, so that a repair can make files of them."""
    device = volume(MIB)
    with fat.open(device) as opened:
        opened.write("/lost", b"content of a lost chain" * 300)
        first = opened.stat("/lost").first_cluster
        root = opened.geometry.root_offset_bytes
    at = bytes(device.data).index(b"LOST       ", root)
    device.write(at, b"\xe5")
    device.resize(20 * MIB)
    old = fat.open(device).geometry
    grow(device)
    new = fat.open(device).geometry
    shift = (new.data_offset_bytes - old.data_offset_bytes) // old.cluster_bytes
    assert codes(device) == {"FAT011"}
    if first - shift >= 2:
        place = new.cluster_offset_bytes(first - shift)
        assert read(device, place, 23) == b"content of a lost chain"


def test_one_table_in_use_becomes_both() -> None:
    """With mirroring off, the copy in use counts, and both are in use afterwards."""
    device = volume(40 * MIB, fat_bits=32, cluster_bytes=512)
    expected, found = contents(device), fat.open(device).geometry
    second = found.fat_offset_bytes + found.fat_bytes
    device.write(found.fat_offset_bytes, bytes(found.fat_bytes))
    for sector in (0, found.backup_offset_bytes or 0):
        device.write(sector + 40, (0x81).to_bytes(2, "little"))
    assert fat.open(device).geometry.mirrored_fat == 1
    assert any(read(device, second, 512))
    device.resize(50 * MIB)
    grow(device)
    assert fat.open(device).geometry.mirrored_fat is None
    assert contents(device) == expected
    assert not codes(device)


def test_full_with_one_table_is_refused_or_kept() -> None:
    """A full volume with one copy of the table keeps it while that is enough, else is refused."""
    device = volume(MIB, cluster_bytes=512, fat_count=1)
    with fat.open(device) as opened:
        opened.write("/fill", bytes(opened.free_bytes))
    expected = contents(device)
    device.resize(MIB + 8 * KIB)
    assert grow(device).is_changed
    assert fat.open(device).geometry.fat_count == 1
    assert contents(device) == expected
    before = bytes(device.data)
    device.resize(3 * MIB)
    with pytest.raises(NoSpaceError, match="must be free"):
        grow(device)
    assert device.data[: len(before)] == before


def partitioned(size_bytes: int) -> MemoryDevice:
    """A disk with one partition and files on it."""
    device = MemoryDevice(size_bytes)
    fill(fat.format_partitioned(device, volume_id=7, label="KEPT"), file_count=20, is_full=False)
    return device


def first_contents(device: MemoryDevice) -> dict[str, bytes | None]:
    """What is on the first volume of a disk."""
    return contents(fat.first_fat(device))


def test_partition_grows_with_its_volume() -> None:
    """Length, type and volume follow; the same again does nothing."""
    device = partitioned(16 * MIB)
    expected = first_contents(device)
    device.resize(300 * MIB)
    assert grow_disk(device, dry_run=True).volume.after_bits == 32
    done = grow_disk(device)
    (entry,) = partitions.read_table(device)
    assert (done.partition, done.volume.after_bits, entry.kind) == (1, 32, 0x0C)
    assert (entry.first_sector + entry.length_sectors) * 512 == 300 * MIB
    assert first_contents(device) == expected
    assert list(fat.check_disk(device)) == []
    assert not grow_disk(device).volume.is_changed


def test_a_type_left_behind_is_made_right() -> None:
    """Where a cut left the old type in the table, the same again changes it."""
    device = partitioned(16 * MIB)
    device.resize(300 * MIB)
    grow_disk(device)
    device.write(450, b"\x0e")
    grow_disk(device)
    assert partitions.read_table(device)[0].kind == 0x0C


def test_never_over_another_partition() -> None:
    """The next partition is where growing ends, and asking for more is refused."""
    device = partitioned(16 * MIB)
    expected = first_contents(device)
    device.resize(64 * MIB)
    entry = {"state": 0, "first_chs": bytes(3), "kind": 0x83, "last_chs": bytes(3)}
    other = mbr.PARTITION.build({**entry, "first_sector": 80_000, "length_sectors": 1000})
    device.write(446 + 16, other)
    device.write(80_000 * 512, b"other" * 100)
    with pytest.raises(UsageError, match="belongs to another"):
        grow_disk(device, 50 * MIB)
    done = grow_disk(device)
    assert done.partition_after_bytes == (80_000 - 63) * 512
    assert read(device, 80_000 * 512, 500) == b"other" * 100
    assert first_contents(device) == expected


def test_end_within_the_disk() -> None:
    """A volume may end before the disk does."""
    device = volume(MIB)
    device.resize(10 * MIB)
    assert grow_disk(device, 4 * MIB).volume.after_bytes == 4 * MIB
    assert not codes(SliceDevice(device, 0, 4 * MIB))
    assert present(fat.open(device).geometry).volume_sectors == 8192


def test_what_a_cut_could_tear_moves_as_well() -> None:
    """A cluster of FAT12 whose entry lies in two sectors moves with what it leads to.

    No folder gets such a cluster.
    """
    device = MemoryDevice(MIB)
    fat.format(device, cluster_bytes=512, volume_id=7)
    with fat.open(device) as opened:
        opened.mkdir("/folder")
        for number in range(200):
            opened.mkdir(f"/folder/{number}")
    found = geometry.parse(device)
    table = FatTable(device, found)
    first, split, free = 400, 682, [340, 341, 342]
    table.put(first, split)
    table.put(split, 1024)
    table.put(1024, first + 1)
    table.put(first + 1, table.end)
    for cluster in free:
        assert table[cluster] == 0
    zone = np.zeros(len(table), np.bool_)
    zone[[1024, 5]] = True
    moves = plan_moves(found, table, FolderTree(device, found, table), zone)
    assert isinstance(moves, Moves)
    assert moves.sources.tolist() == [split, 1024]
    assert moves.folder_targets is not None
    assert len(moves.folder_targets) > 200
    assert 341 not in moves.folder_targets
    assert 340 in moves.folder_targets
    assert 341 in moves.targets


def test_what_lay_behind_the_last_entry_does_not_count() -> None:
    """Entries that the volume had no clusters for are free when it gets them."""
    device = volume(170 * KIB, cluster_bytes=512)
    old = fat.open(device).geometry
    used_bytes = -(-old.entry_count * 12 // 8)
    for copy in range(2):
        at = old.fat_offset_bytes + copy * old.fat_bytes + used_bytes
        device.write(at, b"\xff" * (old.fat_bytes - used_bytes))
    assert not codes(device)
    free = fat.open(device).free_bytes
    device.resize(180 * KIB)
    assert grow(device).is_changed
    assert fat.open(device).geometry.data_offset_bytes == old.data_offset_bytes
    assert fat.open(device).free_bytes >= free + 8 * KIB
    assert not codes(device)


def test_what_another_put_into_reserved_sectors_stays() -> None:
    """Reserved sectors that are not zero are not taken for tables."""
    device = volume(40 * MIB, fat_bits=32, cluster_bytes=512)
    for size_mib in (44, 48):
        device.resize(size_mib * MIB)
        grow(device)
    twin = MemoryDevice(bytes(device.data))
    reserved_bytes = fat.open(device).geometry.fat_offset_bytes
    device.write(reserved_bytes - 600, b"a boot loader")
    places = []
    for each in (device, twin):
        each.resize(49 * MIB)
        grow(each)
        places.append(fat.open(each).geometry.fat_offset_bytes)
    assert places[1] < reserved_bytes < places[0]
    assert read(device, reserved_bytes - 600, 13) == b"a boot loader"
