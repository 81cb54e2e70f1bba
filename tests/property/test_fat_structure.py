"""Random damage to a sector of a volume's structure: no file is lost, and all is mended."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ipva_storage import fat
from ipva_storage.device import MemoryDevice
from ipva_storage.fat import evidence, layouts
from ipva_storage.fat.bootfields import BootFields
from tests.damage.fat_volumes import Volume, codes, sound, tree

SECTOR = 512
KINDS = ("zero", "ones", "noise", "text", "byte", "other")


def sectors(bits: int) -> list[int]:
    """Where the sectors of the structure are: reserved ones, and the first of each table."""
    found = Volume(sound(bits)).geometry
    starts = list(range(0, found.fat_offset_bytes, SECTOR))
    for copy in range(found.fat_count):
        at = found.fat_offset_bytes + copy * found.fat_bytes
        starts += range(at, at + min(found.fat_bytes, 4 * SECTOR), SECTOR)
    return starts


def hit(device: MemoryDevice, at: int, kind: str, seed: int, bits: int) -> None:
    """Damage a sector."""
    chance = random.Random(seed)
    data = bytearray(device.data[at : at + SECTOR])
    if kind == "byte":
        data[chance.randrange(SECTOR)] = chance.randrange(256)
    elif kind == "other":
        other = chance.choice(sectors(bits))
        data[:] = device.data[other : other + SECTOR]
    else:
        noise = {"zero": bytes(SECTOR), "ones": b"\xff" * SECTOR, "noise": chance.randbytes(SECTOR)}
        data[:] = noise.get(kind, b"The quick brown fox.\r\n" * 23 + b"123456")
    device.data[at : at + SECTOR] = data


@given(st.sampled_from([12, 16, 32]), st.data(), st.sampled_from(KINDS), st.integers(0, 1 << 30))
def test_one_sector(bits: int, data: st.DataObject, kind: str, seed: int) -> None:
    """One sector of the structure is damaged: a repair brings back every file, and is done."""
    device = MemoryDevice(sound(bits))
    hit(device, data.draw(st.sampled_from(sectors(bits))), kind, seed, bits)
    fat.repair(device)
    assert codes(device) == set()
    assert tree(device) == tree(MemoryDevice(sound(bits)))
    assert not fat.repair(device).is_changed


@given(st.sampled_from([12, 16, 32]), st.integers(0, 1 << 30), st.sampled_from(KINDS))
def test_both_tables(bits: int, seed: int, kind: str) -> None:
    """The first sector of every table is damaged, each in its way: the files, which lie in one
    piece each, come back.
    """
    device = MemoryDevice(sound(bits))
    found = Volume(sound(bits)).geometry
    for copy in range(found.fat_count):
        hit(device, found.fat_offset_bytes + copy * found.fat_bytes, kind, seed + copy, bits)
    fat.repair(device)
    assert codes(device) == set()
    if kind not in ("byte", "other"):
        assert tree(device) == tree(MemoryDevice(sound(bits)))


@given(st.binary(min_size=SECTOR, max_size=SECTOR))
def test_fields_go_back(sector: bytes) -> None:
    """Fields that were put into a sector are read from it, whatever it held."""
    fields = BootFields.of(sector)
    assert BootFields.of(fields.put_into(sector)) == fields
    assert BootFields.of(fields.put_into(bytes(SECTOR))) == fields


@given(st.sampled_from([12, 16, 32]), st.binary(min_size=64, max_size=64), st.integers(0, 7))
def test_noise_is_no_volume(bits: int, noise: bytes, at: int) -> None:
    """A device of noise with the start of a table in it is not taken for a volume."""
    chance = random.Random(noise)
    device = MemoryDevice(chance.randbytes(64 * SECTOR))
    head = {12: b"\xf8\xff\xff", 16: b"\xf8\xff\xff\xff", 32: b"\xf8\xff\xff\x0f\xff\xff\xff\x0f"}
    device.data[at * SECTOR : at * SECTOR + len(head[bits])] = head[bits]
    assert evidence.is_head(bytes(device.data[at * SECTOR : at * SECTOR + 8]), bits)
    assert layouts.judge(device) is None
