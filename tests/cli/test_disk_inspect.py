"""`ipva disk info, check, map, diff`: looking at images, and leaving a folder."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipva_storage import vmdk
from ipva_storage.cli import output
from ipva_storage.cli.disk import make as making
from ipva_storage.device import BlockDevice, Folder, RawDevice
from ipva_storage.units import KIB, MIB
from ipva_storage.vmdk.codec import DEFAULT_LEVEL

Ipva = Callable[..., Any]

SIZE_BYTES = 8 * MIB


def islands(disk: BlockDevice) -> None:
    """Three runs of data, from the start to the end."""
    chance = random.Random(3)
    for offset_bytes, length_bytes in ((0, 100 * KIB), (3 * MIB, 256 * KIB), (7 * MIB, MIB)):
        disk.write(offset_bytes, chance.randbytes(length_bytes))


def make(path: Path, kind: str = "monolithicSparse", size_bytes: int = SIZE_BYTES) -> Path:
    """A VMDK with the islands."""
    vmdk.create(Folder(path.parent), path.name, size_bytes, subformat=kind, fill=islands)
    return path


def child_of(parent: Path, name: str) -> Path:
    """A snapshot's child over a disk, with a change of its own."""
    folder = Folder(parent.parent)
    vmdk.snapshot(folder, parent.name, name)
    with vmdk.open(folder.open(name, writable=True), folder, writable=True) as disk:
        disk.write(5 * MIB, b"changed" * 1000)
    return parent.parent / name


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A descriptor whose extent lies in another folder."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    disk = make(tmp_path / "here" / "disk.vmdk", "monolithicFlat")
    (tmp_path / "here" / "disk-flat.vmdk").rename(tmp_path / "there" / "disk-flat.vmdk")
    text = disk.read_text().replace('"disk-flat.vmdk"', '"../there/disk-flat.vmdk"')
    disk.write_text(text)
    return disk


def test_the_names_in_help_are_those_of_the_library() -> None:
    """Kinds, adapters and the level are written twice, so that help is light, and are the same."""
    assert output.REWRITABLE == vmdk.REWRITABLE
    assert output.SUBFORMATS == vmdk.SUBFORMATS
    assert output.ADAPTERS == vmdk.ADAPTERS
    assert making.DEFAULT_LEVEL == DEFAULT_LEVEL


@pytest.mark.parametrize("kind", vmdk.SUBFORMATS)
def test_info_names_all_files_of_a_disk(ipva: Ipva, tmp_path: Path, kind: str) -> None:
    """The descriptor's file comes first; sizes are those of the disk and of all its files."""
    disk = make(tmp_path / "disk.vmdk", kind)
    facts = ipva("disk", "info", disk, "--json").document
    assert facts["format"] == kind
    assert facts["virtual_size"] == SIZE_BYTES
    assert facts["files"][0] == str(disk)
    assert sorted(facts["files"]) == sorted(map(str, tmp_path.iterdir()))
    assert facts["file_size"] == sum(each.stat().st_size for each in tmp_path.iterdir())
    assert facts["parents"] == []


def test_info_names_the_disks_below_a_child(ipva: Ipva, tmp_path: Path) -> None:
    """The next one first."""
    base = make(tmp_path / "base.vmdk")
    child_of(base, "one.vmdk")
    two = child_of(tmp_path / "one.vmdk", "two.vmdk")
    facts = ipva("disk", "info", two, "--json").document
    assert facts["parents"] == [str(tmp_path / "one.vmdk"), str(base)]
    assert f"below it: {tmp_path / 'one.vmdk'}, {base}" in ipva("disk", "info", two).out


def test_check_counts_errors_and_names_the_disk_in_its_advice(ipva: Ipva, tmp_path: Path) -> None:
    """A grain outside the file is an error, status 1; what mends it is a command to be typed."""
    disk = make(tmp_path / "disk.vmdk")
    with disk.open("r+b") as file:
        file.truncate(disk.stat().st_size - 128 * KIB)
    result = ipva("disk", "check", disk, "--json")
    assert result.status == 1
    assert result.document["errors"] >= 1
    assert result.document["leaks"] == 0
    repairs = [each["repair"] for each in result.document["findings"]]
    assert f"ipva disk repair {disk}" in repairs
    assert "DISK" not in ipva("disk", "check", disk).out


def test_check_counts_grains_in_no_use(ipva: Ipva, tmp_path: Path) -> None:
    """Space that nothing names is a leak of so many grains and bytes, and no problem: status 0."""
    disk = make(tmp_path / "disk.vmdk")
    assert ipva("disk", "check", disk, "--json").document["leaks"] == 0
    with disk.open("ab") as file:
        file.write(bytes(3 * 64 * KIB))
    result = ipva("disk", "check", disk, "--json")
    assert result.status == 0
    assert result.document["errors"] == 0
    assert result.document["leaks"] == 3
    assert result.document["leaked_bytes"] == 3 * 64 * KIB
    assert f"ipva disk compact {disk}" in ipva("disk", "check", disk).out


def test_check_follows_the_parents(ipva: Ipva, tmp_path: Path) -> None:
    """A parent that was written to after the snapshot is an error of the child."""
    base = make(tmp_path / "base.vmdk")
    child = child_of(base, "child.vmdk")
    assert ipva("disk", "check", child).status == 0
    folder = Folder(tmp_path)
    with vmdk.open(folder.open("base.vmdk", writable=True), folder, writable=True) as disk:
        disk.write(0, b"x")
    (found,) = ipva("disk", "check", child, "--json").document["findings"]
    assert found["id"] == "VMDK032"
    assert str(child) in found["repair"]


def test_check_refuses_what_is_no_image(ipva: Ipva, tmp_path: Path) -> None:
    """A raw image has no structure; a file that is named .vmdk and is none is refused."""
    image = tmp_path / "disk.img"
    image.write_bytes(b"raw" * 1000)
    assert ipva("disk", "check", image).status == 0
    image = image.rename(tmp_path / "disk.vmdk")
    assert ipva("disk", "check", image).status == 2


@pytest.mark.parametrize("kind", ["monolithicSparse", "streamOptimized"])
def test_check_of_a_lost_start_says_what_mends_it(ipva: Ipva, tmp_path: Path, kind: str) -> None:
    """A zeroed header is a finding; what looks through it is refused; both name one command."""
    disk = make(tmp_path / "disk.vmdk", kind)
    with disk.open("r+b") as file:
        file.write(bytes(512))
    result = ipva("disk", "check", disk, "--json")
    assert (result.status, result.document["errors"]) == (1, 1)
    assert result.document["findings"][0]["repair"] == f"ipva disk repair {disk}"
    result = ipva("disk", "info", disk, "--json")
    assert result.status == 2
    assert result.document["error"]["remedy"].endswith(f": ipva disk repair {disk}")


@pytest.mark.parametrize("kind", ["raw", *vmdk.SUBFORMATS])
def test_map_covers_the_disk(ipva: Ipva, tmp_path: Path, kind: str) -> None:
    """Runs follow each other from the first byte to the last, and the islands are data."""
    source, disk = make(tmp_path / "source.vmdk"), tmp_path / "disk.img"
    assert ipva("disk", "convert", source, disk, "-O", kind).status == 0
    runs = ipva("disk", "map", disk, "--json").document
    at = 0
    for run in runs:
        assert set(run) == {"offset", "length", "data"}
        assert run["offset"] == at
        at += run["length"]
    assert at == SIZE_BYTES
    for place in (0, 3 * MIB, 8 * MIB - 1):
        (run,) = (each for each in runs if 0 <= place - each["offset"] < each["length"])
        assert run["data"]
    assert sum(run["length"] for run in runs if run["data"]) < 2 * MIB


def test_map_for_people_is_a_table(ipva: Ipva, tmp_path: Path) -> None:
    """Each run is a line, and the last line says how much is data."""
    lines = ipva("disk", "map", make(tmp_path / "disk.vmdk")).out.splitlines()
    assert lines[0].split() == ["offset", "length"]
    assert lines[1].split() == ["0", str(128 * KIB), "data"]
    assert lines[2].split()[2] == "hole"
    assert lines[-1].startswith("1.4 MiB of 8.0 MiB are data")


def wreck_tables(disk: Path) -> None:
    """Let both copies of the second grain table of a sparse disk lie outside the file."""
    content = bytearray(disk.read_bytes())
    for at in (48, 56):
        directory = int.from_bytes(content[at : at + 8], "little") * 512
        content[directory + 4 : directory + 8] = b"\xff\xff\xff\x7f"
    disk.write_bytes(content)


def test_a_map_that_fails_is_one_document(ipva: Ipva, tmp_path: Path) -> None:
    """Where a table is lost, --json prints the error and not the beginning of a list."""
    disk = make(tmp_path / "disk.vmdk", size_bytes=80 * MIB)
    wreck_tables(disk)
    result = ipva("disk", "map", disk, "--json")
    assert result.status == 2
    assert set(result.document) == {"error"}


def test_diff_of_equal_disks_of_two_kinds(ipva: Ipva, tmp_path: Path) -> None:
    """What they read as counts, and not how it is kept."""
    one = make(tmp_path / "one.vmdk", "streamOptimized")
    other = make(tmp_path / "other.vmdk", "twoGbMaxExtentFlat")
    result = ipva("disk", "diff", one, other)
    assert result.status == 0
    assert result.out == "they are equal: 8.0 MiB\n"
    assert ipva("disk", "diff", one, other, "--json").document == {
        "equal": True,
        "sizes": [SIZE_BYTES, SIZE_BYTES],
        "bytes": 0,
        "ranges": [],
    }


def test_diff_gives_the_ranges_in_sectors(ipva: Ipva, tmp_path: Path) -> None:
    """Neighbours are one range, a longer disk's rest is one, and the status is 1."""
    disk, image = make(tmp_path / "disk.vmdk"), tmp_path / "disk.img"
    ipva("disk", "convert", disk, image, "-O", "raw")
    with RawDevice(image, writable=True) as raw:
        raw.write(1000, b"xx" * 300)
        raw.write(4 * MIB, b"y")
        raw.resize(SIZE_BYTES + MIB)
    result = ipva("disk", "diff", disk, image, "--json")
    assert result.status == 1
    assert result.document == {
        "equal": False,
        "sizes": [SIZE_BYTES, SIZE_BYTES + MIB],
        "bytes": 4 * 512 + MIB,
        "ranges": [
            {"offset": 512, "length": 1536},
            {"offset": 4 * MIB, "length": 512},
            {"offset": SIZE_BYTES, "length": MIB},
        ],
    }
    shown = ipva("disk", "diff", disk, image).out
    assert f"{disk} has 8.0 MiB" in shown
    assert f"{image} has 9.0 MiB" in shown


def test_diff_shows_fifty_ranges_and_counts_the_rest(ipva: Ipva, tmp_path: Path) -> None:
    """JSON has all of them."""
    disk, image = make(tmp_path / "disk.vmdk"), tmp_path / "disk.img"
    ipva("disk", "convert", disk, image, "-O", "raw")
    with RawDevice(image, writable=True) as raw:
        for number in range(70):
            raw.write(MIB + number * 4096, b"z")
    shown = ipva("disk", "diff", disk, image)
    assert shown.out.count("at byte") == 50
    assert "and 20 more" in shown.out
    assert len(ipva("disk", "diff", disk, image, "--json").document["ranges"]) == 70


def test_a_diff_that_cannot_be_read_is_refused(ipva: Ipva, tmp_path: Path) -> None:
    """Status 2 with one document, though differences were found before."""
    one, other = make(tmp_path / "one.vmdk", size_bytes=80 * MIB), tmp_path / "other.img"
    RawDevice.create(other, 80 * MIB).close()
    wreck_tables(one)
    result = ipva("disk", "diff", one, other, "--json")
    assert result.status == 2
    assert set(result.document) == {"error"}


def commands(disk: Path, folder: Path) -> list[list[object]]:
    """Every command that opens a disk, with that disk."""
    return [
        ["info", disk],
        ["map", disk],
        ["diff", disk, disk],
        ["convert", disk, folder / "out.img", "-O", "raw"],
        ["compact", disk],
        ["resize", disk, "+1M"],
        ["snapshot", "create", disk, "child.vmdk"],
    ]


def test_extents_elsewhere_are_followed_only_when_allowed(
    ipva: Ipva, outside: Path, tmp_path: Path
) -> None:
    """Without --allow-outside each command refuses and names it; with it each does its job."""
    for words in commands(outside, tmp_path):
        refused = ipva("disk", *words)
        assert refused.status == 2, words
        assert "--allow-outside" in refused.err
        assert ipva("disk", *words, "--allow-outside").status == 0, words
    assert (tmp_path / "there" / "disk-flat.vmdk").stat().st_size == SIZE_BYTES + MIB
    assert sorted(each.name for each in outside.parent.iterdir()) == ["child.vmdk", "disk.vmdk"]


def test_check_of_extents_elsewhere(ipva: Ipva, outside: Path) -> None:
    """A check is no refusal: the extent counts as missing, unless it may be followed."""
    (found,) = ipva("disk", "check", outside, "--json").document["findings"]
    assert found["id"] == "VMDK015"
    assert ipva("disk", "check", outside, "--allow-outside").status == 0


def test_a_vm_whose_disk_is_elsewhere(ipva: Ipva, vm: Path, tmp_path: Path) -> None:
    """`VM#cf` follows the .vmx out of its folder, and finds the extents beside the descriptor."""
    (tmp_path / "store").mkdir()
    make(tmp_path / "store" / "card.vmdk", "monolithicFlat")
    vmx = vm / "ipva.vmx"
    vmx.write_text(vmx.read_text().replace("hd-cf.vmdk", "../store/card.vmdk"))
    assert ipva("disk", "info", f"{vm}#cf").status == 2
    facts = ipva("disk", "info", f"{vm}#cf", "--allow-outside", "--json").document
    assert facts["virtual_size"] == SIZE_BYTES
    assert len(facts["files"]) == 2
    assert ipva("disk", "resize", f"{vm}#cf", "+1M", "--allow-outside").status == 0
    assert ipva("disk", "check", f"{vm}#cf", "--allow-outside").status == 0


def test_a_folder_is_no_disk(ipva: Ipva, vm: Path) -> None:
    """Each command says so in one line."""
    for words in commands(vm, vm):
        result = ipva("disk", *words)
        assert result.status == 2, words
        assert "folder" in result.err
        assert result.err.count("\n") == 1


def test_a_remedy_of_several_findings_is_said_once(ipva: Ipva, tmp_path: Path) -> None:
    """Of a file that was cut, many findings have one remedy, which comes behind the last."""
    disk = make(tmp_path / "disk.vmdk")
    disk.write_bytes(disk.read_bytes()[: 1200 * KIB])
    found = ipva("disk", "check", disk).out
    assert found.count("VMDK010") > 1
    assert found.count("to mend it: ") == 1
    assert "to mend it: " in found.splitlines()[-1]
