"""A power cut at any point of a resize, a compaction or a commit leaves the old or new state.

Each job is visited in a sample of its states; `HYPOTHESIS_PROFILE=deep` visits all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, Operation
from ipva_storage.errors import UsageError, VmdkError
from ipva_storage.sim.explore import Exploration
from ipva_storage.sim.files import FileChange, MemoryFolder
from ipva_storage.sim.jobs import Job, explore_job, job_states
from ipva_storage.testing.vmdk_crash import DiskJob, cid_of, content_of, findings_of
from ipva_storage.testing.vmdk_small import (
    GRAIN_BYTES,
    SIZE_BYTES,
    chain_of_three,
    child_files,
    commit_job,
    compact_job,
    disk_files,
    disk_with_remains,
    full_disk,
    holey_disk,
    noise,
    parent_and_child,
    parent_disk,
    resize_job,
    shrink_geometry,
    without,
    written,
)

IS_DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SPLIT = ("twoGbMaxExtentSparse", "twoGbMaxExtentFlat")
FLAT = ("monolithicFlat", "vmfs")
TWICE_SAID = ("VMDK004", "VMDK034")
"""What a cut resize leaves, and only the same resize again or a repair mends: the size is said in
two places, and so is the number of tables."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_geometry(monkeypatch)


def holds(job: Job, *, limit: int | None = None) -> Exploration:
    """Explore a job, and say what does not hold."""
    found = explore_job(job, limit=None if IS_DEEP else limit)
    assert found.violations == (), "\n".join(str(each) for each in found.violations[:5])
    return found


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
    files = parent_and_child(subformat)
    for state in job_states(commit_job(files)):
        if cid_of(state.files, "base.vmdk") == cid_of(files, "child.vmdk"):
            break
    after = written(state.files, [(0, b"more")], name="child.vmdk")
    found = content_of(MemoryFolder(after), "child.vmdk")
    assert found == b"more" + content_of(MemoryFolder(files), "child.vmdk")[4:]
    assert cid_of(after, "child.vmdk") != cid_of(after, "base.vmdk")


def test_parent_of_a_cut_commit_is_not_resized() -> None:
    """A child is known to its parent in every state that a cut commit leaves."""
    files = parent_and_child("monolithicSparse")
    for state in job_states(commit_job(files)):
        with pytest.raises(VmdkError, match="would fit no more"):
            vmdk.resize(state.folder(), "base.vmdk", SIZE_BYTES + 512)


@pytest.mark.parametrize("is_empty", [False, True])
def test_commit_to_a_disk_whose_own_commit_was_cut(is_empty: bool) -> None:
    """A disk in the middle that knows its parent by its own CID names it before it gets another."""
    files = parent_and_child("monolithicSparse", child="mid.vmdk")
    files = child_files(files, [(0, b"top")], parent="mid.vmdk", child="top.vmdk")
    if is_empty:  # by a compaction, so that it has a CID of its own
        below = content_of(MemoryFolder(files), "mid.vmdk")
        folder = MemoryFolder(written(files, [(0, below[:3])], name="top.vmdk"))
        vmdk.compact(folder, "top.vmdk")
        files = folder.files
    shown = content_of(MemoryFolder(files), "top.vmdk")
    for state in job_states(commit_job(files, child="mid.vmdk", above="top.vmdk")):
        folder = state.folder()
        vmdk.commit(folder, "top.vmdk")
        for name in ("mid.vmdk", "top.vmdk"):
            assert content_of(folder, name) == shown
            assert findings_of(folder, name) == [] or not state.is_done


@pytest.mark.parametrize("subformat", ["monolithicSparse", "twoGbMaxExtentFlat"])
def test_cid_changes_durably_before_the_content(subformat: str) -> None:
    """No cut leaves another content under the old CID, by which a child would take it."""
    files = disk_files(subformat, SIZE_BYTES, [(0, noise(GRAIN_BYTES))])
    before = content_of(MemoryFolder(files), "disk.vmdk")

    def work(folder: Folder) -> None:
        with vmdk.open(folder.open("disk.vmdk", writable=True), folder, writable=True) as disk:
            disk.write(100, b"other")

    job = DiskJob("write", files, "disk.vmdk", before, b"", work)
    for state in job_states(job):
        if content_of(state.folder(), "disk.vmdk") != before:
            assert cid_of(state.files, "disk.vmdk") != cid_of(files, "disk.vmdk")


def test_removed_child_is_never_half_there() -> None:
    """Of a child of several files that a commit removes, the descriptor goes first."""
    files = parent_and_child("monolithicSparse", is_split=True)
    shown = content_of(MemoryFolder(files), "child.vmdk")
    seen = set()
    for state in job_states(commit_job(files, removes=True)):
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
    files = with_short_cid(parent_disk(subformat), digits)
    files = child_files(files, [(100, noise(3 * GRAIN_BYTES))], child="child.vmdk")
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
    files, size_bytes = full_disk(), SIZE_BYTES
    first = [
        state
        for state in job_states(resize_job(files, 30 * GRAIN_BYTES))
        if any(each.code == "VMDK009" for each in findings_of(state.folder(), "disk.vmdk"))
    ]
    assert first
    for again in job_states(resize_job(first[0].files, 30 * GRAIN_BYTES)):
        if len(content_of(again.folder(), "disk.vmdk")) == size_bytes:
            job = resize_job(again.files, size_bytes + 1024)
            folder = again.folder()
            job.run(folder)
            assert content_of(folder, "disk.vmdk") == job.after


@pytest.mark.parametrize("subformat", ["monolithicSparse", "twoGbMaxExtentSparse"])
def test_after_a_cut_resize_another_job_works(subformat: str) -> None:
    """Entries behind the new end, which a cut leaves, are in no other job's way."""
    files = full_disk(subformat)
    found = 0
    for state in job_states(resize_job(files, 9 * GRAIN_BYTES + 1024, allow_loss=True)):
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
            assert {each.code for each in findings_of(folder, "disk.vmdk")} <= set(TWICE_SAID)
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
        for state in job_states(job):
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


# -- every job ----------------------------------------------------------------------------------


@pytest.mark.parametrize("subformat", vmdk.REWRITABLE)
@pytest.mark.parametrize(
    "size_bytes",
    [
        10 * GRAIN_BYTES + 2048,  # within the last grain
        12 * GRAIN_BYTES,  # within the last table
        15 * GRAIN_BYTES,  # one more table, for which grains move away
        40 * GRAIN_BYTES + 512,  # more tables, and more files of a split disk
        6 * GRAIN_BYTES + 512,  # cut within a grain that there is not
        2 * GRAIN_BYTES + 512,  # cut within one that there is
    ],
)
def test_resize(subformat: str, size_bytes: int) -> None:
    """A disk of any kind has its old size or the new one, with what it held there."""
    job = resize_job(holey_disk(subformat), size_bytes, allow_loss=True)
    assert job.before != job.after
    holds(job, limit=25)


@pytest.mark.parametrize("size_bytes", [30 * GRAIN_BYTES, 6 * GRAIN_BYTES + 512])
def test_resize_of_a_stream(size_bytes: int) -> None:
    """It is made anew beside its place; the old one or the new one is there."""
    files = disk_files("streamOptimized", SIZE_BYTES, [(0, noise(7 * GRAIN_BYTES))])
    job = resize_job(files, size_bytes, allow_loss=True)
    seen = set()
    for state in job_states(job):
        seen.add(content_of(state.folder(), "disk.vmdk"))
        assert findings_of(state.folder(), "disk.vmdk") == []
        again = state.folder()
        job.run(again)
        assert content_of(again, "disk.vmdk") == job.after
    assert seen == {job.before, job.after}


@pytest.mark.parametrize(
    "size_bytes", [10 * GRAIN_BYTES + 2048, 11 * GRAIN_BYTES, 15 * GRAIN_BYTES]
)
def test_resize_over_remains(size_bytes: int) -> None:
    """Bytes and entries behind the end of a disk, which another program left, never show."""
    holds(resize_job(disk_with_remains(), size_bytes), limit=25)


@pytest.mark.parametrize("subformat", ["monolithicSparse", "twoGbMaxExtentFlat"])
def test_resize_without_loss(subformat: str) -> None:
    """The same where nothing is to be lost, and may not be."""
    files = disk_files(subformat, SIZE_BYTES, [(0, noise(7 * GRAIN_BYTES))])
    holds(resize_job(files, 7 * GRAIN_BYTES), limit=25)


def test_resize_that_is_refused_writes_nothing() -> None:
    """What would be lost and may not be is seen before anything is written."""
    folder = MemoryFolder(disk_files("monolithicSparse", SIZE_BYTES, [(SIZE_BYTES - 1, b"x")]))
    with pytest.raises(UsageError, match="not empty"):
        vmdk.resize(folder, "disk.vmdk", SIZE_BYTES - 512)
    assert folder.changes == []


@pytest.mark.parametrize("orphans", [0, 2])
@pytest.mark.parametrize(
    "zeros", [(), (0, 3, 4, 9, 15), (1, 2, 3, 4, 5, 6, 7, 8, 10, 18), range(19)], ids=len
)
def test_compact(zeros: Sequence[int], orphans: int) -> None:
    """What a disk reads as never changes, whatever grains go and move."""
    files = without(full_disk(), zeros)
    files["disk.vmdk"] += noise(orphans * GRAIN_BYTES, 7)
    job = compact_job(files)
    found = holds(job, limit=25)
    assert found.states > 1 or not (zeros or orphans)
    whole = MemoryFolder(files)
    job.run(whole)
    freed = len(files["disk.vmdk"]) - len(whole.files["disk.vmdk"])
    assert freed == (len(zeros) + orphans) * GRAIN_BYTES


@pytest.mark.parametrize("subformat", ["twoGbMaxExtentSparse", "monolithicFlat"])
def test_compact_other_kinds(subformat: str) -> None:
    """The same for a disk of several files, and for holes in a flat one."""
    holds(compact_job(without(full_disk(subformat), (0, 2, 9, 10, 16))), limit=25)


def test_compact_child() -> None:
    """A child loses the grains that equal what is below, and no others; its parent stays."""
    base = parent_disk("monolithicSparse")
    below = content_of(MemoryFolder(base), "base.vmdk")
    writes = [
        (0, below[: 3 * GRAIN_BYTES]),
        (GRAIN_BYTES, noise(100, 9)),
        (8 * GRAIN_BYTES, bytes(GRAIN_BYTES)),
        (14 * GRAIN_BYTES, bytes(GRAIN_BYTES)),
        (17 * GRAIN_BYTES, noise(GRAIN_BYTES + 512, 11)),
    ]
    files = child_files(base, writes, child="disk.vmdk")
    job = compact_job(files, bystanders=("base.vmdk",))
    holds(job, limit=25)
    whole = MemoryFolder(files)
    job.run(whole)
    assert len(files["disk.vmdk"]) - len(whole.files["disk.vmdk"]) == 3 * GRAIN_BYTES


@pytest.mark.parametrize("removes", [False, True])
@pytest.mark.parametrize("is_split", [False, True])
@pytest.mark.parametrize("subformat", [each for each in vmdk.REWRITABLE if each != "vmfs"])
def test_commit(subformat: str, is_split: bool, removes: bool) -> None:
    """The child reads the same at every point, and in the end the parent reads as it does."""
    files = parent_and_child(subformat, is_split=is_split)
    found = holds(commit_job(files, removes=removes), limit=12)
    assert found.states > 8


@pytest.mark.parametrize("subformat", ["monolithicSparse", "monolithicFlat"])
def test_commit_the_uppermost_of_three(subformat: str) -> None:
    """The disk in the middle takes the changes, and the lowest one is not touched."""
    files = chain_of_three(subformat)
    lowest = tuple(name for name in files if name.startswith("base"))
    holds(commit_job(files, parent="mid.vmdk", child="top.vmdk", bystanders=lowest), limit=12)


@pytest.mark.parametrize("subformat", ["monolithicSparse", "monolithicFlat"])
def test_commit_the_middle_of_three(subformat: str) -> None:
    """The disk above reads the same all the time, and is not touched."""
    files = chain_of_three(subformat)
    holds(commit_job(files, child="mid.vmdk", above="top.vmdk", bystanders=("top.vmdk",)), limit=12)


def test_snapshot() -> None:
    """There is a child that reads as its parent, or none; the parent is not touched."""
    files = parent_disk("monolithicSparse")
    shown = content_of(MemoryFolder(files), "base.vmdk")

    def work(folder: Folder) -> None:
        vmdk.snapshot(folder, "base.vmdk", "child.vmdk", force=True)

    seen = set()
    for state in job_states(DiskJob("snapshot", files, "base.vmdk", shown, shown, work)):
        assert state.files["base.vmdk"] == files["base.vmdk"]
        seen.add("child.vmdk" in state.files)
        if "child.vmdk" in state.files:
            assert content_of(state.folder(), "child.vmdk") == shown
            assert findings_of(state.folder(), "child.vmdk") == []
    assert seen == {False, True}


@pytest.mark.parametrize("share", [12 if IS_DEEP else 60])
@pytest.mark.parametrize("first", ["compact", "grow", "shrink"])
def test_a_second_cut(first: str, share: int) -> None:
    """A cut in the same job, or in another, done after a first cut breaks no promise either."""
    files = without(full_disk(), (1, 2, 3, 4, 9))
    jobs: dict[str, Callable[[Mapping[str, bytes]], DiskJob]] = {
        "compact": compact_job,
        "grow": lambda files: resize_job(files, 30 * GRAIN_BYTES),
        "shrink": lambda files: resize_job(files, 7 * GRAIN_BYTES + 512, allow_loss=True),
    }
    for number, state in enumerate(job_states(jobs[first](files))):
        if number % share == share // 2:
            for name, job in jobs.items():
                again = replace(job(state.files), tolerated=() if name == first else TWICE_SAID)
                holds(again, limit=8)
