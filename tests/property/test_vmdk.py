"""Properties of VMDK: a disk is its bytes, a header its fields, a descriptor its text."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from ipva_formats import dtype_of
from ipva_formats.vmdk import GRAIN_ENTRY, SPARSE_HEADER
from ipva_storage import vmdk
from ipva_storage.device import MemoryDevice, TraceDevice, read
from ipva_storage.errors import IpvaError, VmdkError
from ipva_storage.vmdk.creation import new_sparse
from ipva_storage.vmdk.descriptor import Descriptor, is_descriptor
from ipva_storage.vmdk.extent.tables import bytes_of, entries_of

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice

DISK_BYTES = 40 * 4096 + 512

places = st.integers(0, DISK_BYTES)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), places, st.integers(0, 30_000), st.integers(0, 255)),
        st.tuples(st.just("discard"), places, st.integers(0, 30_000), st.just(0)),
        st.tuples(st.just("flush"), st.just(0), st.just(0), st.just(0)),
        st.tuples(st.just("reopen"), st.just(0), st.just(0), st.just(0)),
    ),
    max_size=25,
)


def small_disk(raw: MemoryDevice, grain_sectors: int = 8) -> vmdk.VmdkDevice:
    """An empty disk of many small tables."""
    return new_sparse(raw, "disk.vmdk", DISK_BYTES, grain_sectors=grain_sectors, gtes_per_gt=4)


def assert_extents_are_true(disk: BlockDevice, model: bytearray) -> None:
    """They cover the disk in order, and holes are zeros."""
    at = 0
    for run in disk.extents():
        assert run.offset_bytes == at
        at += run.length_bytes
        if not run.is_data:
            assert not any(model[run.offset_bytes : at])
    assert at == disk.size_bytes


@given(steps, st.sampled_from([8, 16, 128]))
def test_disk_is_its_bytes(steps: list[tuple[str, int, int, int]], grain_sectors: int) -> None:
    """After any writes, discards, flushes and reopenings it reads as a plain array would."""
    raw, model = MemoryDevice(), bytearray(DISK_BYTES)
    disk = small_disk(raw, grain_sectors)
    for verb, offset_bytes, length_bytes, value in steps:
        length = min(length_bytes, DISK_BYTES - offset_bytes)
        if verb == "write":
            data = bytes((value + at // 512) % 256 if value else 0 for at in range(length))
            disk.write(offset_bytes, data)
            model[offset_bytes : offset_bytes + length] = data
        elif verb == "discard":
            disk.discard(offset_bytes, length)
            model[offset_bytes : offset_bytes + length] = bytes(length)
        elif verb == "flush":
            disk.flush()
        else:
            disk.close()
            disk = vmdk.open(raw, writable=True)
        assert read(disk, 0, DISK_BYTES) == model
        assert_extents_are_true(disk, model)
    disk.close()
    assert list(vmdk.check(raw)) == []
    with vmdk.open(raw) as again:
        assert read(again, 0, DISK_BYTES) == model


@given(st.integers(1, 2**17), st.sampled_from([8, 128]), st.sampled_from([1, 4, 128, 512]))
def test_new_disk_is_zeros_without_findings(
    sector_count: int, grain_sectors: int, gtes_per_gt: int
) -> None:
    """A disk of any size, as made, has no findings and is one hole."""
    raw = MemoryDevice()
    if sector_count // (grain_sectors * gtes_per_gt) > 4000:
        sector_count = 4000 * grain_sectors * gtes_per_gt
    new_sparse(
        raw,
        "disk.vmdk",
        sector_count * 512,
        grain_sectors=grain_sectors,
        gtes_per_gt=gtes_per_gt,
    ).seal()
    assert list(vmdk.check(raw)) == []
    with vmdk.open(raw) as disk:
        assert disk.size_bytes == sector_count * 512
        assert [run.is_data for run in disk.extents()] == [False]


def test_neighbouring_grains_move_at_once() -> None:
    """Grains that lie one after the other are read and written by one request to the file."""
    trace = TraceDevice(MemoryDevice())
    disk = new_sparse(trace, "disk.vmdk", 64 << 20)
    disk.write(0, b"session")
    trace.reset()
    disk.write(1 << 20, random.Random(1).randbytes(4 << 20))
    assert trace.work.write_count == 1
    trace.reset()
    read(disk, 1 << 20, 4 << 20)
    assert trace.work.read_count == 1


words = st.one_of(
    st.sampled_from(
        ["CID", "parentCID", "createType", "encoding", "ddb.x", "RW", "SPARSE", "FLAT"]
    ),
    st.text(max_size=12),
)
lines = st.one_of(
    st.builds("{} = {}".format, words, words),
    st.builds('{}="{}"'.format, words, words),
    st.builds('RW {} {} "{}" {}'.format, st.integers(0, 10**20), words, words, words),
    st.builds("# {}".format, words),
    st.text(max_size=40),
)


@given(st.lists(lines, max_size=12), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
@example(['createType="vmfs"', "encoding=\x00"], "\n", True)
def test_descriptor_is_its_text(lines: list[str], end: str, is_utf8: bool) -> None:
    """Whatever lines a descriptor has, in whatever encoding, writing it gives its bytes back."""
    codec = "utf-8" if is_utf8 else "utf-16-le"
    data = end.join(["# Disk DescriptorFile", 'createType="vmfs"', *lines]).encode(
        codec, errors="replace"
    )
    data = b'createType="vmfs"\n' + data
    descriptor = Descriptor.parse(data)
    assert descriptor.encode() == data.partition(b"\0")[0]
    assert is_descriptor(data)
    changed = descriptor.with_cid(0x1234ABCD)
    assert len(changed.encode()) == len(descriptor.encode())
    assert (changed.cid is None) == (descriptor.cid is None)
    assert changed.extents == descriptor.extents


@given(st.binary(max_size=300).map(lambda data: data + b"\nRW 1 FLAT") | st.binary(max_size=3000))
def test_any_bytes_are_a_descriptor_or_refused(data: bytes) -> None:
    """Bytes are either a descriptor that comes back as it was, or a VmdkError."""
    try:
        descriptor = Descriptor.parse(data)
    except VmdkError:
        return
    assert descriptor.extents or descriptor.create_type
    assert descriptor.encode() == data.partition(b"\0")[0]


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_hot_path_equals_the_definition(values: list[int]) -> None:
    """A table through `array` is the same as through Construct and through NumPy."""
    import numpy as np

    data = GRAIN_ENTRY[len(values)].build([{"sector": value} for value in values])
    assert list(entries_of(data)) == values
    assert bytes_of(entries_of(data)) == data
    assert np.frombuffer(data, dtype_of(GRAIN_ENTRY))["sector"].tolist() == values


@given(st.binary(min_size=508, max_size=508))
def test_header_comes_back(rest: bytes) -> None:
    """Any header that parses builds the same bytes again, its padding as zeros."""
    data = b"KDMV" + rest
    assert SPARSE_HEADER.build(SPARSE_HEADER.parse(data)) == data[:79] + bytes(433)


def damaged(good: bytes, rng: random.Random) -> bytes:
    """A good image, cut somewhere or with some bytes changed, most of them in the metadata."""
    if rng.random() < 0.3:
        return good[: rng.randrange(len(good))]
    data = bytearray(good)
    metadata_bytes = 24 * 512
    for _ in range(rng.randint(1, 8)):
        limit = rng.choice([80, 1024, metadata_bytes, len(data)])
        data[rng.randrange(limit)] = rng.choice([0, 1, 255, rng.randrange(256)])
    return bytes(data)


def test_damaged_images_are_refused_or_read() -> None:
    """Of 400 damaged images each is refused, or read and checked and written, in little time."""
    raw = MemoryDevice()
    with small_disk(raw) as disk:
        disk.write(5000, random.Random(1).randbytes(60_000))
    rng, started, refused = random.Random(11), time.process_time(), 0
    for _ in range(400):
        data = damaged(bytes(raw.data), rng)
        for job in (read_all, check_all, write_some):
            try:
                job(MemoryDevice(data))
            except IpvaError:
                refused += 1
    assert refused > 200
    assert time.process_time() - started < 60


def read_all(raw: MemoryDevice) -> None:
    """Open it and read what it says it has, as far as that is not absurd."""
    with vmdk.open(raw) as disk:
        assert sum(run.length_bytes for run, _ in zip(disk.extents(), range(1000), strict=False))
        read(disk, 0, min(disk.size_bytes, 1 << 20))


def check_all(raw: MemoryDevice) -> None:
    """Check it to the end."""
    assert len(list(vmdk.check(raw))) < 400


def write_some(raw: MemoryDevice) -> None:
    """Open it for writing and write; where that works, the bytes are there afterwards."""
    with vmdk.open(raw, writable=True) as disk:
        disk.write(0, b"x" * 20_000)
    with vmdk.open(raw) as disk:
        assert read(disk, 0, 20_000) == b"x" * 20_000
