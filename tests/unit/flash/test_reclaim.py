"""Reclaim: what is carried along, what is dropped, and when."""

import contextlib

from ipva_storage import flash
from ipva_storage.device import MemoryDevice
from ipva_storage.errors import PowerCutError
from ipva_storage.flash.reclaim import choose_victim, reclaim
from ipva_storage.testing.flash_crash import CutNor

SIZE = 1024


def segment_of(nor: CutNor, needle: bytes) -> int:
    """Where some bytes are first found."""
    return nor.image.index(needle) // SIZE


def test_a_tombstone_outlives_a_dead_batch_while_an_older_copy_is_there() -> None:
    """Records of a batch that never was are copies like others when a tombstone is judged."""
    nor = CutNor()
    flash.open(nor).put(b"key", b"first")
    directory = flash.open(nor)
    nor.fuse = 6  # open header, two members of two programs each; then the COMMIT fails
    with contextlib.suppress(PowerCutError):
        directory.batch({b"key": b"second", b"other": b"x"})
    nor = CutNor(nor.image)
    directory = flash.open(nor)
    assert directory.get(b"key") == b"first"
    directory.delete(b"key")
    dead = segment_of(nor, b"second")
    grave = directory._index.tombstones[b"key"] // SIZE
    assert len({dead, grave, segment_of(nor, b"first")}) == 3
    directory._log.seal_head()
    reclaim(directory._log, directory._index, dead)
    reclaim(directory._log, directory._index, grave)
    assert b"key" not in flash.open(nor, read_only=True)
    reclaim(directory._log, directory._index, segment_of(nor, b"first"))
    assert directory._index.tombstones == {}


def test_a_tombstone_goes_with_the_last_copy_it_hides() -> None:
    """Nothing is kept for a key that is nowhere on flash any more."""
    nor = CutNor()
    directory = flash.open(nor)
    directory.put(b"key", b"value")
    directory.delete(b"key")
    assert directory.usage().used_bytes == 4 + 32
    directory.shrink(1)
    for _ in range(100):
        directory.put(b"other", b"o" * 60)
    assert directory.usage().used_bytes == 5 + 60 + 3 + 32


def test_a_commit_is_carried_while_a_member_depends_on_it() -> None:
    """Reclaiming the segment of the COMMIT alone leaves the batch committed."""
    nor = CutNor()
    directory = flash.open(nor)
    directory.put(b"filler", bytes(200))
    directory.put(b"filler2", bytes(200))
    directory.batch({b"a": b"A" * 200, b"b": b"B" * 200, b"c": b"C" * 100})
    (version,) = directory._index.commits
    holder = directory._index.commits[version][1] // SIZE
    assert holder != segment_of(nor, b"A" * 200)
    directory.close()
    directory = flash.open(nor)
    reclaim(directory._log, directory._index, holder)
    assert dict(flash.open(nor).items()) == dict(directory.items())
    assert len(directory) == 5


def test_the_victim_is_dead_and_old_rather_than_full_or_young() -> None:
    """Cost-benefit: of two equally dead segments the older; never one without room."""
    nor = CutNor(segment_count=8)
    directory = flash.open(nor)
    for at in range(12):
        directory.put(b"%02d" % at, bytes(200))
    log = directory._log
    assert choose_victim(log, 288) == -1
    for at in (0, 1, 4, 5):
        directory.delete(b"%02d" % at)
    oldest = min(
        (one.sequence, at)
        for at, one in enumerate(log.segments)
        if one.sequence and one.live_bytes < 500
    )
    assert choose_victim(log, 288) == oldest[1]


def test_reclaim_spreads_wear_over_all_segments() -> None:
    """Overwriting one object for long erases every segment about as often."""
    nor = CutNor()
    directory = flash.open(nor)
    for turn in range(3000):
        directory.put(b"key", b"%060d" % turn)
    usage = directory.usage()
    assert usage.erase_count_max - usage.erase_count_min <= 17


def test_a_batch_fits_where_all_that_is_dead_lies_in_the_head() -> None:
    """With one segment to use, batches of deletes and small puts go on for ever."""
    nor = flash.NorDevice(MemoryDevice(6 * 1024), segment_bytes=1024, segment_count=6)
    flash.format(nor)
    directory = flash.open(nor, segment_limit=1)
    for turn in range(100):
        directory.put(b"long", bytes(turn % 200))
        directory.batch({b"short": b"x", b"long": None})
        assert dict(directory.items()) == {b"short": b"x"}
