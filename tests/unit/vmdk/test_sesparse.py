"""`seSparse` extents: each fault made on purpose, found at its place, and refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ipva_formats.vmdk import (
    SESPARSE_ALLOCATED,
    SESPARSE_CONST_HEADER,
    SESPARSE_TABLE_MARK,
    SESPARSE_UNALLOCATED,
    SESPARSE_UNMAPPED,
    SESPARSE_VERSION,
    SESPARSE_ZERO,
)
from ipva_storage import vmdk
from ipva_storage.device import Folder, MemoryDevice, read
from ipva_storage.errors import DeviceError, VmdkError
from ipva_storage.testing.vmdk_deltas import (
    TABLES_SECTOR,
    Mark,
    allocated,
    descriptor,
    sesparse_file,
    shown,
)
from ipva_storage.vmdk.checking import taken
from ipva_storage.vmdk.checking.sesparse import check_sesparse
from ipva_storage.vmdk.extent import sesparse, sweep
from ipva_storage.vmdk.extent.sesparse import SeSparseExtent

if TYPE_CHECKING:
    from pathlib import Path

    from ipva_storage.findings import Finding

GRAIN = 4096
CAPACITY = 2 * 4096 * 8 + 801
"""Sectors: two whole tables, and a third with 100 grains and one sector."""
GRAINS: dict[int, bytes | Mark] = {
    0: b"a" * GRAIN,
    1: b"b" * GRAIN,
    2: Mark.ZERO,
    3: Mark.UNMAPPED,
    4: b"c" * GRAIN,
    4096: b"d" * GRAIN,
    8292: b"e" * GRAIN,
}
"""Every kind of grain, the last cut by the disk's end."""
GD = 8 * 512
GRAINS_SECTOR = TABLES_SECTOR + 3 * 64


def image(**options: int) -> MemoryDevice:
    """Five grains and two marks in three tables."""
    return MemoryDevice(sesparse_file(CAPACITY, GRAINS, **options), name="x-sesparse.vmdk")


def put(raw: MemoryDevice, offset_bytes: int, value: int) -> None:
    """Overwrite a number."""
    raw.write(offset_bytes, value.to_bytes(8, "little"))


def entry(grain: int) -> int:
    """The byte where a grain's entry is."""
    return TABLES_SECTOR * 512 + 8 * grain


def only(raw: MemoryDevice, code: str) -> Finding:
    """The one finding there is."""
    (finding,) = check_sesparse(raw)
    assert finding.code == code
    assert finding.repair is not None
    assert "not written to" in finding.repair
    return finding


def refused(raw: MemoryDevice, grain: int, message: str) -> VmdkError:
    """The error for reading one grain."""
    with pytest.raises(VmdkError, match=message) as caught:
        read(SeSparseExtent(raw), grain * GRAIN, 512)
    assert caught.value.where == "x-sesparse.vmdk"
    assert caught.value.remedy is not None
    return caught.value


def test_image_is_sound() -> None:
    """It has no findings, and reads as its grains: marks are zeros, whatever lies below."""
    raw = image()
    assert list(check_sesparse(raw)) == []
    size_bytes = CAPACITY * 512
    extent = SeSparseExtent(raw)
    assert read(extent, 0, size_bytes) == shown(size_bytes, GRAIN, GRAINS)
    below = b"parent!!" * (size_bytes // 8)
    extent = SeSparseExtent(raw, below=MemoryDevice(below))
    assert read(extent, 0, size_bytes) == shown(size_bytes, GRAIN, GRAINS, below)
    assert read(extent, 2 * GRAIN, 2 * GRAIN) == bytes(2 * GRAIN)


def test_runs() -> None:
    """Marks are holes where nothing lies below, and hide what does."""
    own = [(run.offset_bytes, run.length_bytes) for run in SeSparseExtent(image()).extents()]
    assert own[:3] == [(0, 2 * GRAIN), (2 * GRAIN, 2 * GRAIN), (4 * GRAIN, GRAIN)]
    below = MemoryDevice(CAPACITY * 512)
    (run,) = SeSparseExtent(image(), below=below).extents()
    assert run.is_data
    extent = SeSparseExtent(image(), below=below)
    kept = [run for run in extent.own_extents() if run.is_data]
    assert [(run.offset_bytes, run.length_bytes) for run in kept[:2]] == [
        (0, 5 * GRAIN),
        (4096 * GRAIN, GRAIN),
    ]


def test_constants_are_those_of_the_format() -> None:
    """What reading keeps for itself, so that it imports little, is what the format says."""
    assert sesparse.TABLE_MARK == SESPARSE_TABLE_MARK
    assert sesparse.UNALLOCATED == SESPARSE_UNALLOCATED
    assert sesparse.UNMAPPED == SESPARSE_UNMAPPED
    assert sesparse.ZERO == SESPARSE_ZERO
    assert sesparse.ALLOCATED == SESPARSE_ALLOCATED
    assert SESPARSE_VERSION == 0x2_0000_0001


def test_parts_are_where_the_host_logs_them() -> None:
    """The header of the disk of 100 MiB that the log of a host shows is sound."""
    raw = MemoryDevice((12288 + 204800) * 512)
    part = ("offset_sectors", "sector_count")
    numbers = {
        "volatile_header": (1, 1),
        "journal_header": (2, 2),
        "journal": (2048, 2048),
        "directory": (4096, 2048),
        "tables": (6144, 2048),
        "free_bitmap": (8192, 2048),
        "backmap": (10240, 2048),
        "grains": (12288, 204800),
    }
    fields = {name: dict(zip(part, both, strict=True)) for name, both in numbers.items()}
    header = SESPARSE_CONST_HEADER.build(
        fields
        | {"version": SESPARSE_VERSION, "capacity_sectors": 204800, "grain_sectors": 8}
        | {"table_sectors": 64, "flags": 0, "reserved": bytes(32), "padding": bytes(304)}
    )
    raw.write(0, header + bytes.fromhex("fecafeca00000000"))
    assert list(check_sesparse(raw)) == []
    assert [run.is_data for run in SeSparseExtent(raw).extents()] == [False]


@pytest.mark.parametrize(
    ("offset_bytes", "value"),
    [
        (8, 0x2_0000_0002),
        (16, 0),
        (16, 2**38),
        (16, 2**64 - 1),
        (24, 16),
        (32, 32),
        (40, 1),
        (48, 1),
        (72, 1),
        (136, 0),
        (144, 0),
        (152, 2**64 - 1),
        (192, 0),
    ],
)
def test_header_damaged(offset_bytes: int, value: int) -> None:
    """VMDK001: each field that is not as it is known is named, and the extent does not open."""
    raw = image()
    put(raw, offset_bytes, value)
    finding = only(raw, "VMDK001")
    assert finding.offset_bytes == (48 if offset_bytes == 72 else offset_bytes)
    with pytest.raises(VmdkError, match="its header is damaged") as caught:
        SeSparseExtent(raw)
    assert caught.value.offset_bytes == finding.offset_bytes


@pytest.mark.parametrize(
    "data", [b"", bytes.fromhex("bebafeca"), bytes.fromhex("bebafeca01") + bytes(507)]
)
def test_no_header(data: bytes) -> None:
    """What does not start with the whole magic number and a whole header is refused."""
    with pytest.raises(VmdkError, match="no seSparse header"):
        SeSparseExtent(MemoryDevice(data))
    with pytest.raises(VmdkError, match="no seSparse header"):
        list(check_sesparse(MemoryDevice(data)))


def test_journal_is_to_be_replayed() -> None:
    """VMDK014: newer entries may be in the journal; what the tables say is read all the same."""
    raw = image(replay_journal=1)
    finding = only(raw, "VMDK014")
    assert finding.offset_bytes == 512 + 24
    assert "journal may hold newer entries" in finding.message
    assert read(SeSparseExtent(raw), 0, GRAIN) == GRAINS[0]


@pytest.mark.parametrize(("offset_bytes", "value"), [(512, 0), (80, 2**60), (80, 10**6)])
def test_volatile_header_is_lost(offset_bytes: int, value: int) -> None:
    """VMDK014: without it nobody knows whether the file was closed; it is read all the same."""
    raw = image()
    put(raw, offset_bytes, value)
    finding = next(found for found in check_sesparse(raw) if found.code == "VMDK014")
    assert finding.offset_bytes == 80
    assert read(SeSparseExtent(raw), 0, GRAIN) == GRAINS[0]


@pytest.mark.parametrize(
    ("offset_bytes", "value", "message"),
    [
        (208, 1, "not zero"),
        (504, 1 << 56, "not zero"),
        (160, 7, "its backmap and its free bitmap overlap"),
        (120, 3, "its journal and its free bitmap overlap"),
        (80, 0, "its header and its volatile header overlap"),
        (192, 207, "its tables and its grains overlap"),
    ],
)
def test_header_is_odd(offset_bytes: int, value: int, message: str) -> None:
    """VMDK034: parts on top of each other, and bytes that nothing uses, are told."""
    raw = image()
    put(raw, offset_bytes, value)
    odd = [found.message for found in check_sesparse(raw) if found.code == "VMDK034"]
    assert message in odd[0]


@pytest.mark.parametrize("sector", [0, 10_000, 2**64 - 1])
def test_directory_outside(sector: int) -> None:
    """VMDK005: without its directory the extent does not open."""
    raw = image()
    put(raw, 128, sector)
    finding = next(found for found in check_sesparse(raw) if found.code != "VMDK034")
    assert (finding.code, finding.offset_bytes) == ("VMDK005", 128)
    with pytest.raises(VmdkError, match="directory is outside"):
        SeSparseExtent(raw)


@pytest.mark.parametrize(
    "value", [1, 0x1000_0001_0000_0001, 0x1000_0000_0000_0003, 0x1000_0000_FFFF_FFFF, 2**64 - 1]
)
def test_table_outside(value: int) -> None:
    """VMDK007: a directory entry of another kind, or for a table that is not there."""
    raw = image()
    put(raw, GD + 8, value)
    finding = only(raw, "VMDK007")
    assert finding.offset_bytes == GD + 8
    assert f"table 1 with the entry {value:#x}" in finding.message
    assert refused(raw, 4096, f"grain table 1 has the entry {value:#x}").offset_bytes == GD + 8
    assert read(SeSparseExtent(raw), 0, GRAIN) == GRAINS[0]
    runs = [run for run in SeSparseExtent(raw).extents() if run.is_data]
    assert (4096 * GRAIN, 4096 * GRAIN) in [(run.offset_bytes, run.length_bytes) for run in runs]


def test_file_ends_within_its_tables() -> None:
    """VMDK007: a table that is cut off is not there."""
    raw = image()
    raw.resize((TABLES_SECTOR + 3 * 64) * 512 - 1)
    assert [found.code for found in check_sesparse(raw)] == ["VMDK007", *["VMDK010"] * 4]
    refused(raw, 8292, "grain table 2")


@pytest.mark.parametrize("chunk_tables", [1, 1 << 16])
def test_table_used_twice(monkeypatch: pytest.MonkeyPatch, chunk_tables: int) -> None:
    """VMDK020: a table that two entries name is found with the second, however far apart."""
    monkeypatch.setattr(sweep, "CHUNK_TABLES", chunk_tables)
    raw = image()
    put(raw, GD + 8, SESPARSE_TABLE_MARK << 32)
    finding = only(raw, "VMDK020")
    assert finding.offset_bytes == GD + 8


@pytest.mark.parametrize(
    ("value", "sector"),
    [
        (allocated(5), GRAINS_SECTOR + 40),
        (allocated(4095), GRAINS_SECTOR + 8 * 4095),
        (allocated(2**60 - 1), GRAINS_SECTOR + 8 * (2**60 - 1)),
    ],
)
def test_grain_outside(value: int, sector: int) -> None:
    """VMDK010: a grain outside the file is named with its place, and is not read."""
    raw = image()
    put(raw, entry(7), value)
    finding = only(raw, "VMDK010")
    assert finding.offset_bytes == entry(7)
    assert finding.message == f"grain 7 at sector {sector} ends outside the file"
    error = refused(raw, 7, f"grain 7 is said to be at sector {sector}, which is outside")
    assert error.offset_bytes == entry(7)


@pytest.mark.parametrize("value", [1, 1 << 59, 4 << 60, 15 << 60 | 5])
def test_entry_of_no_known_kind(value: int) -> None:
    """VMDK010: an entry that names nothing known is no hole, and is not read as one."""
    raw = image()
    put(raw, entry(7), value)
    finding = only(raw, "VMDK010")
    assert finding.offset_bytes == entry(7)
    assert (
        finding.message == f"grain 7 with the entry {value:#x} is nowhere: it is of no known kind"
    )
    error = refused(raw, 7, f"grain 7 has the entry {value:#x}")
    assert error.offset_bytes == entry(7)
    runs = [run for run in SeSparseExtent(raw).extents() if run.is_data]
    assert (7 * GRAIN, GRAIN) in [(run.offset_bytes, run.length_bytes) for run in runs]


def test_marks_may_hold_more() -> None:
    """The place that an unmapped grain had is of no matter, not even as a place used twice."""
    raw = image()
    put(raw, entry(3), SESPARSE_UNMAPPED << 60 | allocated(0) & 2**60 - 1)
    put(raw, entry(2), SESPARSE_ZERO << 60 | 12345)
    assert list(check_sesparse(raw)) == []
    assert read(SeSparseExtent(raw), 2 * GRAIN, 2 * GRAIN) == bytes(2 * GRAIN)


@pytest.mark.parametrize("grains_sector", [1, 8, 15, 16, 17, GRAINS_SECTOR - 1])
def test_grain_in_the_tables(grains_sector: int) -> None:
    """VMDK013: a grain in the directory or the tables is named with its place, and is not read."""
    raw = image()
    put(raw, 192, grains_sector)
    named = next(found for found in check_sesparse(raw) if found.code == "VMDK013")
    assert named.offset_bytes == entry(0)
    assert refused(raw, 0, "which is in the metadata").offset_bytes == entry(0)


def test_directory_that_is_a_table() -> None:
    """Where the directory is said to be a table too, it is read as one, to its end."""
    raw = image()
    put(raw, 144, 8)
    found = bytearray(b"\xff" * 400 * GRAIN)
    SeSparseExtent(raw).read_into(0, found)
    assert found == bytes(400 * GRAIN)  # what names a table looks like an unmapped grain


def test_grain_in_what_reading_does_not_need() -> None:
    """VMDK013: a grain in the room of the bitmap, say, is found, and is read."""
    raw = image()
    put(raw, 160, GRAINS_SECTOR + 15)
    found = [finding for finding in check_sesparse(raw) if finding.code == "VMDK013"]
    assert [finding.offset_bytes for finding in found] == [entry(1)]
    assert read(SeSparseExtent(raw), 0, 2 * GRAIN) == b"a" * GRAIN + b"b" * GRAIN


@pytest.mark.parametrize("window", [8, 1 << 27])
def test_grain_used_twice(monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    """VMDK012: the later of two grains in one place is named, in whatever window of the file."""
    monkeypatch.setattr(taken, "WINDOW_PLACES", window)
    many: dict[int, bytes | Mark] = {number: bytes([number]) * GRAIN for number in range(1, 40)}
    raw = MemoryDevice(sesparse_file(CAPACITY, many))
    assert list(check_sesparse(raw)) == []
    put(raw, entry(39), allocated(1))
    assert only(raw, "VMDK012").offset_bytes == entry(39)
    put(raw, entry(38), allocated(30))
    assert {finding.offset_bytes for finding in check_sesparse(raw)} == {entry(39), entry(38)}


@pytest.mark.parametrize("grain", [8293, 3 * 4096 - 1])
def test_grain_behind_the_end(grain: int) -> None:
    """VMDK019: an entry that no part of the disk belongs to is found, whatever it says."""
    raw = image()
    put(raw, entry(grain), 15 << 60)
    finding = only(raw, "VMDK019")
    assert finding.offset_bytes == entry(grain)


def test_long_runs_of_grains() -> None:
    """Grains that follow each other are one run, across the border where their numbers carry."""
    many: dict[int, bytes | Mark] = {
        number: number.to_bytes(4, "little") * 1024 for number in range(4200)
    }
    extent = SeSparseExtent(MemoryDevice(sesparse_file(CAPACITY, many)))
    assert read(extent, 0, 4200 * GRAIN) == shown(4200 * GRAIN, GRAIN, many)
    table = extent.table_place(0)
    assert table is not None
    entries = extent.reader.entries(table, 4096)
    assert list(extent.entry_places(entries, 0, 0)) == [(4096, GRAINS_SECTOR * 512)]


def test_disk(tmp_path: Path) -> None:
    """Through its descriptor the disk opens, is sound, says what it is, and is not written to."""
    folder = Folder(tmp_path)
    folder.replace("x-sesparse.vmdk", bytes(image().data))
    folder.replace("x.vmdk", descriptor("seSparse", CAPACITY, "x-sesparse.vmdk").encode())
    assert list(vmdk.check(folder.open("x.vmdk"), folder)) == []
    with vmdk.open(folder.open("x.vmdk"), folder) as disk:
        assert disk.subformat == "seSparse"
        assert read(disk, 0, disk.size_bytes) == shown(CAPACITY * 512, GRAIN, GRAINS)
        with pytest.raises(DeviceError):
            disk.write(0, b"x")
    with pytest.raises(VmdkError, match="seSparse disks are read, and not written to"):
        vmdk.open(folder.open("x.vmdk", writable=True), folder, writable=True)
    folder.replace("x.vmdk", descriptor("seSparse", CAPACITY + 1, "x-sesparse.vmdk").encode())
    (finding,) = vmdk.check(folder.open("x.vmdk"), folder)
    assert (finding.code, finding.offset_bytes) == ("VMDK016", 16)
    with pytest.raises(VmdkError, match="one extent of a disk"):
        vmdk.open(folder.open("x-sesparse.vmdk"))
