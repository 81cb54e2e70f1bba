"""The two superblocks: which one counts, and how both are replaced without a moment of none.

Invariants:

1. At every moment at least one copy is whole, and the whole one with the higher generation counts.
2. The copy that does not count is written first, and is durable before the other is touched.
"""

from __future__ import annotations

import dataclasses
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import construct as c

from ipva_formats import dump as layout
from ipva_storage.device import is_zero, read
from ipva_storage.errors import DumpError

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice

CRC_OFFSET_BYTES: Final = layout.SECTOR_BYTES - 4
"""Where the CRC of either structure is in its sector; it covers all bytes before it."""

MINIMUM_RING_BYTES: Final = 64 * 1024
"""Below this a disk is too small to be a dump disk. Confidence: chosen."""


@dataclass(frozen=True, slots=True)
class Superblock:
    """What a superblock says."""

    log_id: int
    generation: int
    ring_offset_bytes: int
    ring_bytes: int
    tail_offset_bytes: int
    """Where the oldest record is, or where the next one would go in an empty log."""
    tail_sequence: int
    """Sequence of the oldest record, or of the next one in an empty log."""
    next_sequence: int
    """Every record below it was committed when this was written."""

    @property
    def ring_end_bytes(self) -> int:
        """First byte after the ring."""
        return self.ring_offset_bytes + self.ring_bytes

    def fault(self, device_bytes: int) -> str | None:
        """Why the numbers cannot be true on a device of that size, or None."""
        sector = layout.SECTOR_BYTES
        first = layout.SUPERBLOCK_OFFSETS_BYTES[-1] + sector
        offsets = (self.ring_offset_bytes, self.ring_bytes, self.tail_offset_bytes)
        if any(value % sector for value in offsets):
            return "it has an offset that is not on a sector border"
        if self.ring_offset_bytes < first or not (
            MINIMUM_RING_BYTES <= self.ring_bytes <= layout.RING_LIMIT_BYTES
        ):
            return f"its ring of {self.ring_bytes} bytes is not one that a format makes"
        if self.ring_end_bytes > device_bytes:
            return f"its ring ends at {self.ring_end_bytes}, after the end of the disk"
        if not self.ring_offset_bytes <= self.tail_offset_bytes <= self.ring_end_bytes:
            return "its oldest record lies outside its ring"
        if not 0 < self.tail_sequence <= self.next_sequence < layout.SEQUENCE_LIMIT:
            return "its sequence numbers are out of order"
        return None if self.generation < layout.SEQUENCE_LIMIT else "its generation is impossible"


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy as it is on the disk."""

    offset_bytes: int
    superblock: Superblock | None
    fault: str | None
    """Why it cannot be used; None when it can, or when it is all zero."""


def read_copies(device: BlockDevice) -> tuple[Copy, Copy]:
    """Both copies of the superblock; one past the end of a short device reads as zeros."""
    first, second = (_read_copy(device, at) for at in layout.SUPERBLOCK_OFFSETS_BYTES)
    return first, second


def _read_copy(device: BlockDevice, offset_bytes: int) -> Copy:
    length_bytes = min(layout.SECTOR_BYTES, max(0, device.size_bytes - offset_bytes))
    sector = read(device, offset_bytes, length_bytes) if length_bytes else b""
    sector = sector.ljust(layout.SECTOR_BYTES, b"\0")
    if is_zero(sector):
        return Copy(offset_bytes, None, None)
    superblock = parse_superblock(sector)
    if superblock is None:
        has_magic = sector.startswith(layout.SUPERBLOCK_MAGIC)
        reason = "its checksum is wrong" if has_magic else "it does not start with IPVADUMP"
        return Copy(offset_bytes, None, reason)
    return Copy(offset_bytes, superblock, superblock.fault(device.size_bytes))


def parse_superblock(sector: bytes) -> Superblock | None:
    """What one sector says, if it is a whole superblock of a version we know."""
    stated_crc32 = int.from_bytes(sector[CRC_OFFSET_BYTES:], "little")
    if zlib.crc32(sector[:CRC_OFFSET_BYTES]) != stated_crc32:
        return None
    try:
        fields = layout.SUPERBLOCK.parse(sector)
    except c.ConstructError:
        return None
    names = (field.name for field in dataclasses.fields(Superblock))
    return Superblock(**{name: fields[name] for name in names})


def build_superblock(superblock: Superblock) -> bytes:
    """The sector that says so."""
    sector = layout.SUPERBLOCK.build({**dataclasses.asdict(superblock), "crc32": 0})
    return seal(sector)


def seal(sector: bytes) -> bytes:
    """The sector with the CRC of what is before the CRC."""
    body = sector[:CRC_OFFSET_BYTES]
    return body + zlib.crc32(body).to_bytes(4, "little")


def newest(copies: tuple[Copy, Copy]) -> int | None:
    """Index of the copy that counts, or None when neither can be used."""
    usable = [
        (copy.superblock.generation, -index)
        for index, copy in enumerate(copies)
        if copy.superblock is not None and copy.fault is None
    ]
    return -max(usable)[1] if usable else None


def is_blank(device: BlockDevice) -> bool:
    """Whether this is a disk that was never formatted: zeros where everything starts.

    The first 8 KiB are looked at, which hold both superblocks and the first record of a log. A
    first format that the power cut short leaves one torn superblock beside one of zeros; that
    disk is as blank as it was.
    """
    head = read(device, 0, min(2 * layout.RING_OFFSET_BYTES, device.size_bytes))
    first, second = (head[at : at + layout.SECTOR_BYTES] for at in layout.SUPERBLOCK_OFFSETS_BYTES)
    rest = head[layout.SUPERBLOCK_OFFSETS_BYTES[-1] + layout.SECTOR_BYTES :]
    if any(rest) or (any(first) and any(second)):
        return False
    if not any(first) and not any(second):
        return True
    torn = (first if any(first) else second)[: len(layout.SUPERBLOCK_MAGIC)].rstrip(b"\0")
    # Something must be there: a partition table without boot code starts with zeros, too.
    return bool(torn) and layout.SUPERBLOCK_MAGIC.startswith(torn)


def identify(device: BlockDevice) -> bool:
    """Whether this is a dump disk of our layout. Reads two sectors."""
    return newest(read_copies(device)) is not None


def geometry(device: BlockDevice) -> tuple[int, int]:
    """Where a format puts the ring: its offset and its length, both in bytes.

    Raises:
        DumpError: the disk is too small.
    """
    room = device.size_bytes - layout.RING_OFFSET_BYTES
    ring_bytes = min(room - room % layout.SECTOR_BYTES, layout.RING_LIMIT_BYTES)
    if ring_bytes < MINIMUM_RING_BYTES:
        raise DumpError(
            f"a disk of {device.size_bytes} bytes is too small for crash records",
            where=device.name,
            remedy=f"use at least {layout.RING_OFFSET_BYTES + MINIMUM_RING_BYTES} bytes",
        )
    return layout.RING_OFFSET_BYTES, ring_bytes


def write_both(device: BlockDevice, superblock: Superblock, *, counts: int) -> None:
    """Replace both copies; `counts` is the index of the one that must outlive the first write."""
    sector = build_superblock(superblock)
    for index in (1 - counts, counts):
        device.write(layout.SUPERBLOCK_OFFSETS_BYTES[index], sector)
        device.flush()
