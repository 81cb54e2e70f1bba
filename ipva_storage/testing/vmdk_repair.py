"""Power cuts while a damaged VMDK is mended, and while any job saves for an undo.

The promise of a repair, in each state that a cut leaves:

- Where the disk opens, each sector reads as it did in the damaged disk, or as in the mended one.
- What a salvage got from the damaged disk, and gets from the mended one, it gets in between; zeros
  may be unknown meanwhile, for which a salvage gives zeros.
- Done again it leaves what the repair without a cut leaves: the same content, no other error, and
  nothing lost besides.

The promise of a job with a journal: an undo brings every file back as it was, byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from ipva_storage import vmdk
from ipva_storage.device import SalvageDevice, read
from ipva_storage.device.undo import Images, UndoFolder, UndoJournal, restore
from ipva_storage.errors import DeviceError, UndoError, VmdkError
from ipva_storage.findings import Severity
from ipva_storage.sim.files import MemoryFolder
from ipva_storage.testing.vmdk_crash import findings_of
from ipva_storage.units import SECTOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ipva_storage.device import Folder
    from ipva_storage.device.base import FileDevice
    from ipva_storage.sim.files import Change
    from ipva_storage.sim.jobs import FileState, Job

JOURNAL: Final = "job.undo"


class Reading(NamedTuple):
    """What a disk reads as, by sector; None for one that cannot be read."""

    sectors: tuple[bytes | None, ...]

    @classmethod
    def of(cls, folder: Folder, name: str, *, salvage: bool = False) -> Reading | None:
        """Read a disk.

        Args:
            folder: where it is.
            name: its file.
            salvage: also one that does not open as a whole.

        Returns:
            None where it does not open.
        """
        try:
            opened = vmdk.open_remains(folder, name) if salvage else _open(folder, name)
        except (VmdkError, DeviceError):
            return None
        with opened as disk:
            left = SalvageDevice(disk, piece_bytes=SECTOR_BYTES)
            content = read(left, 0, left.size_bytes)
            lost = {
                sector
                for offset_bytes, length_bytes in left.lost
                for sector in range(
                    offset_bytes // SECTOR_BYTES, (offset_bytes + length_bytes) // SECTOR_BYTES
                )
            }
        return cls(
            tuple(
                None if number in lost else content[at : at + SECTOR_BYTES]
                for number, at in enumerate(range(0, len(content), SECTOR_BYTES))
            )
        )

    @property
    def length(self) -> int:
        """How many sectors there are."""
        return len(self.sectors)


def _open(folder: Folder, name: str) -> vmdk.VmdkDevice:
    return vmdk.open(folder.open(name), folder)


@dataclass(frozen=True)
class RepairJob:
    """Mending a damaged disk."""

    name: str
    files: Mapping[str, bytes]
    disk: str = "disk.vmdk"
    """File name of the disk."""
    asked: str | None = None
    """The file that the user names, where that is another one."""
    accept_parent: bool = False
    whole: RepairJob | None = None
    """The job that was cut already, whose result counts; None: this one's does."""
    bystanders: tuple[str, ...] = ()
    """Files that must stay as they are."""

    def run(self, folder: Folder) -> None:
        """Mend it."""
        self.mend(folder)

    def mend(self, folder: Folder) -> vmdk.Repaired:
        """Mend it, and say what that did."""
        return vmdk.repair(folder, self.asked or self.disk, accept_parent=self.accept_parent)

    @cached_property
    def before(self) -> tuple[Reading | None, Reading | None]:
        """What the damaged disk reads as, as it is and salvaged."""
        if self.whole is not None:
            return self.whole.before
        return self._readings(MemoryFolder(self.files))

    @cached_property
    def mended(self) -> tuple[vmdk.Repaired, MemoryFolder]:
        """What the repair without a cut says and leaves."""
        if self.whole is not None:
            return self.whole.mended
        folder = MemoryFolder(self.files)
        return self.mend(folder), folder

    @cached_property
    def after(self) -> tuple[Reading | None, Reading | None]:
        """What the mended disk reads as, as it is and salvaged."""
        return self._readings(self.mended[1])

    def _readings(self, folder: Folder) -> tuple[Reading | None, Reading | None]:
        return Reading.of(folder, self.disk), Reading.of(folder, self.disk, salvage=True)

    def verify(self, state: FileState) -> list[str]:
        """What does not hold in a state."""
        folder = state.folder()
        problems = [
            f"{name} was changed"
            for name in self.bystanders
            if state.files.get(name) != self.files[name]
        ]
        for how, now, before, after in zip(
            ("read", "salvaged"), self._readings(folder), self.before, self.after, strict=True
        ):
            if now is None and how == "salvaged" and before is not None and after is not None:
                problems.append("what could be salvaged before cannot any more")
            elif now is not None:
                salvaged = how == "salvaged"
                problems += [f"{how}, {each}" for each in _mixed(now, before, after, salvaged)]
        problems += self._again(folder, is_done=state.is_done)
        return problems

    def _again(self, folder: MemoryFolder, *, is_done: bool) -> Iterator[str]:
        done, mended = self.mended
        again = self.mend(folder)
        if is_done and again.is_changed:
            yield "done again, it changes what was mended"
        if self._readings(folder) != self.after:
            yield "done again, it reads as something else"
        known = {each.code for each in findings_of(mended, self.disk)}
        for finding in findings_of(folder, self.disk):
            if finding.severity is Severity.ERROR and finding.code not in known:
                yield f"done again, the check says {finding.code}: {finding.message}"
        more = _sectors_of(again.lost) - _sectors_of(done.lost)
        if more:
            yield f"done again, sectors {sorted(more)[:8]} are lost as well"


def _sectors_of(lost: tuple[vmdk.Lost, ...]) -> set[int]:
    return {
        sector
        for each in lost
        for sector in range(
            each.offset_bytes // SECTOR_BYTES,
            -(-(each.offset_bytes + each.length_bytes) // SECTOR_BYTES),
        )
    }


def _mixed(
    now: Reading, before: Reading | None, after: Reading | None, is_salvaged: bool
) -> Iterator[str]:
    """What is neither as it was nor as it is to be."""
    known = [each for each in (before, after) if each is not None]
    if known and now.length not in [each.length for each in known]:
        yield f"it has {now.length} sectors"
    wrong, gone = [], []
    for number, found in enumerate(now.sectors):
        each = [one.sectors[number] for one in known if number < one.length]
        if found is None and len(each) == 2 and each[0] == each[1] is not None:
            if any(each[0] or b"") or not is_salvaged:
                gone.append(number)
        elif found is not None and each and found not in each:
            wrong.append(number)
    if wrong:
        yield f"sectors {wrong[:8]} are neither as before nor as mended"
    if gone:
        yield f"sectors {gone[:8]} cannot be read any more"


class FolderImages(Images):
    """The images of a journal that lies in any folder, beside them."""

    def __init__(self, folder: Folder) -> None:
        """Look in `folder`."""
        self._folder = folder

    def has(self, name: str) -> bool:
        """Whether it is there."""
        return self._folder.has(name)

    def create(self, name: str) -> FileDevice:
        """A new and empty one."""
        return self._folder.create(name)

    def open(self, name: str, *, writable: bool) -> FileDevice:
        """An image by its name."""
        return self._folder.open(name, writable=writable)

    def modified_us(self, name: str) -> int:
        """Nobody knows."""
        del name
        return 0


@dataclass(frozen=True)
class GuardedJob:
    """A job that saves in a journal beside the disk what it overwrites."""

    job: Job

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"{self.job.name} with a journal"

    @property
    def files(self) -> Mapping[str, bytes]:
        """What is in the folder before."""
        return self.job.files

    def run(self, folder: Folder) -> None:
        """Do the job."""
        journal = UndoJournal.create(folder, JOURNAL)
        try:
            self.job.run(UndoFolder(folder, journal))
            journal.finish(FolderImages(folder))
        finally:
            journal.close()

    def verify(self, state: FileState) -> list[str]:
        """What an undo does not bring back."""
        return list(_not_undone(state.folder(), self.files))


@dataclass(frozen=True)
class UndoJob:
    """The way back from a job with a journal."""

    guarded: GuardedJob
    files: Mapping[str, bytes]
    """What the job left, or a cut in it."""

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"undo of {self.guarded.job.name}"

    def run(self, folder: Folder) -> None:
        """Take the job back."""
        undo(folder)

    def verify(self, state: FileState) -> list[str]:
        """What an undo that is run again does not bring back."""
        return list(_not_undone(state.folder(), self.guarded.files))


def undo(folder: Folder) -> None:
    """Take back what the journal of a folder has saved."""
    with folder.open(JOURNAL, writable=True) as file:
        restore(file, FolderImages(folder))


def _not_undone(folder: MemoryFolder, files: Mapping[str, bytes]) -> Iterator[str]:
    if folder.has(JOURNAL):
        try:
            undo(folder)
        except UndoError as error:  # of what is no journal yet, or has done its work
            known = ("before its job changed anything", "taken back already")
            if not any(each in error.message for each in known):
                yield f"the undo refuses: {error}"
    left = folder.files
    for name, content in files.items():
        if name not in left:
            yield f"after the undo {name} is not there"
        elif left[name] != content:
            yield f"after the undo {name} is another"


def changes_of(job: Job) -> list[Change]:
    """What a job does to its files, in order."""
    folder = MemoryFolder(job.files)
    job.run(folder)
    return folder.changes
