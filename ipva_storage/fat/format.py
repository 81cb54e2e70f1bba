"""Making an empty volume: the choices of mkfs.fat, and writes that leave an image sparse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipva_formats import fat as layout
from ipva_storage.errors import UsageError
from ipva_storage.fat import clock, names
from ipva_storage.fat.geometry import CLUSTERS_TAKEN_MAX
from ipva_storage.units import GIB, KIB, MIB, SECTOR_BYTES

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ipva_storage.device import BlockDevice

MEDIA: Final = 0xF8
"""A fixed disk. Source: MS, BPB_Media. Confidence: stated."""
FAT_COUNT: Final = 2
ROOT_ENTRY_COUNT: Final = 512
"""Records of the root folder of FAT12 and FAT16. Source: MS, BPB_RootEntCnt. Confidence: stated."""
FAT32_FROM_BYTES: Final = 512 * MIB
"""From here on a volume becomes FAT32. Source: mkfs.fat 4.2, observed. Confidence: inferred."""
FAT32_RESERVED_SECTORS: Final = 32
FAT32_BACKUP_SECTOR: Final = 6
FAT32_ROOT_CLUSTER: Final = 2
VOLUME_BYTES_MIN: Final = 64 * KIB
"""Smallest volume made here. Confidence: chosen."""
ALIGNED_FROM_BYTES: Final = 4 * MIB
"""Larger volumes have their data on a cluster boundary. Source: mkfs.fat 4.2, observed."""
_CLUSTER_BYTES_32: Final = ((260 * MIB, 512), (8 * GIB, 4 * KIB), (16 * GIB, 8 * KIB))
"""FAT32 cluster by volume size, up to and including; then 16 and 32 KiB.

Source: MS, "FAT32 table of DSKSZTOSECPERCLUS"; mkfs.fat 4.2 agrees. Confidence: stated."""
_CLUSTER_BYTES_SMALL: Final = 2 * KIB
"""FAT12 and FAT16 start here and double until the clusters are few enough. Source: mkfs.fat 4.2,
observed. Confidence: inferred."""
_CLUSTER_BYTES_MAX: Final = 64 * KIB
_CLUSTERS_MAX: Final = {
    12: layout.FAT12_CLUSTERS_MAX,
    16: layout.FAT16_CLUSTERS_MAX,
    32: CLUSTERS_TAKEN_MAX,
}
"""By type; of FAT32's 2^28 only as many as are read here again. Confidence: stated, chosen (32)."""
VOLUME_BYTES_MAX: Final = CLUSTERS_TAKEN_MAX * _CLUSTER_BYTES_MAX
"""Largest volume made here, 1 TiB. Confidence: chosen."""
_CLUSTERS_MIN: Final = {
    12: 1,
    16: layout.FAT12_CLUSTERS_MAX + 1,
    32: layout.FAT16_CLUSTERS_MAX + 1,
}
_MESSAGE: Final = b"This disk holds data only and cannot start a PC.\r\n"
_BOOT_CODE: Final = (
    b"\xfa\x31\xc0\x8e\xd8\xfc\xbe%s\xac\x84\xc0\x74\x09\xb4\x0e\xbb\x07\x00\xcd\x10\xeb\xf2\xfb\xf4"
    b"\xeb\xfd"
)
"""8086: print the text behind the code through the BIOS, then halt. Ours. Confidence: chosen."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The layout of a volume to be made."""

    fat_bits: int
    volume_sectors: int
    cluster_sectors: int
    reserved_sectors: int
    fat_sectors: int
    root_sectors: int
    cluster_count: int

    @property
    def data_sector(self) -> int:
        """The first sector of the first cluster."""
        return self.reserved_sectors + FAT_COUNT * self.fat_sectors + self.root_sectors


def format(  # noqa: A001 - the name of the door, the same in every room
    device: BlockDevice,
    *,
    fat_bits: int | None = None,
    label: str | None = None,
    cluster_bytes: int | None = None,
    volume_id: int | None = None,
) -> None:
    """Make an empty volume that fills the device; what was on it is lost.

    The tables and the root folder are discarded and only what is not zero is written, so that it
    takes an instant and a sparse image stays sparse. The boot sector comes last: a power cut
    leaves no half-made volume that looks whole.

    Args:
        device: the volume: a partition, or a whole disk without partitions.
        fat_bits: 12, 16 or 32; by default what the size asks for.
        label: up to 11 characters, kept in upper case.
        cluster_bytes: a power of two from 512 bytes to 64 KiB; by default what the size asks for.
        volume_id: 32 bits; by default made from the time (SOURCE_DATE_EPOCH fixes it).

    Raises:
        UsageError: the size, the type and the cluster do not go together.
        DeviceError: the medium refused.
    """
    plan = choose(device.size_bytes, fat_bits=fat_bits, cluster_bytes=cluster_bytes)
    name = names.label_bytes(label) if label else None
    if volume_id is None:
        volume_id = _new_volume_id()
    boot = _boot_sector(plan, name or b"NO NAME    ", volume_id & 0xFFFFFFFF)
    device.discard(0, _cleared_sectors(plan) * SECTOR_BYTES)
    device.flush()
    for sector, data in _contents(plan, name):
        device.write(sector * SECTOR_BYTES, data)
    if plan.fat_bits == 32:
        device.write(FAT32_BACKUP_SECTOR * SECTOR_BYTES, boot)
    device.flush()
    device.write(0, boot)
    device.flush()


def choose(size_bytes: int, *, fat_bits: int | None, cluster_bytes: int | None) -> Plan:
    """The layout for a size; see `format`.

    Raises:
        UsageError: there is none.
    """
    if fat_bits not in (None, 12, 16, 32):
        raise UsageError(f"there is no FAT{fat_bits}", remedy="choose 12, 16 or 32")
    if cluster_bytes is not None and (
        not SECTOR_BYTES <= cluster_bytes <= _CLUSTER_BYTES_MAX
        or cluster_bytes & (cluster_bytes - 1)
    ):
        raise UsageError(
            f"clusters cannot have {cluster_bytes} bytes",
            remedy="choose a power of two from 512 to 65536",
        )
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
    for bits in _kinds(size_bytes, fat_bits):
        for size in _cluster_sizes(size_bytes, bits, cluster_bytes, is_asked=bits == fat_bits):
            plan = _plan(size_bytes, bits, size)
            if _CLUSTERS_MIN[bits] <= plan.cluster_count <= _CLUSTERS_MAX[bits]:
                return plan
    wanted = "FAT" if fat_bits is None else f"FAT{fat_bits}"
    size_text = "" if cluster_bytes is None else f" with clusters of {cluster_bytes} bytes"
    raise UsageError(
        f"{size_bytes} bytes cannot become a {wanted} volume{size_text}",
        remedy="leave the type and the cluster size to the program",
    )


def _kinds(size_bytes: int, fat_bits: int | None) -> tuple[int, ...]:
    if fat_bits is not None:
        return (fat_bits,)
    return (32, 16, 12) if size_bytes >= FAT32_FROM_BYTES else (12, 16, 32)


def _cluster_sizes(size_bytes: int, bits: int, wanted: int | None, *, is_asked: bool) -> list[int]:
    """Cluster sizes to try, the preferred one first.

    FAT12 is taken only as long as the smallest preferred cluster will do, else it is FAT16's turn,
    and only a caller who asks for FAT12 gets it with larger ones.
    """
    if wanted is not None:
        return [wanted]
    if bits == 32:
        default = next((size for top, size in _CLUSTER_BYTES_32 if size_bytes <= top), 16 * KIB)
        if size_bytes > 32 * GIB:
            default = 32 * KIB
        smaller = (default >> shift for shift in range(1, 7) if default >> shift >= 512)
        return [default, *smaller, _CLUSTER_BYTES_MAX]
    if bits == 12 and not is_asked:
        return [_CLUSTER_BYTES_SMALL]
    return [_CLUSTER_BYTES_SMALL << shift for shift in range(6)] + [KIB, 512]


def _plan(size_bytes: int, bits: int, cluster_bytes: int) -> Plan:
    """Lay a volume out; the cluster count may be out of range for the type, or below 1."""
    sectors = min(size_bytes // SECTOR_BYTES, 0xFFFFFFFF)
    cluster_sectors = cluster_bytes // SECTOR_BYTES
    unit = cluster_sectors if size_bytes > ALIGNED_FROM_BYTES else 1
    root_sectors = 0 if bits == 32 else ROOT_ENTRY_COUNT * layout.ENTRY_BYTES // SECTOR_BYTES
    reserved = _up(FAT32_RESERVED_SECTORS if bits == 32 else 1, unit)
    room = sectors - reserved - root_sectors
    # Each cluster takes its sectors and `bits` bits in each table, of which two entries are spare.
    clusters = max(0, room * SECTOR_BYTES * 8 // (cluster_bytes * 8 + FAT_COUNT * bits))
    fat_bytes = ((clusters + layout.FIRST_CLUSTER) * bits + 7) // 8
    fat_sectors = _up(-(-fat_bytes // SECTOR_BYTES), unit)
    data = room - FAT_COUNT * fat_sectors
    if root_sectors % unit:
        reserved_more = -(reserved + FAT_COUNT * fat_sectors + root_sectors) % unit
        reserved, data = reserved + reserved_more, data - reserved_more
    return Plan(
        bits, sectors, cluster_sectors, reserved, fat_sectors, root_sectors, data // cluster_sectors
    )


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def _cleared_sectors(plan: Plan) -> int:
    """How many sectors from the start must read as zero before anything is written."""
    return plan.data_sector + (plan.cluster_sectors if plan.fat_bits == 32 else 0)


def _contents(plan: Plan, name: bytes | None) -> list[tuple[int, ReadableBuffer]]:
    """What is not zero in an empty volume, but for the boot sectors: (sector, data)."""
    end = layout.ENTRY_MASK[plan.fat_bits]
    first = [end & ~0xFF | MEDIA, end, *([end] if plan.fat_bits == 32 else [])]
    packed = sum(value << plan.fat_bits * index for index, value in enumerate(first))
    table = packed.to_bytes(SECTOR_BYTES, "little")
    found: list[tuple[int, ReadableBuffer]] = [
        (plan.reserved_sectors + copy * plan.fat_sectors, table) for copy in range(FAT_COUNT)
    ]
    if plan.fat_bits == 32:
        info = _fsinfo(plan.cluster_count - 1)
        found += [(1, info), (FAT32_BACKUP_SECTOR + 1, info)]
        found += [(2, _boot_tail()), (FAT32_BACKUP_SECTOR + 2, _boot_tail())]
    if name is not None:
        root = plan.data_sector if plan.fat_bits == 32 else plan.data_sector - plan.root_sectors
        found.append((root, _label_entry(name)))
    return found


def _label_entry(name: bytes) -> bytes:
    date, time, _ = clock.encode(clock.now())
    fields = dict.fromkeys(
        ("case_flags", "created_10ms", "cluster_high", "cluster_low", "content_bytes"), 0
    )
    return layout.ENTRY.build(
        {
            "name": name,
            "attributes": layout.ATTRIBUTE_LABEL,
            "created_time": time,
            "created_date": date,
            "accessed_date": date,
            "modified_time": time,
            "modified_date": date,
            **fields,
        }
    )


def _fsinfo(free_count: int) -> bytes:
    return layout.FSINFO.build(
        {
            "lead_signature": layout.FSINFO_LEAD,
            "reserved_1": bytes(480),
            "struct_signature": layout.FSINFO_STRUCT,
            "free_cluster_count": free_count,
            "next_free_cluster": FAT32_ROOT_CLUSTER,
            "reserved_2": bytes(12),
            "trail_signature": layout.FSINFO_TRAIL,
        }
    )


def _boot_tail() -> bytes:
    """The third boot sector of FAT32: only its signature. Source: MS. Confidence: stated."""
    return layout.BOOT_SIGNATURE.to_bytes(2, "little").rjust(SECTOR_BYTES, b"\0")


def _boot_sector(plan: Plan, label: bytes, volume_id: int) -> bytes:
    is_32 = plan.fat_bits == 32
    code_at = 0x5A if is_32 else 0x3E
    head_count, track_sectors = _chs(plan.volume_sectors)
    small = plan.volume_sectors if plan.volume_sectors <= 0xFFFF else 0
    fields = {
        "jump": bytes([0xEB, code_at - 2, 0x90]),
        "oem_name": b"MSWIN4.1",
        "sector_bytes": SECTOR_BYTES,
        "cluster_sectors": plan.cluster_sectors,
        "reserved_sectors": plan.reserved_sectors,
        "fat_count": FAT_COUNT,
        "root_entry_count": 0 if is_32 else ROOT_ENTRY_COUNT,
        "volume_sectors_16": 0 if is_32 else small,
        "media": MEDIA,
        "fat_sectors_16": 0 if is_32 else plan.fat_sectors,
        "track_sectors": track_sectors,
        "head_count": head_count,
        "hidden_sectors": 0,
        "volume_sectors_32": plan.volume_sectors if is_32 or not small else 0,
        "drive_number": 0x80,
        "state": 0,
        "extended_signature": layout.EXTENDED_SIGNATURE,
        "volume_id": volume_id,
        "label": label,
        "type_text": f"FAT{plan.fat_bits}   ".encode(),
        "boot_code": _boot_code(code_at, 420 if is_32 else 448),
        "signature": layout.BOOT_SIGNATURE,
    }
    if not is_32:
        return layout.BOOT_SECTOR.build(fields)
    return layout.BOOT_SECTOR_32.build(
        {
            **fields,
            "fat_sectors_32": plan.fat_sectors,
            "mirror_flags": 0,
            "version": 0,
            "root_cluster": FAT32_ROOT_CLUSTER,
            "fsinfo_sector": 1,
            "backup_sector": FAT32_BACKUP_SECTOR,
            "reserved": bytes(12),
        }
    )


def _boot_code(code_at: int, room: int) -> bytes:
    """The code that says there is nothing to start, with its text, filling `room` bytes."""
    address = 0x7C00 + code_at + len(_BOOT_CODE)
    code = _BOOT_CODE.replace(b"%s", address.to_bytes(2, "little"))
    return (code + _MESSAGE + b"\0").ljust(room, b"\0")


def _chs(sectors: int) -> tuple[int, int]:
    """Heads and sectors a track that a BIOS would report for the size (LBA-assisted)."""
    for heads in (16, 32, 64, 128):
        if sectors <= heads * 63 * 1024:
            return heads, 63
    return 255, 63


def _new_volume_id() -> int:
    """A volume id from date and time, as DOS makes it. Confidence: inferred."""
    moment = clock.now()
    high = (moment.month << 8 | moment.day) + (moment.second << 8 | moment.microsecond // 10_000)
    low = (moment.hour << 8 | moment.minute) + moment.year
    return (high & 0xFFFF) << 16 | low & 0xFFFF
