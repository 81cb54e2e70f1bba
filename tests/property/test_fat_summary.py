"""A volume's summary, made without NumPy, against what the volume itself says."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ipva_formats import fat as layout
from ipva_storage import fat
from ipva_storage.device import BlockDevice, MemoryDevice
from ipva_storage.errors import IpvaError
from ipva_storage.fat import names, records, summary, table

Outcome = tuple[object, ...]
ENTRIES = st.integers(0, 70) | st.sampled_from(
    (0, 2, 0x800, 0xFFF, 0x8000, 0xFFFF, 0xF0000000, 0x10000002, 0x0FFFFFF7, 0xFFFFFFFF)
)
HEADS = st.sampled_from((0x00, 0xE5, 0x05, 0x41, 0x20, 0x9B))
ATTRIBUTES = st.sampled_from((0x00, 0x08, 0x0F, 0x10, 0x20, 0x28, 0x2F, 0x3F, 0x48, 0xCF))


def by_volume(device: BlockDevice) -> Outcome:
    """What `FatVolume` says, or how it refuses, in the order in which `ipva info` asked it."""
    try:
        volume = fat.open(device)
        return volume.label, volume.fat_bits, volume.size_bytes, volume.free_bytes
    except IpvaError as error:
        return type(error), str(error)


def by_summary(device: BlockDevice) -> Outcome:
    """The same by the summary."""
    try:
        found = fat.summarise(device)
        return found.label, found.fat_bits, found.size_bytes, found.free_bytes
    except IpvaError as error:
        return type(error), str(error)


@functools.cache
def blank(fat_bits: int) -> bytes:
    """A small empty volume; of FAT32 one of 66 clusters, which nobody makes and everybody reads."""
    device = MemoryDevice({12: 64 << 10, 16: (4085 * 512) + (128 << 10), 32: 34 << 20}[fat_bits])
    fat.format(device, fat_bits=fat_bits, cluster_bytes=512, label="BOOT", volume_id=1)
    if fat_bits < 32:
        return bytes(device.data)
    boot: Any = layout.BOOT_SECTOR_32.parse(device.data[:512])
    boot.reserved_sectors, boot.fat_sectors_32, boot.volume_sectors_32 = 2, 1, 70
    entries = bytes(device.data[32 * 512 : 33 * 512])
    return (layout.BOOT_SECTOR_32.build(boot) + bytes(512) + entries * 2).ljust(70 * 512, b"\0")


@st.composite
def volumes(draw: st.DrawFn) -> MemoryDevice:
    """Volumes with any table, any root folder, a damaged boot sector, and cut anywhere."""
    fat_bits = draw(st.sampled_from((12, 16, 32)))
    device = MemoryDevice(blank(fat_bits))
    geometry = fat.open(device).geometry
    table_at = geometry.fat_offset_bytes
    if fat_bits == 32 and draw(st.booleans()):  # the second copy is the one in use
        device.data[40] = 0x81
        table_at += geometry.fat_bytes
    for at, value in draw(st.dictionaries(st.integers(0, 61), ENTRIES, max_size=30)).items():
        put_entry(device.data, table_at, fat_bits, at, value)
    root = geometry.root_offset_bytes if fat_bits < 32 else geometry.data_offset_bytes
    kinds = draw(st.lists(st.tuples(HEADS, ATTRIBUTES, st.binary(max_size=10)), max_size=20))
    for index, (head, attributes, name) in enumerate(kinds):
        at = root + 32 * index
        device.data[at : at + 12] = bytes([head]) + name.ljust(10) + bytes([attributes])
    if draw(st.booleans()):
        at = draw(st.integers(0, 89))
        device.data[at] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        length = draw(st.integers(geometry.data_offset_bytes - 9, len(device.data)))
        del device.data[length:]
    return device


def put_entry(data: bytearray, table_at: int, fat_bits: int, index: int, value: int) -> None:
    """Put one entry into a table, whatever its width."""
    at, shift = divmod(index * fat_bits, 8)
    width = 4 + (shift > 0)
    old = int.from_bytes(data[table_at + at : table_at + at + width], "little")
    mask = ((1 << fat_bits) - 1) << shift
    new = (old & ~mask) | (value << shift & mask)
    data[table_at + at : table_at + at + width] = new.to_bytes(width, "little")


@given(volumes())
def test_a_summary_is_what_the_volume_says(device: MemoryDevice) -> None:
    """Type, size, free space and label are the volume's, and so is every refusal, to the letter."""
    assert by_summary(device) == by_volume(device)


@given(st.sampled_from((12, 16, 32)), st.lists(ENTRIES, min_size=1, max_size=60), st.data())
def test_zero_entries_against_counting_each(
    fat_bits: int, values: list[int], data: st.DataObject
) -> None:
    """Free entries counted by the block are those counted one by one, over several blocks too."""
    mask = layout.ENTRY_MASK[fat_bits]
    repeats = data.draw(st.sampled_from((1, 1, 700, 2000)))
    many = np.array(values * repeats, np.uint32) & np.uint32((1 << fat_bits) - 1)
    if fat_bits == 12:
        packed = table.pack_fat12(many)
    else:
        packed = many.astype(f"<u{fat_bits // 8}").tobytes()
    count = data.draw(st.integers(0, len(many)))
    expected = int(np.count_nonzero((many[:count] & np.uint32(mask)) == 0))
    assert summary.count_zero_entries(packed, fat_bits, count) == expected


@given(st.lists(st.tuples(HEADS, st.integers(0, 255), st.binary(min_size=10, max_size=10))))
def test_a_label_is_found_as_the_folder_finds_it(kinds: list[tuple[int, int, bytes]]) -> None:
    """Of any records, the label is the one that the folder has."""
    raw = b"".join(
        (bytes([head]) + name + bytes([attributes])).ljust(32, b"\0")
        for head, attributes, name in kinds
    )
    parsed = records.parse(raw)
    labels = parsed.table["name"][parsed.is_label]
    expected = names.show_label(labels[0].tobytes()) or None if len(labels) else None
    assert summary.find_label(raw, "cp437") == expected
