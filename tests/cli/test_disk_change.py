"""`ipva disk resize, compact, snapshot`: changing images in place."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipva_storage import vmdk
from ipva_storage.device import BlockDevice, Folder, RawDevice, read
from ipva_storage.units import GIB, KIB, MIB
from ipva_storage.vmdk.extent import capacity

Ipva = Callable[..., Any]

SIZE_BYTES = 8 * MIB
DATA = random.Random(4).randbytes(300 * KIB)
KINDS = ("raw", *vmdk.SUBFORMATS)


def make(folder: Path, kind: str, name: str = "disk", size_bytes: int = SIZE_BYTES) -> Path:
    """A disk with data at its start and in its middle."""

    def fill(disk: BlockDevice) -> None:
        disk.write(0, DATA)
        disk.write(4 * MIB, DATA)

    if kind == "raw":
        path = folder / f"{name}.img"
        with RawDevice.create(path, size_bytes) as raw:
            fill(raw)
        return path
    vmdk.create(Folder(folder), f"{name}.vmdk", size_bytes, subformat=kind, fill=fill)
    return folder / f"{name}.vmdk"


def bytes_of(path: Path) -> bytes:
    """What a disk reads as."""
    if path.suffix == ".img":
        return path.read_bytes()
    folder = Folder(path.parent)
    with vmdk.open(folder.open(path.name), folder) as disk:
        return read(disk, 0, disk.size_bytes)


def change(path: Path, offset_bytes: int, data: bytes) -> None:
    """Write to a VMDK."""
    folder = Folder(path.parent)
    with vmdk.open(folder.open(path.name, writable=True), folder, writable=True) as disk:
        disk.write(offset_bytes, data)


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of a folder, with its time."""
    return {
        each.name: (each.read_bytes(), each.stat().st_mtime_ns)
        for each in folder.iterdir()
        if each.is_file()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_resize_grows_and_shrinks_every_kind(ipva: Ipva, tmp_path: Path, kind: str) -> None:
    """Content stays, new space is zeros, and an empty end goes; the disk checks clean."""
    disk = make(tmp_path, kind)
    before = bytes_of(disk)
    for size, size_bytes in (("12M", 12 * MIB), ("+1M", 13 * MIB), ("-7M", 6 * MIB)):
        result = ipva("disk", "resize", disk, size, "--json")
        assert result.status == 0, result.err
        assert result.document["after"] == size_bytes
        assert result.document["lost"] == 0
        now = bytes_of(disk)
        assert len(now) == size_bytes
        kept = min(len(now), len(before))
        assert now[:kept] == before[:kept]
        assert not any(now[kept:])
        assert ipva("disk", "check", disk).status == 0


def test_resize_across_the_pieces_of_a_split_disk(ipva: Ipva, tmp_path: Path) -> None:
    """Pieces come and go."""
    disk = make(tmp_path, "twoGbMaxExtentSparse")
    assert ipva("disk", "resize", disk, "5G").status == 0
    assert len(ipva("disk", "info", disk, "--json").document["files"]) == 4
    assert ipva("disk", "resize", disk, "2T").status == 2  # more pieces than a disk can have
    assert ipva("disk", "resize", disk, "8M").status == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["disk-s001.vmdk", "disk.vmdk"]


@pytest.mark.parametrize("kind", KINDS)
def test_shrinking_over_data_is_refused(ipva: Ipva, tmp_path: Path, kind: str) -> None:
    """Nothing is changed; --dry-run says how much would be lost, and --allow-loss does it."""
    disk = make(tmp_path, kind)
    before = state(tmp_path)
    lost_bytes = 4 * MIB
    refused = ipva("disk", "resize", disk, "4M")
    assert refused.status == 2
    assert "--allow-loss" in refused.err
    tried = ipva("disk", "resize", disk, "4M", "--dry-run", "--json")
    assert tried.status == 1
    assert tried.document == {
        "file": str(disk),
        "before": SIZE_BYTES,
        "after": 4 * MIB,
        "lost": lost_bytes,
        "cut": [],
        "kept": [],
        "dry_run": True,
    }
    assert "would be cut off" in ipva("disk", "resize", disk, "4M", "--dry-run").out
    assert ipva("disk", "resize", disk, "4M", "--dry-run", "--allow-loss").status == 0
    assert state(tmp_path) == before
    content = bytes_of(disk)
    done = ipva("disk", "resize", disk, "4M", "--allow-loss")
    assert done.status == 0
    assert "are cut off" in done.out
    assert bytes_of(disk) == content[: 4 * MIB]


@pytest.mark.parametrize("kind", ["raw", "monolithicSparse", "monolithicFlat"])
def test_a_dry_run_changes_nothing(ipva: Ipva, tmp_path: Path, kind: str) -> None:
    """Neither bytes nor times, and it says what the job itself says then."""
    disk = make(tmp_path, kind)
    change_zeros(disk)
    before = state(tmp_path)
    for words in (["resize", disk, "+3M"], ["compact", disk]):
        tried = ipva("disk", *words, "--dry-run", "--json")
        assert tried.status == 0
        assert state(tmp_path) == before
        done = ipva("disk", *words, "--json")
        assert done.document == tried.document | {"dry_run": False}
        assert state(tmp_path) != before
        before = state(tmp_path)


def change_zeros(disk: Path) -> None:
    """Write zeros over the data in the middle of a disk."""
    if disk.suffix == ".vmdk":
        change(disk, 4 * MIB, bytes(len(DATA)))
        return
    with disk.open("r+b") as file:
        file.seek(4 * MIB)
        file.write(bytes(len(DATA)))


def test_an_empty_volume_is_not_cut(ipva: Ipva, vm: Path) -> None:
    """Zeros within a volume, a flash directory or a dump log belong to it: they are not free."""
    before = state(vm)
    for role, what in (("cf", "volume (FAT16)"), ("boot", "volume (FAT16)"), ("dump", "log of")):
        refused = ipva("disk", "resize", f"{vm}#{role}", "-8M")
        assert refused.status == 2, role
        assert what in refused.err
        assert "would be damaged" in refused.err
        tried = ipva("disk", "resize", f"{vm}#{role}", "-8M", "--dry-run", "--json")
        assert tried.status == 1
        assert len(tried.document["cut"]) == 1
    refused = ipva("disk", "resize", f"{vm}#flash", "60M")
    assert refused.status == 2
    assert "flash directory" in refused.err
    assert state(vm) == before
    assert ipva("disk", "resize", f"{vm}#flash", "-30M").status == 0  # behind the flash
    assert ipva("disk", "resize", f"{vm}#cf", "-8M", "--allow-loss").status == 0
    assert ipva("fs", "check", f"{vm}#cf").status == 1


def test_partitions_are_not_cut(ipva: Ipva, tmp_path: Path) -> None:
    """The end of the last partition is the end that counts."""
    disk = make(tmp_path, "raw")
    entry = bytes([0, 0, 0, 0, 0x83, 0, 0, 0]) + (2048).to_bytes(4, "little")
    entry += (5 * MIB // 512).to_bytes(4, "little")
    with disk.open("r+b") as file:
        file.write(bytes(len(DATA)))
        file.seek(446)
        file.write(entry + bytes(48) + b"\x55\xaa")
    refused = ipva("disk", "resize", disk, "5M")
    assert refused.status == 2
    assert "partition 1 (unknown)" in refused.err
    assert ipva("disk", "resize", disk, "6M").status == 0


def test_people_are_told_that_volumes_stay(ipva: Ipva, vm: Path) -> None:
    """With the command that looks at them, which runs as printed."""
    shown = ipva("disk", "resize", f"{vm}#cf", "+1G").out
    assert f"{vm}#cf is now 1.1 GiB" in shown
    assert "partitions and volumes on it stay as they are" in shown
    assert f"ipva fs check '{vm}#cf'" in shown
    assert ipva("fs", "check", f"{vm}#cf").status == 0
    assert "already" in ipva("disk", "resize", f"{vm}#cf", "+0").out


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("lots", "64M"),
        ("+lots", "64M"),
        ("--dryrun", "64M"),
        ("", "64M"),
        ("0", "nothing of that would be left"),
        ("-8M", "nothing of that would be left"),
        ("-1G", "nothing of that would be left"),
        ("65T", "64 TiB"),
        ("+999999999T", "64 TiB"),
    ],
)
@pytest.mark.parametrize("kind", ["raw", "monolithicSparse"])
def test_a_size_that_cannot_be_changes_nothing(
    ipva: Ipva, tmp_path: Path, kind: str, size: str, said: str
) -> None:
    """It is refused in one line; an option that is mistyped is no size either."""
    disk = make(tmp_path, kind)
    before = state(tmp_path)
    result = ipva("disk", "resize", disk, size)
    assert result.status == 2
    assert said in result.err
    assert result.err.count("\n") == 1
    assert state(tmp_path) == before


def test_neither_child_nor_parent_is_resized(ipva: Ipva, tmp_path: Path) -> None:
    """Both say which snapshot is in the way."""
    base = make(tmp_path, "monolithicSparse")
    assert ipva("disk", "snapshot", "create", base, "child.vmdk").status == 0
    before = state(tmp_path)
    child = ipva("disk", "resize", tmp_path / "child.vmdk", "+1M")
    assert child.status == 2
    assert "snapshot commit" in child.err
    parent = ipva("disk", "resize", base, "+1M")
    assert parent.status == 2
    assert "child.vmdk" in parent.err
    assert state(tmp_path) == before


def test_what_is_no_disk_is_not_changed(ipva: Ipva, tmp_path: Path) -> None:
    """An archive is no raw image, and neither is a VMDK whose start is lost."""
    archive, lost = tmp_path / "vm.ova", tmp_path / "lost.vmdk"
    archive.write_bytes(bytes(257) + b"ustar" + bytes(2 * MIB))
    lost.write_bytes(bytes(2 * MIB))
    before = state(tmp_path)
    for path in (archive, lost):
        for words in (
            ["resize", path, "1M"],
            ["resize", path, "+1M"],
            ["compact", path],
            ["snapshot", "create", path, "child.vmdk"],
            ["snapshot", "commit", path],
        ):
            assert ipva("disk", *words).status == 2, words
    assert state(tmp_path) == before


def test_an_extent_is_not_resized_by_its_own_name(ipva: Ipva, tmp_path: Path) -> None:
    """Its descriptor would be wrong then; it is named as what to name."""
    make(tmp_path, "monolithicFlat")
    make(tmp_path, "twoGbMaxExtentSparse", "split")
    before = state(tmp_path)
    for name in ("disk-flat.vmdk", "split-s001.vmdk"):
        refused = ipva("disk", "resize", tmp_path / name, "+1M")
        assert refused.status == 2
        assert "name the descriptor's file" in refused.err
    assert state(tmp_path) == before


def test_a_disk_in_use_is_not_changed(ipva: Ipva, tmp_path: Path) -> None:
    """While another process writes to it, each command refuses."""
    for kind in ("raw", "monolithicSparse"):
        disk = make(tmp_path, kind)
        with RawDevice(disk, writable=True):
            for words in (["resize", disk, "+1M"], ["compact", disk]):
                refused = ipva("disk", *words)
                assert refused.status == 2
                assert "another process" in refused.err
    with RawDevice(disk, writable=True):
        assert ipva("disk", "snapshot", "create", disk, "child.vmdk").status == 2
    assert not (tmp_path / "child.vmdk").exists()


def test_a_link_is_followed_to_the_disk(ipva: Ipva, tmp_path: Path) -> None:
    """The disk is changed in its own place, and the link stays one."""
    (tmp_path / "store").mkdir()
    disk = make(tmp_path / "store", "monolithicFlat")
    link = tmp_path / "link.vmdk"
    link.symlink_to(disk)
    assert ipva("disk", "resize", link, "+1M").status == 0
    assert link.is_symlink()
    assert len(bytes_of(disk)) == SIZE_BYTES + MIB


@pytest.mark.parametrize("kind", ["raw", *vmdk.REWRITABLE])
def test_compact_frees_what_is_zero(ipva: Ipva, tmp_path: Path, kind: str) -> None:
    """It says how much, the disk reads the same, and a second time there is nothing to free."""
    disk = make(tmp_path, kind)
    change_zeros(disk)
    content = bytes_of(disk)
    blocks = sum(each.stat().st_blocks for each in tmp_path.iterdir())
    result = ipva("disk", "compact", disk, "--json")
    assert result.status == 0, result.err
    assert result.document["freed"] >= 256 * KIB
    assert sum(each.stat().st_blocks for each in tmp_path.iterdir()) < blocks
    assert bytes_of(disk) == content
    assert ipva("disk", "check", disk).status == 0
    assert ipva("disk", "compact", disk).out == "0 B freed on the host\n"


def test_compact_of_a_stream_names_the_way(ipva: Ipva, tmp_path: Path) -> None:
    """A disk that is written once is made anew."""
    refused = ipva("disk", "compact", make(tmp_path, "streamOptimized"))
    assert refused.status == 2
    assert "ipva disk convert" in refused.err


def test_a_snapshot_of_a_vms_disk_names_the_line_of_the_vmx(ipva: Ipva, vm: Path) -> None:
    """Taking it, going on, and giving it back: each time the line that the .vmx needs is told."""
    vmx, line = vm / "ipva.vmx", 'ide0:1.fileName = "hd-cf.vmdk"'
    new_line = line.replace("hd-cf", "hd-cf-1")
    assert line in vmx.read_text()
    made = ipva("disk", "snapshot", "create", f"{vm}#cf", "hd-cf-1.vmdk", "--json")
    assert made.status == 0, made.err
    assert made.document == {
        "file": str(vm / "hd-cf-1.vmdk"),
        "parent": str(vm / "hd-cf.vmdk"),
        "vmx": [{"file": str(vmx), "line": new_line}],
    }
    again = ipva("disk", "snapshot", "create", f"{vm}#cf", vm / "hd-cf-1.vmdk", "--force")
    assert f"let {vmx} say: {new_line}" in again.out
    vmx.write_text(vmx.read_text().replace(line, new_line))
    base = bytes_of(vm / "hd-cf.vmdk")
    assert ipva("fs", "mkdir", f"{vm}#cf:/new").status == 0
    assert bytes_of(vm / "hd-cf.vmdk") == base
    child = bytes_of(vm / "hd-cf-1.vmdk")
    tried = ipva("disk", "snapshot", "commit", f"{vm}#cf", "--dry-run", "--json")
    assert tried.document["written"] > 0
    assert tried.document["vmx"] == [{"file": str(vmx), "line": line}]
    assert bytes_of(vm / "hd-cf.vmdk") == base
    kept = ipva("disk", "snapshot", "commit", f"{vm}#cf")
    assert kept.status == 0
    assert "is empty now, and reads as before" in kept.out
    assert bytes_of(vm / "hd-cf.vmdk") == bytes_of(vm / "hd-cf-1.vmdk") == child
    gone = ipva("disk", "snapshot", "commit", f"{vm}#cf", "--remove")
    assert gone.status == 0
    assert "is removed" in gone.out
    assert f"let {vmx} say: {line}" in gone.out
    assert not (vm / "hd-cf-1.vmdk").exists()
    vmx.write_text(vmx.read_text().replace(new_line, line))
    assert ipva("doctor", vm, "--json").document["findings"] == []


def test_a_vmx_that_names_the_right_disk_is_left_alone(ipva: Ipva, vm: Path) -> None:
    """Who never gave the VM the child has nothing to change after the commit."""
    assert ipva("disk", "snapshot", "create", f"{vm}#cf", "child.vmdk").status == 0
    done = ipva("disk", "snapshot", "commit", vm / "child.vmdk", "--remove")
    assert f"{vm / 'ipva.vmx'} names hd-cf.vmdk already" in done.out


@pytest.mark.parametrize(
    ("child", "said"),
    [
        ("disk.vmdk", "belongs to the disk"),
        ("base.vmdk", "belongs to the disk"),
        ("base-flat.vmdk", "belongs to the disk"),
        ("child", "child.vmdk"),
        ("other/child.vmdk", "beside its disk"),
        ("missing/child.vmdk", "beside its disk"),
        ("", "is to be named so"),
    ],
)
def test_a_child_that_cannot_be_is_not_made(
    ipva: Ipva, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child: str, said: str
) -> None:
    """Not over its own chain, even with --force; not elsewhere; and only with the name of one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    make(tmp_path, "monolithicFlat", "base")
    assert ipva("disk", "snapshot", "create", "base.vmdk", "disk.vmdk").status == 0
    before = state(tmp_path)
    refused = ipva("disk", "snapshot", "create", "disk.vmdk", child, "--force")
    assert refused.status == 2
    assert said in refused.err
    assert refused.err.count("\n") == 1
    assert state(tmp_path) == before


def test_a_snapshot_overwrites_nothing_unless_forced(ipva: Ipva, tmp_path: Path) -> None:
    """An existing file stays."""
    base = make(tmp_path, "monolithicSparse")
    (tmp_path / "child.vmdk").write_text("mine")
    refused = ipva("disk", "snapshot", "create", base, "child.vmdk")
    assert refused.status == 2
    assert (tmp_path / "child.vmdk").read_text() == "mine"


def test_a_raw_image_has_no_snapshots(ipva: Ipva, tmp_path: Path) -> None:
    """The refusal names the command that makes a VMDK of it."""
    refused = ipva("disk", "snapshot", "create", make(tmp_path, "raw"), "child.vmdk")
    assert refused.status == 2
    assert "-O monolithicSparse" in refused.err


def test_a_child_without_its_parent_is_refused(ipva: Ipva, tmp_path: Path) -> None:
    """Every command says that the parent is missing; `check` has it as a finding."""
    base = make(tmp_path, "monolithicSparse")
    child = tmp_path / "child.vmdk"
    assert ipva("disk", "snapshot", "create", base, child).status == 0
    base.rename(tmp_path / "elsewhere.img")
    for words in (
        ["info", child],
        ["map", child],
        ["convert", child, tmp_path / "out.img", "-O", "raw"],
        ["resize", child, "+1M"],
        ["compact", child],
        ["snapshot", "commit", child],
    ):
        refused = ipva("disk", *words)
        assert refused.status == 2, words
        assert "its parent “disk.vmdk” is not there" in refused.err
    (found,) = ipva("disk", "check", child, "--json").document["findings"]
    assert found["id"] == "VMDK031"


def test_commit_refuses_while_another_child_needs_the_parent(ipva: Ipva, tmp_path: Path) -> None:
    """--force goes on; what is no child has nothing to commit."""
    base = make(tmp_path, "monolithicSparse")
    for name in ("one.vmdk", "two.vmdk"):
        assert ipva("disk", "snapshot", "create", base, name).status == 0
        change(tmp_path / name, MIB, name.encode())
    refused = ipva("disk", "snapshot", "commit", tmp_path / "one.vmdk")
    assert refused.status == 2
    assert "two.vmdk" in refused.err
    assert ipva("disk", "snapshot", "commit", tmp_path / "one.vmdk", "--force").status == 0
    assert bytes_of(base)[MIB : MIB + 8] == b"one.vmdk"
    assert ipva("disk", "info", tmp_path / "two.vmdk").status == 2
    nothing = ipva("disk", "snapshot", "commit", base)
    assert nothing.status == 2
    assert "no snapshot's child" in nothing.err


def test_a_parent_elsewhere_is_followed_only_when_allowed(ipva: Ipva, tmp_path: Path) -> None:
    """The .vmx needs the way to it then."""
    (tmp_path / "vm").mkdir()
    base, child = make(tmp_path, "monolithicSparse", "base"), tmp_path / "vm" / "child.vmdk"
    assert ipva("disk", "snapshot", "create", base, "child.vmdk").status == 0
    change(tmp_path / "child.vmdk", MIB, b"changed")
    (tmp_path / "child.vmdk").rename(child)
    data = child.read_bytes().replace(b'"base.vmdk"', b'"../base.vmdk"')
    child.write_bytes(data[: 20 * 512] + data[20 * 512 + 3 :])  # three letters more in its text
    refused = ipva("disk", "snapshot", "commit", child)
    assert refused.status == 2
    assert "--allow-outside" in refused.err
    done = ipva("disk", "snapshot", "commit", child, "--allow-outside", "--remove")
    assert done.status == 0, done.err
    assert "the .vmx must name ../base.vmdk, and not child.vmdk" in done.out
    assert bytes_of(base)[MIB : MIB + 7] == b"changed"


@pytest.mark.parametrize("is_undone", [False, True])
def test_ctrl_c_in_a_commit_leaves_a_child_that_reads_the_same(
    ipva: Ipva, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_undone: bool
) -> None:
    """It stops between two pieces, says what to do, and the same command ends the job.

    With a journal it is taken back, and nothing is to be done.
    """
    base = make(tmp_path, "monolithicSparse")
    child = tmp_path / "child.vmdk"
    assert ipva("disk", "snapshot", "create", base, child).status == 0
    change(child, 0, bytes([7]) * (7 * MIB))
    content, write, before = bytes_of(child), vmdk.VmdkDevice.write, bytes_of(base)

    def interrupted(disk: vmdk.VmdkDevice, offset_bytes: int, data: bytes, /) -> None:
        write(disk, offset_bytes, data)
        if offset_bytes:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(vmdk.VmdkDevice, "write", interrupted)
    words = ["--undo", tmp_path / "j"] if is_undone else []
    stopped = ipva("disk", "snapshot", "commit", child, *words)
    assert stopped.status == 2
    assert ("run the commit again" in stopped.err) is not is_undone
    assert ("nothing was left half-written" in stopped.err) is is_undone
    assert stopped.err.strip().count("\n") == 0
    monkeypatch.undo()
    assert bytes_of(child) == content
    assert bytes_of(base) != content
    assert (bytes_of(base) == before) is is_undone
    assert ipva("disk", "check", base).status == 0
    assert ipva("disk", "snapshot", "commit", child).status == 0
    assert bytes_of(base) == bytes_of(child) == content


def test_ctrl_c_in_a_resize_waits_for_its_end(
    ipva: Ipva, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the tables are on their way, the job is finished first; before, nothing is changed."""
    disk = make(tmp_path, "monolithicSparse")
    switch = capacity._switch

    def interrupted(*words: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        switch(*words)

    monkeypatch.setattr(capacity, "_switch", interrupted)
    assert ipva("disk", "resize", disk, GIB).status == 0
    assert ipva("disk", "info", disk, "--json").document["virtual_size"] == GIB
    assert ipva("disk", "check", disk).status == 0
    monkeypatch.undo()
    disk.unlink()
    make(tmp_path, "monolithicSparse")
    before = state(tmp_path)

    def interrupted_read(*words: Any) -> bytes:
        signal.raise_signal(signal.SIGINT)
        return read(*words)

    monkeypatch.setattr("ipva_storage.vmdk.ownership.read", interrupted_read)
    stopped = ipva("disk", "resize", disk, "4M", "--allow-loss")
    assert stopped.status == 2
    assert "interrupted" in stopped.err
    assert state(tmp_path) == before
