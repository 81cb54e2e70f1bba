"""What `format` makes, writes and refuses."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ipva_storage import fat
from ipva_storage.device import FaultDevice, MemoryDevice, RawDevice, TraceDevice
from ipva_storage.errors import FatError, PowerCutError, UsageError
from ipva_storage.fat import clock
from ipva_storage.fat.choosing import choose
from ipva_storage.units import GIB, KIB, MIB


@pytest.mark.parametrize(
    ("size_bytes", "bits", "cluster_bytes"),
    [
        (64 * KIB, 12, 2 * KIB),
        (8 * MIB, 12, 2 * KIB),
        (10 * MIB, 16, 2 * KIB),
        (200 * MIB, 16, 4 * KIB),
        (511 * MIB, 16, 8 * KIB),
        (512 * MIB, 32, 4 * KIB),
        (1 * GIB, 32, 4 * KIB),
        (9 * GIB, 32, 8 * KIB),
        (17 * GIB, 32, 16 * KIB),
        (33 * GIB, 32, 32 * KIB),
    ],
)
def test_choices(size_bytes: int, bits: int, cluster_bytes: int) -> None:
    """Type and cluster follow from the size."""
    plan = choose(size_bytes, fat_bits=None, cluster_bytes=None)
    assert (plan.fat_bits, plan.cluster_sectors * 512) == (bits, cluster_bytes)


@pytest.mark.parametrize("cluster_bytes", [None, 512, 1024, 4096, 32768])
@pytest.mark.parametrize("bits", [12, 16, 32])
def test_layouts_hold_together(bits: int, cluster_bytes: int | None) -> None:
    """Whatever can be chosen fits the device, has entries for its clusters, and opens as chosen."""
    made = 0
    for size_bytes in (65536, 100_000, MIB, 5 * MIB + 512, 16 * MIB, 40 * MIB + 3 * 512):
        device = MemoryDevice(size_bytes)
        try:
            fat.format(device, fat_bits=bits, cluster_bytes=cluster_bytes)
        except UsageError:
            continue
        made += 1
        found = fat.open(device).geometry
        end = found.data_offset_bytes + found.cluster_count * found.cluster_bytes
        assert found.fat_bits == bits
        assert found.oddities == ()
        assert end <= found.volume_bytes <= size_bytes
        assert size_bytes - end < found.cluster_bytes + 63 * 512
        assert found.fat_bytes * 8 >= found.entry_count * bits
        assert list(fat.check(device)) == []
    assert made or (bits, cluster_bytes) in ((16, 32768), (32, 4096), (32, 32768), (32, 1024))


def test_a_gigabyte_takes_an_instant_and_no_room(tmp_path: Path) -> None:
    """A sparse image stays sparse: a handful of sectors is written."""
    device = TraceDevice(RawDevice.create(tmp_path / "image", GIB))
    with device:
        fat.format(device, label="CF")
    assert device.work.write_bytes <= 12 * 512
    assert (tmp_path / "image").stat().st_blocks * 512 < 256 * KIB


def test_old_content_is_gone() -> None:
    """On a disk full of old data the tables and the root are empty."""
    for size_bytes, bits in ((MIB, 12), (5 * MIB, 16), (34 * MIB, 32)):
        device = MemoryDevice(b"\xa5" * size_bytes)
        cluster_bytes = None if bits != 16 else 1024
        fat.format(device, fat_bits=bits, cluster_bytes=cluster_bytes, label="new")
        volume = fat.open(device)
        assert volume.list() == []
        assert volume.label == "NEW"
        assert volume.free_bytes == volume.size_bytes - (volume.cluster_bytes if bits == 32 else 0)
        assert list(fat.check(device)) == []


def test_a_cut_format_is_no_volume() -> None:
    """A power cut leaves no half-made volume that looks whole."""
    device = MemoryDevice(b"\xa5" * (34 * MIB))
    trace = TraceDevice(MemoryDevice(34 * MIB))
    fat.format(trace, fat_bits=32)
    count = trace.work.write_count
    for writes in range(count):
        with pytest.raises(PowerCutError):
            fat.format(FaultDevice(device, cut_after_writes=writes), fat_bits=32)
        with pytest.raises(FatError):
            fat.open(device)


@pytest.mark.parametrize("label", ["twelve chars", "a.b", "a*b", "é", "  "])
def test_impossible_labels(label: str) -> None:
    """Labels that do not fit are refused before anything is written."""
    device = TraceDevice(MemoryDevice(MIB))
    with pytest.raises(UsageError):
        fat.format(device, label=label)
    assert device.records == []


@pytest.mark.parametrize(
    ("size_bytes", "bits", "cluster_bytes"),
    [(1000, None, None), (MIB, 32, None), (MIB, 16, None), (MIB, 13, None), (MIB, 12, 1000),
     (GIB, 12, None), (MIB, None, 131_072)],
)  # fmt: skip
def test_impossible_volumes(size_bytes: int, bits: int | None, cluster_bytes: int | None) -> None:
    """What cannot be made is refused with the way out."""
    with pytest.raises(UsageError) as caught:
        choose(size_bytes, fat_bits=bits, cluster_bytes=cluster_bytes)
    assert caught.value.remedy


@pytest.mark.parametrize("size_bytes", [600 * GIB, 1024 * GIB])
def test_what_is_made_is_read_here(size_bytes: int, tmp_path: Path) -> None:
    """The largest volumes have no more clusters than opening takes."""
    with RawDevice.create(tmp_path / "big.img", size_bytes) as device:
        fat.format(device)
        assert fat.open(device).cluster_bytes == 64 * 1024


def test_more_than_is_read_here_is_not_made() -> None:
    """A volume too large to open again is refused, with the largest size."""
    with pytest.raises(UsageError, match="1024 GiB"):
        choose(1024 * GIB + 512, fat_bits=None, cluster_bytes=None)


@pytest.mark.parametrize("sector_bytes", [512, 1024, 2048, 4096])
@pytest.mark.parametrize("bits", [12, 16, 32])
def test_wishes_are_kept(bits: int, sector_bytes: int) -> None:
    """Sectors, reserved ones, copies, root records, id and code of the boot sector are as asked."""
    device = MemoryDevice({12: 4, 16: 40, 32: 300}[bits] * MIB)
    root: dict[str, Any] = {} if bits == 32 else {"root_entry_count": 1024}
    fat.format(
        device, fat_bits=bits, sector_bytes=sector_bytes, cluster_bytes=4096, reserved_sectors=64,
        fat_count=3, volume_id=0x1234ABCD, boot_code=b"\xeb\xfeown", hidden_sectors=63, **root,
    )  # fmt: skip
    found = fat.open(device).geometry
    assert (found.fat_bits, found.sector_bytes, found.cluster_bytes) == (bits, sector_bytes, 4096)
    assert (found.fat_count, found.volume_id) == (3, 0x1234ABCD)
    assert found.fat_offset_bytes == 64 * sector_bytes
    assert bits == 32 or found.root_entry_count == 1024
    code_at = 90 if bits == 32 else 62
    assert bytes(device.data[code_at : code_at + 6]) == b"\xeb\xfeown\0"
    assert list(fat.check(device)) == []


@pytest.mark.parametrize(("asked", "made"), [(1, 16), (63, 64), (64, 64)])
def test_root_folders_fill_their_sectors(asked: int, made: int) -> None:
    """The records of a fixed root folder that were asked for, and those that fit beside them."""
    device = MemoryDevice(MIB)
    fat.format(device, root_entry_count=asked)
    assert fat.open(device).geometry.root_entry_count == made
    assert list(fat.check(device)) == []


@pytest.mark.parametrize(
    "wish",
    [
        {"sector_bytes": 256}, {"fat_count": 0}, {"fat_count": 16}, {"reserved_sectors": 0},
        {"reserved_sectors": 65536}, {"fat_bits": 32, "reserved_sectors": 8},
        {"root_entry_count": 0}, {"root_entry_count": 65536},
        {"fat_bits": 32, "root_entry_count": 512}, {"boot_code": bytes(449)},
        {"boot_code": bytes(513)}, {"cluster_bytes": 512, "sector_bytes": 1024},
    ],
)  # fmt: skip
def test_impossible_wishes(wish: dict[str, Any]) -> None:
    """What no volume has is refused with a way out, before anything is written."""
    device = TraceDevice(MemoryDevice(600 * MIB if wish.get("fat_bits") == 32 else 20 * MIB))
    with pytest.raises(UsageError) as caught:
        fat.format(device, **wish)
    assert caught.value.remedy
    assert device.records == []


def test_a_whole_boot_sector_gives_its_code() -> None:
    """Of a boot sector given as code the header is left out."""
    device = MemoryDevice(MIB)
    fat.format(device, boot_code=bytes(range(256)) * 2)
    assert bytes(device.data[62:510]) == (bytes(range(256)) * 2)[62:510]
    assert fat.open(device).cluster_bytes == 2048


def test_source_date_epoch_fixes_image_and_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """With SOURCE_DATE_EPOCH two volumes are the same, and later times become it."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    first, second = MemoryDevice(MIB), MemoryDevice(MIB)
    fat.format(first, label="x")
    fat.format(second, label="x")
    assert first.data == second.data
    fixed = datetime(2023, 11, 14, 22, 13, 20)
    assert clock.of_host(time.time()) == fixed == clock.now()
    assert clock.of_host(datetime(2001, 2, 3, tzinfo=UTC).timestamp()) == datetime(2001, 2, 3)
    for unusable in ("soon", "²", "9" * 30):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", unusable)
        assert clock.of_host(datetime(2099, 1, 1).timestamp()) == datetime(2099, 1, 1)
