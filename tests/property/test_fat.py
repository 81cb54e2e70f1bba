"""FAT tables, names and records: round trips, and against slow oracles."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ipva_formats import fat as layout
from ipva_storage.fat import chains, clock, folder, listing, names, records, table
from ipva_storage.fat.chains import End
from ipva_storage.testing import fat_machine

short_bytes = st.binary(min_size=11, max_size=11)
word = st.integers(0, 0xFFFF)


@given(st.lists(st.integers(0, 0xFFF), max_size=1500))
def test_fat12_round_trip(values: list[int]) -> None:
    """Packing and unpacking FAT12 entries gives them back."""
    packed = table.pack_fat12(np.array(values, np.uint32))
    assert len(packed) == (len(values) * 12 + 7) // 8
    assert table.unpack_fat12(packed, len(values)).tolist() == values


@given(st.lists(st.integers(0, 0xFFF), min_size=1, max_size=100))
def test_fat12_against_one_number(values: list[int]) -> None:
    """Packed FAT12 entries are the twelve-bit digits of one little-endian number."""
    number = sum(value << 12 * index for index, value in enumerate(values))
    packed = table.pack_fat12(np.array(values, np.uint32))
    assert packed == number.to_bytes((len(values) * 12 + 7) // 8, "little")


@given(st.lists(st.integers(2, 60), unique=True))
def test_runs_expand(chain: list[int]) -> None:
    """The runs of a chain expand to the chain, and no two could be one."""
    pieces = table.runs(chain)
    assert table.expand(pieces) == chain
    ends = [first + count for first, count in pieces]
    assert all(end != first for end, (first, _) in zip(ends, pieces[1:], strict=False))


def slow_chain(values: list[int], first: int, bits: int) -> tuple[list[int], End]:
    """A chain followed link by link, and how it ends."""
    bad, chain, at = layout.BAD_CLUSTER[bits], list[int](), first
    while True:
        if not 2 <= at < len(values):
            return chain, End.OUTSIDE if chain else End.START
        if values[at] in (0, bad):
            if not chain:
                return chain, End.START
            return chain, End.FREE if values[at] == 0 else End.BAD
        if at in chain:
            return chain, End.RING
        chain.append(at)
        at = values[at]
        if at >= layout.END_MIN[bits]:
            return chain, End.GOOD


@given(
    st.lists(st.integers(0, 34) | st.sampled_from((0xFFF, 0xFF8, 0xFF7, 0x800)), max_size=30),
    st.lists(st.integers(0, 36), max_size=6),
)
def test_chains_against_the_slow_way(tail: list[int], starts: list[int]) -> None:
    """All chains at once are what following each of them gives: ends, lengths, lost, shared."""
    values = [0xFF8, 0xFFF, *tail]
    found = chains.analyse(np.array(values, np.uint32), np.array(starts, np.int64), 12)
    slow = [slow_chain(values, start, 12) for start in starts]
    assert [End(int(end)) for end in found.ends] == [end for _, end in slow]
    for length, (chain, end) in zip(found.lengths.tolist(), slow, strict=True):
        assert end is End.RING or length == len(chain)
    reached = {cluster for chain, _ in slow for cluster in chain}
    in_use = {at for at, value in enumerate(values) if at >= 2 and value not in (0, 0xFF7)}
    assert found.lost.tolist() == sorted(in_use - reached)
    for index, (chain, end) in enumerate(slow):
        others = {at for other, (more, _) in enumerate(slow) if other != index for at in more}
        if end is not End.RING:
            assert bool(found.is_shared[index]) is bool(others & set(chain))


@given(fat_machine.names(), st.sets(fat_machine.names(), max_size=40))
def test_short_names_are_valid_and_new(name: str, others: set[str]) -> None:
    """Short names are valid, and no two names of a folder get the same."""
    taken: set[bytes] = set()
    for other in (*sorted(others), name):
        short = names.make_short(other, taken)
        assert short not in taken
        assert len(short) == 11
        assert names.is_short_valid(short)
        taken.add(short)


@given(fat_machine.names())
def test_fitted_names_show_as_they_were(name: str) -> None:
    """A name that is kept as a short name alone reads back in its own case."""
    fitted = names.fit_short(name)
    if fitted is not None:
        assert names.show_short(*fitted) == name
        assert names.is_short_valid(fitted[0])


@given(st.lists(fat_machine.names(), unique_by=names.fold, max_size=12))
def test_long_names_round_trip(many: list[str]) -> None:
    """Names packed into records are found by parsing them, in order, with no orphan."""
    taken: set[bytes] = set()
    raw = b""
    for name in many:
        short = names.make_short(name, taken)
        taken.add(short)
        raw += folder.pack_long(name, short) + entry_bytes(short)
    parsed = records.parse(raw + bytes(64))
    found = records.slots(parsed, is_fat32=True, code_page="cp437")
    assert [slot.entry.name for slot in found] == many
    assert not parsed.is_orphan.any()
    assert parsed.end == len(raw) // 32


@given(st.lists(st.lists(fat_machine.names(), unique_by=names.fold, max_size=5), max_size=6))
def test_folders_together_are_what_each_is(folders: list[list[str]]) -> None:
    """Folders read together have the entries that each has alone."""
    raws = []
    for many in folders:
        taken: set[bytes] = set()
        for name in many:
            taken.add(names.make_short(name, taken))
        raws.append(b"".join(map(entry_bytes, sorted(taken))) + bytes(32))
    alone = [listing.entries_of([raw], is_fat32=True, code_page="cp437")[0] for raw in raws]
    assert listing.entries_of(raws, is_fat32=True, code_page="cp437") == alone
    slow = [
        [slot.entry for slot in records.slots(records.parse(raw), is_fat32=True, code_page="cp437")]
        for raw in raws
    ]
    assert [[entry.name for entry in some] for some in slow] == [
        [entry.name for entry in some] for some in alone
    ]


def test_long_names_do_not_reach_into_the_next_folder() -> None:
    """Long-name records at the end of a folder are none of the next one's first file."""
    short = names.make_short("A long name.text", set())
    first = folder.pack_long("A long name.text", short)
    found = listing.entries_of([first, entry_bytes(short)], is_fat32=True, code_page="cp437")
    assert [[entry.name for entry in some] for some in found] == [[], ["ALONGN~1.TEX"]]


def entry_bytes(short: bytes) -> bytes:
    """A short record with that name."""
    moment = datetime(2024, 5, 6, 7, 8, 10)
    return folder.pack_entry(
        short, attributes=0x20, created=moment, modified=moment, cluster=70_000, content_bytes=9
    )


@given(st.binary(max_size=32 * 40))
def test_any_records_parse(noise: bytes) -> None:
    """Whatever the bytes, parsing ends, and every slot lies among the records."""
    raw = noise[: len(noise) // 32 * 32]
    parsed = records.parse(raw)
    for slot in records.slots(parsed, is_fat32=True, code_page="cp437"):
        assert 0 <= slot.first_record <= slot.short_record < parsed.end
        assert slot.entry.name


@given(short_bytes, st.integers(0, 0x3F), st.integers(0, 0x0FFFFFFF), st.integers(0, 2**32 - 1))
def test_fast_records_are_the_defined_ones(
    short: bytes, attributes: int, cluster: int, content_bytes: int
) -> None:
    """The hot path packs the record that the Construct definition parses and builds."""
    moment = datetime(2031, 12, 31, 23, 59, 59, 990_000)
    data = folder.pack_entry(
        short,
        attributes=attributes,
        created=moment,
        modified=moment,
        cluster=cluster,
        content_bytes=content_bytes,
    )
    fields: Any = layout.ENTRY.parse(data)
    assert layout.ENTRY.build(fields) == data
    assert (fields.name, fields.attributes, fields.content_bytes) == (
        short,
        attributes,
        content_bytes,
    )
    assert fields.cluster_high << 16 | fields.cluster_low == cluster
    assert clock.decode(fields.created_date, fields.created_time, fields.created_10ms) == moment
    assert clock.decode(fields.modified_date, fields.modified_time) == datetime(
        2031, 12, 31, 23, 59, 58
    )


@given(fat_machine.names(), short_bytes)
def test_fast_long_records_are_the_defined_ones(name: str, short: bytes) -> None:
    """The hot path packs the long-name records that the Construct definition parses."""
    data = folder.pack_long(name, short)
    parts: list[Any] = [
        layout.LONG_ENTRY.parse(data[at : at + 32]) for at in range(0, len(data), 32)
    ]
    units = [
        unit for part in reversed(parts) for unit in (*part.units_1, *part.units_2, *part.units_3)
    ]
    text = b"".join(unit.to_bytes(2, "little") for unit in units).decode(
        "utf-16-le", "surrogatepass"
    )
    assert text.split("\0")[0].rstrip("\uffff") == name
    assert parts[0].ordinal == len(parts) | layout.LONG_LAST
    assert {part.checksum for part in parts} == {names.checksum(short)}


@given(st.lists(short_bytes, min_size=1, max_size=30))
def test_checksums_of_a_folder(shorts: list[bytes]) -> None:
    """The checksums of all records at once are those of each."""
    raw = b"".join(entry_bytes(b"A" + short[1:]) for short in shorts)
    parsed = records.parse(raw)
    expected = [names.checksum(b"A" + short[1:]) for short in shorts]
    assert records.checksums(parsed.table).tolist() == expected


@given(st.binary(min_size=512, max_size=512))
def test_boot_sectors_build_what_was_parsed(sector: bytes) -> None:
    """Parsing and building a boot sector, FSInfo or MBR gives the same bytes."""
    from ipva_formats import mbr

    for struct in (layout.BOOT_SECTOR, layout.BOOT_SECTOR_32, layout.FSINFO, mbr.MBR):
        assert struct.build(struct.parse(sector)) == sector


@given(st.datetimes(datetime(1980, 1, 1), datetime(2107, 12, 31, 23, 59, 59)))
def test_times_round_trip(moment: datetime) -> None:
    """Times come back to the hundredth of a second."""
    expected = moment.replace(microsecond=moment.microsecond // 10_000 * 10_000)
    assert clock.decode(*clock.encode(moment)) == expected


def test_work_of_a_hostile_table_is_bounded() -> None:
    """A table of millions of fragments is not analysed, one of millions in a row is."""
    row = np.arange(1, 2_000_001, dtype=np.uint32)
    assert not chains.is_too_much(row)
    assert chains.is_too_much(row[::-1].copy())
    assert chains.is_too_much(np.arange(1, 6_100_000, dtype=np.uint32))
