"""A power cut at any point of a resize, a compaction or a commit leaves the old or new state.

Each job is visited in a sample of its states; `HYPOTHESIS_PROFILE=deep` visits all of them.
"""

from __future__ import annotations

import os

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Operation
from ipva_storage.sim.explore import Exploration
from ipva_storage.sim.files import FileChange, MemoryFolder
from ipva_storage.sim.jobs import Job, explore_job
from ipva_storage.testing.vmdk_small import (
    GRAIN_BYTES,
    disk_files,
    noise,
    shrink_geometry,
)

IS_DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
FLAT = ("monolithicFlat", "twoGbMaxExtentFlat", "vmfs")
SIZE_BYTES = 18 * GRAIN_BYTES + 512
PARENT_WRITES = ((0, noise(4 * GRAIN_BYTES, 1)), (8 * GRAIN_BYTES, noise(3 * GRAIN_BYTES + 200, 2)))
CHILD_WRITES = (
    (GRAIN_BYTES + 100, noise(GRAIN_BYTES, 3)),
    (9 * GRAIN_BYTES, bytes(GRAIN_BYTES)),
    (14 * GRAIN_BYTES, noise(GRAIN_BYTES, 4)),
    (17 * GRAIN_BYTES, noise(GRAIN_BYTES + 512, 5)),
)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_geometry(monkeypatch)


def holds(job: Job, *, limit: int | None = None) -> Exploration:
    """Explore a job, and say what does not hold."""
    found = explore_job(job, limit=None if IS_DEEP else limit)
    assert found.violations == (), "\n".join(str(each) for each in found.violations[:5])
    return found


def parent_files(subformat: str) -> dict[str, bytes]:
    """A disk to take snapshots over."""
    return disk_files(subformat, SIZE_BYTES, PARENT_WRITES, name="base.vmdk")


# -- mistakes that were found -------------------------------------------------------------------


@pytest.mark.parametrize("subformat", FLAT)
def test_closing_a_flat_disk_makes_it_durable(subformat: str) -> None:
    """What was written to flat files is durable when the disk is closed.

    It was not, and a commit took the child's copy away.
    """
    folder = MemoryFolder(disk_files(subformat, SIZE_BYTES))
    with vmdk.open(folder.open("disk.vmdk", writable=True), folder, writable=True) as disk:
        disk.write(7 * GRAIN_BYTES + 100, noise(2 * GRAIN_BYTES))
    last = {each.file: each.record for each in folder.changes if isinstance(each, FileChange)}
    parts = [at for at, name in enumerate(folder.names()) if name != "disk.vmdk"]
    assert {last[at].operation for at in parts if at in last} == {Operation.FLUSH}
