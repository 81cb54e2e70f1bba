"""What is saved, where, how much of it, and with how many flushes."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipva_storage import vmdk
from ipva_storage.device import (
    Extent,
    Folder,
    MemoryDevice,
    Operation,
    RawDevice,
    TraceDevice,
    read,
)
from ipva_storage.device.undo import (
    ImageFolder,
    Images,
    JournalReader,
    UndoDevice,
    UndoFolder,
    UndoJournal,
    restore,
)
from ipva_storage.device.undo.journal import BATCH_BYTES, LONG_BYTES
from ipva_storage.device.undo.ledger import BLOCK_BYTES
from ipva_storage.device.undo.records import BATCHES_OFFSET_BYTES, FileEntry, RangeEntry
from ipva_storage.errors import DeviceError, UndoError
from ipva_storage.units import KIB, MIB


class Job:
    """A job over one image in memory, under account."""

    def __init__(self, content: bytes | int) -> None:
        self.image = TraceDevice(MemoryDevice(content, name="image"), keep_data=True)
        self.medium = MemoryDevice(name="undo")
        self.file = TraceDevice(self.medium)
        self.journal = UndoJournal(self.file)
        self.device = UndoDevice(self.image, self.journal)
        self.file.reset()

    @property
    def flushes(self) -> int:
        """Of the journal, since the job began."""
        return self.file.work.flush_count

    def ranges(self) -> list[tuple[int, int, bool]]:
        """What is saved: offset, length, whether it is data."""
        return [
            (entry.offset_bytes, entry.length_bytes, entry.data is not None)
            for _, entry in JournalReader(self.medium).entries()
            if isinstance(entry, RangeEntry)
        ]


def test_a_range_is_saved_once_in_whole_blocks() -> None:
    """The first touch saves the blocks around it, later ones nothing; the image gets the write."""
    job = Job(b"x" * (3 * BLOCK_BYTES + 100))
    job.device.write(BLOCK_BYTES - 1, b"ab")
    job.device.write(10, b"again")
    job.device.discard(100, BLOCK_BYTES)
    assert job.ranges() == [(0, 2 * BLOCK_BYTES, True)]
    assert job.flushes == 1
    assert job.journal.saved_bytes == 2 * BLOCK_BYTES
    job.device.resize(3 * BLOCK_BYTES + 50)
    assert job.ranges()[-1] == (3 * BLOCK_BYTES, 100, True)
    assert read(job.image, BLOCK_BYTES + 90, 20) == bytes(10) + b"x" * 10


def test_nothing_beyond_the_original_end_is_saved() -> None:
    """Growing and writing there costs one entry for the image, and no bytes of it."""
    job = Job(b"x" * 1000)
    job.device.resize(10 * MIB)
    assert job.flushes == 1
    job.device.write(1000, b"y" * MIB)
    job.device.write(5 * MIB, b"y" * MIB)
    assert job.flushes == 1
    assert job.ranges() == []
    assert job.medium.size_bytes == BATCHES_OFFSET_BYTES + 512
    assert job.image.size_bytes == 10 * MIB


def test_zeros_take_no_room() -> None:
    """Blocks of zeros are one entry without data, however many there are."""
    job = Job(8 * MIB)
    job.device.write(0, b"y" * (8 * MIB))
    assert job.ranges() == [(0, 8 * MIB, False)]
    assert job.medium.size_bytes == BATCHES_OFFSET_BYTES + 512


def test_holes_of_a_long_range_are_not_read(tmp_path: Path) -> None:
    """The host is asked where a long discard has data; only that is read."""
    raw = RawDevice.create(tmp_path / "image", 64 * MIB)
    raw.write(30 * MIB + 100, b"data")
    image = TraceDevice(raw)
    file = MemoryDevice(name="undo")
    device = UndoDevice(image, UndoJournal(file))
    device.discard(10, 64 * MIB - 20)
    if not any(not run.is_data for run in raw.extents()):
        pytest.skip("the host's file system has no holes")
    assert image.work.read_bytes < LONG_BYTES
    assert not any(read(raw, 30 * MIB, MIB))
    raw.close()
    restore(file, OneImage(tmp_path / "image"))
    with RawDevice(tmp_path / "image") as after:
        assert read(after, 30 * MIB + 100, 4) == b"data"


def test_holes_are_known_by_whole_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What of a hole shares a block with data counts as data, so that blocks are saved whole."""

    class Holey(MemoryDevice):
        def extents(self) -> Iterator[Extent]:
            yield Extent(0, 1000, is_data=True)
            yield Extent(1000, 3 * BLOCK_BYTES, is_data=False)
            yield Extent(3 * BLOCK_BYTES + 1000, 5000, is_data=True)
            yield Extent(3 * BLOCK_BYTES + 6000, BLOCK_BYTES, is_data=False)

    monkeypatch.setattr("ipva_storage.device.undo.journal.LONG_BYTES", 0)
    job = Job(1)
    image = TraceDevice(Holey(4 * BLOCK_BYTES + 6000, name="holey"))
    UndoDevice(image, job.journal).discard(0, image.size_bytes)
    assert image.work.read_bytes == 2 * BLOCK_BYTES  # the first block and the fourth
    assert job.ranges() == [(0, 4 * BLOCK_BYTES + 6000, False)]


class OneImage(Images):
    """One file, whatever the journal calls it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, name: str, *, writable: bool) -> RawDevice:
        return RawDevice(self.path, writable=writable)

    def modified_us(self, name: str) -> int:
        return 0


def test_writes_in_sequence_take_few_flushes() -> None:
    """Small writes one after the other save ever more ahead: 32 MiB with 14 flushes, not 512."""
    job = Job(b"x" * (32 * MIB))
    for at in range(0, 32 * MIB, 4 * KIB):
        job.device.write(at, b"y" * (4 * KIB))
    assert job.flushes == 14
    assert job.journal.saved_bytes == 32 * MIB
    assert job.file.work.write_bytes < 32.1 * MIB


def test_scattered_writes_save_a_block_each() -> None:
    """A write elsewhere saves its own block and no more."""
    job = Job(b"x" * (64 * MIB))
    for at in range(MIB // 2, 64 * MIB, MIB):
        job.device.write(at, b"y" * 512)
    assert job.flushes == 64
    assert job.journal.saved_bytes == 64 * BLOCK_BYTES


def test_announced_writes_take_one_flush_a_batch() -> None:
    """The same writes, announced, take a flush for each 4 MiB that is saved."""
    job = Job(b"x" * (64 * MIB))
    places = range(MIB // 2, 64 * MIB, MIB)
    job.device.expect((at, 512) for at in places)
    assert job.flushes == 64 * BLOCK_BYTES // BATCH_BYTES
    for at in reversed(places):
        job.device.write(at, b"y" * 512)
    assert job.flushes == 64 * BLOCK_BYTES // BATCH_BYTES
    assert job.journal.saved_bytes == 64 * BLOCK_BYTES


def test_the_flush_comes_between_save_and_write() -> None:
    """The journal is flushed after it was written and before the image is."""
    job = Job(b"x" * 1000)
    job.device.write(0, b"y")
    kinds = [record.operation for record in job.file.records]
    flush = kinds.index(Operation.FLUSH)
    batch = next(r for r in job.file.records if r.offset_bytes == BATCHES_OFFSET_BYTES)
    assert job.file.records.index(batch) < flush
    seen: list[int] = []

    class Watching(MemoryDevice):
        def write(self, offset_bytes: int, data: object, /) -> None:
            seen.append(job.file.work.flush_count)

    device = UndoDevice(Watching(b"x" * 1000, name="other"), job.journal)
    before = job.flushes
    device.write(0, b"y")
    assert seen == [before + 1]


def test_the_end_is_durable() -> None:
    """The last thing that happens to a journal is a flush."""

    class Opened(Images):
        def open(self, name: str, *, writable: bool) -> TraceDevice:
            return job.image

        def modified_us(self, name: str) -> int:
            return 0

    job = Job(b"x" * 1000)
    job.device.write(0, b"y")
    job.journal.finish(Opened())
    assert job.file.records[-1].operation is Operation.FLUSH
    assert job.image.records[-1].operation is Operation.FLUSH


def test_a_long_save_takes_little_memory(tmp_path: Path) -> None:
    """64 MiB are saved in batches, not at once."""
    with RawDevice.create(tmp_path / "image", 64 * MIB) as image:
        image.write(0, b"x" * (64 * MIB))
        journal = UndoJournal.create(Folder(tmp_path), "undo")
        device = UndoDevice(image, journal)
        tracemalloc.start()
        device.expect([(0, 64 * MIB)])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        journal.close()
    assert peak < 6 * BATCH_BYTES


def test_a_closed_journal_lets_nothing_be_changed() -> None:
    """After the journal is closed neither new nor saved ranges may be written."""
    job = Job(b"x" * 1000)
    job.device.write(0, b"y")
    job.journal.close()
    job.journal.close()
    with pytest.raises(DeviceError, match="closed, so nothing is changed"):
        job.device.write(0, b"z")
    with pytest.raises(DeviceError, match="closed, so nothing is changed"):
        job.device.discard(0, 5)
    with pytest.raises(DeviceError, match="closed, so nothing is changed"):
        job.device.resize(2000)
    assert read(job.image, 0, 2) == b"yx"


def test_what_leaves_the_device_is_refused_before_it_is_saved() -> None:
    """A write past the end, and one of a buffer with gaps, save nothing."""
    job = Job(b"x" * 1000)
    with pytest.raises(DeviceError):
        job.device.write(990, b"y" * 20)
    with pytest.raises(TypeError):
        job.device.write(0, memoryview(b"abcdef")[::2])
    assert job.journal.is_empty


def test_a_failed_save_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the host disk is full, the image stays; with room again, the same write works."""
    job = Job(b"x" * (2 * BLOCK_BYTES))
    job.device.write(0, b"y")

    def full(self: MemoryDevice, offset_bytes: int, data: bytes, /) -> None:
        raise DeviceError("the host disk is full", where=self.name)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryDevice, "write", full)
        with pytest.raises(DeviceError, match="full"):
            job.device.write(BLOCK_BYTES, b"z")
    assert read(job.image, BLOCK_BYTES, 1) == b"x"
    job.device.write(BLOCK_BYTES, b"z")
    assert job.ranges() == [(0, BLOCK_BYTES, True), (BLOCK_BYTES, BLOCK_BYTES, True)]


class TestFiles:
    def test_an_existing_file_is_never_replaced(self, tmp_path: Path) -> None:
        """Neither an image nor anything else becomes a journal."""
        (tmp_path / "disk.img").write_bytes(b"image")
        with pytest.raises(DeviceError, match="exists already"):
            UndoJournal.create(Folder(tmp_path), "disk.img")
        assert (tmp_path / "disk.img").read_bytes() == b"image"
        with pytest.raises(DeviceError, match="not empty"):
            UndoJournal(MemoryDevice(5))

    def test_a_journal_that_cannot_be_begun_leaves_no_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When the first write fails, the file goes again."""

        def full(*_: object) -> None:
            raise DeviceError("full")

        monkeypatch.setattr(RawDevice, "write", full)
        with pytest.raises(DeviceError, match="full"):
            UndoJournal.create(Folder(tmp_path), "undo")
        assert list(tmp_path.iterdir()) == []

    def test_a_journal_is_not_an_image(self, tmp_path: Path) -> None:
        """It refuses to save itself."""
        journal = UndoJournal.create(Folder(tmp_path), "undo")
        with pytest.raises(UndoError, match="cannot save itself"):
            UndoDevice(MemoryDevice(name=str(tmp_path / "undo")), journal)
        journal.close()

    def test_names(self, tmp_path: Path) -> None:
        """Beside the journal an image has a plain name, elsewhere a path; links are followed."""
        (tmp_path / "vm").mkdir()
        (tmp_path / "other").mkdir()
        (tmp_path / "link").symlink_to("vm")
        places = {"vm/a": "a", "link/b": "b", "vm/c:1": "vm/c:1", "other/d": "other/d"}
        for path in places:
            (tmp_path / path).write_bytes(b"x")
        (tmp_path / "vm" / "e").symlink_to(tmp_path / "other" / "d")
        journal = UndoJournal.create(Folder(tmp_path / "link"), "undo")
        for path, name in [*places.items(), ("vm/e", "other/d")]:
            image = journal.image(str(tmp_path / path), 1)
            expected = name if "/" not in name else str(Path(os.path.realpath(tmp_path)) / name)
            assert image.name == expected
        journal.close()

    def test_one_image_opened_twice_is_one(self, tmp_path: Path) -> None:
        """Opened again in the same job, it is saved as it was before the first change."""
        path = tmp_path / "disk.img"
        path.write_bytes(b"old" * 1000)
        journal = UndoJournal.create(Folder(tmp_path), "undo")
        for text in (b"first", b"second"):
            with UndoDevice(RawDevice(path, writable=True), journal) as device:
                device.resize(100)
                device.write(0, text)
        images = ImageFolder(tmp_path / "undo")
        journal.finish(images)
        journal.close()
        with RawDevice(tmp_path / "undo", writable=True) as file:
            names = [e for _, e in JournalReader(file).entries() if isinstance(e, FileEntry)]
            assert names == [FileEntry(0, 3000, "disk.img")]
            restore(file, images)
        assert path.read_bytes() == b"old" * 1000


class TestFolder:
    def test_a_disk_of_two_files(self, tmp_path: Path) -> None:
        """A flat VMDK opened through the folder is taken back, descriptor and extent."""
        vmdk.create(Folder(tmp_path), "disk.vmdk", MIB, subformat="monolithicFlat")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        journal = UndoJournal.create(Folder(tmp_path), "undo")
        folder = UndoFolder(Folder(tmp_path), journal)
        raw = folder.open("disk.vmdk", writable=True)
        with vmdk.open(raw, folder, writable=True) as disk:
            disk.write(300_000, b"changed" * 1000)
        journal.finish(ImageFolder(tmp_path / "undo"))
        journal.close()
        changed = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert all(changed[name] != content for name, content in before.items())
        with RawDevice(tmp_path / "undo", writable=True) as file:
            done = restore(file, ImageFolder(tmp_path / "undo"))
        assert len(done.images) == len(before) == 2
        for name, content in before.items():
            assert (tmp_path / name).read_bytes() == content

    def test_a_file_that_is_only_read_is_not_in_the_journal(self, tmp_path: Path) -> None:
        """Reading opens it as it is; opening it for writing alone saves nothing."""
        (tmp_path / "disk.img").write_bytes(b"x")
        journal = UndoJournal.create(Folder(tmp_path), "undo")
        folder = UndoFolder(Folder(tmp_path), journal)
        with folder.open("disk.img") as device:
            assert not isinstance(device, UndoDevice)
        folder.open("disk.img", writable=True).close()
        assert journal.is_empty
        journal.close()

    def test_a_replaced_file_is_saved_whole(self, tmp_path: Path) -> None:
        """A file that a new one replaces comes back; one that is new stays."""
        folder = Folder(tmp_path)
        folder.write_text("a.txt", "the old text")
        journal = UndoJournal.create(folder, "undo")
        guarded = UndoFolder(Folder(tmp_path), journal)
        guarded.write_text("a.txt", "new", force=True)
        guarded.write_text("b.txt", "new")
        journal.finish(ImageFolder(tmp_path / "undo"))
        journal.close()
        with RawDevice(tmp_path / "undo", writable=True) as file:
            restore(file, ImageFolder(tmp_path / "undo"))
        assert folder.read_text("a.txt") == "the old text"
        assert folder.read_text("b.txt") == "new"

    def test_a_file_in_another_folder(self, tmp_path: Path) -> None:
        """The folder that a file is in guards as well, as for a parent that lies elsewhere."""
        (tmp_path / "here").mkdir()
        (tmp_path / "there").mkdir()
        path = tmp_path / "there" / "disk.img"
        path.write_bytes(b"old" * 1000)
        journal = UndoJournal.create(Folder(tmp_path), "undo")
        guarded = UndoFolder(Folder(tmp_path / "here", allow_outside=True), journal)
        beside = guarded.beside("../there/disk.img")
        with beside.open("disk.img", writable=True) as device:
            device.write(0, b"new")
        journal.close()
        with RawDevice(tmp_path / "undo", writable=True) as file:
            restore(file, ImageFolder(tmp_path / "undo", allow_outside=True))
        assert path.read_bytes() == b"old" * 1000


def test_a_job_that_saves_nothing_new_says_that_it_is_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The journal is never much older than the image, by which a later change is told from it."""
    device = MemoryDevice(name="journal")
    clock = [1_000_000_000]
    monkeypatch.setattr("ipva_storage.device.undo.journal.time.time_ns", lambda: clock[0])
    journal = UndoJournal(device)
    with UndoDevice(MemoryDevice(bytes(1000), name="image"), journal) as image:
        image.write(0, b"x")
        told = JournalReader(device).status
        for seconds, is_new in ((2, False), (4, True)):
            clock[0] += seconds * 1_000_000_000
            image.write(0, b"y")
            assert (JournalReader(device).status != told) is is_new
    assert JournalReader(device).status.time_us == clock[0] // 1000
