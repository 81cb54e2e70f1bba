"""What is wrong with each disk of a VM: the image file, then what is on it. Read-only."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ipva_storage import boot, dump, fat, flash, vmdk
from ipva_storage.appliance import Role
from ipva_storage.device import SliceDevice
from ipva_storage.errors import IpvaError
from ipva_storage.findings import Finding
from ipva_storage.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.appliance import Appliance
    from ipva_storage.device import BlockDevice


def examine(appliance: Appliance, role: Role) -> Iterator[Finding]:
    """Findings of one disk: the structure of its file, and what it holds."""
    yield from _image(appliance, role)
    try:
        disk = appliance.open_disk(role)
    except IpvaError as error:
        yield Finding("VM001", role.place, error.message, repair=error.remedy)
        return
    with contextlib.closing(disk):
        yield from _CONTENTS[role](appliance, disk)


def _image(appliance: Appliance, role: Role) -> Iterator[Finding]:
    try:
        raw = appliance.folder.open(appliance.disk_name(role))
    except IpvaError:  # told by the caller, which opens the disk
        return
    with raw:
        if vmdk.is_vmdk(raw):
            yield from vmdk.check(raw, appliance.folder)


def _boot(_: Appliance, disk: BlockDevice) -> Iterator[Finding]:
    yield from _volumes(disk)
    yield from boot.check(disk)


def _cf(_: Appliance, disk: BlockDevice) -> Iterator[Finding]:
    yield from _volumes(disk)
    try:
        volume = fat.open_first(disk)
    except IpvaError as error:
        yield Finding("VM001", Role.CF.place, error.message, repair=error.remedy)
        return
    unused = disk.size_bytes - volume.size_bytes
    if unused > disk.size_bytes // 16:
        message = f"the volume has {format_size(volume.size_bytes)}, and the disk"
        yield Finding("VM008", Role.CF.place, f"{message} {format_size(disk.size_bytes)}")


def _volumes(disk: BlockDevice) -> Iterator[Finding]:
    for volume in fat.find_volumes(disk):
        yield from fat.check(SliceDevice(disk, volume.offset_bytes, volume.length_bytes))


def _flash(appliance: Appliance, disk: BlockDevice) -> Iterator[Finding]:
    try:
        nor = flash.NorDevice(disk)
        yield from flash.check(nor)
        directory = flash.open(nor, read_only=True)
        segment_count = flash.DEFAULT_RULE.segment_count(appliance.ram_bytes)
    except IpvaError:  # told by the check, or by the machine's findings
        return
    plan = directory.plan(segment_count)
    if not plan.fits:
        ram_bytes = flash.DEFAULT_RULE.minimum_ram_bytes(plan.needed_segment_count)
        yield Finding(
            "VM006",
            Role.FLASH.place,
            f"{len(plan.lost)} objects do not fit into {segment_count} segments",
            repair=f"give the VM {format_size(ram_bytes)} of RAM",
        )


def _dump(_: Appliance, disk: BlockDevice) -> Iterator[Finding]:
    yield from dump.check(disk)
    with contextlib.suppress(IpvaError):  # told by the check
        records = dump.open(disk).records()
        if records:
            yield Finding(
                "VM007",
                Role.DUMP.place,
                f"{len(records)}, the newest of {records[-1].time:%Y-%m-%d %H:%M:%S}",
                repair="ipva dump show VM",
            )


_CONTENTS = {Role.BOOT: _boot, Role.CF: _cf, Role.FLASH: _flash, Role.DUMP: _dump}
