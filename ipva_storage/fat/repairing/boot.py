"""The boot sector, as it should be: what is there, the backup, or what the tables tell."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.fat import geometry as boot_sector
from ipva_storage.fat import layouts, reserved
from ipva_storage.fat.bootfields import BootFields
from ipva_storage.fat.structure import STATE_AT

if TYPE_CHECKING:
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.repairing.draft import Draft


def mend(draft: Draft) -> Geometry | None:
    """Put the boot sector right; None where nothing of the volume is recognised."""
    verdict = layouts.judge(draft)
    if verdict is None:
        return None
    there = read(draft, 0, boot_sector.BOOT_BYTES)
    fields = _sized(draft, reserved.settled(draft, BootFields.of(verdict.sector)))
    wanted = _typed(fields.put_into(verdict.sector), verdict.geometry.fat_bits)
    wanted = _cleaned(wanted, verdict.geometry.fat_bits)
    if wanted != there:
        draft.write(0, wanted)
    return boot_sector.parse(draft)


def _sized(draft: Draft, fields: BootFields) -> BootFields:
    """The fields with a volume that is no longer than its device and its table.

    A volume of FAT16 that would become one of FAT12 by that stays: its entries would be read wrong.
    """
    found = boot_sector.from_boot_sector(fields.put_into(bytes(512)), draft.size_bytes, draft.name)
    data_sector = found.data_offset_bytes // fields.sector_bytes
    longest = draft.size_bytes // fields.sector_bytes
    if found.claimed_cluster_count > found.cluster_count:
        longest = min(longest, data_sector + found.cluster_count * fields.cluster_sectors)
    sectors = min(fields.volume_sectors, longest)
    count = (sectors - data_sector) // fields.cluster_sectors
    if found.fat_bits == 16 and count <= layout.FAT12_CLUSTERS_MAX:
        return fields
    return replace(fields, volume_sectors=sectors)


def _typed(sector: bytes, bits: int) -> bytes:
    """The sector with the type text that its clusters make it, where it has one."""
    at = 0x52 if bits == 32 else 0x36
    if sector[at - 16] not in (0x28, layout.EXTENDED_SIGNATURE):
        return sector
    kind = f"FAT{bits}".encode()
    if sector[at : at + 8].rstrip() == kind:
        return sector
    return sector[:at] + kind.ljust(8) + sector[at + 8 :]


def _cleaned(sector: bytes, bits: int) -> bytes:
    """The sector without the mark of a volume that is in use."""
    changed = bytearray(sector)
    changed[STATE_AT[bits]] &= ~layout.BOOT_STATE_DIRTY
    return bytes(changed)
