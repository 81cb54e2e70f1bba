"""Making a new appliance: four disks and the .vmx that ties them together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipva_storage.appliance import roles
from ipva_storage.appliance.roles import Role
from ipva_storage.errors import UsageError
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipva_storage.appliance.machine import Appliance
    from ipva_storage.device import BlockDevice, Folder

VMX_NAME: Final = "ipva.vmx"
"""Source: vendor page "Concept Innovaphone Virtual Appliance". Confidence: stated."""


def create(
    folder: Folder,
    *,
    ram_bytes: int = 64 * MIB,
    cf_bytes: int = roles.CF_BYTES,
    firmware: bytes | None = None,
    subformat: str = "monolithicSparse",
    mac: str | None = None,
    force: bool = False,
) -> Appliance:
    """Make an appliance; its files appear together, the .vmx last, or not at all.

    Args:
        folder: where; made if it is not there.
        ram_bytes: whole MiB, at least 20 of them.
        cf_bytes: size of the CompactFlash disk.
        firmware: content of `ipva.bin`; our stand-in unless given.
        subformat: one of `vmdk.REWRITABLE`.
        mac: address of the network card; a random static one unless given.
        force: replace an appliance that is there.

    Raises:
        UsageError: an argument makes no sense.
        NoSpaceError: the firmware does not fit on the boot disk.
        DeviceError: files of these names are there, or cannot be made.
    """
    from ipva_storage import flash, vmdk
    from ipva_storage.appliance import machine
    from ipva_storage.appliance.vmx import new_vmx
    from ipva_storage.device.staging import staged

    flash.visible_ram_bytes(ram_bytes)  # refuses too little
    disks = {role.node: role.file_name for role in Role}
    vmx = new_vmx(ram_bytes=ram_bytes, disks=disks, mac=mac)
    _refuse_other(folder, force=force)
    contents = _contents(cf_bytes, firmware)
    with staged(folder, last=VMX_NAME, force=force) as stage:
        for role, (size_bytes, fill) in contents.items():
            vmdk.create(stage, role.file_name, size_bytes, subformat=subformat, fill=fill)
        stage.write_text(VMX_NAME, vmx.text())
    return machine.open(folder, VMX_NAME)


def _contents(
    cf_bytes: int, firmware: bytes | None
) -> dict[Role, tuple[int, Callable[[BlockDevice], None]]]:
    """Size of each disk, and what writes its content."""
    from ipva_storage import boot, dump, fat

    image = boot.demo_firmware() if firmware is None else firmware
    return {
        Role.BOOT: (roles.BOOT_BYTES, lambda device: format_boot(device, image)),
        Role.CF: (cf_bytes, lambda device: fat.format(device, label=roles.CF_LABEL)),
        Role.FLASH: (roles.FLASH_DISK_BYTES, format_flash),
        Role.DUMP: (roles.DUMP_BYTES, dump.format),
    }


def format_boot(device: BlockDevice, firmware: bytes) -> None:
    """Make a boot disk: one FAT16 volume without a partition table, with `ipva.bin` on it.

    Confidence: chosen (kind of volume), inferred (that it is FAT: the boot code's short name).
    """
    from ipva_storage import boot, fat

    fat.format(device, fat_bits=16, label=roles.BOOT_LABEL)
    volume = fat.open(device)
    volume.write(f"/{boot.FIRMWARE_NAME}", firmware)
    volume.flush()


def format_flash(device: BlockDevice) -> None:
    """Make a flash disk: the emulated flash at its start, with an empty directory."""
    from ipva_storage import flash
    from ipva_storage.device import SliceDevice

    flash.format(flash.NorDevice(SliceDevice(device, 0, flash.FLASH_BYTES)))
    device.flush()


def _refuse_other(folder: Folder, *, force: bool) -> None:
    """Refuse a folder that would then have two .vmx, or files that would be replaced."""
    from ipva_storage.appliance.machine import vmx_names

    others = [name for name in vmx_names(folder) if name != VMX_NAME]
    if others:
        raise UsageError(
            f"there is another virtual machine in it ({others[0]})",
            where=str(folder.path),
            remedy="choose a folder of its own",
        )
    names = {VMX_NAME, *(role.file_name for role in Role)}
    there = sorted(names & set(folder.names()))
    if there and not force:
        raise UsageError(
            f"{there[0]} is there already",
            where=str(folder.path),
            remedy="choose another folder, or use --force",
        )
