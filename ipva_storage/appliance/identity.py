"""What a licence is bound to: the MAC address and the BIOS UUID of a virtual machine."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

from ipva_storage.errors import UsageError
from ipva_storage.units import printable

STATIC_PREFIX: Final = bytes.fromhex("005056")
"""What a MAC address that a person assigns starts with.

Source: VMware manuals, "Setting MAC Addresses Manually": 00:50:56:00:00:00 to 00:50:56:3F:FF:FF.
Confidence: stated.
"""

STATIC_FOURTH_MAX: Final = 0x3F
"""Highest fourth byte of such an address; above it VMware generates its own. Source: as above."""

_MAC: Final = re.compile(r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}")
_UUID: Final = re.compile(r"(?:[0-9A-Fa-f]{2}[ -]){15}[0-9A-Fa-f]{2}")


def parse_mac(text: str) -> bytes | None:
    """The six bytes of an address written with colons or dashes, or None."""
    text = text.strip()
    return bytes.fromhex(re.sub("[:-]", "", text)) if _MAC.fullmatch(text) else None


def parse_static_mac(text: str) -> bytes:
    """The six bytes of an address that VMware lets a person assign.

    Raises:
        UsageError: it is none.
    """
    mac = parse_mac(text)
    if mac is None or not is_static_mac(mac):
        raise UsageError(
            f"“{printable(text[:40])}” is no address that VMware lets a person assign",
            remedy="use one from 00:50:56:00:00:00 to 00:50:56:3f:ff:ff",
        )
    return mac


def is_static_mac(mac: bytes) -> bool:
    """Whether an address is in VMware's range for assigned ones."""
    return mac.startswith(STATIC_PREFIX) and mac[3] <= STATIC_FOURTH_MAX


def format_mac(mac: bytes) -> str:
    """An address as a `.vmx` has it."""
    return mac.hex(":")


def random_static_mac() -> str:
    """An address that nobody else is likely to have (one of four million)."""
    number = secrets.randbelow((STATIC_FOURTH_MAX + 1) << 16)
    return format_mac(STATIC_PREFIX + number.to_bytes(3, "big"))


def parse_uuid(text: str) -> bytes | None:
    """The 16 bytes of a UUID as a `.vmx` has it, or None."""
    text = text.strip()
    return bytes.fromhex(re.sub("[ -]", "", text)) if _UUID.fullmatch(text) else None


def format_uuid(uuid: bytes) -> str:
    """A UUID as a `.vmx` has it: two groups of eight bytes with a dash between.

    >>> format_uuid(bytes.fromhex("564d64b952ce38576629e8f277f4c6d9"))
    '56 4d 64 b9 52 ce 38 57-66 29 e8 f2 77 f4 c6 d9'
    """
    return f"{uuid[:8].hex(' ')}-{uuid[8:].hex(' ')}"


def uuid_of(mac: bytes) -> bytes:
    """A UUID for a new machine: `56 4d`, then eleven bytes that follow from the address, its end.

    Source: vendor page "Concept Innovaphone Virtual Appliance", sample (the two first bytes and the
    three last). Confidence: inferred (those), chosen (the rest).
    """
    return b"\x56\x4d" + hashlib.sha256(mac).digest()[:11] + mac[-3:]
