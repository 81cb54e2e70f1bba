"""How well a volume agrees with a layout that its boot sector, or a guess, tells.

Of a volume whose boot sector is right all this takes some milliseconds: a few folders and the
starts of a few chains are looked at.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ipva_formats import fat as layout
from ipva_storage.device import is_zero, read
from ipva_storage.fat import records
from ipva_storage.fat.survey import valid_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry

FOLDERS_MAX: Final = 24
"""Folders that are looked at. Confidence: chosen, as are all weights and limits here."""
FILES_MAX: Final = 32
LINKS_MAX: Final = 24
RECORDS_SEEN_MAX: Final = 256
TAIL_BYTES_MAX: Final = 64 * 1024
SLACK_SECTORS: Final = 8
"""A table may be so much longer than it need be, or by two clusters, without surprise."""

GOOD_RECORDS_MAX: Final = 16
ROOT_MISFITS: Final = 8
ROOT_TORN: Final = 5
"""Points against a root folder that does not fill its sectors, as MS says it does. Chosen."""
BACKED: Final = 2
"""Folders and chains that fit, from which on a copy that does not begin as one is only damaged."""
PLENTY: Final = 6
FOLDER_FITS: Final = 4
HEAD_FITS: Final = 3
CHAIN_FITS: Final = 2


@dataclass(slots=True)
class Evidence:
    """What speaks for a layout and what against it."""

    points: int = 0
    doubts: list[str] = field(default_factory=list)
    """What would not be so if the layout were right and the volume whole."""
    fitting_head_count: int = 0
    """Copies of the table that begin as one does."""
    misfit_head_count: int = 0
    """Copies that do not."""
    folders: list[bool] = field(default_factory=list)
    """Of the folders that were looked at, whether each begins as it should there."""
    chains: list[bool] = field(default_factory=list)
    """Of the chains that were looked at, whether each fits the length of its file."""

    @property
    def is_plenty(self) -> bool:
        """Whether nothing speaks against the layout, and several folders and chains for it."""
        return not self.doubts and sum(self.folders) + sum(self.chains) >= PLENTY

    def doubt(self, text: str, points: int) -> None:
        """Count something against the layout."""
        self.points -= points
        if text not in self.doubts:
            self.doubts.append(text)


def weigh(device: BlockDevice, geometry: Geometry) -> Evidence:
    """See what a volume says of a layout.

    Raises:
        DeviceError: the medium cannot be read.
    """
    found = Evidence()
    copies = _weigh_heads(device, geometry, found)
    copy = copies[0] if copies else None
    _weigh_sizes(device, geometry, found)
    if copy is not None:
        _weigh_tail(device, geometry, copy, found)
    files = _weigh_folders(device, geometry, copy, found)
    _weigh_chains(device, geometry, copies, files[:FILES_MAX], found)
    is_backed = found.fitting_head_count and sum(found.folders) + sum(found.chains) >= BACKED
    if found.misfit_head_count and not is_backed:
        found.doubt("copies of the table do not begin as one", 0)
    if geometry.oddities:
        found.points -= 2
    # One that is broken is a matter of its own; a wrong layout breaks most.
    if found.folders and 2 * sum(found.folders) <= len(found.folders):
        found.doubt("most folders do not begin with “.” and “..”", 0)
    if found.chains and 2 * sum(found.chains) <= len(found.chains):
        found.doubt("most chains do not fit the length of their files", 0)
    return found


def is_head(data: bytes, bits: int, media: int | None = None) -> bool:
    """Whether a table could begin so: the media byte, ones, and an end of chain.

    The bits that tell how the volume was left may be anything. Source: MS, "FAT Data Structure".

    Args:
        data: 8 bytes or more.
        bits: 12, 16 or 32.
        media: the byte that the boot sector has, or None for any that is one.
    """
    if data[0] != media if media is not None else not (data[0] == 0xF0 or data[0] >= 0xF8):
        return False
    first, second = (entry(data, index, bits) for index in (0, 1))
    mask = layout.ENTRY_MASK[bits]
    kept = layout.CLEAN_BIT[bits] | layout.NO_ERROR_BIT[bits]
    return first | 0xFF == mask and second | kept | 7 == mask


def entry(data: bytes, index: int, bits: int) -> int:
    """One entry of a piece of a table that starts at entry 0 (FAT12: at an even one)."""
    at = index * bits // 8
    value = int.from_bytes(data[at : at + (2 if bits == 12 else bits // 8)], "little")
    if bits == 12:
        value = value >> 4 if index % 2 else value & 0xFFF
    return value & layout.ENTRY_MASK[bits]


def _weigh_heads(device: BlockDevice, geometry: Geometry, found: Evidence) -> list[int]:
    """The copies that begin as a table does."""
    fitting = []
    active = geometry.mirrored_fat
    for copy in range(geometry.fat_count) if active is None else (active,):
        at = geometry.fat_offset_bytes + copy * geometry.fat_bytes
        inside = at + 8 <= device.size_bytes
        if inside and is_head(read(device, at, 8), geometry.fat_bits, geometry.media):
            found.points += HEAD_FITS
            found.fitting_head_count += 1
            fitting.append(copy)
        else:
            found.points -= HEAD_FITS
            found.misfit_head_count += 1
    return fitting


def _weigh_sizes(device: BlockDevice, geometry: Geometry, found: Evidence) -> None:
    entries = geometry.fat_bytes * 8 // geometry.fat_bits
    spare_bytes = (entries - geometry.entry_count) * geometry.fat_bits // 8
    slack = max(SLACK_SECTORS * geometry.sector_bytes, 2 * geometry.cluster_bytes)
    if geometry.fat_count == 1:  # a growth that was cut may have left it the place of two
        slack += geometry.fat_bytes // 2
    if geometry.claimed_cluster_count > geometry.cluster_count:
        found.doubt("the table is too small for the volume", 2)
    elif spare_bytes <= slack:
        found.points += 2
    else:
        found.doubt("the table is larger than the volume needs", 0)
    if geometry.volume_bytes > device.size_bytes:
        found.doubt("the volume is longer than its device", 2)
    if geometry.root_entry_count * layout.ENTRY_BYTES % geometry.sector_bytes:
        found.doubt("the root folder ends within a sector", ROOT_TORN)
    if (
        geometry.fsinfo_offset_bytes is not None
        and geometry.fsinfo_offset_bytes + 512 <= device.size_bytes
    ):
        lead = int.from_bytes(read(device, geometry.fsinfo_offset_bytes, 4), "little")
        found.points += lead == layout.FSINFO_LEAD


def _weigh_tail(device: BlockDevice, geometry: Geometry, copy: int, found: Evidence) -> None:
    """Entries in use beyond the last cluster."""
    start = -(-geometry.entry_count * geometry.fat_bits // 8)
    length = min(geometry.fat_bytes - start, TAIL_BYTES_MAX)
    base = geometry.fat_offset_bytes + copy * geometry.fat_bytes
    is_inside = length > 0 and base + start + length <= device.size_bytes
    if is_inside and not is_zero(read(device, base + start, length)):
        found.doubt("the table has entries beyond the last cluster", 3)


def _weigh_folders(
    device: BlockDevice, geometry: Geometry, copy: int | None, found: Evidence
) -> list[tuple[int, int]]:
    """Look at the root folder and some below it; return starts and lengths of files there."""
    files: list[tuple[int, int]] = []
    todo = deque([(geometry.root_cluster, -1)])
    for _ in range(FOLDERS_MAX):
        if not todo:
            break
        start, parent = todo.popleft()
        raw = first_piece(device, geometry, start)
        if not _weigh_folder(device, geometry, copy, raw, start, parent, found):
            continue
        for is_folder, first, content_bytes in _live(raw, geometry):
            if not _is_inside(device, geometry, first):
                if is_folder or content_bytes:
                    found.doubt("files or folders start outside", 0)
            elif is_folder:
                todo.append((first, start))
            elif content_bytes:
                files.append((first, content_bytes))
    return files


def _weigh_folder(
    device: BlockDevice,
    geometry: Geometry,
    copy: int | None,
    raw: bytes,
    start: int,
    parent: int,
    found: Evidence,
) -> bool:
    """Look at one folder, the root folder where `parent` is below 0; whether to believe it."""
    if parent >= 0:
        found.folders.append(_has_dots(raw, geometry, start, parent))
        found.points += FOLDER_FITS if found.folders[-1] else -FOLDER_FITS
        return found.folders[-1]
    good, bad = judge(raw)
    found.points += min(good, GOOD_RECORDS_MAX)
    if bad > good:
        found.doubt("the root folder has records that are none", ROOT_MISFITS)
    elif not good and copy is not None and _has_chains(device, geometry, copy):
        found.doubt("the root folder is empty, and clusters are in use", ROOT_MISFITS)
    if copy is not None and start and not _is_used(device, geometry, copy, start):
        found.doubt("the root folder starts in a cluster that is not in use", 4)
    return True


def _is_inside(device: BlockDevice, geometry: Geometry, cluster: int) -> bool:
    """Whether there is such a cluster; on a device that was cut short many are not."""
    end_bytes = geometry.cluster_offset_bytes(cluster) + geometry.cluster_bytes
    return geometry.is_cluster(cluster) and end_bytes <= device.size_bytes


def first_piece(device: BlockDevice, geometry: Geometry, start: int) -> bytes:
    """The first records of a folder; nothing where it is outside."""
    if start or geometry.root_cluster:
        if not geometry.is_cluster(start):
            return b""
        at, length = geometry.cluster_offset_bytes(start), geometry.cluster_bytes
    else:
        at, length = geometry.root_offset_bytes, geometry.root_entry_count * layout.ENTRY_BYTES
    length = min(length, RECORDS_SEEN_MAX * layout.ENTRY_BYTES, device.size_bytes - at)
    return read(device, at, length // 32 * 32) if length >= layout.ENTRY_BYTES else b""


def judge(raw: bytes) -> tuple[int, int]:
    """How many records of a piece of a folder are good, and how many cannot be any.

    A folder other than the root begins with “.”, so that one in a root counts as bad.
    """
    if not raw:
        return 0, 4
    parsed = records.parse(raw)
    if not parsed.end:
        return 0, 0
    attributes = parsed.table["attributes"]
    is_odd = (attributes & 0xC0) != 0
    is_name_bad = parsed.is_short & ~valid_names(parsed)
    bad = (parsed.is_short | parsed.is_label | parsed.is_long) & is_odd
    bad |= is_name_bad
    live = parsed.is_short | parsed.is_long | parsed.is_label
    return int(np.count_nonzero(live & ~bad)), int(np.count_nonzero(bad))


def _has_dots(raw: bytes, geometry: Geometry, start: int, parent: int) -> bool:
    if len(raw) < 64 or raw[:11] != records.DOT or raw[32:43] != records.DOT_DOT:
        return False
    above = 0 if parent == geometry.root_cluster else parent
    return [cluster_of(raw[at : at + 32], geometry) for at in (0, 32)] == [start, above]


def cluster_of(record: bytes, geometry: Geometry) -> int:
    """First cluster of a record."""
    low = int.from_bytes(record[26:28], "little")
    return low | int.from_bytes(record[20:22], "little") << 16 if geometry.fat_bits == 32 else low


def _live(raw: bytes, geometry: Geometry) -> Iterator[tuple[bool, int, int]]:
    """Files and folders of a piece: is it a folder, first cluster, length."""
    if not raw:
        return
    parsed = records.parse(raw)
    is_good = valid_names(parsed) & ((parsed.table["attributes"] & 0xC0) == 0)
    for index in np.flatnonzero(parsed.is_short & is_good).tolist():
        row: Any = parsed.table[index]
        if row["name"].tobytes() in (records.DOT, records.DOT_DOT):
            continue
        start = cluster_of(raw[index * 32 : index * 32 + 32], geometry)
        is_folder = bool(row["attributes"] & layout.ATTRIBUTE_FOLDER)
        yield is_folder, start, int(row["content_bytes"])


def _has_chains(device: BlockDevice, geometry: Geometry, copy: int) -> bool:
    """Whether the first entries of a table are in use, but for those of an empty root folder."""
    bits = geometry.fat_bits
    count = min(geometry.entry_count, 128)
    at = geometry.fat_offset_bytes + copy * geometry.fat_bytes
    data = read(device, at, -(-count * bits // 8) + 1)
    ignored = {0, 1, geometry.root_cluster}
    return any(entry(data, index, bits) for index in range(count) if index not in ignored)


def _is_used(device: BlockDevice, geometry: Geometry, copy: int, cluster: int) -> bool:
    return geometry.is_cluster(cluster) and _entry_at(device, geometry, copy, cluster) != 0


def _entry_at(device: BlockDevice, geometry: Geometry, copy: int, cluster: int) -> int:
    bits = geometry.fat_bits
    at = geometry.fat_offset_bytes + copy * geometry.fat_bytes + cluster * bits // 8
    data = read(device, at, 2 if bits == 12 else bits // 8)
    value = int.from_bytes(data, "little")
    if bits == 12 and cluster % 2:
        value >>= 4
    return value & layout.ENTRY_MASK[bits]


def _weigh_chains(
    device: BlockDevice,
    geometry: Geometry,
    copies: list[int],
    files: list[tuple[int, int]],
    found: Evidence,
) -> None:
    """Follow some chains in the first copy in which all fit, or else in the one where most do."""
    best = None
    for copy in copies:
        seen = Evidence()
        for start, content_bytes in files:
            _weigh_chain(device, geometry, copy, start, content_bytes, seen)
        if best is None or seen.points > best.points:
            best = seen
        if all(seen.chains) and not seen.doubts:
            break
    if best is not None:
        found.points += best.points
        found.chains += best.chains
        found.doubts += best.doubts


def _weigh_chain(
    device: BlockDevice,
    geometry: Geometry,
    copy: int,
    start: int,
    content_bytes: int,
    found: Evidence,
) -> None:
    """Follow a chain, as far as it is told by the file's length, or `LINKS_MAX` links."""
    need = -(-content_bytes // geometry.cluster_bytes)
    at, fits = start, True
    for done in range(min(need, LINKS_MAX)):
        if not geometry.is_cluster(at):
            found.doubt("chains lead outside", 0)
            return
        at = _entry_at(device, geometry, copy, at)
        fits = (at >= layout.END_MIN[geometry.fat_bits]) is (done + 1 == need)
        if not fits:
            break
    found.chains.append(fits)
    found.points += (CHAIN_FITS if need > 1 else 1) * (1 if fits else -1)
