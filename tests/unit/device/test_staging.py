from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ipva_storage.device import Folder
from ipva_storage.device.staging import staged
from ipva_storage.errors import DeviceError


def names(path: Path) -> list[str]:
    """Everything in a folder, hidden things too."""
    return sorted(entry.name for entry in path.iterdir())


def make(path: Path, files: dict[str, str], *, last: str, force: bool = False) -> None:
    """Make these files together."""
    with staged(Folder(path), last=last, force=force) as stage:
        for name, text in files.items():
            stage.write_text(name, text)


def test_files_appear_when_the_block_ends(tmp_path: Path) -> None:
    """Until then the folder shows none of them; afterwards nothing else is left."""
    with staged(Folder(tmp_path / "vm"), last="z.vmx") as stage:
        stage.write_text("z.vmx", "1")
        stage.write_text("a.vmdk", "2")
        assert Folder(tmp_path / "vm").names() == []
    assert names(tmp_path / "vm") == ["a.vmdk", "z.vmx"]
    assert (tmp_path / "vm" / "a.vmdk").read_text() == "2"


def test_a_message_names_the_file_as_it_is_to_be(tmp_path: Path) -> None:
    """Nobody looks for the hidden folder."""
    with (
        pytest.raises(DeviceError) as refused,
        staged(Folder(tmp_path), last="z") as stage,
        stage.new_file("disk.img") as file,
    ):
        file.resize(1 << 62)
    assert refused.value.where == str(tmp_path / "disk.img")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_block_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """Neither files nor the folder made for them stay; a folder that was there does."""

    def stop(folder: str) -> None:
        with staged(Folder(tmp_path / folder), last="z") as stage:
            stage.write_text("a", "1")
            raise error

    (tmp_path / "old").mkdir()
    for folder in ("old", "new"):
        with pytest.raises(error):
            stop(folder)
    assert names(tmp_path) == ["old"]
    assert names(tmp_path / "old") == []


def test_an_existing_file_is_not_replaced_unless_forced(tmp_path: Path) -> None:
    """Without force nothing changes; with it every file is replaced."""
    (tmp_path / "b").write_text("old")
    with pytest.raises(DeviceError, match="exists already"):
        make(tmp_path, {"a": "1", "b": "2"}, last="b")
    assert names(tmp_path) == ["b"]
    assert (tmp_path / "b").read_text() == "old"
    make(tmp_path, {"a": "1", "b": "2"}, last="b", force=True)
    assert names(tmp_path) == ["a", "b"]
    assert (tmp_path / "b").read_text() == "2"


def test_a_failed_move_brings_replaced_files_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When one of several files cannot move, those before it go and the old ones return."""
    for name in ("a", "c"):
        (tmp_path / name).write_text("old")
    rename = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if self.name == "c" and target.parent == tmp_path and self.parent.name.endswith(".part"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(DeviceError, match="No space"):
        make(tmp_path, dict.fromkeys("abc", "new"), last="c", force=True)
    monkeypatch.undo()
    assert names(tmp_path) == ["a", "c"]
    assert {(tmp_path / name).read_text() for name in ("a", "c")} == {"old"}


def test_the_last_file_moves_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that makes the others count appears after them."""
    moved: list[str] = []
    rename = Path.rename

    def note(self: Path, target: Path) -> Path:
        moved.append(self.name)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", note)
    with staged(Folder(tmp_path), last="a") as stage:
        for name in "abc":
            (stage.path / name).write_text("x")
    assert moved == ["b", "c", "a"]


def test_a_place_that_cannot_be_is_told(tmp_path: Path) -> None:
    """A file where the folder should be is an error of ours."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(DeviceError):
        make(tmp_path / "file", {"a": "x"}, last="a")
    (tmp_path / "a").mkdir()
    with pytest.raises(DeviceError, match="is a folder"):
        make(tmp_path, {"a": "x"}, last="a", force=True)
    assert names(tmp_path) == ["a", "file"]


def test_replaced_file_is_always_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a file is replaced there is no moment without one under its name."""
    target = tmp_path / "disk.vmdk"
    target.write_bytes(b"old")
    seen: list[bytes] = []

    def watched(verb: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def move(path: Path, other: Path) -> Path:
            moved = verb(path, other)
            seen.append(target.read_bytes())
            return moved

        return move

    monkeypatch.setattr(Path, "rename", watched(Path.rename))
    monkeypatch.setattr(Path, "replace", watched(Path.replace))
    with staged(Folder(tmp_path), last="disk.vmdk", force=True) as place:
        place.write_text("disk.vmdk", "new")
    assert seen[-1] == b"new"
    assert set(seen) <= {b"old", b"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["disk.vmdk"]
