from __future__ import annotations

import hashlib
import pickle
import zlib
from datetime import UTC, datetime

import pytest

from ipva_formats import firmware as layout
from ipva_storage import boot
from ipva_storage.boot.firmware import ChecksumError
from ipva_storage.errors import FirmwareError, UsageError

TIME = datetime(2017, 1, 10, 8, 30, tzinfo=UTC)


def test_an_image_comes_back_as_it_was_built() -> None:
    """Version, build, time and payload survive."""
    image = boot.build_firmware(b"code", version="12r1 sr7", build=129999, time=TIME)
    assert len(image) == layout.HEADER_BYTES + 4
    assert boot.parse_firmware(image) == boot.Firmware("12r1 sr7", 129999, TIME, b"code")


def test_the_stand_in_is_the_same_everywhere_and_says_what_it_is() -> None:
    """The demo image is deterministic, of a few hundred KiB, and not passed off as the vendor's."""
    image = boot.demo_firmware()
    assert image == boot.demo_firmware()
    assert 200 * 1024 < len(image) < 500 * 1024
    assert b"not innovaphone's firmware" in image
    assert hashlib.sha256(image).hexdigest()[:16] == "1e7b1bf8960979fa"
    assert boot.parse_firmware(image).payload_bytes == len(image) - layout.HEADER_BYTES


@pytest.mark.parametrize("at", [128, 200, -1])
def test_a_changed_payload_is_a_checksum_error(at: int) -> None:
    """One flipped bit in the payload is told apart from a bad header."""
    image = bytearray(boot.demo_firmware())
    image[at] ^= 0x10
    with pytest.raises(ChecksumError):
        boot.parse_firmware(bytes(image))


def test_a_short_payload_is_a_checksum_error() -> None:
    """A file that an interrupted update left short fails like a damaged one."""
    with pytest.raises(ChecksumError, match="ends after"):
        boot.parse_firmware(boot.demo_firmware()[:1000])


@pytest.mark.parametrize("at", range(layout.HEADER_BYTES))
def test_every_byte_of_the_header_is_covered(at: int) -> None:
    """A flipped bit anywhere in the header makes it no firmware."""
    image = bytearray(boot.build_firmware(b"code", version="v", build=1, time=TIME))
    image[at] ^= 1
    with pytest.raises(FirmwareError) as caught:
        boot.parse_firmware(bytes(image))
    assert not isinstance(caught.value, ChecksumError)


@pytest.mark.parametrize("data", [b"", b"IPVAFIRM", b"MZ" * 200, bytes(128)])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    """Too short, foreign and blank files are not parsed."""
    with pytest.raises(FirmwareError, match="no firmware image"):
        boot.parse_firmware(data)


def test_bytes_after_the_payload_are_refused() -> None:
    """An image ends where its header says."""
    with pytest.raises(FirmwareError, match="1 bytes after its end"):
        boot.parse_firmware(boot.demo_firmware() + b"\0")


def forged(**changes: object) -> bytes:
    """A header with right checksums and wrong content."""
    fields: dict[str, object] = {
        "version": bytes(32),
        "build": 1,
        "payload_bytes": 0,
        "time_s": 0,
        "payload_crc32": 0,
        "crc32": 0,
    }
    body = layout.HEADER.build(fields | changes)[:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")


@pytest.mark.parametrize(
    "changes",
    [
        {"time_s": 2**62},
        {"version": b"\xff" * 32},
        {"version": b"\x1b[2J".ljust(32, b"\0")},
        {"payload_bytes": 2**32 - 1},
    ],
    ids=["time", "encoding", "control", "length"],
)
def test_a_header_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    """Right checksums do not make absurd values acceptable."""
    assert boot.parse_firmware(forged()).payload == b""
    with pytest.raises(FirmwareError, match="makes no sense"):
        boot.parse_firmware(forged(**changes))


@pytest.mark.parametrize(
    ("version", "build"), [("x" * 33, 1), ("a\nb", 1), ("v", -1), ("v", 2**32)]
)
def test_values_that_do_not_fit_are_refused(version: str, build: int) -> None:
    """A builder that cannot keep a value says so."""
    with pytest.raises(UsageError):
        boot.build_firmware(b"", version=version, build=build, time=TIME)


def test_a_boot_error_keeps_its_console_text_across_processes() -> None:
    """The console text survives pickling, as it must in a process pool."""
    text = "checksum wrong! Loading failed for image=IPVA    BIN"
    again = pickle.loads(pickle.dumps(boot.BootError("x", console=text, where="hd-boot.vmdk")))
    assert (again.console, again.where, again.message) == (text, "hd-boot.vmdk", "x")
