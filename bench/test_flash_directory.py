"""Throughput of the flash directory in memory: 500-byte values under 24-byte names.

Times are for reading; what is asserted is the work of the flash (bytes programmed, erases), which
does not depend on the machine. `extra_info` has operations per second and write amplification.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from ipva_storage import flash
from ipva_storage.device import MemoryDevice

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

VALUE_BYTES = 500
RECORD_BYTES = 24 + VALUE_BYTES + 32
ROUNDS = 3
CHURN_SEGMENTS = 64

Content = dict[bytes, bytes]


@pytest.fixture(scope="session")
def content(object_count: int) -> Content:
    """Random values under fixed names."""
    rng = random.Random(1)
    return {b"%024x" % at: rng.randbytes(VALUE_BYTES) for at in range(object_count)}


@pytest.fixture(scope="session")
def stored(content: Content) -> flash.NorDevice:
    """A flash that holds the content, closed cleanly."""
    nor, directory = _empty()
    for key, value in content.items():
        directory.put(key, value)
    directory.close()
    return nor


def _empty(segment_count: int = flash.PHYSICAL_SEGMENTS) -> tuple[flash.NorDevice, Any]:
    device = MemoryDevice(segment_count * flash.SEGMENT_BYTES)
    nor = flash.NorDevice(device, segment_count=segment_count)
    flash.format(nor)
    return nor, flash.open(nor)


def _run(
    benchmark: BenchmarkFixture,
    count: int,
    do: Callable[..., object],
    setup: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]] | None = None,
) -> None:
    """Time it, and say how many operations a second that is."""
    pedantic: Any = benchmark.pedantic
    pedantic(do, setup=setup, rounds=ROUNDS)
    if benchmark.stats is not None:
        benchmark.extra_info["operations_per_second"] = round(count / benchmark.stats["min"])


def _amplification(nor: flash.NorDevice, before_bytes: int, count: int) -> float:
    return (nor.programmed_bytes - before_bytes) / (count * (24 + VALUE_BYTES))


def test_put(benchmark: BenchmarkFixture, content: Content) -> None:
    """Single committed puts into an empty directory."""
    made: list[flash.NorDevice] = []

    def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
        nor, directory = _empty()
        made.append(nor)
        return (directory,), {}

    def put(directory: flash.FlashDirectory) -> None:
        for key, value in content.items():
            directory.put(key, value)

    _run(benchmark, len(content), put, setup)
    amplification = _amplification(made[-1], 0, len(content))
    benchmark.extra_info["write_amplification"] = round(amplification, 3)
    assert amplification < 1.08
    assert made[-1].erase_count <= len(content) * RECORD_BYTES / 65_000 + 2
    assert made[-1].reprogram_count == 0


def test_batch_of_100(benchmark: BenchmarkFixture, content: Content) -> None:
    """Atomic batches of 100 puts."""
    pairs = list(content.items())
    batches = [dict(pairs[at : at + 100]) for at in range(0, len(pairs), 100)]
    made: list[flash.NorDevice] = []

    def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
        nor, directory = _empty()
        made.append(nor)
        return (directory,), {}

    def put(directory: flash.FlashDirectory) -> None:
        for batch in batches:
            directory.batch(batch)

    _run(benchmark, len(content), put, setup)
    amplification = _amplification(made[-1], 0, len(content))
    benchmark.extra_info["write_amplification"] = round(amplification, 3)
    assert amplification < 1.08


def test_get(benchmark: BenchmarkFixture, content: Content, stored: flash.NorDevice) -> None:
    """Random gets, the CRC checked each time."""
    directory = flash.open(stored, read_only=True)
    keys = random.Random(2).sample(list(content), len(content))

    def get() -> None:
        for key in keys:
            directory.get(key)

    programmed_bytes = stored.programmed_bytes
    _run(benchmark, len(keys), get)
    assert stored.programmed_bytes == programmed_bytes


def test_iterate(benchmark: BenchmarkFixture, content: Content, stored: flash.NorDevice) -> None:
    """All keys and values once."""
    directory = flash.open(stored, read_only=True)
    _run(benchmark, len(content), lambda: sum(1 for _ in directory.items()))
    assert dict(directory.items()) == content


def test_mount(benchmark: BenchmarkFixture, content: Content, stored: flash.NorDevice) -> None:
    """Opening a directory that was closed cleanly, every CRC checked."""
    programmed_bytes = stored.programmed_bytes
    _run(benchmark, len(content), lambda: flash.open(stored))
    assert len(flash.open(stored)) == len(content)
    assert stored.programmed_bytes == programmed_bytes


def test_churn_at_70_percent_live(benchmark: BenchmarkFixture) -> None:
    """Uniform overwrites of 5 × the capacity of a 4 MiB flash that is 70 % full."""
    nor, directory = _empty(CHURN_SEGMENTS + 1)
    size_bytes = CHURN_SEGMENTS * flash.SEGMENT_BYTES
    rng = random.Random(3)
    values = [rng.randbytes(VALUE_BYTES) for _ in range(512)]
    keys = [b"%024x" % at for at in range(int(0.7 * size_bytes / RECORD_BYTES))]
    for key in keys:
        directory.put(key, values[0])
    count = 5 * size_bytes // (24 + VALUE_BYTES)
    chosen = [(rng.choice(keys), values[at % 512]) for at in range(count)]
    before_bytes, before_erases = nor.programmed_bytes, nor.erase_count

    def churn() -> None:
        for key, value in chosen:
            directory.put(key, value)

    pedantic: Any = benchmark.pedantic
    pedantic(churn, rounds=1)
    amplification = _amplification(nor, before_bytes, count)
    benchmark.extra_info["write_amplification"] = round(amplification, 2)
    if benchmark.stats is not None:
        benchmark.extra_info["operations_per_second"] = round(count / benchmark.stats["min"])
    usage = directory.usage()
    benchmark.extra_info["wear"] = f"{usage.erase_count_min}…{usage.erase_count_max}"
    assert amplification <= 2.1
    assert nor.erase_count - before_erases <= 2.2 * count * RECORD_BYTES / flash.SEGMENT_BYTES
    assert dict(flash.open(nor).items()) == dict(directory.items())


def test_shrink_to_70_percent_of_what_is_needed(
    benchmark: BenchmarkFixture, content: Content, stored: flash.NorDevice
) -> None:
    """Plan and shrink from 900 segments to 70 % of those that are needed."""
    needed = flash.open(stored, read_only=True).plan(flash.USABLE_SEGMENTS).needed_segment_count
    limit = max(1, needed * 7 // 10)

    def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
        nor = flash.NorDevice(MemoryDevice(stored.image))
        return (flash.open(nor),), {}

    def shrink(directory: flash.FlashDirectory) -> None:
        plan = directory.plan(limit)
        assert directory.shrink(limit) == plan.lost
        assert directory.usage().segment_count_used <= limit

    _run(benchmark, len(content), shrink, setup)
