"""`ipva disk convert, create`: images of every kind, whole or not at all."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipva_storage import vmdk
from ipva_storage.cli.disk.make import KINDS
from ipva_storage.device import BlockDevice, Folder, RawDevice, read
from ipva_storage.units import GIB, KIB, MIB, TIB

Ipva = Callable[..., Any]

SIZE_BYTES = 8 * MIB
GRAIN_BYTES = 64 * KIB


def content() -> bytes:
    """Noise, text and zeros, up to the last byte."""
    chance = random.Random(3)
    disk = bytearray(SIZE_BYTES)
    disk[: 100 * KIB] = chance.randbytes(100 * KIB)
    disk[3 * MIB : 4 * MIB] = b"text of a log " * (MIB // 14) + b"." * (MIB % 14)
    disk[7 * MIB :] = chance.randbytes(MIB)
    return bytes(disk)


CONTENT = content()


def make(path: Path, kind: str = "monolithicSparse", **options: Any) -> Path:
    """A disk with the content; of kind `raw` too."""
    if kind == "raw":
        path.write_bytes(CONTENT)
        return path

    def fill(disk: BlockDevice) -> None:
        disk.write(0, CONTENT)

    folder = Folder(path.parent)
    vmdk.create(folder, path.name, SIZE_BYTES, subformat=kind, fill=fill, **options)
    return path


def bytes_of(path: Path) -> bytes:
    """What a disk reads as."""
    if path.suffix == ".img":
        return path.read_bytes()
    with vmdk.open(RawDevice(path), Folder(path.parent)) as disk:
        return read(disk, 0, disk.size_bytes)


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of a folder, hidden ones too, with its time."""
    return {
        each.name: (each.read_bytes() if each.is_file() else b"", each.stat().st_mtime_ns)
        for each in folder.iterdir()
    }


def out_name(kind: str) -> str:
    """A name for a new image."""
    return "out.img" if kind == "raw" else "out.vmdk"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source_kind", ["raw", "monolithicSparse", "streamOptimized"])
def test_every_kind_from_every_kind(
    ipva: Ipva, tmp_path: Path, source_kind: str, kind: str
) -> None:
    """The new disk reads as the old one, verified or not, and its files are named."""
    source = make(tmp_path / ("in.img" if source_kind == "raw" else "in.vmdk"), source_kind)
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / out_name(kind)
    result = ipva("disk", "convert", source, target, "-O", kind, "--verify", "--json")
    assert result.status == 0, result.err
    files = [str(each) for each in target.parent.iterdir()]
    assert sorted(result.document.pop("files")) == sorted(files)
    assert result.document["file"] == str(target)
    assert result.document["format"] == kind
    assert result.document["virtual_size"] == SIZE_BYTES
    assert result.document["verified"] is True
    assert result.document["lost"] == []
    assert bytes_of(target) == CONTENT
    assert ipva("disk", "check", target).status == 0


def test_a_size_that_is_no_whole_sectors(ipva: Ipva, tmp_path: Path) -> None:
    """A VMDK is whole sectors; the rest of the last one is zeros, and that is no difference."""
    source = tmp_path / "in.img"
    source.write_bytes(CONTENT[:1000])
    target = tmp_path / "out.vmdk"
    done = ipva("disk", "convert", source, target, "-O", "monolithicSparse", "--verify")
    assert done.status == 0, done.err
    assert bytes_of(target) == CONTENT[:1000] + bytes(24)


def test_a_child_becomes_a_whole_disk(ipva: Ipva, tmp_path: Path) -> None:
    """What is below it comes along."""
    make(tmp_path / "base.vmdk")
    vmdk.snapshot(Folder(tmp_path), "base.vmdk", "child.vmdk")
    whole = tmp_path / "whole.vmdk"
    child = tmp_path / "child.vmdk"
    assert ipva("disk", "convert", child, whole, "-O", "streamOptimized").status == 0
    (tmp_path / "base.vmdk").unlink()
    assert bytes_of(whole) == CONTENT


def test_the_level_compresses_more_or_less(ipva: Ipva, tmp_path: Path) -> None:
    """9 gives a smaller file than 1; any other kind refuses a level, and makes nothing."""
    source = tmp_path / "in.img"
    source.write_bytes(b"".join(b"%d: a line\n" % number for number in range(200_000)))
    sizes = []
    for level in (1, 9):
        target = tmp_path / f"level{level}.vmdk"
        words = ["disk", "convert", source, target, "-O", "streamOptimized", "--level", level]
        assert ipva(*words).status == 0
        assert bytes_of(target).startswith(source.read_bytes())
        sizes.append(target.stat().st_size)
    assert sizes[1] < sizes[0]
    target = tmp_path / "flat.vmdk"
    refused = ipva("disk", "convert", source, target, "-O", "monolithicFlat", "--level", 5)
    assert refused.status == 2
    assert "streamOptimized" in refused.err
    assert not target.exists()
    words = ["disk", "convert", source, target, "-O", "streamOptimized", "--level", 10]
    assert ipva(*words).status == 2


@pytest.mark.parametrize("kind", vmdk.SUBFORMATS)
def test_the_adapter_is_the_sources_or_the_users(ipva: Ipva, tmp_path: Path, kind: str) -> None:
    """A disk for a SCSI adapter stays one, unless the user says otherwise."""
    source = make(tmp_path / "in.vmdk", adapter="lsilogic")
    for options, adapter in (([], "lsilogic"), (["--adapter", "buslogic"], "buslogic")):
        target = tmp_path / f"{adapter}.vmdk"
        assert ipva("disk", "convert", source, target, "-O", kind, *options).status == 0
        with vmdk.open(RawDevice(target), Folder(tmp_path)) as disk:
            assert disk.descriptor.ddb["adapterType"] == adapter
    raw = ipva("disk", "convert", source, tmp_path / "x.img", "-O", "raw", "--adapter", "ide")
    assert raw.status == 2
    assert "no descriptor" in raw.err


def test_a_raw_image_is_not_named_as_a_vmdk(ipva: Ipva, tmp_path: Path) -> None:
    """What is made can be opened: such a file would not be."""
    source = make(tmp_path / "in.vmdk")
    for words in (["convert", source], ["create"]):
        target = tmp_path / "out.vmdk"
        size = [] if words[0] == "convert" else ["1M"]
        refused = ipva("disk", *words, target, *size, "-O", "raw")
        assert refused.status == 2
        assert ".img" in refused.err
        assert not target.exists()
    flat = tmp_path / "in-flat.vmdk"
    assert ipva("disk", "convert", source, flat, "-O", "raw").status == 0


def test_an_existing_file_is_refused_before_anything_is_read(
    ipva: Ipva, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of a split disk that is in the way too; nobody waits for hours to be told."""
    source = make(tmp_path / "in.vmdk")
    (tmp_path / "out-f001.vmdk").write_text("mine")
    (tmp_path / "out.img").write_text("mine")
    monkeypatch.setattr("ipva_storage.device.copy", lambda *_, **__: pytest.fail("it was read"))
    before = state(tmp_path)
    for kind in ("twoGbMaxExtentFlat", "raw"):
        refused = ipva("disk", "convert", source, tmp_path / out_name(kind), "-O", kind)
        assert refused.status == 2
        assert "exists already" in refused.err
    assert state(tmp_path) == before


def test_force_replaces_what_is_there(ipva: Ipva, tmp_path: Path) -> None:
    """Also the parts of a split disk."""
    source = make(tmp_path / "in.vmdk")
    for name in ("out.vmdk", "out-s001.vmdk"):
        (tmp_path / name).write_text("old")
    words = ["disk", "convert", source, tmp_path / "out.vmdk", "-O", "twoGbMaxExtentSparse"]
    assert ipva(*words, "--force").status == 0
    assert bytes_of(tmp_path / "out.vmdk") == CONTENT


def test_no_file_of_the_source_is_overwritten(ipva: Ipva, tmp_path: Path) -> None:
    """Neither parts nor parents, under whatever name, as the new disk or a part of it."""
    split = make(tmp_path / "split.vmdk", "twoGbMaxExtentFlat")
    base = make(tmp_path / "base.vmdk", "monolithicFlat")
    vmdk.snapshot(Folder(tmp_path), make(tmp_path / "below.vmdk").name, "child.vmdk")
    child = tmp_path / "child.vmdk"
    os.link(tmp_path / "base-flat.vmdk", tmp_path / "other.vmdk")
    (tmp_path / "link.vmdk").symlink_to("below.vmdk")
    before = state(tmp_path)
    for source, target, kind in (
        (split, "split-f001.vmdk", "monolithicSparse"),
        (split, "split.vmdk", "streamOptimized"),
        (base, "base-flat.vmdk", "raw"),
        (base, "other.vmdk", "monolithicSparse"),
        (child, "below.vmdk", "monolithicSparse"),
        (child, "link.vmdk", "monolithicSparse"),
        (tmp_path / "base-flat.vmdk", "base.vmdk", "monolithicFlat"),
    ):
        words = ["disk", "convert", source, tmp_path / target, "-O", kind, "--force"]
        refused = ipva(*words)
        assert refused.status == 2, (source, target)
        assert "belongs to the disk that is read" in refused.err
    assert state(tmp_path) == before


def test_get_does_not_overwrite_a_part_of_its_disk(ipva: Ipva, tmp_path: Path) -> None:
    """`fs get` knows the parts of a split disk as well."""
    words = ["--cf-size", "64M", "--subformat", "twoGbMaxExtentFlat"]
    assert ipva("new", tmp_path / "vm", *words).status == 0
    part = tmp_path / "vm" / "hd-boot-f001.vmdk"
    before = part.read_bytes()
    disk = tmp_path / "vm" / "hd-boot.vmdk"
    assert ipva("fs", "get", f"{disk}:/ipva.bin", part, "--force").status == 2
    assert part.read_bytes() == before


def test_a_disk_of_a_vm_is_no_new_file(ipva: Ipva, vm: Path) -> None:
    """`VM#cf` names a disk that is there; a file of that name would surprise."""
    before = sorted(vm.parent.rglob("*"))
    for words in (
        ["convert", f"{vm}#cf", f"{vm}#boot", "-O", "monolithicSparse"],
        ["create", f"{vm}#cf", "1G"],
        ["snapshot", "create", f"{vm}#cf", f"{vm}#boot"],
    ):
        refused = ipva("disk", *words)
        assert refused.status == 2
        assert "not a new file" in refused.err
    assert sorted(vm.parent.rglob("*")) == before


@pytest.mark.parametrize("kind", ["raw", "monolithicSparse", "twoGbMaxExtentFlat"])
def test_a_finished_file_that_reads_otherwise_gets_no_name(
    ipva: Ipva, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """--verify finds a byte that the medium changed, and leaves nothing of the new disk."""
    source = make(tmp_path / "in.vmdk")

    def spoil(file: RawDevice) -> None:
        if file.size_bytes > MIB:
            with Path(file.name).open("r+b") as handle:
                handle.seek(-5000, os.SEEK_END)
                handle.write(b"\0spoilt\0")

    monkeypatch.setattr(RawDevice, "forget", spoil)
    words = ["disk", "convert", source, tmp_path / out_name(kind), "-O", kind, "--verify"]
    result = ipva(*words)
    assert result.status == 2
    assert f"at byte {(SIZE_BYTES - 5000) // 512 * 512}" in result.err
    assert list(state(tmp_path)) == ["in.vmdk"]
    assert ipva(*words[:-1]).status == 0  # who does not ask is not told


def test_a_finished_file_that_cannot_be_read_gets_no_name(
    ipva: Ipva, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal names the file that was asked for, and not the one that is gone."""
    source = make(tmp_path / "in.vmdk")
    monkeypatch.setattr(RawDevice, "forget", lambda file: os.truncate(file.name, 70 * KIB))
    target = tmp_path / "out.vmdk"
    result = ipva("disk", "convert", source, target, "-O", "monolithicSparse", "--verify")
    assert result.status == 2
    assert f"ipva: {target}: what was written cannot be read back" in result.err
    assert ".part" not in result.err
    assert list(state(tmp_path)) == ["in.vmdk"]


def salvage(ipva: Ipva, source: Path, lost: list[tuple[int, int]]) -> None:
    """Convert a damaged disk, and compare what is told as lost, and everything else."""
    target = source.parent / "out.img"
    plain = ipva("disk", "convert", source, target, "-O", "raw")
    assert plain.status == 2
    assert "--salvage" in plain.err
    assert not target.exists()
    words = ["disk", "convert", source, target, "-O", "raw", "--salvage", "--verify"]
    result = ipva(*words, "--json")
    assert result.status == 1
    assert result.document["lost"] == [{"offset": at, "length": count} for at, count in lost]
    assert result.document["lost_bytes"] == sum(count for _, count in lost)
    expected = bytearray(CONTENT)
    for at, count in lost:
        expected[at : at + count] = bytes(count)
    assert target.read_bytes() == expected
    shown = ipva(*words, "--force")
    assert shown.status == 1
    assert f"at byte {lost[0][0]:7}" in shown.out


def test_salvage_of_a_cut_sparse_disk(ipva: Ipva, tmp_path: Path) -> None:
    """The grain that the file ends within is kept to the sector; what comes after it is zeros."""
    disk = make(tmp_path / "in.vmdk")
    with disk.open("r+b") as file:
        file.truncate(disk.stat().st_size - 3 * GRAIN_BYTES - 10_000)
    first = SIZE_BYTES - 3 * GRAIN_BYTES - 10_240  # to whole sectors
    salvage(ipva, disk, [(first, SIZE_BYTES - first)])


def test_salvage_of_a_sparse_disk_without_a_table(ipva: Ipva, tmp_path: Path) -> None:
    """Where runs cannot be told, everything is tried; what the table named is zeros."""
    disk = make(tmp_path / "in.vmdk")
    data = bytearray(disk.read_bytes())
    for at in (48, 56):
        directory = int.from_bytes(data[at : at + 8], "little") * 512
        data[directory : directory + 4] = b"\xff\xff\xff\x7f"
    disk.write_bytes(data)
    salvage(ipva, disk, [(0, SIZE_BYTES)])


def test_salvage_of_a_sparse_disk_whose_tables_are_zeros(ipva: Ipva, tmp_path: Path) -> None:
    """Data that no table tells of is in the file: zeros in its place are no copy."""
    disk = make(tmp_path / "in.vmdk")
    data = bytearray(disk.read_bytes())
    for at in (48, 56):
        directory = int.from_bytes(data[at : at + 8], "little") * 512
        table = int.from_bytes(data[directory : directory + 4], "little") * 512
        data[table : table + 2048] = bytes(2048)
    disk.write_bytes(data)
    salvage(ipva, disk, [(0, SIZE_BYTES)])


def test_salvage_of_a_damaged_stream(ipva: Ipva, tmp_path: Path) -> None:
    """A compressed grain that does not inflate is lost as a whole; its neighbours are not."""
    disk = make(tmp_path / "in.vmdk", "streamOptimized")
    data = bytearray(disk.read_bytes())
    lost = []
    for grain in (1, 50, 112, 113):
        marker = (grain * 128).to_bytes(8, "little")
        (at,) = (at for at in range(0, len(data), 512) if data[at : at + 8] == marker)
        data[at + 100 : at + 104] = b"\xff\0\xff\0"
        lost.append((grain * GRAIN_BYTES, GRAIN_BYTES))
    disk.write_bytes(data)
    last = lost.pop()
    lost[-1] = (lost[-1][0], lost[-1][1] + last[1])
    salvage(ipva, disk, lost)


def test_salvage_of_a_stream_without_its_end(ipva: Ipva, tmp_path: Path) -> None:
    """A download that broke off: grains are found by their markers; where it ends, all is lost."""
    disk = make(tmp_path / "in.vmdk", "streamOptimized")
    data = disk.read_bytes()
    marker = (115 * 128).to_bytes(8, "little")
    (at,) = (at for at in range(0, len(data), 512) if data[at : at + 8] == marker)
    disk.write_bytes(data[: at + 700])
    salvage(ipva, disk, [(115 * GRAIN_BYTES, SIZE_BYTES - 115 * GRAIN_BYTES)])


def test_salvage_of_a_cut_flat_disk(ipva: Ipva, tmp_path: Path) -> None:
    """What its file still has is copied."""
    disk = make(tmp_path / "in.vmdk", "monolithicFlat")
    os.truncate(tmp_path / "in-flat.vmdk", 7 * MIB + 5120)
    salvage(ipva, disk, [(7 * MIB + 5120, MIB - 5120)])


def test_salvage_of_a_disk_without_one_of_its_files(ipva: Ipva, tmp_path: Path) -> None:
    """A missing piece is zeros; one that is elsewhere, and may not be followed, is refused."""
    disk = make(tmp_path / "in.vmdk", "twoGbMaxExtentFlat")
    text = disk.read_text()
    line = f'RW {SIZE_BYTES // 512} FLAT "in-f001.vmdk" 0'
    parts = [line.replace(str(SIZE_BYTES // 512), str(7 * MIB // 512))]
    parts.append(f'RW {MIB // 512} FLAT "gone.vmdk" 0')
    disk.write_text(text.replace(line, "\n".join(parts)))
    salvage(ipva, disk, [(7 * MIB, MIB)])
    (tmp_path / "out.img").unlink()
    disk.write_text(disk.read_text().replace('"gone.vmdk"', '"../gone.vmdk"'))
    words = ["disk", "convert", disk, tmp_path / "out.img", "-O", "raw", "--salvage"]
    refused = ipva(*words)
    assert refused.status == 2
    assert "--allow-outside" in refused.err
    assert ipva(*words, "--allow-outside").status == 1


def test_a_file_that_may_not_be_read_is_not_overwritten(ipva: Ipva, tmp_path: Path) -> None:
    """A part that the descriptor closes belongs to the disk as well."""
    disk = make(tmp_path / "in.vmdk", "monolithicFlat")
    disk.write_text(disk.read_text().replace("RW ", "NOACCESS ", 1))
    before = state(tmp_path)
    target = tmp_path / "in-flat.vmdk"
    words = ["disk", "convert", disk, target, "-O", "raw", "--salvage", "--force"]
    assert ipva(*words).status == 2
    assert state(tmp_path) == before


def test_what_cannot_be_salvaged_is_refused(ipva: Ipva, tmp_path: Path) -> None:
    """A lost header and a missing parent: no way is named that is none."""
    disk = make(tmp_path / "in.vmdk")
    vmdk.snapshot(Folder(tmp_path), disk.name, "child.vmdk")
    data = disk.read_bytes()
    disk.write_bytes(data[:20] + b"\xff" * 8 + data[28:])
    for source in (disk, tmp_path / "child.vmdk"):
        words = ["disk", "convert", source, tmp_path / "out.img", "-O", "raw"]
        plain = ipva(*words)
        assert plain.status == 2
        assert "--salvage" not in plain.err
        assert ipva(*words, "--salvage").status == 2
    assert not (tmp_path / "out.img").exists()


@pytest.mark.parametrize("is_copied", [True, False])
def test_a_copy_after_a_crash_can_be_written_on(
    ipva: Ipva, tmp_path: Path, is_copied: bool
) -> None:
    """A crashed disk that is written on looks like one whose tables are lost; its copy does not."""
    disk, copy = tmp_path / "disk.vmdk", tmp_path / "new.vmdk"
    vmdk.create(Folder(tmp_path), disk.name, 256 * MIB, subformat="monolithicSparse")
    with vmdk.open(RawDevice(disk, writable=True), writable=True) as device:
        device.write(64 * MIB, b"b" * (40 * GRAIN_BYTES))
        crashed = disk.read_bytes()  # as it is where the host stops now: nothing was flushed
    disk.write_bytes(crashed)
    if is_copied:
        assert ipva("disk", "convert", disk, copy, "-O", "monolithicSparse").status == 0
        assert disk.read_bytes() == crashed
        disk = copy
    with vmdk.open(RawDevice(disk, writable=True), writable=True) as device:
        device.write(128 * MIB, b"c" * GRAIN_BYTES)
    found = ipva("disk", "check", disk, "--json").document["findings"]
    assert ("VMDK035" in {one["id"] for one in found}) is not is_copied


def test_salvage_of_a_sound_disk_loses_nothing(ipva: Ipva, tmp_path: Path) -> None:
    """Status 0, and the whole disk."""
    disk, target = make(tmp_path / "in.vmdk"), tmp_path / "out.img"
    result = ipva("disk", "convert", disk, target, "-O", "raw", "--salvage", "--json")
    assert result.status == 0
    assert result.document["lost"] == []
    assert target.read_bytes() == CONTENT


SLOW = """
import sys, time
import ipva_storage.device
copying = sys.modules["ipva_storage.device.copy"]
fast = copying.data_runs
def slow(*words):
    print("piece", file=sys.stderr, flush=True)
    time.sleep(0.3)
    return fast(*words)
copying.data_runs = slow
from ipva_storage.cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("raw", signal.SIGINT),
        ("twoGbMaxExtentSparse", signal.SIGINT),
        ("streamOptimized", signal.SIGINT),
        ("streamOptimized", signal.SIGTERM),
        ("raw", signal.SIGHUP),
    ],
)
def test_a_signal_in_the_middle_leaves_nothing(
    tmp_path: Path, kind: str, sent: signal.Signals
) -> None:
    """A real signal in a real process: status 2, one line, no new file, the source untouched."""
    make(tmp_path / "in.vmdk", "monolithicFlat")
    before = state(tmp_path)
    words = ["disk", "convert", tmp_path / "in.vmdk", tmp_path / out_name(kind), "-O", kind]
    command = [sys.executable, "-c", SLOW, *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "piece\n"
        assert len(state(tmp_path)) > len(before)
        process.send_signal(sent)
        rest = process.stderr.read()
        assert process.wait(timeout=20) == 2
    assert rest.splitlines()[-1].startswith("ipva: interrupted")
    assert "Traceback" not in rest
    assert state(tmp_path) == before


@pytest.mark.parametrize("kind", KINDS)
def test_create_makes_an_empty_disk_of_any_kind(ipva: Ipva, tmp_path: Path, kind: str) -> None:
    """It has the size, to whole sectors, reads as zeros, and takes no space."""
    target = tmp_path / out_name(kind)
    result = ipva("disk", "create", target, 3 * GIB - 100, "-O", kind, "--json")
    assert result.status == 0, result.err
    assert result.document["virtual_size"] == 3 * GIB
    assert result.document["format"] == kind
    files = [Path(name) for name in result.document["files"]]
    assert sorted(files) == sorted(tmp_path.iterdir())
    assert sum(each.stat().st_blocks for each in files) * 512 < 8 * MIB
    assert ipva("disk", "info", target, "--json").document["virtual_size"] == 3 * GIB
    assert not any(run["data"] for run in ipva("disk", "map", target, "--json").document)
    assert ipva("disk", "check", target).status == 0


def test_create_makes_a_sparse_vmdk_unless_told(ipva: Ipva, tmp_path: Path) -> None:
    """And names the next step."""
    result = ipva("disk", "create", tmp_path / "x.vmdk", "1G", "--adapter", "lsilogic")
    assert result.status == 0
    assert "monolithicSparse, 1.0 GiB" in result.out
    assert f"ipva fs format {tmp_path / 'x.vmdk'}" in result.out
    assert b'ddb.adapterType = "lsilogic"' in (tmp_path / "x.vmdk").read_bytes()


@pytest.mark.parametrize(
    ("size", "kind", "said"),
    [
        ("lots", "raw", "64M"),
        ("-1G", "raw", "-1"),
        ("0", "raw", "1G"),
        ("0", "monolithicSparse", "1G"),
        (f"{65 * TIB}", "monolithicSparse", "64 TiB"),
        ("3T", "twoGbMaxExtentSparse", "not split"),
    ],
)
def test_a_size_that_cannot_be_makes_nothing(
    ipva: Ipva, tmp_path: Path, size: str, kind: str, said: str
) -> None:
    """It is refused in one line."""
    result = ipva("disk", "create", tmp_path / out_name(kind), size, "-O", kind)
    assert result.status == 2
    assert said in result.err
    assert list(tmp_path.iterdir()) == []


def test_create_overwrites_nothing_unless_forced(ipva: Ipva, tmp_path: Path) -> None:
    """An existing file stays; a folder is never replaced."""
    target = tmp_path / "x.vmdk"
    target.write_text("mine")
    assert ipva("disk", "create", target, "1M").status == 2
    assert target.read_text() == "mine"
    assert ipva("disk", "create", target, "1M", "--force").status == 0
    assert ipva("disk", "create", tmp_path, "1M", "--force").status == 2
    assert ipva("disk", "create", tmp_path / "no" / "x.vmdk", "1M").status == 2
    assert sorted(tmp_path.iterdir()) == [target]
