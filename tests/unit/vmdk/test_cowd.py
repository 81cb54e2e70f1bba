"""ESX server sparse extents (COWD): each fault made on purpose, found at its place, and refused."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ipva_formats.vmdk import COWD_HEADER, COWD_ROOT
from ipva_storage import vmdk
from ipva_storage.device import Folder, MemoryDevice, read
from ipva_storage.errors import DeviceError, VmdkError
from ipva_storage.testing.vmdk_deltas import cowd_file, descriptor, shown
from ipva_storage.vmdk.checking import taken
from ipva_storage.vmdk.checking.cowd import check_cowd
from ipva_storage.vmdk.extent import sweep
from ipva_storage.vmdk.extent.cowd import CowdExtent, read_cowd_header

if TYPE_CHECKING:
    from pathlib import Path

    from ipva_storage.findings import Finding

CAPACITY = 3 * 4096 - 100
"""Sectors: three tables, the last not full."""
GRAINS = {
    number: bytes([at + 1]) * 512 for at, number in enumerate((0, 1, 2, 5, 4096, 4097, 8192, 8193))
}
GD, FIRST = 4 * 512, 5
"""The directory's byte, and the first sector behind it."""
TABLES = (5, 41, 75)
"""Sectors of the tables, which lie between the grains."""


def image(**options: int) -> MemoryDevice:
    """Eight grains of a sector in three tables."""
    return MemoryDevice(cowd_file(CAPACITY, GRAINS, **options), name="x-delta.vmdk")


def put(raw: MemoryDevice, offset_bytes: int, value: int) -> None:
    """Overwrite a number."""
    raw.write(offset_bytes, value.to_bytes(4, "little"))


def entry(grain: int) -> int:
    """The byte where a grain's entry is."""
    return TABLES[grain // 4096] * 512 + 4 * (grain % 4096)


def only(raw: MemoryDevice, code: str) -> Finding:
    """The one finding there is."""
    (finding,) = check_cowd(raw)
    assert finding.code == code
    assert finding.repair is not None
    assert "not written to" in finding.repair
    return finding


def refused(raw: MemoryDevice, grain: int, message: str) -> VmdkError:
    """The error for reading one grain."""
    extent = CowdExtent(raw)
    with pytest.raises(VmdkError, match=message) as caught:
        read(extent, grain * 512, 512)
    assert caught.value.where == "x-delta.vmdk"
    assert caught.value.remedy is not None
    return caught.value


def test_image_is_laid_out_as_the_tests_below_say() -> None:
    """It is sound, its tables are where they are said to be, and it reads as its grains."""
    raw = image()
    assert list(check_cowd(raw)) == []
    assert [int.from_bytes(read(raw, GD + 4 * at, 4), "little") for at in range(3)] == [*TABLES]
    assert read_cowd_header(raw).first_sector == FIRST
    extent = CowdExtent(raw)
    assert read(extent, 0, extent.size_bytes) == shown(CAPACITY * 512, 512, GRAINS)


def test_fields_are_where_the_sources_say() -> None:
    """The parent's name is at byte 32, the mark of an open file at 1648; the geometry takes 12."""
    fields = COWD_HEADER.parse(cowd_file(1, {}))
    fields |= {"parent_file_name": b"p" * 1024, "unclean_shutdown": 0x01020304, "name": b"n" * 60}
    data = COWD_HEADER.build(fields)
    assert data[32:1056] == b"p" * 1024
    assert data[1064:1124] == b"n" * 60
    assert data[1648:1652] == b"\4\3\2\1"
    assert COWD_ROOT.sizeof() == 12


@pytest.mark.parametrize(
    ("offset_bytes", "value"),
    [(4, 0), (4, 3), (12, 0), (12, 2**31), (16, 0), (16, 2049), (20, 3), (24, 2)],
)
def test_header_damaged(offset_bytes: int, value: int) -> None:
    """VMDK001: each impossible field is named at its place, and the extent does not open."""
    raw = image()
    put(raw, offset_bytes, value)
    finding = only(raw, "VMDK001")
    assert finding.offset_bytes == (24 if offset_bytes == 12 and value else offset_bytes)
    with pytest.raises(VmdkError, match="its header is damaged") as caught:
        CowdExtent(raw)
    assert caught.value.offset_bytes == finding.offset_bytes


@pytest.mark.parametrize("data", [b"", b"COWD", b"KDMV" + bytes(4096)])
def test_no_header(data: bytes) -> None:
    """What does not start with a whole header is refused."""
    with pytest.raises(VmdkError, match="no COWD header"):
        CowdExtent(MemoryDevice(data))
    with pytest.raises(VmdkError, match="no COWD header"):
        list(check_cowd(MemoryDevice(data)))


def test_not_closed() -> None:
    """VMDK014: the mark is found, and the extent reads all the same."""
    raw = image(unclean_shutdown=1)
    assert only(raw, "VMDK014").offset_bytes == 1648
    assert read(CowdExtent(raw), 0, 512) == GRAINS[0]


def test_directory_is_longer_than_the_disk() -> None:
    """VMDK034: entries that the capacity does not need are strange, and not looked at."""
    raw = image()
    put(raw, 24, 2**32 - 1)
    assert only(raw, "VMDK034").offset_bytes == 24
    assert read(CowdExtent(raw), 0, 512) == GRAINS[0]


@pytest.mark.parametrize("sector", [0, 10_000, 2**32 - 1])
def test_directory_outside(sector: int) -> None:
    """VMDK005: without its directory the extent does not open."""
    raw = image()
    put(raw, 20, sector)
    assert only(raw, "VMDK005").offset_bytes == 20
    with pytest.raises(VmdkError, match="directory is outside"):
        CowdExtent(raw)


@pytest.mark.parametrize("sector", [1, 4, 10_000, 2**32 - 1, 60])
def test_table_outside(sector: int) -> None:
    """VMDK007: a table that cannot be is named, and reading refuses what it would tell."""
    raw = image()
    put(raw, GD + 4, sector)
    if sector == 60:
        raw.resize((60 + 31) * 512)
    findings = list(check_cowd(raw))
    assert findings[0].code == "VMDK007"
    assert findings[0].offset_bytes == GD + 4
    assert f"table 1 at sector {sector}" in findings[0].message
    error = refused(raw, 4096, f"grain table 1 is said to be at sector {sector}")
    assert error.offset_bytes == GD + 4
    assert read(CowdExtent(raw), 0, 512) == GRAINS[0]
    runs = list(CowdExtent(raw).extents())
    assert any(run.is_data and run.length_bytes >= 4096 * 512 for run in runs)


@pytest.mark.parametrize(("sector", "in_table"), [(5, 0), (20, 4), (36, 4)])
def test_tables_overlap(sector: int, in_table: int) -> None:
    """VMDK020: a table that is named twice, or lies on another or on grains, is found."""
    raw = image()
    put(raw, GD + 4, sector)
    finding, *others = check_cowd(raw)
    assert (finding.code, finding.offset_bytes) == ("VMDK020", GD + 4)
    assert finding.message == f"table 1 at sector {sector} lies on another table"
    assert [other.code for other in others] == ["VMDK013"] * in_table


@pytest.mark.parametrize("sector", [109, 10_000, 2**32 - 1])
def test_grain_outside(sector: int) -> None:
    """VMDK010: a grain outside the file is named with its place, and is not read."""
    raw = image()
    put(raw, entry(4097), sector)
    finding = only(raw, "VMDK010")
    assert finding.offset_bytes == entry(4097)
    assert finding.message == f"grain 4097 at sector {sector} ends outside the file"
    error = refused(raw, 4097, f"grain 4097 is said to be at sector {sector}")
    assert error.offset_bytes == entry(4097)
    assert read(CowdExtent(raw), 4096 * 512, 512) == GRAINS[4096]


def test_run_that_leaves_the_file() -> None:
    """In a run of grains the first that is outside is named."""
    raw = image()
    for at in range(5):
        put(raw, entry(100 + at), 107 + at)
    extent = CowdExtent(raw)
    with pytest.raises(VmdkError, match="grain 102 is said to be at sector 109") as caught:
        read(extent, 0, 200 * 512)
    assert caught.value.offset_bytes == entry(102)
    assert read(extent, 100 * 512, 1024) == read(raw, 107 * 512, 1024)


@pytest.mark.parametrize("sector", [1, 3, 4, 5, 36, 41, 60, 106])
def test_grain_in_the_metadata(sector: int) -> None:
    """VMDK013: a grain in the header, the directory or a table is named, and is not read."""
    raw = image()
    put(raw, entry(4097), sector)
    finding = only(raw, "VMDK013")
    assert finding.offset_bytes == entry(4097)
    error = refused(raw, 4097, f"sector {sector}, which is in the metadata")
    assert error.offset_bytes == entry(4097)


def test_run_into_the_metadata() -> None:
    """In a run of grains the first that lies in a table is named."""
    raw = image()
    for at in range(6):
        put(raw, entry(100 + at), 37 + at)
    extent = CowdExtent(raw)
    with pytest.raises(VmdkError, match="grain 104 is said to be at sector 41") as caught:
        read(extent, 100 * 512, 6 * 512)
    assert caught.value.offset_bytes == entry(104)


@pytest.mark.parametrize("batch_tables", [1, 32])
@pytest.mark.parametrize("window", [8, 40, 1 << 27])
def test_grain_used_twice(monkeypatch: pytest.MonkeyPatch, window: int, batch_tables: int) -> None:
    """VMDK012: the later of two grains in one place is named, in whatever window of the file."""
    monkeypatch.setattr(taken, "WINDOW_PLACES", window)
    monkeypatch.setattr(sweep, "BATCH_TABLES", batch_tables)
    raw = image()
    assert list(check_cowd(raw)) == []
    put(raw, entry(4096), 40)
    assert only(raw, "VMDK012").offset_bytes == entry(4096)
    put(raw, entry(8193), 40)
    places = [finding.offset_bytes for finding in check_cowd(raw)]
    assert places == [entry(4096), entry(8193)]


@pytest.mark.parametrize("window", [8, 24, 1 << 27])
@pytest.mark.parametrize("shift", [-7, -1, 1, 7])
def test_grains_that_overlap_in_part(
    monkeypatch: pytest.MonkeyPatch, window: int, shift: int
) -> None:
    """VMDK012: grains need not lie on borders, and may not share a sector."""
    monkeypatch.setattr(taken, "WINDOW_PLACES", window)
    data = {number: bytes([number + 1]) * 4096 for number in range(8)}
    raw = MemoryDevice(cowd_file(800, data, grain_sectors=8))
    assert list(check_cowd(raw)) == []
    place = 5 * 512 + 4 * 3
    sector = int.from_bytes(read(raw, place, 4), "little")
    put(raw, place, sector + shift)
    (finding,) = check_cowd(raw)
    other = sector + (8 if shift > 0 else -8)
    later = max(sector + shift, other)
    assert finding.code == "VMDK012"
    assert (
        finding.message == f"the grains at sectors {min(sector + shift, other)} and {later} overlap"
    )
    assert finding.offset_bytes == later * 512


@pytest.mark.parametrize("grain", [CAPACITY, 3 * 4096 - 1])
def test_grain_behind_the_end(grain: int) -> None:
    """VMDK019: an entry that no part of the disk belongs to is found."""
    raw = image()
    put(raw, entry(grain), 40)
    finding = only(raw, "VMDK019")
    assert finding.offset_bytes == entry(grain)


def test_free_sector() -> None:
    """VMDK034: what is in use beyond the next free sector would be lost; an open file may lag."""
    raw = image()
    put(raw, 28, 108)
    finding = only(raw, "VMDK034")
    assert finding.offset_bytes == 28
    assert "ends at 109" in finding.message
    put(raw, 1648, 1)
    only(raw, "VMDK014")


def test_many_faults_are_counted() -> None:
    """The first faults of a kind are named, and the rest is counted."""
    raw = image()
    for number in range(100, 200):
        put(raw, entry(number), 2**31)
    findings = list(check_cowd(raw))
    assert [finding.code for finding in findings] == ["VMDK010"] * 21
    assert findings[-1].message == "and 80 more like these"


def test_file_may_end_with_the_disk() -> None:
    """The last grain may be cut by the disk's end, and the file with it; not before."""
    data = cowd_file(10, {0: b"a" * 4096, 1: b"b" * 1024}, grain_sectors=8)
    whole = MemoryDevice(data[: len(data) - 6 * 512])
    assert list(check_cowd(whole)) == []
    assert read(CowdExtent(whole), 0, 5120) == b"a" * 4096 + b"b" * 1024
    cut = MemoryDevice(data[: len(data) - 7 * 512])
    assert [finding.code for finding in check_cowd(cut)] == ["VMDK010"]
    with pytest.raises(VmdkError, match="ends within a grain"):
        read(CowdExtent(cut), 0, 5120)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder with the disk of the image."""
    found = Folder(tmp_path)
    found.replace("x-delta.vmdk", bytes(image().data))
    found.replace("x.vmdk", descriptor("vmfsSparse", CAPACITY, "x-delta.vmdk").encode())
    return found


def test_disk(folder: Folder) -> None:
    """Through its descriptor the disk opens, is sound, and says what it is."""
    assert list(vmdk.check(folder.open("x.vmdk"), folder)) == []
    with vmdk.open(folder.open("x.vmdk"), folder) as disk:
        assert disk.subformat == "vmfsSparse"
        assert read(disk, 0, disk.size_bytes) == shown(CAPACITY * 512, 512, GRAINS)
        assert sum(run.length_bytes for run in disk.extents() if run.is_data) == 8 * 512


@pytest.mark.parametrize(("sectors", "code"), [(CAPACITY + 1, "VMDK016"), (100, "VMDK004")])
def test_descriptor_and_header_disagree(folder: Folder, sectors: int, code: str) -> None:
    """VMDK016, VMDK004: a line that is longer than its extent, or shorter, is found."""
    folder.replace("x.vmdk", descriptor("vmfsSparse", sectors, "x-delta.vmdk").encode())
    (finding,) = vmdk.check(folder.open("x.vmdk"), folder)
    assert (finding.code, finding.offset_bytes) == (code, 12)
    assert finding.where is not None
    assert finding.where.endswith("x-delta.vmdk")
    if code == "VMDK016":
        with pytest.raises(VmdkError, match="it has room for"):
            vmdk.open(folder.open("x.vmdk"), folder)
    else:
        with vmdk.open(folder.open("x.vmdk"), folder) as disk:
            assert disk.size_bytes == 100 * 512


def test_extent_cut_within_its_header(folder: Folder) -> None:
    """VMDK001: what is left of a header is none, and no reason to stop the check."""
    folder.replace("x-delta.vmdk", bytes(image().data[:1000]))
    (finding,) = vmdk.check(folder.open("x.vmdk"), folder)
    assert finding.code == "VMDK001"
    with pytest.raises(VmdkError, match="no COWD header"):
        vmdk.open(folder.open("x.vmdk"), folder)


def test_is_never_written_to(folder: Folder) -> None:
    """Opening for writing is refused, and so is every change of what was opened."""
    with pytest.raises(VmdkError, match="vmfsSparse disks are read, and not written to"):
        vmdk.open(folder.open("x.vmdk", writable=True), folder, writable=True)
    extent = CowdExtent(image())
    with pytest.raises(DeviceError, match="vmfsSparse, which is read and never written"):
        extent.write(0, b"x")
    with pytest.raises(DeviceError, match="vmfsSparse, which is read and never written"):
        extent.discard(0, 512)


def test_alone_it_is_no_disk() -> None:
    """Without its descriptor it is recognised, and refused with a way out."""
    assert vmdk.is_vmdk(image())
    with pytest.raises(VmdkError, match="one extent of a disk"):
        vmdk.open(image())
    with pytest.raises(VmdkError, match="one extent of a disk"):
        list(vmdk.check(image()))


def test_reading_imports_no_numpy(folder: Folder) -> None:
    """Opening a disk and reading a little of it leaves NumPy alone."""
    code = (
        "import sys\nfrom ipva_storage import vmdk\nfrom ipva_storage.device import Folder, read\n"
        "folder = Folder(sys.argv[1])\n"
        "with vmdk.open(folder.open('x.vmdk'), folder) as disk:\n    read(disk, 0, 1 << 20)\n"
        "print('numpy' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(folder.path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
