"""A commit that removes the child deletes the child's files, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder
from ipva_storage.errors import VmdkError
from ipva_storage.units import MIB
from ipva_storage.vmdk.descriptor import Descriptor


def child_of(place: Path, *lines: str) -> None:
    """A child `c.vmdk` over a split disk `p.vmdk`, with such extents."""
    vmdk.create(Folder(place), "p.vmdk", MIB, subformat="twoGbMaxExtentSparse")
    cid = Descriptor.parse((place / "p.vmdk").read_bytes()).cid
    text = (place / "p.vmdk").read_text()
    text = re.sub(r"(?m)^CID=.*", "CID=aaaa0001", text)
    text = re.sub(r"(?m)^parentCID=.*", f"parentCID={cid:08x}", text)
    text = re.sub(r"(?m)^RW .*", 'parentFileNameHint="p.vmdk"\n' + "\n".join(lines), text)
    (place / "c.vmdk").write_text(text)


def part_of_another_disk(place: Path) -> None:
    """An empty extent `p-s001.vmdk` in another folder."""
    place.mkdir()
    vmdk.create(Folder(place), "p.vmdk", MIB, subformat="twoGbMaxExtentSparse")


def test_a_file_elsewhere_stays(tmp_path: Path) -> None:
    """An extent in another folder is not deleted, nor is the parent's of the same name."""
    (tmp_path / "a").mkdir()
    part_of_another_disk(tmp_path / "b")
    child_of(tmp_path / "a", 'RW 2048 SPARSE "../b/p-s001.vmdk"')
    folder = Folder(tmp_path / "a", allow_outside=True)
    done = vmdk.commit(folder, "c.vmdk", remove=True)
    assert done.kept_files == ("../b/p-s001.vmdk",)
    assert folder.names() == ["p-s001.vmdk", "p.vmdk"]
    assert Folder(tmp_path / "b").names() == ["p-s001.vmdk", "p.vmdk"]


def test_a_file_with_more_in_it_stays(tmp_path: Path) -> None:
    """Of a flat extent that is a part of a file only that part is the child's."""
    child_of(tmp_path, 'RW 1024 SPARSE "c-s001.vmdk"', 'RW 1024 FLAT "notes.img" 0')
    vmdk.create(Folder(tmp_path), "c-x.vmdk", MIB // 2, subformat="twoGbMaxExtentSparse")
    (tmp_path / "c-x-s001.vmdk").rename(tmp_path / "c-s001.vmdk")
    (tmp_path / "notes.img").write_bytes(bytes(MIB // 2) + b"more")
    done = vmdk.commit(Folder(tmp_path), "c.vmdk", remove=True)
    assert done.kept_files == ("notes.img",)
    assert not (tmp_path / "c-s001.vmdk").exists()


def test_a_child_in_its_parents_file_is_refused(tmp_path: Path) -> None:
    """A commit would write to what it reads, and then delete the parent's part."""
    child_of(tmp_path, 'RW 2048 SPARSE "p-s001.vmdk"')
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(VmdkError, match="is a part of it, and of the disk below"):
        vmdk.commit(Folder(tmp_path), "c.vmdk", remove=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
