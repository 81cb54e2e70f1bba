"""Making an empty volume: the choices of mkfs.fat, and writes that leave an image sparse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipva_formats import fat as layout
from ipva_storage.errors import UsageError
from ipva_storage.fat import clock, names
from ipva_storage.fat.choosing import FAT_COUNT, MEDIA, Plan, Wish, choose
from ipva_storage.units import SECTOR_BYTES

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ipva_storage.device import BlockDevice

FAT32_BACKUP_SECTOR: Final = 6
FAT32_ROOT_CLUSTER: Final = 2
_MESSAGE: Final = b"This disk holds data only and cannot start a PC.\r\n"
_BOOT_CODE: Final = (
    b"\xfa\x31\xc0\x8e\xd8\xfc\xbe%s\xac\x84\xc0\x74\x09\xb4\x0e\xbb\x07\x00\xcd\x10\xeb\xf2\xfb\xf4"
    b"\xeb\xfd"
)
"""8086: print the text behind the code through the BIOS, then halt. Ours. Confidence: chosen."""


def format(  # noqa: A001 - the name of the door, the same in every room
    device: BlockDevice,
    *,
    fat_bits: int | None = None,
    label: str | None = None,
    cluster_bytes: int | None = None,
    sector_bytes: int = SECTOR_BYTES,
    reserved_sectors: int | None = None,
    fat_count: int = FAT_COUNT,
    root_entry_count: int | None = None,
    volume_id: int | None = None,
    boot_code: bytes | None = None,
    hidden_sectors: int = 0,
) -> None:
    """Make an empty volume that fills the device; what was on it is lost.

    The tables and the root folder are discarded and only what is not zero is written, so that it
    takes an instant and a sparse image stays sparse. The boot sector comes last: a power cut
    leaves no half-made volume that looks whole.

    Args:
        device: the volume: a partition, or a whole disk without partitions.
        fat_bits: 12, 16 or 32; by default what the size asks for.
        label: up to 11 characters, kept in upper case.
        cluster_bytes: a power of two from the sector to 64 KiB; by default what the size asks for.
        sector_bytes: 512, 1024, 2048 or 4096.
        reserved_sectors: before the tables; by default 32 for FAT32 and 1 for the others. It is
            made whole clusters where the volume is aligned.
        fat_count: copies of the table, 1 to 15.
        root_entry_count: records of the root folder of FAT12 and FAT16, 512 by default; whole
            sectors, and whole clusters where the volume is aligned, are made of it.
        volume_id: 32 bits; by default made from the time (SOURCE_DATE_EPOCH fixes it).
        boot_code: of the boot sector, 512 bytes, of which its header is not used, or only what
            follows the header; by default a text that says that the disk does not start.
        hidden_sectors: how many sectors of the disk lie before the volume.

    Raises:
        UsageError: the size, the type and the other wishes do not go together.
        DeviceError: the medium refused.
    """
    plan = choose(
        device.size_bytes,
        wish=Wish(
            fat_bits, cluster_bytes, sector_bytes, reserved_sectors, fat_count, root_entry_count
        ),
    )
    name = names.label_bytes(label) if label else None
    if volume_id is None:
        volume_id = _new_volume_id()
    code = _code(plan, boot_code)
    boot = _boot_sector(plan, name or b"NO NAME    ", volume_id & 0xFFFFFFFF, code, hidden_sectors)
    device.discard(0, _cleared_sectors(plan) * plan.sector_bytes)
    device.flush()
    for sector, data in _contents(plan, name):
        device.write(sector * plan.sector_bytes, data)
    if plan.fat_bits == 32:
        device.write(FAT32_BACKUP_SECTOR * plan.sector_bytes, boot)
    device.flush()
    device.write(0, boot)
    device.flush()


def _cleared_sectors(plan: Plan) -> int:
    """How many sectors from the start must read as zero before anything is written."""
    return plan.data_sector + (plan.cluster_sectors if plan.fat_bits == 32 else 0)


def _contents(plan: Plan, name: bytes | None) -> list[tuple[int, ReadableBuffer]]:
    """What is not zero in an empty volume, but for the boot sectors: (sector, data)."""
    end = layout.ENTRY_MASK[plan.fat_bits]
    first = [end & ~0xFF | plan.media, end, *([end] if plan.fat_bits == 32 else [])]
    packed = sum(value << plan.fat_bits * index for index, value in enumerate(first))
    table = packed.to_bytes(SECTOR_BYTES, "little")
    found: list[tuple[int, ReadableBuffer]] = [
        (plan.reserved_sectors + copy * plan.fat_sectors, table) for copy in range(plan.fat_count)
    ]
    if plan.fat_bits == 32:
        info = fsinfo_sector(plan.cluster_count - 1)
        found += [(1, info), (FAT32_BACKUP_SECTOR + 1, info)]
        found += [(2, boot_tail()), (FAT32_BACKUP_SECTOR + 2, boot_tail())]
    if name is not None:
        found.append((plan.root_sector, _label_entry(name)))
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


def fsinfo_sector(free_count: int) -> bytes:
    """A new FSInfo."""
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


def boot_tail() -> bytes:
    """The third boot sector of FAT32: only its signature. Source: MS. Confidence: stated."""
    return layout.BOOT_SIGNATURE.to_bytes(2, "little").rjust(SECTOR_BYTES, b"\0")


def _boot_sector(
    plan: Plan, label: bytes, volume_id: int, boot_code: bytes, hidden_sectors: int
) -> bytes:
    is_32 = plan.fat_bits == 32
    code_at = _code_place(plan.fat_bits)
    track_sectors = plan.drive.track_sectors
    small = plan.volume_sectors if plan.volume_sectors <= 0xFFFF else 0
    fields = {
        "jump": bytes([0xEB, code_at - 2, 0x90]),
        "oem_name": b"MSWIN4.1",
        "sector_bytes": plan.sector_bytes,
        "cluster_sectors": plan.cluster_sectors,
        "reserved_sectors": plan.reserved_sectors,
        "fat_count": plan.fat_count,
        "root_entry_count": plan.root_entry_count,
        "volume_sectors_16": 0 if is_32 else small,
        "media": plan.media,
        "fat_sectors_16": 0 if is_32 else plan.fat_sectors,
        "track_sectors": track_sectors,
        "head_count": plan.drive.head_count,
        "hidden_sectors": hidden_sectors,
        "volume_sectors_32": plan.volume_sectors if is_32 or not small else 0,
        "drive_number": 0x80 if plan.media == MEDIA else 0,
        "state": 0,
        "extended_signature": layout.EXTENDED_SIGNATURE,
        "volume_id": volume_id,
        "label": label,
        "type_text": f"FAT{plan.fat_bits}   ".encode(),
        "boot_code": boot_code,
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


def _code_place(fat_bits: int) -> int:
    """Where the code of a boot sector begins: behind its header."""
    return 0x5A if fat_bits == 32 else 0x3E


def _code(plan: Plan, wanted: bytes | None) -> bytes:
    """The code of the boot sector, up to its signature.

    Raises:
        UsageError: what is wanted does not fit.
    """
    code_at = _code_place(plan.fat_bits)
    room = SECTOR_BYTES - 2 - code_at
    if wanted is None:
        return default_code(plan.fat_bits)
    if len(wanted) == SECTOR_BYTES:
        wanted = wanted[code_at : SECTOR_BYTES - 2]
    if len(wanted) > room:
        raise UsageError(
            f"boot code of {len(wanted)} bytes does not fit a boot sector of FAT{plan.fat_bits}",
            remedy=f"give a whole boot sector of {SECTOR_BYTES} bytes, or at most {room} bytes",
        )
    return wanted.ljust(room, b"\0")


def default_code(fat_bits: int) -> bytes:
    """The code that says there is nothing to start, with its text, filling its place."""
    code_at = _code_place(fat_bits)
    address = 0x7C00 + code_at + len(_BOOT_CODE)
    code = _BOOT_CODE.replace(b"%s", address.to_bytes(2, "little"))
    return (code + _MESSAGE + b"\0").ljust(SECTOR_BYTES - 2 - code_at, b"\0")


def _new_volume_id() -> int:
    """A volume id from date and time, as DOS makes it. Confidence: inferred."""
    moment = clock.now()
    high = (moment.month << 8 | moment.day) + (moment.second << 8 | moment.microsecond // 10_000)
    low = (moment.hour << 8 | moment.minute) + moment.year
    return (high & 0xFFFF) << 16 | low & 0xFFFF
