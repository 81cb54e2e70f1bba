"""Images that are not to be changed: an unfinished job's, and those below a snapshot."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipva_storage.device import Folder
from ipva_storage.device.undo import UndoFolder, UndoJournal
from tests.cli.images import files, make

Ipva = Callable[..., Any]


def cut_job(disk: Path, journal_name: str = "j") -> None:
    """A job that changed a byte of a disk's file, and was killed."""
    folder = Folder(disk.parent)
    journal = UndoJournal.create(folder, journal_name)
    with UndoFolder(folder, journal).open(disk.name, writable=True) as file:
        file.write(file.size_bytes - 1, b"x")
    journal.close()


@pytest.mark.parametrize(
    "words",
    [["resize", "9M"], ["resize", "9M", "--undo", "k"], ["compact"], ["repair"]],
    ids=" ".join,
)
def test_a_disk_that_a_cut_job_changed_is_taken_back_first(
    ipva: Ipva, tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next job would make the journal wrong; so it is refused, and the way out works."""
    monkeypatch.chdir(tmp_path)
    disk = make(tmp_path, "twoGbMaxExtentFlat")
    original = files(tmp_path)
    cut_job(tmp_path / "disk-f001.vmdk")
    before = files(tmp_path)
    refused = ipva("disk", words[0], disk, *words[1:])
    assert refused.status == 2
    assert files(tmp_path) == before
    assert "ipva undo" in refused.err
    way = refused.err.split("take that back first: ")[1].split(";")[0]
    assert ipva(*shlex.split(way)[1:]).status == 0
    assert {name: content for name, content in files(tmp_path).items() if name != "j"} == original
    assert ipva("disk", words[0], disk, *words[1:]).status == 0


def test_other_disks_and_old_journals_are_in_nobodys_way(ipva: Ipva, tmp_path: Path) -> None:
    """A journal of another disk, one of a job that changed nothing, and a damaged one."""
    disk, other = make(tmp_path, "monolithicSparse"), make(tmp_path, "monolithicFlat", "other")
    cut_job(other.with_name("other-flat.vmdk"))
    assert ipva("disk", "resize", disk, "9M").status == 0
    assert ipva("disk", "resize", other, "9M").status == 2
    content = bytearray((tmp_path / "j").read_bytes())
    (tmp_path / "j").write_bytes(content[:4100])
    assert ipva("disk", "resize", other, "9M").status == 0
    (tmp_path / "j").write_bytes(b"IPVAUNDO")
    assert ipva("disk", "resize", other, "10M").status == 0


def test_files_are_not_put_on_a_disk_that_a_cut_job_changed(ipva: Ipva, vm: Path) -> None:
    """It holds for whatever writes to a disk, and not for reading."""
    cut_job(vm / "hd-cf.vmdk")
    assert ipva("fs", "ls", f"{vm}#cf:/").status == 0
    refused = ipva("fs", "mkdir", f"{vm}#cf:/new")
    assert refused.status == 2
    assert f"ipva undo {vm / 'j'}" in refused.err
    (vm / "j").unlink()
    assert ipva("fs", "mkdir", f"{vm}#cf:/new").status == 0


@pytest.mark.parametrize(
    "words",
    [["fs", "mkdir", "VM#cf:/new"], ["fs", "format", "VM#cf", "--force"]],
    ids=" ".join,
)
@pytest.mark.parametrize("is_dry", [True, False])
def test_a_disk_below_a_snapshot_is_not_written_to(
    ipva: Ipva, vm: Path, words: list[str], is_dry: bool
) -> None:
    """The child would show a mixture that never was; the way out is told, and works."""
    card, child = vm / "hd-cf.vmdk", vm / "c.vmdk"
    assert ipva("disk", "snapshot", "create", card, child).status == 0
    before = files(vm)
    put = [word.replace("VM", str(vm)) for word in words]
    refused = ipva(*put, *(["--dry-run"] if is_dry else []))
    assert refused.status == 2
    assert files(vm) == before
    assert "“c.vmdk” was taken over it as a snapshot" in refused.err
    assert ipva("fs", "mkdir", f"{child}:/there").status == 0
    way = refused.err.strip().split("to this one first: ")[1]
    assert ipva(*shlex.split(way)[1:]).status == 0
    assert ipva("fs", "mkdir", f"{vm}#cf:/new").status == 0
    assert "there" in ipva("fs", "ls", f"{vm}#cf:/").out


def test_doctor_tells_of_a_disk_below_a_snapshot(ipva: Ipva, vm: Path) -> None:
    """Until the .vmx names the child, or the child is gone."""
    ipva("disk", "snapshot", "create", vm / "hd-cf.vmdk", vm / "c.vmdk")
    found = ipva("doctor", vm, "--json").document["findings"]
    (one,) = [each for each in found if each["id"] == "VM012"]
    assert one["message"] == "c.vmdk is a snapshot over hd-cf.vmdk, and the .vmx names hd-cf.vmdk"
    assert f'in {vm / "ipva.vmx"} set ide0:1.fileName = "c.vmdk"' in one["repair"]
    text = (vm / "ipva.vmx").read_text()
    (vm / "ipva.vmx").write_text(text.replace('"hd-cf.vmdk"', '"c.vmdk"'))
    assert "VM012" not in ipva("doctor", vm, "--json").out


def test_doctor_tells_which_disk_a_removed_child_is_to_give_way_to(ipva: Ipva, vm: Path) -> None:
    """After a commit that removed the child, the .vmx names a file that is not there."""
    ipva("disk", "snapshot", "create", vm / "hd-cf.vmdk", vm / "c.vmdk")
    text = (vm / "ipva.vmx").read_text()
    (vm / "ipva.vmx").write_text(text.replace('"hd-cf.vmdk"', '"c.vmdk"'))
    done = ipva("disk", "snapshot", "commit", vm / "c.vmdk", "--remove")
    line = 'ide0:1.fileName = "hd-cf.vmdk"'
    assert f"let {vm / 'ipva.vmx'} say: {line}" in done.out
    (one,) = ipva("doctor", vm, "--json").document["findings"]
    assert one["repair"] == f"hd-cf.vmdk is there: in {vm / 'ipva.vmx'} set {line}"


def test_a_missing_parent_comes_with_a_remedy(ipva: Ipva, tmp_path: Path) -> None:
    """The check says what is to be done, as opening the disk does."""
    disk, child = make(tmp_path), tmp_path / "c.vmdk"
    ipva("disk", "snapshot", "create", disk, child)
    disk.unlink()
    (one,) = ipva("disk", "check", child, "--json").document["findings"]
    assert one["repair"] == "put the parent's files beside it; without them only changes are left"


def test_a_disk_below_a_snapshot_is_not_resized(ipva: Ipva, tmp_path: Path) -> None:
    """The way out has the folder in it, and works."""
    disk, child = make(tmp_path), tmp_path / "c.vmdk"
    ipva("disk", "snapshot", "create", disk, child)
    refused = ipva("disk", "resize", disk, "9M")
    way = refused.err.strip().split("to this one first: ")[1]
    assert "instead" not in refused.err
    assert ipva(*shlex.split(way)[1:]).status == 0
    assert ipva("disk", "resize", disk, "9M").status == 0
