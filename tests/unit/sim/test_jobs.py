"""States of several files, against a slow model; and jobs with mistakes that are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipva_storage.device import Folder, Operation, TraceRecord, read
from ipva_storage.errors import UsageError
from ipva_storage.sim.crash import CrashPoint, Cut
from ipva_storage.sim.files import Change, FileChange, FolderFlush, MemoryFolder, NameChange
from ipva_storage.sim.jobs import FileState, explore_job, file_points, file_states

BASE = {"a": b"A" * 1500, "b": b"B" * 700}
WRITE, DISCARD, FLUSH, RESIZE = (
    Operation.WRITE,
    Operation.DISCARD,
    Operation.FLUSH,
    Operation.RESIZE,
)

_records = st.one_of(
    st.builds(
        lambda at, data: TraceRecord(WRITE, at, len(data), data),
        st.integers(0, 600),
        st.integers(1, 255).flatmap(
            lambda value: st.integers(0, 1300).map(lambda length: bytes([value]) * length)
        ),
    ),
    st.builds(lambda at, length: TraceRecord(DISCARD, at, length), *[st.integers(0, 500)] * 2),
    st.just(TraceRecord(FLUSH, 0, 0)),
    st.builds(lambda size: TraceRecord(RESIZE, size, 0), st.integers(0, 2000)),
)
_changes = st.one_of(
    st.builds(FileChange, st.integers(0, 2), _records),
    st.builds(NameChange, st.dictionaries(st.sampled_from("abc"), st.integers(0, 2), min_size=1)),
    st.just(FolderFlush()),
)


def _is_durable(changes: Sequence[Change], index: int, position: int) -> bool:
    one, later = changes[index], changes[index + 1 : position]
    if isinstance(one, NameChange):
        return any(isinstance(change, FolderFlush) for change in later)
    if isinstance(one, FolderFlush) or one.record.operation is FLUSH:
        return True
    return any(
        (change.file, change.record.operation) == (one.file, FLUSH)
        for change in later
        if isinstance(change, FileChange)
    )


def _land(data: bytearray, record: TraceRecord, start: int, stop: int | None) -> None:
    if record.operation is RESIZE:
        size_bytes = record.offset_bytes
        data[:] = data[:size_bytes] + bytes(max(0, size_bytes - len(data)))
    elif record.operation is not FLUSH:
        content = (record.data or bytes(record.length_bytes))[start:stop]
        for at, byte in enumerate(content, record.offset_bytes + start):
            if at < len(data):
                data[at] = byte


def _model(changes: Sequence[Change], point: CrashPoint) -> dict[str, bytes]:
    """The files at a point, the slow way."""
    landed = list(range(point.position))
    if point.cut is Cut.SUBSET:
        loose = [at for at in landed if not _is_durable(changes, at, point.position)]
        missing = [at for bit, at in enumerate(reversed(loose)) if point.detail >> bit & 1]
        landed = [at for at in landed if at not in missing]
    contents = {0: bytearray(BASE["a"]), 1: bytearray(BASE["b"]), 2: bytearray()}
    names: Mapping[str, int] = {"a": 0, "b": 1}
    for at in landed:
        change = changes[at]
        if isinstance(change, NameChange):
            names = change.names
        elif isinstance(change, FileChange):
            _land(contents[change.file], change.record, 0, None)
    if point.cut in (Cut.HEAD, Cut.TAIL):
        change = changes[point.position]
        assert isinstance(change, FileChange)
        part = (0, point.detail) if point.cut is Cut.HEAD else (point.detail, None)
        _land(contents[change.file], change.record, *part)
    return {name: bytes(contents[number]) for name, number in names.items()}


@given(st.lists(_changes, max_size=9))
def test_states_are_the_model(changes: list[Change]) -> None:
    """Every state is what the model makes of its point; each different one comes once."""
    points = [each for each in file_points(changes) if each.cut is not Cut.SCATTERED]
    expected = {
        (tuple(sorted(_model(changes, each).items())), each.position == len(changes))
        for each in points
    }
    seen = []
    for state in file_states(BASE, changes, points):
        assert state.files == _model(changes, state.point)
        seen.append((tuple(sorted(state.files.items())), state.is_done))
    assert len(seen) == len(set(seen))
    assert set(seen) == expected


@given(st.lists(_changes, max_size=9))
def test_every_subset_of_a_few_changes(changes: list[Change]) -> None:
    """Of a few changes that are not durable each subset is visited that keeps names in order."""
    position = len(changes)
    loose = [at for at in range(position) if not _is_durable(changes, at, position)]
    if len(loose) > 6:
        return
    masks = {
        each.detail
        for each in file_points(changes)
        if each.cut is Cut.SUBSET and each.position == position
    }
    for mask in range(1, 1 << len(loose)):
        missing = [at for bit, at in enumerate(reversed(loose)) if mask >> bit & 1]
        named = [at in missing for at in loose if isinstance(changes[at], NameChange)]
        assert (mask in masks) == (named == sorted(named))


@given(st.lists(_changes, max_size=9))
def test_scattered_sectors_are_old_or_new(changes: list[Change]) -> None:
    """By chance, what is not durable is there in part; what is durable always is."""
    points = [each for each in file_points(changes) if each.cut is Cut.SCATTERED]
    for state in file_states(BASE, changes, points):
        assert all(set(content) <= set(range(256)) for content in state.files.values())
        again = next(file_states(BASE, changes, [state.point]))
        assert again.files == state.files


def _write(file: int, offset_bytes: int, data: bytes) -> FileChange:
    return FileChange(file, TraceRecord(WRITE, offset_bytes, len(data), data))


def test_flush_is_of_one_file() -> None:
    """A flush makes one file durable; what was written to another before may still be missing."""
    flush = FileChange(0, TraceRecord(FLUSH, 0, 0))
    changes = [_write(0, 0, b"x"), _write(1, 0, b"y"), flush]
    found = {
        (state.files["a"][:1], state.files["b"][:1])
        for state in file_states(BASE, changes, file_points(changes))
        if state.is_done
    }
    assert found == {(b"x", b"B"), (b"x", b"y")}


def test_bytes_behind_the_end_are_gone() -> None:
    """What was written to a longer file is not there when the length is not."""
    longer = FileChange(1, TraceRecord(RESIZE, 900, 0))
    changes = [longer, _write(1, 650, b"y" * 100)]
    sizes = {
        state.point.detail: state.files["b"]
        for state in file_states(BASE, changes, file_points(changes))
        if state.point.cut is Cut.SUBSET and state.is_done
    }
    assert sizes[0b10] == b"B" * 650 + b"y" * 50


@pytest.mark.parametrize(
    "text", ["5:whole:0", "0:subset:1", "2:subset:8", "1:head:1", "2:tail:1", "2:missing:0"]
)
def test_point_of_another_recording(text: str) -> None:
    """A point that this recording does not have is refused."""
    changes: list[Change] = [_write(0, 0, b"x"), NameChange({"a": 0})]
    with pytest.raises(UsageError):
        list(file_states(BASE, changes, [CrashPoint.parse(text)]))


# -- jobs ---------------------------------------------------------------------------------------


@dataclass
class Move:
    """Gives the content of `a` another name and form, and takes `a` away; one of both is whole."""

    work: Callable[[Folder], None]
    name: str = "move"
    files: Mapping[str, bytes] = field(default_factory=lambda: BASE)

    def run(self, folder: Folder) -> None:
        self.work(folder)

    def verify(self, state: FileState) -> list[str]:
        there = [
            state.files.get("a") == BASE["a"] and not state.is_done,
            state.files.get("c") == BASE["a"].lower(),
        ]
        state.folder().replace("a", b"what a check writes is not there in the next state")
        return [] if any(there) else ["neither is whole"]


def _rightly(folder: Folder) -> None:
    folder.replace("c", BASE["a"].lower())
    folder.remove("a")


def _remove_first(folder: Folder) -> None:
    folder.remove("a")
    folder.replace("c", BASE["a"].lower())


def _without_flush(folder: Folder) -> None:
    folder.replace("c", bytes(1500))
    with folder.open("c", writable=True) as file:
        file.write(0, BASE["a"].lower())
    folder.remove("a")


def _flush_of_another(folder: Folder) -> None:
    folder.replace("c", bytes(1500))
    with folder.open("c", writable=True) as file, folder.open("b", writable=True) as other:
        file.write(0, BASE["a"].lower())
        other.flush()
    folder.remove("a")


def _without_names(folder: Folder) -> None:
    _rightly(folder)
    assert isinstance(folder, MemoryFolder)
    folder.changes[:] = [c for c in folder.changes if not isinstance(c, FolderFlush)]


def _in_place(folder: Folder) -> None:
    folder.replace("c", b"")
    with folder.open("a", writable=True) as file:
        file.write(0, read(file, 0, file.size_bytes).lower())
        file.flush()
    with folder.open("c", writable=True) as file:
        file.resize(1500)
        file.write(0, BASE["a"].lower())
        file.flush()
    folder.remove("a")


def test_right_job_has_no_violation() -> None:
    """A job that keeps its promise has no violation, in every state there is."""
    found = explore_job(Move(_rightly))
    assert found.violations == ()
    assert found.points == found.points_total
    assert 8 < found.states <= found.points


@pytest.mark.parametrize(
    "work", [_remove_first, _without_flush, _flush_of_another, _without_names, _in_place]
)
def test_mistake_is_found(work: Callable[[Folder], None]) -> None:
    """Each mistake is found, and what is told names the job and the point."""
    found = explore_job(Move(work))
    assert found.violations
    assert f"cut at {found.violations[0].point}" in str(found.violations[0])


def test_limit_samples_by_seed() -> None:
    """A limit visits that many points; the seed says which, and the same ones each time."""
    runs = [explore_job(Move(_in_place), limit=9, seed=seed) for seed in (1, 1, 2)]
    assert all(run.points == 9 < run.points_total for run in runs)
    assert runs[0].violations == runs[1].violations


def test_crash_of_the_check_names_the_point() -> None:
    """A mistake in the code comes out whole, with the point it happened at."""

    class Failing(Move):
        def verify(self, state: FileState) -> list[str]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        explore_job(Failing(_rightly))
    assert caught.value.__notes__ == ["in the state after a power cut at 0:whole:0 of move"]
