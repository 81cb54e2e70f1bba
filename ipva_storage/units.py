"""Sizes: the constants everything counts in, and how people write and read them.

All multiples are powers of 1024, whatever the spelling (`G`, `GB`, `GiB`), as VMware and the
appliance use them.
"""

from __future__ import annotations

import re
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
TIB: Final = 1024 * GIB

SECTOR_BYTES: Final = 512
"""A sector as VMDK descriptors, MBRs and IDE disks count it, in bytes.

Source: VMware Virtual Disk Format 5.0, "sectors (512 bytes)". Confidence: stated.
"""

_SIZE: Final = re.compile(r"([0-9]+)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE | re.ASCII)
_FACTOR: Final = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB}


def parse_size(text: str, *, default_factor: int = 1) -> int:
    """Bytes meant by a size as a person writes it.

    Args:
        text: `64M`, `1G`, `1GiB`, `1048576`; powers of 1024.
        default_factor: what a plain number counts, in bytes (1 for sizes, MIB for RAM).

    Raises:
        ValueError: the text is not a size; its message is one a user can read.

    >>> parse_size("64M")
    67108864
    >>> parse_size("20", default_factor=MIB)
    20971520
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"“{text}” is not a size; write it like 64M, 1G or 1048576")
    number, unit = match.groups()
    if len(number) > 18:
        raise ValueError(f"“{text}” is larger than any disk; write it like 64M or 1G")
    bare = text.strip().isdigit()
    return int(number) * (default_factor if bare else _FACTOR[unit.upper()])


def format_size(size_bytes: int) -> str:
    """A size for people, in the largest unit that leaves at least 1.

    >>> format_size(14 * MIB)
    '14.0 MiB'
    >>> format_size(512)
    '512 B'
    """
    for name, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {name}"
    return f"{size_bytes} B"


def printable(text: str) -> str:
    r"""Text on one line that a terminal only shows: what cannot be printed becomes an escape.

    Names, labels and hints come from images, which may lie: a terminal obeys escape sequences, and
    half a surrogate pair cannot be written at all.

    >>> print(printable("Größe\x1b[2J\n"))
    Größe\x1b[2J\n
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def truncate_decimals(numerator: int, denominator: int, digits: int) -> str:
    """A quotient printed with `digits` decimals, cut off and not rounded.

    Source: the seed's boot trace, `mem(64946176)=61.93MB`, where 64946176 / 2^20 is 61.9375.
    Confidence: inferred (rounding would give 61.94).

    >>> truncate_decimals(64946176, MIB, 2)
    '61.93'
    """
    scaled = numerator * 10**digits // denominator
    whole, fraction = divmod(scaled, 10**digits)
    return f"{whole}.{fraction:0{digits}d}" if digits else str(whole)
