"""Snapshots: children over their parents, found and recognised, and committed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ipva_storage import vmdk
from ipva_storage.device import BlockDevice, Folder, read
from ipva_storage.errors import UsageError, VmdkError

SIZE_BYTES = 3 * 1024 * 1024 + 512


def scribble(disk: BlockDevice, seed: int) -> None:
    """Noise, zeros and discards here and there."""
    rng = random.Random(seed)
    for _ in range(25):
        length = rng.choice([10, 4096, 70_000])
        at = rng.randrange(disk.size_bytes - length)
        way = rng.randrange(4)
        if way == 0:
            disk.discard(at, length)
        else:
            disk.write(at, bytes(length) if way == 1 else rng.randbytes(length))


def change(folder: Folder, name: str, seed: int) -> None:
    """Write to a disk in a session."""
    with vmdk.open(folder.open(name, writable=True), folder, writable=True) as disk:
        scribble(disk, seed)


def content(folder: Folder, name: str) -> bytes:
    """What a disk reads as; its runs of holes are zeros."""
    with vmdk.open(folder.open(name), folder) as disk:
        data = read(disk, 0, disk.size_bytes)
        at = 0
        for run in disk.extents():
            assert run.offset_bytes == at
            at += run.length_bytes
            assert run.is_data or not any(data[run.offset_bytes : at])
        assert at == disk.size_bytes
    return data


def codes(folder: Folder, name: str) -> list[str]:
    """What is found wrong, without information."""
    with folder.open(name) as raw:
        return [one.code for one in vmdk.check(raw, folder) if one.severity != "info"]


@pytest.fixture(params=["monolithicSparse", "vmfs"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Folder:
    """A disk `base.vmdk` and a changed child `child.vmdk`."""
    found = Folder(tmp_path)
    vmdk.create(found, "base.vmdk", SIZE_BYTES, subformat=request.param)
    change(found, "base.vmdk", 1)
    vmdk.snapshot(found, "base.vmdk", "child.vmdk")
    return found


def test_a_new_child_reads_as_its_parent(folder: Folder) -> None:
    """It takes little room, holds nothing, and has no finding."""
    assert content(folder, "child.vmdk") == content(folder, "base.vmdk")
    assert (folder.path / "child.vmdk").stat().st_size <= 65536
    assert codes(folder, "child.vmdk") == []


def test_changes_of_a_child_leave_the_parent_alone(folder: Folder) -> None:
    """The child reads as an array would that was copied and written to; the parent stays."""
    before = content(folder, "base.vmdk")
    model = bytearray(before)
    rng = random.Random(5)
    with vmdk.open(folder.open("child.vmdk", writable=True), folder, writable=True) as disk:
        for _ in range(60):
            length = rng.choice([1, 600, 5000, 70_000, 200_000])
            at = rng.randrange(SIZE_BYTES - length)
            data = rng.choice([rng.randbytes(length), bytes(length)])
            if rng.random() < 0.2:
                disk.discard(at, length)
                data = bytes(length)
            else:
                disk.write(at, data)
            model[at : at + length] = data
            assert read(disk, 0, SIZE_BYTES) == model
    assert content(folder, "child.vmdk") == model
    assert content(folder, "base.vmdk") == before
    assert codes(folder, "child.vmdk") == []


def test_a_chain_of_three(folder: Folder) -> None:
    """A child of a child shows what is below both."""
    change(folder, "child.vmdk", 2)
    vmdk.snapshot(folder, "child.vmdk", "grandchild.vmdk")
    middle = content(folder, "child.vmdk")
    change(folder, "grandchild.vmdk", 3)
    top = content(folder, "grandchild.vmdk")
    assert content(folder, "child.vmdk") == middle != top
    done = vmdk.commit(folder, "grandchild.vmdk", remove=True)
    assert done.parent.endswith("/child.vmdk")
    assert content(folder, "child.vmdk") == top
    assert "grandchild.vmdk" not in folder.names()
    assert codes(folder, "child.vmdk") == []


def test_commit_gives_the_parent_everything(folder: Folder) -> None:
    """Afterwards both read as the child did, the child holds nothing, and goes on."""
    change(folder, "child.vmdk", 2)
    expected = content(folder, "child.vmdk")
    planned = vmdk.commit(folder, "child.vmdk", dry_run=True)
    assert content(folder, "base.vmdk") != expected
    assert vmdk.commit(folder, "child.vmdk") == planned
    assert content(folder, "base.vmdk") == content(folder, "child.vmdk") == expected
    assert (folder.path / "child.vmdk").stat().st_size <= 65536
    assert vmdk.commit(folder, "child.vmdk").written_bytes == 0
    change(folder, "child.vmdk", 3)
    assert content(folder, "base.vmdk") == expected
    assert codes(folder, "child.vmdk") == codes(folder, "base.vmdk") == []


def test_a_changed_parent_is_refused_and_explained(folder: Folder) -> None:
    """VMDK032: the parent was written to after the snapshot; it can be accepted on request."""
    change(folder, "base.vmdk", 9)
    assert codes(folder, "child.vmdk") == ["VMDK032"]
    with pytest.raises(VmdkError, match=r"was changed after the snapshot.*mixture") as caught:
        content(folder, "child.vmdk")
    assert "--accept-parent" in str(caught.value.remedy)
    assert [one.code for one in vmdk.repair(folder, "child.vmdk").left] == ["VMDK032"]
    repaired = vmdk.repair(folder, "child.vmdk", accept_parent=True)
    assert [one.code for one in repaired.fixed] == ["VMDK032"]
    assert codes(folder, "child.vmdk") == []
    assert len(content(folder, "child.vmdk")) == SIZE_BYTES


def test_a_missing_parent_is_named(folder: Folder) -> None:
    """VMDK031: without its parent a child does not open."""
    (folder.path / "base.vmdk").rename(folder.path / "elsewhere.vmdk")
    assert codes(folder, "child.vmdk") == ["VMDK031"]
    with pytest.raises(VmdkError, match=r"its parent “base.vmdk” is not there"):
        content(folder, "child.vmdk")


def test_a_ring_of_parents_ends(tmp_path: Path) -> None:
    """VMDK031: a disk that is among its own parents is refused, and checked in no time."""
    folder = Folder(tmp_path)
    for one, other in (("a.vmdk", "b.vmdk"), ("b.vmdk", "a.vmdk")):
        vmdk.create(folder, one, SIZE_BYTES)
        text = (tmp_path / one).read_bytes().replace(b"CID=", b"CID=12345678\n#", 1)
        text = text.replace(b"parentCID=ffffffff", b"parentCID=12345678", 1)
        hint = f'\nparentFileNameHint="{other}"\n'.encode()
        (tmp_path / one).write_bytes(text.replace(b'\nddb.virtualHWVersion = "4"\n', hint, 1))
    assert "VMDK031" in codes(folder, "a.vmdk")
    with pytest.raises(VmdkError, match="among its own children"):
        content(folder, "a.vmdk")


@pytest.mark.parametrize("folder", ["vmfs"], indirect=True)
def test_a_parent_of_another_size(folder: Folder) -> None:
    """VMDK033: what lies behind a shorter parent is zeros, and a longer child is not committed."""
    text = folder.read_text("base.vmdk").replace(f"RW {SIZE_BYTES // 512} ", "RW 2048 ")
    folder.write_text("base.vmdk", text, force=True)
    assert codes(folder, "child.vmdk") == ["VMDK033"]
    data = content(folder, "child.vmdk")
    assert data[1 << 20 :] == bytes(SIZE_BYTES - (1 << 20))
    assert data[: 1 << 20] == content(folder, "base.vmdk")
    with pytest.raises(VmdkError, match=r"its parent “base.vmdk” only"):
        vmdk.commit(folder, "child.vmdk")


def test_other_children_are_not_betrayed(folder: Folder) -> None:
    """A commit or resize that would make another child useless is refused, unless forced."""
    vmdk.snapshot(folder, "base.vmdk", "other.vmdk")
    change(folder, "child.vmdk", 2)
    before = content(folder, "other.vmdk")
    with pytest.raises(VmdkError, match=r"“other.vmdk” was taken over the same disk"):
        vmdk.commit(folder, "child.vmdk")
    with pytest.raises(VmdkError, match="was taken over it as a snapshot"):
        vmdk.resize(folder, "base.vmdk", 2 * SIZE_BYTES)
    assert content(folder, "other.vmdk") == before
    vmdk.commit(folder, "child.vmdk", force=True)
    assert codes(folder, "other.vmdk") == ["VMDK032"]


def test_a_child_keeps_its_size(folder: Folder) -> None:
    """A child is resized with the disk below it, after a commit."""
    with pytest.raises(VmdkError, match="only what changed since a snapshot"):
        vmdk.resize(folder, "child.vmdk", 2 * SIZE_BYTES)


def test_a_disk_that_others_need_is_not_removed(folder: Folder) -> None:
    """Committing a child away is refused while a child of its own is there."""
    vmdk.snapshot(folder, "child.vmdk", "grandchild.vmdk")
    with pytest.raises(VmdkError, match=r"“grandchild.vmdk” was taken over it"):
        vmdk.commit(folder, "child.vmdk", remove=True)
    assert "child.vmdk" in folder.names()


def test_no_child_no_commit(folder: Folder) -> None:
    """A disk without a parent is not committed, and no disk is its own child."""
    with pytest.raises(VmdkError, match="no snapshot's child"):
        vmdk.commit(folder, "base.vmdk")
    with pytest.raises(UsageError, match="a name of its own"):
        vmdk.snapshot(folder, "base.vmdk", "base.vmdk")


def test_a_hint_from_elsewhere_finds_the_file_beside(folder: Folder) -> None:
    """A hint with a path of the host that the snapshot was taken on finds the parent here."""
    path = folder.path / "child.vmdk"
    data = path.read_bytes()
    old = b'parentFileNameHint="base.vmdk"'
    new = b'parentFileNameHint="/vmfs/volumes/1/vm/base.vmdk"'
    at = data.index(old)
    end = data.index(b"\0", at)
    text = data[at:end].replace(old, new)
    path.write_bytes(data[:at] + text + data[at + len(text) :])
    assert content(folder, "child.vmdk") == content(folder, "base.vmdk")
    (folder.path / "base.vmdk").rename(folder.path / "moved.vmdk")
    with pytest.raises(VmdkError, match=r"in another folder.*--allow-outside"):
        content(folder, "child.vmdk")


def test_a_parent_in_another_folder(tmp_path: Path) -> None:
    """A parent elsewhere is followed with `allow_outside`, and so are its own extents."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "vm").mkdir()
    away = Folder(tmp_path / "templates")
    vmdk.create(away, "base.vmdk", SIZE_BYTES, subformat="monolithicFlat")
    change(away, "base.vmdk", 1)
    vmdk.snapshot(away, "base.vmdk", "child.vmdk")
    path = tmp_path / "vm" / "child.vmdk"
    data = (tmp_path / "templates" / "child.vmdk").read_bytes()
    at = data.index(b"parentFileNameHint")
    end = data.index(b"\0", at)
    text = data[at:end].replace(b'"base.vmdk"', b'"..\\templates\\base.vmdk"')
    path.write_bytes(data[:at] + text + data[at + len(text) :])
    with pytest.raises(VmdkError, match="in another folder"):
        content(Folder(tmp_path / "vm"), "child.vmdk")
    outside = Folder(tmp_path / "vm", allow_outside=True)
    assert content(outside, "child.vmdk") == content(away, "base.vmdk")


def test_a_missing_delta_offers_the_parent(tmp_path: Path) -> None:
    """VMDK015: a child whose changes are gone says so, and names the disk that is left."""
    folder = Folder(tmp_path)
    vmdk.create(folder, "base.vmdk", SIZE_BYTES)
    folder.write_text(
        "vm-000001.vmdk",
        "# Disk DescriptorFile\nversion=1\nCID=00000005\nparentCID=12345678\n"
        f'createType="vmfsSparse"\nparentFileNameHint="base.vmdk"\n'
        f'RW {SIZE_BYTES // 512} VMFSSPARSE "vm-000001-delta.vmdk"\n',
    )
    with pytest.raises(VmdkError, match="cannot be opened") as caught:
        content(folder, "vm-000001.vmdk")
    assert "“base.vmdk”" in str(caught.value.remedy)
    with folder.open("vm-000001.vmdk") as raw:
        (missing,) = (one for one in vmdk.check(raw, folder) if one.code == "VMDK015")
    assert "“base.vmdk”" in str(missing.repair)
