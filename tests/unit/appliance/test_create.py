from __future__ import annotations

from pathlib import Path

import pytest

from ipva_storage import appliance, boot, dump, fat, flash
from ipva_storage.appliance import Role
from ipva_storage.device import Folder, SliceDevice
from ipva_storage.errors import DeviceError, IpvaError, NoSpaceError, UsageError
from ipva_storage.units import GIB, MIB

FILES = ["hd-boot.vmdk", "hd-cf.vmdk", "hd-dump.vmdk", "hd-flash.vmdk", "ipva.vmx"]
SIZES = {
    Role.BOOT: 16 * MIB,
    Role.CF: 16 * MIB,
    Role.FLASH: 100 * MIB,
    Role.DUMP: 64 * MIB,
}


def test_a_new_appliance_is_five_files(new_appliance: Path) -> None:
    """The .vmx and four disks, each of its size and at its node, and nothing left over."""
    assert sorted(path.name for path in new_appliance.iterdir()) == FILES
    machine = appliance.open(Folder(new_appliance))
    assert machine.ram_bytes == 64 * MIB
    for role, size_bytes in SIZES.items():
        assert machine.disk_name(role) == f"hd-{role}.vmdk"
        device = machine.open_disk(role)
        assert device.size_bytes == size_bytes
        device.close()


def test_each_disk_holds_what_its_role_says(new_appliance: Path) -> None:
    """Firmware on a FAT16 boot volume, an empty card, an empty flash, an empty dump log."""
    machine = appliance.open(Folder(new_appliance))
    disks = {role: machine.open_disk(role) for role in Role}
    try:
        boot_volume = fat.open(disks[Role.BOOT])
        assert (boot_volume.fat_bits, boot_volume.label) == (16, "HD-BOOT")
        assert boot_volume.read("/ipva.bin") == boot.demo_firmware()
        card = fat.open(disks[Role.CF])
        assert (card.label, card.list("/")) == ("CF0", [])
        part = SliceDevice(disks[Role.FLASH], 0, flash.FLASH_BYTES)
        assert flash.identify(part)
        assert len(flash.open(flash.NorDevice(part), read_only=True)) == 0
        assert dump.identify(disks[Role.DUMP])
        assert dump.open(disks[Role.DUMP]).records() == []
        for check, role in ((boot.check, Role.BOOT), (fat.check, Role.CF), (dump.check, Role.DUMP)):
            assert list(check(disks[role])) == []
    finally:
        for device in disks.values():
            device.close()


@pytest.mark.parametrize("subformat", ["monolithicSparse", "monolithicFlat"])
def test_a_large_card_takes_no_space(tmp_path: Path, subformat: str) -> None:
    """A CompactFlash of 256 GiB is made without writing it out."""
    appliance.create(Folder(tmp_path), cf_bytes=256 * GIB, subformat=subformat)
    machine = appliance.open(Folder(tmp_path))
    device = machine.open_disk(Role.CF)
    assert device.size_bytes == 256 * GIB
    assert fat.open(device).free_bytes > 255 * GIB
    device.close()
    assert appliance.boot(machine).booted
    if hasattr(tmp_path.stat(), "st_blocks"):
        taken_bytes = sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir())
        assert taken_bytes < 300 * MIB


def test_a_given_firmware_is_put_on_the_boot_disk(tmp_path: Path) -> None:
    """Whatever the bytes are: whether they boot is for the boot to say."""
    appliance.create(Folder(tmp_path), cf_bytes=16 * MIB, firmware=b"from the vendor")
    machine = appliance.open(Folder(tmp_path))
    disk = machine.open_disk(Role.BOOT)
    assert fat.open_first(disk).read("/IPVA.BIN") == b"from the vendor"
    disk.close()
    result = appliance.boot(machine)
    assert result.error == "Loading failed for image=IPVA    BIN"


def test_nothing_is_replaced_unless_forced(vm: Path) -> None:
    """A second create is refused and changes nothing; forced, it makes all anew."""
    before = {path.name: path.read_bytes() for path in vm.iterdir()}
    with pytest.raises(UsageError, match=r"is there already.*--force"):
        appliance.create(Folder(vm), cf_bytes=16 * MIB)
    assert {path.name: path.read_bytes() for path in vm.iterdir()} == before
    appliance.create(Folder(vm), cf_bytes=20 * MIB, force=True)
    assert sorted(path.name for path in vm.iterdir()) == FILES
    disk = appliance.open(Folder(vm)).open_disk(Role.CF)
    assert disk.size_bytes == 20 * MIB
    disk.close()


def test_one_file_in_the_way_stops_all(tmp_path: Path) -> None:
    """A lone disk of one of the names is as good a reason."""
    (tmp_path / "hd-flash.vmdk").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"hd-flash\.vmdk"):
        appliance.create(Folder(tmp_path), cf_bytes=16 * MIB)
    assert [path.name for path in tmp_path.iterdir()] == ["hd-flash.vmdk"]


def test_a_folder_with_another_machine_is_refused(tmp_path: Path) -> None:
    """Two .vmx in one folder would be one too many, forced or not."""
    (tmp_path / "other.vmx").write_text("")
    with pytest.raises(UsageError, match=r"other\.vmx"):
        appliance.create(Folder(tmp_path), force=True)


@pytest.mark.parametrize("ram_bytes", [0, 19 * MIB, 64 * MIB + 1, -MIB])
def test_ram_that_cannot_be_is_refused_before_anything_is_made(
    tmp_path: Path, ram_bytes: int
) -> None:
    """Below 20 MiB no appliance starts, and VMware counts whole MiB."""
    with pytest.raises(UsageError):
        appliance.create(Folder(tmp_path / "vm"), ram_bytes=ram_bytes)
    assert not (tmp_path / "vm").exists()


@pytest.mark.parametrize("cf_bytes", [0, -1, 1000, 2**70])
def test_a_card_that_cannot_be_leaves_nothing(tmp_path: Path, cf_bytes: int) -> None:
    """A size that no FAT volume has is refused, with no file left behind."""
    with pytest.raises(IpvaError):
        appliance.create(Folder(tmp_path / "vm"), cf_bytes=cf_bytes)
    assert not (tmp_path / "vm").exists()


def test_a_firmware_larger_than_the_boot_disk_leaves_nothing(tmp_path: Path) -> None:
    """It fails half-way, and what was made before goes again."""
    with pytest.raises(NoSpaceError):
        appliance.create(Folder(tmp_path / "vm"), cf_bytes=16 * MIB, firmware=bytes(17 * MIB))
    assert not (tmp_path / "vm").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, DeviceError("the host disk is full")])
@pytest.mark.parametrize("at", ["ipva_storage.flash.format", "ipva_storage.dump.format"])
def test_an_interrupt_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, error: BaseException
) -> None:
    """Ctrl-C or a full host at the third or fourth disk removes the first two as well."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(at, fail)
    (tmp_path / "vm").mkdir()
    with pytest.raises((KeyboardInterrupt, DeviceError)):
        appliance.create(Folder(tmp_path / "vm"), cf_bytes=16 * MIB)
    assert list((tmp_path / "vm").iterdir()) == []
