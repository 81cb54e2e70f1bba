"""Every finding of a VMDK: made on purpose, found at its place, and nothing else with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, MemoryDevice, read
from ipva_storage.errors import VmdkError
from ipva_storage.findings import CATALOGUE
from ipva_storage.units import MIB
from ipva_storage.vmdk.creation import new_sparse
from ipva_storage.vmdk.extent.header import read_header

if TYPE_CHECKING:
    from ipva_storage.findings import Finding

GRAIN_BYTES = 4096
DATA = b"".join(bytes([number]) * GRAIN_BYTES for number in range(1, 11))

RGD, RGT, GD, GT, GRAINS = 21, 22, 25, 26, 32
"""Sectors of the image below: directories, first tables, first grain."""


def image() -> MemoryDevice:
    """12 grains of 4 KiB, four in a table; the first ten are there."""
    raw = MemoryDevice(name="disk.vmdk")
    with new_sparse(raw, "disk.vmdk", 12 * GRAIN_BYTES, grain_sectors=8, gtes_per_gt=4) as disk:
        disk.write(0, DATA)
    return raw


def put(raw: MemoryDevice, offset_bytes: int, value: int, length: int = 4) -> None:
    """Overwrite a number."""
    raw.write(offset_bytes, value.to_bytes(length, "little"))


def codes(raw: MemoryDevice) -> list[str]:
    """What is found, in order; space in no use (VMDK030) is the matter of tests of its own."""
    return [finding.code for finding in vmdk.check(raw) if finding.code != "VMDK030"]


def only(raw: MemoryDevice, code: str) -> Finding:
    """The one finding there is."""
    (finding,) = (found for found in vmdk.check(raw) if found.code != "VMDK030")
    assert finding.code == code
    assert finding.where == "disk.vmdk"
    return finding


def test_image_is_laid_out_as_the_tests_below_say() -> None:
    """The numbers of sectors used here are those of the image."""
    header = read_header(image())
    assert (header.rgd_offset_sectors, header.gd_offset_sectors) == (RGD, GD)
    assert header.overhead_sectors == GRAINS
    assert read(image(), GRAINS * 512, len(DATA)) == DATA


@pytest.mark.parametrize(
    ("offset_bytes", "value", "length"),
    [
        (4, 4, 4),
        (4, 0, 4),
        (12, 0, 8),
        (12, 2**63, 8),
        (20, 0, 8),
        (20, 9, 8),
        (20, 4, 8),
        (20, 4096, 8),
        (44, 0, 4),
        (44, 513, 4),
        (64, 2**40, 8),
    ],
)
def test_header_damaged(offset_bytes: int, value: int, length: int) -> None:
    """VMDK001: each impossible field is named at its place, and the disk does not open."""
    raw = image()
    put(raw, offset_bytes, value, length)
    found = [finding for finding in vmdk.check(raw) if finding.code == "VMDK001"]
    assert [finding.offset_bytes for finding in found] == [offset_bytes]
    with pytest.raises(VmdkError, match="header is damaged or foreign") as caught:
        vmdk.open(raw)
    assert caught.value.offset_bytes == offset_bytes
    assert caught.value.remedy


@pytest.mark.parametrize("table_count", [(1 << 21) + 1, 1 << 26])
def test_too_many_tables(table_count: int) -> None:
    """VMDK001: a directory of absurd length is refused before memory is taken."""
    raw = image()
    put(raw, 12, table_count * 8 * 4, 8)
    assert codes(raw)[0] == "VMDK001"
    with pytest.raises(VmdkError, match="tables are too many"):
        vmdk.open(raw)


def test_line_ends_changed() -> None:
    """VMDK002: the guard bytes are wrong."""
    raw = image()
    raw.write(73, b"\n \n\r")
    found = only(raw, "VMDK002")
    assert (found.offset_bytes, found.repair) == (73, "ipva disk repair DISK")


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"\n", b"\r\n"), (b"\r\n", b"\n"), (b"\n", b"\r"), (b"\r", b"\n"), (b"\r\n", b"\r")],
)
@pytest.mark.parametrize("subformat", ["monolithicSparse", "streamOptimized"])
def test_sent_as_text(tmp_path: Path, subformat: str, old: bytes, new: bytes) -> None:
    """VMDK002: what a transfer as text does to a file shows; it is neither read nor mended."""
    folder = Folder(tmp_path)
    vmdk.create(folder, "disk.vmdk", MIB, subformat=subformat, fill=lambda disk: disk.write(0, old))
    path = tmp_path / "disk.vmdk"
    path.write_bytes(path.read_bytes().replace(old, new))
    with folder.open("disk.vmdk") as raw:
        all_found = list(vmdk.check(raw, folder))
    (found,) = (each for each in all_found if each.code == "VMDK002")
    assert "ipva disk repair DISK" not in [each.repair for each in all_found]
    assert "sent as text" in found.message
    assert found.repair is not None
    assert "in binary mode" in found.repair
    for job in (vmdk.repair, vmdk.open_remains):
        with pytest.raises(VmdkError, match="sent as text"):
            job(folder, "disk.vmdk")


def test_descriptor_lost() -> None:
    """VMDK003: without its descriptor the disk is still readable, and not writable."""
    raw = image()
    raw.write(512, bytes(10240))
    assert only(raw, "VMDK003").offset_bytes == 512
    with vmdk.open(raw) as disk:
        assert read(disk, 0, len(DATA)) == DATA
        assert disk.subformat == "monolithicSparse"
        assert disk.descriptor.extents == ()
    with pytest.raises(VmdkError, match="neither an extent line"):
        vmdk.open(raw, writable=True)


@pytest.mark.parametrize(("offset_bytes", "value"), [(28, 2**40), (36, 0), (36, 2**30)])
def test_descriptor_elsewhere(offset_bytes: int, value: int) -> None:
    """VMDK003: a place for the descriptor that cannot be is no reason to read there."""
    raw = image()
    put(raw, offset_bytes, value, 8)
    assert {"VMDK003"} <= set(codes(raw)) <= {"VMDK003", "VMDK034"}


def test_capacity_differs() -> None:
    """VMDK004: descriptor and header say different sizes; the header counts."""
    raw = image()
    raw.write(512, read(raw, 512, 1024).replace(b"RW 96 ", b"RW 95 "))
    assert "95 sectors, the header 96" in only(raw, "VMDK004").message
    with vmdk.open(raw) as disk:
        assert disk.size_bytes == 96 * 512


def test_directory_outside() -> None:
    """VMDK005: the redundant directory is used for reading."""
    raw = image()
    put(raw, 56, 2**40, 8)
    assert "redundant" in only(raw, "VMDK005").message
    with vmdk.open(raw) as disk:
        assert read(disk, 0, len(DATA)) == DATA
    with vmdk.open(raw, writable=True) as disk, pytest.raises(VmdkError, match="nothing new fits"):
        disk.write(11 * GRAIN_BYTES, b"x")


def test_redundant_directory_outside() -> None:
    """VMDK006: the disk works on without."""
    raw = image()
    put(raw, 48, 2**40, 8)
    assert only(raw, "VMDK006").offset_bytes == 48
    with vmdk.open(raw, writable=True) as disk:
        disk.write(11 * GRAIN_BYTES, b"x")
        assert read(disk, 0, len(DATA)) == DATA


def test_both_directories_outside() -> None:
    """VMDK005 and VMDK006: with both gone nothing can be read."""
    raw = image()
    put(raw, 48, 2**40, 8)
    put(raw, 56, 2**40, 8)
    assert codes(raw) == ["VMDK005", "VMDK006"]
    with pytest.raises(VmdkError, match="grain directory is outside the file"):
        vmdk.open(raw)


@pytest.mark.parametrize("sector", [0, 2**30])
def test_table_outside(sector: int) -> None:
    """VMDK007: the redundant table is used for reading."""
    raw = image()
    put(raw, GD * 512 + 4, sector)
    assert only(raw, "VMDK007").offset_bytes == GD * 512 + 4
    with vmdk.open(raw) as disk:
        assert read(disk, 0, len(DATA)) == DATA


def test_redundant_table_outside() -> None:
    """VMDK008: the disk reads on without."""
    raw = image()
    put(raw, RGD * 512 + 8, 2**30)
    assert only(raw, "VMDK008").offset_bytes == RGD * 512 + 8
    with vmdk.open(raw) as disk:
        assert read(disk, 0, len(DATA)) == DATA


def test_both_tables_outside() -> None:
    """VMDK007 and VMDK008: what they had is refused, the rest is read."""
    raw = image()
    put(raw, GD * 512, 2**30)
    put(raw, RGD * 512, 2**30)
    assert codes(raw) == ["VMDK007", "VMDK008"]
    with vmdk.open(raw) as disk:
        assert read(disk, 4 * GRAIN_BYTES, GRAIN_BYTES) == DATA[4 * GRAIN_BYTES :][:GRAIN_BYTES]
        with pytest.raises(VmdkError, match="grain table 0 is outside the file"):
            read(disk, 0, 1)


def test_no_table_at_all() -> None:
    """A table that neither directory has is one of unallocated grains, which is no fault."""
    raw = image()
    put(raw, GD * 512, 0)
    put(raw, RGD * 512, 0)
    assert codes(raw) == []
    with vmdk.open(raw) as disk:
        assert read(disk, 0, 4 * GRAIN_BYTES) == bytes(4 * GRAIN_BYTES)


def test_tables_differ() -> None:
    """VMDK009: the primary one counts while the disk was closed well."""
    raw = image()
    put(raw, RGT * 512 + 4, GRAINS)
    finding = only(raw, "VMDK009")
    assert finding.offset_bytes == GT * 512 + 4
    assert "grain 1" in finding.message
    with vmdk.open(raw) as disk:
        assert read(disk, 0, len(DATA)) == DATA


def test_grain_outside() -> None:
    """VMDK010: the redundant entry is used for reading, and mended by the next write there."""
    raw = image()
    put(raw, GT * 512 + 8, 2**31)
    assert codes(raw) == ["VMDK009", "VMDK010"]
    with vmdk.open(raw) as disk:
        assert read(disk, 0, len(DATA)) == DATA
    with vmdk.open(raw, writable=True) as disk:
        disk.write(2 * GRAIN_BYTES, b"x")
    assert codes(raw) == []


@pytest.mark.parametrize(("sector", "code"), [(2**31, "VMDK010"), (5, "VMDK013")])
def test_grain_lost_in_both_tables(sector: int, code: str) -> None:
    """Without a good entry in either table reading says so, and writing is refused."""
    raw = image()
    put(raw, GT * 512 + 8, sector)
    put(raw, RGT * 512 + 8, sector)
    assert code in codes(raw)
    with vmdk.open(raw) as disk:
        assert read(disk, 0, 2 * GRAIN_BYTES) == DATA[: 2 * GRAIN_BYTES]
        with pytest.raises(VmdkError, match=f"grain 2 is said to be at sector {sector}") as caught:
            read(disk, 0, len(DATA))
    assert caught.value.offset_bytes == GT * 512 + 8
    with (
        vmdk.open(raw, writable=True) as disk,
        pytest.raises(VmdkError, match="entries that cannot be"),
    ):
        disk.write(0, b"x")


def test_file_cut() -> None:
    """VMDK010: a grain that the file no longer has in full is found, and not read."""
    raw = image()
    raw.resize(raw.size_bytes - 512)
    assert "grain 9 at sector" in only(raw, "VMDK010").message
    with vmdk.open(raw) as disk:
        assert read(disk, 0, 9 * GRAIN_BYTES) == DATA[: 9 * GRAIN_BYTES]
        with pytest.raises(VmdkError, match="ends within a grain"):
            read(disk, 9 * GRAIN_BYTES, GRAIN_BYTES)


def test_grain_unaligned() -> None:
    """VMDK011: and it shares its space with the two that it lies on (VMDK012)."""
    raw = image()
    for table in (GT, RGT):
        put(raw, table * 512, GRAINS + 8 + 3)
    assert codes(raw)[0] == "VMDK011"
    assert set(codes(raw)) == {"VMDK011", "VMDK012"}


def test_grain_used_twice() -> None:
    """VMDK012: two entries name one grain."""
    raw = image()
    for table in (GT, RGT):
        put(raw, (table + 1) * 512, GRAINS + 8)
    finding = only(raw, "VMDK012")
    assert finding.offset_bytes == (GT + 1) * 512
    assert "grain 4 at sector 40" in finding.message


def test_grain_in_metadata() -> None:
    """VMDK013: such an entry shows metadata as data."""
    raw = image()
    for table in (GT, RGT):
        put(raw, table * 512, GRAINS - 8)
    assert only(raw, "VMDK013").offset_bytes == GT * 512


def test_not_closed() -> None:
    """VMDK014: the mark stays until a session is closed well."""
    raw = image()
    raw.write(72, b"\1")
    assert only(raw, "VMDK014").offset_bytes == 72
    with vmdk.open(raw, writable=True) as disk:
        disk.write(0, b"x")
    assert codes(raw) == []


@pytest.mark.parametrize("sector", [2**31, 5, GRAINS + 3, GRAINS + 8])
def test_torn_table_write_is_no_loss(sector: int) -> None:
    """VMDK009, VMDK014: what a power cut tore in one copy and the other has whole, is a warning."""
    raw = image()
    put(raw, GT * 512 + 8, sector)
    raw.write(72, b"\1")
    assert codes(raw) == ["VMDK014", "VMDK009"]
    with vmdk.open(raw) as disk:
        assert read(disk, 0, len(DATA)) == DATA
    raw.write(72, b"\0")
    assert len(codes(raw)) >= 2
    assert "VMDK014" not in codes(raw)


def test_loss_is_told_after_a_power_cut_too() -> None:
    """VMDK010: an entry that is wrong in both copies is lost, after a power cut too."""
    raw = image()
    put(raw, GT * 512 + 8, 2**31)
    put(raw, RGT * 512 + 8, 2**30)
    raw.write(72, b"\1")
    assert codes(raw) == ["VMDK014", "VMDK009", "VMDK010"]


def test_zeroed_grain() -> None:
    """VMDK018: an entry of 1 reads as zeros, and is no fault where the header announces it."""
    raw = image()
    for table in (GT, RGT):
        put(raw, table * 512, 1)
    only(raw, "VMDK018")
    with vmdk.open(raw) as disk:
        assert read(disk, 0, GRAIN_BYTES) == bytes(GRAIN_BYTES)
    put(raw, 4, 2)
    put(raw, 8, 7)
    assert codes(raw) == []
    with vmdk.open(raw, writable=True) as disk:
        disk.write(5, b"x")
        assert read(disk, 0, 8) == b"\0\0\0\0\0x\0\0"
    assert codes(raw) == []


def test_grain_behind_the_end() -> None:
    """VMDK019: an entry that no part of the disk has."""
    raw = image()
    put(raw, 12, 9 * 8 + 3, 8)
    assert codes(raw) == ["VMDK004", "VMDK019"] or codes(raw) == ["VMDK004"]
    put(raw, 12, 9 * 8, 8)
    raw.write(512, read(raw, 512, 1024).replace(b"RW 96 ", b"RW 72 "))
    assert "grain 9 at sector" in only(raw, "VMDK019").message


def test_tables_overlap() -> None:
    """VMDK020: two entries of a directory name one table; it is read and not written."""
    raw = image()
    put(raw, GD * 512 + 4, GT)
    assert only(raw, "VMDK020").offset_bytes == GD * 512 + 4
    with pytest.raises(VmdkError, match="its tables overlap"):
        vmdk.open(raw, writable=True)


@pytest.mark.parametrize(
    ("offset_bytes", "value"),
    [
        (GD * 512 + 4, GT),
        (GD * 512 + 4, RGT),
        (GD * 512, GD),
        (GD * 512, RGD),
        (GD * 512, 20),
        (RGD * 512, 1),
        (RGD * 512 + 4, GRAINS),
        (56, RGD),
        (56, RGT + 2),
        (28, GT),
    ],
)
def test_metadata_that_overlaps_is_not_written(offset_bytes: int, value: int) -> None:
    """Tables and directories on each other, the descriptor or the data are refused for writing."""
    raw = image()
    put(raw, offset_bytes, value)
    before = bytes(raw.data)
    with pytest.raises(VmdkError):
        vmdk.open(raw, writable=True)
    assert raw.data == before


def test_space_in_no_use() -> None:
    """VMDK030: a grain that no table names is told as room, which is no fault."""
    raw = image()
    for table in (GT, RGT):
        put(raw, table * 512, 0)
    (finding,) = vmdk.check(raw)
    assert (finding.code, finding.severity) == ("VMDK030", "info")
    assert "4096 bytes (1 grains)" in finding.message


def test_a_directory_without_any_table() -> None:
    """VMDK035: both directories blank, while grains are there, is a loss and no empty disk."""
    raw = image()
    for directory in (GD, RGD):
        raw.write(directory * 512, bytes(12))
    assert codes(raw) == ["VMDK035"]


def test_many_faults_are_counted() -> None:
    """Of many faults of one code twenty are named and the rest counted."""
    raw = MemoryDevice(name="disk.vmdk")
    with new_sparse(raw, "disk.vmdk", 100 * GRAIN_BYTES, grain_sectors=8) as disk:
        disk.write(0, b"x" * disk.size_bytes)
    header = read_header(raw)
    first_table = int.from_bytes(read(raw, header.gd_offset_sectors * 512, 4), "little")
    raw.write(first_table * 512, bytes(400))
    found = [one for one in vmdk.check(raw) if one.code != "VMDK030"]
    assert [finding.code for finding in found] == ["VMDK009"] * 21
    assert found[-1].message == "and 80 more like these"


def test_descriptor_incomplete() -> None:
    """VMDK017: keys that VMware wants are missing."""
    raw = image()
    raw.write(512, read(raw, 512, 1024).replace(b"\nCID=", b"\nDIC="))
    assert only(raw, "VMDK017").message == "it lacks CID"
    with vmdk.open(raw, writable=True) as disk:
        disk.write(0, b"x")


def test_nothing_else_in_the_catalogue() -> None:
    """Every code of the room is made by a test of this folder or of the damage suite."""
    here = Path(__file__).parent
    files = [*here.glob("*.py"), *(here.parents[1] / "damage").glob("*.py")]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    assert [code for code in CATALOGUE if code.startswith("VMDK") and code not in text] == []


@pytest.mark.parametrize("opened", [vmdk.open, lambda raw: list(vmdk.check(raw))])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is no VMDK file"),
        (b"just text", "it is no VMDK file"),
        (b"KDM", "it is no VMDK file"),
        (b"KDMV", "no sparse extent header"),
        (b"COWD" + bytes(600), r"one extent of a disk \(vmfsSparse\)"),
        (bytes.fromhex("bebafeca00000000") + bytes(600), r"one extent of a disk \(seSparse\)"),
    ],
)
def test_other_files(
    opened: Callable[[MemoryDevice], object], content: bytes, message: str
) -> None:
    """What is no VMDK, or another kind, is refused by name."""
    with pytest.raises(VmdkError, match=message):
        opened(MemoryDevice(content))


def test_grain_reaching_into_the_next() -> None:
    """VMDK012: an entry off the border also takes the place behind its own."""
    raw = image()
    for table in (GT, RGT):
        put(raw, (table + 2) * 512, GRAINS + 8 * 8 + 3)
    assert codes(raw) == ["VMDK011", "VMDK012"]


def test_new_grains_lie_on_borders() -> None:
    """Invariant 2 of `sparse`: behind a file end off the border, the next border counts."""
    raw = image()
    raw.resize(raw.size_bytes + 100)
    with vmdk.open(raw, writable=True) as disk:
        disk.write(11 * GRAIN_BYTES, b"x")
        assert read(disk, 0, len(DATA)) == DATA
    assert codes(raw) == []
