"""Mistakes in the order of a repair, of its journal or of an undo, put in on purpose, are found."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator

import pytest

from ipva_storage.device.base import FileDevice
from ipva_storage.device.undo import JournalReader, UndoDevice, UndoFolder
from ipva_storage.device.undo.records import State
from ipva_storage.sim import files as files_module
from ipva_storage.sim.jobs import Job, job_states
from ipva_storage.testing.vmdk_repair import GuardedJob, RepairJob, UndoJob
from ipva_storage.testing.vmdk_small import parent_and_child, shrink_geometry
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.extent.header import SparseHeader, build_header
from ipva_storage.vmdk.extent.pack import MARKER, MARKER_END_OF_STREAM, MARKER_FOOTER
from ipva_storage.vmdk.repairing import draft as draft_module
from ipva_storage.vmdk.repairing import stream as stream_module
from ipva_storage.vmdk.repairing.draft import Draft, Step, Write
from tests.crash.test_vmdk_mistakes import a_violation
from tests.crash.test_vmdk_repair import (
    CHILD,
    GUARDED,
    SPARSE,
    SPLIT_CHILD,
    STREAM,
    damaged,
    sparse_job,
    split_child_job,
    stream_files,
)

Patch = pytest.MonkeyPatch
Make = Callable[[], Job]
image_module = importlib.import_module("ipva_storage.vmdk.repairing.image")


@pytest.fixture(autouse=True)
def _small(monkeypatch: Patch) -> None:
    shrink_geometry(monkeypatch)


def sparse(kind: str) -> Make:
    """A damaged sparse disk."""
    return lambda: sparse_job(SPARSE[kind])


def stream(kind: str) -> Make:
    """A damaged stream-optimized one."""
    return lambda: RepairJob("repair", damaged(stream_files(), STREAM[kind]))


def child(kind: str) -> Make:
    """A damaged snapshot's child."""

    def make() -> Job:
        files = damaged(parent_and_child("monolithicSparse"), CHILD[kind], "child.vmdk")
        return RepairJob("repair", files, "child.vmdk", accept_parent=True)

    return make


def guarded(kind: str) -> Make:
    """A job with a journal."""
    return lambda: GuardedJob(GUARDED[kind]())


def undo(kind: str) -> Make:
    """The way back from one."""

    def make() -> Job:
        job = GuardedJob(GUARDED[kind]())
        *_, last = job_states(job)
        return UndoJob(job, last.files)

    return make


# -- the mistakes -------------------------------------------------------------------------------


def _no_barrier(monkeypatch: Patch) -> None:
    """Nothing is ever flushed."""
    monkeypatch.setattr(files_module._Handle, "flush", lambda _: None)


def _header_first(monkeypatch: Patch) -> None:
    """The header counts before what it names is mended."""
    commit = Draft.commit

    def early(draft: Draft) -> None:
        draft.steps.sort(key=lambda step: all(each.offset_bytes for each in step.writes))
        commit(draft)

    monkeypatch.setattr(Draft, "commit", early)


def _in_one_step(monkeypatch: Patch) -> None:
    """All that a repair writes to a file becomes durable together."""
    commit = Draft.commit

    def together(draft: Draft) -> None:
        names = dict.fromkeys(step.name for step in draft.steps)
        writes = [
            Step(name, [each for step in draft.steps if step.name == name for each in step.writes])
            for name in names
        ]
        draft.steps = [*(step for step in draft.steps if step.content is not None), *writes]
        commit(draft)

    monkeypatch.setattr(Draft, "commit", together)


def _text_in_place(monkeypatch: Patch) -> None:
    """A descriptor is written over the old one, and not put in its place."""

    def commit(draft: Draft) -> None:
        for step in draft.steps:
            if step.content is not None and draft._folder.has(step.name):
                step.writes = [Write(len(step.content)), Write(0, step.content)]
            with draft._folder.open(step.name, writable=True) as device:
                draft_module._apply(step, device)

    monkeypatch.setattr(Draft, "commit", commit)


def _text_without_a_copy(monkeypatch: Patch) -> None:
    """An embedded descriptor of several sectors is written over the old one."""

    def put(
        draft: Draft, name: str, header: SparseHeader, data: bytes, length_bytes: int = 79
    ) -> None:
        at, room = (
            sectors * SECTOR_BYTES
            for sectors in (header.descriptor_offset_sectors, header.descriptor_sectors)
        )
        draft.write(draft.step(name), at, data.ljust(room, b"\0"))

    monkeypatch.setattr(image_module, "_put_text", put)


def _write_tail_at_once(
    mending: stream_module._Mending, start: int, data: bytes, footer: SparseHeader
) -> None:
    ending = MARKER.pack(1, 0, MARKER_FOOTER) + build_header(footer)
    whole = data + ending + MARKER.pack(0, 0, MARKER_END_OF_STREAM)
    step = mending._draft.step(mending._name)
    mending._draft.write(step, start, whole)
    mending._draft.resize(step, start + len(whole))


def _footer_with_tables(monkeypatch: Patch) -> None:
    """The footer of a stream may be there before the tables that it leads to."""
    monkeypatch.setattr(stream_module._Mending, "_write_tail", _write_tail_at_once)


def _old_footer_stays(monkeypatch: Patch) -> None:
    """The old footer leads to a directory that is overwritten with a table."""
    monkeypatch.setattr(stream_module._Mending, "_footer_sectors", lambda _: [])


def _tables_before_markers(monkeypatch: Patch) -> None:
    """The tables are made from what was found before the markers were mended."""

    def survey(mending: stream_module._Mending) -> None:
        mending.survey()
        mending.markers()

    monkeypatch.setattr(stream_module._Mending, "survey_all", survey)


def _save_after(monkeypatch: Patch) -> None:
    """What a write overwrites is saved afterwards."""

    def write(device: UndoDevice, offset_bytes: int, data: bytes) -> None:
        length = len(memoryview(data))
        device._device.write(offset_bytes, data)
        device._save([(offset_bytes, offset_bytes + length)])

    monkeypatch.setattr(UndoDevice, "write", write)
    monkeypatch.setattr(UndoDevice, "expect", lambda *_: None)


def _cut_off_unsaved(monkeypatch: Patch) -> None:
    """What a change of length cuts off is not saved."""
    monkeypatch.setattr(
        UndoDevice, "resize", lambda device, size_bytes: device._device.resize(size_bytes)
    )


def _replace_unsaved(monkeypatch: Patch) -> None:
    """A file that is replaced as a whole is not saved."""

    @contextlib.contextmanager
    def new_file(folder: UndoFolder, name: str, *, force: bool = False) -> Iterator[FileDevice]:
        with folder._folder.new_file(name, force=force) as file:
            yield file

    monkeypatch.setattr(UndoFolder, "new_file", new_file)


def _remove_unsaved(monkeypatch: Patch) -> None:
    """A file that is removed is not saved."""
    monkeypatch.setattr(UndoFolder, "remove", lambda folder, name: folder._folder.remove(name))


def _save_after_removal(monkeypatch: Patch) -> None:
    """A file that is removed is saved when it is gone already."""

    def remove(folder: UndoFolder, name: str) -> None:
        with folder._folder.open(name) as old:
            folder._folder.remove(name)
            UndoDevice(old, folder._journal).expect([(0, old.size_bytes)])

    monkeypatch.setattr(UndoFolder, "remove", remove)


def _done_before_written(monkeypatch: Patch) -> None:
    """The journal says “taken back” before that is durable in the images."""
    set_state = JournalReader.set_state

    def early(reader: JournalReader, state: State, time_us: int) -> None:
        set_state(reader, State.RESTORED if state is State.RESTORING else state, time_us)

    monkeypatch.setattr(JournalReader, "set_state", early)


def _not_told_that_it_began(monkeypatch: Patch) -> None:
    """The journal does not say that a restore began, so that one that was cut is refused."""
    set_state = JournalReader.set_state

    def silent(reader: JournalReader, state: State, time_us: int) -> None:
        if state is not State.RESTORING:
            set_state(reader, state, time_us)

    monkeypatch.setattr(JournalReader, "set_state", silent)


MISTAKES: list[tuple[Callable[[Patch], None], str, Make]] = [
    (_no_barrier, "stream", stream("half")),
    (_no_barrier, "journal", guarded("repair")),
    (_header_first, "magic and tables", sparse("magic-gts")),
    (_in_one_step, "sparse", sparse("magic-gts")),
    (_in_one_step, "stream", stream("half")),
    (_text_in_place, "child", lambda: split_child_job(SPLIT_CHILD["no-kind"])),
    (_text_without_a_copy, "child", child("long-430-no-kind")),
    (_footer_with_tables, "half", stream("half")),
    (_old_footer_stays, "table lost", stream("table-lost")),
    (_tables_before_markers, "renamed", stream("renamed")),
    (_save_after, "repair", guarded("repair")),
    (_save_after, "compact", guarded("compact")),
    (_cut_off_unsaved, "stream", guarded("shrink-flat")),
    (_replace_unsaved, "descriptor", guarded("repair-text")),
    (_replace_unsaved, "resize", guarded("anew")),
    (_remove_unsaved, "resize", guarded("shrink-split")),
    (_save_after_removal, "commit", guarded("commit-and-remove")),
    (_done_before_written, "repair", undo("repair")),
    (_not_told_that_it_began, "resize", undo("shrink-split")),
]


@pytest.mark.parametrize(
    ("mistake", "make"),
    [
        pytest.param(mistake, make, id=f"{mistake.__name__.strip('_')}-{name}")
        for mistake, name, make in MISTAKES
    ],
)
def test_mistake_is_found(mistake: Callable[[Patch], None], make: Make, monkeypatch: Patch) -> None:
    """With a mistake in the order of writing a cut leaves a state that breaks the promise.

    The same job without one holds it, so that it is the mistake that is found.
    """
    job = make()
    if isinstance(job, RepairJob):
        assert job.mended
        assert job.after is not None
    states = [state.files for state in job_states(job)]
    assert states
    assert a_violation(make()) == []
    mistake(monkeypatch)
    assert a_violation(job)
