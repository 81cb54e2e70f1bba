"""A power cut at any write of a sparse disk, torn anywhere, loses nothing that was flushed."""

from __future__ import annotations

import contextlib
import random
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ipva_storage import vmdk
from ipva_storage.device import FaultDevice, MemoryDevice, Operation, TraceDevice, read
from ipva_storage.errors import PowerCutError
from ipva_storage.vmdk.creation import new_sparse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice, TraceRecord

GRAIN_BYTES = 4096
DISK_BYTES = 64 * GRAIN_BYTES + 512
"""More grains than one byte of an entry can name, so that a torn entry names another grain."""
CHANGES = (Operation.WRITE, Operation.DISCARD)
HARMLESS = {"VMDK009", "VMDK014", "VMDK030"}
"""What a cut may leave: the disk is not marked as closed, new grains are in no table yet, and the
copies differ. A torn entry may point anywhere, but the other copy has it whole, so no data is lost
and none is said to be."""


class Model:
    """What the disk may read as: the state at the last flush, and each one since."""

    def __init__(self) -> None:
        self.states = [bytes(DISK_BYTES)]

    def change(self, offset_bytes: int, data: bytes) -> None:
        now = self.states[-1]
        self.states.append(now[:offset_bytes] + data + now[offset_bytes + len(data) :])

    def flushed(self) -> None:
        del self.states[:-1]

    def allows(self, content: bytes) -> bool:
        """Whether each byte is as in one of the states."""
        found = np.frombuffer(content, np.uint8)
        states = (np.frombuffer(state, np.uint8) for state in self.states)
        return bool(np.any([found == state for state in states], axis=0).all())


def steps() -> Iterator[tuple[str, int, bytes]]:
    """Writes over one grain and many, within and across tables, again over old ones, discards."""
    rng = random.Random(7)
    for round_number in range(5):
        for _ in range(3):
            offset_bytes = rng.randrange(DISK_BYTES - 1)
            length = min(
                rng.choice([300, GRAIN_BYTES, 13 * GRAIN_BYTES]), DISK_BYTES - offset_bytes
            )
            yield "write", offset_bytes, rng.randbytes(length)
        if round_number % 2:
            yield "discard", rng.randrange(GRAIN_BYTES), bytes(6000)
        yield "flush", 0, b""


def play(raw: BlockDevice, model: Model) -> None:
    """The workload, with the model always ahead of the disk."""
    with vmdk.open(raw, writable=True) as disk:
        for verb, offset_bytes, data in steps():
            if verb == "flush":
                disk.flush()
                model.flushed()
                continue
            model.change(offset_bytes, data)
            if verb == "write":
                disk.write(offset_bytes, data)
            else:
                disk.discard(offset_bytes, len(data))
    model.flushed()


def fresh() -> MemoryDevice:
    """An empty disk of small grains, four in a table, so that there are many tables."""
    raw = MemoryDevice(name="disk.vmdk")
    new_sparse(raw, "disk.vmdk", DISK_BYTES, grain_sectors=8, gtes_per_gt=4).seal()
    return raw


def content_of(medium: bytes | bytearray) -> bytes:
    """All bytes of the disk in an image."""
    with vmdk.open(MemoryDevice(medium)) as disk:
        return read(disk, 0, disk.size_bytes)


def assert_survives(medium: bytearray, model: Model) -> None:
    """It opens, holds what it must, has harmless findings only, and can be written to again."""
    content = content_of(medium)
    assert model.allows(content)
    codes = {finding.code for finding in vmdk.check(MemoryDevice(medium))}
    assert codes <= HARMLESS
    assert "VMDK009" not in codes or "VMDK014" in codes
    again = MemoryDevice(medium)
    with vmdk.open(again, writable=True) as disk:
        disk.write(10 * GRAIN_BYTES, b"after")
    assert {finding.code for finding in vmdk.check(again)} <= {"VMDK030"}  # no harm: only told
    expected = content[: 10 * GRAIN_BYTES] + b"after" + content[10 * GRAIN_BYTES + 5 :]
    assert content_of(again.data) == expected


def write_count() -> int:
    """Writes and discards of the workload, which a cut can hit."""
    trace = TraceDevice(fresh())
    play(trace, Model())
    return sum(record.operation in CHANGES for record in trace.records)


@pytest.mark.parametrize("torn_bytes", [0, 1, 2, 5, 13, 512])
def test_power_cut_at_every_write(torn_bytes: int) -> None:
    """Whatever write the power goes in, the last flush holds and nothing else is mixed in."""
    cuts = 0
    for cut in range(write_count()):
        medium, model = fresh(), Model()
        try:
            play(FaultDevice(medium, cut_after_writes=cut, torn_bytes=torn_bytes), model)
        except PowerCutError:
            cuts += 1
        assert_survives(medium.data, model)
    assert cuts > 30


def test_power_cut_while_healing() -> None:
    """A second cut, in the session after the first, loses nothing either."""
    total, cuts = write_count(), 0
    for first_cut in range(8, total, 5):
        medium, model = fresh(), Model()
        fault = FaultDevice(medium, cut_after_writes=first_cut, torn_bytes=2)
        with pytest.raises(PowerCutError):
            play(fault, model)
        survived = content_of(medium.data)
        for second_cut in range(6):
            later, after = MemoryDevice(medium.data), Model()
            after.states = [survived]
            after.change(3 * GRAIN_BYTES, b"x" * 9000)
            fault = FaultDevice(later, cut_after_writes=second_cut, torn_bytes=3)
            with contextlib.suppress(PowerCutError), vmdk.open(fault, writable=True) as disk:
                disk.write(3 * GRAIN_BYTES, b"x" * 9000)
                disk.flush()
            cuts += fault.is_cut
            assert_survives(later.data, after)
    assert cuts > 50


class TimedModel(Model):
    """Also remembers when each state began and when each flush was over, in recorded writes."""

    def __init__(self, trace: TraceDevice) -> None:
        super().__init__()
        self._trace = trace
        self.history = [(0, self.states[0])]
        self.flushes = [(0, 0)]

    def change(self, offset_bytes: int, data: bytes) -> None:
        super().change(offset_bytes, data)
        self.history.append((len(self._trace.records), self.states[-1]))

    def flushed(self) -> None:
        super().flushed()
        self.flushes.append((len(self._trace.records), len(self.history) - 1))

    def at(self, first_record: int, end_record: int) -> Model:
        """What a cut between two records may leave; those before `first_record` are durable."""
        since = max(index for end, index in self.flushes if end <= first_record)
        found = Model()
        found.states = [state for start, state in self.history[since:] if start < end_record]
        found.states = found.states or [self.history[since][1]]
        return found


def cut_inside(start: bytearray, records: list[TraceRecord], rng: random.Random) -> bytearray:
    """Half of the records reach the medium, shuffled, some torn; the file's length is kept."""
    medium = MemoryDevice(start)
    chosen = [r for r in records if r.operation is not Operation.FLUSH and rng.random() < 0.5]
    rng.shuffle(chosen)
    sizes = [r.offset_bytes for r in records if r.operation is Operation.RESIZE]
    for size_bytes in sizes:
        medium.resize(size_bytes)
    for record in chosen:
        if record.operation is Operation.DISCARD:
            medium.discard(record.offset_bytes, record.length_bytes)
        elif record.data is not None:
            kept = rng.choice([record.length_bytes, rng.randrange(record.length_bytes)])
            medium.write(record.offset_bytes, record.data[:kept])
    return medium.data


def replay(medium: MemoryDevice, records: list[TraceRecord]) -> None:
    """Let all records reach the medium."""
    for record in records:
        if record.operation is Operation.RESIZE:
            medium.resize(record.offset_bytes)
        elif record.operation is Operation.DISCARD:
            medium.discard(record.offset_bytes, record.length_bytes)
        elif record.data is not None:
            medium.write(record.offset_bytes, record.data)


def test_host_reorders_writes_between_barriers() -> None:
    """Any part of the writes since the last barrier, in any order, leaves what was flushed."""
    start = fresh()
    trace = TraceDevice(MemoryDevice(start.data), keep_data=True)
    model = TimedModel(trace)
    play(trace, model)
    rng = random.Random(3)
    barriers = [i + 1 for i, r in enumerate(trace.records) if r.operation is Operation.FLUSH]
    durable = MemoryDevice(start.data)
    for first, end in pairwise([0, *barriers, len(trace.records)]):
        for _ in range(12):
            medium = cut_inside(durable.data, trace.records[first:end], rng)
            assert_survives(medium, model.at(first, end))
        replay(durable, trace.records[first:end])
    assert content_of(durable.data) == model.states[-1]
