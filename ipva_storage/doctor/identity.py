"""What a disk is by its content, and whether it stands where such a disk belongs.

Neither the file's name nor its place says what a disk is. A boot disk and a CompactFlash are both
FAT volumes; `ipva.bin` tells them apart, and the label where a card holds a copy of that file.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipva_storage import boot, dump, fat, flash
from ipva_storage.appliance import Role
from ipva_storage.appliance.roles import BOOT_LABEL, CF_LABEL
from ipva_storage.boot.loader import padded_name
from ipva_storage.device import SliceDevice, read
from ipva_storage.errors import IpvaError
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipva_storage.appliance import Appliance
    from ipva_storage.device import BlockDevice
    from ipva_storage.fat import FatVolume

_BLANK_LIMIT_BYTES: Final = 128 * MIB
"""So much is read to say that a disk is blank. Confidence: chosen."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a disk holds."""

    role: Role | None
    """The role whose disk it seems to be; None where that cannot be told."""
    text: str
    """The same in words."""
    label: str = ""
    """Of the FAT volume, if it is one."""


NOTHING: Final = Held(None, "nothing: it is blank")
UNKNOWN: Final = Held(None, "something that is not recognised")


def recognise_all(appliance: Appliance) -> dict[Role, Held]:
    """What each disk of a VM holds; one that cannot be read holds something unknown."""
    held = {}
    for role in Role:
        held[role] = UNKNOWN
        with (
            contextlib.suppress(IpvaError),  # told by who looks at that disk
            contextlib.closing(appliance.open_disk(role)) as disk,
        ):
            held[role] = recognise(disk)
    return held


def recognise(disk: BlockDevice) -> Held:
    """What a disk holds.

    Raises:
        DeviceError: it cannot be read.
    """
    if dump.identify(disk):
        return Held(Role.DUMP, "a log of crash dumps")
    for found in fat.find_volumes(disk):
        if found.kind.startswith("FAT"):
            return _volume(SliceDevice(disk, found.offset_bytes, found.length_bytes))
    if flash.identify(disk):
        return Held(Role.FLASH, "a flash directory")
    return NOTHING if is_blank(disk) else UNKNOWN


def _volume(device: BlockDevice) -> Held:
    try:
        volume = fat.open(device)
        label = volume.label or ""
        has_firmware = _has_firmware(volume)
    except IpvaError:
        return Held(None, "a damaged FAT volume")
    if has_firmware:
        return Held(Role.BOOT, f"a FAT volume with {boot.FIRMWARE_NAME}", label)
    return Held(Role.CF, "a FAT volume", label)


def _has_firmware(volume: FatVolume) -> bool:
    return any(padded_name(entry.short_name) == boot.SHORT_NAME for entry in volume.list("/"))


def is_blank(disk: BlockDevice) -> bool:
    """Whether a disk reads as zeros, or as erased flash, throughout. In doubt it does not."""
    read_bytes = 0
    for run in disk.extents():
        end = run.offset_bytes + run.length_bytes
        for at in range(run.offset_bytes, end if run.is_data else run.offset_bytes, MIB):
            chunk = read(disk, at, min(MIB, end - at))
            read_bytes += len(chunk)
            is_same = chunk.count(0) == len(chunk) or chunk.count(0xFF) == len(chunk)
            if not is_same or read_bytes > _BLANK_LIMIT_BYTES:
                return False
    return True


def is_misplaced(role: Role, held: Mapping[Role, Held]) -> bool:
    """Whether what stands on a role's node is the disk of another role."""
    here = held[role]
    if here.role is None or here.role is role:
        return False
    if here.role is Role.BOOT and role is Role.CF:
        return _is_boot_as_card(held)
    if here.role is Role.CF and role is Role.BOOT:
        # A boot disk that lost its firmware looks the same; then its label or the card tells.
        return here.label == CF_LABEL or (
            here.label != BOOT_LABEL and held[Role.CF].role is Role.BOOT and _is_boot_as_card(held)
        )
    return True


def _is_boot_as_card(held: Mapping[Role, Held]) -> bool:
    """Whether the volume with the firmware on the card's node is no card with a copy of it."""
    label = held[Role.CF].label
    return label == BOOT_LABEL or (label != CF_LABEL and held[Role.BOOT].role is not Role.BOOT)
