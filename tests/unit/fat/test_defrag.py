"""Files and folders in one piece."""

from __future__ import annotations

import pytest

from ipva_storage import fat
from ipva_storage.device import MemoryDevice, TraceDevice
from ipva_storage.errors import NoSpaceError
from ipva_storage.fat.table import FatTable, runs
from ipva_storage.testing.fat_growth import codes, contents, fill
from ipva_storage.units import KIB, MIB


def pieces(device: MemoryDevice) -> dict[str, int]:
    """In how many pieces each file and folder is."""
    volume = fat.open(device)
    table = FatTable(device, volume.geometry)
    starts = {path: entry.first_cluster for path, entry in volume.walk() if entry.first_cluster}
    return {path: len(runs(table.follow(start)[0])) for path, start in starts.items()}


def scattered(bits: int) -> MemoryDevice:
    """A volume with files in many pieces and a folder of mostly deleted records."""
    device = MemoryDevice({12: MIB, 16: 5 * MIB, 32: 36 * MIB}[bits])
    fat.format(device, fat_bits=bits, cluster_bytes=512, label="KEPT", volume_id=7)
    fill(device, file_count=30, is_full=False)
    with fat.open(device) as volume:
        volume.mkdir("/many")
        with volume.batch():
            for number in range(80):
                volume.write(f"/many/Temporary {number}.tmp", b"x" * 600)
            volume.write("/barrier", bytes(volume.free_bytes - 40 * KIB))
        for number in range(0, 80, 2):
            volume.delete(f"/many/Temporary {number}.tmp")
        volume.write("/In pieces", bytes(range(250)) * 200)
        volume.delete("/barrier")
        for number in range(1, 70, 2):
            volume.delete(f"/many/Temporary {number}.tmp")
    return device


def test_a_file_in_a_fixed_root_folder_alone() -> None:
    """Where there is no folder but a root with a place of its own, a file that moves is found."""
    device = MemoryDevice(64 * KIB)
    fat.format(device, fat_bits=12, cluster_bytes=512, volume_id=7)
    with fat.open(device) as volume:
        for number in range(6):
            volume.write(f"/{number}", bytes([number + 1]) * 700)
        volume.write("/barrier", bytes(volume.free_bytes))
        for number in range(0, 6, 2):
            volume.delete(f"/{number}")
        volume.write("/In pieces", bytes(range(250)) * 12)
        volume.delete("/barrier")
    expected = contents(device)
    assert pieces(device)["/In pieces"] > 1
    fat.defrag(device)
    assert set(pieces(device).values()) == {1}
    assert contents(device) == expected
    assert not codes(device)


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_everything_is_in_one_piece(bits: int) -> None:
    """No file is in pieces, folders are shorter, contents are the same, and a second run rests."""
    device = scattered(bits)
    expected, before = contents(device), pieces(device)
    free = fat.open(device).free_bytes
    assert before["/In pieces"] > 10
    planned = fat.defrag(device, dry_run=True)
    assert contents(device) == expected
    assert pieces(device) == before
    done = fat.defrag(device)
    assert done == planned
    assert contents(device) == expected
    assert set(pieces(device).values()) == {1}
    assert (done.left_count, done.freed_bytes > 1000) == (0, True)
    assert fat.open(device).free_bytes == free + done.freed_bytes
    assert not codes(device)
    trace = TraceDevice(device)
    assert fat.defrag(trace).moved_count == 0
    assert trace.work.write_count == 0


def test_names_stay_within_a_sector() -> None:
    """The records of a name that fit into a sector are not spread over two."""
    device = scattered(32)
    with fat.open(device) as volume:
        for number in range(40):
            volume.write(f"/many/{'long ' * (1 + number % 9)}{number}.txt", b"")
        for number in range(0, 40, 3):
            volume.delete(f"/many/{'long ' * (1 + number % 9)}{number}.txt")
    expected = contents(device)
    fat.defrag(device)
    assert contents(device) == expected
    volume = fat.open(device)
    folder = volume.tree.folder(volume.stat("/many").first_cluster)
    slots = folder._index().values()
    assert len(slots) > 20
    for slot in slots:
        first, last = slot.first_record // 16, slot.short_record // 16
        assert first == last


def test_a_file_longer_than_any_gap_is_left() -> None:
    """What cannot be put in one piece is told, and stays whole."""
    device = scattered(12)
    with fat.open(device) as volume:
        free = volume.free_bytes
        volume.write("/a", bytes(free // 2 - 8192))
        volume.write("/In pieces", b"new" * (free // 9))
    expected = contents(device)
    done = fat.defrag(device)
    assert contents(device) == expected
    assert not codes(device)
    assert done.left_count == sum(count > 1 for count in pieces(device).values())


def test_without_room_for_the_folders() -> None:
    """A full volume is refused, and stays as it is."""
    device = scattered(12)
    with fat.open(device) as volume:
        volume.write("/fill", bytes(volume.free_bytes))
    before = bytes(device.data)
    with pytest.raises(NoSpaceError, match="folders"):
        fat.defrag(device)
    assert device.data == before
