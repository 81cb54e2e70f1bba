"""Power cuts while a VMDK is resized, compacted or committed: the jobs, and the promise in a state.

The promise of each: after a cut the disk opens and holds the old or the new state, no check calls
anything an error, the job done again leaves the new state and nothing to be said about it, and
writing to the disk instead works and changes nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipva_storage import vmdk
from ipva_storage.device import MemoryDevice, read
from ipva_storage.findings import Severity
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.access import read_descriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ipva_storage.device import Folder
    from ipva_storage.findings import Finding
    from ipva_storage.sim.files import MemoryFolder
    from ipva_storage.sim.jobs import FileState

PATCH: Final = b"after the cut"


def content_of(folder: Folder, name: str) -> bytes:
    """All bytes of a disk."""
    with vmdk.open(folder.open(name), folder) as disk:
        return read(disk, 0, disk.size_bytes)


def cid_of(files: Mapping[str, bytes], name: str) -> int | None:
    """The content identifier of a disk."""
    return read_descriptor(MemoryDevice(files[name])).cid


def findings_of(folder: Folder, name: str) -> list[Finding]:
    """What the check says about a disk, but for what is only told."""
    with folder.open(name) as raw:
        found = list(vmdk.check(raw, folder))
    return [finding for finding in found if finding.severity is not Severity.INFO]


def patch(folder: Folder, name: str, places_bytes: tuple[int, ...]) -> None:
    """Write a few bytes at some places of a disk."""
    with vmdk.open(folder.open(name, writable=True), folder, writable=True) as disk:
        for place in places_bytes:
            disk.write(place, PATCH)


def patched(content: bytes, places_bytes: tuple[int, ...]) -> bytes:
    """What `patch` makes of the content of a disk."""
    for place in places_bytes:
        content = content[:place] + PATCH + content[place + len(PATCH) :]
    return content


def _errors(folder: Folder, name: str, when: str) -> Iterator[str]:
    for finding in findings_of(folder, name):
        if finding.severity is Severity.ERROR:
            yield f"{when} the check of {name} says {finding.code}: {finding.message}"


def _faults(folder: Folder, name: str, when: str, tolerated: tuple[str, ...] = ()) -> Iterator[str]:
    for finding in findings_of(folder, name):
        if finding.code not in tolerated:
            yield f"{when} the check of {name} says {finding.code}: {finding.message}"


def _differs(found: bytes, expected: bytes, what: str) -> Iterator[str]:
    if found == expected:
        return
    if len(found) != len(expected):
        yield f"{what} has {len(found)} bytes and not {len(expected)}"
        return
    wrong = [
        at // SECTOR_BYTES
        for at in range(0, len(found), SECTOR_BYTES)
        if found[at : at + SECTOR_BYTES] != expected[at : at + SECTOR_BYTES]
    ]
    yield f"{what} is another in sectors {wrong[:8]}"


def _sectors_of(found: bytes, one: bytes, other: bytes) -> Iterator[bool]:
    """Whether each sector is as in one content or as in the other."""
    for at in range(0, len(found), SECTOR_BYTES):
        sector = slice(at, at + SECTOR_BYTES)
        yield found[sector] in (one[sector], other[sector])


def _touched(
    state: FileState, files: Mapping[str, bytes], bystanders: tuple[str, ...]
) -> Iterator[str]:
    for name in bystanders:
        if state.files.get(name) != files[name]:
            yield f"{name} was changed"


@dataclass(frozen=True)
class DiskJob:
    """A job on one disk, which has one content before and one afterwards."""

    name: str
    files: Mapping[str, bytes]
    disk: str
    """File name of the disk."""
    before: bytes
    after: bytes
    work: Callable[[Folder], object]
    bystanders: tuple[str, ...] = ()
    """Files that must stay as they are."""
    tolerated: tuple[str, ...] = ()
    """Codes of warnings that are there before, and stay."""

    @property
    def result(self) -> tuple[str, bytes]:
        """A disk, and what it holds when the job is done."""
        return self.disk, self.after

    def run(self, folder: Folder) -> None:
        """Do the work."""
        self.work(folder)

    def verify(self, state: FileState) -> list[str]:
        """What does not hold in a state."""
        folder = state.folder()
        found = content_of(folder, self.disk)
        problems: list[str] = []
        if state.is_done or found != self.before:
            problems.extend(_differs(found, self.after, "the disk"))
        problems.extend(_errors(folder, self.disk, "after the cut"))
        problems.extend(_touched(state, self.files, self.bystanders))
        problems.extend(self._again(state))
        problems.extend(self._written(state, found))
        return problems

    def _again(self, state: FileState) -> Iterator[str]:
        folder = state.folder()
        self.work(folder)
        yield from _differs(content_of(folder, self.disk), self.after, "done again, the disk")
        yield from _faults(folder, self.disk, "done again,", self.tolerated)

    def _written(self, state: FileState, found: bytes) -> Iterator[str]:
        """Write instead, and then do the work."""
        end = min(len(self.before), len(self.after))
        places = (100, end // 2, end - len(PATCH))
        folder = state.folder()
        patch(folder, self.disk, places)
        yield from _differs(content_of(folder, self.disk), patched(found, places), "written to, it")
        yield from _errors(folder, self.disk, "after writing")
        self.work(folder)
        expected = patched(self.after, places)
        yield from _differs(content_of(folder, self.disk), expected, "written to and done, it")
        yield from _faults(folder, self.disk, "written to and done,", self.tolerated)


@dataclass(frozen=True)
class CommitJob:
    """A snapshot's child given to the disk below it."""

    name: str
    files: Mapping[str, bytes]
    parent: str
    child: str
    before: bytes
    """What the parent holds at first."""
    shown: bytes
    """What the child shows, all the time, and the parent in the end."""
    removes: bool = False
    above: str | None = None
    """A disk that was taken over the child, and shows `above_shown`."""
    above_shown: bytes = b""
    bystanders: tuple[str, ...] = ()
    """Files that must stay as they are."""

    @property
    def result(self) -> tuple[str, bytes]:
        """A disk, and what it holds when the job is done."""
        return self.parent, self.shown

    def run(self, folder: Folder) -> None:
        """Commit."""
        vmdk.commit(folder, self.child, remove=self.removes)

    def verify(self, state: FileState) -> list[str]:
        """What does not hold in a state."""
        folder = state.folder()
        problems = [*self._parent(folder, is_done=state.is_done)]
        problems.extend(_touched(state, self.files, self.bystanders))
        if self.child not in state.files and self.removes:
            return problems
        problems.extend(self._child(folder))
        problems.extend(self._again(state))
        problems.extend(self._written(state))
        return problems

    def _parent(self, folder: MemoryFolder, *, is_done: bool) -> Iterator[str]:
        found = content_of(folder, self.parent)
        yield from _errors(folder, self.parent, "after the cut")
        has_child = self.child in folder.names()
        cids = {cid_of(files, self.parent) for files in (folder.files, self.files)}
        is_over = len(cids) == 2 and cid_of(self.files, self.child) in cids
        if is_done or is_over or not has_child:
            yield from _differs(found, self.shown, "the parent")
            return
        if len(found) != len(self.before):
            yield f"the parent has {len(found)} bytes"
        elif not all(_sectors_of(found, self.before, self.shown)):
            yield "the parent holds what was never in it or the child"

    def _child(self, folder: Folder) -> Iterator[str]:
        yield from _differs(content_of(folder, self.child), self.shown, "the child")
        yield from _errors(folder, self.child, "after the cut")
        if self.above is not None:
            yield from _differs(content_of(folder, self.above), self.above_shown, "the one above")
            yield from _errors(folder, self.above, "after the cut")

    def _again(self, state: FileState) -> Iterator[str]:
        folder = state.folder()
        self.run(folder)
        yield from _differs(content_of(folder, self.parent), self.shown, "again: the parent")
        yield from _faults(folder, self.parent, "again:")
        if self.removes:
            if self.child in folder.names():
                yield "again: the child is still there"
            return
        for problem in (*self._child(folder), *_faults(folder, self.child, "")):
            yield f"again: {problem}"
        if vmdk.commit(folder, self.child, dry_run=True).written_bytes:
            yield "again: the child is not empty"

    def _written(self, state: FileState) -> Iterator[str]:
        """Write to the child instead, and commit that."""
        places = (100, len(self.shown) // 2, len(self.shown) - len(PATCH))
        folder = state.folder()
        parent_before = content_of(folder, self.parent)
        patch(folder, self.child, places)
        expected = patched(self.shown, places)
        yield from _differs(content_of(folder, self.child), expected, "the child, written to,")
        yield from _errors(folder, self.child, "after writing")
        if content_of(folder, self.parent) != parent_before:
            yield "writing to the child changes the parent"
        if self.above is None:
            self.run(folder)
            yield from _differs(
                content_of(folder, self.parent), expected, "after writing, the parent"
            )
