"""RawDevice: what the host's files can and cannot do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ipva_storage.device import RawDevice, read
from ipva_storage.errors import DeviceError

if TYPE_CHECKING:
    from pathlib import Path

linux = pytest.mark.skipif(sys.platform != "linux", reason="holes as Linux keeps them")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file of 64 KiB without zeros."""
    path = tmp_path / "disk.img"
    path.write_bytes(b"\x11" * 65536)
    return path


class TestOpening:
    def test_reads_without_writing(self, image: Path) -> None:
        """Reading leaves bytes and modification time as they were."""
        before = image.stat().st_mtime_ns
        with RawDevice(image) as device:
            assert read(device, 65530, 6) == b"\x11" * 6
            assert list(device.extents())
            device.flush()
        assert image.stat().st_mtime_ns == before

    @pytest.mark.parametrize("change", ["write", "discard", "resize"])
    def test_read_only_refuses_changes(self, image: Path, change: str) -> None:
        """A device that was not opened for writing refuses every change, and says so."""
        arguments = {"write": (0, b"x"), "discard": (0, 512), "resize": (5,)}[change]
        with RawDevice(image) as device, pytest.raises(DeviceError, match="read-only"):
            getattr(device, change)(*arguments)
        assert image.read_bytes() == b"\x11" * 65536

    def test_missing_file(self, tmp_path: Path) -> None:
        """A missing file is named."""
        with pytest.raises(DeviceError, match=r"nothing\.img: there is no such file"):
            RawDevice(tmp_path / "nothing.img")

    @pytest.mark.parametrize("writable", [False, True])
    def test_folder(self, tmp_path: Path, writable: bool) -> None:
        """A folder is no image, and the message says what to name instead."""
        with pytest.raises(DeviceError, match="it is a folder; name an image file"):
            RawDevice(tmp_path, writable=writable)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this host has no FIFOs")
    def test_fifo_does_not_hang(self, tmp_path: Path) -> None:
        """A FIFO is refused at once, without waiting for its other end."""
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(DeviceError, match="neither a file nor a disk"):
            RawDevice(tmp_path / "pipe")

    @pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
    def test_impossible_name(self, tmp_path: Path, name: str) -> None:
        """A name the host cannot have is a refusal, not a traceback."""
        with pytest.raises(DeviceError):
            RawDevice(tmp_path / name)

    def test_gives_its_descriptor_back(self, tmp_path: Path) -> None:
        """A refused opening leaves no open file behind."""
        (tmp_path / "folder").mkdir()
        spare = os.open(os.devnull, os.O_RDONLY)
        os.close(spare)
        with pytest.raises(DeviceError):
            RawDevice(tmp_path / "folder")
        again = os.open(os.devnull, os.O_RDONLY)
        os.close(again)
        assert again == spare

    def test_create_refuses_existing(self, image: Path) -> None:
        """Creating never replaces a file."""
        with pytest.raises(DeviceError, match="exists already"):
            RawDevice.create(image, 10)
        assert image.stat().st_size == 65536


@pytest.mark.skipif(sys.platform == "win32", reason="no lock there")
class TestLock:
    def test_second_writer_refused(self, image: Path) -> None:
        """A second writer is refused with what to do; readers are not."""
        with RawDevice(image, writable=True):
            with pytest.raises(DeviceError, match=r"another process is writing.*wait"):
                RawDevice(image, writable=True)
            with RawDevice(image) as reader:
                assert read(reader, 0, 1) == b"\x11"

    def test_lock_is_given_back(self, image: Path) -> None:
        """Closing lets the next writer in."""
        RawDevice(image, writable=True).close()
        with RawDevice(image, writable=True) as device:
            device.write(0, b"next")
        assert image.read_bytes()[:4] == b"next"

    def test_refused_writer_keeps_no_lock(self, image: Path) -> None:
        """The writer that was refused holds nothing."""
        with RawDevice(image, writable=True), pytest.raises(DeviceError):
            RawDevice(image, writable=True)
        RawDevice(image, writable=True).close()

    def test_other_process_refused(self, image: Path) -> None:
        """The lock holds against another process."""
        code = (
            "import sys\nfrom ipva_storage.device import RawDevice\n"
            "from ipva_storage.errors import DeviceError\n"
            "try:\n    RawDevice(sys.argv[1], writable=True)\n"
            "except DeviceError as error:\n    print(error)\n"
        )
        with RawDevice(image, writable=True):
            result = subprocess.run(
                [sys.executable, "-c", code, image], capture_output=True, text=True, check=True
            )
        assert "another process is writing to it" in result.stdout

    def test_file_replaced_before_the_lock(
        self, image: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that lost its name between opening and locking is not written to."""
        usual = os.open

        def slow(path: str, *words: int) -> int:
            file = usual(path, *words)
            image.with_name("new").write_bytes(b"new")
            image.with_name("new").replace(image)
            return file

        monkeypatch.setattr(os, "open", slow)
        with pytest.raises(DeviceError, match="in this moment"):
            RawDevice(image, writable=True)

    def test_share_without_locks(self, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the host knows no locks, the file opens all the same."""

        def refuse(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("fcntl.flock", refuse)
        with RawDevice(image, writable=True) as device:
            device.write(0, b"ok")
        assert image.read_bytes()[:2] == b"ok"


class TestHoles:
    @linux
    def test_discard_gives_space_back(self, image: Path) -> None:
        """A discard punches a hole: the file takes less space and keeps its length."""
        before = image.stat().st_blocks
        with RawDevice(image, writable=True) as device:
            device.discard(16384, 32768)
            device.flush()
            runs = [(run.offset_bytes, run.length_bytes, run.is_data) for run in device.extents()]
        assert image.stat().st_blocks <= before - 60
        assert image.stat().st_size == 65536
        assert (16384, 32768, False) in runs

    @linux
    def test_large_sparse_file_is_one_hole(self, tmp_path: Path) -> None:
        """A new file of a tebibyte is a single hole, found without reading it."""
        with RawDevice.create(tmp_path / "big.img", 1 << 40) as device:
            runs = list(device.extents())
        assert [(run.length_bytes, run.is_data) for run in runs] == [(1 << 40, False)]

    def test_discard_without_holes(self, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the host cannot punch holes, zeros are written, in pieces."""
        monkeypatch.setattr("ipva_storage.device.raw._punch", lambda *_: False)
        monkeypatch.setattr("ipva_storage.device.raw._ZEROS", bytes(1000))
        with RawDevice(image, writable=True) as device:
            device.discard(100, 5000)
        content = image.read_bytes()
        assert content == b"\x11" * 100 + bytes(5000) + b"\x11" * (65536 - 5100)


class TestTrouble:
    def test_file_cut_while_open(self, image: Path) -> None:
        """A file that got shorter under the reader is an error with the place, not a short read."""
        with RawDevice(image) as device:
            os.truncate(image, 1000)
            with pytest.raises(DeviceError, match="ended early") as caught:
                read(device, 512, 4096)
        assert caught.value.offset_bytes == 1000

    @pytest.mark.parametrize(
        ("code", "text", "remedy"),
        [
            (errno.ENOSPC, "disk is full", "make room"),
            (errno.EDQUOT, "is used up", "make room"),
            (errno.EFBIG, "as long as that", "ulimit -f"),
        ],
    )
    def test_full_host_disk(
        self, image: Path, monkeypatch: pytest.MonkeyPatch, code: int, text: str, remedy: str
    ) -> None:
        """A host disk without room is told with the remedy and the place."""

        def refuse(*_: object) -> int:
            raise OSError(code, "as the host says it")

        monkeypatch.setattr("ipva_storage.device.raw._write_at", refuse)
        device = RawDevice(image, writable=True)
        with device, pytest.raises(DeviceError, match=text) as caught:
            device.write(512, b"data")
        assert remedy in (caught.value.remedy or "")
        assert caught.value.offset_bytes == 512

    def test_host_moves_less_than_asked(self, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Short reads and writes, as hosts do above 2 GiB, are gone on with."""
        pread, pwrite = os.preadv, os.pwrite

        def short_read(file: int, views: list[memoryview], at: int) -> int:
            return pread(file, [views[0][:7]], at)

        def short_write(file: int, view: memoryview, at: int) -> int:
            return pwrite(file, view[:5], at)

        monkeypatch.setattr(os, "preadv", short_read)
        monkeypatch.setattr(os, "pwrite", short_write)
        with RawDevice(image, writable=True) as device:
            device.write(3, bytes(range(100)))
            assert read(device, 3, 100) == bytes(range(100))

    def test_closed_device(self, image: Path) -> None:
        """A closed device refuses with our error."""
        device = RawDevice(image, writable=True)
        device.close()
        with pytest.raises(DeviceError):
            read(device, 0, 1)
        with pytest.raises(DeviceError):
            device.write(0, b"x")
