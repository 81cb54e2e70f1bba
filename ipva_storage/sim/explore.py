"""The crash explorer: cut the power at every point of a workload, and check the promise after each.

The promise of every store: what was acknowledged is durable, what was in flight is there completely
or not at all, and nothing else changes. A `Workload` says how to work and how to check that; this
module records the work once, visits the states that a power cut may leave, and collects what does
not hold. Everything is determined by the workload and the seed, so a violation can be replayed.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ipva_storage.device import MemoryDevice, TraceDevice
from ipva_storage.errors import IpvaError
from ipva_storage.sim.crash import CrashPoint, CrashState, crash_points, crash_states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ipva_storage.device import BlockDevice, TraceRecord

VIOLATIONS_MAX: Final = 20
"""After so many an exploration stops: more of them say nothing new. Confidence: chosen."""


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of work; when `run` returns it is acknowledged."""

    name: str
    run: Callable[[BlockDevice], None]


class Workload(Protocol):
    """Work on a store, and the check of its promise. Deterministic: the same bytes every time."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def size_bytes(self) -> int:
        """Length of the device it wants, in bytes."""

    def prepare(self, device: BlockDevice) -> None:
        """Make the store and what is in it beforehand; no power cut happens here."""

    def steps(self) -> Sequence[Step]:
        """The work, fresh for each recording; steps may share an opened store."""

    def verify(self, device: BlockDevice, acknowledged_step_count: int) -> list[str]:
        """What does not hold in a state in which so many steps had been acknowledged.

        The next step may have been in flight. It may write: recovery is part of the check.
        An `IpvaError` that it lets out is a violation as well.
        """


@dataclass(frozen=True, slots=True)
class Recording:
    """A workload, worked through once."""

    base: bytes
    """The device after `prepare`."""
    records: Sequence[TraceRecord]
    marks: Sequence[int]
    """How many records there were when each step was acknowledged."""
    step_names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise broken in one state; `replay` finds it again."""

    workload_name: str
    point: CrashPoint
    acknowledged_step_count: int
    step_name: str | None
    """The step in flight; None after the last."""
    problems: tuple[str, ...]

    def __str__(self) -> str:
        when = "after the last step" if self.step_name is None else f"during “{self.step_name}”"
        problems = "; ".join(self.problems)
        return f"{self.workload_name}, {when}, cut at {self.point}: {problems}"


@dataclass(frozen=True, slots=True)
class Exploration:
    """What an exploration found."""

    workload_name: str
    states: int
    """Different states that were checked."""
    points: int
    """Points of the recording that were visited; several may leave the same state."""
    points_total: int
    """Points there are; more than visited when a limit sampled them."""
    violations: tuple[Violation, ...]
    seconds: float


def record(workload: Workload) -> Recording:
    """Work a workload through once on a device in memory, and keep what it wrote."""
    memory = MemoryDevice(workload.size_bytes, name=workload.name)
    workload.prepare(memory)
    base = bytes(memory.data)
    trace = TraceDevice(memory, keep_data=True)
    marks: list[int] = []
    steps = workload.steps()
    for step in steps:
        step.run(trace)
        marks.append(len(trace.records))
    return Recording(base, trace.records, marks, [step.name for step in steps])


def explore(
    workload: Workload,
    *,
    seed: int = 0,
    limit: int | None = None,
    torn: bool = True,
    reordered: bool = True,
) -> Exploration:
    """Check a workload's promise after a power cut at every point of it.

    Args:
        workload: what to work through.
        seed: chooses what is sampled.
        limit: visit at most so many points, chosen by the seed; None visits all.
        torn: also tear the write in flight.
        reordered: also leave out writes that no barrier made durable.

    Raises:
        Exception: what `verify` lets out, other than an `IpvaError`: a mistake in the code. A note
            on it names the point.
    """
    started = time.perf_counter()
    recording = record(workload)
    every = list(crash_points(recording.records, torn=torn, reordered=reordered, seed=seed))
    points = every if limit is None or limit >= len(every) else _sample(every, limit, seed)
    violations: list[Violation] = []
    states = 0
    for state in crash_states(
        recording.base, recording.records, points=points, marks=recording.marks
    ):
        states += 1
        violations.extend(_violation(workload, recording, state))
        if len(violations) >= VIOLATIONS_MAX:
            break
    return Exploration(
        workload.name,
        states,
        len(points),
        len(every),
        tuple(violations),
        time.perf_counter() - started,
    )


def replay(workload: Workload, point: CrashPoint) -> Violation | None:
    """Check one state of a workload again."""
    recording = record(workload)
    for state in crash_states(
        recording.base, recording.records, points=[point], marks=recording.marks
    ):
        for violation in _violation(workload, recording, state):
            return violation
    return None


def _sample(points: Sequence[CrashPoint], limit: int, seed: int) -> list[CrashPoint]:
    chosen = random.Random(seed).sample(range(len(points)), limit)
    return [points[index] for index in sorted(chosen)]


def _violation(workload: Workload, recording: Recording, state: CrashState) -> Iterator[Violation]:
    count = state.passed_marks
    try:
        problems = tuple(workload.verify(state.device, count))
    except IpvaError as error:
        problems = (f"{type(error).__name__}: {error}",)
    except BaseException as error:
        error.add_note(f"in the state after a power cut at {state.point} of {workload.name}")
        raise
    if problems:
        names = recording.step_names
        in_flight = names[count] if count < len(names) else None
        yield Violation(workload.name, state.point, count, in_flight, problems)
