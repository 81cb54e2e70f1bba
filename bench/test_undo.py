"""What saving costs: the same writes to a file, with and without a journal.

Times are for reading, and depend on how long the host takes to flush; what is asserted is the work:
flushes of the journal, and bytes written to it.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from ipva_storage.device import Folder, RawDevice, TraceDevice
from ipva_storage.device.undo import UndoDevice, UndoJournal
from ipva_storage.units import KIB, MIB

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

IMAGE_BYTES = 64 * MIB
ROUNDS = 3
RNG = random.Random(1)
WRITES = {
    "4 KiB in sequence": [(at, 4 * KIB) for at in range(0, IMAGE_BYTES, 4 * KIB)],
    "512 B scattered": [(at * 512, 512) for at in RNG.sample(range(IMAGE_BYTES // 512), 400)],
    "64 KiB moved about": [
        (at * 64 * KIB, 64 * KIB) for at in RNG.sample(range(IMAGE_BYTES // (64 * KIB)), 512)
    ],
}
FLUSHES_MAX = {"saved": (25, 400, 515), "announced": (25, 10, 15)}
"""By kind of writes. One flush in each is the header's."""


@pytest.mark.parametrize("how", ["not saved", "saved", "announced"])
@pytest.mark.parametrize("kind", WRITES)
def test_writes(benchmark: BenchmarkFixture, tmp_path: Path, kind: str, how: str) -> None:
    """Writes of a kind over random bytes."""
    writes = WRITES[kind]
    data = RNG.randbytes(64 * KIB)
    (tmp_path / "image").write_bytes(RNG.randbytes(IMAGE_BYTES))
    journals: list[TraceDevice] = []

    def run() -> None:
        with RawDevice(tmp_path / "image", writable=True) as raw:
            device: RawDevice | UndoDevice = raw
            if how != "not saved":
                file = TraceDevice(Folder(tmp_path).create(f"undo.{len(journals)}"))
                journals.append(file)
                device = UndoDevice(raw, UndoJournal(file, tmp_path))
                if how == "announced":
                    device.expect(writes)
            for at, length_bytes in writes:
                device.write(at, data[:length_bytes])
            device.flush()

    pedantic: Any = benchmark.pedantic
    pedantic(run, rounds=ROUNDS)
    if benchmark.stats is not None:
        per_second = round(len(writes) / benchmark.stats["min"])
        benchmark.extra_info["operations_per_second"] = per_second
    if journals:
        work = journals[-1].work
        benchmark.extra_info["flushes"] = work.flush_count
        benchmark.extra_info["journal_MiB"] = round(work.write_bytes / MIB, 1)
        assert work.flush_count <= FLUSHES_MAX[how][list(WRITES).index(kind)]
        assert work.write_bytes <= IMAGE_BYTES * 1.02
        journals[-1].close()
