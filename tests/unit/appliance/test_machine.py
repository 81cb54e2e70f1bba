from __future__ import annotations

from pathlib import Path

import pytest

from ipva_storage import appliance
from ipva_storage.appliance import Role
from ipva_storage.device import Folder
from ipva_storage.errors import (
    ConfigError,
    DeviceError,
    IpvaError,
    NoDiskError,
    UsageError,
    VmdkError,
)
from ipva_storage.units import MIB


def edit(vm: Path, old: str, new: str) -> appliance.Appliance:
    """Change the .vmx and open the machine."""
    text = (vm / "ipva.vmx").read_text()
    assert old in text
    (vm / "ipva.vmx").write_text(text.replace(old, new))
    return appliance.open(Folder(vm))


def test_a_folder_needs_exactly_one_vmx(vm: Path, tmp_path: Path) -> None:
    """None and two are refused with what to do; a name chooses."""
    with pytest.raises(UsageError, match="ipva new"):
        appliance.open(Folder(tmp_path))
    with pytest.raises(UsageError):
        appliance.open(Folder(tmp_path / "not there"))
    (vm / "copy.VMX").write_text('memsize = "128"\n')
    with pytest.raises(UsageError, match=r"2 \.vmx files.*copy\.VMX"):
        appliance.open(Folder(vm))
    assert appliance.open(Folder(vm), "copy.VMX").ram_bytes == 128 * MIB
    assert appliance.open(Folder(vm), "ipva.vmx").ram_bytes == 64 * MIB
    with pytest.raises(DeviceError):
        appliance.open(Folder(vm), "../ipva.vmx")


def test_hidden_files_are_no_machines(vm: Path) -> None:
    """What macOS leaves beside a .vmx does not make it two."""
    (vm / "._ipva.vmx").write_bytes(b"\0\x05")
    assert appliance.open(Folder(vm)).vmx_name == "ipva.vmx"


def test_disks_are_found_by_node_whatever_their_names(vm: Path) -> None:
    """Renamed as vSphere does, and swapped among each other, each is found by its node."""
    names = {"hd-boot": "x", "hd-cf": "x_1", "hd-flash": "x_2", "hd-dump": "x_3"}
    for old, new in names.items():
        (vm / f"{old}.vmdk").rename(vm / f"{new}.vmdk")
        machine = edit(vm, old, new)
    assert [machine.disk_name(role) for role in Role] == [
        "x.vmdk",
        "x_1.vmdk",
        "x_2.vmdk",
        "x_3.vmdk",
    ]
    assert appliance.boot(machine).booted


def test_an_empty_node_says_which_disk_is_missing(vm: Path) -> None:
    """The message names role and node, and the line that is missing."""
    machine = edit(vm, 'ide1:1.present = "TRUE"', 'ide1:1.present = "FALSE"')
    with pytest.raises(ConfigError, match=r"no dump disk: IDE 1:1 is empty.*ide1:1.fileName"):
        machine.open_disk(Role.DUMP)


@pytest.mark.parametrize(
    "name",
    [
        "../other/hd-cf.vmdk",
        "/etc/passwd",
        "C:\\\\disks\\\\hd-cf.vmdk",
        "[datastore1] vm/hd-cf.vmdk",
        "..",
        "x|00y.vmdk",
        "x" * 300,
    ],
)
def test_a_disk_outside_the_folder_is_refused(vm: Path, name: str) -> None:
    """A .vmx is input: it opens nothing but files beside it."""
    machine = edit(vm, "hd-cf.vmdk", name)
    with pytest.raises(DeviceError, match=r"the cf disk on IDE 0:1: .* is not a plain file name"):
        machine.open_disk(Role.CF)


def test_a_link_out_of_the_folder_is_refused(vm: Path, tmp_path: Path) -> None:
    """A link among the files does not lead elsewhere."""
    (vm / "hd-cf.vmdk").rename(tmp_path / "away.vmdk")
    (vm / "hd-cf.vmdk").symlink_to(tmp_path / "away.vmdk")
    with pytest.raises(DeviceError):
        appliance.open(Folder(vm)).open_disk(Role.CF)


def test_a_missing_file_names_disk_and_node(vm: Path) -> None:
    """The message has the file and where it belongs."""
    (vm / "hd-flash.vmdk").unlink()
    with pytest.raises(DeviceError, match=r"hd-flash.vmdk, the flash disk on IDE 1:0: .*no such"):
        appliance.open(Folder(vm)).open_disk(Role.FLASH)


def test_a_damaged_vmdk_names_disk_and_node_and_is_let_go(vm: Path) -> None:
    """A disk whose header is wrong is an error of ours, and its file is not kept locked."""
    path = vm / "hd-dump.vmdk"
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36
    path.write_bytes(content)
    machine = appliance.open(Folder(vm))
    for _ in range(2):
        with pytest.raises(IpvaError, match="the dump disk on IDE 1:1"):
            machine.open_disk(Role.DUMP, writable=True)


def test_a_vmdk_without_its_start_is_not_taken_for_a_raw_disk(vm: Path) -> None:
    """A file that is only named .vmdk is refused, because a write would finish it off."""
    (vm / "hd-dump.vmdk").write_bytes(bytes(MIB))
    for _ in range(2):  # the first refusal keeps no lock
        with pytest.raises(VmdkError, match="holds neither"):
            appliance.open(Folder(vm)).open_disk(Role.DUMP, writable=True)


def test_a_raw_disk_is_a_disk(vm: Path) -> None:
    """A file of another name is used as it is."""
    (vm / "dump.img").write_bytes(bytes(MIB))
    machine = edit(vm, "hd-dump.vmdk", "dump.img")
    device = machine.open_disk(Role.DUMP)
    assert device.size_bytes == MIB
    device.close()
    assert appliance.boot(machine).booted


def test_a_vmx_of_any_content_opens_or_is_an_error_of_ours(tmp_path: Path) -> None:
    """Blank, binary and oversized files."""
    for content in (b"", bytes(range(256)) * 10, b"\xff\xfe" + "memsize".encode("utf-16-le")):
        (tmp_path / "a.vmx").write_bytes(content)
        machine = appliance.open(Folder(tmp_path))
        assert machine.vmx.encode() == content
        result = appliance.boot(machine)
        assert not result.booted
        assert result.error is not None
        assert "memsize" in result.error
    (tmp_path / "a.vmx").write_bytes(bytes(2 * MIB))
    with pytest.raises(ConfigError, match="too long"):
        appliance.open(Folder(tmp_path))


@pytest.mark.parametrize("name", ["ipva.vmx", "vmware.log", "VM.NVRAM"])
def test_a_file_of_the_machine_is_no_disk(vm: Path, name: str) -> None:
    """What VMware keeps beside the disks is never opened as one, whatever its length."""
    machine = edit(vm, "hd-dump.vmdk", name)
    if name != "ipva.vmx":
        (vm / name).write_bytes(bytes(MIB))
    for _ in range(2):  # the first refusal keeps no lock
        with pytest.raises(NoDiskError, match="and no disk"):
            machine.open_disk(Role.DUMP, writable=True)


@pytest.mark.parametrize("size_bytes", [0, 1, 511, 513, MIB + 1])
def test_a_file_of_no_disks_length_is_no_disk(vm: Path, size_bytes: int) -> None:
    """Disks have whole sectors, and at least one."""
    (vm / "dump.img").write_bytes(bytes(size_bytes))
    with pytest.raises(NoDiskError, match="not whole sectors"):
        edit(vm, "hd-dump.vmdk", "dump.img").open_disk(Role.DUMP)
