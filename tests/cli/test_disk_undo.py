"""`ipva undo` of everything that changes an image in place, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, read
from ipva_storage.units import GIB, KIB, MIB
from tests.cli.images import DATA, change, content_of, files, lose_start, make
from tests.cli.test_disk_repair import child_over

Ipva = Callable[..., Any]


def taken_back(ipva: Ipva, folder: Path, *words: object) -> dict[str, bytes]:
    """Do a job and take it back; what was there before is there again, byte for byte.

    Returns:
        What the job had left.
    """
    before = files(folder)
    done = ipva("disk", *words, "--undo", folder / "job.undo")
    assert done.status in (0, 1), done.err
    left = files(folder)
    assert {name: left.get(name) for name in before} != before
    assert f"ipva undo {folder / 'job.undo'}" in done.out
    assert ipva("undo", folder / "job.undo").status == 0
    after = files(folder)
    assert {name: after.get(name) for name in before} == before
    return left


@pytest.mark.parametrize("kind", vmdk.SUBFORMATS)
@pytest.mark.parametrize("size", ["9M", "6M"])
def test_undo_of_a_resize(ipva: Ipva, tmp_path: Path, kind: str, size: str) -> None:
    """Of every kind, also of one that is made anew."""
    disk = make(tmp_path, kind)
    taken_back(ipva, tmp_path, "resize", disk, size)
    assert ipva("disk", "check", disk).status == 0


def test_undo_of_a_resize_that_removes_files(ipva: Ipva, tmp_path: Path) -> None:
    """The parts that went are there again."""
    disk = make(tmp_path, "twoGbMaxExtentSparse")
    assert ipva("disk", "resize", disk, 5 * GIB).status == 0
    left = taken_back(ipva, tmp_path, "resize", disk, "6M")
    assert len(left) == 3
    assert len(files(tmp_path)) == 5
    assert content_of_start(disk) == DATA


def content_of_start(path: Path) -> bytes:
    """The first bytes of a disk."""
    folder = Folder(path.parent)
    with vmdk.open(folder.open(path.name), folder) as disk:
        return read(disk, 0, len(DATA))


@pytest.mark.parametrize("kind", ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse"])
def test_undo_of_a_compaction(ipva: Ipva, tmp_path: Path, kind: str) -> None:
    """What was freed is there again."""
    disk = make(tmp_path, kind)
    change(disk, 0, bytes(200 * KIB))
    before = content_of(disk)
    if kind != "monolithicFlat":
        taken_back(ipva, tmp_path, "compact", disk)
    else:  # its bytes are the same, and only the holes are not
        assert ipva("disk", "compact", disk, "--undo", tmp_path / "job.undo").status == 0
        assert ipva("undo", tmp_path / "job.undo").status == 0
    assert content_of(disk) == before


@pytest.mark.parametrize("kind", ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse"])
@pytest.mark.parametrize("removes", [False, True])
def test_undo_of_a_commit(ipva: Ipva, tmp_path: Path, kind: str, removes: bool) -> None:
    """Child and parent hold again what each held, also a child that was removed."""
    base, child = make(tmp_path, kind, name="base"), tmp_path / "child.vmdk"
    assert ipva("disk", "snapshot", "create", base, child).status == 0
    change(child, MIB, DATA)
    shown = content_of(child)
    words = ["snapshot", "commit", child, *(["--remove"] if removes else [])]
    left = taken_back(ipva, tmp_path, *words)
    assert ("child.vmdk" in left) is not removes
    assert content_of(child) == shown
    assert content_of(base) != shown


def test_undo_of_a_repair_over_several_files(ipva: Ipva, tmp_path: Path) -> None:
    """The descriptor that was replaced and the part that was mended come back."""
    disk = make(tmp_path, "twoGbMaxExtentSparse")
    disk.write_bytes(disk.read_bytes().replace(b"\nCID=", b"\nXXX="))
    lose_start(tmp_path / "disk-s001.vmdk")
    before = files(tmp_path)
    done = ipva("disk", "repair", disk)
    assert done.status == 0
    assert set(files(tmp_path)) == {*before, "disk.vmdk.undo"}
    assert ipva("disk", "check", disk).status == 0
    result = ipva("undo", f"{disk}.undo", "--json")
    assert {Path(each["file"]).name for each in result.document["restored"]} == set(before)
    assert {name: files(tmp_path)[name] for name in before} == before


# -- what is refused on the way -----------------------------------------------------------------


def test_a_dry_resize_sees_what_the_real_one_refuses(ipva: Ipva, tmp_path: Path) -> None:
    """Too many parts, and a file in the way of one."""
    disk = make(tmp_path, "twoGbMaxExtentSparse")
    for options in (["--dry-run"], []):
        result = ipva("disk", "resize", disk, "3T", *options)
        assert result.status == 2
        assert f"ipva disk convert {disk} new.vmdk -O monolithicSparse" in result.err
    (tmp_path / "disk-s002.vmdk").write_bytes(b"something")
    for options in (["--dry-run"], []):
        assert "is there; it is no part" in ipva("disk", "resize", disk, "3G", *options).err
    assert ipva("disk", "resize", disk, "9M").status == 0


def test_a_forced_commit_names_the_children_that_fit_no_more(ipva: Ipva, tmp_path: Path) -> None:
    """They show what they showed until then, and are refused from then on."""
    base, child = child_over(ipva, tmp_path)
    other = tmp_path / "other.vmdk"
    assert ipva("disk", "snapshot", "create", base, other).status == 0
    tried = ipva("disk", "snapshot", "commit", child, "--force", "--dry-run")
    assert f"other.vmdk, which was taken over {base.name} as well, would fit it no more" in (
        tried.out
    )
    done = ipva("disk", "snapshot", "commit", child, "--force", "--json")
    assert done.document["outdated"] == [str(other)]
    assert done.document["parent"] == str(base)
    assert ipva("disk", "check", other).status == 1
