"""Content identifiers: a new one for a new content, and a child names its parent's."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder
from ipva_storage.vmdk.access import read_descriptor
from ipva_storage.vmdk.descriptor import Descriptor

SIZE_BYTES = 3 << 20


def text_of(folder: Folder, name: str) -> Descriptor:
    """The descriptor that is in the file, whatever it was taken over."""
    with folder.open(name) as raw:
        return read_descriptor(raw)


def made(place: Path, subformat: str) -> Folder:
    """A folder with a disk of a kind in it, `x.vmdk`, that has data and zeros that were data."""
    folder = Folder(place)
    fill = b"x" * (1 << 20)
    vmdk.create(
        folder, "x.vmdk", SIZE_BYTES, subformat=subformat, fill=lambda disk: disk.write(0, fill)
    )
    if subformat in vmdk.REWRITABLE:
        with vmdk.open(folder.open("x.vmdk", writable=True), folder, writable=True) as disk:
            disk.write(0, bytes(1 << 19))
    return folder


@pytest.mark.parametrize("size_bytes", [2 << 20, 4 << 20])
@pytest.mark.parametrize("subformat", vmdk.SUBFORMATS)
def test_resize_makes_a_new_one(tmp_path: Path, subformat: str, size_bytes: int) -> None:
    """A disk of another size is another content: what was taken over it fits no more."""
    folder = made(tmp_path, subformat)
    before = text_of(folder, "x.vmdk").cid
    vmdk.resize(folder, "x.vmdk", size_bytes)
    assert text_of(folder, "x.vmdk").cid != before


@pytest.mark.parametrize("subformat", vmdk.REWRITABLE)
def test_compact_keeps_it(tmp_path: Path, subformat: str) -> None:
    """A smaller file is the same content: what was taken over it still fits."""
    folder = made(tmp_path, subformat)
    before = text_of(folder, "x.vmdk").cid
    assert vmdk.compact(folder, "x.vmdk").freed_bytes >= 1 << 19
    assert text_of(folder, "x.vmdk").cid == before


@pytest.mark.parametrize("subformat", vmdk.SUBFORMATS)
def test_a_child_names_its_parents(tmp_path: Path, subformat: str) -> None:
    """A snapshot leaves its parent as it is, and names its identifier and its file at once."""
    folder = made(tmp_path, subformat)
    before = (tmp_path / "x.vmdk").read_bytes()
    vmdk.snapshot(folder, "x.vmdk", "child.vmdk")
    assert (tmp_path / "x.vmdk").read_bytes() == before
    child = text_of(folder, "child.vmdk")
    assert child.parent_cid == text_of(folder, "x.vmdk").cid
    assert child.parent_hint == "x.vmdk"


@pytest.mark.parametrize("subformat", vmdk.REWRITABLE)
def test_a_commit_gives_the_childs(tmp_path: Path, subformat: str) -> None:
    """Both hold the same after a commit, and so have one identifier."""
    folder = made(tmp_path, subformat)
    vmdk.snapshot(folder, "x.vmdk", "child.vmdk")
    with vmdk.open(folder.open("child.vmdk", writable=True), folder, writable=True) as disk:
        disk.write(5, b"changed")
    cid = text_of(folder, "child.vmdk").cid
    assert cid != text_of(folder, "x.vmdk").cid
    vmdk.commit(folder, "child.vmdk")
    child = text_of(folder, "child.vmdk")
    assert [text_of(folder, "x.vmdk").cid, child.cid, child.parent_cid] == [cid] * 3
