"""Every finding of a stream-optimized file, made on purpose and found at its place."""

from __future__ import annotations

import pytest

from ipva_storage import vmdk
from ipva_storage.device import MemoryDevice, read
from ipva_storage.errors import DeviceError, VmdkError
from ipva_storage.findings import Finding
from ipva_storage.vmdk.describe import describe
from ipva_storage.vmdk.disk import VmdkDevice
from ipva_storage.vmdk.extent.header import build_header, read_header
from ipva_storage.vmdk.extent.markers import Kind, Record, walk
from ipva_storage.vmdk.extent.pack import StreamWriter, stream_header

GRAIN_BYTES = 4096
SECTORS = 12 * 8
DATA = b"".join(bytes([number]) * GRAIN_BYTES for number in range(1, 11))


def image() -> MemoryDevice:
    """12 grains of 4 KiB, four in a table; the first ten are there."""
    raw = MemoryDevice(name="disk.vmdk")
    header = stream_header(SECTORS, 8, 4, 7)
    raw.resize(header.overhead_sectors * 512)
    raw.write(0, build_header(header))
    line = f'RW {SECTORS} SPARSE "disk.vmdk"'
    text = describe("streamOptimized", [line], SECTORS * 512)
    raw.write(512, text.encode())
    extent = StreamWriter(raw, header, level=3)
    with VmdkDevice(raw, text, [extent], descriptor_offset_bytes=512, writable=True) as disk:
        disk.write(0, DATA)
    return raw


def parts(raw: MemoryDevice, kind: Kind) -> list[Record]:
    """The parts of a kind, in order."""
    return [record for record in walk(raw, read_header(raw)) if record.kind is kind]


def only(raw: MemoryDevice, code: str) -> Finding:
    """The one finding there is."""
    (found,) = vmdk.check(raw)
    assert found.code == code, found
    return found


def put(raw: MemoryDevice, offset_bytes: int, value: int, length: int = 4) -> None:
    """Overwrite a number."""
    raw.write(offset_bytes, value.to_bytes(length, "little"))


def test_a_new_stream_is_sound() -> None:
    """As written it has no finding, reads as it should, and is made of the parts it should."""
    raw = image()
    assert list(vmdk.check(raw)) == []
    with vmdk.open(raw) as disk:
        assert read(disk, 0, disk.size_bytes) == DATA.ljust(SECTORS * 512, b"\0")
    kinds = [record.kind for record in walk(raw, read_header(raw))]
    grains = [Kind.GRAIN] * 4 + [Kind.TABLE]
    end = [Kind.GRAIN] * 2 + [Kind.TABLE, Kind.DIRECTORY, Kind.FOOTER, Kind.ZEROS]
    assert kinds == [*grains, *grains, *end]


def test_marker_damaged() -> None:
    """VMDK024: a marker that is none is named once, and does not hide what is behind it."""
    raw = image()
    at = parts(raw, Kind.GRAIN)[2].sector * 512
    put(raw, at, 5)
    assert only(raw, "VMDK024").offset_bytes == at


@pytest.mark.parametrize("kind", [Kind.TABLE, Kind.DIRECTORY, Kind.FOOTER])
def test_marker_of_metadata_damaged(kind: Kind) -> None:
    """VMDK024: the marker of a table, the directory or the footer is missed at its place."""
    raw = image()
    at = parts(raw, kind)[0].sector * 512
    put(raw, at + 12, 9)
    found = [one for one in vmdk.check(raw) if one.code == "VMDK024"]
    assert at in [one.offset_bytes for one in found]


@pytest.mark.parametrize("length", [512, 1024, 1536])
def test_footer_missing(length: int) -> None:
    """VMDK025: without a footer the grains are not found, and the disk does not open."""
    raw = image()
    raw.resize(raw.size_bytes - length)
    assert "VMDK025" in [one.code for one in vmdk.check(raw)]
    with pytest.raises(VmdkError, match=r"its footer.*is missing"):
        vmdk.open(raw)


def test_data_damaged() -> None:
    """VMDK026: a grain whose checksum is wrong is told with its range."""
    raw = image()
    record = parts(raw, Kind.GRAIN)[3]
    put(raw, record.sector * 512 + 12 + len(record.data) - 1, 0x55, 1)
    found = only(raw, "VMDK026")
    assert "grain 3 (bytes 12288 to 16384 of the disk)" in found.message
    with vmdk.open(raw) as disk:
        assert read(disk, 0, 3 * GRAIN_BYTES) == DATA[: 3 * GRAIN_BYTES]
        with pytest.raises(VmdkError, match="grain 3 is damaged"):
            read(disk, 3 * GRAIN_BYTES, 1)


def test_a_damaged_grain_does_not_hide_those_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is inflated ahead and turns out damaged is an error for its own reader only."""
    monkeypatch.setattr("ipva_storage.vmdk.extent.stream.TASK_GRAINS", 2)
    raw = image()
    put(raw, parts(raw, Kind.GRAIN)[5].sector * 512 + 20, 0xFFFF)
    put(raw, (parts(raw, Kind.TABLE)[1].sector + 1) * 512 + 12, 2**31)  # and an entry: grain 7
    with vmdk.open(raw) as disk:
        for first in (0, 2):
            data = read(disk, first * GRAIN_BYTES, 2 * GRAIN_BYTES)
            assert data == DATA[first * GRAIN_BYTES :][: 2 * GRAIN_BYTES]
        assert read(disk, 4 * GRAIN_BYTES, GRAIN_BYTES) == DATA[4 * GRAIN_BYTES :][:GRAIN_BYTES]
        with pytest.raises(VmdkError, match="grain 5 is damaged"):
            read(disk, 4 * GRAIN_BYTES, 2 * GRAIN_BYTES)
        assert read(disk, 6 * GRAIN_BYTES, GRAIN_BYTES) == DATA[6 * GRAIN_BYTES :][:GRAIN_BYTES]


def test_grain_and_table_disagree() -> None:
    """VMDK027, VMDK028: a table that points to another grain; it is never read as this one."""
    raw = image()
    table = parts(raw, Kind.TABLE)[0].sector + 1
    put(raw, table * 512, parts(raw, Kind.GRAIN)[1].sector)
    assert [one.code for one in vmdk.check(raw)] == ["VMDK027", "VMDK028"]
    with vmdk.open(raw) as disk, pytest.raises(VmdkError, match="belongs to sector 8"):
        read(disk, 0, 1)


def test_grain_in_no_table() -> None:
    """VMDK028: a grain that is there, and that no table names."""
    raw = image()
    put(raw, (parts(raw, Kind.TABLE)[1].sector + 1) * 512 + 4, 0)
    found = only(raw, "VMDK028")
    assert "grain 5 (bytes 20480 to 24576 of the disk) is there" in found.message


def test_stream_not_ended() -> None:
    """VMDK029: what is behind the end, or a last sector that is not whole, is told."""
    raw = image()
    raw.resize(raw.size_bytes + 100)
    assert "VMDK029" in [one.code for one in vmdk.check(raw)]


def test_version_too_old_for_esxi() -> None:
    """VMDK034: a stream of version 1, as older programs wrote them."""
    raw = image()
    put(raw, 4, 1)
    put(raw, raw.size_bytes - 1024 + 4, 1)
    assert "too old for ESXi" in only(raw, "VMDK034").message


def test_a_bomb_stops_at_the_size_of_a_grain() -> None:
    """A compressed grain that holds more than a grain is damaged, and costs no more."""
    import zlib

    raw = image()
    at = parts(raw, Kind.GRAIN)[0].sector * 512
    bomb = zlib.compress(bytes(8 << 20))[:480]
    put(raw, at + 8, len(bomb))
    raw.write(at + 12, bomb)
    with vmdk.open(raw) as disk, pytest.raises(VmdkError, match="holds more than 4096 bytes"):
        read(disk, 0, 1)


def test_a_stream_is_written_once() -> None:
    """Bytes are taken in rising order only, and a finished stream takes none."""
    raw = MemoryDevice(name="disk.vmdk")
    header = stream_header(SECTORS, 8, 4, 7)
    raw.resize(header.overhead_sectors * 512)
    raw.write(0, build_header(header))
    extent = StreamWriter(raw, header, level=1)
    extent.write(5000, b"x" * 9000)
    with pytest.raises(DeviceError, match="written once"):
        extent.write(13_999, b"x")
    with pytest.raises(DeviceError, match="cannot be read meanwhile"):
        extent.read_into(0, bytearray(1))
    extent.discard(14_000, 100)
    extent.write(14_000, b"y")
    extent.seal()
    with pytest.raises(DeviceError, match="written once"):
        extent.write(20_000, b"x")
    with vmdk.open(raw) as disk:
        assert read(disk, 5000, 9001) == b"x" * 9000 + b"y"
    with pytest.raises(VmdkError, match="read, and not written to"):
        vmdk.open(image(), writable=True)
