"""What is wrong with the firmware on a boot disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipva_storage.boot.firmware import ChecksumError, parse_firmware
from ipva_storage.boot.loader import read_image
from ipva_storage.errors import FatError, FirmwareError
from ipva_storage.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice

_REPLACE: Final = (
    "take a good one from another appliance (ipva fs get OTHER#boot:/ipva.bin .), then: "
    "ipva fs put --force ipva.bin VM#boot:/ipva.bin"
)
_LEAVE_OR_REPLACE: Final = f"leave it if it is the vendor's; else {_REPLACE}"
_NEW_DISK: Final = (
    "put the boot disk of another appliance in its place; or keep a copy (ipva disk convert -O "
    "monolithicSparse VM#boot boot-copy.vmdk) and format it, which loses what it holds: "
    "ipva fs format --force --label HD-BOOT VM#boot"
)


def check(device: BlockDevice) -> Iterator[Finding]:
    """Whether an appliance would boot from this disk, and why not. Writes nothing.

    Raises:
        DeviceError: the disk cannot be read.
    """
    try:
        image = read_image(device)
    except FatError as error:
        yield Finding("BOOT001", "boot volume", error.message, None, error.offset_bytes, _NEW_DISK)
        return
    except FirmwareError as error:
        yield Finding("BOOT002", "firmware file", error.message, None, None, _REPLACE)
        return
    try:
        parse_firmware(image)
    except ChecksumError as error:
        yield Finding("BOOT004", "firmware payload", error.message, None, None, _REPLACE)
    except FirmwareError as error:
        yield Finding("BOOT003", "firmware header", error.message, None, None, _LEAVE_OR_REPLACE)
