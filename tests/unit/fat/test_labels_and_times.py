"""Labels, times, the bits of a volume that is in use, and which table is written."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import date, datetime

import pytest

from ipva_formats import fat as layout
from ipva_storage import fat
from ipva_storage.device import MemoryDevice, read
from ipva_storage.errors import NoSpaceError, UsageError
from ipva_storage.fat import FatVolume, clock, labels
from ipva_storage.units import KIB, MIB


def make(bits: int, label: str | None = None) -> MemoryDevice:
    """An empty volume."""
    device = MemoryDevice(MIB if bits == 12 else 20 * MIB if bits == 16 else 34 * MIB)
    fat.format(device, fat_bits=bits, cluster_bytes=2 * KIB if bits == 16 else 512, label=label)
    return device


@pytest.mark.parametrize("bits", [12, 16, 32])
@pytest.mark.parametrize("before", [None, "BEFORE"])
def test_a_label_is_set_in_both_places(bits: int, before: str | None) -> None:
    """Root folder, boot sector and its backup have the new label, or none; the check is silent."""
    device = make(bits, before)
    with fat.open(device) as volume:
        volume.write("/file", b"x")
        for label, shown, stored in (
            ("after 1", "AFTER 1", b"AFTER 1    "),
            (None, None, b"NO NAME    "),
            ("again", "AGAIN", b"AGAIN      "),
        ):
            volume.set_label(label)
            assert volume.label == shown
            assert fat.open(device).label == shown
            assert fat.open(device).geometry.boot_label == stored
        with pytest.raises(UsageError):
            volume.set_label("a.b")
        assert [entry.name for entry in volume.list()] == ["file"]
    assert list(fat.check(device)) == []


def test_the_label_is_where_the_definitions_have_it() -> None:
    """The offsets that are written to are those of the boot sectors."""
    for struct, bits in ((layout.BOOT_SECTOR, 12), (layout.BOOT_SECTOR_32, 32)):
        sector = bytearray(512)
        at = labels._LABEL_AT[bits]
        sector[at : at + 11] = b"LABEL IS 11"
        assert struct.parse(bytes(sector)).label == b"LABEL IS 11"


def test_times_have_the_precision_of_the_format() -> None:
    """Created to 10 ms, modified to 2 s, accessed to a day; other times stay."""
    device = make(16)
    moment = datetime(2024, 2, 29, 23, 59, 59, 987_654)
    with fat.open(device) as volume:
        volume.write("/f", b"", modified=datetime(2001, 1, 1))
        volume.set_times("/f", created=moment)
        volume.set_times("/f", accessed=date(1999, 12, 31))
        entry = volume.set_times("/f", modified=moment)
    assert entry == fat.open(device).stat("/f") == fat.open(device).list()[0]
    assert entry.created == datetime(2024, 2, 29, 23, 59, 59, 980_000)
    assert entry.modified == datetime(2024, 2, 29, 23, 59, 58)
    assert entry.accessed == date(1999, 12, 31)


def test_writing_tells_when_a_file_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file is made now, whenever its content is from; replacing it keeps that."""
    device = make(16)
    monkeypatch.setattr(clock, "now", lambda: datetime(2020, 5, 5, 5, 5, 5, 550_000))
    with fat.open(device) as volume:
        volume.write("/f", b"old", modified=datetime(2001, 1, 1))
        monkeypatch.setattr(clock, "now", lambda: datetime(2021, 6, 6))
        entry = volume.write("/f", b"new")
    assert entry.created == datetime(2020, 5, 5, 5, 5, 5, 550_000)
    assert (entry.modified, entry.accessed) == (datetime(2021, 6, 6), date(2021, 6, 6))


def test_times_that_are_none() -> None:
    """Impossible dates are 1980 where there must be one, and nothing where there need not."""
    import numpy as np

    good = (44 << 9 | 2 << 5 | 29, 23 << 11 | 59 << 5 | 29, 199)
    bad = [
        (0, 0, 0),
        (44 << 9 | 13 << 5 | 1, 0, 0),
        (43 << 9 | 2 << 5 | 29, 0, 0),
        (good[0], 24 << 11, 0),
        (good[0], 60 << 5, 0),
        (good[0], 30, 0),
        (good[0], 0, 200),
    ]
    columns = np.array([good, *bad])
    found = clock.decode_all(
        columns[:, 0].astype("<u2"), columns[:, 1].astype("<u2"), columns[:, 2].astype("u1")
    )
    assert found == [datetime(2024, 2, 29, 23, 59, 59, 990_000), *[None] * len(bad)]
    assert [clock.decode(*each) for each in bad] == [clock.EPOCH] * len(bad)


@pytest.fixture
def in_berlin() -> Iterator[None]:
    """The host's clock shows the time of Berlin."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "CET-1CEST,M3.5.0,M10.5.0/3"
    time.tzset()
    yield
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    time.tzset()


@pytest.mark.usefixtures("in_berlin")
def test_times_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wall-clock time of the host is kept, summer or winter, and UTC for reproducible images."""
    winter, summer = 1_704_110_400, 1_719_835_200  # noon UTC
    assert clock.of_host(winter) == datetime(2024, 1, 1, 13)
    assert clock.of_host(summer) == datetime(2024, 7, 1, 14)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(summer))
    assert clock.of_host(winter) == datetime(2024, 1, 1, 12)
    assert clock.of_host(summer + 99) == datetime(2024, 7, 1, 12)


def test_bits_of_a_volume_in_use_and_of_errors() -> None:
    """Clean and error bits are read in both places; we set the first and keep the second."""
    for bits in (16, 32):
        device = make(bits)
        with fat.open(device) as volume:
            assert (volume.is_clean, volume.has_errors) == (True, False)
            at = volume.geometry.fat_offset_bytes + bits // 8
        entry = int.from_bytes(read(device, at, bits // 8), "little")
        marked = entry & ~layout.NO_ERROR_BIT[bits]
        for copy in range(2):
            device.write(
                at + copy * volume.geometry.fat_bytes, marked.to_bytes(bits // 8, "little")
            )
        other = fat.open(device)
        assert (other.is_clean, other.has_errors) == (True, True)
        other.write("/f", b"x")
        assert not fat.open(device).is_clean
        other.close()
        assert (fat.open(device).is_clean, fat.open(device).has_errors) == (True, True)


def one_table(chosen: int) -> tuple[MemoryDevice, FatVolume]:
    """A FAT32 volume that uses one of its tables; the other is noise."""
    device = make(32)
    geometry = fat.open(device).geometry
    for sector in (0, geometry.backup_offset_bytes or 0):
        device.write(sector + 40, bytes([0x80 | chosen, 0]))
    other = geometry.fat_offset_bytes + (1 - chosen) * geometry.fat_bytes
    device.write(other, b"\xa5" * geometry.fat_bytes)
    return device, fat.open(device)


@pytest.mark.parametrize("chosen", [0, 1])
def test_only_the_active_table_is_read_and_written(chosen: int) -> None:
    """Without mirroring the table that is in use is changed, and the other stays as it is."""
    device, volume = one_table(chosen)
    geometry = volume.geometry
    assert geometry.mirrored_fat == chosen
    volume.mkdir("/d")
    volume.write("/d/f", b"content" * 999)
    with volume.open("/d/f", "a") as file:
        file.write(b"more" * 999)
    volume.move("/d/f", "/g")
    volume.close()
    other = geometry.fat_offset_bytes + (1 - chosen) * geometry.fat_bytes
    assert read(device, other, geometry.fat_bytes) == b"\xa5" * geometry.fat_bytes
    assert fat.open(device).read("/g") == b"content" * 999 + b"more" * 999


def test_usage_and_fragments() -> None:
    """Files in pieces, the longest free run and the room are what was made."""
    device = make(16)
    with fat.open(device) as volume:
        for number in range(10):
            volume.write(f"/{number}", bytes(5000))
        for number in range(0, 10, 2):
            volume.delete(f"/{number}")
        volume.mkdir("/d")
        volume._table.next_free = 2
        volume.write("/d/pieces", bytes(15_000))
        usage = volume.usage()
        pieces = volume.fragments("/d/pieces")
        assert (usage.file_count, usage.folder_count, usage.fragmented_count) == (6, 1, 1)
        assert len(pieces) == 3
        assert sum(piece.length_bytes for piece in pieces) == 16 * KIB
        assert [len(volume.fragments(path)) for path in ("/1", "/d")] == [1, 1]
        assert usage.free_bytes == volume.free_bytes
        assert usage.used_bytes + usage.free_bytes == volume.size_bytes
        values = volume._table.values
        runs = "".join("x" if value else "." for value in values[2 : volume._table.limit]).split(
            "x"
        )
        assert usage.free_run_count == len([run for run in runs if run])
        assert usage.largest_free_bytes == max(map(len, runs)) * volume.cluster_bytes


@pytest.mark.slow
def test_a_folder_of_65536_records() -> None:
    """A folder takes 65,536 records, says that it is full, and is read and emptied again."""
    device = MemoryDevice(40 * MIB)
    fat.format(device, fat_bits=16, cluster_bytes=2 * KIB)
    with fat.open(device) as volume:
        volume.mkdir("/d")
        with volume.batch():
            for number in range(65_534):
                volume.write(f"/d/F{number}", b"")
        with pytest.raises(NoSpaceError, match="65536"):
            volume.write("/d/ONE.MOR", b"")
        volume.move("/d/F0", "/d/FIRST")
    other = fat.open(device)
    assert len(other.list("/d")) == 65_534
    assert other.stat("/d/f65533").name == "F65533"
    assert list(fat.check(device)) == []
