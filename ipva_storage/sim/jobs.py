"""Power cuts during a job on several files: the states that they leave, and the promise in each.

`files` says what is assumed of the host. Visited of that, at every change of the recording:

- All that was issued has landed; or also the first or the last sectors of the next write.
- Of what is not durable, every part that may be missing where that is little (`SUBSETS_OF`);
  else each of the latest changes, all but the newest, all of one file, and all names from one on.
- By chance, each sector of each change that is not durable by itself.

A state is a mapping of names to contents, made anew from what was durable; states are small.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Protocol

from ipva_storage.device import Operation
from ipva_storage.errors import IpvaError, UsageError
from ipva_storage.sim.crash import MISSING_MAX, CrashPoint, Cut, tears
from ipva_storage.sim.explore import VIOLATIONS_MAX, Exploration, Violation
from ipva_storage.sim.files import FileChange, FolderFlush, MemoryFolder, NameChange
from ipva_storage.units import SECTOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ipva_storage.device import Folder, TraceRecord
    from ipva_storage.sim.files import Change

SUBSETS_OF: Final = 6
"""Up to so many changes that are not durable, every subset of them is visited. Confidence: chosen.
"""

SCATTERED: Final = 2
"""Draws by chance at each change. Confidence: chosen."""


class Job(Protocol):
    """Work on files, done once, with the check of its promise."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def files(self) -> Mapping[str, bytes]:
        """What is in the folder before."""

    def run(self, folder: Folder) -> None:
        """Do it; when this returns it is acknowledged."""

    def verify(self, state: FileState) -> list[str]:
        """What does not hold in a state. An `IpvaError` that it lets out is a violation as well."""


@dataclass(frozen=True, slots=True)
class FileState:
    """What a power cut left."""

    point: CrashPoint
    files: Mapping[str, bytes]
    is_done: bool
    """Whether the job had been acknowledged."""

    def folder(self) -> MemoryFolder:
        """A folder with copies of the files."""
        return MemoryFolder(self.files)


def explore_job(
    job: Job,
    *,
    seed: int = 0,
    limit: int | None = None,
    torn: bool = True,
    reordered: bool = True,
) -> Exploration:
    """Check a job's promise after a power cut at every point of it.

    Args:
        job: what to do.
        seed: chooses what is sampled.
        limit: visit at most so many points, chosen by the seed; None visits all.
        torn: also tear the write in flight.
        reordered: also leave out what no flush made durable.

    Raises:
        Exception: what `verify` lets out, other than an `IpvaError`: a mistake in the code. A note
            on it names the point.
    """
    started = time.perf_counter()
    folder = MemoryFolder(job.files)
    job.run(folder)
    every = list(file_points(folder.changes, torn=torn, reordered=reordered, seed=seed))
    points = every
    if limit is not None and limit < len(every):
        chosen = random.Random(seed).sample(range(len(every)), limit)
        points = [every[index] for index in sorted(chosen)]
    violations: list[Violation] = []
    states = 0
    for state in file_states(job.files, folder.changes, points):
        states += 1
        violations.extend(_violation(job, state))
        if len(violations) >= VIOLATIONS_MAX:
            break
    seconds = time.perf_counter() - started
    return Exploration(job.name, states, len(points), len(every), tuple(violations), seconds)


def job_states(job: Job) -> Iterator[FileState]:
    """Visit every state that a power cut during a job may leave, without checking anything."""
    folder = MemoryFolder(job.files)
    job.run(folder)
    return file_states(job.files, folder.changes, file_points(folder.changes))


def _violation(job: Job, state: FileState) -> Iterator[Violation]:
    try:
        problems = tuple(job.verify(state))
    except IpvaError as error:
        problems = (f"{type(error).__name__}: {error}",)
    except BaseException as error:
        error.add_note(f"in the state after a power cut at {state.point} of {job.name}")
        raise
    if problems:
        step_name = None if state.is_done else job.name
        yield Violation(job.name, state.point, int(state.is_done), step_name, problems)


def file_points(
    changes: Sequence[Change],
    *,
    torn: bool = True,
    reordered: bool = True,
    seed: int = 0,
) -> Iterator[CrashPoint]:
    """Every point of a recording at which the power may go, in order.

    Args:
        changes: what a `MemoryFolder` remembers.
        torn: also tear the write in flight.
        reordered: also leave out what no flush made durable.
        seed: chooses what is sampled.
    """
    loose: list[int] = []
    for position in range(len(changes) + 1):
        is_last = position == len(changes)
        yield CrashPoint(position)
        if reordered and loose:
            for missing in _subsets(changes, loose, all_of_them=is_last):
                yield CrashPoint(position, Cut.SUBSET, missing)
            for draw in range(SCATTERED):
                yield CrashPoint(position, Cut.SCATTERED, SCATTERED * seed + draw)
        if is_last:
            return
        record = _write_of(changes[position])
        if torn and record is not None:
            for at in tears(record, SECTOR_BYTES, random.Random(f"{seed}:{position}")):
                yield CrashPoint(position, Cut.HEAD, at)
                yield CrashPoint(position, Cut.TAIL, at)
        loose = _still_loose(changes, loose, position)


def file_states(
    files: Mapping[str, bytes], changes: Sequence[Change], points: Iterable[CrashPoint]
) -> Iterator[FileState]:
    """Visit the states at some points, each content once before the end and once after.

    Args:
        files: what was there before the recording.
        changes: what a `MemoryFolder` with these files remembers.
        points: in order of position.

    Raises:
        UsageError: a point is none of this recording.
    """
    walk = _Walk(files, changes)
    seen: set[tuple[bytes, bool]] = set()
    for point in points:
        found, is_done = walk.state(point), point.position == len(changes)
        key = (_digest(found), is_done)
        if key not in seen:
            seen.add(key)
            yield FileState(point, found, is_done)


class _Walk:
    """What is durable of a recording, and what is not, led along it."""

    def __init__(self, files: Mapping[str, bytes], changes: Sequence[Change]) -> None:
        start = sorted(files.items())
        self._changes = changes
        self._position = 0
        self._names: Mapping[str, int] = {name: at for at, (name, _) in enumerate(start)}
        self._contents = {at: bytearray(content) for at, (_, content) in enumerate(start)}
        self._loose: list[int] = []

    def state(self, point: CrashPoint) -> dict[str, bytes]:
        """The files at a point."""
        if not self._position <= point.position <= len(self._changes):
            raise UsageError(f"there is no crash point {point} here")
        while self._position < point.position:
            self._step()
        match point.cut:
            case Cut.SUBSET:
                return self._with(dict.fromkeys(_without(self._loose, point.detail)))
            case Cut.SCATTERED:
                return self._with(self._scatter(random.Random(str(point))))
        landed: dict[int, Sequence[range] | None] = dict.fromkeys(self._loose)
        if point.cut is Cut.WHOLE:
            return self._with(landed)
        return self._with({**landed, point.position: self._torn(point)})

    def _step(self) -> None:
        loose = _still_loose(self._changes, self._loose, self._position)
        for index in self._loose:
            if index not in loose:
                self._names = self._land(index, None, self._contents, self._names)
        self._loose = loose
        self._position += 1

    def _with(self, landed: Mapping[int, Sequence[range] | None]) -> dict[str, bytes]:
        """What is durable, with some more changes; of those with ranges only these bytes."""
        contents: dict[int, bytearray] = {}
        for index in landed:
            number = _file_of(self._changes[index])
            if number is not None:
                contents[number] = bytearray(self._contents.get(number, b""))
        names = self._names
        for index, parts in sorted(landed.items()):
            names = self._land(index, parts, contents, names)
        durable = self._contents
        return {
            name: bytes(contents.get(number, durable.get(number, b"")))
            for name, number in names.items()
        }

    def _land(
        self,
        index: int,
        parts: Sequence[range] | None,
        contents: dict[int, bytearray],
        names: Mapping[str, int],
    ) -> Mapping[str, int]:
        """Let a change take place in `contents`; the names after it."""
        change = self._changes[index]
        if isinstance(change, NameChange):
            return change.names
        if isinstance(change, FileChange):
            _apply(contents.setdefault(change.file, bytearray()), change.record, parts)
        return names

    def _torn(self, point: CrashPoint) -> list[range]:
        at_end = point.position == len(self._changes)
        record = None if at_end else _write_of(self._changes[point.position])
        if record is None or point.cut not in (Cut.HEAD, Cut.TAIL):
            raise UsageError(f"there is no crash point {point} here")
        if point.cut is Cut.HEAD:
            return [range(point.detail)]
        return [range(point.detail, record.length_bytes)]

    def _scatter(self, choice: random.Random) -> dict[int, Sequence[range] | None]:
        """Each sector lands or does not; names land up to one."""
        share = choice.choice((0.2, 0.5, 0.8))
        landed: dict[int, Sequence[range] | None] = {}
        is_named = True
        for index in self._loose:
            change = self._changes[index]
            is_there = choice.random() < share
            if isinstance(change, NameChange):
                is_named = is_named and is_there
                is_there = is_named
            record = _write_of(change)
            if record is not None:
                landed[index] = [part for part in _sectors(record) if choice.random() < share]
            elif is_there:
                landed[index] = None
        return landed


def _still_loose(changes: Sequence[Change], loose: list[int], position: int) -> list[int]:
    """What is not durable after one more change."""
    change = changes[position]
    if isinstance(change, FolderFlush):
        return [index for index in loose if not isinstance(changes[index], NameChange)]
    if isinstance(change, FileChange) and change.record.operation is Operation.FLUSH:
        return [index for index in loose if _file_of(changes[index]) != change.file]
    return [*loose, position]


def _subsets(changes: Sequence[Change], loose: list[int], *, all_of_them: bool) -> Iterator[int]:
    """What may be missing: bits, counted back from the newest change.

    Where the newest is missing the state is one of those before it, unless its order counts.
    """
    count = len(loose)
    if count <= SUBSETS_OF:
        masks: Iterable[int] = range(1, 1 << count)
    else:
        kinds = [_file_of(changes[index]) for index in reversed(loose)]
        whole = [sum(1 << at for at, each in enumerate(kinds) if each == kind) for kind in kinds]
        each = [1 << at for at in range(min(count, MISSING_MAX + 1))]
        named = [
            sum(1 << later for later in range(at + 1) if kinds[later] is None)
            for at in range(count)
            if kinds[at] is None
        ]
        masks = sorted({*whole, *each, *named, (1 << count) - 2, (1 << count) - 1})
    for missing in masks:
        if (all_of_them or not missing & 1) and _is_in_order(changes, loose, missing):
            yield missing


def _is_in_order(changes: Sequence[Change], loose: list[int], missing: int) -> bool:
    """Whether no change of names is missing that a later one, which landed, followed."""
    is_missing = [
        bool(missing >> at & 1)
        for at, index in enumerate(reversed(loose))
        if _file_of(changes[index]) is None
    ]
    return is_missing == sorted(is_missing, reverse=True)


def _without(loose: list[int], missing: int) -> list[int]:
    if missing >> len(loose):
        raise UsageError(f"{len(loose)} changes are not durable there; {missing:b} are too many")
    return [index for at, index in enumerate(reversed(loose)) if not missing >> at & 1]


def _file_of(change: Change) -> int | None:
    """The number of a file; None for what changes names."""
    return change.file if isinstance(change, FileChange) else None


def _write_of(change: Change) -> TraceRecord | None:
    """The record of a write or discard, which may be torn."""
    if isinstance(change, FileChange) and change.record.operation in (
        Operation.WRITE,
        Operation.DISCARD,
    ):
        return change.record
    return None


def _sectors(record: TraceRecord) -> Iterator[range]:
    """The sectors that a write touches, as ranges within it."""
    at = 0
    while at < record.length_bytes:
        stop = at + SECTOR_BYTES - (record.offset_bytes + at) % SECTOR_BYTES
        yield range(at, min(stop, record.length_bytes))
        at = stop


def _apply(content: bytearray, record: TraceRecord, parts: Sequence[range] | None) -> None:
    """Let a record of a file take place; what lies behind the file's end is gone."""
    if record.operation is Operation.RESIZE:
        size_bytes = record.offset_bytes
        content[size_bytes:] = bytes(max(0, size_bytes - len(content)))
        return
    data = record.data if record.data is not None else bytes(record.length_bytes)
    for part in (range(len(data)),) if parts is None else parts:
        start, stop = record.offset_bytes + part.start, record.offset_bytes + part.stop
        stop = min(stop, len(content))
        if start < stop:
            content[start:stop] = data[part.start : part.start + stop - start]


def _digest(files: Mapping[str, bytes]) -> bytes:
    found = blake2b(digest_size=16)
    for name, content in sorted(files.items()):
        found.update(f"{len(name)}:{name}:{len(content)}:".encode())
        found.update(content)
    return found.digest()
