"""The boot sector that fits a volume best: the one that is there, its backup, or one worked out.

The tables tell the most: where two copies begin, that far apart is one from the next, and after the
last comes the root folder. The rest is tried: cluster sizes, root folders, kinds of sectors; each
is judged by how well the volume agrees with it. What is there already wins unless another one fits
clearly better.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import byte_view, read
from ipva_storage.device.base import Device, Extent
from ipva_storage.errors import FatError, UsageError
from ipva_storage.fat import evidence, geometry
from ipva_storage.fat.bootfields import BootFields
from ipva_storage.fat.evidence import Evidence, weigh
from ipva_storage.fat.format import format  # noqa: A004
from ipva_storage.fat.geometry import BOOT_BYTES, SECTOR_BYTES_ALLOWED, Geometry
from ipva_storage.fat.reserved import BACKUP_SECTORS
from ipva_storage.units import MIB, SECTOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

    from ipva_storage.device import BlockDevice

SCAN_BYTES: Final = 192 * MIB
"""How far into a volume tables are looked for: two of the largest that are read here."""
HEADS_MAX: Final = 12
"""Starts of tables of one kind that are tried, in order. Confidence: chosen."""
CANDIDATES_MAX: Final = 400
"""Layouts that are judged. Confidence: chosen."""
CLEARLY: Final = 5
"""Points by which another layout must be ahead of the one that is there. Confidence: chosen."""
ENOUGH: Final = 9
"""Points for a layout that nothing in the boot sector tells. Confidence: chosen."""
ROOT_ENTRIES: Final = (512, 224, 112, 240, 256, 64, 1024, 32)
"""Lengths of fixed root folders, the most usual first. Confidence: inferred."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The boot sector that a volume should have."""

    sector: bytes
    """Its 512 bytes."""
    geometry: Geometry
    source: str
    """What tells it: `boot sector`, `backup` or `tables`."""
    evidence: Evidence
    backup_offset_bytes: int | None = None
    """Where the backup is that tells it."""


def judge(device: BlockDevice) -> Verdict | None:
    """The boot sector that fits best; None where nothing tells one.

    Raises:
        DeviceError: the medium cannot be read.
    """
    if device.size_bytes < 2 * BOOT_BYTES:
        return None
    there = read(device, 0, BOOT_BYTES)
    best = _verdict(device, there, "boot sector")
    if best is not None and not best.evidence.doubts and not _is_contradicted(device, best):
        return best
    for other in filter(_is_enough, _others(device, there)):
        if best is None or _is_ahead(best, other):
            best = other
            if best.evidence.is_plenty:
                break
    return best


def _is_ahead(best: Verdict, other: Verdict) -> bool:
    """Whether another boot sector fits clearly better; none that leaves more open does."""
    is_guess = best.source == "boot sector" and other.source == "tables"
    if is_guess and len(other.evidence.doubts) > len(best.evidence.doubts):
        return False
    return other.evidence.points >= best.evidence.points + _margin(best, other)


def _margin(best: Verdict, other: Verdict) -> int:
    """Points by which another boot sector must be ahead."""
    if best.source != "boot sector":
        return 1
    is_backup = other.source == "backup" and not other.evidence.doubts
    return 1 if is_backup and best.evidence.doubts else CLEARLY


def _is_enough(found: Verdict) -> bool:
    """Whether a layout that was worked out is more than chance."""
    if found.source != "tables":
        return True
    seen = found.evidence
    return seen.points >= ENOUGH or (seen.fitting_head_count > 1 and seen.points > 0)


def _verdict(
    device: BlockDevice, sector: bytes, source: str, offset_bytes: int | None = None
) -> Verdict | None:
    try:
        found = geometry.from_boot_sector(sector, device.size_bytes, device.name)
    except FatError:
        return None
    if found.data_offset_bytes + found.cluster_bytes > device.size_bytes:
        return None
    return Verdict(sector, found, source, weigh(device, found), offset_bytes)


def _is_contradicted(device: BlockDevice, found: Verdict) -> bool:
    """Whether a backup that is one says other places."""
    at = found.geometry.backup_offset_bytes
    if at is None or at + BOOT_BYTES > device.size_bytes:
        return False
    backup = read(device, at, BOOT_BYTES)
    if not _is_boot_sector(backup):
        return False
    return any(BootFields.of(found.sector).differences(BootFields.of(backup)))


def _is_boot_sector(sector: bytes) -> bool:
    return sector[510:] == b"\x55\xaa" and geometry.fault(sector) is None


def _others(device: BlockDevice, there: bytes) -> Iterator[Verdict]:
    """Other boot sectors that the volume may have, likely ones first."""
    known = [BootFields.of(there)]
    for sector_bytes, number in itertools.product(SECTOR_BYTES_ALLOWED, BACKUP_SECTORS):
        at = sector_bytes * number
        if at + BOOT_BYTES > device.size_bytes:
            continue
        sector = read(device, at, BOOT_BYTES)
        said = BootFields.of(sector)
        if not (_is_boot_sector(sector) and said.is_fat32 and said.sector_bytes == sector_bytes):
            continue
        if (found := _verdict(device, sector, "backup", at)) is not None:
            yield found
            known.append(said)
    tried: set[BootFields] = set()
    count = 0
    for fields in itertools.islice(_candidates(device, known), 50 * CANDIDATES_MAX):
        if count >= CANDIDATES_MAX:
            return
        if fields in tried or not fields.is_storable:
            continue
        tried.add(fields)
        found = _verdict(device, fields.put_into(there), "tables")
        if found is not None and _is_consistent(found.geometry, fields):
            count += 1
            yield found


def _is_consistent(found: Geometry, fields: BootFields) -> bool:
    """Whether the clusters of a layout are as many as its kind of table may have."""
    if fields.is_fat32:
        return found.fat_bits == 32
    return found.claimed_cluster_count <= layout.FAT16_CLUSTERS_MAX


def _candidates(device: BlockDevice, known: list[BootFields]) -> Iterator[BootFields]:
    """Layouts: those known with one field as it usually is, then all that the tables allow."""
    heads = find_heads(device)
    for fields in known:
        yield fields
        yield from _corrected(fields, device)
    for sector_bytes in dict.fromkeys([*(one.sector_bytes for one in known), SECTOR_BYTES, 4096]):
        if sector_bytes in SECTOR_BYTES_ALLOWED:
            yield from _from_tables(device, known, heads, sector_bytes)
    yield from _as_formatted(device)


def _corrected(fields: BootFields, device: BlockDevice) -> Iterator[BootFields]:
    """Layouts with one field as it usually is."""
    for size in SECTOR_BYTES_ALLOWED:
        yield replace(fields, sector_bytes=size)
    if fields.sector_bytes not in SECTOR_BYTES_ALLOWED:
        return
    for cluster in (1, 2, 4, 8, 16, 32, 64, 128):
        yield replace(fields, cluster_sectors=cluster)
    for media in (0xF8, 0xF0):
        yield replace(fields, media=media)
    for count in (2, 1):
        yield replace(fields, fat_count=count)
    yield replace(fields, volume_sectors=device.size_bytes // fields.sector_bytes)
    yield replace(fields, reserved_sectors=32 if fields.is_fat32 else 1)
    if fields.is_fat32:
        yield replace(fields, root_cluster=2)
    else:
        for entries in ROOT_ENTRIES:
            yield replace(fields, root_entry_count=entries)


# -- tables -----------------------------------------------------------------------------------


def find_heads(device: BlockDevice) -> dict[tuple[int, int], list[int]]:
    """Where a table may begin: offsets in order, by the width of its entries and its media byte."""
    found: dict[tuple[int, int], list[int]] = {}
    end = min(device.size_bytes, SCAN_BYTES) // SECTOR_BYTES * SECTOR_BYTES
    for start in range(0, end, MIB):
        raw = read(device, start, min(MIB, end - start))
        sectors = np.frombuffer(raw, "<u4").reshape(-1, SECTOR_BYTES // 4)[:, 0]
        likely = (sectors & 0x00FFFF00) == 0x00FFFF00
        for index in np.flatnonzero(likely).tolist():
            at = index * SECTOR_BYTES
            for bits in (32, 16, 12):
                places = found.setdefault((bits, raw[at]), [])
                if len(places) < HEADS_MAX and evidence.is_head(raw[at : at + 8], bits):
                    places.append(start + at)
    return found


def _from_tables(
    device: BlockDevice,
    known: list[BootFields],
    heads: dict[tuple[int, int], list[int]],
    sector_bytes: int,
) -> Iterator[BootFields]:
    """Every layout that two starts of tables allow, or one and what else is known."""
    clusters = dict.fromkeys([*(one.cluster_sectors for one in known), 8, 4, 1, 2, 16, 32, 64])
    for (bits, media), offsets in sorted(heads.items(), key=lambda item: -item[0][0]):
        places = [at // sector_bytes for at in offsets if at % sector_bytes == 0]
        for first, length, count in _spans(places, known, bits):
            plain = BootFields(sector_bytes, 0, first, count, 0, 0, media, length, bits == 32)
            for cluster in clusters:
                if 1 <= cluster <= 128:
                    fields = replace(plain, cluster_sectors=cluster)
                    yield from _laid_out(device, known, fields, bits)


def _spans(places: list[int], known: list[BootFields], bits: int) -> Iterator[tuple[int, int, int]]:
    """First sector, length and number of the copies of a table."""
    for first, second in itertools.combinations(places, 2):
        count = 2
        while first + count * (second - first) in places:
            count += 1
        yield first, second - first, count
    lengths = dict.fromkeys(one.fat_sectors for one in known if one.is_fat32 is (bits == 32))
    for place in places:
        for length, count in itertools.product(lengths, (2, 1)):
            yield place, length, count
        usual = 32 if bits == 32 else 1
        if place > usual:
            yield usual, place - usual, 2


def _laid_out(
    device: BlockDevice, known: list[BootFields], fields: BootFields, bits: int
) -> Iterator[BootFields]:
    """The layouts around a table, those only of which the table has about the right length."""
    total = device.size_bytes // fields.sector_bytes
    for volume_sectors in dict.fromkeys([*(one.volume_sectors for one in known), total]):
        room = volume_sectors - fields.reserved_sectors - fields.fat_count * fields.fat_sectors
        if not 0 < volume_sectors <= total or room < fields.cluster_sectors:
            continue
        need = -(-(room // fields.cluster_sectors + 2) * bits // 8 // fields.sector_bytes)
        if not need - 1 <= fields.fat_sectors + 1 <= 2 * need + 64:
            continue
        sized = replace(fields, volume_sectors=volume_sectors)
        if bits != 32:
            for entries in dict.fromkeys([*_root_entries(known), *ROOT_ENTRIES]):
                yield replace(sized, root_entry_count=entries)
            continue
        for root in dict.fromkeys([*(one.root_cluster for one in known if one.is_fat32), 2]):
            yield replace(sized, root_cluster=root, fsinfo_sector=1, backup_sector=6)


def _root_entries(known: Iterable[BootFields]) -> list[int]:
    return [one.root_entry_count for one in known if 16 <= one.root_entry_count <= 4096]


def _as_formatted(device: BlockDevice) -> Iterator[BootFields]:
    """The layouts that a format would make on the device."""
    sizes = [None, *(SECTOR_BYTES << shift for shift in range(8))]
    for cluster_bytes, bits in itertools.product(sizes, (32, 16, 12)):
        blank = _Blank(device.size_bytes)
        try:
            format(blank, fat_bits=bits, cluster_bytes=cluster_bytes)
        except UsageError:
            continue
        yield BootFields.of(blank.start)


class _Blank(Device):
    """A device that only keeps the boot sector of what is made on it."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self.start = bytes(BOOT_BYTES)

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read_into(self, _: int, buffer: WriteableBuffer, /) -> None:
        view = byte_view(buffer)
        view[:] = bytes(len(view))

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        if not offset_bytes:
            self.start = bytes(byte_view(data)[:BOOT_BYTES])

    def discard(self, _: int, __: int, /) -> None:
        pass

    def extents(self) -> Iterator[Extent]:
        yield Extent(0, self._size_bytes, is_data=False)
