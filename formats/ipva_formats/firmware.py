"""The firmware image `ipva.bin`: a header of 128 bytes, then the payload.

The layout is ours: the vendor's header and checksum are not public. Images made here cannot run on
an appliance, and the vendor's images are not recognised.

Source: vendor page "Concept Innovaphone Virtual Appliance", "Checksum Boot Error" (that the file
`IPVA    BIN` has a checksum). Confidence: chosen (every byte below). Spec:
`formats/spec/firmware.md`.
"""

from __future__ import annotations

from typing import Final

import construct as c

HEADER_BYTES: Final = 128
"""Length of the header; the payload follows at once. Confidence: chosen."""

MAGIC: Final = b"IPVAFIRM"
HEADER_VERSION: Final = 1

VERSION_BYTES: Final = 32
"""Room for the version's name: UTF-8, padded with zeros. Confidence: chosen."""

PAYLOAD_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""The longest payload that a loader accepts. Confidence: chosen."""

HEADER: Final = c.Struct(
    "magic" / c.Const(MAGIC),
    "header_version" / c.Const(HEADER_VERSION, c.Int16ul),
    "header_bytes" / c.Const(HEADER_BYTES, c.Int16ul),
    "flags" / c.Const(0, c.Int32ul),
    "version" / c.Bytes(VERSION_BYTES),
    "build" / c.Int32ul,
    "payload_bytes" / c.Int32ul,
    "time_s" / c.Int64sl,
    "payload_crc32" / c.Int32ul,
    c.Padding(HEADER_BYTES - 68 - 4),
    "crc32" / c.Int32ul,
)
"""The header. Its CRC covers the bytes before the CRC, padding included. Confidence: chosen."""

assert HEADER.sizeof() == HEADER_BYTES
