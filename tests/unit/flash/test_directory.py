"""The flash directory as its users see it."""

import contextlib
from pathlib import Path

import pytest

from ipva_storage import flash
from ipva_storage.device import FaultDevice, MemoryDevice, RawDevice, TraceDevice
from ipva_storage.errors import (
    DeviceError,
    FlashError,
    FlashNotFoundError,
    NoSpaceError,
    PowerCutError,
    UsageError,
)
from ipva_storage.testing.flash_crash import CutNor
from ipva_storage.units import MIB


def new(segment_limit: int | None = None) -> tuple[CutNor, flash.FlashDirectory]:
    """A small empty directory."""
    nor = CutNor()
    return nor, flash.open(nor, segment_limit=segment_limit)


def fill(directory: flash.FlashDirectory) -> dict[bytes, bytes]:
    """Put objects until no more go in."""
    content: dict[bytes, bytes] = {}
    try:
        for at in range(1000):
            directory.put(b"%03d" % at, bytes([at % 251]) * 30)
            content[b"%03d" % at] = bytes([at % 251]) * 30
    except NoSpaceError as error:
        return content if "more RAM" in str(error) else {}
    return {}


def test_put_get_delete_and_count() -> None:
    """The basic verbs do what a dict does."""
    nor, directory = new()
    directory.put(b"a", b"1")
    directory.put(b"b", b"")
    directory.put(b"a", b"2")
    assert (len(directory), b"a" in directory, b"z" in directory) == (2, True, False)
    assert directory.get(b"a") == b"2"
    assert directory.get(b"b") == b""
    assert sorted(directory) == [b"a", b"b"]
    directory.delete(b"a")
    with pytest.raises(FlashNotFoundError):
        directory.get(b"a")
    with pytest.raises(FlashNotFoundError):
        directory.delete(b"a")
    assert dict(flash.open(nor).items()) == {b"b": b""}


def test_a_key_has_1_to_255_bytes() -> None:
    """Other keys are refused before anything is written."""
    nor, directory = new()
    directory.put(b"k" * 255, b"v" * 100)
    steps = nor.program_count
    for key in (b"", b"k" * 256):
        with pytest.raises(UsageError):
            directory.put(key, b"v")
        with pytest.raises(UsageError):
            directory.batch({key: b"v"})
    assert nor.program_count == steps
    assert directory.get(b"k" * 255) == b"v" * 100


def test_a_megabyte_is_stored_in_chunks_and_replaced_whole() -> None:
    """Large values survive mounts, replacement and deletion."""
    nor = flash.NorDevice(MemoryDevice(5 * MIB), segment_count=80)
    directory = flash.open(nor)
    value = bytes(range(256)) * 4096
    directory.put(b"config", value)
    directory.put(b"config", value[::-1])
    directory = flash.open(nor)
    assert directory.get(b"config") == value[::-1]
    assert directory.damaged == ()
    directory.delete(b"config")
    assert len(flash.open(nor)) == 0


def test_a_batch_is_one_version_and_absent_deletes_are_nothing() -> None:
    """Puts and deletes of a batch show together; deleting what is not there writes nothing."""
    nor, directory = new()
    directory.put(b"old", b"1")
    directory.batch({b"old": None, b"new": b"2", b"large": b"x" * 600})
    assert dict(flash.open(nor).items()) == {b"new": b"2", b"large": b"x" * 600}
    steps = nor.program_count
    directory = flash.open(nor)
    steps = nor.program_count
    directory.batch({b"never": None})
    directory.batch({})
    assert nor.program_count == steps


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_full_is_readable_deletable_and_mountable(limit: int) -> None:
    """At the limit puts are refused, everything else works, and deletes make room again."""
    nor, directory = new(limit)
    content = fill(directory)
    assert len(content) >= 4 * limit
    assert dict(directory.items()) == content
    assert dict(flash.open(CutNor(nor.image), segment_limit=limit).items()) == content
    with pytest.raises(NoSpaceError):
        directory.put(b"large", bytes(5000))
    with pytest.raises(NoSpaceError):
        directory.batch({b"x": bytes(60), b"y": bytes(60)})
    for key in list(content)[::2]:
        directory.delete(key)
        del content[key]
    directory.put(b"again", b"fits")
    content[b"again"] = b"fits"
    assert dict(flash.open(nor, segment_limit=limit).items()) == content
    assert directory.usage().segment_count_used <= limit


def test_at_the_limit_a_value_may_replace_one_of_its_size() -> None:
    """Overwriting in a full directory works for ever, through many reclaims."""
    nor, directory = new(3)
    content = fill(directory)
    for turn in range(300):
        key = b"%03d" % (turn % len(content))
        content[key] = bytes([turn % 251]) * 30
        directory.put(key, content[key])
    assert dict(directory.items()) == content
    assert dict(flash.open(nor, segment_limit=3).items()) == content
    assert nor.reprogram_count == 0


def test_usage_adds_up() -> None:
    """Used, owned, free and wear are consistent."""
    _, directory = new(4)
    empty = directory.usage()
    directory.put(b"key", b"value")
    usage = directory.usage()
    assert usage.used_bytes == 8 + 32
    assert empty.free_bytes - usage.free_bytes == usage.used_bytes
    assert (usage.segment_count_physical, usage.segment_count_usable) == (6, 4)
    assert usage.owned_bytes == usage.segment_count_used * 1024 == 1024
    assert (usage.erase_count_min, usage.erase_count_max) == (0, 1)
    assert usage.object_count == 1


def test_the_limit_is_between_1_and_all_but_the_copy_segment() -> None:
    """Other limits are refused at every door."""
    nor, directory = new()
    for limit in (0, 6, -1):
        with pytest.raises(UsageError):
            flash.open(nor, segment_limit=limit)
        with pytest.raises(UsageError):
            directory.plan(limit)
        with pytest.raises(UsageError):
            directory.shrink(limit)


def test_a_shrink_keeps_the_oldest_writes_and_what_still_fits() -> None:
    """The documented order: by age of the last write; a younger one that fits is kept."""
    _, directory = new()
    for at in range(3):
        directory.put(b"%d" % at, bytes(150))
    directory.put(b"0", b"rewritten" * 15)
    directory.put(b"tiny", b"")
    plan = directory.plan(1)
    assert plan.lost == (b"0",)
    assert (plan.fits, plan.needed_segment_count) == (False, 2)
    assert directory.shrink(1) == (b"0",)
    assert set(directory) == {b"1", b"2", b"tiny"}


def test_over_the_limit_puts_are_refused_and_deletes_are_not() -> None:
    """Opened with less than is stored, nothing is lost and nothing can be added."""
    nor, directory = new()
    content = fill(directory)
    directory = flash.open(nor, segment_limit=1)
    assert dict(directory.items()) == content
    with pytest.raises(NoSpaceError):
        directory.put(b"more", b"")
    for key in content:
        directory.delete(key)
    assert len(flash.open(nor, segment_limit=1)) == 0


def test_durable_commits_end_with_a_barrier() -> None:
    """One flush a put or delete, two a batch; without `durable` only the batch's own."""
    for durable, counts in [(True, [1, 1, 2]), (False, [0, 0, 1])]:
        trace = TraceDevice(MemoryDevice(6 * 1024))
        nor = flash.NorDevice(trace, segment_bytes=1024, segment_count=6)
        directory = flash.open(nor, durable=durable)
        seen = []
        directory.put(b"first", b"")
        for items in ({b"a": b"1"}, {b"a": None}, {b"b": b"2", b"c": b"3"}):
            trace.reset()
            if len(items) > 1:
                directory.batch(items)
            elif items[b"a"] is None:
                directory.delete(b"a")
            else:
                directory.put(b"a", items[b"a"])
            seen.append(trace.work.flush_count)
        assert seen == counts


def test_read_only_writes_nothing_and_says_so() -> None:
    """Inspection leaves every byte, and refuses changes."""
    nor, directory = new()
    directory.put(b"a", b"1")
    before = bytes(nor.image)
    reader = flash.open(nor, read_only=True)
    assert reader.get(b"a") == b"1"
    for do in (
        lambda: reader.put(b"b", b""),
        lambda: reader.delete(b"a"),
        lambda: reader.batch({b"b": b""}),
        lambda: reader.shrink(2),
    ):
        with pytest.raises(DeviceError, match="read-only"):
            do()
    reader.close()
    assert bytes(nor.image) == before


def test_after_close_nothing_can_be_written_and_all_is_sealed() -> None:
    """A closed directory refuses writes; the next mount has nothing to mend."""
    nor, directory = new()
    with directory:
        directory.put(b"a", b"1")
    with pytest.raises(DeviceError, match="closed"):
        directory.put(b"b", b"")
    before = bytes(nor.image)
    assert flash.open(nor).damaged == ()
    assert bytes(nor.image) == before


def test_a_device_that_refuses_stops_the_writing() -> None:
    """After a failed write the directory must be opened again; reading still works."""
    device = FaultDevice(MemoryDevice(6 * 1024), cut_after_writes=20)
    nor = flash.NorDevice(device, segment_bytes=1024, segment_count=6)
    directory = flash.open(nor)
    with contextlib.suppress(PowerCutError):
        for at in range(100):
            directory.put(b"%d" % at, b"value")
    with pytest.raises(DeviceError, match="open the directory again"):
        directory.put(b"x", b"")
    assert directory.get(b"0") == b"value"


def test_a_value_damaged_in_memory_is_an_error_and_not_a_value() -> None:
    """The CRC is checked at every get."""
    nor, directory = new()
    directory.put(b"key", b"value")
    nor.image[nor.image.index(b"value")] ^= 1
    with pytest.raises(FlashError, match="CRC"):
        directory.get(b"key")


def test_writing_while_iterating_is_allowed() -> None:
    """An iteration shows what was there when it began, less what was deleted since."""
    _, directory = new()
    for at in range(4):
        directory.put(b"%d" % at, b"")
    seen = []
    for key, value in directory.items():
        assert value == b""
        seen.append(key)
        if key == b"0":
            directory.delete(b"2")
            directory.put(b"new", b"")
    assert seen == [b"0", b"1", b"3"]


def test_a_file_of_the_host_holds_a_directory(tmp_path: Path) -> None:
    """A sparse 64 MiB file stays small, and opens again."""
    path = tmp_path / "flash.img"
    with RawDevice.create(path, flash.FLASH_BYTES) as device:
        nor = flash.NorDevice(device)
        flash.format(nor)
        with flash.open(nor, segment_limit=224) as directory:
            directory.put(b"user", b"1" * 300)
    with RawDevice(path) as device:
        assert flash.identify(device)
        nor = flash.NorDevice(device)
        assert flash.open(nor, read_only=True).get(b"user") == b"1" * 300
        assert nor.read_bytes <= 256 * 1024
    assert path.stat().st_blocks * 512 < MIB
