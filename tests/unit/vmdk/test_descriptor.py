"""The text descriptor."""

from __future__ import annotations

import time

import pytest

from ipva_storage.errors import VmdkError
from ipva_storage.vmdk.descriptor import Descriptor, ExtentLine, is_descriptor

TEXT = """\
# Disk DescriptorFile
version=1
encoding="UTF-8"
CID=0172e8a4
parentCID=ffffffff
createType="vmfs"

# Extent description
RW 4096 VMFS "disk-flat.vmdk"

# The Disk Data Base
#DDB
ddb.adapterType = "lsilogic"
ddb.comment = "a = b"
"""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_values(end: str) -> None:
    """Every value is found, whatever ends the lines, and the bytes come back."""
    data = TEXT.replace("\n", end).encode()
    descriptor = Descriptor.parse(data)
    assert descriptor.cid == 0x172E8A4
    assert descriptor.parent_cid == 0xFFFFFFFF
    assert descriptor.parent_hint is None
    assert descriptor.create_type == "vmfs"
    assert descriptor.extents == (ExtentLine("RW", 4096, "VMFS", "disk-flat.vmdk"),)
    assert descriptor.extents[0].size_bytes == 2 << 20
    assert descriptor.ddb == {"adapterType": "lsilogic", "comment": "a = b"}
    assert descriptor.encode() == data


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("RW 63 ZERO", ExtentLine("RW", 63, "ZERO")),
        ('rdonly 1 flat "a b.vmdk"', ExtentLine("RDONLY", 1, "FLAT", "a b.vmdk")),
        ('  RW\t9 FLAT "x" 7 ', ExtentLine("RW", 9, "FLAT", "x", 7)),
        ('RW 9 VMFSRDM "x" 0 uuid', ExtentLine("RW", 9, "VMFSRDM", "x", 0, ("uuid",))),
        ('RW 9 FLAT "x" 0 uuid dev', ExtentLine("RW", 9, "FLAT", "x", 0, ("uuid", "dev"))),
        ('RW 9 FLAT "x" uuid', ExtentLine("RW", 9, "FLAT", "x", 0, ("uuid",))),
        ('NOACCESS 9 SPARSE "a = b"', ExtentLine("NOACCESS", 9, "SPARSE", "a = b")),
    ],
)
def test_extent_lines_of_three_to_seven_fields(line: str, expected: ExtentLine) -> None:
    """Each form of an extent line is understood, and is no assignment."""
    descriptor = Descriptor.parse(line.encode())
    assert descriptor.extents == (expected,)
    assert descriptor.values == {}


@pytest.mark.parametrize(
    "line", ["RW x FLAT", "RW 1", 'WR 1 FLAT "x"', "RW -1 FLAT", "RW 1 FLAT x"]
)
def test_other_lines_are_no_extents(line: str) -> None:
    """A line that is almost an extent is kept and means nothing."""
    assert Descriptor.parse(f'createType="x"\n{line}'.encode()).extents == ()


def test_text_ends_at_zero_byte() -> None:
    """What is behind the first zero byte is not part of the text."""
    assert Descriptor.parse(TEXT.encode() + b"\0\0CID=1").encode() == TEXT.encode()


@pytest.mark.parametrize(
    ("name", "codec"),
    [("UTF-8", "utf-8"), ("windows-1252", "cp1252"), ("GBK", "gbk"), ("Shift_JIS", "shift_jis")],
)
def test_encodings(name: str, codec: str) -> None:
    """A file name is read in the encoding that the descriptor names."""
    file_name = {"gbk": "磁盘.vmdk", "shift_jis": "ディスク.vmdk"}.get(codec, "Plättchen.vmdk")
    data = f'encoding="{name}"\nRW 1 FLAT "{file_name}"'.encode(codec)
    descriptor = Descriptor.parse(data)
    assert descriptor.extents[0].file_name == file_name
    assert descriptor.encoding == codec


@pytest.mark.parametrize("name", ["zlib", "rot13", "utf-16", "no-such"])
def test_unknown_encodings_are_latin(name: str) -> None:
    """An encoding that is none of VMware's is not tried, and the bytes come back all the same."""
    data = f'encoding="{name}"\nRW 1 FLAT "'.encode() + b'\xff\xe4"'
    descriptor = Descriptor.parse(data)
    assert descriptor.encoding == "latin-1"
    assert descriptor.encode() == data


def test_cid_changes_in_place() -> None:
    """Another CID changes its own digits only, and not those of the parent."""
    changed = Descriptor.parse(TEXT.encode()).with_cid(0xABCDEF01)
    assert changed.text == TEXT.replace("0172e8a4", "abcdef01")
    assert changed.cid == 0xABCDEF01
    short = Descriptor.parse(b'createType="x"\ncid = 7f\n').with_cid(0xABCDEF01)
    assert short.text == 'createType="x"\ncid = 01\n'


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("line", ["CID=1", ' cid = "0xAB"', "CID=\t00000000"])
def test_cid_changes_wherever_it_is_found(line: str, end: str) -> None:
    """A CID that is read can be changed, whatever ends the lines."""
    descriptor = Descriptor.parse(f'createType="x"{end}{line}{end}'.encode())
    assert descriptor.cid is not None
    assert descriptor.with_cid(0x55555555).cid in (0x5, 0x55, 0x55555555)


def test_text_without_cid_stays() -> None:
    """Where there is no CID, none is made."""
    descriptor = Descriptor.parse(b'createType="x"')
    assert descriptor.with_cid(5) == descriptor
    assert descriptor.cid is None


@pytest.mark.parametrize("data", [b"", b"\0" * 512, b"hello = world", b"\xff\xfe\x00"])
def test_not_a_descriptor(data: bytes) -> None:
    """Text without an extent and a kind is refused."""
    with pytest.raises(VmdkError, match="neither an extent line nor a createType"):
        Descriptor.parse(data)


def test_signature() -> None:
    """A descriptor is known by its first line, or by an assignment behind comments."""
    assert is_descriptor(TEXT.encode())
    assert is_descriptor(b"\xef\xbb\xbf" + TEXT.encode())
    assert is_descriptor(b"\r\n# made by hand\r\n\r\n# so\r\nversion = 1")
    assert not is_descriptor(b"# a shell script\necho version")
    assert not is_descriptor(b"KDMV" + bytes(100))
    assert not is_descriptor(b"\x7fELF")


def test_hostile_text_costs_little() -> None:
    """A megabyte of anything is parsed soon: no pattern goes back and forth."""
    started = time.process_time()
    for piece in (b"# ", b" ", b"RW 1 FLAT ", b'"', b"= ", b"CID=", b"\r", b"\t\n", b"#\n"):
        data = b"createType=x\n" + piece * ((1 << 20) // len(piece))
        descriptor = Descriptor.parse(data)
        assert descriptor.create_type.startswith("x")
        assert descriptor.extents == ()
        descriptor.with_cid(1)
        is_descriptor(data[13:])
    assert time.process_time() - started < 10
