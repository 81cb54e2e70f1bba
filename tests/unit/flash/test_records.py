"""The fast packing of headers and entries, held against the Construct definitions."""

from zlib import crc32

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ipva_formats import dtype_of
from ipva_formats import flash as layout
from ipva_storage.flash import records

u8, u16, u32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, (1 << 64) - 1)
ZERO = {"reserved": bytes(3), "reserved_more": bytes(4)}


def sealed(built: bytes) -> bytes:
    """The record with its CRC in place."""
    return built[:28] + crc32(built[:28]).to_bytes(4, "little")


@given(u16, u32, u32)
def test_clean_marker_is_the_same_in_both(segment_count: int, size: int, erase_count: int) -> None:
    """Both struct and Construct build and read the same clean marker."""
    said = {"segment_count": segment_count, "segment_bytes": size, "erase_count": erase_count}
    blank = {"version": 1, "reserved": bytes(1), "reserved_more": bytes(12), "crc": 0}
    built = sealed(layout.CLEAN_MARKER.build({**said, **blank}))
    assert records.pack_clean_marker(segment_count, size, erase_count) == built
    assert records.unpack_clean_marker(built) == (1, segment_count, size, erase_count)


@given(st.integers(1, records.COUNTER_LIMIT - 1), st.sampled_from([0x11, 0x12]), u32, u64)
def test_open_header_is_the_same_in_both(
    sequence: int, kind: int, victim: int, victim_sequence: int
) -> None:
    """Both struct and Construct build and read the same open header."""
    said = {"sequence": sequence, "kind": kind, "victim_segment": victim}
    rest = {"victim_sequence": victim_sequence, "crc": 0, **ZERO}
    built = sealed(layout.OPEN_HEADER.build({**said, **rest}))
    assert records.pack_open_header(sequence, kind, victim, victim_sequence) == built
    assert records.unpack_open_header(built) == (sequence, kind, victim, victim_sequence)


@given(u64, u32, u32)
def test_seal_header_is_the_same_in_both(sequence: int, count: int, table_crc: int) -> None:
    """Both struct and Construct build and read the same seal header."""
    said = {"sequence": sequence, "entry_count": count, "table_crc": table_crc}
    built = sealed(layout.SEAL_HEADER.build({**said, "reserved": bytes(12), "crc": 0}))
    assert records.pack_seal_header(sequence, count, table_crc) == built
    assert records.unpack_seal_header(built) == (sequence, count, table_crc)


@given(st.tuples(u8, u8, u16, u16, u16, u64, u32, u32, u32))
def test_entry_is_the_same_in_struct_construct_and_numpy(fields: tuple[int, ...]) -> None:
    """All three read the same fields from the same bytes."""
    names = [str(one.name) for one in layout.ENTRY.subcons]
    built = sealed(layout.ENTRY.build(dict(zip(names, [*fields, 0], strict=True))))
    body = records.ENTRY_BODY.pack(*fields)
    assert body + records.U32.pack(crc32(body)) == built
    entry = records.unpack_entry(b"\xff" * 8 + built, 8)
    assert entry is not None
    assert entry[:-1] == fields
    assert np.frombuffer(built, dtype_of(layout.ENTRY))[0].item() == tuple(entry)


@given(u64, u32)
def test_large_tail_is_the_same_in_both(value_bytes: int, chunk_count: int) -> None:
    """Both struct and Construct build the same manifest of a large value."""
    built = layout.LARGE_TAIL.build({"value_bytes": value_bytes, "chunk_count": chunk_count})
    assert records.LARGE_TAIL.pack(value_bytes, chunk_count) == built


def test_constants_are_the_same_in_both() -> None:
    """Types, kinds, flags and places agree."""
    pairs = {
        "MAGIC": "MAGIC",
        "VERSION": "VERSION",
        "OPEN_AT": "OPEN_HEADER_OFFSET_BYTES",
        "SEAL_AT": "SEAL_HEADER_OFFSET_BYTES",
        "PAYLOAD_AT": "PAYLOAD_OFFSET_BYTES",
        "ENTRY_BYTES": "ENTRY_BYTES",
        "LOG": "KIND_LOG",
        "RECLAIM": "KIND_RECLAIM",
        "PUT": "TYPE_PUT",
        "DELETE": "TYPE_DELETE",
        "CHUNK": "TYPE_CHUNK",
        "LARGE": "TYPE_LARGE",
        "COMMIT": "TYPE_COMMIT",
        "RECLAIMED": "TYPE_RECLAIMED",
        "MEMBER": "FLAG_MEMBER",
    }
    for ours, theirs in pairs.items():
        assert getattr(records, ours) == getattr(layout, theirs), ours


@given(st.binary(max_size=64), st.integers(0, 40))
def test_noise_is_no_record(noise: bytes, at: int) -> None:
    """Bytes without a matching CRC, or too few, are no header and no entry."""
    assert records.unpack_entry(noise, at) is None
    assert records.unpack_clean_marker(noise, at) is None
    assert records.unpack_open_header(noise, at) is None
    assert records.unpack_seal_header(noise, at) is None
