"""Mistakes in the order of a resize, a compaction or a commit, put in on purpose, are found."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from ipva_storage.device import Folder, read
from ipva_storage.errors import IpvaError
from ipva_storage.sim import Cut
from ipva_storage.sim import files as files_module
from ipva_storage.sim.files import MemoryFolder
from ipva_storage.sim.jobs import Job, job_states
from ipva_storage.testing.vmdk_crash import CommitJob, DiskJob, content_of
from ipva_storage.testing.vmdk_small import (
    GRAIN_BYTES,
    chain_of_three,
    commit_job,
    compact_job,
    disk_with_remains,
    full_disk,
    holey_disk,
    parent_and_child,
    resize_job,
    shrink_geometry,
    without,
)
from ipva_storage.vmdk.disk import VmdkDevice
from ipva_storage.vmdk.extent import capacity, slots
from ipva_storage.vmdk.extent.flat import FlatExtent
from ipva_storage.vmdk.extent.header import SparseHeader, build_header
from ipva_storage.vmdk.extent.sparse import SparseExtent
from ipva_storage.vmdk.extent.tables import GrainTables

if TYPE_CHECKING:
    from ipva_storage.vmdk.descriptor import ExtentLine

Patch = pytest.MonkeyPatch
Make = Callable[[], DiskJob | CommitJob]
resize_module = importlib.import_module("ipva_storage.vmdk.resizing")
snapshot_module = importlib.import_module("ipva_storage.vmdk.snapshots")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_geometry(monkeypatch)


def a_violation(job: Job) -> list[str]:
    """What does not hold in a state in which something does not: first whole ones, then late."""
    states = sorted(job_states(job), key=lambda state: -state.point.position)
    for state in sorted(states, key=lambda state: state.point.cut is not Cut.WHOLE):
        try:
            problems = job.verify(state)
        except IpvaError as error:
            problems = [str(error)]
        if problems:
            return problems
    return []


def grow() -> DiskJob | CommitJob:
    """More tables than there is room for."""
    return resize_job(holey_disk("monolithicSparse"), 15 * GRAIN_BYTES)


def shrink_flat() -> DiskJob | CommitJob:
    """Less of a flat file."""
    return resize_job(holey_disk("monolithicFlat"), 6 * GRAIN_BYTES, allow_loss=True)


def grow_flat() -> DiskJob | CommitJob:
    """More of one."""
    return resize_job(holey_disk("monolithicFlat"), 15 * GRAIN_BYTES)


def shrink_split() -> DiskJob | CommitJob:
    """Fewer files."""
    return resize_job(holey_disk("twoGbMaxExtentSparse"), 6 * GRAIN_BYTES, allow_loss=True)


def grow_split() -> DiskJob | CommitJob:
    """More files."""
    return resize_job(holey_disk("twoGbMaxExtentSparse"), 40 * GRAIN_BYTES)


def grow_over_remains() -> DiskJob | CommitJob:
    """More of the last grain, which holds something behind the old end."""
    return resize_job(disk_with_remains(), 10 * GRAIN_BYTES + 2048)


def compact() -> DiskJob | CommitJob:
    """Grains of zeros at the start, and others at the end that move there."""
    return compact_job(without(full_disk(), (0, 1, 2, 3, 9)))


def commit() -> DiskJob | CommitJob:
    """A child over a sparse disk."""
    return commit_job(parent_and_child("monolithicSparse"))


def commit_flat() -> DiskJob | CommitJob:
    """A child over a flat disk."""
    return commit_job(parent_and_child("monolithicFlat"))


def commit_and_remove() -> DiskJob | CommitJob:
    """A child of several files, which goes."""
    return commit_job(parent_and_child("monolithicSparse", is_split=True), removes=True)


def commit_middle() -> DiskJob | CommitJob:
    """The middle of three disks."""
    return commit_job(chain_of_three("monolithicSparse"), child="mid.vmdk", above="top.vmdk")


# -- the mistakes -------------------------------------------------------------------------------


def _no_barrier(monkeypatch: Patch) -> None:
    """Nothing is ever flushed."""
    monkeypatch.setattr(files_module._Handle, "flush", lambda _: None)


def _flush_tables(monkeypatch: Patch, barriers: tuple[bool, bool, bool]) -> None:
    def flush(tables: GrainTables) -> None:
        if barriers[0]:
            tables._raw.flush()
        for directory, barrier in zip(
            (tables._redundant, tables._primary), barriers[1:], strict=True
        ):
            for offset_bytes, data in tables._runs(directory) if directory is not None else ():
                tables._raw.write(offset_bytes, data)
            if barrier:
                tables._raw.flush()
        tables._pending.clear()

    monkeypatch.setattr(GrainTables, "flush", flush)


def _tables_before_data(monkeypatch: Patch) -> None:
    """Entries are written before what they name is durable; each of two barriers would do."""
    _flush_tables(monkeypatch, (False, False, True))


def _tables_not_durable(monkeypatch: Patch) -> None:
    """A change of the tables is over before the second copy of it is durable."""
    _flush_tables(monkeypatch, (True, True, False))


def _header_first(monkeypatch: Patch) -> None:
    """The header counts before the tables that it names are durable."""

    def switch(extent: SparseExtent, new: SparseHeader) -> None:
        extent.raw.write(0, build_header(new))
        extent.raw.flush()
        extent.reload(new)

    monkeypatch.setattr(capacity, "_switch", switch)


def _vacate_nothing(monkeypatch: Patch) -> None:
    """New tables are written where grains lie."""
    monkeypatch.setattr(
        capacity,
        "_vacate",
        lambda extent, end: extent.raw.resize(extent.raw.size_bytes + end * 512),
    )


def _move_in_one_go(monkeypatch: Patch) -> None:
    """A grain counts in its new place before it is durable there."""

    def move(extent: SparseExtent, moves: Sequence[tuple[int, int, int]]) -> None:
        tables = extent.tables
        for grain, sector, target in moves:
            extent.raw.write(target * 512, read(extent.raw, sector * 512, extent.grain_bytes))
            index, at = divmod(grain, extent.header.gtes_per_gt)
            tables.table(index)[at] = target
            tables._pending.add(index)
        for directory in (tables._redundant, tables._primary):
            assert directory is not None
            for offset_bytes, data in tables._runs(directory):
                extent.raw.write(offset_bytes, data)
        tables.flush()

    monkeypatch.setattr(slots, "move", move)


def _reuse_at_once(monkeypatch: Patch) -> None:
    """The places of grains that go are written to while the tables still name them."""
    reassign = GrainTables.reassign

    def later(tables: GrainTables, places: dict[int, int]) -> None:
        if any(places.values()):
            reassign(tables, places)
            return
        for grain in places:
            index, at = divmod(grain, tables._header.gtes_per_gt)
            tables.table(index)[at] = 0
            tables._pending.add(index)

    monkeypatch.setattr(GrainTables, "reassign", later)


def _cut_off_first(monkeypatch: Patch) -> None:
    """The end of the file goes while the tables still name grains there."""

    def close_gaps(extent: SparseExtent, found: slots.Slots) -> None:
        extent.begin()
        moves = found.moves()
        for _, sector, target in moves:
            extent.raw.write(target * 512, read(extent.raw, sector * 512, extent.grain_bytes))
        extent.raw.flush()
        extent.raw.resize(found.packed_end_bytes)
        extent.raw.flush()
        extent.tables.reassign({grain: target for grain, _, target in moves})

    monkeypatch.setattr(slots, "close_gaps", close_gaps)


def _descriptor_first(monkeypatch: Patch) -> None:
    """The descriptor says the new size before the last file has it."""
    put_off: list[ExtentLine] = []
    put = MemoryFolder.replace

    def replace(folder: MemoryFolder, name: str, content: bytes) -> None:
        put(folder, name, content)
        for line in put_off:
            with folder.open(line.file_name or "", writable=True) as file:
                file.resize(line.size_bytes)
                file.flush()
        put_off.clear()

    monkeypatch.setattr(resize_module, "_grow_part", lambda *each: put_off.append(each[2]))
    monkeypatch.setattr(MemoryFolder, "replace", replace)


def _cut_before_descriptor(monkeypatch: Patch) -> None:
    """The last file loses its end while the descriptor still names that."""
    put_off: list[Callable[[], None]] = []
    shrink_part, put = resize_module._shrink_part, MemoryFolder.replace

    def early(folder: Folder, *arguments: Any, **options: Any) -> None:
        shrink_part(folder, *arguments, **options)
        for work in put_off:
            work()
        put_off.clear()

    def replace(folder: MemoryFolder, name: str, content: bytes) -> None:
        put_off.append(lambda: put(folder, name, content))

    monkeypatch.setattr(resize_module, "_shrink_part", early)
    monkeypatch.setattr(MemoryFolder, "replace", replace)


def _parts_after_descriptor(monkeypatch: Patch) -> None:
    """The descriptor names files that are made afterwards."""
    put_off: list[tuple[Folder, ExtentLine]] = []
    new_part, put = resize_module._new_part, MemoryFolder.replace

    def replace(folder: MemoryFolder, name: str, content: bytes) -> None:
        put(folder, name, content)
        for each in put_off:
            new_part(*each)
        put_off.clear()

    monkeypatch.setattr(resize_module, "_new_part", lambda *each: put_off.append(each))
    monkeypatch.setattr(MemoryFolder, "replace", replace)


def _cid_first(monkeypatch: Patch) -> None:
    """The parent has the child's CID before it has its data."""
    write = snapshot_module._write

    def early(child: VmdkDevice, parent: VmdkDevice, *arguments: Any) -> None:
        parent.rewrite(parent.descriptor.with_cid(child.descriptor.cid or 0))
        write(child, parent, *arguments)

    monkeypatch.setattr(snapshot_module, "_write", early)


def _child_first(monkeypatch: Patch) -> None:
    """The child names the content that the parent is to have before it has it."""
    write = snapshot_module._write

    def early(child: VmdkDevice, parent: VmdkDevice, *arguments: Any) -> None:
        cid = child.descriptor.cid or 0
        child.rewrite(child.descriptor.with_value("parentCID", f"{cid:08x}"))
        write(child, parent, *arguments)

    monkeypatch.setattr(snapshot_module, "_write", early)


def _parent_changes_its_cid(monkeypatch: Patch) -> None:
    """Writing to the parent gives it a CID of its own."""
    monkeypatch.setattr(
        VmdkDevice, "keeps_cid", property(lambda _: False, lambda *_: None), raising=False
    )


def _flat_is_not_flushed(monkeypatch: Patch) -> None:
    """A flat parent has the child's CID before its data is durable."""
    monkeypatch.setattr(FlatExtent, "seal", lambda _: None)


def _parent_is_not_accepted(monkeypatch: Patch) -> None:
    """A child that knows its parent by its own CID changes that."""
    monkeypatch.setattr(VmdkDevice, "accept_parent", lambda _: None)


def _descriptor_is_removed_last(monkeypatch: Patch) -> None:
    """The files of a child go before what names them."""
    names: list[str] = []
    remove = MemoryFolder.remove

    def later(folder: MemoryFolder, name: str) -> None:
        names.append(name)
        if name.endswith("s003.vmdk"):
            for each in reversed(names):
                remove(folder, each)
            names.clear()

    monkeypatch.setattr(MemoryFolder, "remove", later)


def _remains_are_not_cleared(monkeypatch: Patch) -> None:
    """What lies behind the end of a disk shows when that moves."""
    monkeypatch.setattr(capacity, "_clear_behind_end", lambda _: None)


def _same_size_is_done(monkeypatch: Patch) -> None:
    """A disk that has the size already is left as a cut left it."""
    monkeypatch.setattr(resize_module, "_is_undone", lambda _: False)


MISTAKES: list[tuple[Callable[[Patch], None], Make]] = [
    *((_no_barrier, job) for job in (grow, shrink_flat, compact, commit, commit_flat)),
    (_tables_before_data, commit),
    (_tables_not_durable, compact),
    (_header_first, grow),
    (_vacate_nothing, grow),
    (_move_in_one_go, compact),
    (_reuse_at_once, compact),
    (_cut_off_first, compact),
    (_descriptor_first, grow_flat),
    (_cut_before_descriptor, shrink_flat),
    (_cut_before_descriptor, shrink_split),
    (_parts_after_descriptor, grow_split),
    (_cid_first, commit),
    (_cid_first, commit_flat),
    (_child_first, commit),
    (_parent_changes_its_cid, commit),
    (_parent_changes_its_cid, commit_middle),
    (_flat_is_not_flushed, commit_flat),
    (_parent_is_not_accepted, commit),
    (_descriptor_is_removed_last, commit_and_remove),
    (_remains_are_not_cleared, grow_over_remains),
    (_same_size_is_done, grow),
]


@pytest.mark.parametrize(("mistake", "make"), MISTAKES, ids=lambda value: value.__name__.strip("_"))
def test_mistake_is_found(mistake: Callable[[Patch], None], make: Make, monkeypatch: Patch) -> None:
    """With a mistake in its order of writing a job leaves a state that breaks its promise."""
    job = make()
    mistake(monkeypatch)
    assert a_violation(job)
    if mistake not in (_vacate_nothing, _remains_are_not_cleared):  # wrong without a cut, too
        folder = MemoryFolder(job.files)
        job.run(folder)
        assert content_of(folder, job.result[0]) == job.result[1]


@pytest.mark.parametrize("make", dict.fromkeys(job for _, job in MISTAKES))
def test_without_a_mistake_the_end_is_right(make: Make) -> None:
    """The same jobs without one do what they promise, so that it is the mistake that is found."""
    *_, last = job_states(make())
    assert last.is_done
    assert make().verify(last) == []
