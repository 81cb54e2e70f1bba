"""What is wrong with each disk of a VM: the image file, then what is on it. Read-only."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from ipva_storage import boot, dump, fat, flash, vmdk
from ipva_storage.appliance import Role
from ipva_storage.appliance.roles import CF_LABEL
from ipva_storage.doctor import identity, places
from ipva_storage.errors import DeviceError, IpvaError, NoDiskError, VmdkError
from ipva_storage.findings import Finding
from ipva_storage.units import MIB, format_size
from ipva_storage.vmdk.checking.image import REPAIR

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ipva_storage.appliance import Appliance
    from ipva_storage.device import BlockDevice
    from ipva_storage.doctor.advice import Names


def examine(
    appliance: Appliance, role: Role, held: Mapping[Role, identity.Held], names: Names
) -> Iterator[Finding]:
    """Findings of one disk: the structure of its file, and what it holds.

    A disk that stands on the node of another role is told so, and no more: advice for the role
    would destroy it.
    """
    where = names.path(appliance, role)
    is_mended = False
    for found in _image(appliance, role):
        is_mended |= found.repair == REPAIR
        yield names.fill(replace(found, where=found.where or where), role)
    if identity.is_misplaced(role, held):
        yield places.misplaced(appliance, role, held, names)
        return
    try:
        with contextlib.closing(appliance.open_disk(role)) as disk:
            for found in _CONTENTS[role](appliance, disk, names):
                yield names.fill(replace(found, where=where), role)
    except IpvaError as error:
        unreadable = _unreadable(appliance, role, error, names)
        first = f"mend its image first: {REPAIR}"
        yield names.fill(replace(unreadable, repair=first), role) if is_mended else unreadable


def _unreadable(appliance: Appliance, role: Role, error: IpvaError, names: Names) -> Finding:
    where = names.path(appliance, role)
    node = f"ide{role.node}.fileName"
    usual = role.file_name
    is_gone = isinstance(error, DeviceError) and not appliance.folder.has(_named(appliance, role))
    if is_gone and appliance.folder.has(usual) and not _is_named(appliance, usual):
        repair = f'{usual} is there: in {names.vmx} set {node} = "{usual}"'
    elif appliance.vmx.disk_file(role.node) is None:
        repair = f'add a line like this to {names.vmx}: {node} = "{role.file_name}"'
    elif isinstance(error, NoDiskError) and error.remedy is not None:
        repair = f"{error.remedy}; put that beside {names.vmx}, and name it there: {node}"
    elif isinstance(error, NoDiskError):
        repair = f"name the {role} disk's own file in {names.vmx}: {node}"
    else:
        repair = f"put back {where} from a backup, or name the right file in {names.vmx}: {node}"
        if isinstance(error, VmdkError) and error.remedy is not None:
            repair = f"{error.remedy}; or {repair}"
    return Finding("VM001", role.place, error.message, where, error.offset_bytes, repair)


def _named(appliance: Appliance, role: Role) -> str:
    return appliance.vmx.disk_file(role.node) or ""


def _is_named(appliance: Appliance, name: str) -> bool:
    """Whether the .vmx names a file as a disk."""
    return any(_named(appliance, role) == name for role in Role)


def _image(appliance: Appliance, role: Role) -> Iterator[Finding]:
    """Findings of the image file; what forbids going on is told by the caller."""
    with (
        contextlib.suppress(IpvaError),
        appliance.folder.open(appliance.disk_name(role)) as raw,
    ):
        if vmdk.is_vmdk(raw) or vmdk.is_beheaded(raw):
            yield from vmdk.check(raw, appliance.folder)


def _boot(_: Appliance, disk: BlockDevice, __: Names) -> Iterator[Finding]:
    yield from fat.check_disk(disk)
    yield from boot.check(disk)


def _cf(_: Appliance, disk: BlockDevice, names: Names) -> Iterator[Finding]:
    findings = list(fat.check_disk(disk))
    yield from findings
    if not any(found.kind.startswith("FAT") for found in fat.find_volumes(disk)):
        if not any(found.code == "FAT001" and found.repair for found in findings):
            yield _unformatted(disk, names)
        return
    volume = fat.open_first(disk)
    unused = disk.size_bytes - volume.size_bytes
    if unused > disk.size_bytes // 16:
        message = f"the volume has {format_size(volume.size_bytes)}, and the disk"
        yield Finding("VM008", Role.CF.place, f"{message} {format_size(disk.size_bytes)}")


def _unformatted(disk: BlockDevice, names: Names) -> Finding:
    card = names.disk(Role.CF)
    if identity.is_blank(disk):
        message = "it is blank, and was never formatted"
        repair = f"ipva fs format --label {CF_LABEL} {card}"
    else:
        message = "it holds something that is no FAT volume; formatting loses it"
        repair = (
            "put the right file into its place, or keep a copy (ipva disk convert -O "
            f"monolithicSparse {card} cf-copy.vmdk) before you format it: "
            f"ipva fs format --force --label {CF_LABEL} {card}"
        )
    return Finding("VM001", Role.CF.place, message, repair=repair)


def _flash(appliance: Appliance, disk: BlockDevice, names: Names) -> Iterator[Finding]:
    if disk.size_bytes < flash.FLASH_BYTES:
        yield Finding(
            "VM011",
            Role.FLASH.place,
            f"it has {format_size(disk.size_bytes)}, and the flash needs "
            f"{format_size(flash.FLASH_BYTES)}",
            repair=f"put the flash disk's file into ide{Role.FLASH.node}.fileName of {names.vmx}",
        )
        return
    nor = flash.NorDevice(disk)
    found = list(flash.check(nor))
    yield from found
    if any(each.code == "FLASH011" for each in found):
        return
    with contextlib.suppress(IpvaError):  # told by the machine's findings: RAM
        segment_count = flash.DEFAULT_RULE.segment_count(appliance.ram_bytes)
        yield from _fits(flash.open(nor, read_only=True).plan(segment_count), appliance, names)


def _fits(plan: flash.ShrinkPlan, appliance: Appliance, names: Names) -> Iterator[Finding]:
    if plan.fits:
        return
    ram_bytes = flash.DEFAULT_RULE.minimum_ram_bytes(plan.needed_segment_count)
    yield Finding(
        "VM006",
        Role.FLASH.place,
        f"objects that do not fit: {len(plan.lost)} (segments with this RAM: "
        f"{plan.segment_count}, needed: {plan.needed_segment_count}); to see them: "
        f"ipva flash plan {names.command} --ram {appliance.ram_bytes // MIB}",
        repair=f'before the next boot, set memsize = "{-(-ram_bytes // MIB)}" or more '
        f"in {names.vmx}",
    )


def _dump(_: Appliance, disk: BlockDevice, names: Names) -> Iterator[Finding]:
    yield from dump.check(disk)
    with contextlib.suppress(IpvaError):  # told by the check
        records = dump.open(disk).records()
        if records:
            count = "1 crash dump" if len(records) == 1 else f"{len(records)} crash dumps"
            yield Finding(
                "VM007",
                Role.DUMP.place,
                f"{count}, the newest of {records[-1].time:%Y-%m-%d %H:%M:%S}; to read it: "
                f"ipva dump show {names.command}",
            )


_CONTENTS = {Role.BOOT: _boot, Role.CF: _cf, Role.FLASH: _flash, Role.DUMP: _dump}
