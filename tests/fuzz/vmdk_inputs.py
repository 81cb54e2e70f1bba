"""What a fuzzer's bytes mean: a small VMDK of every kind, and a list of edits to its files.

A head, then edits (see `edits`):

| byte | of the head |
| --- | --- |
| 0 | which seed; behind the last, one whole file, or the text of a descriptor, follows |
| 1 | which job is done with the disk (`vmdk_promises.JOBS`) |
| 2 | a number for that job |
| 3 | which file is opened: below 128 the disk, else one of its files |

| bytes | of an edit |
| --- | --- |
| 0 | the lower half: which of `EDITS`; the upper half: which file |
| 1-2 | where: below 32768 a word of the file; above, one of the words that are not content |
| 3 | how: a length, an odd value, a line, … |
| 4-7 | a value |
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from ipva_storage import vmdk
from ipva_storage.device import BlockDevice, Folder, MemoryDevice
from ipva_storage.testing import vmdk_deltas
from ipva_storage.testing.vmdk_small import (
    GRAIN_BYTES,
    chain_of_three,
    disk_with_remains,
    holey_disk,
    noise,
    parent_and_child,
    parent_disk,
    shrink_geometry,
)
from ipva_storage.units import KIB
from ipva_storage.vmdk.creation import new_sparse
from ipva_storage.vmdk.extent import markers
from ipva_storage.vmdk.repairing import header
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
    drop,
    flip,
    put,
    put_odd,
    put_odd_long,
    repeat,
)

Files = dict[str, bytes]

NAME: Final = "disk.vmdk"
CIDS: Final = {"mid.vmdk": 2, "child.vmdk": 2, "top.vmdk": 3}
"""Content identifiers of seeds; all others have 1, and a parent has one less than its child."""
FILE_MAX_BYTES: Final = 1 << 18
HOLE_SHIFTS: Final = range(20, 42)
"""A file may become as long as this power of two, most of it a hole."""

WORDS: Final = tuple(
    line.encode()
    for line in [
        'RW 80 SPARSE "disk.vmdk"',
        'RW 83 SPARSE "disk.vmdk"',
        'RW 8 FLAT "disk-flat.vmdk" 0',
        'RW 8 FLAT "disk-flat.vmdk" 8',
        'RW 8 FLAT "disk.vmdk" 0',
        'RW 8 VMFS "disk-flat.vmdk"',
        "RW 8 ZERO",
        "RW 0 ZERO",
        'RDONLY 8 FLAT "disk-flat.vmdk" 4',
        'NOACCESS 8 SPARSE "gone.vmdk"',
        'RW 8 SPARSE "disk-s001.vmdk"',
        'RW 64 SPARSE "disk-s002.vmdk"',
        'RW 80 VMFSSPARSE "disk-delta.vmdk"',
        'RW 80 SESPARSE "disk-sesparse.vmdk"',
        'RW 8 VMFSRDM "disk-rdm.vmdk"',
        "RW 8 FLAT",
        "RW 137438953472 ZERO",
        'RW 999999999999999999 FLAT "disk-flat.vmdk" 999999999999999999',
        'RW 8 FLAT "../disk-flat.vmdk" 0',
        'RW 8 FLAT "" 0',
        'RW 18446744073709551615 SPARSE "disk.vmdk"',
        "version=1",
        "CID=00000001",
        "CID=fffffffe",
        "CID=0",
        "CID=x",
        "parentCID=00000001",
        "parentCID=ffffffff",
        "parentCID=0",
        'parentFileNameHint="base.vmdk"',
        'parentFileNameHint="disk.vmdk"',
        'parentFileNameHint="mid.vmdk"',
        'parentFileNameHint="../base.vmdk"',
        'parentFileNameHint=""',
        'createType="monolithicSparse"',
        'createType="streamOptimized"',
        'createType="twoGbMaxExtentSparse"',
        'createType="vmfs"',
        'createType=""',
        'encoding="UTF-8"',
        'encoding="GBK"',
        'encoding="Shift_JIS"',
        'encoding="windows-1252"',
        'encoding="UTF-7"',
        'ddb.adapterType = "lsilogic"',
        'ddb.adapterType = "\x1b[2J"',
        'ddb.geometry.cylinders = "99999999999999999999"',
        'ddb.geometry.cylinders = "x"',
        'ddb.geometry.heads = "0"',
        'ddb.geometry.sectors = "²"',
        "# Extent description",
        "# Disk DescriptorFile",
    ]
)
"""Lines of descriptors, sound and odd."""


@dataclass(frozen=True)
class Case:
    """A folder of files, and what is done with a disk in it."""

    files: Files
    holes: dict[str, int]
    """Files that are longer than their content, and how long."""
    name: str
    job: int
    number: int


@dataclass(frozen=True)
class Seed:
    """The files of a sound disk, and where an edit may go in each."""

    files: Files
    name: str
    places: dict[str, tuple[int, ...]]


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Make everything small until the test ends: seeds, and what is read of a file at once.

    Then an input of some KiB crosses borders that else lie MiB apart.
    """
    shrink_geometry(patch)
    patch.setattr(markers, "WINDOW_BYTES", 16 * KIB)
    patch.setattr(header, "SCAN_BYTES", 256 * KIB)
    seeds()


def case_of(data: bytes) -> Case:
    """What a fuzzer's bytes mean."""
    kind, job, number, target = HEAD.unpack(data[: HEAD.size].ljust(HEAD.size, b"\0"))
    rest = data[HEAD.size :]
    kind %= len(SEEDS) + 2
    if kind >= len(SEEDS):
        files = _whole(rest) if kind == len(SEEDS) else _described(rest)
        return Case(files, {}, NAME, job, number)
    seed = seeds()[kind]
    files, holes = _edited(seed, rest)
    names = sorted(files)
    name = seed.name if target < 128 or not names else names[target % len(names)]
    return Case(files, holes, name, job, number)


def _whole(rest: bytes) -> Files:
    return {NAME: rest[:FILE_MAX_BYTES]}


def _described(rest: bytes) -> Files:
    return {**_neighbours(), NAME: rest[:FILE_MAX_BYTES]}


@functools.cache
def _neighbours() -> Files:
    """One file of each kind that a descriptor may name."""
    found: Files = {}
    for number in (4, 5, 8, 9, 10):
        found |= seeds()[number].files
    return found


def _edited(seed: Seed, rest: bytes) -> tuple[Files, dict[str, int]]:
    names = sorted(seed.files)
    contents = {name: bytearray(content) for name, content in seed.files.items()}
    holes: dict[str, int] = {}
    for at in range(0, min(len(rest), EDITS_MAX * RECORD.size), RECORD.size):
        record = rest[at : at + RECORD.size].ljust(RECORD.size, b"\0")
        what, where, how, value = RECORD.unpack(record)
        name = names[(what >> 4) % len(names)]
        if name not in contents:
            continue
        content = contents[name]
        edit = EDITS[what % len(EDITS)]
        if edit is lose:
            del contents[name]
        elif edit is swap:
            contents[name] = bytearray(contents.get(names[how % len(names)], content))
        elif edit is lengthen:
            holes[name] = (1 << HOLE_SHIFTS[how % len(HOLE_SHIFTS)]) + value
        else:
            edit(content, _place(seed.places[name], where, len(content)), how, value)
            del content[FILE_MAX_BYTES:]
    return {name: bytes(content) for name, content in contents.items()}, holes


def _place(places: tuple[int, ...], where: int, length: int) -> int:
    if where >= 32768 and places:
        return places[(where - 32768) % len(places)]
    return where * 4 % max(length, 1)


def text(content: bytearray, at: int, how: int, value: int) -> None:
    """Another line, one line less or more, or another number in a descriptor."""
    start = content.find(b"# Disk")
    if start < 0:
        return
    stop = content.find(b"\0", start)
    old = bytes(content[start : stop if stop >= 0 else len(content)])
    lines = old.split(b"\n")
    _change_line(lines, at // 4 % len(lines), how, value)
    new = b"\n".join(lines)
    room = max(len(old), len(new)) if stop >= 0 else len(old)
    content[start : start + room] = new.ljust(room, b"\0") if stop >= 0 else new


def _change_line(lines: list[bytes], number: int, how: int, value: int) -> None:
    word = WORDS[value % len(WORDS)]
    match how % 7:
        case 0:
            lines[number] = word
        case 1:
            lines.insert(number, word)
        case 2:
            del lines[number]
        case 3:
            lines.insert(number, lines[number])
        case 4:
            odd = str(ODD_VALUES[value % len(ODD_VALUES)]).encode()
            parts = [odd if part.isdigit() else part for part in lines[number].split(b" ")]
            lines[number] = b" ".join(parts)
        case 5:
            at = value % (len(lines[number]) + 1)
            lines[number] = lines[number][:at] + bytes([value >> 8 & 255]) + lines[number][at:]
        case _:
            key, _, rest = lines[number].partition(b"=")
            lines[number] = key + b"=" + word.partition(b"=")[2] if rest else lines[number][:-1]


def lose(_: bytearray, at: int, how: int, value: int) -> None:
    """The whole file; done by `_edited`."""


def swap(_: bytearray, at: int, how: int, value: int) -> None:
    """The content of another file; done by `_edited`."""


def lengthen(_: bytearray, at: int, how: int, value: int) -> None:
    """A hole behind the end; done by `_edited`."""


EDITS: Final[tuple[Edit, ...]] = (
    *(put, put_odd, put_odd_long, add, flip, copy_word, blank, drop),
    *(repeat, copy_sectors, cut, append, text, lose, swap, lengthen),
)


@functools.cache
def seeds() -> tuple[Seed, ...]:
    """The seeds, made with what `shrink` puts in force."""
    return tuple(_seed(make()) for make in SEEDS)


def _seed(files: Files) -> Seed:
    found = {name: _with_cids(name, content) for name, content in files.items()}
    name = next(each for each in ("top.vmdk", "child.vmdk", NAME, "base.vmdk") if each in found)
    return Seed(found, name, {each: tuple(_places(content)) for each, content in found.items()})


def _with_cids(name: str, content: bytes) -> bytes:
    """The same with a CID by its name, and its parent's, so that seeds are the same every time."""
    cid = CIDS.get(name, 1)
    for key, value in ((b"\nCID=", cid), (b"\nparentCID=", cid - 1)):
        at = content.find(key) + len(key)
        if at >= len(key) and content[at : at + 8] != b"ffffffff":
            content = content[:at] + b"%08x" % value + content[at + 8 :]
    return content


def _places(content: bytes) -> Iterator[int]:
    """Words that are fields, entries and markers rather than noise or text, by their size."""
    if content[:4] in (b"KDMV", b"COWD"):
        yield from (*range(4, 80, 4), 73, 77)
    for at in range(0, len(content) - 3, 4):
        word = int.from_bytes(content[at : at + 4], "little")
        if word and (word < 1 << 24 or not word & 0xFF_FFFF):
            yield at


WRITES: Final = (
    (0, 2 * GRAIN_BYTES + 700, 1),
    (5 * GRAIN_BYTES, GRAIN_BYTES, 2),
    (7 * GRAIN_BYTES, 100, 3),
    (9 * GRAIN_BYTES + 100, GRAIN_BYTES + 900, 4),
)
SIZE_BYTES: Final = 10 * GRAIN_BYTES + 1536


def _made(subformat: str, writes: tuple[tuple[int, int, int], ...] = WRITES) -> Files:
    """A new disk with some noise, in rising order."""
    with tempfile.TemporaryDirectory() as place:

        def fill(disk: BlockDevice) -> None:
            for at, length, seed in writes:
                disk.write(at, b"text" * (length // 4) if seed == 2 else noise(length, seed))

        vmdk.create(Folder(place), NAME, SIZE_BYTES, subformat=subformat, fill=fill)
        return {path.name: path.read_bytes() for path in Path(place).iterdir()}


def _mixed() -> Files:
    """Extents of several kinds, two of them in one file, and a part that nobody may read."""
    flat, split = _made("monolithicFlat"), _made("twoGbMaxExtentSparse")
    lines = (
        'RW 16 FLAT "disk-flat.vmdk" 8\nRW 8 ZERO\nRW 64 SPARSE "disk-s001.vmdk"\n'
        'RDONLY 8 FLAT "disk-flat.vmdk" 0\nNOACCESS 8 SPARSE "gone.vmdk"\n'
    )
    text = flat[NAME].decode().replace('RW 83 FLAT "disk-flat.vmdk" 0\n', lines)
    assert lines in text
    return {**flat, **split, NAME: text.replace("monolithicFlat", "custom").encode()}


def _unclean() -> Files:
    """A sparse disk that was not closed, its copies of the tables unlike."""
    content = bytearray(_made("monolithicSparse")[NAME])
    content[72] = 1
    content[22 * SECTOR : 22 * SECTOR + 4] = bytes(4)
    return {NAME: bytes(content)}


def _stream_in_front() -> Files:
    """A compressed disk with both copies of its tables in front, as qemu makes them."""
    sparse, stream = _made("monolithicSparse", ())[NAME], _made("streamOptimized")[NAME]
    content = bytearray(sparse[: 40 * SECTOR]).ljust(40 * SECTOR, b"\0")
    content[SECTOR : 21 * SECTOR] = stream[SECTOR : 21 * SECTOR]
    content[4], content[8:12], content[77] = 3, (0x30003).to_bytes(4, "little"), 1
    content[64:72] = (40).to_bytes(8, "little")
    tables: dict[int, int] = {}
    at = int.from_bytes(stream[64:72], "little") * SECTOR
    while length := int.from_bytes(stream[at + 8 : at + 12], "little"):
        record = -(-(12 + length) // SECTOR) * SECTOR
        tables[int.from_bytes(stream[at : at + 8], "little") // 8] = len(content) // SECTOR
        content += stream[at : at + record]
        at += record
    for directory in (48, 56):
        first = int.from_bytes(content[directory : directory + 8], "little") * SECTOR
        for grain, sector in tables.items():
            entry = content[first + grain // 4 * 4 : first + grain // 4 * 4 + 4]
            place = int.from_bytes(entry, "little") * SECTOR + grain % 4 * 4
            content[place : place + 4] = sector.to_bytes(4, "little")
    return {NAME: bytes(content)}


def _real_geometry() -> Files:
    """Grains of 64 KiB and tables of 512 entries, as every program makes them."""
    raw = MemoryDevice()
    with new_sparse(raw, NAME, 40 << 20, grain_sectors=128, gtes_per_gt=512) as disk:
        disk.write(33 << 20, b"text" * 100)
    return {NAME: bytes(raw.data)}


def _cowd() -> Files:
    """An ESX server's snapshot file as a disk of its own, closed."""
    grains = {number: noise(SECTOR, number) for number in (0, 1, 2, 40, 83)}
    return _delta("vmfsSparse", "disk-delta.vmdk", vmdk_deltas.cowd_file(84, grains))


def _sesparse() -> Files:
    """A `seSparse` disk."""
    grains: dict[int, bytes | vmdk_deltas.Mark] = {
        0: noise(4096, 1),
        1: noise(4096, 2),
        3: vmdk_deltas.Mark.ZERO,
        9: b"text" * 1024,
    }
    return _delta("seSparse", "disk-sesparse.vmdk", vmdk_deltas.sesparse_file(84, grains))


def _delta(kind: str, name: str, content: bytes) -> Files:
    return {NAME: vmdk_deltas.descriptor(kind, 84, name).encode(), name: content}


def _delta_child(files: Files, kind: str) -> Files:
    """The same files as a child over a flat disk."""
    (name,) = (each for each in files if each != NAME)
    text = vmdk_deltas.descriptor(kind, 84, name, parent="base.vmdk")
    return {**parent_disk("monolithicFlat"), name: files[name], "child.vmdk": text.encode()}


def _chain() -> Files:
    return chain_of_three("monolithicSparse")


def _zeroed() -> Files:
    """A sparse disk with a grain that is marked as zeros."""
    content = bytearray(_made("monolithicSparse")[NAME])
    content[4], content[8:12] = 2, (7).to_bytes(4, "little")
    for directory in (48, 56):
        first = int.from_bytes(content[directory : directory + 8], "little") * SECTOR
        place = int.from_bytes(content[first : first + 4], "little") * SECTOR
        content[place + 12 : place + 16] = (1).to_bytes(4, "little")
    return {NAME: bytes(content)}


SEEDS: Final[tuple[Callable[[], Files], ...]] = (
    functools.partial(_made, "monolithicSparse"),
    disk_with_remains,
    functools.partial(_made, "streamOptimized"),
    _stream_in_front,
    functools.partial(_made, "twoGbMaxExtentSparse"),
    functools.partial(_made, "monolithicFlat"),
    functools.partial(_made, "twoGbMaxExtentFlat"),
    functools.partial(_made, "vmfs"),
    _cowd,
    _sesparse,
    functools.partial(parent_disk, "monolithicSparse"),
    functools.partial(parent_and_child, "monolithicSparse"),
    functools.partial(parent_and_child, "twoGbMaxExtentFlat", is_split=True),
    _chain,
    lambda: _delta_child(_cowd(), "vmfsSparse"),
    lambda: _delta_child(_sesparse(), "seSparse"),
    _mixed,
    _unclean,
    _zeroed,
    _real_geometry,
    functools.partial(holey_disk, "twoGbMaxExtentFlat"),
)
"""What makes the files of each seed."""
