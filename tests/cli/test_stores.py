"""`ipva flash`, `ipva dump` and `ipva disk`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Ipva = Callable[..., Any]


def test_objects_go_in_and_come_out(ipva: Ipva, vm: Path, tmp_path: Path) -> None:
    """An object stored from a value or a file is listed and read back."""
    value = "(cn=Alice)(h323=alice)"
    assert ipva("flash", "put", vm, "alice", "--value", value).status == 0
    blob = tmp_path / "blob"
    blob.write_bytes(bytes(range(256)) * 400)
    assert ipva("flash", "put", vm, "blob", blob).status == 0
    assert ipva("flash", "get", vm, "alice").out == value
    assert ipva("flash", "get", vm, "blob", tmp_path / "back").status == 0
    assert (tmp_path / "back").read_bytes() == blob.read_bytes()
    assert ipva("flash", "ls", vm, "--json").document == [
        {"name": "alice", "size": len(value)},
        {"name": "blob", "size": 102_400},
    ]
    assert ipva("flash", "info", vm, "--json").document["objects"] == 2
    assert ipva("flash", "check", vm).status == 0


def test_rm_removes_all_or_none(ipva: Ipva, vm: Path) -> None:
    """A missing name stops the whole removal."""
    ipva("flash", "put", vm, "a", "--value", "1")
    ipva("flash", "put", vm, "b", "--value", "2")
    refused = ipva("flash", "rm", vm, "a", "missing")
    assert refused.status == 2
    assert "missing" in refused.err
    assert len(ipva("flash", "ls", vm, "--json").document) == 2
    assert ipva("flash", "rm", vm, "a", "b").status == 0
    assert ipva("flash", "ls", vm, "--json").document == []


def test_a_missing_object_names_the_way_out(ipva: Ipva, vm: Path) -> None:
    """`get` of an unknown name says how to see the names."""
    result = ipva("flash", "get", vm, "nobody")
    assert result.status == 2
    assert "flash ls" in result.err


def test_format_refuses_a_flash_with_objects(ipva: Ipva, vm: Path) -> None:
    """The flash is emptied only with --force while it holds objects."""
    ipva("flash", "put", vm, "a", "--value", "1")
    assert ipva("flash", "format", vm).status == 2
    assert ipva("flash", "format", vm, "--force").status == 0
    assert ipva("flash", "ls", vm, "--json").document == []
    assert ipva("boot", vm).status == 0


def test_an_empty_disk_in_place_of_the_flash_is_a_factory_reset(ipva: Ipva, vm: Path) -> None:
    """The vendor's procedure: a blank hd-flash boots to an empty directory."""
    from ipva_storage import vmdk
    from ipva_storage.device import Folder

    ipva("flash", "put", vm, "a", "--value", "1")
    vmdk.create(Folder(vm), "hd-flash.vmdk", 100 * 2**20, force=True)
    assert ipva("boot", vm).status == 0
    assert ipva("flash", "ls", vm, "--json").document == []


def test_dumps_are_added_listed_and_shown(ipva: Ipva, vm: Path, tmp_path: Path) -> None:
    """A dump survives, with its text, kind and sequence."""
    text = tmp_path / "trap.txt"
    text.write_text("trap at 0x1234\n")
    assert ipva("dump", "list", vm).out == "no crash dumps\n"
    assert ipva("dump", "show", vm).status == 2
    assert ipva("dump", "add", vm, text).status == 0
    text.write_text("reboot\n")
    assert ipva("dump", "add", vm, text, "--kind", "reboot").status == 0
    first, second = ipva("dump", "list", vm, "--json").document
    assert first["kind"] == "trap"
    assert second["kind"] == "reboot"
    assert first["valid"] is True
    assert first["time"].endswith("Z")
    assert ipva("dump", "show", vm).out == "reboot\n"
    assert ipva("dump", "show", vm, first["sequence"]).out == "trap at 0x1234\n"
    assert ipva("dump", "clear", vm).status == 0
    assert ipva("dump", "list", vm, "--json").document == []


@pytest.mark.parametrize("kind", ["raw", "monolithicSparse", "monolithicFlat"])
def test_convert_keeps_every_byte(ipva: Ipva, vm: Path, tmp_path: Path, kind: str) -> None:
    """A disk converted and back is the same, and stays small on the host."""
    suffix = "img" if kind == "raw" else "vmdk"
    there = tmp_path / f"there.{suffix}"
    assert ipva("disk", "convert", f"{vm}#boot", there, "-O", kind).status == 0
    assert ipva("disk", "convert", there, tmp_path / "back.img", "-O", "raw").status == 0
    assert ipva("disk", "convert", f"{vm}#boot", tmp_path / "straight.img", "-O", "raw").status == 0
    assert (tmp_path / "back.img").read_bytes() == (tmp_path / "straight.img").read_bytes()
    assert (tmp_path / "back.img").stat().st_blocks * 512 < 4 * 2**20


def test_convert_onto_itself_or_an_existing_file_is_refused(
    ipva: Ipva, vm: Path, tmp_path: Path
) -> None:
    """Neither the input nor another file is overwritten."""
    same = ipva("disk", "convert", f"{vm}#boot", vm / "hd-boot.vmdk", "-O", "raw", "--force")
    assert same.status == 2
    other = tmp_path / "other.img"
    other.write_text("mine")
    assert ipva("disk", "convert", f"{vm}#boot", other, "-O", "raw").status == 2
    assert other.read_text() == "mine"


def test_info_of_a_vm_names_what_each_disk_holds(ipva: Ipva, vm: Path) -> None:
    """The four disks show volumes, flash use and dumps."""
    disks = {disk["role"]: disk for disk in ipva("info", vm, "--json").document["disks"]}
    assert disks["boot"]["volumes"][0]["kind"] == "FAT16"
    assert disks["cf"]["volumes"][0]["label"] == "CF0"
    assert disks["flash"]["flash"]["objects"] == 0
    assert disks["dump"]["dumps"]["count"] == 0
    assert disks["flash"]["virtual_size"] == 100 * 2**20


def test_info_of_a_vm_with_a_missing_disk_says_which(ipva: Ipva, vm: Path) -> None:
    """The other disks are shown all the same; the status is 1."""
    (vm / "hd-dump.vmdk").unlink()
    result = ipva("info", vm, "--json")
    assert result.status == 1
    errors = [disk["role"] for disk in result.document["disks"] if "error" in disk]
    assert errors == ["dump"]


@pytest.mark.parametrize("disk", ["cf", "boot", "dump"])
def test_flash_format_refuses_another_disk(ipva: Ipva, vm: Path, disk: str) -> None:
    """A disk with files or dumps is not made a flash disk without --force."""
    before = (vm / f"hd-{disk}.vmdk").read_bytes()
    result = ipva("flash", "format", f"{vm}#{disk}")
    assert result.status == 2
    assert (vm / f"hd-{disk}.vmdk").read_bytes() == before


def test_format_refuses_what_it_does_not_recognise(ipva: Ipva, tmp_path: Path) -> None:
    """A flash image that is not ours, such as a real appliance's, is kept; a blank one is not."""
    image = tmp_path / "real.img"
    image.write_bytes(bytes(1 << 20) + b"a real one" + bytes(100 << 20))
    assert ipva("flash", "format", image).status == 2
    assert ipva("dump", "format", image).status == 2
    assert ipva("fs", "format", image).status == 2
    image.write_bytes(bytes(100 << 20))
    assert ipva("flash", "format", image).status == 0
    assert ipva("flash", "ls", image, "--json").document == []


def test_a_dump_disk_that_is_lost_can_be_made_anew(ipva: Ipva, vm: Path) -> None:
    """`dump format` refuses while there are dumps; with --force it ends with an empty disk."""
    assert ipva("dump", "add", vm, __file__).status == 0
    assert ipva("dump", "format", vm).status == 2
    assert ipva("dump", "format", vm, "--force").status == 0
    assert ipva("dump", "list", vm, "--json").document == []
    assert ipva("dump", "format", vm).status == 0


@pytest.mark.parametrize("name", ["ünïcode", "\udcff\udcfe", "new\nline", "\x1b]0;x\x07"])
def test_any_name_can_be_stored_and_is_shown_as_text(ipva: Ipva, vm: Path, name: str) -> None:
    """Names are bytes as typed, UTF-8 or not; listings show them without obeying them."""
    assert ipva("flash", "put", vm, name, "--value", "1").status == 0
    listed = ipva("flash", "ls", vm)
    assert listed.status == 0
    assert "\x1b" not in listed.out
    assert listed.out.count("\n") == 1
    assert ipva("flash", "get", vm, name).out == "1"
    assert ipva("flash", "rm", vm, name).status == 0


def test_an_empty_dump_or_one_that_is_too_long_is_refused(
    ipva: Ipva, vm: Path, tmp_path: Path
) -> None:
    """A record has text, and at most 1 MiB of it."""
    text = tmp_path / "text"
    text.write_bytes(b"")
    assert ipva("dump", "add", vm, text).status == 2
    text.write_bytes(b"x" * (2**20 + 1))
    assert ipva("dump", "add", vm, text).status == 2
    text.write_bytes(b"x" * 2**20)
    assert ipva("dump", "add", vm, text, "--dry-run").out.startswith("would add dump")
    assert ipva("dump", "add", vm, text).status == 0


def test_convert_into_a_folder_that_is_not_there_is_refused(
    ipva: Ipva, vm: Path, tmp_path: Path
) -> None:
    """A typo in the path makes no folders."""
    result = ipva("disk", "convert", f"{vm}#boot", tmp_path / "nowhere" / "x.img", "-O", "raw")
    assert result.status == 2
    assert not (tmp_path / "nowhere").exists()


def test_a_full_flash_can_always_be_deleted_from(ipva: Ipva, tmp_path: Path) -> None:
    """At the minimum of RAM, filled to the last byte, one name and many names can be removed."""
    vm = tmp_path / "small"
    assert ipva("new", vm, "--ram", "20", "--cf-size", "64M").status == 0
    stored = []
    for size_bytes in (3000, 0):
        for number in range(2000):
            name = f"{size_bytes}-{number}"
            done = ipva("flash", "put", vm, name, "--value", "x" * size_bytes)
            if done.status:
                assert "full" in done.err or "left" in done.err
                break
            stored.append(name)
    assert len(stored) > 20
    assert ipva("flash", "rm", vm, stored[-1]).status == 0
    assert ipva("flash", "rm", vm, *stored[:-1]).status == 0
    assert ipva("flash", "ls", vm, "--json").document == []
    assert ipva("flash", "check", vm).status == 0


def test_a_disk_that_is_being_written_to_is_not_replaced(
    ipva: Ipva, vm: Path, tmp_path: Path
) -> None:
    """--force replaces files, and no writer's disk under its hands."""
    from ipva_storage.device import RawDevice

    before = (vm / "hd-cf.vmdk").read_bytes()
    with RawDevice(vm / "hd-cf.vmdk", writable=True):
        disk = vm / "hd-cf.vmdk"
        convert = ipva("disk", "convert", f"{vm}#boot", disk, "-O", "monolithicSparse", "--force")
        new = ipva("new", vm, "--force")
    assert convert.status == 2
    assert "another process" in convert.err
    assert new.status == 2
    assert (vm / "hd-cf.vmdk").read_bytes() == before
    assert ipva("boot", vm).status == 0


def test_nothing_is_copied_onto_the_disk_that_it_is_read_from(ipva: Ipva, vm: Path) -> None:
    """Not even with --force."""
    ipva("flash", "put", vm, "a", "--value", "1")
    flash, boot = (vm / "hd-flash.vmdk").read_bytes(), (vm / "hd-boot.vmdk").read_bytes()
    assert ipva("flash", "get", vm, "a", vm / "hd-flash.vmdk", "--force").status == 2
    got = ipva("fs", "get", f"{vm}#boot:/ipva.bin", vm / "hd-boot.vmdk", "--force")
    assert got.status == 2
    assert (vm / "hd-flash.vmdk").read_bytes() == flash
    assert (vm / "hd-boot.vmdk").read_bytes() == boot


@pytest.mark.parametrize("kind", ["monolithicSparse", "monolithicFlat"])
def test_a_vmdk_name_that_is_no_text_is_refused(
    ipva: Ipva, vm: Path, tmp_path: Path, kind: str
) -> None:
    """A descriptor holds the name, so that has to be UTF-8."""
    result = ipva("disk", "convert", f"{vm}#boot", tmp_path / "\udce9.vmdk", "-O", kind)
    assert result.status == 2
    assert "UTF-8" in result.err
    assert [each.name for each in tmp_path.iterdir()] == ["vm"]
