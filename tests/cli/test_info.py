"""`ipva info` where something is wrong, and what it says of sizes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Ipva = Callable[..., Any]


def edit(vm: Path, old: str, new: str) -> None:
    """Change the .vmx."""
    text = (vm / "ipva.vmx").read_text()
    assert old in text
    (vm / "ipva.vmx").write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("new", "ram", "text"),
    [
        ('memsize = "9"', 9 << 20, "20 MiB or more"),
        ('memsize = "lots"', None, "“lots” is no number"),
        ("", None, "there is no memsize"),
    ],
)
def test_an_unusable_ram_size_is_said_beside_the_disks(
    ipva: Ipva, vm: Path, new: str, ram: int | None, text: str
) -> None:
    """Status 1; every disk is shown all the same, its usable segments unknown."""
    edit(vm, 'memsize = "64"', new)
    result = ipva("info", vm, "--json")
    assert result.status == 1
    facts = result.document
    assert (facts["ram"], facts["segments"]) == (ram, None)
    assert text in facts["error"]
    assert [disk["role"] for disk in facts["disks"]] == ["boot", "cf", "flash", "dump"]
    assert not any("error" in disk for disk in facts["disks"])
    use = facts["disks"][2]["flash"]
    assert use["segments"]["usable"] is None
    assert "fits" not in use
    shown = ipva("info", vm)
    assert shown.status == 1
    assert text in shown.out
    assert "0 segments in use" in shown.out
    assert "hd-dump.vmdk" in shown.out


def test_an_unreadable_volume_is_a_problem(ipva: Ipva, vm: Path) -> None:
    """A cut card: status 1 for the VM and for the disk, and the reason beside the volume."""
    os.truncate(vm / "hd-cf.vmdk", 150_000)
    for target in (vm, vm / "hd-cf.vmdk"):
        result = ipva("info", target)
        assert result.status == 1
        assert "unreadable: " in result.out
        assert ipva("info", target, "--json").status == 1


def test_content_beyond_the_ram_is_said_with_the_way_to_see_it(ipva: Ipva, vm: Path) -> None:
    """`fits` is false, and the command shown lists the objects."""
    assert ipva("info", vm, "--json").document["disks"][2]["flash"]["fits"] is True
    for name in ("a", "b"):
        assert ipva("flash", "put", vm, name, "--value", "x" * 60_000).status == 0
    edit(vm, 'memsize = "64"', 'memsize = "20"')
    assert ipva("info", vm, "--json").document["disks"][2]["flash"]["fits"] is False
    shown = ipva("info", vm).out
    assert "may use 1 segment\n" in shown
    (line,) = [line for line in shown.splitlines() if "the next boot loses objects" in line]
    command = line.partition("ipva ")[2].split()
    assert "lost: " in ipva(*command).out


@pytest.mark.skipif(not hasattr(os.stat_result, "st_blocks"), reason="the host counts no blocks")
def test_holes_of_a_flat_disk_are_not_counted(ipva: Ipva, tmp_path: Path) -> None:
    """What a disk takes on the host is shown; `file_size` stays the length of its files."""
    flat = tmp_path / "flat"
    made = ipva("new", flat, "--cf-size", "1G", "--subformat", "monolithicFlat")
    assert made.status == 0
    target = flat / "hd-cf.vmdk"
    facts = ipva("info", target, "--json").document
    assert facts["file_size"] > 1 << 30
    assert 0 < facts["allocated_size"] < 64 << 20
    assert "1.0 GiB on the host" not in ipva("info", target).out
    (flat / "hd-cf-flat.vmdk").rename(flat / "elsewhere")
    assert ipva("info", target).status == 2


def test_a_descriptor_cannot_make_info_look_elsewhere(ipva: Ipva, vm: Path) -> None:
    """A sparse disk takes what its file takes, whatever name its descriptor has."""
    path = vm / "hd-cf.vmdk"
    content = path.read_bytes()
    assert b'"hd-cf.vmdk"' in content
    path.write_bytes(content.replace(b'"hd-cf.vmdk"', b'"../.x.vmdk"'))
    facts = ipva("info", path, "--json").document
    assert facts["allocated_size"] == path.stat().st_blocks * 512


@pytest.mark.parametrize("label", ["\x1b[2J", "\x9b2J"])
def test_a_label_is_shown_without_what_a_terminal_obeys(
    ipva: Ipva, vm: Path, tmp_path: Path, label: str
) -> None:
    """A volume's label is input."""
    image = tmp_path / "card.img"
    assert ipva("disk", "convert", "-O", "raw", f"{vm}#cf", image).status == 0
    content = image.read_bytes()
    assert content.count(b"CF0        ") >= 1
    image.write_bytes(content.replace(b"CF0        ", label.encode("latin-1").ljust(11)))
    result = ipva("info", image)
    assert result.status in (0, 1)
    assert "label" in result.out
    assert "\x1b" not in result.out
    assert "\x9b" not in result.out


def test_a_person_may_name_what_no_machine_attaches(ipva: Ipva, vm: Path, tmp_path: Path) -> None:
    """A link, a name with a colon, the data of a flat disk, and an image cut within a sector."""
    assert ipva("disk", "convert", f"{vm}#boot", tmp_path / "a:b.img", "-O", "raw").status == 2
    assert ipva("disk", "convert", f"{vm}#boot", tmp_path / "b.img", "-O", "raw").status == 0
    (tmp_path / "b.img").rename(tmp_path / "a:b.img")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "card.img").symlink_to(tmp_path / "a:b.img")
    shutil.copy(tmp_path / "a:b.img", tmp_path / "b-flat.vmdk")
    shutil.copy(tmp_path / "a:b.img", tmp_path / "cut.img")
    os.truncate(tmp_path / "cut.img", (10 << 20) + 7)
    expected = ipva("info", f"{vm}#boot", "--json").document["volumes"]
    for name in ("a:b.img", "links/card.img", "b-flat.vmdk"):
        shown = ipva("info", tmp_path / name, "--json")
        assert shown.status == 0, shown.err
        assert shown.document["volumes"] == expected
    cut = ipva("disk", "info", tmp_path / "cut.img", "--json").document
    assert (cut["virtual_size"], cut["volumes"][0]["label"]) == ((10 << 20) + 7, "HD-BOOT")


def test_a_disk_of_many_tables_is_not_read_through(tmp_path: Path) -> None:
    """Of a VMDK of 64 GiB with a grain in every table, `info` reads directories and few tables."""
    from ipva_storage import fat, vmdk
    from ipva_storage.cli import facts
    from ipva_storage.device import BlockDevice, Folder, RawDevice, TraceDevice

    def fill(disk: BlockDevice) -> None:
        fat.format(disk, label="BIG")
        for at in range(32 << 20, 64 << 30, 32 << 20):
            disk.write(at, b"x")

    folder = Folder(tmp_path)
    vmdk.create(folder, "big.vmdk", 64 << 30, fill=fill)
    traced = TraceDevice(RawDevice(tmp_path / "big.vmdk"))
    with vmdk.open(traced, folder) as disk:
        told = facts.disk(disk)
    assert told["volumes"][0]["label"] == "BIG"
    assert traced.work.read_bytes < 256 << 10  # the tables have 8 MiB
