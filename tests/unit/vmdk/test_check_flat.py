"""Findings of a disk whose descriptor is a file of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, read
from ipva_storage.errors import VmdkError
from ipva_storage.units import GIB

if TYPE_CHECKING:
    from ipva_storage.findings import Finding


def test_flat(tmp_path: Path) -> None:
    """VMDK015, VMDK016: an extent that is missing, or cut, is found; and the disk does not open."""
    folder = Folder(tmp_path)
    vmdk.create(folder, "disk.vmdk", 8192, subformat="monolithicFlat")

    def found() -> list[str]:
        with folder.open("disk.vmdk") as raw:
            return [finding.code for finding in vmdk.check(raw, folder)]

    assert found() == []
    (tmp_path / "disk-flat.vmdk").write_bytes(bytes(8191))
    assert found() == ["VMDK016"]
    with pytest.raises(VmdkError, match="8191 bytes, its descriptor says 8192"):
        vmdk.open(folder.open("disk.vmdk"), folder)
    (tmp_path / "disk-flat.vmdk").unlink()
    assert found() == ["VMDK015"]
    with pytest.raises(VmdkError, match=r"extent “disk-flat.vmdk” cannot be opened .*no such file"):
        vmdk.open(folder.open("disk.vmdk"), folder)
    with folder.open("disk.vmdk") as raw:
        assert [finding.code for finding in vmdk.check(raw)] == ["VMDK015"]


HEAD = "# Disk DescriptorFile\nversion=1\nCID=00000005\nparentCID=ffffffff\n"


def flat(folder: Folder, *lines: str) -> list[Finding]:
    """What is found in a flat disk of these extent lines."""
    text = HEAD + 'createType="monolithicFlat"\n' + "\n".join(lines) + "\n"
    folder.write_text("disk.vmdk", text, force=True)
    with folder.open("disk.vmdk") as raw:
        return list(vmdk.check(raw, folder))


@pytest.mark.parametrize(
    "lines",
    [
        ['RW 4 FLAT "a.bin" 0'] * 2,
        ['RW 4 FLAT "a.bin" 0'] * 1024,
        ['RW 4 FLAT "a.bin" 3', 'RW 1 FLAT "b.bin" 0', 'RDONLY 4 FLAT "a.bin" 0'],
        ['RW 6 FLAT "a.bin" 0', 'RW 1 FLAT "a.bin" 1', 'RW 1 FLAT "a.bin" 5'],
        ['RW 1 FLAT "disk.vmdk" 0'],
    ],
)
def test_extents_share_bytes(tmp_path: Path, lines: list[str]) -> None:
    """VMDK021: one part of a file twice in a disk is read, and not written, with the cause."""
    folder = Folder(tmp_path)
    for name, length in (("a.bin", 16), ("b.bin", 2)):
        (tmp_path / name).write_bytes(bytes(range(256)) * length)
    found = flat(folder, *lines)
    assert [one.code for one in found if one.code != "VMDK016"] == ["VMDK021"]
    assert "ipva disk repair" not in str(found)
    if "disk.vmdk" in lines[0]:
        (tmp_path / "disk.vmdk").write_bytes((tmp_path / "disk.vmdk").read_bytes().ljust(512))
    else:
        assert len(found) == 1
    with vmdk.open(folder.open("disk.vmdk"), folder) as disk:
        assert any(read(disk, 0, 512))
    with pytest.raises(VmdkError, match="would change another") as caught:
        vmdk.open(folder.open("disk.vmdk", writable=True), folder, writable=True)
    assert caught.value.remedy
    folder.open("disk.vmdk", writable=True).close()


def test_parts_of_one_file(tmp_path: Path) -> None:
    """Extents in one file that lie apart are no fault, and are written."""
    folder = Folder(tmp_path)
    (tmp_path / "a.bin").write_bytes(bytes(2048))
    assert flat(folder, 'RW 2 FLAT "a.bin" 2', 'RW 2 FLAT "a.bin" 0') == []
    with vmdk.open(folder.open("disk.vmdk", writable=True), folder, writable=True) as disk:
        disk.write(0, b"1" * 1024 + b"2" * 1024)
        disk.flush()
    assert (tmp_path / "a.bin").read_bytes() == b"2" * 1024 + b"1" * 1024


def test_extent_without_sectors(tmp_path: Path) -> None:
    """VMDK022, VMDK023: an empty extent is named, and a disk of nothing is worse."""
    folder = Folder(tmp_path)
    (tmp_path / "a.bin").write_bytes(bytes(512))
    (finding,) = flat(folder, 'RW 0 FLAT "a.bin" 0', 'RW 1 FLAT "a.bin" 0')
    assert finding.code == "VMDK022"
    (finding,) = flat(folder, 'RW 0 FLAT "a.bin" 0', 'RW 0 FLAT "a.bin" 0')
    assert finding.code == "VMDK023"


def test_disk_too_large(tmp_path: Path) -> None:
    """VMDK003: the limit holds for the disk, not for each extent."""
    folder = Folder(tmp_path)
    part_sectors = 4 << 31
    lines = [f'RW {part_sectors} FLAT "a.bin" {part_sectors * at}' for at in range(17)]
    with (tmp_path / "a.bin").open("wb") as file:
        file.truncate(1)
    (finding,) = flat(folder, *(f'RW {part_sectors} FLAT "a.bin" 0',) * 17)
    assert finding.code == "VMDK003"
    assert finding.message == f"a disk of {17 * part_sectors} sectors is impossible"
    with pytest.raises(VmdkError, match="is impossible"):
        vmdk.open(folder.open("disk.vmdk"), folder)
    assert [one.code for one in flat(folder, *lines[:16])] == ["VMDK016"]


OWNED = "\x1b]0;owned\x07" + "x" * 5000


@pytest.mark.parametrize(
    "text",
    [
        f'createType="vmfs"\nparentCID=12345678\nparentFileNameHint="{OWNED}"\nRW 1 VMFS "a"',
        f'createType="{OWNED}"\nRW 1 VMFS "a"',
        f'createType="vmfs"\nRW 1 VMFS "{OWNED}"',
        f'createType="vmfs"\nRW 1 {"X" * 5000} "a"',
        f'createType="vmfs"\nRW 1 VMFS "{OWNED[:20]}"',
        'createType="vmfs"\n' + f'RW 1 VMFS "{OWNED[:20]}"\n' * 2,
    ],
)
def test_texts_of_the_image_in_messages(tmp_path: Path, text: str) -> None:
    """Messages repeat what an image says in short, and never as a terminal would obey it."""
    folder = Folder(tmp_path)
    folder.write_text("disk.vmdk", f"# Disk DescriptorFile\nCID=5\n{text}\n")
    told: list[str] = []
    for writable in (False, True):
        with pytest.raises(VmdkError) as caught:
            vmdk.open(folder.open("disk.vmdk", writable=writable), folder, writable=writable)
        told.append(caught.value.message)
    with folder.open("disk.vmdk") as raw:
        try:
            told.extend(finding.message for finding in vmdk.check(raw, folder))
        except VmdkError as error:
            told.append(error.message)
    assert len(told) > 2
    assert all(message.isprintable() and len(message) < 300 for message in told), told


def test_name_of_a_short_extent(tmp_path: Path) -> None:
    """The name of a file that is there, but too short, is escaped as well."""
    folder = Folder(tmp_path)
    (tmp_path / "\x1b[2J.bin").write_bytes(b"")
    (finding,) = flat(folder, 'RW 1 FLAT "\x1b[2J.bin" 0')
    assert finding.code == "VMDK016"
    assert f"{finding.where}{finding.message}".isprintable()


def edited(folder: Folder, subformat: str, old: str, new: str) -> list[Finding]:
    """What is found after a change of the descriptor of a disk in parts of 2 GiB."""
    vmdk.create(folder, "disk.vmdk", 5 * GIB, subformat=subformat)
    path = folder.path / "disk.vmdk"
    text = path.read_text()
    path.write_text(re.sub(old, new, text))
    assert path.read_text() != text
    with folder.open("disk.vmdk") as raw:
        return list(vmdk.check(raw, folder))


@pytest.mark.parametrize(
    ("subformat", "old", "new", "told"),
    [
        ("Sparse", r"RW.*s002.*\n", "", "“disk-s002.vmdk” is there, and no extent line names it"),
        ("Sparse", r"(RW.*s001.*\n)(RW.*s002.*\n)", r"\2\1", "“disk-s001.vmdk” follows “disk-s002"),
        ("Sparse", "version=1", "version=9", "version 9 is unknown"),
        ("Flat", "twoGbMaxExtentFlat", "monolithicSparse", "it has extents of kind FLAT"),
        ("Sparse", "twoGbMaxExtentSparse", "vmfs", "it has extents of kind SPARSE"),
        ("Flat", "parentCID=f{8}", "parentCID=12345678", "its extents are those of no child"),
        ("Flat", r"RW [0-9]+ (.*f003)", r"RW 1000 \1", "bytes, and its extent line 512000"),
    ],
)
def test_slips_in_a_descriptor(
    tmp_path: Path, subformat: str, old: str, new: str, told: str
) -> None:
    """VMDK036: what an editor changed by mistake is told, with what to look at."""
    found = edited(Folder(tmp_path), f"twoGbMaxExtent{subformat}", old, new)
    (slip,) = (one for one in found if one.code == "VMDK036")
    assert told in slip.message
    assert slip.severity == "warning"
    assert slip.repair is not None
    assert "ipva disk repair" not in slip.repair


def test_what_is_no_slip(tmp_path: Path) -> None:
    """A file that another disk may use the rest of, and kinds of disks nobody knows."""
    folder = Folder(tmp_path)
    (tmp_path / "a.bin").write_bytes(bytes(4096))
    assert flat(folder, 'RW 2 FLAT "a.bin" 1') == []
    assert flat(folder, 'RW 7 FLAT "a.bin" 0', "RW 3 ZERO")[0].code == "VMDK036"
    assert flat(folder, 'RW 1 FLAT "a.bin" 0', 'RW 1 FLAT "a.bin" 1') == []


def test_a_missing_or_short_extent_is_not_for_a_repair(tmp_path: Path) -> None:
    """VMDK015, VMDK016: the advice names the file, and the way to what is left."""
    folder = Folder(tmp_path)
    vmdk.create(folder, "disk.vmdk", 8192, subformat="monolithicFlat")
    part = tmp_path / "disk-flat.vmdk"
    for change in (lambda: part.write_bytes(b""), part.unlink):
        change()
        (left,) = vmdk.repair(folder, "disk.vmdk").left
        assert left.repair is not None
        assert "ipva disk convert DISK saved.vmdk -O monolithicSparse --salvage" in left.repair
        assert "ipva disk repair" not in left.repair
