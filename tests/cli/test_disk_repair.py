"""`ipva disk repair`: what it says, leaves and refuses."""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipva_storage import vmdk
from ipva_storage.device import BlockDevice, Folder, MemoryDevice, RawDevice, read
from ipva_storage.units import KIB, MIB
from ipva_storage.vmdk.extent.header import read_header
from ipva_storage.vmdk.repairing.draft import Draft
from tests.cli.images import (
    DATA,
    FLATS,
    SIZE_BYTES,
    change,
    content_of,
    files,
    lose_start,
    make,
    overwrite,
    spoil_entries,
    spoil_grain,
    state,
)

Ipva = Callable[..., Any]

# -- what it says and leaves --------------------------------------------------------------------


def test_nothing_to_do(ipva: Ipva, tmp_path: Path) -> None:
    """A sound disk is left alone, and there is no journal."""
    disk = make(tmp_path)
    before = state(tmp_path)
    result = ipva("disk", "repair", disk)
    assert (result.status, result.out) == (0, "nothing wrong was found\n")
    found = ipva("disk", "repair", disk, "--json")
    assert found.document == {
        "fixed": [],
        "left": [],
        "lost": [],
        "made": [],
        "undo": None,
        "dry_run": False,
    }
    assert state(tmp_path) == before


def test_all_is_mended(ipva: Ipva, tmp_path: Path) -> None:
    """Status 0, a journal beside the disk, and its command as the last line."""
    disk = make(tmp_path)
    content = content_of(disk)
    lose_start(disk)
    damaged = disk.read_bytes()
    result = ipva("disk", "repair", disk)
    assert result.status == 0
    first, last = result.out.splitlines()
    assert first.startswith("mended: VMDK001  header at byte 0: ")
    journal = f"{disk}.undo"
    assert re.fullmatch(rf"to take it back \(.* saved\): ipva undo {re.escape(journal)}", last)
    assert content_of(disk) == content
    assert ipva("disk", "check", disk).status == 0
    assert ipva("undo", journal).status == 0
    assert disk.read_bytes() == damaged


def test_journals_have_free_names(ipva: Ipva, tmp_path: Path) -> None:
    """A second repair does not replace the journal of the first one; JSON names it."""
    disk = make(tmp_path)
    for name in ("disk.vmdk.undo", "disk.vmdk.undo.1"):
        lose_start(disk)
        assert ipva("disk", "repair", disk, "--json").document["undo"] == str(tmp_path / name)
        assert (tmp_path / name).exists()


def test_the_journal_is_where_the_user_says_or_nowhere(ipva: Ipva, tmp_path: Path) -> None:
    """`--undo` names it, `--no-undo` leaves it out, and nothing is replaced for it."""
    disk = make(tmp_path)
    lose_start(disk)
    taken = ipva("disk", "repair", disk, "--undo", disk)
    assert taken.status == 2
    assert "it is the image itself" in taken.err
    assert ipva("disk", "repair", disk, "--undo", tmp_path / "here").status == 0
    assert sorted(files(tmp_path)) == ["disk.vmdk", "here"]
    lose_start(disk)
    assert ipva("disk", "repair", disk, "--undo", tmp_path / "here").status == 2
    result = ipva("disk", "repair", disk, "--no-undo")
    assert result.status == 0
    assert "take it back" not in result.out
    assert sorted(files(tmp_path)) == ["disk.vmdk", "here"]


def test_a_dry_run_changes_nothing(ipva: Ipva, tmp_path: Path) -> None:
    """Neither bytes nor times, and status 1 says that there is something to mend."""
    disk = make(tmp_path)
    lose_start(disk)
    before = state(tmp_path)
    tried = ipva("disk", "repair", disk, "--dry-run", "--json")
    assert tried.status == 1
    assert ipva("disk", "repair", disk, "--dry-run").out.startswith("would be mended: VMDK001")
    assert state(tmp_path) == before
    done = ipva("disk", "repair", disk, "--json")
    assert done.status == 0
    assert tried.document == done.document | {"undo": None, "dry_run": True}


def test_json_shapes(ipva: Ipva, tmp_path: Path) -> None:
    """Findings have the keys of every check, and lost ranges are in bytes."""
    disk = make(tmp_path)
    spoil_entries(disk)
    overwrite(disk, 72, b"\1")
    result = ipva("disk", "repair", disk, "--json")
    assert result.status == 1
    found = result.document
    assert {each["id"] for each in found["fixed"]} == {"VMDK014"}
    assert {each["id"] for each in found["left"]} == {"VMDK010"}
    keys = {"id", "severity", "where", "structure", "offset", "message", "repair"}
    for each in (*found["fixed"], *found["left"]):
        assert set(each) == keys
        assert each["where"] == str(disk)
    assert [(each["offset"], each["length"]) for each in found["lost"]] == [(65_536, 131_072)]
    assert set(found["lost"][0]) == {"offset", "length", "reason"}


@pytest.mark.parametrize(
    ("kind", "spoil"), [("monolithicSparse", spoil_entries), ("streamOptimized", spoil_grain)]
)
def test_what_is_left_and_lost(
    ipva: Ipva, tmp_path: Path, kind: str, spoil: Callable[[Path], None]
) -> None:
    """The range is told, no advice is to do the same again, and the last line's command works."""
    disk = make(tmp_path, kind)
    spoil(disk)
    result = ipva("disk", "repair", disk)
    assert result.status == 1
    assert "what is left:" in result.out
    assert "lost, 128.0 KiB" in result.out or "lost, 64.0 KiB" in result.out
    assert "bytes 65536 to " in result.out
    assert "ipva disk repair" not in result.out
    command = result.out.splitlines()[-1].partition("copy the rest: ipva ")[2]
    copied = ipva(*shlex.split(command))
    assert copied.status == 1
    assert "could not be read, and are zeros in it" in copied.out
    rest = (tmp_path / "disk-rest.img").read_bytes()
    assert rest[4 * MIB : 4 * MIB + len(DATA)] == DATA


def test_lost_and_mended(ipva: Ipva, tmp_path: Path) -> None:
    """Of a stream that was cut the rest is mended; what is lost reads as zeros, and is told."""
    disk = make(tmp_path, "streamOptimized")
    before = disk.read_bytes()
    disk.write_bytes(before[: len(before) // 2])
    result = ipva("disk", "repair", disk)
    assert result.status == 1
    assert "what is left:" not in result.out
    assert "it reads as zeros there" in result.out
    assert "ipva undo" in result.out.splitlines()[-1]
    assert ipva("disk", "check", disk).status == 0
    assert content_of(disk)[: 200 * KIB] == DATA[: 200 * KIB]
    assert ipva("undo", f"{disk}.undo").status == 0
    assert disk.read_bytes() == before[: len(before) // 2]


def test_many_lost_ranges(ipva: Ipva, tmp_path: Path) -> None:
    """People see fifty of them; JSON has all."""
    folder = Folder(tmp_path)

    def fill(disk: BlockDevice) -> None:
        for grain in range(0, 200, 2):
            disk.write(grain * 65_536, b"x")

    vmdk.create(folder, "disk.vmdk", 16 * MIB, fill=fill)
    disk = tmp_path / "disk.vmdk"
    header = read_header(MemoryDevice(disk.read_bytes()))
    for directory in (header.rgd_offset_sectors, header.gd_offset_sectors):
        table = (directory + header.directory_sectors) * 512
        for grain in range(0, 120, 2):
            overwrite(disk, table + 4 * grain, b"\xff\xff\xff\x7f")
    shown = ipva("disk", "repair", disk).out
    assert shown.count("  bytes ") == 50
    assert "and 10 more ranges" in shown
    assert len(ipva("disk", "repair", disk, "--json").document["lost"]) == 60


def test_the_file_of_a_disk_of_several_is_named(ipva: Ipva, tmp_path: Path) -> None:
    """What was mended in a part of a split disk comes with the name of that file."""
    disk = make(tmp_path, "twoGbMaxExtentSparse")
    part = tmp_path / "disk-s001.vmdk"
    lose_start(part)
    done = ipva("disk", "repair", disk)
    assert done.out.startswith(f"mended: VMDK001  {part}: header at byte 0")


# -- what it is given ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FLATS)
def test_a_lost_descriptor(ipva: Ipva, tmp_path: Path, kind: str) -> None:
    """It is made anew, whether the disk is named or one of its parts; the data is as it was."""
    disk = make(tmp_path, kind)
    content, text = content_of(disk), disk.read_bytes()
    (part,) = (each for each in tmp_path.iterdir() if each != disk)
    for named in (disk, part):
        disk.unlink()
        found = ipva("disk", "check", named)
        assert found.status == 1
        command = found.out.splitlines()[-1].partition("to mend it: ipva ")[2]
        assert ipva(*shlex.split(command), "--dry-run").out.endswith(f"would make {disk}\n")
        assert not disk.exists()
        done = ipva(*shlex.split(command))
        assert done.status == 0
        assert done.out.endswith(f"made {disk}; to take that back, delete it\n")
        assert f"the descriptor was made from 1 file, {SIZE_BYTES // MIB}.0 MiB; its " in done.out
        assert "its adapter (ide)" in done.out
        assert content_of(disk) == content
        if kind != "vmfs":  # which nothing tells from a hosted product's
            assert without_cid(disk.read_bytes()) == without_cid(text)
    disk.unlink()
    made = ipva("disk", "repair", disk, "--json").document
    assert (made["made"], made["undo"]) == ([str(disk)], None)


def without_cid(text: bytes) -> bytes:
    """A descriptor without what is by chance."""
    return re.sub(rb"CID=[0-9a-f]{8}", b"CID=", text)


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
@pytest.mark.parametrize("line", ["CID=", "createType="])
def test_qemu_reads_a_descriptor_that_was_completed(ipva: Ipva, tmp_path: Path, line: str) -> None:
    """A line that is added is one that qemu finds, and it changes no other one."""
    disk = make(tmp_path, "monolithicFlat")
    disk.write_bytes(re.sub(rf"(?m)^{line}.*\n".encode(), b"", disk.read_bytes()))
    (tmp_path / "raw").write_bytes(content_of(disk))
    assert ipva("disk", "repair", disk).status == 0
    command = ["qemu-io", "-f", "vmdk", "-c", "write -P 1 5M 64k", str(disk)]
    subprocess.run(command, check=True, capture_output=True)
    assert b"parentCID=ffffffff" in disk.read_bytes()
    assert ipva("disk", "check", disk).status == 0
    overwrite(tmp_path / "raw", 5 * MIB, b"\1" * 65_536)
    command = ["qemu-img", "compare", str(disk), str(tmp_path / "raw")]
    subprocess.run(command, check=True, capture_output=True)


def test_a_renamed_stream(ipva: Ipva, tmp_path: Path) -> None:
    """A VMDK is known by what is left of it, whatever its name; it is no raw image."""
    disk = make(tmp_path, "streamOptimized")
    content = content_of(disk)
    renamed = disk.rename(tmp_path / "download.bin")
    lose_start(renamed)
    for words in (["disk", "check"], ["disk", "info"], ["info"]):
        result = ipva(*words, renamed)
        assert result.status in (1, 2)
        assert f"mend it{':' if result.status == 1 else ' with:'} ipva disk repair {renamed}" in (
            result.out + result.err
        )
    assert ipva("disk", "repair", renamed).status == 0
    assert content_of(renamed) == content
    assert (tmp_path / "download.bin.undo").exists()


def child_over(ipva: Ipva, folder: Path) -> tuple[Path, Path]:
    """A disk, and a snapshot's child that holds data."""
    base, child = make(folder, name="base"), folder / "child.vmdk"
    assert ipva("disk", "snapshot", "create", base, child).status == 0
    change(child, MIB, b"in the child")
    return base, child


def test_a_child_whose_parent_changed(ipva: Ipva, tmp_path: Path) -> None:
    """It is left, with the command that accepts the parent; that one mends it."""
    base, child = child_over(ipva, tmp_path)
    change(base, 6 * MIB, b"behind the child's back")
    before = files(tmp_path)
    refused = ipva("disk", "info", child)
    assert f"accept it with: ipva disk repair --accept-parent {child}" in refused.err
    result = ipva("disk", "repair", child)
    assert result.status == 1
    assert f"ipva disk repair --accept-parent {child}" in result.out
    assert "copy the rest" not in result.out
    assert files(tmp_path) == before
    done = ipva("disk", "repair", child, "--accept-parent")
    assert done.status == 0
    assert "mended: VMDK032" in done.out
    assert ipva("disk", "check", child).status == 0
    assert content_of(child)[MIB : MIB + 12] == b"in the child"
    assert ipva("undo", f"{child}.undo").status == 0
    assert {name: files(tmp_path)[name] for name in before} == before


def test_a_child_whose_changes_are_lost(ipva: Ipva, tmp_path: Path) -> None:
    """Without its delta only the parent is left, and is offered."""
    make(tmp_path, name="base")
    folder = Folder(tmp_path)
    with folder.open("base.vmdk") as raw:
        header = read_header(raw)
        cid = vmdk.Descriptor.parse(read(raw, 512, header.descriptor_sectors * 512)).cid
    text = (
        f"# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID={cid:08x}\n"
        'createType="vmfsSparse"\nparentFileNameHint="base.vmdk"\n'
        f'RW {SIZE_BYTES // 512} VMFSSPARSE "child-delta.vmdk"\n'
    )
    (tmp_path / "child.vmdk").write_text(text)
    before = files(tmp_path)
    result = ipva("disk", "repair", tmp_path / "child.vmdk")
    assert result.status == 1
    assert "VMDK015" in result.out
    assert "“base.vmdk”: put the file back, or use that disk" in result.out
    assert files(tmp_path) == before


def test_a_disk_of_a_vm(ipva: Ipva, vm: Path) -> None:
    """A disk is named by its role, too; doctor sends there, and does not call for a backup."""
    lose_start(vm / "hd-cf.vmdk")
    told = ipva("doctor", vm)
    assert told.status == 1
    assert told.out.count(f"ipva disk repair {vm}#cf") == 2
    assert "backup" not in told.out
    done = ipva("disk", "repair", f"{vm}#cf")
    assert done.status == 0
    assert str(vm / "hd-cf.vmdk.undo") in done.out
    assert ipva("doctor", vm).status == 0


@pytest.mark.parametrize("kind", ["folder", "raw", "missing", "noise"])
def test_what_is_no_vmdk(ipva: Ipva, vm: Path, kind: str) -> None:
    """A refusal says what to name instead, and nothing is made."""
    target = vm / {"folder": "", "raw": "a.img", "missing": "none.vmdk", "noise": "x.vmdk"}[kind]
    if kind in ("raw", "noise"):
        target.write_bytes(random.Random(1).randbytes(MIB))
    before = files(vm)
    result = ipva("disk", "repair", target)
    assert result.status == 2
    assert result.err.count("\n") == 1
    expected = {
        "folder": "name one of its disks",
        "raw": f"ipva fs check {target}",
        "missing": "no extent that one could be made for",
        "noise": "restore it from a backup",
    }
    assert expected[kind] in result.err
    assert files(vm) == before


def test_a_disk_in_use_is_refused(ipva: Ipva, tmp_path: Path) -> None:
    """While somebody writes to it nothing is changed, and no journal stays."""
    disk = make(tmp_path)
    lose_start(disk)
    before = files(tmp_path)
    with RawDevice(disk, writable=True):
        result = ipva("disk", "repair", disk)
    assert result.status == 2
    assert "another process is writing to it" in result.err
    assert files(tmp_path) == before
    assert ipva("disk", "repair", disk).status == 0


def test_a_file_that_may_not_be_written_to(
    ipva: Ipva, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be tried, and not be mended; no journal stays."""
    disk = make(tmp_path)
    lose_start(disk)
    before = files(tmp_path)
    opened = os.open

    def refuse(path: str, flags: int, *words: Any) -> int:  # root may write to anything
        if str(path) == str(disk) and flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, *words)

    monkeypatch.setattr(os, "open", refuse)
    assert ipva("disk", "repair", disk, "--dry-run").status == 1
    result = ipva("disk", "repair", disk)
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert f"{disk}: " in result.err
    assert files(tmp_path) == before


# -- interrupted --------------------------------------------------------------------------------


def interrupt(*_: object) -> None:
    """Ctrl-C, twice: the first is put off."""
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("is_late", [False, True])
def test_ctrl_c(ipva: Ipva, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_late: bool) -> None:
    """Before it writes, and in the middle of that, the damaged disk is left as it was."""
    disk = make(tmp_path)
    lose_start(disk)
    spoil_table(disk)
    before = files(tmp_path)
    commit = Draft.commit

    def half(draft: Draft) -> None:
        if is_late:
            draft.steps = [each for each in draft.steps if each.writes][:1]
            commit(draft)
        interrupt()

    monkeypatch.setattr(Draft, "commit", half)
    stopped = ipva("disk", "repair", disk)
    assert stopped.status == 2
    assert "interrupted" in stopped.err
    assert files(tmp_path) == before
    monkeypatch.undo()
    assert ipva("disk", "repair", disk).status == 0


def spoil_table(path: Path) -> None:
    """Noise over the first table; the header is gone, and where it was is known."""
    overwrite(path, 26 * 512, random.Random(2).randbytes(512))


def test_ctrl_c_once_waits_for_the_end(
    ipva: Ipva, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on its way is finished."""
    disk = make(tmp_path)
    lose_start(disk)
    commit = Draft.commit

    def interrupted(draft: Draft) -> None:
        signal.raise_signal(signal.SIGINT)
        commit(draft)

    monkeypatch.setattr(Draft, "commit", interrupted)
    assert ipva("disk", "repair", disk).status == 0
    assert ipva("disk", "check", disk).status == 0
