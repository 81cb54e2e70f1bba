from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipva_storage import appliance, boot, dump, fat, flash, vmdk
from ipva_storage.appliance import Role
from ipva_storage.appliance.power import printable
from ipva_storage.device import BlockDevice, Folder, SliceDevice
from ipva_storage.flash import FlashDirectory
from ipva_storage.units import GIB, MIB

GOLDEN = Path(__file__).parents[2] / "golden" / "boot"


def machine_of(vm: Path) -> appliance.Appliance:
    """The machine in a folder, its .vmx read anew."""
    return appliance.open(Folder(vm))


@contextlib.contextmanager
def disk_of(vm: Path, role: Role) -> Iterator[BlockDevice]:
    """One of its disks, for writing."""
    with contextlib.closing(machine_of(vm).open_disk(role, writable=True)) as device:
        yield device


@contextlib.contextmanager
def directory_of(vm: Path) -> Iterator[FlashDirectory]:
    """Its flash directory."""
    with disk_of(vm, Role.FLASH) as device:
        part = SliceDevice(device, 0, flash.FLASH_BYTES)
        directory = flash.open(flash.NorDevice(part), durable=False)
        yield directory
        directory.close()


def replace(vm: Path, old: str, new: str) -> None:
    """Change the .vmx."""
    text = (vm / "ipva.vmx").read_text()
    assert old in text
    (vm / "ipva.vmx").write_text(text.replace(old, new))


def snapshot(vm: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and times of all files."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in vm.iterdir()}


def fill(vm: Path, count: int, value_bytes: int) -> dict[bytes, bytes]:
    """Store objects; give them back as a dict."""
    objects = {f"cn=User {n:04}".encode(): os.urandom(8) + bytes(value_bytes) for n in range(count)}
    with directory_of(vm) as directory:
        directory.batch(objects)
    return objects


@pytest.mark.parametrize("ram_mib", [20, 64, 192, 4096])
def test_the_trace_is_as_in_the_golden_file(vm: Path, ram_mib: int) -> None:
    """Every line of the boot trace, to the character."""
    result = appliance.boot(machine_of(vm), ram_bytes=ram_mib * MIB)
    golden = (GOLDEN / f"trace-{ram_mib}.txt").read_text(encoding="utf-8")
    assert "".join(f"{line}\n" for line in result.trace) == golden
    assert (result.booted, result.error, result.lost) == (True, None, [])


def test_the_lines_of_the_vendor_are_there_to_the_character(vm: Path) -> None:
    """At 64 MiB, the RAM of a new machine."""
    result = appliance.boot(machine_of(vm))
    assert result.trace == [
        "0:0000:030:4 - Intel(R) Core(TM)2 Duo CPU     E8400  @ 3.00GHz",
        "0:0000:030:4 - mem(64946176)=61.93MB",
        "0:0000:081:4 - start flashdir FLASHDIR0",
        "0:0000:081:4 - fdir: segments=901->224(14.0MB)",
    ]
    assert result.ram_bytes == 64 * MIB
    assert result.dram_bytes == 64946176
    assert result.segments == {"physical": 901, "usable": 224, "bytes": 224 * 65536}


def test_192_mib_give_900_segments(vm: Path) -> None:
    """The most, truncated to one decimal; also from the .vmx."""
    replace(vm, 'memsize = "64"', 'memsize = "192"')
    assert appliance.boot(machine_of(vm)).trace[-1].endswith("fdir: segments=901->900(56.2MB)")


def test_ram_above_3_gib_is_not_used(vm: Path) -> None:
    """8 GiB look as 3 GiB do."""
    at_most = appliance.boot(machine_of(vm), ram_bytes=3 * GIB, dry_run=True)
    assert appliance.boot(machine_of(vm), ram_bytes=8 * GIB, dry_run=True).trace == at_most.trace


@pytest.mark.parametrize("ram_bytes", [20 * MIB - 1, 0, -1])
def test_less_than_20_mib_does_not_boot(vm: Path, ram_bytes: int) -> None:
    """The minimum is told."""
    result = appliance.boot(machine_of(vm), ram_bytes=ram_bytes)
    assert not result.booted
    assert result.error is not None
    assert "20 MiB or more" in result.error
    assert (result.trace, result.segments, result.dram_bytes) == ([], {}, 0)


def test_plan_names_exactly_what_boot_then_loses(vm: Path) -> None:
    """Objects beyond the smaller directory go, in the plan's order, each named in the trace."""
    objects = fill(vm, 60, 4000)
    with directory_of(vm) as directory:
        plan = directory.plan(flash.DEFAULT_RULE.segment_count(20 * MIB))
    assert 0 < len(plan.lost) < 60
    result = appliance.boot(machine_of(vm), ram_bytes=20 * MIB)
    assert result.booted
    assert result.lost == list(plan.lost)
    assert result.trace[4:] == [f"0:0000:081:4 - fdir: lost {key.decode()}" for key in plan.lost]
    with directory_of(vm) as directory:
        assert dict(directory.items()) == {
            key: value for key, value in objects.items() if key not in plan.lost
        }


def test_growing_back_returns_room_but_no_object(vm: Path) -> None:
    """What a small boot lost stays lost; the room is there again."""
    objects = fill(vm, 60, 4000)
    lost = appliance.boot(machine_of(vm), ram_bytes=20 * MIB).lost
    again = appliance.boot(machine_of(vm), ram_bytes=192 * MIB)
    assert again.lost == []
    assert again.segments["usable"] == 900
    with directory_of(vm) as directory:
        assert set(directory.keys()) == set(objects) - set(lost)
        directory.batch({key: objects[key] for key in lost})
    assert appliance.boot(machine_of(vm)).lost == []
    with directory_of(vm) as directory:
        assert dict(directory.items()) == objects


def test_nothing_is_lost_while_it_fits(vm: Path) -> None:
    """Booting up and down above the need keeps every object."""
    objects = fill(vm, 100, 1000)
    for ram_mib in (192, 64, 30, 64):
        assert appliance.boot(machine_of(vm), ram_bytes=ram_mib * MIB).lost == []
    with directory_of(vm) as directory:
        assert dict(directory.items()) == objects


def test_a_dry_run_tells_the_same_and_changes_nothing(vm: Path) -> None:
    """Bytes and times of every file stay; the result is that of the real boot after it."""
    fill(vm, 60, 4000)
    before = snapshot(vm)
    told = appliance.boot(machine_of(vm), ram_bytes=20 * MIB, dry_run=True)
    assert snapshot(vm) == before
    assert told.lost
    assert appliance.boot(machine_of(vm), ram_bytes=20 * MIB) == told
    assert snapshot(vm) != before


def test_a_stopped_boot_changes_nothing(vm: Path) -> None:
    """A machine that does not boot leaves its disks as they are."""
    replace(vm, "vlance", "e1000")
    before = snapshot(vm)
    assert not appliance.boot(machine_of(vm)).booted
    assert snapshot(vm) == before


@pytest.mark.parametrize(
    ("old", "new", "console"),
    [
        ('virtualDev = "vlance"', 'virtualDev = "e1000"', "NIC unavailable!"),
        ('ethernet0.present = "TRUE"', 'ethernet0.present = "FALSE"', "NIC unavailable!"),
        ('pseudo_perfctr = "TRUE"', 'pseudo_perfctr = "FALSE"', "perfcounter-not enabled!!!"),
        ('monitor_control.pseudo_perfctr = "TRUE"\n', "", "perfcounter-not enabled!!!"),
    ],
)
def test_a_wrong_vmx_stops_with_the_console_text(
    vm: Path, old: str, new: str, console: str
) -> None:
    """The error is the console's, to the character; the reason names the way out."""
    replace(vm, old, new)
    result = appliance.boot(machine_of(vm))
    assert (result.booted, result.error, result.trace) == (False, console, [])
    assert result.reason is not None
    assert ".vmx" in result.reason
    assert '"TRUE"' in result.reason


@pytest.mark.parametrize("value", [None, "", "vlance", "Vlance", "pcnet32"])
def test_the_amd_card_boots_named_or_not(vm: Path, value: str | None) -> None:
    """Without a type VMware gives the same card."""
    line = "" if value is None else f'ethernet0.virtualDev = "{value}"\n'
    replace(vm, 'ethernet0.virtualDev = "vlance"\n', line)
    assert appliance.boot(machine_of(vm)).booted


def test_a_changed_firmware_is_a_wrong_checksum(vm: Path) -> None:
    """One byte of the payload."""
    with disk_of(vm, Role.BOOT) as device:
        image = bytearray(boot.demo_firmware())
        image[5000] ^= 1
        volume = fat.open_first(device)
        volume.write("/ipva.bin", bytes(image))
        volume.flush()
        assert [finding.code for finding in boot.check(device)] == ["BOOT004"]
    result = appliance.boot(machine_of(vm))
    assert result.error == "checksum wrong! Loading failed for image=IPVA    BIN"
    assert result.reason is not None
    assert "the payload's checksum is wrong" in result.reason


@pytest.mark.parametrize(
    ("content", "code"), [(None, "BOOT002"), (b"", "BOOT003"), (b"MZ" * 9000, "BOOT003")]
)
def test_a_missing_or_foreign_firmware_does_not_load(
    vm: Path, content: bytes | None, code: str
) -> None:
    """Deleted, empty, and something else under its name."""
    with disk_of(vm, Role.BOOT) as device:
        volume = fat.open_first(device)
        volume.delete("/ipva.bin")
        if content is not None:
            volume.write("/ipva.bin", content)
        volume.flush()
        assert [finding.code for finding in boot.check(device)] == [code]
    assert appliance.boot(machine_of(vm)).error == "Loading failed for image=IPVA    BIN"


def test_a_file_of_that_long_name_but_another_short_one_is_not_found(vm: Path) -> None:
    """The boot code looks for the short name."""
    with disk_of(vm, Role.BOOT) as device:
        volume = fat.open_first(device)
        volume.delete("/ipva.bin")
        volume.mkdir("/ipva.bin")
        volume.write("/ipva.bin copy", boot.demo_firmware())
        volume.flush()
        assert [finding.code for finding in boot.check(device)] == ["BOOT002"]
    assert appliance.boot(machine_of(vm)).error == "Loading failed for image=IPVA    BIN"


def test_a_file_longer_than_any_firmware_is_not_read(
    vm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size in the folder is looked at before memory is taken."""
    monkeypatch.setattr("ipva_formats.firmware.PAYLOAD_LIMIT_BYTES", 1000)
    monkeypatch.setattr("ipva_storage.fat.volume.FatVolume.read", lambda *_: pytest.fail("read"))
    result = appliance.boot(machine_of(vm))
    assert result.error == "Loading failed for image=IPVA    BIN"
    assert result.reason is not None
    assert "more than any firmware" in result.reason


def test_a_boot_disk_without_a_file_system_does_not_load(vm: Path) -> None:
    """A blank boot sector."""
    with disk_of(vm, Role.BOOT) as device:
        device.write(0, bytes(512))
        (finding,) = boot.check(device)
        assert finding.code == "BOOT001"
        assert finding.repair is not None
        assert not finding.repair.startswith("ipva fs format")  # that would lose the firmware
        assert "which loses what it holds" in finding.repair
    assert appliance.boot(machine_of(vm)).error == "Loading failed for image=IPVA    BIN"


@pytest.mark.parametrize("role", list(Role))
def test_a_missing_disk_is_named_with_its_node(vm: Path, role: Role) -> None:
    """Every one of the four must be there, as for VMware."""
    (vm / role.file_name).unlink()
    result = appliance.boot(machine_of(vm))
    assert not result.booted
    assert result.error is not None
    assert f"{role.file_name}, the {role} disk on IDE {role.node}" in result.error


def test_an_empty_disk_in_place_of_the_flash_is_formatted(vm: Path) -> None:
    """The vendor's factory reset: a new flash disk, and the box starts empty."""
    fill(vm, 5, 100)
    vmdk.create(Folder(vm), "hd-flash.vmdk", 100 * MIB, force=True)
    told = appliance.boot(machine_of(vm), dry_run=True)
    result = appliance.boot(machine_of(vm))
    assert result == told
    assert result.booted
    assert "0:0000:081:4 - fdir: empty disk, formatted" in result.trace
    with directory_of(vm) as directory:
        assert len(directory) == 0
    assert "formatted" not in "".join(appliance.boot(machine_of(vm)).trace)


def test_an_erased_flash_is_empty_too(vm: Path) -> None:
    """A disk of nothing but 0xFF, as a chip is after an erase, is formatted."""
    vmdk.create(
        Folder(vm),
        "hd-flash.vmdk",
        100 * MIB,
        force=True,
        fill=lambda device: device.write(0, b"\xff" * (3 * MIB)),
    )
    assert "0:0000:081:4 - fdir: empty disk, formatted" in appliance.boot(machine_of(vm)).trace


def test_a_flash_disk_of_unknown_layout_is_not_touched(vm: Path) -> None:
    """Content that is not ours, a real appliance's for one, stops the boot and stays."""
    vmdk.create(
        Folder(vm),
        "hd-flash.vmdk",
        100 * MIB,
        force=True,
        fill=lambda device: device.write(40 * MIB, b"config change IP0"),
    )
    before = snapshot(vm)
    result = appliance.boot(machine_of(vm))
    assert not result.booted
    assert result.error is not None
    assert "not a flash directory of our layout" in result.error
    assert "IDE 1:0" in result.error
    assert snapshot(vm) == before


def test_a_flash_disk_that_is_too_small_is_named(vm: Path) -> None:
    """Less than 64 MiB holds no flash."""
    vmdk.create(Folder(vm), "hd-flash.vmdk", 63 * MIB, force=True)
    result = appliance.boot(machine_of(vm))
    assert result.error is not None
    assert "the flash needs 67108864" in result.error
    assert "hd-flash.vmdk, the flash disk on IDE 1:0" in result.error


def test_a_disk_that_is_in_use_stops_the_boot(vm: Path) -> None:
    """Two machines on one flash disk would mix their bytes."""
    with disk_of(vm, Role.FLASH):
        result = appliance.boot(machine_of(vm))
    assert result.error is not None
    assert "another process" in result.error
    assert appliance.boot(machine_of(vm)).booted


def test_a_damaged_card_or_dump_disk_does_not_stop_the_boot(vm: Path) -> None:
    """The box starts without its card and without a place for crash records."""
    for role in (Role.CF, Role.DUMP):
        with disk_of(vm, role) as device:
            device.write(0, b"\xee" * 4096)
    assert appliance.boot(machine_of(vm)).booted


def test_a_boot_leaves_the_dump_disk_alone(vm: Path) -> None:
    """A clean boot writes no crash record."""
    appliance.boot(machine_of(vm))
    with disk_of(vm, Role.DUMP) as device:
        assert dump.open(device).records() == []


def test_keys_are_printed_on_one_line() -> None:
    """What cannot be printed is escaped, so that a key cannot fake a trace line."""
    assert printable("cn=Müller".encode()) == "cn=Müller"
    assert printable(b"a\r\n0:0000:081:4 - \x1b[2J\xff") == "a\\r\\n0:0000:081:4 - \\x1b[2J\\xff"


@pytest.mark.parametrize("value", ["\x1b[2J", "\udca5"])
def test_a_result_has_nothing_that_a_terminal_obeys(vm: Path, value: str) -> None:
    """What the .vmx says is escaped in error and reason."""
    path = vm / "ipva.vmx"
    for old in ("vlance", "hd-cf.vmdk", '"64"'):
        whole = path.read_bytes()
        new = value.join('""') if '"' in old else value
        assert old.encode() in whole
        path.write_bytes(whole.replace(old.encode(), new.encode("utf-8", "surrogateescape")))
        result = appliance.boot(machine_of(vm))
        assert not result.booted
        assert result.error is not None
        assert result.error.isprintable()
        assert result.reason is not None
        assert result.reason.isprintable()
        path.write_bytes(whole)
