"""Files as Python's binary file objects."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from ipva_storage import fat
from ipva_storage.device import MemoryDevice
from ipva_storage.errors import FatExistsError, FatNotFoundError, NoSpaceError, UsageError
from ipva_storage.fat import FatVolume
from ipva_storage.units import KIB, MIB

CONTENT = bytes(range(256)) * 40


def make(bits: int = 16, size_bytes: int = 20 * MIB, cluster_bytes: int = 2 * KIB) -> FatVolume:
    """A volume with a file."""
    device = MemoryDevice(size_bytes)
    fat.format(device, fat_bits=bits, cluster_bytes=cluster_bytes, volume_id=1)
    volume = fat.open(device)
    volume.mkdir("/d")
    volume.write("/d/file", CONTENT)
    return volume


def assert_clean(volume: FatVolume) -> None:
    """The check has nothing to say once it is flushed."""
    volume.flush()
    assert list(fat.check(volume._device)) == []


def test_reading_from_any_place() -> None:
    """Seek, tell, read and readinto are those of a file."""
    volume = make()
    with volume.open("/d/FILE") as file:
        assert isinstance(file, io.BufferedReader)
        assert (file.read(3), file.tell()) == (CONTENT[:3], 3)
        assert file.seek(-5, io.SEEK_END) == len(CONTENT) - 5
        assert file.read() == CONTENT[-5:]
        assert file.read(1) == b""
        file.seek(2047)
        buffer = bytearray(2)
        assert file.readinto(buffer) == 2
        assert buffer == CONTENT[2047:2049]
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
    with volume.open("/d/file", "rb", buffering=0) as raw:
        assert raw.readall() == CONTENT  # type: ignore[attr-defined]


@pytest.mark.parametrize("buffering", [0, -1, 7])
@pytest.mark.parametrize("cluster_bytes", [512, 32 * KIB])
def test_random_work_is_that_of_a_file(buffering: int, cluster_bytes: int, tmp_path: Path) -> None:
    """Seeks, reads, writes and truncations do what they do to a file of the host."""
    volume = make(16, 5 * MIB if cluster_bytes == 512 else 200 * MIB, cluster_bytes)
    chance = random.Random(3)
    (tmp_path / "model").write_bytes(CONTENT)
    with (
        (tmp_path / "model").open("r+b") as model,
        volume.open("/d/file", "r+b", buffering=buffering) as file,
    ):
        for _ in range(300):
            at, size = chance.randrange(40_000), chance.randrange(3000)
            match chance.randrange(6):
                case 0 | 1:
                    assert file.seek(at) == model.seek(at)
                    data = chance.randbytes(size)
                    assert file.write(data) == model.write(data)
                case 2:
                    assert file.truncate(at) == model.truncate(at)
                case 3:
                    file.flush()
                case _:
                    file.seek(at)
                    model.seek(at)
                    assert file.read(size) == model.read(size)
    assert volume.read("/d/file") == (tmp_path / "model").read_bytes()
    assert_clean(volume)


def test_modes_make_keep_or_empty() -> None:
    """`w` empties, `x` makes, `a` goes on at the end wherever one seeks, `r` needs a file."""
    volume = make()
    with volume.open("/d/file", "a+") as file:
        file.seek(0)
        file.write(b"end")
        file.seek(-4, io.SEEK_END)
        assert file.read() == CONTENT[-1:] + b"end"
    with volume.open("/d/file", "wb") as file:
        file.write(b"new")
        assert volume.stat("/d/file").size_bytes == len(CONTENT) + 3  # until it is flushed
    assert volume.read("/d/file") == b"new"
    with volume.open("/d/made", "x") as file:
        assert volume.read("/d/made") == b""
        file.write(b"made")
    assert volume.read("/d/made") == b"made"
    with pytest.raises(FatExistsError):
        volume.open("/d/made", "x")
    with pytest.raises(FatExistsError):
        volume.open("/d", "r")
    for mode in ("r", "r+"):
        with pytest.raises(FatNotFoundError):
            volume.open("/d/nothing", mode)
    for mode in ("", "rw", "rt", "b", "+", "r++"):
        with pytest.raises(UsageError, match="no mode"):
            volume.open("/d/file", mode)
    assert_clean(volume)


def test_a_gap_is_zeros() -> None:
    """What lies between the old end and a write or a new end is zero, whatever was there."""
    volume = make()
    volume.write("/noise", b"\xff" * 15 * MIB)
    volume.delete("/noise")
    with volume.open("/d/file", "r+") as file:
        file.seek(12 * MIB + 5)
        file.write(b"x")
        file.truncate(13 * MIB + 1)
    assert volume.read("/d/file") == (CONTENT.ljust(12 * MIB + 5, b"\0") + b"x").ljust(
        13 * MIB + 1, b"\0"
    )
    assert_clean(volume)


def test_a_long_file_grows_and_shrinks_in_place() -> None:
    """A file over 4 MiB keeps its clusters when it becomes longer or shorter."""
    volume = make()
    volume.write("/big", b"b" * 5 * MIB)
    (first, *_) = volume.fragments("/big")
    with volume.open("/big", "a") as file:
        file.write(b"more")
        file.flush()
        assert volume.read("/big")[-5:] == b"bmore"
    assert volume.fragments("/big")[0].offset_bytes == first.offset_bytes
    free_bytes = volume.free_bytes
    with volume.open("/big", "r+") as file:
        file.truncate(4 * MIB + 2 * KIB + 1)
    assert volume.free_bytes == free_bytes + MIB - 2 * KIB
    assert volume.read("/big") == b"b" * (4 * MIB + 2 * KIB + 1)
    assert volume.fragments("/big")[0].offset_bytes == first.offset_bytes
    assert_clean(volume)


def test_a_full_volume_still_takes_changes_in_place() -> None:
    """Without room a file is changed within its length and cut, and refuses to grow."""
    volume = make()
    volume.write("/filler", bytes(volume.free_bytes))
    with volume.open("/d/file", "r+", buffering=0) as file:
        file.write(b"changed")
        with pytest.raises(NoSpaceError):
            file.seek(0, io.SEEK_END) and file.write(b"x" * 4 * KIB)
        file.truncate(5000)
        file.seek(0)
    assert volume.read("/d/file") == b"changed" + CONTENT[7:5000]
    assert volume.free_bytes == 2 * volume.cluster_bytes
    assert_clean(volume)


def test_an_open_file_is_not_pulled_away() -> None:
    """What is open is not deleted, moved, replaced or opened for writing; its folder may move."""
    volume = make()
    with volume.open("/d/file"):
        for attempt in (
            lambda: volume.delete("/d/file"),
            lambda: volume.delete("/d", recursive=True),
            lambda: volume.move("/d/file", "/x"),
            lambda: volume.write("/d/file", b""),
            lambda: volume.open("/d/FILE", "r+"),
        ):
            with pytest.raises(UsageError, match="open"):
                attempt()
        volume.open("/d/file").close()
    file = volume.open("/d/file", "a")
    with pytest.raises(UsageError, match="open"):
        volume.open("/d/file")
    file.write(b"!")
    volume.move("/d", "/e")
    volume.close()
    assert file.closed
    assert fat.open(volume._device).read("/e/file") == CONTENT + b"!"
    volume.delete("/e/file")


def test_the_longest_file() -> None:
    """A file ends at 4 GiB − 1; the refusal changes nothing."""
    volume = make()
    with volume.open("/d/file", "r+", buffering=0) as file:
        with pytest.raises(UsageError, match="ends at"):
            file.truncate(1 << 32)
        file.seek((1 << 32) - 2)
        with pytest.raises(UsageError, match="ends at"):
            file.write(b"xy")
        with pytest.raises(NoSpaceError):
            file.truncate((1 << 32) - 1)
    assert volume.read("/d/file") == CONTENT
    assert_clean(volume)
