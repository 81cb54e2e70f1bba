"""Power cuts at every write of a repair: another repair ends where the first would have."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ipva_storage import fat
from ipva_storage.device import FaultDevice, Folder, MemoryDevice, RawDevice, TraceDevice, read
from ipva_storage.device.undo import ImageFolder, UndoDevice, UndoJournal, restore
from ipva_storage.errors import PowerCutError
from ipva_storage.fat.repairing import Draft
from ipva_storage.sim.crash import crash_points, crash_states
from tests.damage.fat_volumes import Damage, Volume, codes, sound, tree
from tests.damage.test_fat_structure import KINDS

STATES_MAX = 12
"""States that are looked into for each case, chosen at random where there are more."""
NAMES = (
    "boot-and-backup",
    "boot-and-tables",
    "both-copies-garbage",
    "sectors-alternately",
    "cut-short",
    "root-label-gone",
)
STRUCTURE = [kind for kind in KINDS if kind.name in NAMES]


def several(v: Volume) -> None:
    """A table, a chain, a folder and the boot sector are damaged at once."""
    v.link(v.chain("/SUB/Second long name.dat")[3], 0)
    v.put(v.place("/OTHER"), bytes(32))
    v.put(v.geometry.fat_offset_bytes, bytes(16))
    v.put(510, b"\0\0")


CASES: list[tuple[str, Damage]] = [(kind.name, kind.damage) for kind in STRUCTURE]
CASES.append(("several", several))


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("damage", [pytest.param(case[1], id=case[0]) for case in CASES])
def test_repair_is_taken_up_again(bits: int, damage: Damage) -> None:
    """After a cut at any write, torn or reordered, a repair leaves the same files, all sound."""
    volume = Volume(sound(bits))
    damage(volume)
    base = bytes(volume.device.data)
    trace = TraceDevice(MemoryDevice(base), keep_data=True)
    fat.repair(trace)
    done = MemoryDevice(base)
    fat.repair(done)
    wanted = tree(done)
    count = 0
    points = list(crash_points(trace.records))
    if len(points) > STATES_MAX:
        chosen = random.Random(bits).sample(range(len(points)), STATES_MAX)
        points = [points[index] for index in sorted(chosen)]
    for state in crash_states(base, trace.records, points=points):
        device = MemoryDevice(read(state.device, 0, state.device.size_bytes))
        fat.repair(device)
        assert codes(device) == set(), state.point
        assert tree(device) == wanted, state.point
        count += 1
    assert count > 1


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_undo_after_a_cut(bits: int, tmp_path: Path) -> None:
    """A repair that is cut at any write is taken back by its journal, byte for byte."""
    volume = Volume(sound(bits))
    several(volume)
    base = bytes(volume.device.data)
    image = tmp_path / "volume.img"
    for cut in range(40):
        image.write_bytes(base)
        journal = UndoJournal.create(Folder(tmp_path), f"{cut}.undo")
        with RawDevice(image, writable=True) as raw:
            faulty = FaultDevice(raw, cut_after_writes=cut, torn_bytes=512)
            try:
                fat.repair(UndoDevice(faulty, journal))
            except PowerCutError:
                is_cut = True
            else:
                is_cut = False
        journal.close()
        path = tmp_path / f"{cut}.undo"
        with RawDevice(path, writable=True) as file:
            restore(file, ImageFolder(path), force=True)
        assert image.read_bytes() == base
        if not is_cut:
            break
    else:
        pytest.fail("the repair has more writes than were tried")


def test_nothing_is_written_before_the_commit() -> None:
    """A repair that fails while it is drawn up leaves the medium alone."""
    volume = Volume(sound(16))
    several(volume)
    base = bytes(volume.device.data)
    calls = 0

    def stop(*_: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fat.repair(volume.device, progress=stop)
    assert bytes(volume.device.data) == base


def test_steps_are_durable_in_order() -> None:
    """A draft writes its steps one after the other, and of each only the sectors that change."""
    memory = MemoryDevice(bytes(64 * 512))
    trace = TraceDevice(memory)
    draft = Draft(trace)
    draft.write(5 * 512, b"b" * 512)
    draft.write(1 * 512, bytes(512))
    draft.step()
    draft.write(2 * 512 + 7, b"a")
    assert draft.is_changed
    assert not any(record.operation.name == "WRITE" for record in trace.records)
    draft.commit()
    names = [(one.operation.name, one.offset_bytes) for one in trace.records]
    changes = [one for one in names if one[0] != "READ"]
    assert changes == [("WRITE", 5 * 512), ("FLUSH", 0), ("WRITE", 2 * 512), ("FLUSH", 0)]
