"""The undo journal: any job is taken back, and the packed records are those of the definition."""

from __future__ import annotations

import inspect
import os

import construct as c
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ipva_formats import undo as layout
from ipva_storage.device import FaultDevice, MemoryDevice, OverlayDevice, TraceDevice
from ipva_storage.device.base import FileDevice
from ipva_storage.device.undo import Images, UndoDevice, UndoJournal, records, restore
from ipva_storage.device.undo.ledger import BLOCK_BYTES, Ledger

MAX_BYTES = 5 * BLOCK_BYTES
u16, u32, u48 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**48)
u64, i64 = st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1)

contents = st.builds(
    lambda seed, zeros, length: (bytes([seed]) * 1000 + bytes(zeros) + bytes(range(256)) * 1600)[
        :length
    ],
    st.integers(0, 255),
    st.integers(0, 3 * BLOCK_BYTES),
    st.integers(0, MAX_BYTES),
)
places = st.integers(0, MAX_BYTES) | st.sampled_from(
    [0, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES, 4 * BLOCK_BYTES]
)
steps = st.lists(
    st.tuples(st.sampled_from(["write", "discard", "resize", "expect", "flush"]), places, places),
    max_size=12,
)


class Opened(Images):
    """Images that are open already."""

    def __init__(self, files: dict[str, FileDevice]) -> None:
        self.files = files

    def open(self, name: str, *, writable: bool) -> FileDevice:
        return self.files[name]

    def modified_us(self, name: str) -> int:
        return 0


def play(device: UndoDevice, job: list[tuple[str, int, int]]) -> None:
    """Do what fits."""
    for number, (verb, first, second) in enumerate(job):
        start, stop = sorted(min(at, device.size_bytes) for at in (first, second))
        if verb == "write":
            device.write(start, bytes([number + 1]) * (stop - start))
        elif verb == "discard":
            device.discard(start, stop - start)
        elif verb == "resize":
            device.resize(first)
        elif verb == "expect":
            device.expect([(start, stop - start), (second, 100)])
        else:
            device.flush()


@given(contents, contents, steps, steps, st.booleans())
def test_any_job_is_taken_back(
    first: bytes,
    second: bytes,
    first_job: list[tuple[str, int, int]],
    second_job: list[tuple[str, int, int]],
    is_finished: bool,
) -> None:
    """Whatever is done to two images through a stack of devices, an undo gives bytes and length."""
    media = {"a": MemoryDevice(first, name="a"), "b": MemoryDevice(second, name="b")}
    file = MemoryDevice(name="undo")
    journal = UndoJournal(file)
    play(UndoDevice(FaultDevice(TraceDevice(media["a"])), journal), first_job)
    play(UndoDevice(media["b"], journal), second_job)
    play(UndoDevice(media["a"], journal), second_job)
    images = Opened(dict(media))
    if is_finished:
        journal.finish(images)
    done = restore(file, images)
    assert media["a"].data == first
    assert media["b"].data == second
    assert sum(image.saved_bytes for image in done.images) == journal.saved_bytes
    assert journal.saved_bytes <= len(first) + len(second)
    restore(file, images, force=True)
    assert media["a"].data == first


@given(contents, steps)
def test_an_overlay_commits_through_it(content: bytes, job: list[tuple[str, int, int]]) -> None:
    """What an overlay commits is taken back as well."""
    medium, file = MemoryDevice(content, name="a"), MemoryDevice(name="undo")
    overlay = OverlayDevice(UndoDevice(medium, UndoJournal(file)))
    for number, (verb, first, second) in enumerate(job):
        start, stop = sorted(min(at, overlay.size_bytes) for at in (first, second))
        if verb == "resize":
            overlay.resize(first)
        elif verb == "discard":
            overlay.discard(start, stop - start)
        else:
            overlay.write(start, bytes([number + 1]) * (stop - start))
    overlay.commit()
    restore(file, Opened({"a": medium}))
    assert medium.data == content


@given(
    st.integers(0, 40 * BLOCK_BYTES),
    st.lists(st.tuples(st.lists(st.tuples(places, places)), st.booleans()), max_size=20),
)
@example(10 * BLOCK_BYTES, [([(0, 3 * BLOCK_BYTES), (BLOCK_BYTES, 2 * BLOCK_BYTES)], False)])
def test_the_ledger_is_a_set_of_blocks(
    original_bytes: int, touched: list[tuple[list[tuple[int, int]], bool]]
) -> None:
    """What it says is missing is just what is not marked, in whole blocks within the image."""
    ledger, saved = Ledger(original_bytes), set[int]()
    for ranges, ahead in touched:
        gaps = ledger.gaps(ranges, ahead=ahead)
        wanted = {
            block
            for start, stop in ranges
            for block in blocks_of(start, min(stop, original_bytes)) - saved
        }
        found: set[int] = set()
        for first, end in gaps:
            assert first % BLOCK_BYTES == 0
            assert first < end <= original_bytes
            assert end % BLOCK_BYTES == 0 or end == original_bytes
            blocks = blocks_of(first, end)
            assert not blocks & (found | saved)
            found |= blocks
            ledger.mark(first, end)
        assert wanted <= found
        assert ahead or found == wanted
        saved |= found
        assert all(ledger.has(*each) for each in ranges)
        assert ledger.has(0, original_bytes) == (saved == blocks_of(0, original_bytes))


def blocks_of(start: int, stop: int) -> set[int]:
    """Numbers of the blocks that a range touches."""
    return set(range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))) if start < stop else set()


def rebuilt(struct: c.Construct, data: bytes) -> bytes:  # type: ignore[type-arg]
    """What the definition makes of what it read."""
    return bytes(struct.build(struct.parse(data)))


@given(u64, i64)
def test_header(journal_id: int, time_us: int) -> None:
    """The header is the definition's."""
    header = records.Header(journal_id, time_us)
    data = records.build_header(header)
    assert records.parse_header(data) == header
    assert rebuilt(layout.HEADER, data) == data
    assert layout.HEADER.parse(data).time_us == time_us


@given(
    st.builds(
        records.Status, st.sampled_from(records.State), st.integers(0, 2**62 - 1), i64, u64, u64
    ),
    u64,
)
def test_status(status: records.Status, journal_id: int) -> None:
    """A status record is the definition's."""
    data = records.build_status(status, journal_id)
    assert records.parse_status(data, journal_id) == status
    assert records.parse_status(data, journal_id ^ 1) is None
    assert rebuilt(layout.STATUS, data) == data
    fields = layout.STATUS.parse(data)
    assert [fields[name] for name in records.Status._fields] == list(status)


entries = st.lists(
    st.builds(
        records.FileEntry, u32, u64, st.text(max_size=20).map(lambda t: t.replace("\ud800", ""))
    )
    | st.builds(records.LeftEntry, u32, u64, u64, u32)
    | st.builds(records.RangeEntry, u32, u64, u64, st.none())
    | st.builds(
        lambda number, at, data: records.RangeEntry(number, at, len(data), data),
        u32,
        u64,
        st.binary(min_size=1, max_size=300),
    ),
    min_size=1,
    max_size=6,
)


@given(entries, u64, u64)
def test_batch(batch: list[records.Entry], journal_id: int, sequence: int) -> None:
    """A batch and its entries are the definition's."""
    data = records.build_batch(journal_id, sequence, batch)
    assert len(data) % layout.SECTOR_BYTES == 0
    assert data.startswith(records.batch_mark(journal_id))
    head_bytes = data[: layout.BATCH_HEADER_BYTES]
    head = records.parse_batch_head(head_bytes, journal_id)
    assert head is not None
    assert head.whole_bytes == len(data)
    assert records.parse_batch_head(head_bytes, journal_id ^ 1) is None
    assert rebuilt(layout.BATCH, head_bytes) == head_bytes
    fields = layout.BATCH.parse(head_bytes)
    assert [fields[name] for name in records.BatchHead._fields] == list(head)
    payload = data[layout.BATCH_HEADER_BYTES :][: head.payload_bytes]
    assert records.parse_entries(head, payload) == batch
    assert records.parse_entries(head, payload + b"x") is None
    for number, entry in enumerate(batch):
        packed = payload[number * layout.ENTRY_BYTES :][: layout.ENTRY_BYTES]
        check_entry(entry, packed)


def check_entry(entry: records.Entry, packed: bytes) -> None:
    """An entry by the definition of its kind."""
    if isinstance(entry, records.FileEntry):
        struct, name_bytes = layout.ENTRY_FILE, len(os.fsencode(entry.name))
        assert struct.parse(packed).name_bytes == name_bytes
        names = ["file_number", "original_bytes"]
    elif isinstance(entry, records.LeftEntry):
        struct, names = layout.ENTRY_LEFT, list(records.LeftEntry._fields)
    else:
        struct, names = layout.ENTRY_RANGE, ["file_number", "offset_bytes", "length_bytes"]
        kind = layout.KIND_ZEROS if entry.data is None else layout.KIND_DATA
        assert struct.parse(packed).kind == kind
    fields = struct.parse(packed)
    assert [fields[name] for name in names] == list(entry)[: len(names)]
    assert rebuilt(struct, packed) == packed


CONSTANTS = sorted(
    name
    for name, value in inspect.getmembers(records)
    if name.isupper() and not name.startswith("_") and type(value) in (int, bytes, tuple)
)


@pytest.mark.parametrize("name", [name for name in CONSTANTS if name not in ("KIB", "MIB")])
def test_constants(name: str) -> None:
    """Each constant is the definition's."""
    assert getattr(records, name) == getattr(layout, name)


def test_states_and_kinds() -> None:
    """The numbers of states and kinds are the definition's."""
    for state in records.State:
        assert state == getattr(layout, f"STATE_{state.name}")
    for kind in records.Kind:
        assert kind == getattr(layout, f"KIND_{kind.name}")
