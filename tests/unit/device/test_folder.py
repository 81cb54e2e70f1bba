"""Folder: files of one folder only, made whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ipva_storage.device import Folder, MemoryDevice, RawDevice, SliceDevice
from ipva_storage.errors import DeviceError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder beside a file that is none of its business."""
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "vm").mkdir()
    return Folder(tmp_path / "vm")


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "",
            ".",
            "..",
            "../secret",
            "..\\secret",
            "/etc/passwd",
            "\\\\server\\share",
            "C:\\disk.vmdk",
            "C:disk.vmdk",
            "disk.vmdk:stream",
            "sub/disk.vmdk",
            "sub\\disk.vmdk",
            "disk\0.vmdk",
            "x" * 256,
            "ä" * 128,
            "\ud800",
        ],
    )
    def test_leaving_names_refused(self, folder: Folder, name: str) -> None:
        """A name that leaves the folder, or that no folder can hold, is refused by every verb."""
        with pytest.raises(DeviceError, match="not a plain file name"):
            folder.resolve(name)
        with pytest.raises(DeviceError):
            folder.open(name)
        with pytest.raises(DeviceError), folder.new_file(name):
            pass
        assert folder.names() == []

    @pytest.mark.parametrize("name", ["disk.vmdk", "..disk", "a b", "ä" * 127, ".vmx", "x" * 255])
    def test_plain_names(self, folder: Folder, name: str) -> None:
        """Plain names work, up to the longest that a folder can hold."""
        folder.write_text(name, "content")
        assert folder.read_text(name) == "content"
        assert folder.names() == [name]

    def test_link_out_refused(self, folder: Folder) -> None:
        """A link to a file outside is refused, to read as well as to write."""
        (folder.path / "link").symlink_to("../secret")
        with pytest.raises(DeviceError, match="not a plain file name"):
            folder.open("link")
        with pytest.raises(DeviceError), folder.new_file("link", force=True):
            pass
        assert (folder.path.parent / "secret").read_text() == "outside"

    def test_link_within(self, folder: Folder) -> None:
        """A link to a file of the same folder is a file of that folder."""
        folder.write_text("disk.img", "inside")
        (folder.path / "link").symlink_to("disk.img")
        assert folder.read_text("link") == "inside"

    def test_folder_that_is_a_link(self, folder: Folder) -> None:
        """The folder itself may be reached through a link."""
        folder.write_text("disk.img", "inside")
        (folder.path / "link").symlink_to("disk.img")
        (folder.path.parent / "alias").symlink_to("vm")
        assert Folder(folder.path.parent / "alias").read_text("link") == "inside"

    def test_ring_of_links(self, folder: Folder) -> None:
        """Links that point at each other are refused, without a hang or a traceback."""
        (folder.path / "one").symlink_to("two")
        (folder.path / "two").symlink_to("one")
        with pytest.raises(DeviceError):
            folder.open("one")

    def test_absent_folder(self, tmp_path: Path) -> None:
        """A folder that is not there has no files."""
        folder = Folder(tmp_path / "none")
        assert folder.names() == []
        with pytest.raises(DeviceError, match="no such file"):
            folder.open("disk.img")


class TestNewFile:
    def test_appears_complete(self, folder: Folder) -> None:
        """The name appears when the block ends, with all content and the usual rights."""
        with folder.new_file("disk.img") as file:
            file.resize(1000)
            file.write(0, b"content")
            assert "disk.img" not in folder.names()
        assert (folder.path / "disk.img").read_bytes() == b"content" + bytes(993)
        assert folder.names() == ["disk.img"]

    @pytest.mark.skipif(sys.platform == "win32", reason="rights as Unix has them")
    def test_rights_follow_umask(self, folder: Folder) -> None:
        """The file gets the rights that the umask leaves, like any new file."""
        code = (
            "import os, sys\nfrom ipva_storage.device import Folder\n"
            "os.umask(0o027)\nFolder(sys.argv[1]).write_text('disk.img', 'x')\n"
        )
        subprocess.run([sys.executable, "-c", code, folder.path], check=True)
        assert (folder.path / "disk.img").stat().st_mode & 0o777 == 0o640

    @pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, SystemExit, DeviceError])
    def test_nothing_left(self, folder: Folder, stop: type[BaseException]) -> None:
        """Whatever ends the block early, Ctrl-C too, nothing is left behind."""
        with pytest.raises(stop):
            _stop_half_way(folder, stop)
        assert list(folder.path.iterdir()) == []

    def test_a_message_names_the_file_as_it_is_to_be(self, folder: Folder) -> None:
        """Nobody looks for the name that a file has while it is made."""
        with pytest.raises(DeviceError) as refused, folder.new_file("disk.img") as file:
            file.resize(1 << 62)
        assert refused.value.where == str(folder.path / "disk.img")
        assert "ulimit -f" in str(refused.value)

    @pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt])
    def test_old_file_stays(self, folder: Folder, stop: type[BaseException]) -> None:
        """A replacement that fails leaves the old file as it was."""
        folder.write_text("disk.img", "old")
        with pytest.raises(stop):
            _stop_half_way(folder, stop, force=True)
        assert folder.read_text("disk.img") == "old"
        assert folder.names() == ["disk.img"]

    def test_no_overwrite_without_force(self, folder: Folder) -> None:
        """An existing file is kept unless `force` says otherwise; the message says how."""
        folder.write_text("disk.img", "old")
        with pytest.raises(DeviceError, match=r"exists already.*--force"):
            folder.write_text("disk.img", "new")
        assert folder.read_text("disk.img") == "old"
        folder.write_text("disk.img", "new", force=True)
        assert folder.read_text("disk.img") == "new"

    @pytest.mark.parametrize("has_links", [True, False])
    def test_file_that_appeared_meanwhile(
        self, folder: Folder, has_links: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that another program made in the meantime is not overwritten."""
        if not has_links:
            monkeypatch.setattr(os, "link", _no_links)
        with pytest.raises(DeviceError, match="appeared"), folder.new_file("disk.img"):
            (folder.path / "disk.img").write_text("theirs")
        assert (folder.path / "disk.img").read_text() == "theirs"
        assert folder.names() == ["disk.img"]

    def test_without_hard_links(self, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file system without hard links gets the file by a rename."""
        monkeypatch.setattr(os, "link", _no_links)
        folder.write_text("disk.img", "content")
        assert folder.names() == ["disk.img"]
        assert folder.read_text("disk.img") == "content"

    def test_one_name_only(self, folder: Folder) -> None:
        """The finished file has one name; the one it was written under is gone."""
        folder.write_text("disk.img", "content")
        assert (folder.path / "disk.img").stat().st_nlink == 1

    @pytest.mark.parametrize("force", [False, True])
    def test_folder_in_the_way(self, folder: Folder, force: bool) -> None:
        """A folder of that name is refused before anything is written."""
        (folder.path / "disk.img").mkdir()
        with pytest.raises(DeviceError, match="it is a folder"):
            folder.new_file("disk.img", force=force).__enter__()
        assert folder.names() == []

    def test_closed_by_its_user(self, folder: Folder) -> None:
        """A store that takes the device and closes it gets its file all the same."""
        with folder.new_file("disk.img") as file:
            file.resize(5)
            file.write(0, b"bytes")
            file.close()
        assert folder.read_text("disk.img") == "bytes"

    def test_content_is_flushed_first(
        self, folder: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The content is on the medium before the name appears."""
        seen: list[str] = []
        flush = RawDevice.flush

        def note(device: RawDevice) -> None:
            seen.extend(["flush", *folder.names()])
            flush(device)

        monkeypatch.setattr(RawDevice, "flush", note)
        folder.write_text("disk.img", "content")
        assert seen[0] == "flush"
        assert "disk.img" not in seen

    def test_makes_its_folder(self, tmp_path: Path) -> None:
        """The folder is made when the first file is."""
        Folder(tmp_path / "new" / "vm").write_text("a.vmx", "x")
        assert (tmp_path / "new" / "vm" / "a.vmx").read_text() == "x"

    def test_folder_is_a_file(self, tmp_path: Path) -> None:
        """A file where the folder should be is told, with the place."""
        (tmp_path / "vm").write_text("a file")
        with pytest.raises(DeviceError, match="vm: there can be no such folder"):
            Folder(tmp_path / "vm").write_text("a.vmx", "x")


class TestText:
    def test_byte_order_mark(self, folder: Folder) -> None:
        """UTF-8 is read with and without its mark."""
        (folder.path / "a.vmx").write_bytes(b"\xef\xbb\xbfname = \xc3\xa4")
        assert folder.read_text("a.vmx") == "name = ä"

    def test_latin_1(self, folder: Folder) -> None:
        """What is no UTF-8 is read as Latin-1, which never fails."""
        (folder.path / "a.vmx").write_bytes(b"name = \xe4\xff")
        assert folder.read_text("a.vmx") == "name = äÿ"

    def test_too_long(self, folder: Folder) -> None:
        """A file that is no small text is refused before it is read."""
        folder.write_text("a.vmx", "x" * 101)
        with pytest.raises(DeviceError, match="longer than 100 bytes"):
            folder.read_text("a.vmx", limit_bytes=100)
        assert folder.read_text("a.vmx", limit_bytes=101) == "x" * 101


def test_slice_names_its_place() -> None:
    """A part of a device says where it starts, so that messages can be followed."""
    assert SliceDevice(MemoryDevice(100, name="disk"), 10, 20).name == "disk from byte 10"


def _stop_half_way(folder: Folder, stop: type[BaseException], *, force: bool = False) -> None:
    with folder.new_file("disk.img", force=force) as file:
        file.resize(4096)
        raise stop("stop")


def _no_links(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")
