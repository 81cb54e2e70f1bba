"""A power cut at any point of a resize, a compaction or a commit leaves the old or new state.

Each job is visited in a sample of its states; `HYPOTHESIS_PROFILE=deep` visits all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, Operation
from ipva_storage.errors import UsageError
from ipva_storage.sim.explore import Exploration
from ipva_storage.sim.files import FileChange, MemoryFolder
from ipva_storage.sim.jobs import FileState, Job, explore_job, file_points, file_states
from ipva_storage.testing.vmdk_crash import DiskJob, cid_of, content_of, findings_of
from ipva_storage.testing.vmdk_small import (
    GRAIN_BYTES,
    child_files,
    commit_job,
    compact_job,
    disk_files,
    noise,
    resize_job,
    shrink_geometry,
    split_child_files,
    written,
)

IS_DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SPLIT = ("twoGbMaxExtentSparse", "twoGbMaxExtentFlat")
FLAT = ("monolithicFlat", "vmfs")
SIZE_BYTES = 18 * GRAIN_BYTES + 512
PARENT_WRITES = ((0, noise(4 * GRAIN_BYTES, 1)), (8 * GRAIN_BYTES, noise(3 * GRAIN_BYTES + 200, 2)))
CHILD_WRITES = (
    (GRAIN_BYTES + 100, noise(GRAIN_BYTES, 3)),
    (9 * GRAIN_BYTES, bytes(GRAIN_BYTES)),
    (14 * GRAIN_BYTES, noise(GRAIN_BYTES, 4)),
    (17 * GRAIN_BYTES, noise(GRAIN_BYTES + 512, 5)),
)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_geometry(monkeypatch)


def holds(job: Job, *, limit: int | None = None) -> Exploration:
    """Explore a job, and say what does not hold."""
    found = explore_job(job, limit=None if IS_DEEP else limit)
    assert found.violations == (), "\n".join(str(each) for each in found.violations[:5])
    return found


def states(job: Job) -> Iterator[FileState]:
    """Every state that a power cut during a job leaves."""
    folder = MemoryFolder(job.files)
    job.run(folder)
    return file_states(job.files, folder.changes, file_points(folder.changes))


def parent_files(subformat: str) -> dict[str, bytes]:
    """A disk to take snapshots over."""
    return disk_files(subformat, SIZE_BYTES, PARENT_WRITES, name="base.vmdk")


def with_short_cid(files: dict[str, bytes], digits: int) -> dict[str, bytes]:
    """The files with fewer digits in the CID of the base; behind the text is room, or its end."""
    content = files["base.vmdk"]
    at = content.index(b"\nCID=") + 5
    end = content.index(b"\0", at) if content.startswith(b"KDMV") else len(content)
    room = bytes(8 - digits) if end < len(content) else b""
    text = b"a1b2"[:digits] + content[at + 8 : end]
    return {**files, "base.vmdk": content[:at] + text + room + content[end:]}


# -- mistakes that were found -------------------------------------------------------------------


@pytest.mark.parametrize("subformat", [*FLAT, "twoGbMaxExtentFlat"])
def test_closing_a_flat_disk_makes_it_durable(subformat: str) -> None:
    """What was written to flat files is durable when the disk is closed.

    It was not, and a commit took the child's copy away.
    """
    folder = MemoryFolder(disk_files(subformat, SIZE_BYTES))
    with vmdk.open(folder.open("disk.vmdk", writable=True), folder, writable=True) as disk:
        disk.write(7 * GRAIN_BYTES + 100, noise(2 * GRAIN_BYTES))
    last = {each.file: each.record for each in folder.changes if isinstance(each, FileChange)}
    parts = [at for at, name in enumerate(folder.names()) if name != "disk.vmdk"]
    assert {last[at].operation for at in parts if at in last} == {Operation.FLUSH}


@pytest.mark.parametrize("subformat", ["monolithicSparse", "monolithicFlat"])
def test_child_may_be_written_to_between_two_steps_of_a_commit(subformat: str) -> None:
    """A child whose parent has the child's CID already, and no other, is written to and opens.

    With its next CID it was not recognised any more.
    """
    files = child_files(parent_files(subformat), CHILD_WRITES, child="child.vmdk")
    for state in states(commit_job(files)):
        if cid_of(state.files, "base.vmdk") == cid_of(files, "child.vmdk"):
            break
    after = written(state.files, [(0, b"more")], name="child.vmdk")
    found = content_of(MemoryFolder(after), "child.vmdk")
    assert found == b"more" + content_of(MemoryFolder(files), "child.vmdk")[4:]
    assert cid_of(after, "child.vmdk") != cid_of(after, "base.vmdk")


@pytest.mark.parametrize("subformat", ["monolithicSparse", "twoGbMaxExtentFlat"])
def test_cid_changes_durably_before_the_content(subformat: str) -> None:
    """No cut leaves another content under the old CID, by which a child would take it."""
    files = disk_files(subformat, SIZE_BYTES, [(0, noise(GRAIN_BYTES))])
    before = content_of(MemoryFolder(files), "disk.vmdk")

    def work(folder: Folder) -> None:
        with vmdk.open(folder.open("disk.vmdk", writable=True), folder, writable=True) as disk:
            disk.write(100, b"other")

    job = DiskJob("write", files, "disk.vmdk", before, b"", work)
    for state in states(job):
        if content_of(state.folder(), "disk.vmdk") != before:
            assert cid_of(state.files, "disk.vmdk") != cid_of(files, "disk.vmdk")


def test_removed_child_is_never_half_there() -> None:
    """Of a child of several files that a commit removes, the descriptor goes first."""
    files = split_child_files(parent_files("monolithicSparse"), CHILD_WRITES, child="child.vmdk")
    shown = content_of(MemoryFolder(files), "child.vmdk")
    seen = set()
    for state in states(commit_job(files, removes=True)):
        is_there = "child.vmdk" in state.files
        seen.add((is_there, len(state.files)))
        name = "child.vmdk" if is_there else "base.vmdk"
        assert content_of(state.folder(), name) == shown
    assert seen == {(True, 5), (False, 4), (False, 3), (False, 2), (False, 1)}


@pytest.mark.parametrize("subformat", ["monolithicSparse", "monolithicFlat"])
@pytest.mark.parametrize("digits", [1, 4])
def test_parent_with_a_short_cid(subformat: str, digits: int) -> None:
    """A parent whose CID has few digits gets all of the child's; with a part of them it is another.

    Other programs write it without leading zeros.
    """
    files = with_short_cid(parent_files(subformat), digits)
    files = child_files(files, CHILD_WRITES, child="child.vmdk")
    folder = MemoryFolder(files)
    shown = content_of(folder, "child.vmdk")
    vmdk.commit(folder, "child.vmdk")
    assert cid_of(folder.files, "base.vmdk") == cid_of(folder.files, "child.vmdk")
    assert content_of(folder, "child.vmdk") == content_of(folder, "base.vmdk") == shown
    assert findings_of(folder, "base.vmdk") == []


def test_two_cuts_and_then_another_size() -> None:
    """Tables of which a cut left two versions are mended before either's places are used again.

    One cut while grains are moved out of the way, one when new tables lie in their old places: the
    next resize took the version that named those.
    """
    size_bytes = 18 * GRAIN_BYTES + 512
    files = disk_files("monolithicSparse", size_bytes, [(0, noise(size_bytes))])
    first = [
        state
        for state in states(resize_job(files, 30 * GRAIN_BYTES))
        if any(each.code == "VMDK009" for each in findings_of(state.folder(), "disk.vmdk"))
    ]
    assert first
    for again in states(resize_job(first[0].files, 30 * GRAIN_BYTES)):
        if len(content_of(again.folder(), "disk.vmdk")) == size_bytes:
            job = resize_job(again.files, size_bytes + 1024)
            folder = again.folder()
            job.run(folder)
            assert content_of(folder, "disk.vmdk") == job.after


@pytest.mark.parametrize("subformat", ["monolithicSparse", "twoGbMaxExtentSparse"])
def test_after_a_cut_resize_another_job_works(subformat: str) -> None:
    """Entries behind the new end, which a cut leaves, are in no other job's way."""
    files = disk_files(subformat, SIZE_BYTES, [(0, noise(SIZE_BYTES))])
    found = 0
    for state in states(resize_job(files, 9 * GRAIN_BYTES + 1024, allow_loss=True)):
        folder = state.folder()
        found += any(each.code == "VMDK019" for each in findings_of(folder, "disk.vmdk"))
        for job in (
            compact_job(state.files),
            resize_job(state.files, 15 * GRAIN_BYTES, allow_loss=True),
            resize_job(state.files, 10 * GRAIN_BYTES, allow_loss=True),
        ):
            folder = state.folder()
            job.run(folder)
            assert content_of(folder, "disk.vmdk") == job.after
            # What says the size twice is for the same resize again, or a repair.
            told = {each.code for each in findings_of(folder, "disk.vmdk")}
            assert told <= {"VMDK004", "VMDK034"}
    assert found


@pytest.mark.parametrize("subformat", ["monolithicSparse", *SPLIT, *FLAT])
def test_resize_again_leaves_nothing_undone(subformat: str) -> None:
    """After a cut the same resize leaves files as long as one without a cut does, and no others."""
    files = disk_files(subformat, SIZE_BYTES, [(0, noise(7 * GRAIN_BYTES))])
    for size_bytes in (30 * GRAIN_BYTES, 10 * GRAIN_BYTES + 512):
        job = resize_job(files, size_bytes)
        whole = MemoryFolder(files)
        job.run(whole)
        expected = {name: len(content) for name, content in whole.files.items()}
        for state in states(job):
            folder = state.folder()
            job.run(folder)
            lengths = {name: len(content) for name, content in folder.files.items()}
            if size_bytes < SIZE_BYTES or "Flat" in subformat or subformat == "vmfs":
                assert {name: lengths[name] for name in expected} == expected
            left = {name for name in lengths if not name.endswith(".part")} - set(expected)
            assert left <= set(files)  # parts that the descriptor had named, and names no more


@pytest.mark.parametrize("allow_loss", [True, False])
def test_same_size_again_cuts_nothing_off_unasked(allow_loss: bool) -> None:
    """What lies in a file behind the disk's end goes when it is nothing, or may be lost."""
    for subformat in ("monolithicFlat", "twoGbMaxExtentSparse"):
        part = "disk-flat.vmdk" if subformat == "monolithicFlat" else "disk-s003.vmdk"
        whole = disk_files(subformat, SIZE_BYTES, [(SIZE_BYTES - 600, noise(600))])
        short = written(disk_files(subformat, SIZE_BYTES - 512), [(0, b"x")])
        files = {**short, part: whole[part]}
        folder = MemoryFolder(files)
        vmdk.resize(folder, "disk.vmdk", SIZE_BYTES - 512, allow_loss=allow_loss)
        assert (folder.files[part] == whole[part]) is not allow_loss
        assert findings_of(folder, "disk.vmdk") == [] or not allow_loss
        again = MemoryFolder(folder.files)
        vmdk.resize(again, "disk.vmdk", SIZE_BYTES - 512, allow_loss=allow_loss)
        assert again.files == folder.files


@pytest.mark.parametrize("subformat", SPLIT)
def test_only_an_empty_part_gives_way(subformat: str) -> None:
    """A file with the name of a part that is to be made gives way when it holds nothing."""
    files = disk_files(subformat, SIZE_BYTES)
    part = "disk-s004.vmdk" if subformat == "twoGbMaxExtentSparse" else "disk-f004.vmdk"
    size_bytes = 30 * GRAIN_BYTES
    longer = MemoryFolder(files)
    vmdk.resize(longer, "disk.vmdk", size_bytes)
    used = written(longer.files, [(size_bytes - 512, b"used")])[part]
    alone = disk_files("monolithicSparse", SIZE_BYTES)["disk.vmdk"]
    for content in (used, b"text", alone):
        folder = MemoryFolder({**files, part: content})
        with pytest.raises(UsageError, match="is to have is there"):
            vmdk.resize(folder, "disk.vmdk", size_bytes)
        assert folder.files[part] == content
    folder = MemoryFolder({**files, part: longer.files[part]})
    vmdk.resize(folder, "disk.vmdk", size_bytes)
    assert len(content_of(folder, "disk.vmdk")) == size_bytes


@pytest.mark.parametrize("subformat", ["monolithicSparse", *SPLIT, *FLAT])
def test_same_size_changes_nothing(subformat: str) -> None:
    """A disk that has the size already, and was not cut, is not written to."""
    folder = MemoryFolder(disk_files(subformat, SIZE_BYTES, [(0, noise(7 * GRAIN_BYTES))]))
    vmdk.resize(folder, "disk.vmdk", SIZE_BYTES)
    assert folder.changes == []
