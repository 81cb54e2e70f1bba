"""How a fuzzer's bytes are cut up, and edits of a file that serve any format.

Four bytes of head, then edits of eight bytes each, so that any change of the bytes is a change of
the image. What the head and an edit mean is told by the inputs of each room.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Final

Edit = Callable[[bytearray, int, int, int], None]
"""Changes content at a byte, with the two numbers of an edit."""

SECTOR: Final = 512
HEAD: Final = struct.Struct("<BBBB")
RECORD: Final = struct.Struct("<BHBI")
EDITS_MAX: Final = 24

ODD_VALUES: Final = (
    *(0, 1, 2, 3, 7, 8, 15, 16, 21, 31, 32, 63, 64, 127, 128, 129, 255, 256, 511, 512, 513, 1024),
    *(2**exponent + step for exponent in (11, 12, 15, 16, 17, 20, 24, 31) for step in (-1, 0, 1)),
    *(2**32 - 2, 2**32 - 1, 2**32, 2**33, 2**37 - 1, 2**37, 2**40, 2**48, 2**55, 2**63 - 1, 2**63),
    *(2**64 - 2, 2**64 - 1, 0x564D444B, 0x44574F43, 0x3000 << 48, 0x10000000 << 32, 0x1000000),
)


def put(content: bytearray, at: int, how: int, value: int) -> None:
    """One to four bytes."""
    length = how % 4 + 1
    content[at : at + length] = value.to_bytes(4, "little")[:length]


def put_odd(content: bytearray, at: int, how: int, value: int) -> None:
    """A number of 32 bits that programs stumble over."""
    number = ODD_VALUES[how % len(ODD_VALUES)] + (value & 3)
    content[at : at + 4] = (number & 0xFFFF_FFFF).to_bytes(4, "little")


def put_odd_long(content: bytearray, at: int, how: int, value: int) -> None:
    """A number of 64 bits that programs stumble over."""
    number = ODD_VALUES[how % len(ODD_VALUES)] + (value & 3)
    content[at : at + 8] = (number & (1 << 64) - 1).to_bytes(8, "little")


def add(content: bytearray, at: int, how: int, value: int) -> None:
    """A little more or less than before, at several words in a row."""
    for place in range(at, at + 4 * (value % 64 + 1), 4):
        old = int.from_bytes(content[place : place + 4], "little")
        new = (old + how - 128) & 0xFFFF_FFFF
        content[place : place + 4] = new.to_bytes(4, "little")


def flip(content: bytearray, at: int, how: int, value: int) -> None:
    """One bit."""
    if at + value % 8 < len(content):
        content[at + value % 8] ^= 1 << how % 8


def copy_word(content: bytearray, at: int, how: int, value: int) -> None:
    """A word from elsewhere, or the word some words further on."""
    place = at + 4 * (how - 128) if how else value * 4 % max(len(content), 1)
    content[at : at + 4] = content[max(place, 0) : max(place, 0) + 4]


def blank(content: bytearray, at: int, how: int, value: int) -> None:
    """Sectors of zeros, ones or noise."""
    start, length = at & -SECTOR, (how % 8 + 1) * SECTOR
    part = content[start : start + length]
    kinds = (bytes(len(part)), b"\xff" * len(part), random.Random(value).randbytes(len(part)))
    content[start : start + length] = kinds[value % 3]


def drop(content: bytearray, at: int, how: int, _: int) -> None:
    """Some sectors less; what is behind moves up."""
    start = at & -SECTOR
    del content[start : start + (how % 8 + 1) * SECTOR]


def repeat(content: bytearray, at: int, how: int, value: int) -> None:
    """Some sectors once more, here; what is behind moves down."""
    source = value * SECTOR % max(len(content), 1)
    start, length = at & -SECTOR, (how % 8 + 1) * SECTOR
    content[start:start] = content[source : source + length]


def copy_sectors(content: bytearray, at: int, how: int, value: int) -> None:
    """Sectors from elsewhere over these."""
    source = value * SECTOR % max(len(content), 1)
    part = content[source : source + (how % 8 + 1) * SECTOR]
    content[at & -SECTOR : (at & -SECTOR) + len(part)] = part


def cut(content: bytearray, at: int, how: int, value: int) -> None:
    """End the file here, at a sector or within one; counted from the end where `value` is odd."""
    end = at if how % 2 else at & -SECTOR
    del content[max(len(content) - end, 0) if value % 2 else end :]


def append(content: bytearray, _: int, how: int, value: int) -> None:
    """Something behind the end."""
    length = how * (SECTOR if value % 2 else 1)
    content.extend(bytes(length) if value % 4 < 2 else random.Random(value).randbytes(length))
