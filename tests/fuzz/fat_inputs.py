"""What a fuzzer's bytes mean: a small FAT volume of every kind, and a list of edits to it.

A head, then edits (see `edits`):

| byte | of the head |
| --- | --- |
| 0 | which seed; behind the last, sectors follow that are put over an empty image |
| 1 | which job is done with the image (`fat_promises.JOBS`) |
| 2 | a number for that job |
| 3 | nothing |

| bytes | of an edit |
| --- | --- |
| 0 | which of `EDITS`, or of `STRUCTURED` |
| 1-2 | where: below 32768 a word of the image; above, one of the words that are structure; for an edit of the structure, which record or cluster |
| 3 | how: a length, an odd value, a field, … |
| 4-7 | a value |
"""  # noqa: E501 - a table

from __future__ import annotations

import functools
import itertools
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from ipva_storage import fat
from ipva_storage.device import BlockDevice, MemoryDevice, SliceDevice
from ipva_storage.fat import choosing
from ipva_storage.fat.folder import pack_long
from ipva_storage.fat.geometry import Geometry, parse
from ipva_storage.fat.repairing.folders import surveyed
from ipva_storage.fat.table import FREE, FatTable
from ipva_storage.units import KIB, MIB
from tests.damage.fat_volumes import BADS, ENDS, entry
from tests.fuzz.edits import (
    EDITS_MAX,
    HEAD,
    ODD_VALUES,
    RECORD,
    SECTOR,
    Edit,
    add,
    append,
    blank,
    copy_sectors,
    copy_word,
    cut,
    flip,
    put,
    put_odd,
)

IMAGE_MAX_BYTES: Final = 4 * MIB
BOOT_FIELDS: Final = (
    *(0, 3, 11, 13, 14, 16, 17, 19, 21, 22, 24, 26, 28, 32, 36, 37, 38, 39, 40, 42, 43, 44, 48, 50),
    *(54, 64, 65, 66, 67, 71, 82, 446, 450, 454, 458, 462, 466, 470, 474, 510),
)
"""Where the fields of a boot sector and of a partition table are, in bytes."""
SUMMARY_FIELDS: Final = (0, 484, 488, 492, 508)
RECORD_FIELDS: Final = (0, 8, 11, 12, 13, 14, 20, 22, 26, 28)
NAMES: Final = (
    *(b".          ", b"..         ", b"A       TXT", b"SUB        ", b"GOOD       "),
    *(b"\xe5          ", b"\x05LPHA   TXT", b"a b*    ?? ", b"           ", b"AFILEW~1TXT"),
    *(b"\xff\xfe\xfd       ", b"FSCK0000REC", b"\0\0\0\0\0\0\0\0\0\0\0", b"NUL     TXT"),
)
LONG_NAMES: Final = (
    *(
        "A file with a long name.txt",
        "/",
        "..",
        "x" * 255,
        "\ud800\udc00 two",
        "\u202e.txt",
        "a.txt",
    ),
    *("a/b", "trailing. ", "FSCK0000.REC"),
)


@dataclass(frozen=True)
class Part:
    """A volume of a seed."""

    offset_bytes: int
    geometry: Geometry


@dataclass(frozen=True)
class Seed:
    """A sound image, and where its structure is."""

    content: bytes
    is_disk: bool
    """Whether it has a partition table."""
    parts: tuple[Part, ...]
    records: tuple[int, ...]
    """Where the records of folders are, in bytes from the start of the image."""
    clusters: tuple[tuple[int, int], ...]
    """Those in use, and some free ones: index of the part, and number."""
    places: tuple[int, ...]
    """Words that are structure, in bytes."""


@dataclass(frozen=True)
class Case:
    """An image, and what is done with it."""

    content: bytearray
    is_disk: bool
    job: int
    number: int


def case_of(data: bytes) -> Case:
    """What a fuzzer's bytes mean."""
    kind, job, number, _ = HEAD.unpack(data[: HEAD.size].ljust(HEAD.size, b"\0"))
    rest = data[HEAD.size :]
    kind %= len(SEEDS) + 1
    if kind == len(SEEDS):
        return Case(bytearray(rest.ljust(128 * SECTOR, b"\0")), False, job, number)
    seed = seeds()[kind]
    content = bytearray(seed.content)
    for at in range(0, min(len(rest), EDITS_MAX * RECORD.size), RECORD.size):
        _edit(seed, content, *RECORD.unpack(rest[at : at + RECORD.size].ljust(RECORD.size, b"\0")))
        del content[IMAGE_MAX_BYTES:]
    return Case(content, seed.is_disk, job, number)


def _edit(seed: Seed, content: bytearray, what: int, where: int, how: int, value: int) -> None:
    what %= len(EDITS) + len(STRUCTURED)
    if what >= len(EDITS):
        STRUCTURED[what - len(EDITS)](seed, content, where, how, value)
    elif where >= 32768:
        EDITS[what](content, seed.places[(where - 32768) % len(seed.places)], how, value)
    else:
        EDITS[what](content, where * 4 % max(len(content), 1), how, value)


# -- edits of the structure ---------------------------------------------------------------------


def link(seed: Seed, content: bytearray, where: int, how: int, value: int) -> None:
    """A cluster leads elsewhere, in one copy of the table or in all."""
    number, cluster = seed.clusters[where % len(seed.clusters)]
    part = seed.parts[number]
    _link(part, content, cluster, _target(seed, number, value), _copies(part, how))


def link_run(seed: Seed, content: bytearray, where: int, how: int, value: int) -> None:
    """Clusters in a row are free, bad, ends, or lead forwards, backwards or to themselves."""
    number, first = seed.clusters[where % len(seed.clusters)]
    part = seed.parts[number]
    bits = part.geometry.fat_bits
    for cluster in range(first, min(first + how % 32 + 1, part.geometry.entry_count)):
        values = (FREE, BADS[bits], ENDS[bits], cluster + 1, cluster - 1, cluster)
        _link(part, content, cluster, values[value % len(values)], _copies(part, how))


def start(seed: Seed, content: bytearray, where: int, how: int, value: int) -> None:
    """A file or folder starts elsewhere."""
    at = seed.records[where % len(seed.records)]
    cluster = _target(seed, how % len(seed.parts), value)
    _put(content, at + 20, struct.pack("<H", cluster >> 16 & 0xFFFF))
    _put(content, at + 26, struct.pack("<H", cluster & 0xFFFF))


def field(seed: Seed, content: bytearray, where: int, how: int, value: int) -> None:
    """A field of a record has another value."""
    at = seed.records[where % len(seed.records)] + RECORD_FIELDS[how % len(RECORD_FIELDS)]
    number = value if value % 2 else ODD_VALUES[value // 2 % len(ODD_VALUES)]
    _put(content, at, number.to_bytes(8, "little")[: 1 + how // len(RECORD_FIELDS) % 4])


def copy_record(seed: Seed, content: bytearray, where: int, how: int, value: int) -> None:
    """Records from elsewhere over these."""
    source = seed.records[value % len(seed.records)]
    part = bytes(content[source : source + 32 * (how % 4 + 1)])
    _put(content, seed.records[where % len(seed.records)], part)


def free_record(seed: Seed, content: bytearray, where: int, how: int, value: int) -> None:
    """Some records are deleted, or the end of their folder."""
    for index in range(where, where + how % 4 + 1):
        mark = b"\0" if value % 3 == 0 else b"\xe5"
        _put(content, seed.records[index % len(seed.records)], mark)


def new_record(seed: Seed, content: bytearray, where: int, how: int, value: int) -> None:
    """A file or folder with an odd name, or one that is there, that starts anywhere."""
    name = NAMES[how % len(NAMES)]
    record = entry(
        name,
        attributes=(0x20, 0x10, 0x08, 0x28)[how // len(NAMES) % 4],
        cluster=_target(seed, 0, value) & 0xFFFF_FFFF,
        length=ODD_VALUES[(value >> 16) % len(ODD_VALUES)] & 0xFFFF_FFFF,
    )
    if value >> 24 & 1:
        record = pack_long(LONG_NAMES[(value >> 25) % len(LONG_NAMES)], name) + record
    _put(content, seed.records[where % len(seed.records)], record)


def mend_backup(seed: Seed, content: bytearray, where: int, how: int, value: int) -> None:
    """The boot sector is lost, or copied to or from its backup."""
    part = seed.parts[where % len(seed.parts)]
    at, backup = part.offset_bytes, part.offset_bytes + 6 * SECTOR
    sector = bytes(content[at : at + SECTOR])
    match value % 3:
        case 0:
            _put(content, at, bytes(SECTOR))
        case 1:
            _put(content, backup, sector)
        case _:
            _put(content, at, bytes(content[backup : backup + SECTOR]))


def _put(content: bytearray, at: int, data: bytes) -> None:
    """Overwrite bytes, as far as the image still reaches."""
    content[at : at + len(data)] = data[: max(len(content) - at, 0)]


def _copies(part: Part, how: int) -> range:
    """All copies of the table, or one of them."""
    count = part.geometry.fat_count
    return range(count) if how < 128 else range(how % count, how % count + 1)


def _target(seed: Seed, number: int, value: int) -> int:
    """A number of a cluster, or one that is none."""
    part = seed.parts[number]
    bits, count = part.geometry.fat_bits, part.geometry.entry_count
    odd = (0, 1, BADS[bits], ENDS[bits], ENDS[bits] - 7, BADS[bits] - 1, count - 1, count, value)
    index = value & 0xFFFF
    if index % 2:
        return odd[index // 2 % len(odd)]
    return seed.clusters[index // 2 % len(seed.clusters)][1]


def _link(part: Part, content: bytearray, cluster: int, value: int, copies: range) -> None:
    """Put an entry into copies of the table."""
    bits = part.geometry.fat_bits
    mask = (1 << min(bits, 28)) - 1
    for copy in copies:
        start = part.offset_bytes + part.geometry.fat_offset_bytes + copy * part.geometry.fat_bytes
        at, shift = divmod(cluster * bits, 8)
        word = int.from_bytes(content[start + at : start + at + 4].ljust(4, b"\0"), "little")
        word = word & ~(mask << shift) | (value & mask) << shift
        _put(content, start + at, (word & 0xFFFF_FFFF).to_bytes(4, "little"))


Structured = Callable[[Seed, bytearray, int, int, int], None]

EDITS: Final[tuple[Edit, ...]] = (
    *(put, put_odd, add, flip, copy_word, blank, copy_sectors, cut, append),
)
STRUCTURED: Final[tuple[Structured, ...]] = (
    *(link, link, link_run, start, field, copy_record, free_record, new_record, mend_backup),
)


# -- seeds --------------------------------------------------------------------------------------


@functools.cache
def seeds() -> tuple[Seed, ...]:
    """The seeds, the same every time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1700000000")
        patch.setitem(choosing.CLUSTERS_MIN, 32, 1)  # programs make and take them, ours reads them
        return tuple(_seed(make()) for make in SEEDS)


def _seed(device: MemoryDevice) -> Seed:
    found = fat.find_volumes(device)
    is_disk = found[0].partition is not None
    parts, records, clusters = [], [], []
    places = [*BOOT_FIELDS]
    for number, volume in enumerate(found):
        part = SliceDevice(device, volume.offset_bytes, volume.length_bytes)
        geometry = parse(part)
        table = FatTable(part, geometry)
        parts.append(Part(volume.offset_bytes, geometry))
        records += [volume.offset_bytes + at for at in _records(part, geometry, table)]
        clusters += [(number, each) for each in _clusters(table)]
        places += [volume.offset_bytes + at for at in _places(geometry, clusters[-1][1])]
    places += [at + field for at in records for field in RECORD_FIELDS]
    return Seed(
        bytes(device.data), is_disk, tuple(parts), tuple(records), tuple(clusters), tuple(places)
    )


def _records(device: BlockDevice, geometry: Geometry, table: FatTable) -> Iterator[int]:
    """Where the records of all folders are, and two free ones in each."""
    for batch in surveyed(device, geometry, table).batches:
        is_blank = 0
        for at in batch.offsets.tolist():
            head = bytearray(1)
            device.read_into(at, head)
            is_blank = 0 if head[0] else is_blank + 1
            if is_blank <= 2:
                yield at


def _clusters(table: FatTable) -> list[int]:
    used = [cluster for cluster in range(2, len(table)) if table[cluster] != FREE]
    free = [cluster for cluster in range(2, len(table)) if table[cluster] == FREE]
    return used + free[:8] + free[-1:]


def _places(geometry: Geometry, cluster_last: int) -> Iterator[int]:
    """Fields of the reserved sectors, and words of the tables."""
    yield from BOOT_FIELDS
    if geometry.fsinfo_offset_bytes is not None:
        yield from (geometry.fsinfo_offset_bytes + at for at in SUMMARY_FIELDS)
    if geometry.backup_offset_bytes is not None:
        yield from (geometry.backup_offset_bytes + at for at in BOOT_FIELDS)
    stop = min(cluster_last * geometry.fat_bits // 8 + 4, 512)
    for copy, at in itertools.product(range(geometry.fat_count), range(0, stop, 4)):
        yield geometry.fat_offset_bytes + copy * geometry.fat_bytes + at


def noise(length_bytes: int, seed: int) -> bytes:
    """What a file holds: no zeros, and not like any other."""
    return random.Random(seed).randbytes(length_bytes).replace(b"\0", b"0")


def _filled(device: BlockDevice, number: int = 0) -> None:
    """Files, folders, what is left of deleted ones, and one file in pieces."""
    with fat.open(device) as volume:
        step = volume.cluster_bytes
        volume.write("/A.TXT", noise(2 * step + 99, number + 1))
        volume.write("/A file with a long name.txt", noise(3 * step, number + 2))
        volume.write("/EMPTY", b"")
        volume.mkdir("/SUB/Deep folder/Deeper", parents=True)
        volume.write("/SUB/B.TXT", noise(300, number + 3))
        volume.write("/SUB/Deep folder/Ünïcode ✓.dat", noise(2 * step + 1, number + 4))
        volume.write("/SUB/Deep folder/Deeper/E.TXT", noise(2 * step, number + 5))
        volume.mkdir("/Going")
        volume.write("/Going/with it.txt", noise(step + 5, number + 6))
        volume.write("/Gone file.txt", noise(2 * step, number + 7))
        volume.mkdir("/HOLLOW")
        volume.write("/Z.TXT", noise(20, number + 8))
        volume.delete("/Gone file.txt")
        volume.delete("/Going", recursive=True)
        volume.set_label("GOOD")
    with fat.open(device) as volume:
        _put_in_pieces(device, volume.geometry, "/SUB/Deep folder/Deeper/E.TXT")


def _put_in_pieces(device: BlockDevice, geometry: Geometry, path: str) -> None:
    """Let a file's last cluster be elsewhere: the last one of the volume."""
    table = FatTable(device, geometry)
    chain, _ = table.follow(fat.open(device).stat(path).first_cluster)
    last = geometry.reachable_cluster_count + 1
    data = bytearray(geometry.cluster_bytes)
    device.read_into(geometry.cluster_offset_bytes(chain[-1]), data)
    device.write(geometry.cluster_offset_bytes(last), data)
    table.put(chain[-2], last)
    table.put(last, table.end)
    table.put(chain[-1], FREE)
    table.write()


def _volume(size_bytes: int, **wishes: Any) -> MemoryDevice:
    device = MemoryDevice(size_bytes)
    fat.format(device, label="GOOD", volume_id=1, **wishes)
    _filled(device)
    return device


def _full() -> MemoryDevice:
    """A volume without a free cluster, one file of it in many pieces."""
    device = MemoryDevice(64 * KIB)
    fat.format(device, fat_bits=12, cluster_bytes=512, volume_id=1, root_entry_count=64)
    with fat.open(device) as volume:
        count = volume.free_bytes // volume.cluster_bytes
        for index in range(40):
            volume.write(f"/F{index}", noise(volume.cluster_bytes, index))
        volume.write("/REST.BIN", noise((count - 40) * volume.cluster_bytes, 50))
        for index in range(0, 40, 2):
            volume.delete(f"/F{index}")
        volume.write("/In pieces.bin", noise(20 * volume.cluster_bytes - 7, 51))
    return device


def _one_copy() -> MemoryDevice:
    """FAT32 with mirroring off: only its second copy is in use."""
    device = _volume(96 * KIB, fat_bits=32, cluster_bytes=512, reserved_sectors=16)
    for at in (0, 6 * SECTOR):
        device.data[at + 40] = 0x81
    found = parse(device)
    at = found.fat_offset_bytes
    device.data[at + 64 : at + found.fat_bytes] = bytes(found.fat_bytes - 64)
    return device


def _disk() -> MemoryDevice:
    """A disk with one partition."""
    device = MemoryDevice(160 * KIB)
    part = fat.format_partitioned(device, fat_bits=12, cluster_bytes=512, volume_id=1)
    _filled(part)
    return device


def _two_parts() -> MemoryDevice:
    """A disk with two primary partitions, of which the second is FAT32."""
    device = MemoryDevice(256 * KIB)
    fat.format_partitioned(device, fat_bits=12, cluster_bytes=512, volume_id=1)
    first = struct.unpack("<I", device.data[454:458])[0]
    stop, size = 200, 190
    device.data[458:462] = struct.pack("<I", stop - first)
    device.data[462:478] = struct.pack("<4sB3sII", bytes(4), 0x0C, bytes(3), stop, size)
    parts = (
        (SliceDevice(device, first * SECTOR, (stop - first) * SECTOR), 12),
        (SliceDevice(device, stop * SECTOR, size * SECTOR), 32),
    )
    for number, (part, bits) in enumerate(parts):
        fat.format(part, fat_bits=bits, cluster_bytes=512, volume_id=2, reserved_sectors=16)
        _filled(part, 10 * number)
    return device


SEEDS: Final[tuple[Callable[[], MemoryDevice], ...]] = (
    functools.partial(_volume, 64 * KIB, fat_bits=12, cluster_bytes=512, root_entry_count=32),
    functools.partial(_volume, 96 * KIB, fat_bits=32, cluster_bytes=512, reserved_sectors=16),
    functools.partial(_volume, 2200 * KIB, fat_bits=16, cluster_bytes=512, root_entry_count=64),
    _full,
    _disk,
    functools.partial(_volume, 128 * KIB, fat_bits=12, sector_bytes=1024, fat_count=3),
    _one_copy,
    _two_parts,
    functools.partial(_volume, 128 * KIB, fat_bits=12, cluster_bytes=512, fat_count=1),
)
"""What makes the image of each seed. FAT32 is as small as programs make it when told to; one of its
proper size would take most of the time."""
