"""What holds for any FAT image, however bad: one input is one image, looked at and worked on.

Nothing but errors of the house comes out, within bounded time and memory, and:

1. Looking changes nothing. Two checks agree; a volume whose check is clean reads throughout, and
   what `summarise` says is what the volume says.
2. What was deleted can be had as long as it says, or is refused.
3. A dry repair says what a repair does. After a repair the check finds what the repair said was
   left, and a repair again has nothing to do.
4. A repair changes no byte of a file whose chain the check had nothing against.
5. A mended volume can be written to, defragmented and made larger: its files are what they were,
   and its check stays clean.
6. Undo brings back every byte.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ipva_storage import fat
from ipva_storage.device import BlockDevice, Folder, MemoryDevice, RawDevice, SliceDevice
from ipva_storage.device.undo import ImageFolder, UndoDevice, UndoJournal, restore
from ipva_storage.errors import FatError
from ipva_storage.fat import geometry, layouts
from ipva_storage.fat.deleted import Deleted, State
from ipva_storage.fat.repairing import Repaired
from ipva_storage.findings import Finding, Severity
from tests.damage.fat_volumes import Sound, sound_files
from tests.fuzz.fat_inputs import Case, case_of
from tests.fuzz.promises import place, refusals, require

CHECK_SECONDS_MAX: Final = 2.0
"""What one check may take of a processor."""
REPAIR_SECONDS_MAX: Final = 6.0
"""And one repair, which checks several times."""
ENTRIES_MAX: Final = 300
"""Files and folders that are read of one volume."""
READ_MAX_BYTES: Final = 8 << 20
"""What is read of one volume: many files may claim the same clusters."""
DELETED_MAX: Final = 40
FINDINGS_MAX: Final = 2000
GROWN_MAX_BYTES: Final = 4 << 20
TEXT: Final = b"written by a job" * 40
JOURNAL: Final = "undo"

LEFT: Final = frozenset({"FAT001", "FAT020"})
"""What a repair may leave: no volume, and a volume that is cut off."""

Found = tuple[Finding, ...]
Files = dict[str, bytes]

refused = functools.partial(refusals, may_name_files=True)
"""Lets errors pass: the commands show what they name in a way that no terminal obeys."""


@dataclass(frozen=True)
class Image:
    """An image as it was found, before any job."""

    device: MemoryDevice
    is_disk: bool
    number: int
    findings: Found
    files: Files
    """What can be read, by volume and path."""

    @property
    def is_clean(self) -> bool:
        """Whether the check has nothing against it."""
        return not _serious(self.findings)

    @property
    def is_whole(self) -> bool:
        """Whether the check looked at everything."""
        return not any(each.code == "FAT021" for each in self.findings)


def one(data: bytes) -> None:
    """Make the image that a fuzzer's bytes mean, and see that every promise is kept.

    Raises:
        BrokenPromiseError: one is not; or any error that is none of the house.
    """
    case = case_of(data)
    JOBS[case.job % len(JOBS)](image_of(case))


def image_of(case: Case) -> Image:
    """An image, looked at."""
    return _looked_at(MemoryDevice(case.content), case.is_disk, case.number)


@contextlib.contextmanager
def _within(seconds_max: float, what: str) -> Iterator[None]:
    started = time.process_time()
    yield
    seconds = time.process_time() - started
    require(seconds < seconds_max, f"{what} takes {seconds:.1f} seconds")


# -- looking ------------------------------------------------------------------------------------


def _looked_at(device: MemoryDevice, is_disk: bool, number: int = 0) -> Image:
    before = bytes(device.data)
    findings = _checked(device, is_disk)
    files: Files = {}
    is_clean = not _serious(findings) and not any(each.code == "FAT021" for each in findings)
    for at, volume in enumerate(volumes(device, is_disk)):
        for path, content in _read(volume):
            require(content is not None or not is_clean, f"its check is clean, and not {path!r}")
            if content is not None:
                files[f"{at}:{path}"] = content
    require(device.data == before, "looking at it changed it")
    return Image(device, is_disk, number, findings, files)


def volumes(device: BlockDevice, is_disk: bool) -> list[BlockDevice]:
    """The volumes of a disk, or the one that the image is."""
    if not is_disk:
        return [device]
    found = fat.find_volumes(device)
    return [SliceDevice(device, each.offset_bytes, each.length_bytes) for each in found]


def _checked(device: BlockDevice, is_disk: bool) -> Found:
    """What the check says, in bounded number and in words."""
    check = fat.check_disk if is_disk else fat.check
    with _within(CHECK_SECONDS_MAX, "a check"):
        found = tuple(check(device))
    for each in found:
        require(each.message.isprintable(), f"a finding is not for people: {each.message!r}")
        require(each.where is not None, f"a finding does not say where: {each}")
    require(len(found) < FINDINGS_MAX, f"there are {len(found)} findings")
    return found


def _serious(findings: Found) -> Found:
    return tuple(each for each in findings if each.severity is not Severity.INFO)


def _outline(findings: Found) -> list[tuple[str, int | None]]:
    """What is wrong with volumes; what is wrong with a partition table no repair mends."""
    found = [(each.code, each.offset_bytes) for each in _serious(findings)]
    return sorted((one for one in found if one[0].startswith("FAT")), key=str)


def _summarised(volume: BlockDevice) -> None:
    """What a summary says is what the volume says."""
    summary = opened = None
    with refused():
        summary = fat.summarise(volume)
    with refused():
        found = fat.open(volume)
        opened = fat.VolumeSummary(found.fat_bits, found.size_bytes, found.free_bytes, found.label)
    require(summary == opened, f"a summary says {summary}, the volume {opened}")


def _read(volume: BlockDevice) -> Iterator[tuple[str, bytes | None]]:
    """The files of a volume, and those that cannot be read."""
    with refused(), fat.open(volume) as files:
        with refused():
            files.usage()
        left = READ_MAX_BYTES
        for path, entry in itertools.islice(files.walk(), ENTRIES_MAX):
            content = None
            left -= entry.size_bytes
            if left < 0:
                continue
            with refused():
                if entry.is_dir:
                    files.list(path)
                    continue
                content = files.read(path)
                files.fragments(path)
                require(len(content) == files.stat(path).size_bytes, "a file has another length")
            yield path, content


def _deleted(volume: BlockDevice) -> None:
    """What was deleted, read or refused."""
    for source, each in _found_deleted(volume):
        content = _content(source, each)
        is_lost = each.state is State.LOST
        require(content is None or not is_lost, f"what is lost can be had: {each.path!r}")
        if content is not None and not each.entry.is_dir:
            require(len(content) == each.entry.size_bytes, f"{each.path!r} has another length")


def _found_deleted(volume: BlockDevice) -> Iterator[tuple[fat.DeletedFiles, Deleted]]:
    """What was deleted in the root folder, in the first folders, and in deleted ones."""
    with refused():
        source = fat.DeletedFiles(volume)
        walk = fat.open(volume).walk()
        folders = [path for path, entry in itertools.islice(walk, ENTRIES_MAX) if entry.is_dir]
        for path in ("/", *folders[:8]):
            with refused():
                for each in source.in_folder(path)[:DELETED_MAX]:
                    yield source, each
                    if each.entry.is_dir and each.state is not State.LOST:
                        yield from ((source, inner) for inner in source.within(each))


def _content(source: fat.DeletedFiles, deleted: Deleted) -> bytes | None:
    with refused():
        return b"".join(source.read_chunks(deleted))
    return None


def _sound(device: BlockDevice, is_disk: bool) -> list[Sound]:
    """Files whose chains have no fault, of each volume whose boot sector the check believes."""
    found = []
    for volume in volumes(device, is_disk):
        with contextlib.suppress(FatError):
            there, judged = geometry.parse(volume), layouts.judge(volume)
            if judged is not None and judged.geometry == there:
                found.append(sound_files(volume, there))
                continue
        found.append({})
    return found


# -- jobs ---------------------------------------------------------------------------------------


def look_closely(image: Image) -> None:
    """A second check, a summary, and what was deleted."""
    before = bytes(image.device.data)
    again = _checked(image.device, image.is_disk)
    require(again == image.findings, "two checks differ")
    for volume in volumes(image.device, image.is_disk):
        _summarised(volume)
        _deleted(volume)
    require(image.device.data == before, "looking at it changed it")


def repair(image: Image) -> Image:
    """A dry run, a run, and another one, which has nothing to do."""
    device, is_disk = image.device, image.is_disk
    before, sound = bytes(device.data), _sound(device, is_disk)
    planned = repaired(device, is_disk, dry_run=True)
    require(device.data == before, "a dry repair changed something")
    done = repaired(device, is_disk)
    require(planned == done, f"a repair does {done}, its dry run says {planned}")
    is_changed = any(each.is_changed for each in done)
    require(is_changed == (device.data != before), "it does not say whether it changed something")
    after = _looked_at(device, is_disk, image.number)
    left = sorted((each for one in done for each in _outline(one.left)), key=str)
    odd = {code for code, _ in left} - LEFT
    require(not odd or not image.is_whole, f"a repair leaves {odd}")
    if done or not is_disk:
        require(left == _outline(after.findings), f"left is {after.findings}, it says {left}")
    again = repaired(device, is_disk)
    require(not any(each.is_changed or each.fixed for each in again), f"again it does {again}")
    for old, new in zip(sound, _sound(device, is_disk), strict=False):
        gone = [key for key in old if new.get(key) != old[key]]
        require(not gone or not new, f"a repair changes sound files, by start and length: {gone}")
        require(bool(new) or not old or bool(_serious(after.findings)), "all files are gone")
    return after


def repaired(device: BlockDevice, is_disk: bool, *, dry_run: bool = False) -> list[Repaired]:
    """What a repair did to each volume."""
    with _within(REPAIR_SECONDS_MAX, "a repair"):
        if not is_disk:
            return [fat.repair(device, dry_run=dry_run)]
        return [each.repaired for each in fat.repair_disk(device, dry_run=dry_run)]


def write(image: Image) -> None:
    """Files written, moved and deleted after a repair: all are as they should be."""
    repaired(image.device, image.is_disk)
    image = _looked_at(image.device, image.is_disk, image.number)
    expected = dict(image.files)
    for at, volume in enumerate(volumes(image.device, image.is_disk)):
        with refused(), fat.open(volume) as files:
            _change(files, f"{at}:", expected, image.number)
    after = _looked_at(image.device, image.is_disk)
    if image.is_clean and image.is_whole:
        require(after.is_clean, f"after writing the check says {after.findings}")
        require(after.files == expected, "after writing other files are there")


def _change(files: fat.FatVolume, prefix: str, expected: Files, number: int) -> None:
    """A new file, one that replaces one, one that moves, and one that goes."""
    old = [path.removeprefix(prefix) for path in sorted(expected) if path.startswith(prefix)]
    old = [path for path in old if files.stat(path).size_bytes <= READ_MAX_BYTES]

    def put(path: str, data: bytes) -> None:
        files.write(path, data)
        expected[prefix + path] = data

    with refused():
        put(f"/new file {number}.txt", TEXT)
    if old:
        with refused():
            put(old[number % len(old)], TEXT[: number * 3])
        with refused():
            source = old[number // 2 % len(old)]
            files.move(source, "/moved in here.txt")
            expected[f"{prefix}/moved in here.txt"] = expected.pop(prefix + source)
            old.remove(source)
    if old:
        with refused():
            files.delete(old[number // 3 % len(old)])
            del expected[prefix + old[number // 3 % len(old)]]
    with refused():
        files.mkdir("/new/folder within", parents=True)
        put("/new/folder within/and a file.txt", TEXT)
    with refused():
        files.set_label("JOB")


def write_damaged(image: Image) -> None:
    """The same without a repair before: no more is promised than an end."""
    expected = dict(image.files)
    for at, volume in enumerate(volumes(image.device, image.is_disk)):
        with refused(), fat.open(volume) as files:
            _change(files, f"{at}:", expected, image.number)
    _looked_at(image.device, image.is_disk)


def undo(image: Image) -> None:
    """A repair taken back leaves every byte as it was."""
    before = bytes(image.device.data)
    with place() as path:
        (path / "disk.img").write_bytes(before)
        journal = UndoJournal.create(Folder(path), JOURNAL)
        with UndoDevice(RawDevice(path / "disk.img", writable=True), journal) as device:
            done = repaired(device, image.is_disk)
        images = ImageFolder(path / JOURNAL)
        is_empty = journal.is_empty
        journal.finish(images)
        journal.close()
        require(any(one.is_changed for one in done) is not is_empty, "the journal has too little")
        if not is_empty:
            with RawDevice(path / JOURNAL, writable=True) as file:
                restore(file, images)
        require((path / "disk.img").read_bytes() == before, "undo leaves something else")


def undelete(image: Image) -> None:
    """What was deleted put back: nothing that was there changes."""
    expected = dict(image.files)
    for at, volume in enumerate(volumes(image.device, image.is_disk)):
        paths = dict.fromkeys(each.path for _, each in _found_deleted(volume))
        for path in [*paths][:4]:
            before, planned, done = bytes(image.device.data), None, None
            with refused():
                planned = fat.undelete(volume, path, dry_run=True)
            require(image.device.data == before, "a dry run changed something")
            with refused():
                done = fat.undelete(volume, path)
            require(planned == done, f"{done} was put back, the dry run says {planned}")
            if done is None:
                require(image.device.data == before, f"refused ({at}), it changed something")
    after = _looked_at(image.device, image.is_disk)
    if image.is_clean and image.is_whole:
        require(after.is_clean, f"after undeleting the check says {after.findings}")
        kept = {path: content for path, content in after.files.items() if path in expected}
        require(kept == expected, "undeleting changes what was there")


def defrag(image: Image) -> None:
    """Files in one piece each, with the same content."""
    _job(image, lambda volume: fat.defrag(volume))


def grow(image: Image) -> None:
    """A longer device, and a volume that fills it, with the same files."""
    device = image.device
    size_bytes = device.size_bytes
    more = (512, size_bytes // 2, size_bytes, 4 * size_bytes)[image.number % 4]
    if size_bytes + more <= GROWN_MAX_BYTES:
        device.resize(size_bytes + more)
    if image.is_disk:
        _job(image, lambda _: fat.grow_disk(device))
    else:
        _job(image, lambda volume: fat.grow(volume))


def _job(image: Image, work: Callable[[BlockDevice], object]) -> None:
    """Done after a repair, and on the image as it is: files stay, and a clean check stays clean."""
    if image.number % 2:
        repaired(image.device, image.is_disk)
    image = _looked_at(image.device, image.is_disk, image.number)
    for volume in volumes(image.device, image.is_disk):
        with refused():
            work(volume)
    after = _looked_at(image.device, image.is_disk)
    if image.is_clean and image.is_whole:
        require(after.is_clean, f"after the job the check says {after.findings}")
        require(after.files == image.files, "a job changes files")


Job = Callable[[Image], object]

JOBS: Final[tuple[Job, ...]] = (
    *(repair, look_closely, write, repair, undo, undelete, defrag, grow, write_damaged, repair),
)
"""What is done with an image, by the second byte of an input."""
