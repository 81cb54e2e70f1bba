"""Which layout an empty volume gets: the choices of mkfs.fat 4.2, and what the caller asks for.

Where nothing is asked for, type, cluster, reserved sectors, root folder, length of the tables and
of the volume are those of mkfs.fat; `tests/interop` holds them to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from ipva_formats import fat as layout
from ipva_storage.errors import UsageError
from ipva_storage.fat.geometry import CLUSTERS_TAKEN_MAX, SECTOR_BYTES_ALLOWED
from ipva_storage.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

MEDIA: Final = 0xF8
"""A fixed disk. Source: MS, BPB_Media. Confidence: stated."""
FAT_COUNT: Final = 2
FAT_COUNT_MAX: Final = 15
ROOT_ENTRY_COUNT: Final = 512
"""Records of the root folder of FAT12 and FAT16. Source: MS, BPB_RootEntCnt. Confidence: stated."""
FAT32_FROM_BYTES: Final = 512 * MIB
"""From here on a volume becomes FAT32. Source: mkfs.fat 4.2, observed. Confidence: inferred."""
FAT32_RESERVED_SECTORS: Final = 32
FAT32_RESERVED_SECTORS_MIN: Final = 9
"""Boot sector, FSInfo and third sector, their copies from 6 on. Source: MS. Confidence: stated."""
RESERVED_SECTORS_MAX: Final = 0xFFFF
VOLUME_BYTES_MIN: Final = 64 * KIB
"""Smallest volume made here. Confidence: chosen."""
ALIGNED_FROM_SECTORS: Final = 8192
"""Longer volumes have their data on a cluster boundary. Source: mkfs.fat 4.2, observed."""
_CLUSTER_BYTES_32: Final = (
    (260 * MIB, 512),
    (8 * GIB, 4 * KIB),
    (16 * GIB, 8 * KIB),
    (32 * GIB, 16 * KIB),
)
"""FAT32 cluster by volume size, up to and including; then 32 KiB.

Source: MS, "FAT32 table of DSKSZTOSECPERCLUS"; mkfs.fat 4.2 agrees. Confidence: stated."""
_CLUSTER_BYTES_SMALL: Final = 2 * KIB
"""FAT12 and FAT16 start here and double until the clusters are few enough. Source: mkfs.fat 4.2,
observed. Confidence: inferred."""
CLUSTER_BYTES_MAX: Final = 64 * KIB
CLUSTERS_MAX: Final = {
    12: layout.FAT12_CLUSTERS_MAX,
    16: layout.FAT16_CLUSTERS_MAX,
    32: CLUSTERS_TAKEN_MAX,
}
"""By type; of FAT32's 2^28 only as many as are read here again. Confidence: stated, chosen (32)."""
CLUSTERS_MIN: Final = {
    12: 1,
    16: layout.FAT12_CLUSTERS_MAX + 1,
    32: layout.FAT16_CLUSTERS_MAX + 1,
}
VOLUME_BYTES_MAX: Final = CLUSTERS_TAKEN_MAX * CLUSTER_BYTES_MAX
"""Largest volume made here, 1 TiB. Confidence: chosen."""


class Drive(NamedTuple):
    """What a BIOS would report of a disk; a volume ends at the end of a track."""

    head_count: int
    track_sectors: int


class Floppy(NamedTuple):
    """A size that is that of a diskette, and made like one."""

    media: int
    cluster_sectors: int
    root_entry_count: int
    track_sectors: int


_FLOPPIES: Final = {
    360 * KIB: Floppy(0xFD, 2, 112, 9),
    720 * KIB: Floppy(0xF9, 2, 112, 9),
    1200 * KIB: Floppy(0xF9, 1, 224, 15),
    1440 * KIB: Floppy(0xF0, 1, 224, 18),
    2880 * KIB: Floppy(0xF0, 2, 224, 36),
}
"""Source: mkfs.fat 4.2, observed; IBM PC DOS. Confidence: inferred."""
_DRIVES: Final = (
    (4096, Drive(2, 16)),
    (32 * KIB, Drive(2, 32)),
    (64 * KIB, Drive(4, 32)),
    (256 * KIB, Drive(8, 32)),
    (512 * KIB, Drive(16, 32)),
    (16 * 63 * KIB, Drive(16, 63)),
    (32 * 63 * KIB, Drive(32, 63)),
    (64 * 63 * KIB, Drive(64, 63)),
    (128 * 63 * KIB, Drive(128, 63)),
)
"""By sectors, up to and including; then 255 and 63. Source: mkfs.fat 4.2, observed."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller wants of a volume; None leaves it to the size."""

    fat_bits: int | None = None
    cluster_bytes: int | None = None
    sector_bytes: int = 512
    reserved_sectors: int | None = None
    fat_count: int = FAT_COUNT
    root_entry_count: int | None = None

    @property
    def is_as_of_a_floppy(self) -> bool:
        """Whether a volume of a diskette's size may be made like one."""
        return self.fat_bits in (None, 12) and replace(self, fat_bits=None) == Wish()


@dataclass(frozen=True, slots=True)
class Plan:
    """The layout of a volume to be made."""

    fat_bits: int
    sector_bytes: int
    volume_sectors: int
    cluster_sectors: int
    reserved_sectors: int
    fat_count: int
    fat_sectors: int
    root_sectors: int
    root_entry_count: int
    media: int
    drive: Drive

    @property
    def root_sector(self) -> int:
        """The sector behind the tables: of the root folder, where it has a place of its own."""
        return self.reserved_sectors + self.fat_count * self.fat_sectors

    @property
    def data_sector(self) -> int:
        """The first sector of the first cluster."""
        return self.root_sector + self.root_sectors

    @property
    def cluster_count(self) -> int:
        """Data clusters; out of range for the type where the plan is none, also below 1."""
        return (self.volume_sectors - self.data_sector) // self.cluster_sectors

    @property
    def is_possible(self) -> bool:
        """Whether the number of clusters fits the type, and all fields hold their numbers."""
        is_fitting = CLUSTERS_MIN[self.fat_bits] <= self.cluster_count
        return (
            is_fitting
            and self.cluster_count <= CLUSTERS_MAX[self.fat_bits]
            and self.reserved_sectors <= RESERVED_SECTORS_MAX
            and self.root_entry_count <= 0xFFFF
            and (self.fat_bits == 32 or self.fat_sectors <= 0xFFFF)
        )


def choose(
    size_bytes: int,
    *,
    fat_bits: int | None = None,
    cluster_bytes: int | None = None,
    wish: Wish | None = None,
) -> Plan:
    """The layout for a size.

    Args:
        size_bytes: of the device.
        fat_bits: as in `Wish`, if there is no `wish`.
        cluster_bytes: likewise.
        wish: what is wanted.

    Raises:
        UsageError: there is none.
    """
    wish = wish or Wish(fat_bits, cluster_bytes)
    _refuse(wish, size_bytes)
    floppy = _FLOPPIES.get(size_bytes)
    if floppy is not None and wish.is_as_of_a_floppy:
        return _plan(size_bytes, 12, floppy.cluster_sectors * 512, wish, floppy)
    for bits in _kinds(size_bytes, wish.fat_bits):
        for size in _cluster_sizes(size_bytes, bits, wish):
            plan = _plan(size_bytes, bits, size, wish)
            if plan.is_possible:
                return plan
    wanted = "FAT" if wish.fat_bits is None else f"FAT{wish.fat_bits}"
    size_text = (
        "" if wish.cluster_bytes is None else f" with clusters of {wish.cluster_bytes} bytes"
    )
    raise UsageError(
        f"{size_bytes} bytes cannot become a {wanted} volume{size_text}",
        remedy="leave the type and the cluster size to the program",
    )


def _refuse(wish: Wish, size_bytes: int) -> None:
    """Refuse what no volume has, whatever its size, and sizes that no volume has.

    Raises:
        UsageError: it is so.
    """
    cluster, sector = wish.cluster_bytes, wish.sector_bytes
    reserved, root = wish.reserved_sectors, wish.root_entry_count
    reserved_min = FAT32_RESERVED_SECTORS_MIN if wish.fat_bits == 32 else 1
    checks = (
        (
            wish.fat_bits not in (None, 12, 16, 32),
            f"there is no FAT{wish.fat_bits}",
            "12, 16 or 32",
        ),
        (
            sector not in SECTOR_BYTES_ALLOWED,
            f"sectors cannot have {sector} bytes",
            "512, 1024, 2048 or 4096",
        ),
        (
            cluster is not None
            and (not sector <= cluster <= CLUSTER_BYTES_MAX or cluster & (cluster - 1) != 0),
            f"clusters cannot have {cluster} bytes",
            f"a power of two from {sector} to {CLUSTER_BYTES_MAX}",
        ),
        (
            reserved is not None and not reserved_min <= reserved <= RESERVED_SECTORS_MAX,
            f"there cannot be {reserved} reserved sectors",
            f"{reserved_min} to {RESERVED_SECTORS_MAX}",
        ),
        (
            not 1 <= wish.fat_count <= FAT_COUNT_MAX,
            f"there cannot be {wish.fat_count} copies of the table",
            f"1 to {FAT_COUNT_MAX}, usually 2",
        ),
        (
            root is not None and not 1 <= root <= 0xFFFF,
            f"a root folder cannot have {root} records",
            "1 to 65535, usually 512",
        ),
        (
            root is not None and wish.fat_bits == 32,
            "the root folder of FAT32 has no fixed length",
            "FAT12 or FAT16, or no number",
        ),
    )
    for is_wrong, text, way_out in checks:
        if is_wrong:
            raise UsageError(text, remedy=f"choose {way_out}")
    if size_bytes < VOLUME_BYTES_MIN:
        raise UsageError(
            f"{size_bytes} bytes are too few for a FAT volume",
            remedy=f"make the disk {VOLUME_BYTES_MIN} bytes or larger",
        )
    if size_bytes > VOLUME_BYTES_MAX:
        raise UsageError(
            f"{size_bytes} bytes are too many for a FAT volume made here",
            remedy=f"make the disk {VOLUME_BYTES_MAX // GIB} GiB or smaller",
        )


def _kinds(size_bytes: int, fat_bits: int | None) -> tuple[int, ...]:
    if fat_bits is not None:
        return (fat_bits,)
    return (32, 16, 12) if size_bytes >= FAT32_FROM_BYTES else (12, 16, 32)


def _cluster_sizes(size_bytes: int, bits: int, wish: Wish) -> Iterator[int]:
    """Cluster sizes to try, the preferred one first.

    FAT12 is taken only as long as the smallest preferred cluster will do, else it is FAT16's turn,
    and only a caller who asks for FAT12 gets it with larger ones.
    """
    if wish.cluster_bytes is not None:
        yield wish.cluster_bytes
        return
    if bits == 32:
        default = next((size for top, size in _CLUSTER_BYTES_32 if size_bytes <= top), 32 * KIB)
        sizes = [*(default >> shift for shift in range(7)), CLUSTER_BYTES_MAX]
    elif bits == 12 and wish.fat_bits != 12:
        sizes = [_CLUSTER_BYTES_SMALL]
    else:
        sizes = [*(_CLUSTER_BYTES_SMALL << shift for shift in range(6)), KIB, 512]
    lowest = wish.sector_bytes
    yield from dict.fromkeys(max(size, lowest) for size in sizes if size >= min(512, lowest))


def _plan(
    size_bytes: int, bits: int, cluster_bytes: int, wish: Wish, floppy: Floppy | None = None
) -> Plan:
    """Lay a volume out; the plan may turn out to be impossible."""
    sector_bytes = wish.sector_bytes
    sectors = min(size_bytes // sector_bytes, 0xFFFFFFFF)
    drive = _drive(sectors) if floppy is None else Drive(2, floppy.track_sectors)
    sectors -= sectors % drive.track_sectors
    cluster_sectors = cluster_bytes // sector_bytes
    unit = cluster_sectors if sectors > ALIGNED_FROM_SECTORS else 1
    per_sector = sector_bytes // layout.ENTRY_BYTES
    entries = ROOT_ENTRY_COUNT if floppy is None else floppy.root_entry_count
    entries = 0 if bits == 32 else wish.root_entry_count or entries
    root_sectors = _up(-(-entries // per_sector), unit)
    reserved = wish.reserved_sectors or (FAT32_RESERVED_SECTORS if bits == 32 else 1)
    reserved = _up(reserved, unit)
    return Plan(
        fat_bits=bits,
        sector_bytes=sector_bytes,
        volume_sectors=sectors,
        cluster_sectors=cluster_sectors,
        reserved_sectors=reserved,
        fat_count=wish.fat_count,
        fat_sectors=table_sectors(
            sectors - reserved - root_sectors,
            bits=bits,
            cluster_sectors=cluster_sectors,
            sector_bytes=sector_bytes,
            fat_count=wish.fat_count,
            unit=unit,
        ),
        root_sectors=root_sectors,
        root_entry_count=root_sectors * per_sector,  # whole sectors, else fsck.fat refuses it
        media=MEDIA if floppy is None else floppy.media,
        drive=drive,
    )


def table_sectors(
    room_sectors: int,
    *,
    bits: int,
    cluster_sectors: int,
    sector_bytes: int,
    fat_count: int,
    unit: int = 1,
) -> int:
    """How long one table is where tables and clusters share some room.

    Args:
        room_sectors: that room.
        bits: of an entry.
        cluster_sectors: of a cluster.
        sector_bytes: of a sector.
        fat_count: copies of the table.
        unit: the table is made a multiple of so many sectors.
    """
    cluster_bytes = cluster_sectors * sector_bytes
    # Each cluster takes its sectors and `bits` bits in each table, of which two entries are spare.
    clusters = max(0, room_sectors * sector_bytes * 8 // (cluster_bytes * 8 + fat_count * bits))
    fat_bytes = ((clusters + layout.FIRST_CLUSTER) * bits + 7) // 8
    return _up(-(-fat_bytes // sector_bytes), unit)


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def _drive(sectors: int) -> Drive:
    return next((drive for top, drive in _DRIVES if sectors <= top), Drive(255, 63))
