"""A power cut at any point of a repair costs nothing, and an undo takes back what it leaves.

Each job is visited in a sample of its states; `HYPOTHESIS_PROFILE=deep` visits all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pytest

from ipva_storage import vmdk
from ipva_storage.device import MemoryDevice
from ipva_storage.errors import VmdkError
from ipva_storage.sim.explore import Exploration
from ipva_storage.sim.files import MemoryFolder
from ipva_storage.sim.jobs import Job, explore_job, job_states
from ipva_storage.testing.vmdk_repair import GuardedJob, RepairJob, UndoJob
from ipva_storage.testing.vmdk_small import (
    GRAIN_BYTES,
    SIZE_BYTES,
    chain_of_three,
    commit_job,
    compact_job,
    disk_files,
    full_disk,
    holey_disk,
    noise,
    parent_and_child,
    resize_job,
    shrink_geometry,
    without,
)
from ipva_storage.vmdk.extent.header import SparseHeader, read_header
from ipva_storage.vmdk.extent.markers import Kind, walk
from tests.damage.images import SECTOR, Change, both, cut, put, text, zeros
from tests.damage.images import noise as noise_at

IS_DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
Files = dict[str, bytes]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_geometry(monkeypatch)


def holds(job: Job, *, limit: int | None = None) -> Exploration:
    """Explore a job, and say what does not hold."""
    found = explore_job(job, limit=None if IS_DEEP else limit)
    assert found.violations == (), "\n".join(str(each) for each in found.violations[:5])
    return found


def damaged(files: Mapping[str, bytes], change: Change, name: str = "disk.vmdk") -> Files:
    """The files with one of them changed."""
    content = bytearray(files[name])
    change(content)
    return {**files, name: bytes(content)}


# -- where things are ---------------------------------------------------------------------------

WRITES = [
    (0, noise(2 * GRAIN_BYTES + 700, 1)),
    (5 * GRAIN_BYTES, noise(GRAIN_BYTES, 2)),
    (9 * GRAIN_BYTES + 100, noise(2 * GRAIN_BYTES, 3)),
    (13 * GRAIN_BYTES, noise(3 * GRAIN_BYTES, 4)),
    (SIZE_BYTES - 600, noise(600, 5)),
]


def header_of(content: bytes) -> SparseHeader:
    """The header of an extent."""
    return read_header(MemoryDevice(content))


@dataclass(frozen=True)
class Layout:
    """Where the parts of a small sparse extent are, in bytes."""

    header: SparseHeader

    @classmethod
    def of(cls, content: bytes) -> Layout:
        """Look at one."""
        return cls(header_of(content))

    @property
    def gd(self) -> int:
        """The directory."""
        return self.header.gd_offset_sectors * SECTOR

    @property
    def rgd(self) -> int:
        """The redundant directory."""
        return self.header.rgd_offset_sectors * SECTOR

    @property
    def text(self) -> int:
        """The descriptor."""
        return self.header.descriptor_offset_sectors * SECTOR

    @property
    def text_bytes(self) -> int:
        """Its room."""
        return self.header.descriptor_sectors * SECTOR

    def table(self, index: int) -> int:
        """A table."""
        step = self.header.table_sectors
        return self.gd + (self.header.directory_sectors + index * step) * SECTOR

    def rgt(self, index: int) -> int:
        """A redundant table."""
        return self.table(index) - self.gd + self.rgd

    @property
    def tables_bytes(self) -> int:
        """All tables of one copy."""
        return self.header.table_count * self.header.table_sectors * SECTOR


def placed(make: Callable[[Layout], Change]) -> Change:
    """A change at a place that follows from the header."""

    def change(content: bytearray) -> None:
        make(Layout.of(bytes(content)))(content)

    return change


NO_HEADER = zeros(0)
NO_TEXT = placed(lambda at: zeros(at.text, at.text_bytes))
CUT = placed(lambda at: cut(at.header.overhead_sectors * SECTOR + 9 * GRAIN_BYTES - 1000))

SPARSE: dict[str, Change] = {
    "magic": put(0, 0),
    "header-zeros": NO_HEADER,
    "header-noise": noise_at(0),
    "capacity": put(12, 64, 8),
    "grain": put(20, 16, 8),
    "overhead": put(64, 0, 8),
    "no-redundant": put(8, 1),
    "text-zeros": NO_TEXT,
    "text-noise": placed(lambda at: noise_at(at.text)),
    "text-no-cid": text(b"\nCID=", b"\nXXX="),
    "text-no-kind": text(b"createType", b"createTypo"),
    "text-no-extent": text(b"\nRW ", b"\nXX "),
    "text-other-size": text(b"\nRW 145 ", b"\nRW 144 "),
    "gd-zeros": placed(lambda at: zeros(at.gd)),
    "gd-noise": placed(lambda at: noise_at(at.gd)),
    "gd-entry": placed(lambda at: put(at.gd + 4, 2**31)),
    "rgd-zeros": placed(lambda at: zeros(at.rgd)),
    "rgd-noise": placed(lambda at: noise_at(at.rgd)),
    "both-directories": placed(lambda at: both(zeros(at.gd), zeros(at.rgd))),
    "gt-zeros": placed(lambda at: zeros(at.table(0))),
    "gt-noise": placed(lambda at: noise_at(at.table(3))),
    "rgt-zeros": placed(lambda at: zeros(at.rgt(2))),
    "rgt-noise": placed(lambda at: noise_at(at.rgt(0))),
    "all-gts-zeros": placed(lambda at: zeros(at.table(0), at.tables_bytes)),
    "all-rgts-noise": placed(lambda at: noise_at(at.rgt(0), at.tables_bytes)),
    "two-tables": placed(lambda at: both(noise_at(at.table(0)), noise_at(at.rgt(3)))),
    "both-entries": placed(
        lambda at: both(put(at.table(0) + 4, 2**31), put(at.rgt(0) + 4, 2**31 + 8))
    ),
    "unclean": put(72, 1, 1),
    "unclean-gt": placed(lambda at: both(put(72, 1, 1), zeros(at.table(2)))),
    "unclean-rgt": placed(lambda at: both(put(72, 1, 1), zeros(at.rgt(2)))),
    "unclean-noise": placed(lambda at: both(put(72, 1, 1), noise_at(at.table(2)))),
    "newlines": put(73, 0x0A0A0D20),
    "cut": CUT,
    "header-gt": placed(lambda at: both(NO_HEADER, noise_at(at.table(0)))),
    "header-gd": placed(lambda at: both(NO_HEADER, zeros(at.gd))),
    "text-gd-rgt": placed(lambda at: both(NO_TEXT, noise_at(at.rgt(1)), noise_at(at.gd))),
    "magic-gts": placed(lambda at: both(put(0, 0), zeros(at.table(0), at.tables_bytes))),
    "cut-header": both(CUT, NO_HEADER),
    "gd-gt": placed(lambda at: both(zeros(at.table(0)), zeros(at.gd))),
    "size-gd": both(placed(lambda at: zeros(at.gd)), text(b"\nRW 145 ", b"\nRW 144 ")),
    "gd-rgt": placed(lambda at: both(zeros(at.gd), noise_at(at.rgt(0)))),
}
"""One of each kind that a repair mends in a sparse disk, and some together."""


def part(
    kind: Kind, index: int = 0, *, more: int = 0
) -> Callable[[Callable[[int], Change]], Change]:
    """A change at a part of a stream, some bytes behind its start."""

    def changed(make: Callable[[int], Change]) -> Change:
        def change(content: bytearray) -> None:
            raw = MemoryDevice(bytes(content))
            found = [each for each in walk(raw, read_header(raw)) if each.kind is kind]
            make(found[index].sector * SECTOR + more)(content)

        return change

    return changed


def noise_in(length: int) -> Callable[[int], Change]:
    """Noise of some length."""
    return lambda at: noise_at(at, length)


NO_FOOTER = placed(lambda _: lambda content: zeros(len(content) - 1024)(content))
HALF = placed(lambda _: lambda content: cut(len(content) // 2)(content))

STREAM: dict[str, Change] = {
    "magic": put(0, 0),
    "header-zeros": NO_HEADER,
    "header-noise": noise_at(0),
    "footer": NO_FOOTER,
    "footer-cut": placed(lambda _: lambda content: cut(len(content) - 1024)(content)),
    "half": HALF,
    "header-half": both(HALF, NO_HEADER),
    "header-text": both(NO_TEXT, NO_HEADER),
    "text-zeros": NO_TEXT,
    "text-no-cid": text(b"\nCID=", b"\nXXX="),
    "marker": part(Kind.GRAIN, 2)(noise_in(12)),
    "marker-and-data": part(Kind.GRAIN, 2)(noise_in(600)),
    "data": part(Kind.GRAIN, 3, more=100)(noise_in(300)),
    "renamed": part(Kind.GRAIN, 2)(lambda at: put(at, 72, 8)),
    "zeros": part(Kind.GRAIN, 2)(lambda at: zeros(at, 1024)),
    "table": part(Kind.TABLE, 1, more=SECTOR)(noise_in(16)),
    "table-marker": part(Kind.TABLE, 1)(noise_in(SECTOR)),
    "directory": part(Kind.DIRECTORY, more=SECTOR)(noise_in(20)),
    "directory-marker": part(Kind.DIRECTORY)(noise_in(SECTOR)),
    "table-lost": placed(
        lambda _: both(
            part(Kind.TABLE, 1)(noise_in(1024)), part(Kind.DIRECTORY, 0, more=516)(noise_in(4))
        )
    ),
    "footer-marker-table": both(NO_FOOTER, part(Kind.GRAIN, 1)(noise_in(12))),
    "footer-marker": both(NO_FOOTER, part(Kind.GRAIN, 2)(noise_in(12))),
    "marker-directory": both(
        part(Kind.DIRECTORY, more=SECTOR)(noise_in(20)), part(Kind.GRAIN, 2)(noise_in(12))
    ),
    "data-table-footer": both(
        part(Kind.GRAIN, 1, more=60)(noise_in(300)),
        part(Kind.TABLE, 0, more=SECTOR)(noise_in(16)),
        NO_FOOTER,
    ),
}
"""The same for a stream-optimized one."""


def no_file(name: str) -> Callable[[Files], Files]:
    """Without one of the files."""
    return lambda files: {each: content for each, content in files.items() if each != name}


def in_file(change: Change, name: str = "disk.vmdk") -> Callable[[Files], Files]:
    """With one of the files changed."""
    return lambda files: damaged(files, change, name)


DESCRIBED: dict[str, tuple[str, Callable[[Files], Files]]] = {
    "flat-none": ("monolithicFlat", no_file("disk.vmdk")),
    "flat-garbage": ("monolithicFlat", in_file(noise_at(0, 100))),
    "flat-no-cid": ("monolithicFlat", in_file(text(b"\nCID=", b"\nXXX="))),
    "flat-no-extent": ("monolithicFlat", in_file(text(b"\nRW ", b"\nXX "))),
    "vmfs-none": ("vmfs", no_file("disk.vmdk")),
    "flats-none": ("twoGbMaxExtentFlat", no_file("disk.vmdk")),
    "split-none": ("twoGbMaxExtentSparse", no_file("disk.vmdk")),
    "split-garbage": ("twoGbMaxExtentSparse", in_file(noise_at(0, 100))),
    "split-magic": ("twoGbMaxExtentSparse", in_file(put(0, 0), "disk-s002.vmdk")),
    "split-header": ("twoGbMaxExtentSparse", in_file(NO_HEADER, "disk-s001.vmdk")),
    "split-gt": (
        "twoGbMaxExtentSparse",
        in_file(placed(lambda at: noise_at(at.table(0))), "disk-s002.vmdk"),
    ),
    "split-two": (
        "twoGbMaxExtentSparse",
        lambda files: damaged(
            damaged(files, NO_HEADER, "disk-s001.vmdk"),
            placed(lambda at: zeros(at.rgd)),
            "disk-s002.vmdk",
        ),
    ),
    "split-text-and-gd": (
        "twoGbMaxExtentSparse",
        lambda files: damaged(
            damaged(files, text(b"\nCID=", b"\nXXX=")),
            placed(lambda at: zeros(at.gd)),
            "disk-s001.vmdk",
        ),
    ),
}
"""Disks whose descriptor is a file of its own: the kind, and the damage."""


def long_text(before: int, after: int) -> Change:
    """More lines in an embedded descriptor: behind its first line, and at its end."""

    def change(content: bytearray) -> None:
        at = Layout.of(bytes(content))
        old = bytes(content[at.text : at.text + at.text_bytes]).rstrip(b"\0")
        first, _, rest = old.partition(b"\n")
        new = first + b"\n#" + b"-" * before + b"\n" + rest + b"#" + b"-" * after + b"\n"
        content[at.text : at.text + at.text_bytes] = new.ljust(at.text_bytes, b"\0")

    return change


CHILD: dict[str, Change] = {
    **{
        f"long-{before}-{name}": both(long_text(before, 600), change)
        for before in (100, 300, 400, 430)
        for name, change in {
            "no-cid": text(b"\nCID=", b"\nXXX="),
            "no-kind": text(b"createType", b"createTypo"),
            "no-extent": text(b"\nRW ", b"\nXX "),
            "parent-changed": text(b"parentCID=", b"parentCID=12345678\n#"),
        }.items()
    },
    "no-cid": text(b"\nCID=", b"\nXXX="),
    "no-kind": text(b"createType", b"createTypo"),
    "no-extent": text(b"\nRW ", b"\nXX "),
    "text-start": placed(lambda at: noise_at(at.text, 25)),
    "header-zeros": NO_HEADER,
    "gd-zeros": placed(lambda at: zeros(at.gd)),
    "gt-zeros": placed(lambda at: zeros(at.table(0))),
    "unclean-rgt": placed(lambda at: both(put(72, 1, 1), zeros(at.rgt(2)))),
    "parent-changed": text(b"parentCID=", b"parentCID=12345678\n#"),
    "parent-changed-gt": placed(
        lambda at: both(text(b"parentCID=", b"parentCID=12345678\n#"), zeros(at.table(0)))
    ),
}
"""A snapshot's child; the parent that it has is to be accepted."""


# -- repair -------------------------------------------------------------------------------------


def sparse_job(change: Change) -> RepairJob:
    """A damaged sparse disk."""
    return RepairJob("repair", damaged(disk_files("monolithicSparse", SIZE_BYTES, WRITES), change))


def stream_files() -> Files:
    """A stream-optimized disk of several tables."""
    return disk_files("streamOptimized", SIZE_BYTES, WRITES)


@pytest.mark.parametrize("kind", SPARSE)
def test_sparse(kind: str) -> None:
    """A sparse disk, of which every part is there twice or follows from the rest."""
    holds(sparse_job(SPARSE[kind]), limit=20)


def test_a_repair_that_would_leave_another_fault_is_refused() -> None:
    """Where what is left contradicts itself nothing is written."""
    folder = MemoryFolder(
        sparse_job(both(SPARSE["both-entries"], SPARSE["both-directories"])).files
    )
    with pytest.raises(VmdkError, match="mending would leave it with another fault"):
        vmdk.repair(folder, "disk.vmdk")
    assert folder.changes == []


@pytest.mark.parametrize("kind", STREAM)
def test_stream(kind: str) -> None:
    """A stream-optimized one, whose grains say what is right."""
    holds(RepairJob("repair", damaged(stream_files(), STREAM[kind])), limit=20)


@pytest.mark.parametrize("kind", DESCRIBED)
def test_described(kind: str) -> None:
    """Disks of several files, whose descriptor is made anew as a whole."""
    subformat, damage = DESCRIBED[kind]
    files = damage(disk_files(subformat, SIZE_BYTES, WRITES))
    holds(RepairJob("repair", files), limit=20)


@pytest.mark.parametrize("kind", CHILD)
def test_child(kind: str) -> None:
    """A snapshot's child shows what is below it, or nothing; its parent is not touched."""
    files = damaged(parent_and_child("monolithicSparse"), CHILD[kind], "child.vmdk")
    job = RepairJob("repair", files, "child.vmdk", accept_parent=True, bystanders=("base.vmdk",))
    holds(job, limit=20)


SPLIT_CHILD: dict[str, Change] = {
    name: both(
        lambda content: content.extend(b"#" + b"-" * 700 + b"\n"),
        text(b"# Disk DescriptorFile\n", b"# Disk DescriptorFile\n#" + b"-" * 400 + b"\n"),
        change,
    )
    for name, change in {
        "no-cid": text(b"\nCID=", b"\nXXX="),
        "no-kind": text(b"createType", b"createTypo"),
        "parent-changed": text(b"parentCID=", b"parentCID=12345678\n#"),
    }.items()
}
"""One whose descriptor is a file of its own, and longer than a sector."""


@pytest.mark.parametrize("kind", SPLIT_CHILD)
def test_split_child(kind: str) -> None:
    """The descriptor of a child of several files says whose it is at any moment."""
    holds(split_child_job(SPLIT_CHILD[kind]), limit=20)


def split_child_job(change: Change) -> RepairJob:
    """A child of several files with a damaged descriptor."""
    files = damaged(parent_and_child("monolithicSparse", is_split=True), change, "child.vmdk")
    return RepairJob("repair", files, "child.vmdk", accept_parent=True, bystanders=("base.vmdk",))


@pytest.mark.parametrize(
    ("files", "change"),
    [
        *(
            ("monolithicSparse", SPARSE[kind])
            for kind in ("header-gt", "text-gd-rgt", "unclean-gt")
        ),
        *(("streamOptimized", STREAM[kind]) for kind in ("header-half", "table-lost", "marker")),
    ],
)
def test_a_second_cut(files: str, change: Change) -> None:
    """A cut in the repair of what a cut left costs nothing either."""
    share = 1 if IS_DEEP else 7
    job = RepairJob("repair", damaged(disk_files(files, SIZE_BYTES, WRITES), change))
    for number, state in enumerate(job_states(job)):
        if number % share == share // 2:
            holds(replace(job, files=state.files, whole=job), limit=10)


# -- undo ---------------------------------------------------------------------------------------

GUARDED: dict[str, Callable[[], Job]] = {
    "repair": lambda: sparse_job(SPARSE["text-gd-rgt"]),
    "repair-cut": lambda: sparse_job(SPARSE["cut-header"]),
    "repair-stream": lambda: RepairJob("repair", damaged(stream_files(), STREAM["header-half"])),
    "repair-split": lambda: described_job("split-two"),
    "repair-text": lambda: described_job("flat-garbage"),
    "grow": lambda: resize_job(holey_disk("monolithicSparse"), 15 * GRAIN_BYTES),
    "shrink": lambda: resize_job(full_disk(), 6 * GRAIN_BYTES + 512, allow_loss=True),
    "grow-split": lambda: resize_job(holey_disk("twoGbMaxExtentSparse"), 40 * GRAIN_BYTES),
    "shrink-split": lambda: resize_job(
        full_disk("twoGbMaxExtentSparse"), 6 * GRAIN_BYTES, allow_loss=True
    ),
    "shrink-flat": lambda: resize_job(
        full_disk("twoGbMaxExtentFlat"), 9 * GRAIN_BYTES, allow_loss=True
    ),
    "anew": lambda: resize_job(stream_files(), 30 * GRAIN_BYTES),
    "compact": lambda: compact_job(without(full_disk(), (0, 1, 2, 3, 9))),
    "compact-flat": lambda: compact_job(without(full_disk("monolithicFlat"), (0, 2, 9))),
    "commit": lambda: commit_job(parent_and_child("monolithicSparse")),
    "commit-flat": lambda: commit_job(parent_and_child("monolithicFlat")),
    "commit-and-remove": lambda: commit_job(
        parent_and_child("monolithicSparse", is_split=True), removes=True
    ),
    "commit-middle": lambda: commit_job(
        chain_of_three("monolithicSparse"), child="mid.vmdk", above="top.vmdk"
    ),
}
"""Jobs that save what they overwrite."""


def described_job(kind: str) -> RepairJob:
    """A damaged disk with a descriptor of its own."""
    subformat, damage = DESCRIBED[kind]
    return RepairJob("repair", damage(disk_files(subformat, SIZE_BYTES, WRITES)))


@pytest.mark.parametrize("kind", GUARDED)
def test_undo_after_a_cut(kind: str) -> None:
    """Whatever of the journal and the files landed, an undo gives what was there before."""
    found = holds(GuardedJob(GUARDED[kind]()), limit=60)
    assert found.states > 5


@pytest.mark.parametrize("kind", ["repair", "shrink-split", "anew", "commit-and-remove"])
def test_a_cut_in_the_undo(kind: str) -> None:
    """An undo that was cut is run again, also of a job that was cut."""
    guarded = GuardedJob(GUARDED[kind]())
    states = list(job_states(guarded))
    for state in (states[-1], states[len(states) // 2]):
        holds(UndoJob(guarded, state.files), limit=40)
