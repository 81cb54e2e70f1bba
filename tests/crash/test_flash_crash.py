"""Power cuts at every step of flash workloads; dropped programs; flipped bits."""

import contextlib
import random

import pytest

from ipva_storage import flash
from ipva_storage.errors import FlashError, PowerCutError
from ipva_storage.testing.flash_crash import (
    SEGMENT_BYTES,
    CutNor,
    apply_step,
    dropped_states,
    explore,
    record,
)


@pytest.mark.parametrize("seed", range(6))
def test_every_cut_leaves_the_state_before_or_after(seed: int) -> None:
    """A cut at any program or erase, torn in several ways, loses and invents nothing."""
    report = explore(record(seed, 40), seed, thorough=False, again=False)
    assert report.failures == []
    assert report.state_count > 200


@pytest.mark.parametrize("seed", [11, 12])
def test_every_word_of_a_torn_program_is_a_safe_place_to_stop(seed: int) -> None:
    """A cut after any 16-bit word of any program of a short run is safe."""
    report = explore(record(seed, 12), seed, thorough=True, again=False)
    assert report.failures == []
    assert report.state_count > 200


@pytest.mark.parametrize("seed", [21, 22])
def test_a_second_cut_in_the_recovery_is_safe(seed: int) -> None:
    """Recovery that loses its power at any step starts over to the same content."""
    report = explore(record(seed, 40), seed, thorough=False, again=True, every=9)
    assert report.failures == []
    assert report.state_count > 200


@pytest.mark.parametrize("seed", [31, 32])
def test_barriers_are_enough_where_programs_are_reordered(seed: int) -> None:
    """Any subset of the last three programs since a barrier may be missing."""
    report = dropped_states(record(seed, 25), window=3)
    assert report.failures == []
    assert report.state_count > 100


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_flipped_bit_never_gives_a_wrong_value(is_closed: bool) -> None:
    """Any bit flipped: a value is right, an older one of that key, missing, or an error.

    After a clean close a flip that costs an object is always reported.
    """
    workload = record(41, 40)
    if is_closed:
        workload.directory.close()
    image = bytearray(workload.base)
    for step in workload.steps:
        apply_step(image, step)
    ever: dict[bytes, set[bytes]] = {}
    for mark in workload.marks:
        for key, value in mark.content.items():
            ever.setdefault(key, set()).add(value)
    good = workload.marks[-1].content
    rng = random.Random(41)
    used = [at for at in range(0, len(image), 2) if image[at] not in (0, 0xFF)]
    for bit in [8 * at + rng.randrange(8) for at in rng.sample(used, min(500, len(used)))]:
        flipped = bytearray(image)
        flipped[bit >> 3] ^= 1 << (bit & 7)
        got, reported = _read_all(flipped)
        assert all(value in ever.get(key, ()) for key, value in got.items()), bit
        assert got == good or reported or not is_closed, bit


def _read_all(image: bytearray) -> tuple[dict[bytes, bytes], bool]:
    """What a damaged flash shows, and whether anything is said about the damage."""
    nor = CutNor(image)
    try:
        directory = flash.open(nor)
    except FlashError:
        return {}, True
    return dict(directory.items()), bool(directory.damaged)


def test_three_hundred_cuts_in_a_row_within_one_reclaim_lose_nothing() -> None:
    """A machine that never gets past its reclaim keeps everything, and gets past it in the end."""
    nor = CutNor()
    directory = flash.open(nor)
    content = {b"%02d" % at: bytes([at]) * 40 for at in range(30)}
    for key, value in content.items():
        directory.put(key, value)
    rng = random.Random(1)
    for turn in range(300):
        nor.fuse = rng.randrange(9)
        nor.tear = lambda old, data: (
            old[: len(old) // 2] + (b"\xff" * len(old) if data is None else data)[len(old) // 2 :]
        )
        key, value = b"%02d" % (turn % 30), bytes([turn % 251]) * 40
        with contextlib.suppress(PowerCutError):
            directory = flash.open(nor)
            directory.put(key, value)
            content[key] = value
        nor = CutNor(nor.image)
        directory = flash.open(nor)
        found = dict(directory.items())
        assert found.keys() == content.keys()
        assert all(found[one] == content[one] for one in content if one != key)
        assert found[key] in (content[key], value)
        content = found
    assert len(nor.image) == SEGMENT_BYTES * 6
