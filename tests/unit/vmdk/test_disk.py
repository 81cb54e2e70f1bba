"""Opening disks and the marks of a session."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, MemoryDevice, RawDevice, read
from ipva_storage.errors import DeviceError, NoSpaceError, VmdkError
from ipva_storage.vmdk.creation import new_sparse
from ipva_storage.vmdk.extent.header import SparseHeader, read_header

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


@pytest.fixture
def raw() -> MemoryDevice:
    """A new sparse disk of 1 MiB."""
    raw = MemoryDevice(name="disk.vmdk")
    new_sparse(raw, "disk.vmdk", MIB).seal()
    return raw


@pytest.fixture(params=vmdk.REWRITABLE)
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Folder:
    """A folder with a disk of each kind."""
    found = Folder(tmp_path)
    vmdk.create(found, "disk.vmdk", MIB, subformat=request.param)
    return found


def test_session_is_marked(raw: MemoryDevice) -> None:
    """From the first write to the close the header says so; reading marks nothing."""
    before = bytes(raw.data)
    disk = vmdk.open(raw, writable=True)
    read(disk, 0, 1000)
    disk.flush()
    disk.close()
    assert raw.data == before
    disk = vmdk.open(raw, writable=True)
    disk.write(0, b"x")
    assert read_header(raw).unclean_shutdown == 1
    disk.flush()
    assert read_header(raw).unclean_shutdown == 1
    disk.close()
    assert read_header(raw).unclean_shutdown == 0


def test_discard_is_a_change(raw: MemoryDevice) -> None:
    """A discard begins a session, as a write does."""
    with vmdk.open(raw, writable=True) as disk:
        disk.discard(0, 10)
        assert read_header(raw).unclean_shutdown == 1


def test_cid_changes_once_a_session(folder: Folder) -> None:
    """The first write of a session changes the CID in the file, further ones do not."""
    cids = []
    for _ in range(2):
        disk = vmdk.open(folder.open("disk.vmdk", writable=True), folder, writable=True)
        cids.append(disk.descriptor.cid)
        disk.write(0, b"x")
        cids.append(disk.descriptor.cid)
        disk.write(5000, b"y")
        assert disk.descriptor.cid == cids[-1]
        disk.close()
    assert cids[0] != cids[1] == cids[2] != cids[3]


def test_session_after_seal(raw: MemoryDevice) -> None:
    """A sealed disk that is written to again begins a new session."""
    disk = vmdk.open(raw, writable=True)
    disk.write(0, b"x")
    disk.seal()
    assert read_header(raw).unclean_shutdown == 0
    disk.write(200_000, b"y")
    assert read_header(raw).unclean_shutdown == 1
    disk.close()
    with vmdk.open(raw) as again:
        assert read(again, 200_000, 1) == b"y"


def test_read_only(folder: Folder) -> None:
    """A disk that was not opened for writing refuses changes, and its files stay as they are."""
    before = {path: path.read_bytes() for path in folder.path.iterdir()}
    with vmdk.open(folder.open("disk.vmdk"), folder) as disk:
        with pytest.raises(DeviceError, match="read-only"):
            disk.write(0, b"x")
        with pytest.raises(DeviceError, match="read-only"):
            disk.discard(0, 1)
    assert {path: path.read_bytes() for path in folder.path.iterdir()} == before


def test_close_keeps_what_was_written(folder: Folder) -> None:
    """Without a flush, closing is enough."""
    with vmdk.open(folder.open("disk.vmdk", writable=True), folder, writable=True) as disk:
        disk.write(300_000, b"kept")
        assert disk.file_size_bytes >= 65536
    with vmdk.open(folder.open("disk.vmdk"), folder) as disk:
        assert read(disk, 300_000, 4) == b"kept"


def test_zeros_make_no_grain(raw: MemoryDevice) -> None:
    """Invariant 3 of `sparse`: zeros where there is nothing do not lengthen the file."""
    size_bytes = raw.size_bytes
    with vmdk.open(raw, writable=True) as disk:
        disk.write(0, bytes(MIB))
        assert raw.size_bytes == size_bytes
        disk.write(0, bytes(70_000) + b"x" + bytes(70_000))
        assert raw.size_bytes == size_bytes + 65536


def test_discard_gives_space_back(tmp_path: Path) -> None:
    """The host gets the space of discarded grains back."""
    folder = Folder(tmp_path)
    vmdk.create(folder, "disk.vmdk", 8 * MIB, fill=lambda disk: disk.write(0, b"x" * 8 * MIB))
    used = (tmp_path / "disk.vmdk").stat().st_blocks
    with vmdk.open(folder.open("disk.vmdk", writable=True), writable=True) as disk:
        disk.discard(0, 8 * MIB)
        assert read(disk, 0, 8 * MIB) == bytes(8 * MIB)
    assert (tmp_path / "disk.vmdk").stat().st_blocks < used / 4


@pytest.mark.parametrize(
    "line",
    [
        'RW 2048 FLAT "../outside.vmdk" 0',
        'RW 2048 FLAT "/etc/passwd" 0',
        'RW 2048 FLAT "..\\\\outside.vmdk" 0',
        'RW 2048 FLAT "" 0',
    ],
)
def test_extents_do_not_leave_the_folder(tmp_path: Path, line: str) -> None:
    """A descriptor cannot name a file elsewhere."""
    (tmp_path / "vm").mkdir()
    (tmp_path / "outside.vmdk").write_bytes(bytes(MIB))
    folder = Folder(tmp_path / "vm")
    folder.write_text("disk.vmdk", f'# Disk DescriptorFile\ncreateType="monolithicFlat"\n{line}\n')
    with pytest.raises(VmdkError, match="cannot be opened"):
        vmdk.open(folder.open("disk.vmdk"), folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('createType="monolithicFlat"', "names 0 extents"),
        ('createType="vmfsRDM"\nRW 1 VMFSRDM "a"', "stands for a physical disk.*; read that disk"),
        ('createType="custom"\nRW 1 HOLOGRAM "a"', "an extent of kind HOLOGRAM is unknown"),
        ('createType="custom"\nRW 1 SPARSE', "an extent of kind SPARSE is unknown"),
        ('createType="vmfs"\nRW 999999999999999999 VMFS "a"', "sectors is impossible"),
        ('createType="vmfs"\n' + 'RW 1 VMFS "a"\n' * 2000, "names 2000 extents"),
    ],
)
def test_descriptors_refused(tmp_path: Path, text: str, message: str) -> None:
    """What a descriptor cannot mean, or means for another kind of disk, is refused by name."""
    folder = Folder(tmp_path)
    folder.write_text("disk.vmdk", f"# Disk DescriptorFile\n{text}\n")
    with pytest.raises(VmdkError, match=message):
        vmdk.open(folder.open("disk.vmdk"), folder)


def test_vmfs_with_parts(tmp_path: Path) -> None:
    """Several flat extents, with offsets, lie one after the other; a read-only one stays so."""
    folder = Folder(tmp_path)
    folder.write_text(
        "disk.vmdk",
        '# Disk DescriptorFile\nversion=1\nCID=00000005\nparentCID=ffffffff\ncreateType="vmfs"\n'
        'RW 2 VMFS "a.bin" 1\nRDONLY 1 VMFS "b.bin"\n',
    )
    (tmp_path / "a.bin").write_bytes(b"-" * 512 + b"a" * 1024)
    (tmp_path / "b.bin").write_bytes(b"b" * 512)
    with vmdk.open(folder.open("disk.vmdk", writable=True), folder, writable=True) as disk:
        assert read(disk, 0, 1536) == b"a" * 1024 + b"b" * 512
        disk.write(1000, b"c" * 24)
        with pytest.raises(VmdkError, match="read-only"):
            disk.write(1020, b"cccccccc")
        assert disk.file_size_bytes == 1536 + 512 + folder.open("disk.vmdk").size_bytes
    assert (tmp_path / "a.bin").read_bytes() == b"-" * 512 + b"a" * 1000 + b"c" * 24


def test_version_3_is_read_only(raw: MemoryDevice) -> None:
    """A file with a change record is read, and not written."""
    raw.write(4, b"\3")
    with vmdk.open(raw) as disk:
        assert read(disk, 0, 10) == bytes(10)
    with pytest.raises(VmdkError, match="change record"):
        vmdk.open(raw, writable=True)


def test_extent_without_descriptor(raw: MemoryDevice) -> None:
    """A piece of a split disk is not a disk."""
    raw.write(28, bytes(16))
    with pytest.raises(VmdkError, match="one extent of a disk"):
        vmdk.open(raw)


def test_failed_open_closes_the_file(tmp_path: Path) -> None:
    """What could not be opened is not kept locked."""
    path = tmp_path / "no.vmdk"
    path.write_bytes(b"KDMV" + bytes(600))
    with pytest.raises(VmdkError):
        vmdk.open(RawDevice(path, writable=True), writable=True)
    RawDevice(path, writable=True).close()


def test_file_cannot_outgrow_its_entries(
    raw: MemoryDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a table entry cannot name the next grain, there is no space, and nothing is written."""
    monkeypatch.setattr("ipva_storage.vmdk.extent.sparse.ENTRY_MAX", raw.size_bytes // 512 + 127)
    with vmdk.open(raw, writable=True) as disk:
        disk.write(0, b"fits")
        size_bytes = raw.size_bytes
        with pytest.raises(NoSpaceError):
            disk.write(100_000, b"does not")
        assert raw.size_bytes == size_bytes
        assert read(disk, 100_000, 8) == bytes(8)


def test_header_fields_are_those_of_the_definition() -> None:
    """`SparseHeader` has the fields of the Construct definition, in order."""
    from ipva_formats.vmdk import SPARSE_HEADER

    names = [field.name for field in SPARSE_HEADER.subcons if field.name not in (None, "magic")]
    assert list(SparseHeader.__dataclass_fields__) == names


def test_constants_are_those_of_the_definition() -> None:
    """Constants kept twice to save an import are the same."""
    from ipva_formats import vmdk as formats
    from ipva_storage.vmdk import access
    from ipva_storage.vmdk.extent import header, sparse, tables

    assert header.SPARSE_MAGIC == formats.SPARSE_MAGIC
    assert sparse.UNCLEAN_SHUTDOWN_OFFSET_BYTES == formats.UNCLEAN_SHUTDOWN_OFFSET_BYTES
    assert (tables.ENTRY_UNALLOCATED, tables.ENTRY_ZEROED) == (
        formats.ENTRY_UNALLOCATED,
        formats.ENTRY_ZEROED,
    )
    assert set(access.OTHER_MAGICS) == {formats.COWD_MAGIC, formats.SESPARSE_MAGIC[:4]}


def test_opening_imports_no_numpy(tmp_path: Path) -> None:
    """Opening, reading and writing a disk is possible without NumPy."""
    vmdk.create(Folder(tmp_path), "disk.vmdk", MIB)
    code = (
        "import sys; from ipva_storage import vmdk; from ipva_storage.device import Folder;"
        f"d = vmdk.open(Folder({str(tmp_path)!r}).open('disk.vmdk', writable=True), writable=True);"
        "d.write(0, b'x'); d.read_into(0, bytearray(9)); d.close();"
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_is_vmdk(raw: MemoryDevice) -> None:
    """By content: a sparse extent of any kind or a descriptor, and nothing else."""
    assert vmdk.is_vmdk(raw)
    assert vmdk.is_vmdk(MemoryDevice(b"# Disk DescriptorFile\n"))
    assert vmdk.is_vmdk(MemoryDevice(b"COWD"))
    assert not vmdk.is_vmdk(MemoryDevice(b""))
    assert not vmdk.is_vmdk(MemoryDevice(bytes(4096)))
