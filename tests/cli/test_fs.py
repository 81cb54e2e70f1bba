"""`ipva fs`: files in and out of disks."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

Ipva = Callable[..., Any]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with files of many sizes and names, two levels deep."""
    source = tmp_path / "tree"
    chance = random.Random(7)
    for name, size in (
        ("empty", 0),
        ("A long name with spaces.text", 5),
        ("ümläut – dash.bin", 5000),
        ("sub/deeper/Readme.MD", 70_000),
        ("sub/x.y.z", 4096),
    ):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(size))
    return source


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_tree_goes_in_and_comes_out_the_same(
    ipva: Ipva, vm: Path, tree: Path, tmp_path: Path
) -> None:
    """`put` and `get` of a folder keep every name and byte."""
    put = ipva("fs", "put", tree, f"{vm}#cf:/")
    assert put.status == 0, put.err
    assert "5 files" in put.out
    got = ipva("fs", "get", f"{vm}#cf:/tree", tmp_path / "out")
    assert got.status == 0, got.err
    assert contents(tmp_path / "out") == contents(tree)
    assert ipva("fs", "check", f"{vm}#cf").status == 0


def test_names_match_whatever_their_case(ipva: Ipva, vm: Path, tree: Path) -> None:
    """A file is found by its name in another case."""
    ipva("fs", "put", tree / "A long name with spaces.text", f"{vm}#cf:/")
    shown = ipva("fs", "cat", f"{vm}#cf:/a LONG name WITH spaces.TEXT")
    assert shown.status == 0
    assert len(shown.out.encode("utf-8", "surrogateescape")) > 0


def test_ls_gives_the_contract_keys_and_both_names(ipva: Ipva, vm: Path, tree: Path) -> None:
    """The listing is a list of entries with long and short names."""
    ipva("fs", "put", tree / "A long name with spaces.text", f"{vm}#cf:/")
    (entry,) = ipva("fs", "ls", f"{vm}#cf:/", "--json").document
    assert entry["name"] == "A long name with spaces.text"
    assert entry["short_name"] == "ALONGN~1.TEX"
    assert entry["size"] == 5
    assert entry["is_dir"] is False
    assert entry["deleted"] is False


def test_put_replaces_only_when_forced(ipva: Ipva, vm: Path, tmp_path: Path) -> None:
    """A file that is there stays, unless --force."""
    file = tmp_path / "note.txt"
    file.write_text("first")
    assert ipva("fs", "put", file, f"{vm}#cf:/").status == 0
    file.write_text("second, and longer")
    refused = ipva("fs", "put", file, f"{vm}#cf:/")
    assert refused.status == 2
    assert "--force" in refused.err
    assert ipva("fs", "cat", f"{vm}#cf:/note.txt").out == "first"
    assert ipva("fs", "put", file, f"{vm}#cf:/", "--force").status == 0
    assert ipva("fs", "cat", f"{vm}#cf:/note.txt").out == "second, and longer"


def test_put_into_a_folder_that_is_missing_makes_it(ipva: Ipva, vm: Path, tmp_path: Path) -> None:
    """A path that ends in a slash is a folder, made with those above it."""
    file = tmp_path / "note.txt"
    file.write_text("hello")
    assert ipva("fs", "put", file, f"{vm}#cf:/a/b/").status == 0
    assert ipva("fs", "cat", f"{vm}#cf:/a/b/note.txt").out == "hello"


def test_get_never_overwrites_unless_forced(ipva: Ipva, vm: Path, tmp_path: Path) -> None:
    """A file of the host stays, unless --force."""
    target = tmp_path / "mine"
    target.write_text("mine")
    assert ipva("fs", "get", f"{vm}#boot:/ipva.bin", target).status == 2
    assert target.read_text() == "mine"
    assert ipva("fs", "get", f"{vm}#boot:/ipva.bin", target, "--force").status == 0
    assert target.stat().st_size > 1000


def test_rm_and_mkdir(ipva: Ipva, vm: Path, tree: Path) -> None:
    """Folders are made and removed; a full one only with -r."""
    assert ipva("fs", "mkdir", f"{vm}#cf:/one/two").status == 2
    assert ipva("fs", "mkdir", "-p", f"{vm}#cf:/one/two").status == 0
    assert ipva("fs", "put", tree, f"{vm}#cf:/one/two").status == 0
    assert ipva("fs", "rm", f"{vm}#cf:/one").status == 2
    assert ipva("fs", "rm", "-r", f"{vm}#cf:/one").status == 0
    assert ipva("fs", "ls", f"{vm}#cf:/", "--json").document == []
    assert ipva("fs", "check", f"{vm}#cf").status == 0


def test_format_refuses_a_volume_with_files(ipva: Ipva, vm: Path, tree: Path) -> None:
    """Formatting loses files only with --force."""
    ipva("fs", "put", tree, f"{vm}#cf:/")
    assert ipva("fs", "format", f"{vm}#cf").status == 2
    made = ipva("fs", "format", f"{vm}#cf", "--force", "--fat", "16", "--label", "NEW", "--json")
    assert made.document["fat"] == 16
    assert ipva("fs", "ls", f"{vm}#cf:/", "--json").document == []
    (volume,) = ipva("disk", "info", f"{vm}#cf", "--json").document["volumes"]
    assert volume["label"] == "NEW"


def test_a_full_volume_says_so_and_loses_nothing(ipva: Ipva, vm: Path, tmp_path: Path) -> None:
    """A file that does not fit is refused; what was there stays."""
    small = tmp_path / "small"
    small.write_bytes(b"x" * 1000)
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(100 * 2**20)
    ipva("fs", "put", small, f"{vm}#cf:/")
    full = ipva("fs", "put", big, f"{vm}#cf:/")
    assert full.status == 2
    assert full.err.count("\n") == 1
    names = [each["name"] for each in ipva("fs", "ls", f"{vm}#cf:/", "--json").document]
    assert names == ["small"]
    assert ipva("fs", "check", f"{vm}#cf").status == 0


def test_a_second_writer_is_refused(ipva: Ipva, vm: Path, tmp_path: Path) -> None:
    """While one process writes to a disk, another is told so."""
    from ipva_storage.device import RawDevice

    with RawDevice(vm / "hd-cf.vmdk", writable=True):
        result = ipva("fs", "mkdir", f"{vm}#cf:/new")
    assert result.status == 2
    assert "another process" in result.err


def test_links_to_folders_are_skipped_and_named(ipva: Ipva, vm: Path, tree: Path) -> None:
    """A link that leads back up does not make the copy endless; it is named on stderr."""
    (tree / "up").symlink_to(tree)
    result = ipva("fs", "put", tree, f"{vm}#cf:/")
    assert result.status == 0
    assert "5 files" in result.out
    assert str(tree / "up") in result.err


def test_a_name_that_fat_cannot_hold_is_refused(ipva: Ipva, vm: Path, tmp_path: Path) -> None:
    """A name with a reserved character stops the copy with a line that says which."""
    bad = tmp_path / "what?.txt"
    bad.write_text("x")
    result = ipva("fs", "put", bad, f"{vm}#cf:/")
    assert result.status == 2
    assert "what?.txt" in result.err
    assert ipva("fs", "check", f"{vm}#cf").status == 0


@pytest.mark.parametrize("bad_name", ["z?.txt", "z:b.txt"])
def test_a_refused_put_leaves_the_volume_as_it_was(
    ipva: Ipva, vm: Path, tree: Path, bad_name: str
) -> None:
    """When the last of many files cannot be copied, none is, and the volume is not marked."""
    (tree / bad_name).write_text("x")
    result = ipva("fs", "put", tree, f"{vm}#cf:/")
    assert result.status == 2
    assert bad_name in result.err
    assert ipva("fs", "ls", f"{vm}#cf:/", "--json").document == []
    assert ipva("fs", "check", f"{vm}#cf").out == "nothing wrong was found\n"


def test_names_that_differ_in_case_only_are_refused(ipva: Ipva, vm: Path, tmp_path: Path) -> None:
    """Of two files with one FAT name neither is copied, and both are named."""
    source = tmp_path / "n"
    source.mkdir()
    (source / "Abc").write_text("1")
    (source / "abc").write_text("2")
    result = ipva("fs", "put", source, f"{vm}#cf:/")
    assert result.status == 2
    assert "Abc" in result.err
    assert "abc" in result.err
    assert ipva("fs", "ls", f"{vm}#cf:/", "--json").document == []


def test_ctrl_c_during_put_leaves_the_volume_as_it_was(
    ipva: Ipva, vm: Path, tmp_path: Path
) -> None:
    """Interrupted between two pieces, a copy leaves neither files nor lost clusters."""
    source = tmp_path / "many"
    source.mkdir()
    for index in range(12):
        (source / f"file {index}").write_bytes(bytes([index + 1]) * 4_000_000)
    code = f"""
import os, signal, sys
from ipva_storage.cli import transfer
from ipva_storage.cli.main import main
plain, calls = transfer.read, []
def read(*words):
    calls.append(words)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.SIGINT)
    return plain(*words)
transfer.read = read
main(["fs", "put", {str(source)!r}, {f"{vm}#cf:/"!r}])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done
    assert done.stderr.strip() == "ipva: interrupted; nothing was left half-written"
    assert ipva("fs", "ls", f"{vm}#cf:/", "--json").document == []
    assert ipva("fs", "check", f"{vm}#cf").out == "nothing wrong was found\n"


@pytest.mark.parametrize("disk", ["flash", "dump", "boot"])
def test_fs_format_refuses_a_disk_that_holds_anything(ipva: Ipva, vm: Path, disk: str) -> None:
    """Neither objects, crash dumps nor files are formatted away without --force."""
    before = (vm / f"hd-{disk}.vmdk").read_bytes()
    result = ipva("fs", "format", f"{vm}#{disk}")
    assert result.status == 2
    assert "--force" in result.err
    assert (vm / f"hd-{disk}.vmdk").read_bytes() == before


def test_a_name_with_escapes_is_shown_and_not_obeyed(ipva: Ipva, vm: Path) -> None:
    """What an image calls its files cannot drive the terminal."""
    label = b"\x1b]0;pwn\x07   "
    disk = vm / "hd-cf.vmdk"
    content = bytearray(disk.read_bytes())
    at = content.index(b"CF0        ")
    content[at : at + 11] = label[:11]
    disk.write_bytes(content)
    shown = ipva("info", vm)
    assert "\x1b" not in shown.out
    assert "\x07" not in shown.out
    checked = ipva("fs", "check", f"{vm}#cf")
    assert "\x1b" not in checked.out


@pytest.fixture
def partitioned(tmp_path: Path) -> Path:
    """A disk with three partitions: an empty FAT volume, one with a file, and a Linux one."""
    from ipva_formats import mbr
    from ipva_storage import fat
    from ipva_storage.device import RawDevice, SliceDevice

    image = tmp_path / "partitioned.img"
    with RawDevice.create(image, 40 * 2**20) as device:
        entries = [
            {"kind": kind, "first_sector": first, "length_sectors": 20_000, "state": 0}
            for kind, first in ((6, 2048), (6, 24_000), (0x83, 48_000))
        ]
        table = bytearray(512)
        for index, entry in enumerate(entries):
            at = 446 + 16 * index
            table[at + 4] = entry["kind"]
            table[at + 8 : at + 12] = entry["first_sector"].to_bytes(4, "little")
            table[at + 12 : at + 16] = entry["length_sectors"].to_bytes(4, "little")
        table[510:512] = b"\x55\xaa"
        assert mbr.MBR.parse(bytes(table)).partitions[1].first_sector == 24_000
        device.write(0, table)
        for entry in entries[:2]:
            part = SliceDevice(device, entry["first_sector"] * 512, 20_000 * 512)
            fat.format(part)
        with fat.open(part) as volume:
            volume.write("/kept.txt", b"kept")
        device.write(48_000 * 512, b"not a FAT volume" * 32)
    return image


def test_format_counts_the_files_of_every_partition(ipva: Ipva, partitioned: Path) -> None:
    """A file in the second partition is as safe as one in the first."""
    before = partitioned.read_bytes()
    assert ipva("fs", "format", partitioned).status == 2
    assert partitioned.read_bytes() == before


def test_check_reports_the_partition_table_and_leaves_other_systems_alone(
    ipva: Ipva, partitioned: Path
) -> None:
    """A sound table with a Linux partition is sound; partitions that overlap are a finding."""
    assert ipva("fs", "check", partitioned).out == "nothing wrong was found\n"
    content = bytearray(partitioned.read_bytes())
    content[446 + 12 : 446 + 16] = (30_000).to_bytes(4, "little")
    partitioned.write_bytes(content)
    checked = ipva("fs", "check", partitioned, "--json")
    assert checked.status == 1
    assert "PART002" in {found["id"] for found in checked.document["findings"]}


def test_names_are_compared_one_letter_by_one_letter(ipva: Ipva, vm: Path, tmp_path: Path) -> None:
    """`straße` and `STRASSE` are two files, as for other systems."""
    for name in ("straße.txt", "STRASSE.TXT"):
        (tmp_path / name).write_text(name)
        assert ipva("fs", "put", tmp_path / name, f"{vm}#cf:/").status == 0
    assert ipva("fs", "cat", f"{vm}#cf:/straße.txt").out == "straße.txt"
    assert ipva("fs", "cat", f"{vm}#cf:/STRASSE.TXT").out == "STRASSE.TXT"


def test_an_empty_source_copies_nothing(ipva: Ipva, vm: Path) -> None:
    """An unset variable in a script does not copy the current folder."""
    assert ipva("fs", "put", "", f"{vm}#cf:/").status == 2


def test_rm_of_a_missing_file_removes_nothing(ipva: Ipva, vm: Path, tree: Path) -> None:
    """All names are looked up before the first goes."""
    ipva("fs", "put", tree / "empty", f"{vm}#cf:/")
    assert ipva("fs", "rm", f"{vm}#cf:/empty", f"{vm}#cf:/missing").status == 2
    assert len(ipva("fs", "ls", f"{vm}#cf:/", "--json").document) == 1


def test_mv_renames_moves_and_keeps_times(ipva: Ipva, vm: Path, tmp_path: Path) -> None:
    """`mv` renames, moves into a folder, replaces only by force, and never leaves the disk."""
    file = tmp_path / "note.txt"
    file.write_text("note")
    os.utime(file, (1_000_000_000, 1_000_000_000))
    ipva("fs", "put", file, f"{vm}#cf:/docs/")
    moved = ipva("fs", "mv", f"{vm}#cf:/docs/note.txt", "/docs/Note.TXT", "--json")
    assert moved.document == {"from": "/docs/note.txt", "to": "/docs/Note.TXT"}
    assert ipva("fs", "mv", f"{vm}#cf:/docs/note.txt", f"{vm}#cf:/", "--dry-run").status == 0
    assert ipva("fs", "mv", f"{vm}#cf:/docs/note.txt", f"{vm}#cf:/").status == 0
    ipva("fs", "put", file, f"{vm}#cf:/docs/")
    assert ipva("fs", "mv", f"{vm}#cf:/Note.txt", "/docs").status == 2
    assert ipva("fs", "mv", f"{vm}#cf:/Note.txt", "/docs", "--force").status == 0
    assert ipva("fs", "mv", f"{vm}#cf:/docs", f"{vm}#boot:/docs").status == 2
    assert ipva("fs", "mv", f"{vm}#cf:/docs", "/docs/below").status == 2
    assert ipva("fs", "mv", f"{vm}#cf:/docs", "/Docs").status == 0
    assert ipva("fs", "get", f"{vm}#cf:/Docs/note.txt", tmp_path / "back").status == 0
    assert (tmp_path / "back").stat().st_mtime == 1_000_000_000
    assert ipva("fs", "check", f"{vm}#cf").status == 0


def test_info_tells_kind_room_and_pieces(ipva: Ipva, vm: Path, tree: Path) -> None:
    """`info` gives the contract keys; they agree with the listing."""
    ipva("fs", "put", tree, f"{vm}#cf:/")
    facts = ipva("fs", "info", f"{vm}#cf", "--json").document
    assert set(facts) == {
        *("fat", "label", "volume_id", "sector", "cluster", "size", "used", "free", "bad"),
        *("largest_free", "free_runs", "files", "folders", "fragmented", "clean", "errors"),
    }
    assert (facts["files"], facts["folders"], facts["fragmented"]) == (5, 3, 0)
    assert (facts["clean"], facts["errors"]) == (True, False)
    assert facts["used"] + facts["free"] == facts["size"]
    assert facts["largest_free"] <= facts["free"]
    shown = ipva("fs", "info", f"{vm}#cf")
    assert "5 in 4 folders" in shown.out
    assert "clean" in shown.out


def test_label_is_shown_set_and_removed(ipva: Ipva, vm: Path) -> None:
    """`label` shows, sets and removes the label; a dry run does not."""
    assert ipva("fs", "label", f"{vm}#cf", "new", "--json").document == {"label": "NEW"}
    assert ipva("fs", "label", f"{vm}#cf", "other", "--dry-run").out == "OTHER\n"
    assert ipva("fs", "label", f"{vm}#cf").out == "NEW\n"
    assert ipva("fs", "check", f"{vm}#cf").status == 0
    assert ipva("fs", "label", f"{vm}#cf", "--remove", "--json").document == {"label": None}
    assert ipva("fs", "label", f"{vm}#cf", "much too long").status == 2
    assert ipva("fs", "check", f"{vm}#cf").status == 0


def test_what_changes_a_disk_can_be_taken_back(ipva: Ipva, vm: Path, tree: Path) -> None:
    """`put`, `mkdir`, `mv`, `label` and `rm` save what they overwrite, and `undo` restores it."""
    ipva("fs", "put", tree, f"{vm}#cf:/")
    disk = vm / "hd-cf.vmdk"
    commands = (
        ("fs", "put", tree, f"{vm}#cf:/again"),
        ("fs", "mkdir", f"{vm}#cf:/made"),
        ("fs", "mv", f"{vm}#cf:/tree/sub", "/sub"),
        ("fs", "label", f"{vm}#cf", "NEW"),
        ("fs", "rm", "-r", f"{vm}#cf:/tree"),
    )
    for number, command in enumerate(commands):
        before = disk.read_bytes()
        journal = vm / f"{number}.undo"
        done = ipva(*command, "--undo", journal)
        assert done.status == 0, done.err
        assert "ipva undo" in done.out
        assert disk.read_bytes() != before
        assert ipva("fs", "check", f"{vm}#cf").status == 0
        assert ipva("undo", journal).status == 0
        assert disk.read_bytes() == before
    failed = ipva("fs", "rm", f"{vm}#cf:/tree", "--undo", vm / "failed.undo")
    assert failed.status == 2
    assert not (vm / "failed.undo").exists()
    assert disk.read_bytes() == before


def test_code_page_of_short_names(ipva: Ipva, tmp_path: Path) -> None:
    """Short names are read in the code page that is given; one that there is not is refused."""
    from ipva_storage import fat
    from ipva_storage.device import RawDevice
    from ipva_storage.fat.folder import pack_entry

    image = tmp_path / "volume.img"
    with RawDevice.create(image, 2**20) as device:
        fat.format(device)
        moment = datetime(2024, 5, 6)
        record = pack_entry(
            b"\x9f\x99      TXT", attributes=32, created=moment, modified=moment, cluster=0
        )
        device.write(fat.open(device).geometry.root_offset_bytes, record)
    for code_page, name in (("cp437", "ƒÖ.TXT"), ("cp850", "ƒÖ.TXT"), ("cp852", "čÖ.TXT")):
        (entry,) = ipva("fs", "ls", f"{image}:/", "--code-page", code_page, "--json").document
        assert entry["name"] == name
        assert ipva("fs", "cat", f"{image}:/{name}", "--code-page", code_page).status == 0
    (entry,) = ipva("fs", "ls", f"{image}:/", "--code-page", "cp932", "--json").document
    assert entry["name"].endswith(".TXT")
    refused = ipva("fs", "ls", f"{image}:/", "--code-page", "cp9999")
    assert refused.status == 2
    assert "cp850" in refused.err


def test_format_makes_what_is_asked_for(ipva: Ipva, tmp_path: Path) -> None:
    """Options reach the volume; a disk with a partition table is told as such."""
    image, code = tmp_path / "disk.img", tmp_path / "code.bin"
    code.write_bytes(b"\xeb\xfe")
    image.write_bytes(bytes(20 << 20))
    options = ["--fat", "16", "--cluster-size", "1K", "--sector-size", "1K", "--reserved", "4"]
    options += ["--fats", "1", "--root-entries", "256", "--volume-id", "1234-abcd", "--partition"]
    made = ipva("fs", "format", image, *options, "--boot-code", code, "--label", "x", "--json")
    assert made.document["fat"] == 16
    assert made.document["cluster"] == 1024
    assert made.document["partitioned"] is True
    volume = image.read_bytes()[1 << 20 :]
    assert volume[39:43] == bytes.fromhex("cdab3412")
    assert volume[62:65] == b"\xeb\xfe\0"
    assert ipva("fs", "check", image).status == 0


@pytest.mark.parametrize(
    "options",
    [["--volume-id", "123456789"], ["--volume-id", "xyz"], ["--cluster-size", "no"],
     ["--boot-code", "/nowhere"], ["--root-entries", "0"], ["--fats", "99"]],
)  # fmt: skip
def test_format_refuses_what_cannot_be(ipva: Ipva, tmp_path: Path, options: list[str]) -> None:
    """A wish that no volume fulfils leaves the disk alone."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    assert ipva("fs", "format", image, *options).status == 2
    assert not any(image.read_bytes())


def test_format_and_put_come_out_the_same(
    ipva: Ipva, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With SOURCE_DATE_EPOCH an image with files is the same every time."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    source = tmp_path / "A long name.txt"
    found = []
    for number in range(2):
        source.write_bytes(b"content")
        os.utime(source, (1_800_000_000 + number * 100,) * 2)
        image = tmp_path / f"{number}.img"
        image.write_bytes(bytes(1 << 20))
        assert ipva("fs", "format", image, "--label", "x").status == 0
        assert ipva("fs", "put", source, f"{image}:/").status == 0
        found.append(image.read_bytes())
    assert found[0] == found[1]
