"""Mending descriptors that are files of their own, whole or not at all; what a stream has lost."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from ipva_storage import vmdk
from ipva_storage.device import BlockDevice, Folder, MemoryDevice, read
from ipva_storage.errors import VmdkError
from ipva_storage.units import GIB, MIB
from ipva_storage.vmdk.extent.header import read_header
from ipva_storage.vmdk.extent.markers import Kind, Record, walk

DATA = b"data" * 1000


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder with a flat disk."""
    folder = Folder(tmp_path)
    vmdk.create(
        folder, "disk.vmdk", MIB, subformat="monolithicFlat", fill=lambda disk: disk.write(0, DATA)
    )
    return folder


def mended(folder: Folder) -> bytes:
    """The descriptor after a repair, which leaves nothing and keeps the data."""
    done = vmdk.repair(folder, "disk.vmdk")
    assert done.is_changed
    assert done.fixed
    assert (done.left, done.lost) == ((), ())
    with vmdk.open(folder.open("disk.vmdk"), folder) as disk:
        assert read(disk, 0, len(DATA)) == DATA
    return (folder.path / "disk.vmdk").read_bytes()


def test_a_descriptor_that_gets_longer(folder: Folder) -> None:
    """One without a CID gets one, before its parent's, which qemu would take for it."""
    path = folder.path / "disk.vmdk"
    path.write_bytes(path.read_bytes().replace(b"\nCID=", b"\nXXX="))
    found = mended(folder)
    assert 0 < found.index(b"\nCID=") < found.index(b"\nparentCID=")


def test_a_descriptor_that_gets_shorter(folder: Folder) -> None:
    """Nothing of a long damaged one stays behind the new one."""
    path = folder.path / "disk.vmdk"
    whole = len(path.read_bytes())
    path.write_bytes(b"# Disk DescriptorFile\n" + b"garbage" * 300)
    assert len(mended(folder)) <= whole


def test_a_new_descriptor_comes_in_one_piece(folder: Folder) -> None:
    """It replaces the damaged one, so that at no moment there is half of one."""
    path = folder.path / "disk.vmdk"
    path.write_bytes(path.read_bytes().replace(b"createType", b"createTypo"))
    number = path.stat().st_ino
    assert b'\ncreateType="monolithicFlat"\n' in mended(folder)
    assert path.stat().st_ino != number


def stream(folder: Folder) -> tuple[Path, list[Record]]:
    """A stream-optimized disk of three grains that are apart, and those grains."""

    def fill(disk: BlockDevice) -> None:
        for grain in (0, 3, 700):
            disk.write(grain * 65_536, random.Random(grain).randbytes(3000))

    vmdk.create(folder, "stream.vmdk", 64 * MIB, subformat="streamOptimized", fill=fill)
    with folder.open("stream.vmdk") as raw:
        found = [each for each in walk(raw, read_header(raw)) if each.kind is Kind.GRAIN]
    return folder.path / "stream.vmdk", found


def test_a_grain_that_zeros_were_written_over_is_told(folder: Folder) -> None:
    """It is lost, and stays an error; it was made a hole, and nothing was said."""
    path, grains = stream(folder)
    content = bytearray(path.read_bytes())
    at = grains[1].sector * 512
    content[at : at + grains[1].sector_count * 512] = bytes(grains[1].sector_count * 512)
    path.write_bytes(content)
    done = vmdk.repair(folder, "stream.vmdk")
    assert [(one.offset_bytes, one.length_bytes) for one in done.lost] == [(3 * 65_536, 65_536)]
    assert [one.code for one in done.left] == ["VMDK027"]
    with (
        vmdk.open(folder.open("stream.vmdk"), folder) as disk,
        pytest.raises(VmdkError),
    ):
        read(disk, 3 * 65_536, 512)


def test_lost_ranges_are_apart(folder: Folder) -> None:
    """Of a stream that was cut each byte is lost once."""
    path, grains = stream(folder)
    path.write_bytes(path.read_bytes()[: grains[1].sector * 512 + 700])
    lost = vmdk.repair(folder, "stream.vmdk").lost
    assert lost
    for one, next_one in pairwise(lost):
        assert one.offset_bytes + one.length_bytes <= next_one.offset_bytes
    assert sum(one.length_bytes for one in lost) == 64 * MIB - 65_536


def test_noise_in_a_table_goes_at_once(folder: Folder) -> None:
    """Damage in another place than where a grain may have been is no reason to let it stay.

    The first repair left it, and a second one mended it.
    """
    path, grains = stream(folder)
    content = bytearray(path.read_bytes())
    with folder.open("stream.vmdk") as raw:
        table = next(each for each in walk(raw, read_header(raw)) if each.kind is Kind.TABLE)
    at = (table.sector + 1) * 512
    content[at + 40 : at + 44] = (2**30).to_bytes(4, "little")
    content[-1024:-512] = bytes(512)
    path.write_bytes(content)
    done = vmdk.repair(folder, "stream.vmdk")
    assert (done.left, done.lost) == ((), ())
    assert not vmdk.repair(folder, "stream.vmdk").is_changed
    assert len(grains) == 3


def test_a_grain_that_only_the_redundant_table_has_comes_back_at_once(folder: Folder) -> None:
    """Also after an unclean shutdown; the first repair left it, and a second one took it."""
    vmdk.create(folder, "sparse.vmdk", MIB, fill=lambda disk: disk.write(0, DATA))
    path = folder.path / "sparse.vmdk"
    content = bytearray(path.read_bytes())
    header = read_header(MemoryDevice(content))
    table = (header.gd_offset_sectors + header.directory_sectors) * 512
    content[table : table + 4] = bytes(4)
    content[72] = 1
    path.write_bytes(content)
    done = vmdk.repair(folder, "sparse.vmdk")
    assert (done.left, done.lost) == ((), ())
    with vmdk.open(folder.open("sparse.vmdk"), folder) as disk:
        assert read(disk, 0, len(DATA)) == DATA


def test_a_descriptor_without_its_signature_is_made_anew(folder: Folder) -> None:
    """Though its extent line is whole; it was completed, and was still no descriptor."""
    path = folder.path / "disk.vmdk"
    path.write_bytes(b"x" * 30 + path.read_bytes()[30:])
    assert mended(folder).startswith(b"# Disk DescriptorFile")


@pytest.mark.parametrize("missing", [1, 2])
def test_a_part_and_the_descriptor_are_missing(tmp_path: Path, missing: int) -> None:
    """No shorter disk is made of the parts that are left; the one that is missing is named."""
    folder = Folder(tmp_path)
    vmdk.create(folder, "disk.vmdk", 5 * GIB, subformat="twoGbMaxExtentSparse")
    for name in ("disk.vmdk", f"disk-s00{missing}.vmdk"):
        (tmp_path / name).unlink()
    with pytest.raises(VmdkError, match=f"“disk-s00{missing}.vmdk” is missing"):
        vmdk.repair(folder, "disk.vmdk")
    found = vmdk.lost_descriptor(folder, "disk.vmdk")
    assert found is not None
    assert (found.code, f"disk-s00{missing}.vmdk" in found.message) == ("VMDK015", True)
    assert not (tmp_path / "disk.vmdk").exists()


def test_what_a_new_descriptor_assumes(folder: Folder) -> None:
    """The kind and the adapter of a flat disk are told, unless the old text had them."""
    path = folder.path / "disk.vmdk"
    path.write_bytes(b'garbage\nddb.adapterType = "lsilogic"\n')
    assert vmdk.repair(folder, "disk.vmdk").notes == (
        "the descriptor was made from 1 file, 1.0 MiB; its kind (monolithicFlat) is assumed",
    )
