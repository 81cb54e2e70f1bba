"""The flash disk as the appliance mounts it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ipva_storage.appliance.roles import Role
from ipva_storage.device import OverlayDevice, SliceDevice, read
from ipva_storage.errors import FlashError
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.appliance.machine import Appliance
    from ipva_storage.device import BlockDevice
    from ipva_storage.flash import FlashDirectory


@contextlib.contextmanager
def mounted_flash(
    appliance: Appliance, *, dry_run: bool = False
) -> Iterator[tuple[FlashDirectory, bool]]:
    """The flash directory of an appliance, mounted for writing and sealed at the end.

    An empty disk is formatted, as after the vendor's factory reset.

    Args:
        appliance: the machine.
        dry_run: let everything be written to memory instead.

    Yields:
        The directory, and whether its disk was empty.

    Raises:
        FlashError: the disk is too small, holds something else, or is damaged.
        DeviceError: it cannot be opened or written.
    """
    with contextlib.closing(appliance.open_disk(Role.FLASH, writable=not dry_run)) as disk:
        try:
            yield from _mounted(OverlayDevice(disk) if dry_run else disk)
        except FlashError as error:
            error.where = f"{disk.name}, {Role.FLASH.place}"
            raise


def _mounted(disk: BlockDevice) -> Iterator[tuple[FlashDirectory, bool]]:
    from ipva_storage import flash

    if disk.size_bytes < flash.FLASH_BYTES:
        raise FlashError(
            f"it has {disk.size_bytes} bytes, and the flash needs {flash.FLASH_BYTES}",
            remedy="put the right disk on this node",
        )
    part = SliceDevice(disk, 0, flash.FLASH_BYTES)
    was_blank = not flash.identify(part)
    if was_blank:
        _refuse_unknown(part)
        flash.format(flash.NorDevice(part))
    directory = flash.open(flash.NorDevice(part))
    yield directory, was_blank
    directory.close()  # after an error it stays unsealed, and the next mount recovers it
    disk.flush()


def _refuse_unknown(part: BlockDevice) -> None:
    """Refuse to format a disk that holds anything."""
    for run in part.extents():
        if not run.is_data:
            continue
        end = run.offset_bytes + run.length_bytes
        for at in range(run.offset_bytes, end, MIB):
            chunk = read(part, at, min(MIB, end - at))
            if chunk.strip(b"\0") and chunk.strip(b"\xff"):
                raise FlashError(
                    "it holds something that is not a flash directory of our layout",
                    remedy="a boot would destroy it; `ipva info` says what it is. An empty disk "
                    "in its place is a factory reset",
                )
