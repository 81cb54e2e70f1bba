"""Writes past the host's cache: the same bytes, whatever the host refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ipva_storage.device import RawDevice, read
from ipva_storage.device.direct import ALIGNMENT_BYTES, DIRECT_MIN_BYTES, page_buffer
from ipva_storage.units import MIB

pytestmark = pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="this host has no such writes")


def filled(size_bytes: int) -> memoryview:
    """A buffer at a page's start, with bytes that differ."""
    view = page_buffer(size_bytes)
    view[:] = os.urandom(size_bytes)
    return view


@pytest.mark.parametrize("length", [1, DIRECT_MIN_BYTES, DIRECT_MIN_BYTES + 1, MIB - 1, MIB])
@pytest.mark.parametrize("offset_bytes", [0, 1, 512, ALIGNMENT_BYTES])
@pytest.mark.parametrize("skip", [0, 1, 512])
def test_any_alignment(tmp_path: Path, offset_bytes: int, length: int, skip: int) -> None:
    """Bytes arrive whatever the alignment of the offset, the length and the memory."""
    data = filled(2 * MIB)[skip : skip + length]
    with RawDevice.create(tmp_path / "new.img", 2 * MIB) as device:
        device.write(offset_bytes, b"before" * 1000)
        device.write(offset_bytes, data)
        device.write(offset_bytes + length // 2, b"after")
        wanted = bytearray(b"before" * 1000).ljust(max(6000, length), b"\0")
        wanted[:length] = data
        wanted[length // 2 : length // 2 + 5] = b"after"
        assert read(device, offset_bytes, len(wanted)) == wanted


def test_a_new_file_takes_one_descriptor_until_it_is_written_to(tmp_path: Path) -> None:
    """A disk of hundreds of pieces is made with all of them open."""
    place = Path("/proc/self/fd")
    before = len(list(place.iterdir()))
    with RawDevice.create(tmp_path / "new.img", MIB) as device:
        device.write(0, b"small")
        assert len(list(place.iterdir())) == before + 1
        device.write(0, filled(MIB))
    assert len(list(place.iterdir())) == before


def test_goes_past_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large aligned write of a new file is one direct write, where the file system takes any."""
    import fcntl  # hosts without direct writes have none, either

    try:
        os.close(os.open(tmp_path / "probe", os.O_CREAT | os.O_WRONLY | os.O_DIRECT))
    except OSError:
        pytest.skip("this file system has no such writes")
    seen: list[tuple[bool, int]] = []
    pwrite = os.pwrite

    def watched(file: int, data: memoryview, at: int) -> int:
        seen.append((bool(fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT), len(data)))
        return pwrite(file, data, at)

    monkeypatch.setattr(os, "pwrite", watched)
    with RawDevice.create(tmp_path / "new.img", MIB) as device:
        device.write(0, filled(MIB))
    assert seen == [(True, MIB)]


@pytest.mark.parametrize("refused", ["open", "write", "half"])
def test_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    """A file system that has no direct writes, or gives up on one half-way, gets usual ones."""
    data = filled(MIB)
    direct: set[int] = set()
    opened, pwrite = os.open, os.pwrite

    def open_(path: object, flags: int, *rest: int) -> int:
        if flags & os.O_DIRECT and refused == "open":
            raise OSError(errno.EINVAL, "no such writes")
        file = opened(path, flags, *rest)  # type: ignore[arg-type]
        if flags & os.O_DIRECT:
            direct.add(file)
        return file

    def write(file: int, view: memoryview, at: int) -> int:
        if file in direct:
            if refused == "write":
                raise OSError(errno.EINVAL, "not this one")
            view = view[: 3 * ALIGNMENT_BYTES]
        return pwrite(file, view, at)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "pwrite", write)
    with RawDevice.create(tmp_path / "new.img", 2 * MIB) as device:
        device.write(ALIGNMENT_BYTES, data)
        assert read(device, ALIGNMENT_BYTES, MIB) == data


def test_files_are_closed(tmp_path: Path) -> None:
    """No descriptor is left open."""
    open_files = Path("/proc/self/fd")
    before = len(list(open_files.iterdir()))
    RawDevice.create(tmp_path / "new.img", MIB).close()
    assert len(list(open_files.iterdir())) == before
