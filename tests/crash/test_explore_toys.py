"""The explorer itself: it finds the mistake in each broken store, and none in the right one."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

import pytest

from ipva_storage.device import read
from ipva_storage.errors import DeviceError
from ipva_storage.sim import CrashPoint, Cut, Step, explore, replay

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice

SLOT_BYTES = 4096
HEADER = struct.Struct("<QLL")


class Mistake(Enum):
    """What a toy store does wrong."""

    NONE = auto()
    NO_BARRIER = auto()
    """Payload and header may land in any order, and only the header is checked."""
    HEADER_FIRST = auto()
    NO_CHECKSUM = auto()
    """Header and payload in one write, which may be torn."""
    IN_PLACE = auto()
    """The only copy is overwritten."""
    LATE_FLUSH = auto()
    """Acknowledged before it is durable."""
    STALE_READ = auto()
    """The older of two copies is served."""


class ToyStore:
    """One value in two slots: the newer one counts."""

    def __init__(self, device: BlockDevice, mistake: Mistake) -> None:
        self.device = device
        self.mistake = mistake

    def put(self, value: bytes) -> None:
        """Replace the value."""
        slots = sorted(self._slots())
        generation = max((slot[0] for slot in slots), default=0) + 1
        at = SLOT_BYTES * (generation % 2 if self.mistake is not Mistake.IN_PLACE else 0)
        header = HEADER.pack(generation, len(value), zlib.crc32(value)).ljust(512, b"\0")
        match self.mistake:
            case Mistake.HEADER_FIRST:
                writes = [(at, header), None, (at + 512, value)]
            case Mistake.NO_BARRIER:
                writes = [(at + 512, value), (at, header)]
            case Mistake.NO_CHECKSUM:
                writes = [(at, header + value)]
            case _:
                writes = [(at + 512, value), None, (at, header)]
        for write in [*writes, None if self.mistake is not Mistake.LATE_FLUSH else (8192, b"x")]:
            if write is None:
                self.device.flush()
            else:
                self.device.write(*write)

    def get(self) -> bytes:
        """The value; empty when there is none."""
        slots = sorted(self._slots(), reverse=self.mistake is Mistake.STALE_READ)
        return slots[-1][1] if slots else b""

    def _slots(self) -> list[tuple[int, bytes]]:
        found = []
        for at in (0, SLOT_BYTES):
            generation, length, crc = HEADER.unpack(read(self.device, at, HEADER.size))
            value = read(self.device, at + 512, min(length, SLOT_BYTES - 512))
            checked = self.mistake in (Mistake.NONE, Mistake.IN_PLACE, Mistake.LATE_FLUSH)
            if generation and (not checked or zlib.crc32(value) == crc):
                found.append((generation, value))
        return found


@dataclass
class ToyWorkload:
    """Five values put one after the other."""

    mistake: Mistake
    name: str = "toy"
    size_bytes: int = 3 * SLOT_BYTES
    values: tuple[bytes, ...] = tuple(bytes([65 + number]) * 1500 for number in range(5))

    def prepare(self, device: BlockDevice) -> None:
        ToyStore(device, self.mistake).put(self.values[0])
        device.flush()

    def steps(self) -> Sequence[Step]:
        def put(value: bytes) -> Step:
            return Step(
                f"put {value[:1]!r}", lambda device: ToyStore(device, self.mistake).put(value)
            )

        return [put(value) for value in self.values[1:]]

    def verify(self, device: BlockDevice, acknowledged_step_count: int) -> list[str]:
        store = ToyStore(device, self.mistake)
        allowed = self.values[acknowledged_step_count : acknowledged_step_count + 2]
        problems = [] if store.get() in allowed else [f"it reads {store.get()[:3]!r}…"]
        store.put(b"after")
        return problems if store.get() == b"after" else [*problems, "it cannot be written to"]


def test_correct_store_has_no_violation() -> None:
    """A store that keeps its promise has none, in every state there is."""
    found = explore(ToyWorkload(Mistake.NONE))
    assert found.violations == ()
    assert found.points == found.points_total
    assert 25 < found.states <= found.points
    assert found.seconds > 0


@pytest.mark.parametrize("mistake", [each for each in Mistake if each is not Mistake.NONE])
def test_mistake_is_found_and_replays(mistake: Mistake) -> None:
    """Each mistake is found, and the point that is told shows it again."""
    workload = ToyWorkload(mistake)
    found = explore(workload)
    assert found.violations
    for violation in found.violations[:3]:
        again = replay(workload, CrashPoint.parse(str(violation.point)))
        assert again == violation
        assert str(violation.point) in str(violation)


@pytest.mark.parametrize(
    ("mistake", "needed"),
    [(Mistake.NO_CHECKSUM, "torn"), (Mistake.NO_BARRIER, "reordered")],
    ids=["torn", "reordered"],
)
def test_kind_of_cut_that_shows_it(mistake: Mistake, needed: str) -> None:
    """A torn write is needed to see one mistake, a reordered one to see another."""
    workload = ToyWorkload(mistake)
    assert not explore(workload, torn=False, reordered=False).violations
    assert explore(workload, torn=needed == "torn", reordered=needed == "reordered").violations
    cuts = {violation.point.cut for violation in explore(workload).violations}
    assert cuts <= ({Cut.HEAD, Cut.TAIL} if needed == "torn" else set(Cut) - {Cut.WHOLE})


def test_limit_samples_by_seed() -> None:
    """A limit visits that many points; the seed says which, and the same ones each time."""
    workload = ToyWorkload(Mistake.IN_PLACE)
    runs = [explore(workload, limit=12, seed=seed) for seed in (1, 1, 2)]
    assert all(run.points == 12 < run.points_total for run in runs)
    assert runs[0].violations == runs[1].violations
    assert runs[0].states <= 12


def test_refusal_is_a_violation() -> None:
    """A store that cannot be opened after the cut breaks its promise."""

    class Refusing(ToyWorkload):
        def verify(self, device: BlockDevice, acknowledged_step_count: int) -> list[str]:
            raise DeviceError("it cannot be opened")

    found = explore(Refusing(Mistake.NONE))
    assert found.violations[0].problems == ("DeviceError: it cannot be opened",)
    assert len(found.violations) == 20


def test_crash_of_the_check_names_the_point() -> None:
    """A mistake in the code comes out whole, with the point it happened at."""

    class Failing(ToyWorkload):
        def verify(self, device: BlockDevice, acknowledged_step_count: int) -> list[str]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        explore(Failing(Mistake.NONE))
    assert caught.value.__notes__ == ["in the state after a power cut at 0:whole:0 of toy"]


def test_verify_leaves_no_trace() -> None:
    """What a check writes into a state is not there in the next."""

    class Vandal(ToyWorkload):
        def verify(self, device: BlockDevice, acknowledged_step_count: int) -> list[str]:
            problems = super().verify(device, acknowledged_step_count)
            device.write(0, b"\xff" * self.size_bytes)
            device.resize(17)
            return problems

    calm, wild = explore(ToyWorkload(Mistake.NONE)), explore(Vandal(Mistake.NONE))
    assert (wild.violations, wild.states) == ((), calm.states)
