"""Each kind of damage has its finding; hostile images raise only our errors."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from ipva_storage import fat
from ipva_storage.device import MemoryDevice
from ipva_storage.errors import FatError, IpvaError
from ipva_storage.fat import geometry
from ipva_storage.units import KIB, MIB

Damage = Callable[[MemoryDevice, geometry.Geometry], None]


def make(bits: int) -> MemoryDevice:
    """A volume with a folder and some files; its first file is /A.TXT with three clusters."""
    size_bytes, cluster_bytes = {12: (MIB, 512), 16: (5 * MIB, KIB), 32: (34 * MIB, 512)}[bits]
    device = MemoryDevice(size_bytes)
    fat.format(device, fat_bits=bits, cluster_bytes=cluster_bytes, label="GOOD", volume_id=1)
    with fat.open(device) as volume:
        volume.write("/A.TXT", bytes(cluster_bytes * 3))
        volume.write("/A file with a long name.txt", b"second")
        volume.mkdir("/SUB")
        volume.write("/SUB/B.TXT", b"third")
    return device


def put_entry(device: MemoryDevice, found: geometry.Geometry, cluster: int, value: int) -> None:
    """Set an entry of both copies of a table of 16 or 32 bits."""
    width = found.fat_bits // 8
    for copy in range(found.fat_count):
        at = found.fat_offset_bytes + copy * found.fat_bytes + cluster * width
        device.data[at : at + width] = value.to_bytes(width, "little")


def find(device: MemoryDevice, text: bytes) -> int:
    """Where some bytes are."""
    at = device.data.find(text)
    assert at >= 0
    return at


def put(offset_bytes: int, value: bytes) -> Damage:
    """Damage at an offset of the volume."""

    def damage(device: MemoryDevice, _: geometry.Geometry) -> None:
        device.data[offset_bytes : offset_bytes + len(value)] = value

    return damage


def put_at(mark: bytes, offset_bytes: int, value: bytes) -> Damage:
    """Damage at an offset from some bytes."""

    def damage(device: MemoryDevice, _: geometry.Geometry) -> None:
        at = find(device, mark) + offset_bytes
        device.data[at : at + len(value)] = value

    return damage


def link(index: int, value: int | None) -> Damage:
    """Let cluster `index` of /A.TXT point somewhere; None is its own first cluster."""

    def damage(device: MemoryDevice, found: geometry.Geometry) -> None:
        first = fat.open(device).stat("/A.TXT").first_cluster
        put_entry(device, found, first + index, first if value is None else value)

    return damage


def lose(device: MemoryDevice, found: geometry.Geometry) -> None:
    """A cluster in use that belongs to nothing."""
    put_entry(device, found, 600, 0xFFFF if found.fat_bits == 16 else 0x0FFFFFFF)


def change_copy(device: MemoryDevice, found: geometry.Geometry) -> None:
    """The second copy of the table alone changes."""
    device.data[found.fat_offset_bytes + found.fat_bytes + 700] ^= 0xFF


def share(device: MemoryDevice, _: geometry.Geometry) -> None:
    """/SUB/B.TXT gets the cluster of /A.TXT."""
    cluster = fat.open(device).stat("/A.TXT").first_cluster
    at = find(device, b"B       TXT") + 26
    device.data[at : at + 2] = cluster.to_bytes(2, "little")


def contain_itself(device: MemoryDevice, _: geometry.Geometry) -> None:
    """/SUB/B.TXT becomes a folder that is /SUB itself."""
    cluster = fat.open(device).stat("/SUB").first_cluster
    at = find(device, b"B       TXT")
    device.data[at + 11] = 0x10
    device.data[at + 26 : at + 28] = cluster.to_bytes(2, "little")


CASES: list[tuple[str, int, Damage]] = [
    ("FAT001", 16, put(510, b"\0\0")),
    ("FAT001", 16, put(11, b"\0\0")),
    ("FAT001", 16, put(13, b"\0")),
    ("FAT001", 16, put(13, b"\x03")),
    ("FAT001", 32, put(36, b"\0\0\0\0")),
    ("FAT001", 32, put(36, b"\xff\xff\xff\x7f")),
    ("FAT002", 16, put(54, b"FAT12   ")),
    ("FAT003", 32, put(6 * 512 + 100, b"\x99")),
    ("FAT004", 16, put(2 * 512, b"\xf0")),
    ("FAT005", 16, change_copy),
    ("FAT006", 16, link(1, 0)),
    ("FAT006", 16, link(1, 0xFFF7)),
    ("FAT006", 32, link(1, 0x0FFF0000)),
    ("FAT007", 16, link(1, 0xFFFF)),
    ("FAT008", 16, put_at(b"A       TXT", 28, b"\x01\0\0\0")),
    ("FAT009", 16, link(2, None)),
    ("FAT009", 32, link(0, None)),
    ("FAT010", 16, share),
    ("FAT010", 32, contain_itself),
    ("FAT011", 16, lose),
    ("FAT011", 32, lose),
    ("FAT012", 16, put_at(b"A       TXT", 26, b"\xf0\x7f")),
    ("FAT012", 16, put_at(b"A       TXT", 26, b"\0\0")),
    ("FAT013", 16, put_at(b"..         ", 26, b"\x09\0")),
    ("FAT013", 16, put_at(b".          ", 0, b"X")),
    ("FAT014", 16, put_at(b"A       TXT", 2, b"*")),
    ("FAT014", 16, put_at(b"A       TXT", 0, b" ")),
    ("FAT015", 16, put_at(b"AFILEW~1TXT", 0, b"A       TXT")),
    ("FAT047", 16, put_at(b"AFILEW~1TXT", 3, b"X")),
    ("FAT016", 16, put_at(b"AFILEW~1TXT", 0, b"\xe5")),
    ("FAT017", 16, put(43, b"OTHER LABEL")),
    ("FAT018", 32, put(512 + 488, b"\x05\0\0\0")),
    ("FAT018", 32, put(512, b"\0\0\0\0")),
    ("FAT019", 16, put(2 * 512 + 3, b"\x7f")),
    ("FAT019", 16, put(37, b"\x01")),
    ("FAT022", 16, put(19, b"\xff\xff")),
]


@pytest.mark.parametrize(("code", "bits", "damage"), CASES)
def test_each_damage_is_found(code: str, bits: int, damage: Damage) -> None:
    """A volume without findings gets the expected one from one damage, and stays survivable."""
    device = make(bits)
    assert list(fat.check(device)) == []
    damage(device, geometry.parse(device))
    assert code in {finding.code for finding in fat.check(device)}
    survive(device)


def survive(device: MemoryDevice) -> None:
    """Everything that reads or writes ends, with our errors only."""
    try:
        list(fat.check(device))
        fat.find_volumes(device)
        volume = fat.open(device)
        entries = list(volume.walk())
    except IpvaError:
        return
    for path, entry in entries:
        try:
            if not entry.is_dir:
                volume.read(path)
        except IpvaError:
            continue
    for attempt in (
        lambda: volume.write("/New long name.txt", b"x" * 3000),
        lambda: volume.write("/A.TXT", b"x"),
        lambda: volume.delete("/A file with a long name.txt"),
        lambda: volume.mkdir("/SUB/MORE"),
        volume.close,
    ):
        try:
            attempt()
        except IpvaError:
            continue


@pytest.mark.parametrize("bits", [12, 16])
def test_random_damage(bits: int) -> None:
    """Truncations and flipped bytes raise nothing but our own errors."""
    good = bytes(make(bits).data)
    dice = random.Random(bits)
    for number in range(150):
        image = bytearray(good)
        if number % 4 == 0:
            del image[dice.randrange(len(image)) if number % 8 else dice.randrange(60_000) :]
        for _ in range(dice.choice((1, 4, 30))):
            if image:
                image[dice.randrange(min(len(image), 60_000 if number % 2 else 600))] = (
                    dice.randrange(256)
                )
        survive(MemoryDevice(image))


def test_claims_of_four_gigabytes() -> None:
    """A file said to have 4 GiB in a volume of 5 MiB is refused before memory is taken."""
    device = make(16)
    put_at(b"A       TXT", 28, b"\xff\xff\xff\xff")(device, geometry.parse(device))
    with pytest.raises(FatError, match="broken"):
        fat.open(device).read("/A.TXT")
    assert "FAT007" in {finding.code for finding in fat.check(device)}


def test_folder_that_contains_itself() -> None:
    """A walk through a folder that contains itself ends."""
    device = make(16)
    contain_itself(device, geometry.parse(device))
    assert len(list(fat.open(device).walk())) == 4


def test_read_only_check() -> None:
    """The check leaves every byte as it was."""
    device = make(32)
    before = bytes(device.data)
    list(fat.check(device))
    list(fat.open(device).walk())
    assert bytes(device.data) == before
