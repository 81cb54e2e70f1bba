"""Building and reading a firmware image."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import construct as c

from ipva_formats import firmware as layout
from ipva_storage.errors import FirmwareError, UsageError
from ipva_storage.units import KIB

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CRC_OFFSET_BYTES: Final = layout.HEADER_BYTES - 4

_DEMO_NOTICE: Final = (
    "This is not innovaphone's firmware and does not run on any machine.\r\n"
    "It is a stand-in made by ipva_storage, so that a simulated appliance has a file to load,\r\n"
    "to check and to damage. What follows is noise that is the same everywhere.\r\n"
)
_DEMO_NOISE_BYTES: Final = 320 * KIB
_DEMO_TIME: Final = datetime(2011, 3, 7, tzinfo=UTC)


class ChecksumError(FirmwareError):
    """The header is whole, and the payload is not the one it was written for."""


@dataclass(frozen=True, slots=True)
class Firmware:
    """A firmware image."""

    version: str
    build: int
    time: datetime
    """When it was built, in UTC, in whole seconds."""
    payload: bytes

    @property
    def payload_bytes(self) -> int:
        """Length of the payload."""
        return len(self.payload)


def build_firmware(payload: bytes, *, version: str, build: int, time: datetime) -> bytes:
    """An image of our layout.

    Args:
        payload: at most 64 MiB.
        version: at most 32 bytes in UTF-8, printable.
        build: 0 to 2^32 − 1.
        time: fractions of a second are dropped; one without a zone is taken as UTC.

    Raises:
        UsageError: one of them is not as above.
    """
    name = version.encode("utf-8", "replace")
    if len(name) > layout.VERSION_BYTES or not version.isprintable():
        raise UsageError(f"a version must be printable and at most {layout.VERSION_BYTES} bytes")
    if not 0 <= build < 2**32:
        raise UsageError(f"a build number of {build} does not fit in 32 bits")
    if len(payload) > layout.PAYLOAD_LIMIT_BYTES:
        raise UsageError(f"a firmware of {len(payload)} bytes is too long for a loader")
    when = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    header = layout.HEADER.build(
        {
            "version": name.ljust(layout.VERSION_BYTES, b"\0"),
            "build": build,
            "payload_bytes": len(payload),
            "time_s": (when - _EPOCH) // timedelta(seconds=1),
            "payload_crc32": zlib.crc32(payload),
            "crc32": 0,
        }
    )[:_CRC_OFFSET_BYTES]
    return b"".join((header, zlib.crc32(header).to_bytes(4, "little"), payload))


def parse_firmware(data: bytes) -> Firmware:
    """The image in `data`, which must hold it and nothing else.

    Raises:
        ChecksumError: the header is whole and the payload is not: cut short, or changed.
        FirmwareError: this is no firmware image of our layout.
    """
    header = data[: layout.HEADER_BYTES]
    fields, time, version = _parse_header(header)
    payload = data[layout.HEADER_BYTES :]
    if len(payload) > fields.payload_bytes:
        raise FirmwareError(
            f"there are {len(payload) - fields.payload_bytes} bytes after its end",
            where="firmware",
            offset_bytes=layout.HEADER_BYTES + fields.payload_bytes,
        )
    if len(payload) < fields.payload_bytes:
        raise ChecksumError(
            f"the payload ends after {len(payload)} of {fields.payload_bytes} bytes",
            where="firmware",
            offset_bytes=len(data),
        )
    if zlib.crc32(payload) != fields.payload_crc32:
        raise ChecksumError(
            "the payload's checksum is wrong", where="firmware", offset_bytes=layout.HEADER_BYTES
        )
    return Firmware(version, fields.build, time, bytes(payload))


def _parse_header(header: bytes) -> tuple[Any, datetime, str]:
    stated_crc32 = int.from_bytes(header[_CRC_OFFSET_BYTES:], "little")
    if not header.startswith(layout.MAGIC):
        raise _no_firmware("it does not start with IPVAFIRM", 0)
    if len(header) < layout.HEADER_BYTES:
        raise _no_firmware(f"its header ends after {len(header)} bytes", len(header))
    if zlib.crc32(header[:_CRC_OFFSET_BYTES]) != stated_crc32:
        raise _no_firmware("its header's checksum is wrong", _CRC_OFFSET_BYTES)
    try:
        fields = layout.HEADER.parse(header)
        time = _EPOCH + timedelta(seconds=fields.time_s)
        version = fields.version.rstrip(b"\0").decode()
    except (c.ConstructError, OverflowError, UnicodeDecodeError) as error:
        raise _no_firmware("its header makes no sense", 0) from error
    if fields.payload_bytes > layout.PAYLOAD_LIMIT_BYTES or not version.isprintable():
        raise _no_firmware("its header makes no sense", 0)
    return fields, time, version


def _no_firmware(reason: str, offset_bytes: int) -> FirmwareError:
    return FirmwareError(
        f"this is no firmware image of our layout: {reason}",
        where="firmware",
        offset_bytes=offset_bytes,
    )


def demo_firmware() -> bytes:
    """A stand-in of about 320 KiB, the same bytes every time; its text says that it is ours."""
    noise = hashlib.shake_256(b"ipva_storage stand-in firmware").digest(_DEMO_NOISE_BYTES)
    payload = _DEMO_NOTICE.encode() + noise
    return build_firmware(payload, version="stand-in 1", build=1, time=_DEMO_TIME)
