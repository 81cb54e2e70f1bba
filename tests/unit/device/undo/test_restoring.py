"""What is restored, and what is refused instead: changed images, damaged journals, lying names."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ipva_storage.device import Folder, MemoryDevice, RawDevice
from ipva_storage.device.undo import (
    ImageFolder,
    Images,
    UndoDevice,
    UndoFolder,
    UndoJournal,
    records,
)
from ipva_storage.device.undo import restore as restore_device
from ipva_storage.device.undo.ledger import BLOCK_BYTES
from ipva_storage.device.undo.records import Entry, FileEntry, Header, RangeEntry, State
from ipva_storage.device.undo.restore import Restoration
from ipva_storage.errors import DeviceError, IpvaError, UndoError
from ipva_storage.units import MIB

OLD = bytes(range(251)) * 2000
JOURNAL = "disk.img.undo"


def make_job(folder: Path, *, is_finished: bool = True) -> Path:
    """An image that a job changed and shortened; gives its path."""
    image = folder / "disk.img"
    image.write_bytes(OLD)
    journal = UndoJournal.create(Folder(folder), JOURNAL)
    with UndoFolder(Folder(folder), journal).open("disk.img", writable=True) as device:
        device.write(100, b"changed")
        device.write(3 * BLOCK_BYTES, b"changed")
        device.resize(len(OLD) - 1000)
    if is_finished:
        journal.finish(ImageFolder(folder / JOURNAL))
    journal.close()
    return image


def restore(
    folder: Path, *, force: bool = False, dry_run: bool = False, allow_outside: bool = False
) -> Restoration:
    """Take the job of a folder back."""
    path = folder / JOURNAL
    with RawDevice(path, writable=not dry_run) as file:
        images = ImageFolder(path, allow_outside=allow_outside)
        return restore_device(file, images, force=force, dry_run=dry_run)


def forged(folder: Path, *batches: list[Entry]) -> Path:
    """A journal with these batches, whatever they say."""
    path = folder / JOURNAL
    status = records.Status(State.WORKING, 1, 0, 0, records.BATCHES_OFFSET_BYTES)
    head = records.build_header(Header(7, 0)) + records.build_status(status, 7)
    head = head.ljust(records.BATCHES_OFFSET_BYTES, b"\0")
    body = [records.build_batch(7, number, batch) for number, batch in enumerate(batches)]
    path.write_bytes(b"".join([head, *body]))
    return path


class TestRestore:
    def test_bytes_and_length_come_back(self, tmp_path: Path) -> None:
        """The image is as before; the journal says so and is kept."""
        image = make_job(tmp_path)
        assert image.read_bytes() != OLD
        done = restore(tmp_path)
        assert image.read_bytes() == OLD
        assert (tmp_path / JOURNAL).exists()
        assert done.was_finished
        assert not done.is_again
        (one,) = done.images
        assert (one.name, one.original_bytes) == (str(image), len(OLD))
        assert (one.ranges, one.saved_bytes) == (3, 2 * BLOCK_BYTES + len(OLD) % BLOCK_BYTES)

    def test_a_dry_run_writes_nothing(self, tmp_path: Path) -> None:
        """It says the same, and neither journal nor image changes, nor their times."""
        image = make_job(tmp_path)
        paths = [image, tmp_path / JOURNAL]
        before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths]
        told = restore(tmp_path, dry_run=True)
        assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths] == before
        assert told == restore(tmp_path)

    def test_holes_come_back_as_holes(self, tmp_path: Path) -> None:
        """Where the image was a hole before, it takes no room afterwards."""
        path = tmp_path / "disk.img"
        with RawDevice.create(path, 4 * MIB) as raw:
            raw.write(0, b"start")
            raw.flush()
        before = path.stat().st_blocks
        journal = UndoJournal.create(Folder(tmp_path), JOURNAL)
        with UndoDevice(RawDevice(path, writable=True), journal) as device:
            device.write(0, b"x" * (4 * MIB))
            device.flush()
        journal.close()
        assert path.stat().st_blocks > before
        restore(tmp_path)
        assert path.read_bytes() == b"start".ljust(4 * MIB, b"\0")
        assert path.stat().st_blocks <= before + BLOCK_BYTES // 512

    def test_the_folder_may_be_moved(self, tmp_path: Path) -> None:
        """Journal and image moved together still belong together."""
        (tmp_path / "vm").mkdir()
        make_job(tmp_path / "vm")
        (tmp_path / "vm").rename(tmp_path / "elsewhere")
        restore(tmp_path / "elsewhere")
        assert (tmp_path / "elsewhere" / "disk.img").read_bytes() == OLD

    def test_progress_ends_at_the_total(self, tmp_path: Path) -> None:
        """Progress counts the saved bytes up to all of them."""
        make_job(tmp_path)
        told: list[tuple[int, int]] = []
        with RawDevice(tmp_path / JOURNAL, writable=True) as file:
            restore_device(
                file, ImageFolder(tmp_path / JOURNAL), progress=lambda *each: told.append(each)
            )
        assert told == sorted(told)
        assert told[-1][0] == told[-1][1] > 0

    def test_a_job_that_changed_nothing(self, tmp_path: Path) -> None:
        """Its journal restores nothing, which is no error; one cut at its start is told."""
        journal = UndoJournal.create(Folder(tmp_path), JOURNAL)
        journal.close()
        assert restore(tmp_path).images == ()
        content = (tmp_path / JOURNAL).read_bytes()
        for torn in (b"", bytes(4096), content[:7] + bytes(4089), content[:200] + bytes(3896)):
            (tmp_path / JOURNAL).write_bytes(torn)
            with pytest.raises(UndoError, match="before its job changed anything, or it was cut"):
                restore(tmp_path)


class TestChanged:
    def test_twice_is_refused(self, tmp_path: Path) -> None:
        """What was restored is not restored again over later work, unless forced."""
        image = make_job(tmp_path)
        restore(tmp_path)
        image.write_bytes(b"later work" * 100)
        with pytest.raises(UndoError, match=r"taken back already, on 20.*--force"):
            restore(tmp_path)
        assert image.read_bytes() == b"later work" * 100
        image.write_bytes(OLD[:100] + b"changed" + OLD[107:])
        assert restore(tmp_path, force=True).is_again
        assert image.read_bytes() == OLD

    @pytest.mark.parametrize("at", [0, BLOCK_BYTES - 1, 3 * BLOCK_BYTES + 5])
    def test_a_saved_range_that_changed(self, tmp_path: Path, at: int) -> None:
        """A byte that is not as the job left it is noticed, and nothing is written."""
        image = make_job(tmp_path)
        times = image.stat()
        content = bytearray(image.read_bytes())
        content[at] ^= 1
        image.write_bytes(content)
        os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
        with pytest.raises(UndoError, match=r"disk\.img: it was changed since the job.*--force"):
            restore(tmp_path)
        assert image.read_bytes() == content
        restore(tmp_path, force=True)
        assert image.read_bytes() == OLD

    def test_another_length(self, tmp_path: Path) -> None:
        """An image that grew or shrank since the job is refused."""
        image = make_job(tmp_path)
        with image.open("ab") as file:
            file.write(b"more")
        with pytest.raises(UndoError, match="the job left it 501000 bytes long"):
            restore(tmp_path)

    def test_a_later_change_elsewhere(self, tmp_path: Path) -> None:
        """A change where nothing was saved shows in the time of the file."""
        image = make_job(tmp_path)
        content = bytearray(image.read_bytes())
        content[2 * BLOCK_BYTES] ^= 1
        time.sleep(0.02)  # more than the grain of the host's clock
        image.write_bytes(content)
        with pytest.raises(UndoError, match=r"something wrote to it on .*, after the job"):
            restore(tmp_path)
        assert image.read_bytes() == content

    def test_times_of_a_coarse_file_system(self, tmp_path: Path) -> None:
        """A time that was rounded to two seconds is the same time."""
        image = make_job(tmp_path)
        seconds = int(image.stat().st_mtime) // 2 * 2
        os.utime(image, (seconds, seconds))
        restore(tmp_path)

    def test_an_unfinished_job_is_not_compared(self, tmp_path: Path) -> None:
        """Nobody knows how it left the image; it is restored, and that is said."""
        image = make_job(tmp_path, is_finished=False)
        assert not restore(tmp_path).was_finished
        assert image.read_bytes() == OLD

    def test_an_image_too_short_for_its_journal(self, tmp_path: Path) -> None:
        """What the image lacks of its length must be in the journal, else it is another image."""
        image = make_job(tmp_path, is_finished=False)
        image.write_bytes(OLD[: 2 * BLOCK_BYTES])
        with pytest.raises(UndoError, match="the journal does not have the rest"):
            restore(tmp_path)

    def test_a_missing_image(self, tmp_path: Path) -> None:
        """The error names the file that is not there."""
        make_job(tmp_path).unlink()
        with pytest.raises(UndoError, match=r"disk\.img: there is no such file, and the journal"):
            restore(tmp_path)

    def test_an_image_that_the_job_removed(self, tmp_path: Path) -> None:
        """It is made anew, byte for byte, unless another one is in its place."""
        journal = UndoJournal.create(Folder(tmp_path), JOURNAL)
        folder = UndoFolder(Folder(tmp_path), journal)
        contents = {"disk.img": OLD, "empty.img": b""}
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
            folder.remove(name)
        journal.finish(ImageFolder(tmp_path / JOURNAL))
        journal.close()
        assert [each.name for each in tmp_path.iterdir()] == [JOURNAL]
        assert restore(tmp_path, dry_run=True).was_finished
        assert [each.name for each in tmp_path.iterdir()] == [JOURNAL]
        (tmp_path / "disk.img").write_bytes(b"another one")
        with pytest.raises(UndoError, match="the job left it 0 bytes long"):
            restore(tmp_path)
        (tmp_path / "disk.img").unlink()
        assert restore(tmp_path).was_finished
        assert {name: (tmp_path / name).read_bytes() for name in contents} == contents

    def test_an_image_that_went_after_the_job(self, tmp_path: Path) -> None:
        """One that the job left, and that is gone, is made anew by force where it is all saved."""
        image = tmp_path / "disk.img"
        image.write_bytes(b"old" * 1000)
        journal = UndoJournal.create(Folder(tmp_path), JOURNAL)
        with UndoFolder(Folder(tmp_path), journal).open("disk.img", writable=True) as device:
            device.write(0, b"new")
        journal.finish(ImageFolder(tmp_path / JOURNAL))
        journal.close()
        image.unlink()
        with pytest.raises(UndoError, match="it is not there any more"):
            restore(tmp_path)
        restore(tmp_path, force=True)
        assert image.read_bytes() == b"old" * 1000

    def test_an_image_in_use(self, tmp_path: Path) -> None:
        """An image that another job has open is refused before anything is written."""
        image = make_job(tmp_path)
        left = image.read_bytes()
        with RawDevice(image, writable=True), pytest.raises(DeviceError, match="another process"):
            restore(tmp_path)
        assert image.read_bytes() == left

    def test_a_journal_in_use(self, tmp_path: Path) -> None:
        """A job that is still running cannot be taken back."""
        journal = UndoJournal.create(Folder(tmp_path), JOURNAL)
        with pytest.raises(DeviceError, match="another process"):
            restore(tmp_path)
        journal.close()


class TestNames:
    @pytest.fixture
    def secret(self, tmp_path: Path) -> Path:
        """A file that is none of the journal's business, beside the journal's folder."""
        (tmp_path / "vm").mkdir()
        path = tmp_path / "secret"
        path.write_bytes(b"secret")
        return path

    @pytest.mark.parametrize(
        "name", ["../secret", "sub/../../secret", "..", ".", "x\0y", "link", "C:\\secret"]
    )
    @pytest.mark.parametrize("allow_outside", [False, True])
    def test_names_that_leave_the_folder(
        self, tmp_path: Path, secret: Path, name: str, allow_outside: bool
    ) -> None:
        """A relative name is a plain one, whatever is allowed; links out are refused as well."""
        (tmp_path / "vm" / "link").symlink_to("../secret")
        forged(tmp_path / "vm", [FileEntry(0, 6, name), RangeEntry(0, 0, 6, b"hacked")])
        with pytest.raises(DeviceError, match="not a plain file name"):
            restore(tmp_path / "vm", allow_outside=allow_outside)
        assert secret.read_bytes() == b"secret"

    def test_an_absolute_name_needs_leave(self, tmp_path: Path, secret: Path) -> None:
        """It is refused with the name and the way out, and followed when that is given."""
        forged(tmp_path / "vm", [FileEntry(0, 6, str(secret)), RangeEntry(0, 0, 6, b"before")])
        with pytest.raises(UndoError, match=r"outside its folder, .*secret; .*--allow-outside"):
            restore(tmp_path / "vm")
        with pytest.raises(UndoError, match="outside"):
            restore(tmp_path / "vm", dry_run=True)
        assert secret.read_bytes() == b"secret"
        restore(tmp_path / "vm", allow_outside=True)
        assert secret.read_bytes() == b"before"

    @pytest.mark.parametrize("is_absolute", [False, True])
    def test_a_journal_of_itself(self, tmp_path: Path, is_absolute: bool) -> None:
        """A journal does not restore itself, by whatever name."""
        name = str(tmp_path / JOURNAL) if is_absolute else JOURNAL
        path = forged(tmp_path, [FileEntry(0, 6, name), RangeEntry(0, 0, 6, b"hacked")])
        before = path.read_bytes()
        for dry_run in (True, False):
            with pytest.raises(UndoError, match="names itself"):
                restore(tmp_path, allow_outside=True, dry_run=dry_run)
        assert path.read_bytes() == before

    def test_an_image_named_twice(self, tmp_path: Path) -> None:
        """One image is one entry."""
        (tmp_path / "a").write_bytes(b"image")
        forged(tmp_path, [FileEntry(0, 5, "a"), FileEntry(1, 5, "a")])
        with pytest.raises(UndoError, match="names the image a twice"):
            restore(tmp_path)

    def test_a_fifo_is_no_image(self, tmp_path: Path) -> None:
        """Something that is no file is refused, and not waited for."""
        os.mkfifo(tmp_path / "a")
        forged(tmp_path, [FileEntry(0, 5, "a")])
        with pytest.raises(DeviceError):
            restore(tmp_path)


class TestDamage:
    def test_no_journal(self, tmp_path: Path) -> None:
        """Some other file is refused as such, a short one too."""
        for content in (b"hello", b"x" * 10_000, OLD):
            (tmp_path / JOURNAL).write_bytes(content)
            with pytest.raises(UndoError, match="no undo journal; name the file that --undo made"):
                restore(tmp_path)

    def test_a_later_version(self, tmp_path: Path) -> None:
        """A version that is not known is named."""
        make_job(tmp_path)
        content = bytearray((tmp_path / JOURNAL).read_bytes())
        content[8] = 9
        (tmp_path / JOURNAL).write_bytes(content)
        with pytest.raises(UndoError, match="version 9 of undo journals is not known"):
            restore(tmp_path)

    @pytest.mark.parametrize("is_finished", [True, False])
    def test_damage_is_found_before_anything_is_written(
        self, tmp_path: Path, is_finished: bool
    ) -> None:
        """A flipped bit in any batch is told with the place of the batch; the image stays."""
        image = make_job(tmp_path, is_finished=is_finished)
        left, content = image.read_bytes(), (tmp_path / JOURNAL).read_bytes()
        first = records.BATCHES_OFFSET_BYTES
        last = content.rindex(records.batch_mark(int.from_bytes(content[16:24], "little")))
        for at in (first, first + 70, first + 90, first + 5000, last + 30, last + 80):
            damaged = bytearray(content)
            damaged[at] ^= 4
            (tmp_path / JOURNAL).write_bytes(damaged)
            with pytest.raises(UndoError, match="damaged or cut off there") as error:
                restore(tmp_path, force=True)
            offset_bytes = error.value.offset_bytes
            assert offset_bytes is not None
            assert offset_bytes <= at < offset_bytes + BLOCK_BYTES + 1024
            assert image.read_bytes() == left

    @pytest.mark.parametrize("is_finished", [True, False])
    def test_a_journal_that_was_cut_off(self, tmp_path: Path, is_finished: bool) -> None:
        """A copy that lacks its end is refused, wherever it ends, if the status knows of more."""
        image = make_job(tmp_path, is_finished=is_finished)
        left, content = image.read_bytes(), (tmp_path / JOURNAL).read_bytes()
        for kept in (512, 1536, 4096, 4097, 5000, 4096 + BLOCK_BYTES + 512, len(content) - 512):
            (tmp_path / JOURNAL).write_bytes(content[:kept])
            with pytest.raises(UndoError, match="damaged or cut off there"):
                restore(tmp_path)
            assert image.read_bytes() == left

    def test_a_torn_end_is_no_damage(self, tmp_path: Path) -> None:
        """A last batch that was not durable yet saved what was not overwritten: it is ignored."""
        image = make_job(tmp_path, is_finished=False)
        whole = (tmp_path / JOURNAL).read_bytes()
        count = 3
        for kept in (1, 63, 64, 600, 2047):
            torn = records.build_batch(
                int.from_bytes(whole[16:24], "little"), count, [RangeEntry(0, 0, 2000, b"x" * 2000)]
            )[:kept]
            (tmp_path / JOURNAL).write_bytes(whole + torn.ljust(2560, b"\0"))
            before = image.read_bytes()
            restore(tmp_path, force=True)
            assert image.read_bytes() == OLD
            image.write_bytes(before)

    def test_what_follows_damage_shows_it(self, tmp_path: Path) -> None:
        """With a status that knows of no batch, a later one still shows that one is damaged."""
        (tmp_path / "a").write_bytes(b"image")
        entries: list[list[Entry]] = [
            [FileEntry(0, 5, "a")],
            [RangeEntry(0, 0, 2, b"IM")],
            [RangeEntry(0, 2, 3, b"AGE")],
        ]
        content = forged(tmp_path, *entries).read_bytes()
        start = records.BATCHES_OFFSET_BYTES
        for at in (start + 10, start + 70, start + 512 + 10, start + 512 + 97):
            damaged = bytearray(content)
            damaged[at] ^= 1
            (tmp_path / JOURNAL).write_bytes(damaged)
            with pytest.raises(UndoError, match="damaged or cut off there"):
                restore(tmp_path)
        for at in (start, start + 512):
            (tmp_path / JOURNAL).write_bytes(content[:at] + content[at + 512 :])
            with pytest.raises(UndoError, match="damaged or cut off there"):
                restore(tmp_path)
        assert (tmp_path / "a").read_bytes() == b"image"
        torn = bytearray(content)
        torn[start + 1024 + 97] ^= 1
        (tmp_path / JOURNAL).write_bytes(torn)
        restore(tmp_path)
        assert (tmp_path / "a").read_bytes() == b"IMage"

    def test_no_status(self, tmp_path: Path) -> None:
        """One status is always whole; a journal with none is damaged, with one it is not."""
        image = make_job(tmp_path)
        content = (tmp_path / JOURNAL).read_bytes()
        (tmp_path / JOURNAL).write_bytes(content[:512] + bytes(1024) + content[1536:])
        with pytest.raises(UndoError, match=r"damaged or cut off there.*at byte 512"):
            restore(tmp_path)
        for at in (512, 1024):
            (tmp_path / JOURNAL).write_bytes(content[:at] + bytes(512) + content[at + 512 :])
            assert restore(tmp_path, dry_run=True).was_finished
        assert image.read_bytes() != OLD

    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            ([RangeEntry(0, 0, 5, None)], "file 0, which it does not name"),
            ([FileEntry(1, 5, "a")], "file 1 out of order"),
            ([FileEntry(0, 5, "")], "no name"),
            ([FileEntry(0, 1 << 61, "a")], "is none"),
            ([FileEntry(0, 5, "a"), RangeEntry(0, 3, 3, None)], "ends at 6"),
            ([FileEntry(0, 5, "a"), RangeEntry(0, 1 << 63, 1 << 63, None)], "ends at"),
            ([FileEntry(0, 5, "a"), RangeEntry(0, 0, 0, None)], "ends at 0"),
            ([FileEntry(0, 5, "a"), records.LeftEntry(0, 1 << 62, 0, 0)], "is none"),
            ([FileEntry(0, 5, "a"), records.LeftEntry(1, 5, 0, 0)], "file 1, which"),
        ],
    )
    def test_entries_that_cannot_be(
        self, tmp_path: Path, entries: list[Entry], message: str
    ) -> None:
        """An entry that contradicts those before it is refused, with its place."""
        (tmp_path / "a").write_bytes(b"image")
        forged(tmp_path, entries)
        with pytest.raises(UndoError, match=message) as error:
            restore(tmp_path, force=True)
        assert error.value.offset_bytes == records.BATCHES_OFFSET_BYTES
        assert (tmp_path / "a").read_bytes() == b"image"

    def test_absurd_numbers(self, tmp_path: Path) -> None:
        """Impossible times and generations end with a message, and no traceback."""
        image = make_job(tmp_path)
        content = bytearray((tmp_path / JOURNAL).read_bytes())
        journal_id = int.from_bytes(content[16:24], "little")
        for generation in (records.GENERATION_LIMIT - 1, records.GENERATION_LIMIT, 2**64 - 1):
            for time_us in (2**63 - 1, -(2**63)):
                status = records.Status(State.RESTORED, generation, time_us, 0, 0)
                content[512:1024] = records.build_status(status, journal_id)
                (tmp_path / JOURNAL).write_bytes(content)
                if generation < records.GENERATION_LIMIT:
                    with pytest.raises(UndoError, match="microseconds after 1970"):
                        restore(tmp_path)
                else:  # no status, and the other one says that the job is finished
                    assert restore(tmp_path, dry_run=True).was_finished
        assert image.read_bytes() != OLD

    def test_a_huge_original_length(self, tmp_path: Path) -> None:
        """A journal that wants an exabyte of its image ends with a message."""
        (tmp_path / "a").write_bytes(b"image")
        forged(tmp_path, [FileEntry(0, 1 << 60, "a"), RangeEntry(0, 0, 1 << 60, None)])
        with pytest.raises(IpvaError):
            restore(tmp_path)


def test_a_batch_of_another_journal_is_none_of_ours() -> None:
    """What an earlier file left on the medium behind the end is not read as ours."""
    file = MemoryDevice(name="undo")
    image = MemoryDevice(b"old" * 100, name="a")
    UndoDevice(image, UndoJournal(file, journal_id=1)).write(0, b"x")
    strange = records.build_batch(2, 1, [RangeEntry(0, 0, 3, b"bad")])
    file.data += strange

    class Opened(Images):
        def open(self, name: str, *, writable: bool) -> MemoryDevice:
            return image

        def modified_us(self, name: str) -> int:
            return 0

    restore_device(file, Opened())
    assert image.data == b"old" * 100


@pytest.mark.parametrize("seconds", [30, 90])
def test_a_job_that_was_cut_and_a_later_change(tmp_path: Path, seconds: int) -> None:
    """An image that changed long after the journal's last entry was changed by someone else.

    A little later is what a power cut leaves, which loses the newest of the journal.
    """
    image = make_job(tmp_path, is_finished=False)
    late = (tmp_path / JOURNAL).stat().st_mtime + seconds
    os.utime(image, (late, late))
    if seconds > 60:
        with pytest.raises(UndoError, match="would mix old and new"):
            restore(tmp_path)
        assert image.read_bytes() != OLD
    restore(tmp_path, force=seconds > 60)
    assert image.read_bytes() == OLD


def test_what_is_as_before_is_not_written(tmp_path: Path) -> None:
    """An image that the job did not get to is put back even where it cannot be written to."""
    image = make_job(tmp_path)
    image.write_bytes(OLD)

    class Full(Images):
        def open(self, name: str, *, writable: bool) -> RawDevice:
            return RawDevice(tmp_path / name)

        def modified_us(self, name: str) -> int:
            return 0

    with RawDevice(tmp_path / JOURNAL, writable=True) as file:
        restore_device(file, Full(), force=True)
    with pytest.raises(DeviceError, match="read-only"), RawDevice(image) as raw:
        raw.write(0, b"x")
