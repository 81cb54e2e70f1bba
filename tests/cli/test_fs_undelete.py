"""`ipva fs undelete` and `ipva fs ls --deleted`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.damage.fat_volumes import Volume, sound

Ipva = Callable[..., Any]
LONG = "A file with a long name.txt"


@pytest.fixture
def disk(ipva: Ipva, tmp_path: Path) -> Path:
    """A raw disk on which a file and a folder with all in it were deleted."""
    path = tmp_path / "cf.img"
    path.write_bytes(sound(16))
    for one in (f"{path}:/{LONG}", f"{path}:/SUB/Deep folder"):
        assert ipva("fs", "rm", "-r", one).status == 0
    return path


def test_list_deleted(ipva: Ipva, disk: Path) -> None:
    """What was deleted is listed with its name, and the JSON key that says so."""
    shown = ipva("fs", "ls", "--deleted", f"{disk}:/")
    assert shown.status == 0
    assert LONG in shown.out
    (facts,) = ipva("fs", "ls", "--deleted", f"{disk}:/SUB", "--json").document
    assert facts["name"] == "Deep folder"
    assert (facts["deleted"], facts["is_dir"], facts["state"]) == (True, True, "whole")


def test_put_back_and_undo(ipva: Ipva, disk: Path) -> None:
    """A file is put back, with a journal that takes that back again."""
    before = disk.read_bytes()
    dry = ipva("fs", "undelete", "--dry-run", f"{disk}:/{LONG}")
    assert dry.status == 0, dry.err
    assert "would be put back" in dry.out
    assert disk.read_bytes() == before
    done = ipva("fs", "undelete", f"{disk}:/{LONG}", "--json")
    assert done.status == 0, done.err
    assert [one["path"] for one in done.document["restored"]] == [f"/{LONG}"]
    assert ipva("fs", "ls", f"{disk}:/{LONG}").status == 0
    assert ipva("fs", "check", str(disk)).status == 0
    assert ipva("undo", done.document["undo"]).status == 0
    assert disk.read_bytes() == before


def test_copy_out(ipva: Ipva, disk: Path, tmp_path: Path) -> None:
    """A folder is copied out with all that was in it, and the disk is only read."""
    before = disk.read_bytes()
    out = tmp_path / "out"
    done = ipva("fs", "undelete", f"{disk}:/SUB/Deep folder", out)
    assert done.status == 0, done.err
    assert disk.read_bytes() == before
    whole = Volume(sound(16))
    at, size = whole.place("/SUB/Deep folder/C.BIN"), 4 * whole.geometry.cluster_bytes
    assert (out / "C.BIN").read_bytes() == whole.device.data[at : at + size]
    again = ipva("fs", "undelete", f"{disk}:/SUB/Deep folder", out, "--force")
    assert again.status == 0
    assert (out / "Deep folder" / "C.BIN").exists()


def test_refusals(ipva: Ipva, disk: Path, tmp_path: Path) -> None:
    """What is not there, is lost, or would replace a file is refused with what to do."""
    missing = ipva("fs", "undelete", f"{disk}:/nothing")
    assert missing.status == 2
    assert "ls --deleted" in missing.err
    target = tmp_path / "there"
    target.write_bytes(b"mine")
    refused = ipva("fs", "undelete", f"{disk}:/{LONG}", target)
    assert refused.status == 2
    assert "--force" in refused.err
    assert target.read_bytes() == b"mine"
    assert ipva("fs", "put", target, f"{disk}:/a").status == 0
    assert ipva("fs", "undelete", f"{disk}:/{LONG}", target, "--undo", "x").status == 2
