"""The header of a sparse extent: read it, and say what forbids using it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from ipva_storage.device import read
from ipva_storage.errors import VmdkError
from ipva_storage.units import MIB, SECTOR_BYTES, TIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipva_storage.device import BlockDevice

SPARSE_MAGIC: Final = b"KDMV"
"""The same as in `ipva_formats.vmdk`, here so that a look at four bytes costs no import."""

GD_AT_END: Final = 0xFFFF_FFFF_FFFF_FFFF
"""The same as in `ipva_formats.vmdk`: the footer says where the directory is."""

GRAIN_SECTORS_RANGE: Final = range(8, 2049)
"""Sectors in a grain: powers of two in this range.

Source: Virtual Disk Format 5.0: "must be a power of 2 and greater than 8 (4KB)"; the upper end
bounds memory. Confidence: stated, chosen.
"""

GTES_PER_GT_MAX: Final = 512
"""Entries in a grain table. Source: Virtual Disk Format 5.0 ("is 512"); qemu refuses more."""

CAPACITY_MAX_BYTES: Final = 64 * TIB
"""The largest disk. Source: VMware's maximum is 62 TB. Confidence: stated, rounded up."""

NEWLINES: Final = b"\n \r\n"
"""The same as in `ipva_formats.vmdk`: bytes that a transfer as text changes."""

SENT_AS_TEXT: Final = (
    b"\r\n \r",
    b"\n \n\0",
    b"\n \n\1",
    b"\r \r\r",
    b"\n \n\n",
    b"\n \r\0",
    b"\n \r\1",
)
"""What `NEWLINES` becomes where LF is made CRLF, CRLF LF, LF CR, CR LF, or CRLF CR; where the bytes
get fewer, the next field moves up. Source: follows from the bytes. Confidence: chosen.
"""

SEND_AGAIN: Final = "send the file again, in binary mode; nothing else mends it"
"""What is left when bytes all over a file were changed."""

DIRECTORY_MAX_ENTRIES: Final = 2 * MIB
"""The longest grain directory read, 8 MiB of memory: what 64 TiB in grains of 64 KiB need.

Confidence: chosen (qemu: 32 Mi entries).
"""

DESCRIPTOR_MAX_BYTES: Final = MIB
"""The longest descriptor read. Source: qemu block/vmdk.c. Confidence: chosen, as there."""


@dataclasses.dataclass(frozen=True, slots=True)
class SparseHeader:
    """The fields of `ipva_formats.vmdk.SPARSE_HEADER`, and what follows from them."""

    version: int
    flags: int
    capacity_sectors: int
    grain_sectors: int
    descriptor_offset_sectors: int
    descriptor_sectors: int
    gtes_per_gt: int
    rgd_offset_sectors: int
    gd_offset_sectors: int
    overhead_sectors: int
    unclean_shutdown: int
    newlines: bytes
    compress_algorithm: int

    @property
    def capacity_bytes(self) -> int:
        """Size of the disk in it."""
        return self.capacity_sectors * SECTOR_BYTES

    @property
    def grain_bytes(self) -> int:
        """Size of a grain."""
        return self.grain_sectors * SECTOR_BYTES

    @property
    def grain_count(self) -> int:
        """Grains of the disk; the last may be cut by its end."""
        return -(-self.capacity_sectors // self.grain_sectors)

    @property
    def table_count(self) -> int:
        """Grain tables, which is entries of a grain directory."""
        return -(-self.grain_count // self.gtes_per_gt)

    @property
    def table_sectors(self) -> int:
        """Sectors that a grain table takes."""
        return -(-self.gtes_per_gt * 4 // SECTOR_BYTES)

    @property
    def directory_sectors(self) -> int:
        """Sectors that a grain directory takes."""
        return -(-self.table_count * 4 // SECTOR_BYTES)

    @property
    def descriptor_end_sectors(self) -> int:
        """Where the room of the embedded descriptor ends."""
        return self.descriptor_offset_sectors + self.descriptor_sectors

    @property
    def metadata_sectors(self) -> int:
        """Where the directories begin, or the data where they are elsewhere."""
        starts = [self.overhead_sectors, self.rgd_offset_sectors, self.gd_offset_sectors]
        return min((start for start in starts if start), default=0)

    @property
    def has_redundant(self) -> bool:
        """Whether a second grain directory is said to exist."""
        return bool(self.flags & 2) and self.rgd_offset_sectors != 0

    @property
    def is_compressed(self) -> bool:
        """Whether grains are compressed: a stream-optimized file."""
        return bool(self.flags & 1 << 16)

    @property
    def has_markers(self) -> bool:
        """Whether each compressed grain has a marker in front of it."""
        return bool(self.flags & 1 << 17)

    @property
    def was_sent_as_text(self) -> bool:
        """Whether the file was transferred as text, which changed bytes all over it."""
        return bool(self.flags & 1) and self.newlines in SENT_AS_TEXT

    @property
    def is_gd_at_end(self) -> bool:
        """Whether the grain directory is said by the footer."""
        return self.gd_offset_sectors == GD_AT_END


def read_header(raw: BlockDevice) -> SparseHeader:
    """The header at the start of a sparse extent, whatever its values.

    Raises:
        VmdkError: there is no such header.
    """
    if raw.size_bytes < SECTOR_BYTES or read(raw, 0, 4) != SPARSE_MAGIC:
        raise VmdkError("there is no sparse extent header", where=raw.name, offset_bytes=0)
    return parse_header(read(raw, 0, SECTOR_BYTES))


def parse_header(data: bytes) -> SparseHeader:
    """The fields of a header or footer, out of a sector.

    Raises:
        VmdkError: it does not start with `SPARSE_MAGIC`.
    """
    from ipva_formats.vmdk import SPARSE_HEADER

    if data[:4] != SPARSE_MAGIC:
        raise VmdkError("there is no sparse extent header")
    fields = SPARSE_HEADER.parse(data)
    names = [field.name for field in dataclasses.fields(SparseHeader)]
    return SparseHeader(**{name: fields[name] for name in names})


def build_header(header: SparseHeader) -> bytes:
    """The sector that holds these fields."""
    from ipva_formats.vmdk import SPARSE_HEADER

    built: bytes = SPARSE_HEADER.build(
        {name: getattr(header, name) for name in SparseHeader.__slots__}
    )
    return built


def header_problems(header: SparseHeader, file_size_bytes: int) -> Iterator[tuple[int, str]]:
    """What makes a header unusable: where in the header, and a sentence.

    Every count that memory or loops depend on is bounded here.
    """
    if not 1 <= header.version <= 3:
        yield 4, f"version {header.version} is unknown"
    if header.compress_algorithm != header.is_compressed:
        yield 77, f"flags {header.flags:#x} and compression {header.compress_algorithm} disagree"
    grain = header.grain_sectors
    if grain not in GRAIN_SECTORS_RANGE or grain & (grain - 1):
        yield 20, f"a grain of {grain} sectors is none (a power of two from 8 to 2048)"
        return
    if not 1 <= header.gtes_per_gt <= GTES_PER_GT_MAX:
        yield 44, f"{header.gtes_per_gt} entries in a grain table are impossible (1 to 512)"
        return
    if not 1 <= header.capacity_bytes <= CAPACITY_MAX_BYTES:
        yield 12, f"a capacity of {header.capacity_sectors} sectors is impossible"
        return
    if header.table_count > DIRECTORY_MAX_ENTRIES:
        yield 12, f"{header.table_count} grain tables are too many"
    if header.overhead_sectors * SECTOR_BYTES > file_size_bytes:
        yield 64, f"the file ends within its metadata of {header.overhead_sectors} sectors"


def check_usable(header: SparseHeader, raw: BlockDevice) -> None:
    """Refuse a header that cannot be used, and one of a file whose data is wrong throughout.

    Raises:
        VmdkError: with the first of `header_problems`.
    """
    if header.was_sent_as_text:
        raise sent_as_text(raw.name)
    refuse_first(header_problems(header, raw.size_bytes), raw.name, "restore it from a backup")


def refuse_first(problems: Iterable[tuple[int, str]], where: str, remedy: str) -> None:
    """Refuse a header for the first of its problems, where it has one.

    Args:
        problems: where each is in the file, and a sentence.
        where: what messages call the file.
        remedy: what to do about it.

    Raises:
        VmdkError: there is one.
    """
    for offset_bytes, problem in problems:
        raise VmdkError(
            f"its header is damaged or foreign: {problem}",
            where=where,
            offset_bytes=offset_bytes,
            remedy=remedy,
        )


def sent_as_text(where: str) -> VmdkError:
    """The error for a file that was transferred as text."""
    return VmdkError(
        "it was sent as text, which changed bytes all over it, in its data too",
        where=where,
        offset_bytes=73,
        remedy=SEND_AGAIN,
    )
