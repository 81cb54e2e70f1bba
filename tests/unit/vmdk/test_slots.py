"""Which grain is where in the file: read with bounds, whatever the tables say."""

from __future__ import annotations

import struct
import tracemalloc

import pytest

from ipva_storage.device import MemoryDevice
from ipva_storage.errors import VmdkError
from ipva_storage.testing.vmdk_small import GRAIN_BYTES, disk_files, full_disk, shrink_geometry
from ipva_storage.vmdk.descriptor import Descriptor
from ipva_storage.vmdk.extent import slots
from ipva_storage.vmdk.extent.header import read_header
from ipva_storage.vmdk.extent.slots import Slots
from ipva_storage.vmdk.extent.sparse import SparseExtent


def opened(content: bytes) -> SparseExtent:
    """The extent in a file."""
    raw = MemoryDevice(content)
    return SparseExtent(raw, read_header(raw))


def test_one_table_for_a_whole_disk_takes_no_memory() -> None:
    """A small file whose directory names one table thousands of times is refused at once."""
    content = bytearray(disk_files("monolithicSparse", 300 << 30)["disk.vmdk"])
    header = read_header(MemoryDevice(content))
    table = header.overhead_sectors
    for directory in (header.rgd_offset_sectors, header.gd_offset_sectors):
        named = struct.pack("<I", table) * header.table_count
        content[directory * 512 : directory * 512 + len(named)] = named
    entries = [table + 128 * (1 + number) for number in range(512)]
    content += struct.pack("<512I", *entries).ljust(65536, b"\0") + bytes(512 * 65536)
    extent = opened(bytes(content))
    tracemalloc.start()
    with pytest.raises(VmdkError, match="its grains overlap"):
        Slots.of(extent)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_grains_come_in_the_order_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they are taken from the arrays at once or by parts."""
    shrink_geometry(monkeypatch)
    found = Slots.of(opened(full_disk()["disk.vmdk"]))
    whole = list(found)
    monkeypatch.setattr(slots, "ITERATED_GRAINS", 4)
    assert list(found) == whole
    assert [grain for grain, _ in whole] == list(range(19))
    assert whole[1][1] - whole[0][1] == GRAIN_BYTES // 512


def test_many_extent_lines_are_replaced_at_once() -> None:
    """A mebibyte of them takes a moment, and each goes with its line's end."""
    text = "createType=x\r\n" + "RW 1 ZERO\r\n# kept\r\n" * 40_000 + "end"
    found = Descriptor.parse(text.encode()).with_extents(["RW 2 ZERO", "RW 3 ZERO"])
    head = "createType=x\r\nRW 2 ZERO\r\nRW 3 ZERO\r\n"
    assert found.text == head + "# kept\r\n" * 40_000 + "end"
