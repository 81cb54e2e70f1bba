"""`ipva doctor`: the situations of the vendor's FAQ, and disks in the wrong place."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Ipva = Callable[..., Any]
FLASH, CARD, BOOT, DUMP = "hd-flash.vmdk", "hd-cf.vmdk", "hd-boot.vmdk", "hd-dump.vmdk"


def edit(vm: Path, old: str, new: str) -> None:
    """Change the .vmx."""
    text = (vm / "ipva.vmx").read_text()
    assert old in text
    (vm / "ipva.vmx").write_text(text.replace(old, new))


def swap(vm: Path, first: str, second: str) -> None:
    """Exchange two files."""
    (vm / first).rename(vm / "x")
    (vm / second).rename(vm / first)
    (vm / "x").rename(vm / second)


def damage_firmware(vm: Path) -> None:
    """Change one byte of the firmware's payload, and nothing of the file system."""
    from ipva_storage import appliance, boot, fat
    from ipva_storage.device import Folder

    device = appliance.open(Folder(vm)).open_disk(appliance.Role.BOOT, writable=True)
    image = bytearray(boot.demo_firmware())
    image[5000] ^= 1
    volume = fat.open_first(device)
    volume.write("/ipva.bin", bytes(image))
    volume.flush()
    device.close()


def raw_disk(vm: Path, role: str, content: bytes, size_bytes: int) -> Path:
    """Put a raw image in the place of a disk."""
    path = vm / f"{role}.img"
    path.write_bytes(content)
    os.truncate(path, size_bytes)
    edit(vm, f"hd-{role}.vmdk", path.name)
    return path


def look(ipva: Ipva, vm: Path, *, status: int = 1) -> list[dict[str, Any]]:
    """The findings, after looking at what every report must hold to."""
    result = ipva("doctor", vm, "--json")
    findings: list[dict[str, Any]] = result.document["findings"]
    assert result.status == status
    for each in findings:
        assert Path(each["where"]).parent == vm, each
        assert not re.search(r"\b(VM|DISK)\b", f"{each['repair']} {each['message']}"), each
    text = ipva("doctor", vm)
    assert text.status == status
    for each in findings:
        assert each["id"] in text.out
        assert each["message"] in text.out
    return findings


def codes(findings: list[dict[str, Any]]) -> list[str]:
    """Their codes, in order."""
    return [each["id"] for each in findings]


def commands(text: str) -> list[list[str]]:
    """The commands in an advice, as a shell would take them apart."""
    return [shlex.split(words)[1:] for words in re.findall(r"ipva [a-z]+ [^;()]+", text)]


def follow(ipva: Ipva, text: str, **names: str) -> None:
    """Run the commands of an advice as they are printed."""
    found = commands(text)
    assert found
    for words in found:
        filled = [re.sub(r"\bOTHER\b", lambda match: names[match[0]], word) for word in words]
        result = ipva(*filled)
        assert result.status == 0, (filled, result.err)


def test_a_healthy_vm_has_no_finding(ipva: Ipva, vm: Path) -> None:
    """Nothing wrong is found, with status 0."""
    assert look(ipva, vm, status=0) == []


@pytest.mark.parametrize(
    ("old", "new", "code", "line"),
    [
        ('"vlance"', '"e1000"', "VM004", 'ethernet0.virtualDev = "vlance"'),
        (
            'monitor_control.pseudo_perfctr = "TRUE"',
            "",
            "VM005",
            'monitor_control.pseudo_perfctr = "TRUE"',
        ),
        ('memsize = "64"', 'memsize = "19"', "VM002", 'memsize = "64"'),
        ('memsize = "64"', "", "VM002", 'memsize = "64"'),
    ],
)
def test_a_wrong_line_is_named_with_its_file(
    ipva: Ipva, vm: Path, old: str, new: str, code: str, line: str
) -> None:
    """Network card, clock and RAM: the advice says which line of which .vmx."""
    edit(vm, old, new)
    (found,) = look(ipva, vm)
    assert found["id"] == code
    assert found["where"] == str(vm / "ipva.vmx")
    assert line in found["repair"]
    assert str(vm / "ipva.vmx") in found["repair"]


def test_a_damaged_firmware_is_mended_by_the_advice(
    ipva: Ipva, vm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The advice says where a good one comes from, and its commands work as printed."""
    other = Path(shutil.copytree(vm, tmp_path / "other"))
    damage_firmware(vm)
    (found,) = look(ipva, vm)
    assert (found["id"], found["where"]) == ("BOOT004", str(vm / BOOT))
    assert ipva("boot", vm).status == 1
    monkeypatch.chdir(tmp_path)
    follow(ipva, found["repair"], OTHER=str(other))
    assert look(ipva, vm, status=0) == []
    assert ipva("boot", vm).status == 0


def test_a_missing_firmware_is_mended_by_the_advice(
    ipva: Ipva, vm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, after it was deleted."""
    other = Path(shutil.copytree(vm, tmp_path / "other"))
    assert ipva("fs", "rm", f"{vm}#boot:/ipva.bin").status == 0
    (found,) = look(ipva, vm)
    assert found["id"] == "BOOT002"
    monkeypatch.chdir(tmp_path)
    follow(ipva, found["repair"], OTHER=str(other))
    assert look(ipva, vm, status=0) == []


@pytest.mark.parametrize("size_bytes", [0, 10, 300, 200_000])
@pytest.mark.parametrize("name", [CARD, FLASH, BOOT, DUMP])
def test_a_cut_disk_never_ends_the_examination(
    ipva: Ipva, vm: Path, name: str, size_bytes: int
) -> None:
    """Wherever a disk is cut, it gets its findings, and so does the .vmx."""
    if size_bytes >= (vm / name).stat().st_size:
        size_bytes = 70_000
    os.truncate(vm / name, size_bytes)
    edit(vm, '"vlance"', '"e1000"')
    findings = look(ipva, vm)
    assert findings[0]["id"] == "VM004"
    assert {each["where"] for each in findings[1:]} <= {str(vm / name)}
    if size_bytes < 1000:
        assert codes(findings[1:]) == ["VM001"]
        assert str(vm / name) in findings[1]["repair"]


def test_a_cut_card_is_an_error_beside_the_findings_of_other_disks(ipva: Ipva, vm: Path) -> None:
    """The card is told as cut, and the firmware of the boot disk is looked at all the same."""
    damage_firmware(vm)
    os.truncate(vm / CARD, 200_000)
    findings = look(ipva, vm)
    assert codes(findings)[0] == "BOOT004"
    of_card = [each for each in findings if each["where"] == str(vm / CARD)]
    assert "VM001" in codes(of_card)
    assert any(each["id"].startswith("VMDK") for each in of_card)


@pytest.mark.parametrize(
    ("first", "second", "nodes"),
    [
        (CARD, FLASH, ("0:1", "1:0")),
        (BOOT, FLASH, ("0:0", "1:0")),
        (BOOT, CARD, ("0:0", "0:1")),
        (BOOT, DUMP, ("0:0", "1:1")),
        (FLASH, DUMP, ("1:0", "1:1")),
    ],
)
def test_swapped_disks_are_told_with_the_right_line(
    ipva: Ipva, vm: Path, first: str, second: str, nodes: tuple[str, str]
) -> None:
    """Two errors; nothing else, such as advice to format; and the advice undoes the swap."""
    swap(vm, first, second)
    findings = look(ipva, vm)
    assert codes(findings) == ["VM009", "VM009"]
    for found, name, other, node in zip(
        findings, (first, second), (second, first), nodes, strict=True
    ):
        assert found["where"] == str(vm / name)
        assert f"IDE {node}" in found["message"]
        assert f'ide{node}.fileName = "{other}"' in found["repair"]
        assert str(vm / "ipva.vmx") in found["repair"]
        assert "format" not in found["repair"]


@pytest.mark.parametrize(
    ("source", "target", "text"),
    [
        (BOOT, FLASH, "a FAT volume with ipva.bin: the boot disk? It stands on IDE 1:0"),
        (BOOT, CARD, "a FAT volume with ipva.bin: the boot disk? It stands on IDE 0:1"),
        (CARD, BOOT, "a FAT volume: the cf disk? It stands on IDE 0:0"),
        (CARD, DUMP, "a FAT volume: the cf disk? It stands on IDE 1:1"),
        (FLASH, DUMP, "a flash directory: the flash disk? It stands on IDE 1:1"),
        (DUMP, FLASH, "a log of crash dumps: the dump disk? It stands on IDE 1:0"),
        (DUMP, CARD, "a log of crash dumps: the dump disk? It stands on IDE 0:1"),
    ],
)
def test_a_disk_copied_over_another_is_told_by_its_content(
    ipva: Ipva, vm: Path, source: str, target: str, text: str
) -> None:
    """The name says flash, the content says boot."""
    shutil.copy(vm / source, vm / target)
    (found,) = look(ipva, vm)
    assert found["id"] == "VM009"
    assert text in found["message"]
    assert found["where"] == str(vm / target)
    assert ".fileName of " + str(vm / "ipva.vmx") in found["repair"]


def test_a_card_with_a_copy_of_the_firmware_is_a_card(ipva: Ipva, vm: Path, tmp_path: Path) -> None:
    """An update kept on the card makes it no boot disk, and no boot disk a card."""
    for words in (
        ("fs", "get", f"{vm}#boot:/ipva.bin", tmp_path),
        ("fs", "put", tmp_path / "ipva.bin", f"{vm}#cf:/ipva.bin"),
    ):
        assert ipva(*words).status == 0
    assert look(ipva, vm, status=0) == []
    assert ipva("fs", "rm", f"{vm}#boot:/ipva.bin").status == 0
    assert codes(look(ipva, vm)) == ["BOOT002"]


def test_one_file_on_two_nodes_is_an_error(ipva: Ipva, vm: Path) -> None:
    """Named twice, or linked; told at the second node."""
    (vm / "hd-dump.vmdk").unlink()
    os.link(vm / FLASH, vm / DUMP)
    findings = look(ipva, vm)
    assert codes(findings) == ["VM010", "VM009"]
    assert "IDE 1:0" in findings[0]["message"]
    assert "ide1:1.fileName" in findings[0]["repair"]
    edit(vm, DUMP, FLASH)
    assert codes(look(ipva, vm)) == ["VM010", "VM009"]


def test_a_file_that_is_no_disk_is_an_error(ipva: Ipva, vm: Path) -> None:
    """The .vmx itself, and a text file."""
    edit(vm, CARD, "ipva.vmx")
    (found,) = look(ipva, vm)
    assert found["id"] == "VM001"
    assert "no disk" in found["message"]
    assert "ide0:1.fileName" in found["repair"]
    (vm / "notes.txt").write_text("to do")
    edit(vm, '"ipva.vmx"', '"notes.txt"')
    (found,) = look(ipva, vm)
    assert found["id"] == "VM001"
    assert found["where"] == str(vm / "notes.txt")


@pytest.mark.parametrize(
    ("magic", "command"),
    [
        (b"\x1f\x8b\x08", "gunzip < {} > new.img"),
        (b"QFI\xfb", "qemu-img convert -O raw {} new.img"),
    ],
)
def test_a_packed_or_foreign_disk_names_the_command_that_unpacks_it(
    ipva: Ipva, vm: Path, magic: bytes, command: str
) -> None:
    """The doctor and `info` say what it is, the command, and where to name what comes of it."""
    path = raw_disk(vm, "cf", magic, 1 << 20)
    (found,) = look(ipva, vm)
    assert found["id"] == "VM001"
    assert command.format(path) in found["repair"]
    assert "ide0:1.fileName" in found["repair"]
    shown = ipva("info", vm)
    assert shown.status == 1
    assert command.format(path) in shown.out
    assert ipva("info", f"{vm}#cf").status == ipva("fs", "ls", f"{vm}#cf:/").status == 2


@pytest.mark.parametrize("name", [BOOT, CARD, FLASH, DUMP])
def test_a_missing_disk_is_an_error(ipva: Ipva, vm: Path, name: str) -> None:
    """Its path and the line that names it are in the advice."""
    (vm / name).unlink()
    (found,) = look(ipva, vm)
    assert (found["id"], found["where"]) == ("VM001", str(vm / name))
    assert str(vm / name) in found["repair"]
    assert str(vm / "ipva.vmx") in found["repair"]


def test_a_missing_line_for_a_disk_is_an_error(ipva: Ipva, vm: Path) -> None:
    """The advice has the line."""
    edit(vm, f'ide1:1.fileName = "{DUMP}"', "")
    (found,) = look(ipva, vm)
    assert (found["id"], found["where"]) == ("VM001", str(vm / "ipva.vmx"))
    assert f'ide1:1.fileName = "{DUMP}"' in found["repair"]


def test_too_little_ram_for_the_content_is_an_error(ipva: Ipva, vm: Path) -> None:
    """The advice is enough RAM, and the command shows what would be lost."""
    for name in ("a", "b"):
        assert ipva("flash", "put", vm, name, "--value", "x" * 60_000).status == 0
    edit(vm, 'memsize = "64"', 'memsize = "20"')
    (found,) = look(ipva, vm)
    assert (found["id"], found["where"]) == ("VM006", str(vm / FLASH))
    assert "objects that do not fit: " in found["message"]
    (words,) = commands(found["message"])
    assert words[:3] == ["flash", "plan", str(vm)]
    assert "lost: " in ipva(*words).out
    match = re.search(r'memsize = "([0-9]+)"', found["repair"])
    assert match is not None
    edit(vm, 'memsize = "20"', match[0])
    assert look(ipva, vm, status=0) == []
    edit(vm, match[0], f'memsize = "{int(match[1]) - 1}"')
    assert codes(look(ipva, vm)) == ["VM006"]


@pytest.mark.parametrize(("count", "text"), [(1, "1 crash dump,"), (2, "2 crash dumps,")])
def test_waiting_dumps_are_information(
    ipva: Ipva, vm: Path, tmp_path: Path, count: int, text: str
) -> None:
    """Counted in words that are right; the command shows the newest; nothing to mend."""
    (tmp_path / "trap.txt").write_text("trap at 0x1234\n")
    for _ in range(count):
        assert ipva("dump", "add", vm, tmp_path / "trap.txt").status == 0
    (found,) = look(ipva, vm, status=0)
    assert (found["id"], found["severity"], found["repair"]) == ("VM007", "info", None)
    assert found["message"].startswith(text)
    (words,) = commands(found["message"])
    assert ipva(*words).out == "trap at 0x1234\n"


@pytest.mark.parametrize(
    ("role", "code", "size_bytes"),
    [
        ("boot", "BOOT001", 16 << 20),
        ("cf", "VM001", 16 << 20),
        ("flash", "FLASH011", 100 << 20),
        ("dump", "DUMP001", 64 << 20),
    ],
)
def test_what_is_not_recognised_is_kept_before_it_is_formatted(
    ipva: Ipva,
    vm: Path,
    monkeypatch: pytest.MonkeyPatch,
    role: str,
    code: str,
    size_bytes: int,
) -> None:
    """The first command of the advice makes a copy, and all of them work as printed."""
    noise = b"something that is not ours" * 5000
    raw_disk(vm, role, noise, size_bytes)
    findings = look(ipva, vm)
    assert set(codes(findings)) == {code}
    found = findings[0]
    assert "loses" in found["repair"] + found["message"]
    first, *rest = commands(found["repair"])
    assert first[:2] == ["disk", "convert"]
    assert all("--force" in words for words in rest)
    monkeypatch.chdir(vm.parent)
    follow(ipva, found["repair"])
    assert ipva("disk", "convert", first[-1], "copy.img", "-O", "raw").status == 0
    assert Path("copy.img").read_bytes()[: len(noise)] == noise
    assert code not in codes(look(ipva, vm, status=1 if role == "boot" else 0))


def test_a_blank_card_is_formatted_without_force(ipva: Ipva, vm: Path) -> None:
    """Where nothing can be lost the advice is the command alone, and it works."""
    raw_disk(vm, "cf", b"", 16 << 20)
    (found,) = look(ipva, vm)
    assert found["id"] == "VM001"
    assert "--force" not in found["repair"]
    follow(ipva, found["repair"])
    assert look(ipva, vm, status=0) == []


def test_a_flash_disk_that_is_too_small_is_an_error(ipva: Ipva, vm: Path) -> None:
    """63 MiB hold no flash of 64."""
    path = raw_disk(vm, "flash", b"", 63 << 20)
    (found,) = look(ipva, vm)
    assert (found["id"], found["where"]) == ("VM011", str(path))
    assert "64.0 MiB" in found["message"]
    assert ipva("boot", vm).status == 1


def test_advice_works_for_a_folder_that_needs_quotes(
    ipva: Ipva, vm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blanks and quotes in a folder's name are quoted for the shell."""
    folder = vm.parent / "my 'best' pbx"
    vm.rename(folder)
    raw_disk(folder, "dump", b"noise" * 2000, 64 << 20)
    monkeypatch.chdir(folder.parent)
    findings = ipva("doctor", folder, "--json").document["findings"]
    follow(ipva, findings[0]["repair"])
    assert ipva("doctor", folder).status == 0


def test_a_folder_with_two_machines_names_the_vmx(ipva: Ipva, vm: Path) -> None:
    """Where the folder alone says too little, commands get the .vmx."""
    shutil.copy(vm / "ipva.vmx", vm / "second.vmx")
    (vm / "trap.txt").write_text("trap")
    assert ipva("dump", "add", vm / "second.vmx", vm / "trap.txt").status == 0
    (found,) = ipva("doctor", vm / "second.vmx", "--json").document["findings"]
    (words,) = commands(found["message"])
    assert words == ["dump", "show", str(vm / "second.vmx")]
    assert ipva(*words).status == 0


@pytest.mark.parametrize("value", [b"\xa5", b"\x1b[2J", b"\xed\xa0\x80"])
def test_no_command_prints_raw_what_a_vmx_says(ipva: Ipva, vm: Path, value: bytes) -> None:
    """An escape sequence or a broken letter in a value comes out as an escape, everywhere."""
    path = vm / "ipva.vmx"
    for old in (b'"vlance"', b'"64"', b'"hd-cf.vmdk"'):
        whole = path.read_bytes()
        assert old in whole
        path.write_bytes(whole.replace(old, b'"' + value + b'"'))
        for words in (["doctor", vm], ["info", vm], ["boot", vm], ["fs", "ls", f"{vm}#cf:/"]):
            for options in ([], ["--json"]):
                result = ipva(*words, *options)
                assert result.status in (0, 1, 2)
                assert "\x1b" not in result.out + result.err
                if options:  # half a surrogate pair is no text
                    json.dumps(result.document, ensure_ascii=False).encode()
        path.write_bytes(whole)


def test_a_lost_start_is_mended_by_repair(ipva: Ipva, vm: Path) -> None:
    """Of a disk whose header is gone the doctor says what mends it, and not only to restore it."""
    with (vm / CARD).open("r+b") as file:
        file.write(bytes(512))
    repairs = [found["repair"] for found in look(ipva, vm)]
    assert f"ipva disk repair {vm}#cf" in repairs
    assert all("ipva disk repair" in each for each in repairs)
    assert ipva("disk", "repair", f"{vm}#cf").status == 0
    assert look(ipva, vm, status=0) == []
