"""FAT images that fuzzing kept: every promise is kept for each, in little time and memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from ipva_storage.device import BlockDevice, MemoryDevice, read
from ipva_storage.fat import geometry
from tests.conftest import Peer
from tests.fuzz import fat_inputs, fat_promises, promises

CORPUS = sorted((Path(__file__).parent / "corpus" / "fat").iterdir())
PARTS = 8
TRACED = 4
"""Inputs whose memory is measured, because that takes several times as long."""
MEMORY_MAX_BYTES = 64 << 20
CORPUS_MAX_BYTES = 200_000


def replayed(path: Path) -> None:
    """Try a kept input; what fails names it."""
    try:
        promises.bounded(fat_promises.one, path.read_bytes())
    except Exception as error:
        error.add_note(f"the input is {path.name}")
        raise


def test_the_corpus_is_there_and_small() -> None:
    """Inputs of every seed and for every job."""
    inputs = [path.read_bytes() for path in CORPUS]
    assert sum(map(len, inputs)) < CORPUS_MAX_BYTES
    heads = [each[:2].ljust(2, b"\0") for each in inputs]
    kinds, jobs = len(fat_inputs.SEEDS) + 1, len(fat_promises.JOBS)
    assert {head[0] % kinds for head in heads} == set(range(kinds))
    assert {head[1] % jobs for head in heads} == set(range(jobs))


@pytest.mark.parametrize("part", range(PARTS))
def test_every_promise_is_kept(part: int) -> None:
    """For each kept input, and soon."""
    for path in CORPUS[part::PARTS]:
        replayed(path)


@pytest.mark.parametrize("job", dict.fromkeys(fat_promises.JOBS), ids=lambda job: job.__name__)
def test_every_promise_is_kept_for_sound_volumes(job: fat_promises.Job) -> None:
    """Each seed as it is, which has nothing wrong: what a fault breaks most easily."""
    number = fat_promises.JOBS.index(job)
    for kind in range(len(fat_inputs.SEEDS)):
        data = bytes([kind, number, 3, 0])
        assert fat_promises.image_of(fat_inputs.case_of(data)).is_clean
        promises.bounded(fat_promises.one, data)


def test_little_memory_is_taken() -> None:
    """Whatever an image says."""
    tracemalloc.start()
    try:
        for path in CORPUS[:: len(CORPUS) // TRACED]:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            replayed(path)
            assert tracemalloc.get_traced_memory()[1] - before < MEMORY_MAX_BYTES, path.name
    finally:
        tracemalloc.stop()


def is_known_to_peer(volume: BlockDevice) -> bool:
    """Whether fsck.fat can judge a volume.

    It knows two tables at most, always all in use, wants a label field even in a boot sector that
    is too old to have one, and takes only some letters beyond ASCII in a label.
    """
    found = geometry.parse(volume)
    is_plain = found.boot_label is not None and found.boot_label.isascii()
    return found.fat_count <= 2 and found.mirrored_fat is None and is_plain


@pytest.mark.interop
@pytest.mark.parametrize("part", range(PARTS))
def test_peer_finds_nothing_after_a_repair(part: int, tmp_path: Path, peer: Peer) -> None:
    """fsck.fat has nothing to mend on the volumes of a mended image."""
    image = tmp_path / "volume.img"
    for path in CORPUS[part::PARTS]:
        case = fat_inputs.case_of(path.read_bytes())
        device = MemoryDevice(case.content)
        done = fat_promises.repaired(device, case.is_disk)
        if not done or any(one.left for one in done):
            continue
        for volume in filter(is_known_to_peer, fat_promises.volumes(device, case.is_disk)):
            image.write_bytes(read(volume, 0, volume.size_bytes))
            result = peer("fsck.fat", "-n", image)
            assert result.returncode == 0, (path.name, result.stdout)
