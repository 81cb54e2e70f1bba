"""The boot code: finds the firmware on the boot disk by its short name, and checks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipva_formats import firmware as layout
from ipva_storage import fat
from ipva_storage.boot.firmware import ChecksumError, Firmware, parse_firmware
from ipva_storage.errors import FirmwareError, IpvaError

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice

FIRMWARE_NAME: Final = "ipva.bin"
"""The file on the boot disk.

Source: vendor page "Concept Innovaphone Virtual Appliance", "Are Firmware Updates Possible?".
Confidence: stated.
"""

SHORT_NAME: Final = "IPVA    BIN"
"""What the boot code looks for: the eleven bytes of a short name, as its error texts print them.

Source: the same page, "Checksum Boot Error". Confidence: stated (the text), inferred (that the
boot code compares the short name).
"""

LOAD_FAILED: Final = f"Loading failed for image={SHORT_NAME}"
"""Console text when there is nothing to load.

Source: reference digest of the same page, "load error, no checksum text". Confidence: stated.
"""

CHECKSUM_WRONG: Final = f"checksum wrong! {LOAD_FAILED}"
"""Console text when the image is damaged. Source: the same page. Confidence: stated."""


class BootError(FirmwareError):
    """The appliance stops while it boots.

    Attributes:
        console: what its console shows, to the character.
    """

    def __init__(
        self,
        message: str,
        *,
        console: str = LOAD_FAILED,
        where: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, where=where, remedy=remedy)
        self.console = console


def load(device: BlockDevice) -> Firmware:
    """The firmware on a boot disk.

    Args:
        device: the whole disk; its first FAT volume is used.

    Raises:
        BootError: there is no such file, or it is damaged; `console` says what an appliance says,
            the message says why.
    """
    try:
        return parse_firmware(read_image(device))
    except IpvaError as error:
        console = CHECKSUM_WRONG if isinstance(error, ChecksumError) else LOAD_FAILED
        raise BootError(
            f"{console} ({error.message})",
            console=console,
            where=device.name,
            remedy="put a whole ipva.bin on the boot disk, or replace the disk",
        ) from error


def read_image(device: BlockDevice) -> bytes:
    """The bytes of the firmware file on a boot disk.

    Raises:
        FatError: no FAT volume, no such file, or its clusters cannot be followed.
        FirmwareError: the file is longer than any firmware.
        DeviceError: the disk cannot be read.
    """
    volume = fat.open_first(device)
    for entry in volume.list("/"):
        if padded_name(entry.short_name) != SHORT_NAME or entry.is_dir or entry.is_deleted:
            continue
        if entry.size_bytes > layout.HEADER_BYTES + layout.PAYLOAD_LIMIT_BYTES:
            raise FirmwareError(
                f"{FIRMWARE_NAME} claims {entry.size_bytes} bytes, more than any firmware has",
                where=device.name,
            )
        return volume.read(f"/{entry.name}")
    raise FirmwareError(f"there is no {FIRMWARE_NAME} on it", where=device.name)


def padded_name(short_name: str) -> str:
    """A short name as its eleven characters on the disk: `IPVA.BIN` gives `IPVA    BIN`."""
    name, _, extension = short_name.upper().partition(".")
    return f"{name:<8}{extension:<3}"
