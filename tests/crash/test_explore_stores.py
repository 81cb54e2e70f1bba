"""Every store keeps its promise after a power cut at every point of its workload."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from ipva_storage import dump, fat, flash, vmdk
from ipva_storage.device import TraceDevice
from ipva_storage.dump.log import DumpLog
from ipva_storage.errors import UsageError
from ipva_storage.fat.commit import Changes
from ipva_storage.flash.nor import NorDevice
from ipva_storage.sim import CrashPoint, Exploration, explore, record, replay, workloads
from ipva_storage.vmdk.extent.tables import GrainTables

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipva_storage.dump.ring import Header

ROOMS = {"dump": dump, "fat": fat, "flash": flash, "vmdk": vmdk}


def _told(found: Exploration) -> str:
    return "\n".join(str(violation) for violation in found.violations)


@pytest.mark.parametrize(
    ("name", "step_count", "limit"),
    [
        ("dump", None, None),
        ("fat", 16, None),
        ("flash", None, 700),
        ("vmdk", 8, None),
        ("resize", None, 250),
    ],
    ids=["dump", "fat", "flash", "vmdk", "resize"],
)
def test_promise_holds(name: str, step_count: int | None, limit: int | None) -> None:
    """No state that a power cut leaves breaks the promise of the store."""
    found = explore(workloads.make(name, step_count=step_count), limit=limit)
    assert found.violations == (), _told(found)
    assert found.states > 90


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_promise_holds_sampled(name: str, seed: int) -> None:
    """The same for other work, sampled."""
    found = explore(workloads.make(name, seed=seed), seed=seed, limit=150)
    assert found.violations == (), _told(found)


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_workload_is_deterministic(name: str) -> None:
    """The same seed makes the same work, so that a violation can be replayed; another does not."""
    one, same, other = (workloads.make(name, step_count=8, seed=seed) for seed in (5, 5, 6))
    assert one.script == same.script != other.script
    first, second = record(one), record(same)
    assert list(first.marks) == list(second.marks)
    shapes = [
        [(each.operation, each.length_bytes) for each in run.records] for run in (first, second)
    ]
    if name == "resize":  # of a new CID only the digits are written that differ from the old one
        shapes = [[shape for shape in run if shape[1] > 512 or not shape[1]] for run in shapes]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_finished_work_is_what_was_planned(name: str) -> None:
    """Without a cut every step leaves the contents that the script says."""
    workload = workloads.make(name, step_count=20, seed=3)
    recording = record(workload)
    assert len(recording.marks) == len(workload.script) == 20
    last = CrashPoint(len(recording.records))
    assert replay(workload, last) is None
    assert len(workload.expected) == 21
    assert workload.expected[-1]


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_workload_covers_its_verbs(name: str) -> None:
    """The usual work has everything in it: new, replaced and gone, small and large."""
    script = workloads.make(name).script
    lengths = [len(value) for step in script for value in step.values() if value is not None]
    names = [key for step in script for key in step]
    assert len(set(names)) < len(names)
    assert max(lengths) >= 512
    if name != "vmdk":
        assert any(value is None for step in script for value in step.values())


def test_dump_ring_goes_round() -> None:
    """The work on the dump disk overwrites its ring, so that old records give way."""
    workload = workloads.make("dump")
    record(workload)
    dropped = [
        after for before, after in pairwise(workload.expected) if after and set(before) - set(after)
    ]
    assert len(dropped) >= 5
    assert all(len(contents) >= 2 for contents in dropped)


def test_flash_reclaims() -> None:
    """The work on the flash erases segments, again and again."""
    recording = record(workloads.make("flash"))
    erases = [each for each in recording.records if each.data and not each.data.strip(b"\xff")]
    assert len(erases) > 20


def test_unknown_workload() -> None:
    """An unknown workload is refused, with those that there are."""
    with pytest.raises(UsageError, match="choose dump, fat, flash, vmdk, resize"):
        workloads.make("tape")


# -- the explorer finds mistakes in the real stores -------------------------------------------


def _no_barrier_in_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """No store flushes anything."""
    monkeypatch.setattr(TraceDevice, "flush", lambda _: None)


def _dump_header_before_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The header that makes a record count is written before its text."""
    commit = DumpLog._commit

    def early(log: DumpLog, state: object, header: Header, payload: bytes) -> None:
        commit(log, state, header, b"")  # type: ignore[arg-type]
        log._device.write(header.offset_bytes + 512, payload)
        log._device.flush()

    monkeypatch.setattr(DumpLog, "_commit", early)


def _dump_keeps_old_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """The superblock goes on naming records whose bytes are overwritten."""
    monkeypatch.setattr(DumpLog, "_make_room", lambda *_: None)


def _fat_frees_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old chains are freed before the entry that names them is changed."""
    commit = Changes.commit

    def early(changes: Changes) -> None:
        for first in changes._frees:
            chain, _ = changes._table.follow(first)
            changes._table.release(chain)
        changes._frees.clear()
        changes._write_table()
        commit(changes)

    monkeypatch.setattr(Changes, "commit", early)


def _fat_folders_before_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries are written before the chains that they name."""
    write = Changes._write_new

    def early(changes: Changes) -> None:
        for folder in changes.folders:
            if folder.is_dirty:
                folder.write(changes._device)
        changes._device.flush()
        write(changes)

    monkeypatch.setattr(Changes, "_write_new", early)


def _flash_without_barriers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing makes programs durable before they are acknowledged."""
    monkeypatch.setattr(NorDevice, "barrier", lambda _: None)


def _vmdk_tables_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush does not reach the tables: the grains are there, and nothing names them."""
    monkeypatch.setattr(GrainTables, "flush", lambda tables: tables._raw.flush())


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        *((name, _no_barrier_in_trace) for name in workloads.WORKLOADS),
        ("dump", _dump_header_before_text),
        ("dump", _dump_keeps_old_tail),
        ("fat", _fat_frees_first),
        ("fat", _fat_folders_before_tables),
        ("flash", _flash_without_barriers),
        ("vmdk", _vmdk_tables_first),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__.strip("_"),
)
def test_mistake_is_found(
    name: str, mistake: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store with a mistake in its order of writing is found out."""
    mistake(monkeypatch)
    found = explore(workloads.make(name, step_count=30), limit=500)
    assert found.violations
