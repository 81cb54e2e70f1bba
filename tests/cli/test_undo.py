"""`ipva undo`, and the block that commands save and take back with."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from ipva_storage import vmdk
from ipva_storage.cli import undoing
from ipva_storage.device import Folder, RawDevice
from ipva_storage.device.undo import UndoDevice
from ipva_storage.errors import DeviceError, IpvaError, UsageError

Ipva = Callable[..., Any]


def change(image: Path, journal: Path | None) -> undoing.Undo:
    """Change a VMDK in place, as a command does."""
    with undoing.undoable(journal) as undo:
        raw = undo.device(RawDevice(image, writable=True))
        folder = undo.folder(Folder(image.parent))
        with vmdk.open(raw, folder, writable=True) as disk:
            disk.write(10_000_000, b"changed" * 20_000)
    return undo


def test_a_disk_is_taken_back(ipva: Ipva, vm: Path) -> None:
    """The image is as before, and the output names it, its bytes and its length."""
    image, journal = vm / "hd-cf.vmdk", vm / "hd-cf.vmdk.undo"
    before = image.read_bytes()
    change(image, journal)
    left = image.read_bytes()
    assert left != before
    tried = ipva("undo", journal, "--dry-run")
    assert tried.status == 0
    assert f"would restore {image}: " in tried.out
    assert image.read_bytes() == left
    done = ipva("undo", journal)
    assert done.status == 0
    assert f"restored {image}: " in done.out
    assert image.read_bytes() == before
    assert journal.exists()
    again = ipva("undo", journal)
    assert again.status == 2
    assert "taken back already" in again.err
    assert ipva("undo", journal, "--force").status == 0


def test_json(ipva: Ipva, vm: Path) -> None:
    """The document has what was restored, in bytes, and whether the job was finished."""
    image, journal = vm / "hd-cf.vmdk", vm / "hd-cf.vmdk.undo"
    size_bytes = image.stat().st_size
    change(image, journal)
    tried = ipva("undo", journal, "--dry-run", "--json").document
    assert tried["dry_run"]
    done = ipva("undo", journal, "--json").document
    assert done["finished"]
    assert done["restored"] == tried["restored"]
    (one,) = done["restored"]
    assert one["file"] == str(image)
    assert one["size"] == size_bytes
    assert one["bytes"] > 0
    assert one["ranges"] > 0


def test_an_image_that_changed_since_needs_force(ipva: Ipva, vm: Path) -> None:
    """A refusal is status 2 and names the image and the way out; force restores."""
    image, journal = vm / "hd-cf.vmdk", vm / "hd-cf.vmdk.undo"
    before = image.read_bytes()
    change(image, journal)
    with RawDevice(image, writable=True) as raw:
        raw.write(0, b"X")
    refused = ipva("undo", journal)
    assert refused.status == 2
    assert "hd-cf.vmdk: it was changed since the job" in refused.err
    assert "--force" in refused.err
    assert ipva("undo", journal, "--force").status == 0
    assert image.read_bytes() == before


def test_a_journal_elsewhere_needs_leave(ipva: Ipva, vm: Path, tmp_path: Path) -> None:
    """A journal in another folder restores only with --allow-outside."""
    image, journal = vm / "hd-cf.vmdk", tmp_path / "cf.undo"
    before = image.read_bytes()
    change(image, journal)
    refused = ipva("undo", journal)
    assert refused.status == 2
    assert "--allow-outside" in refused.err
    assert ipva("undo", journal, "--allow-outside").status == 0
    assert image.read_bytes() == before


def test_no_journal_is_refused(ipva: Ipva, vm: Path) -> None:
    """An image, and a file that is not there, are no journals."""
    assert "no undo journal" in ipva("undo", vm / "hd-cf.vmdk").err
    missing = ipva("undo", vm / "none.undo", "--json")
    assert missing.status == 2
    assert "no such file" in missing.document["error"]["message"]


class TestJournalPath:
    def test_default_names_are_free_ones(self, tmp_path: Path) -> None:
        """Beside the image with `.undo`, and with numbers while those exist."""
        image = tmp_path / "disk.vmdk"
        image.write_bytes(b"x")
        names = []
        for _ in range(3):
            path = undoing.journal_path(None, image, by_default=True)
            assert path is not None
            path.write_bytes(b"x")
            names.append(path.name)
        assert names == ["disk.vmdk.undo", "disk.vmdk.undo.1", "disk.vmdk.undo.2"]

    def test_beside_the_file_behind_a_link(self, tmp_path: Path) -> None:
        """For an image that is a link the journal goes where the image is."""
        (tmp_path / "real").mkdir()
        (tmp_path / "real" / "disk.img").write_bytes(b"x")
        (tmp_path / "link.img").symlink_to("real/disk.img")
        path = undoing.journal_path(None, tmp_path / "link.img", by_default=True)
        assert path == Path(os.path.realpath(tmp_path)) / "real" / "disk.img.undo"

    def test_none_where_nothing_is_saved(self, tmp_path: Path) -> None:
        """A dry run has no journal, nor has a command that saves only when asked."""
        image = tmp_path / "disk.img"
        assert undoing.journal_path("x.undo", image, by_default=True, dry_run=True) is None
        assert undoing.journal_path(None, image) is None
        assert undoing.journal_path("x.undo", image) == Path("x.undo")

    def test_a_file_that_exists_is_refused(self, tmp_path: Path) -> None:
        """Neither the image nor another file is overwritten."""
        image, other = tmp_path / "disk.img", tmp_path / "other"
        image.write_bytes(b"image")
        other.write_bytes(b"other")
        with pytest.raises(UsageError, match="it is the image itself"):
            undoing.journal_path(str(image), image)
        with pytest.raises(UsageError, match="exists already"):
            undoing.journal_path(str(other), image)


class TestUndoable:
    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        """A raw image."""
        path = tmp_path / "disk.img"
        path.write_bytes(b"old" * 50_000)
        return path

    @pytest.fixture
    def journal(self, image: Path) -> Path:
        """Where its journal goes."""
        return image.with_name("disk.img.undo")

    def test_without_a_journal_all_stays_as_it_is(self, image: Path) -> None:
        """The device and the folder come through unwrapped."""
        with undoing.undoable(None) as undo, RawDevice(image, writable=True) as raw:
            assert undo.device(raw) is raw
            folder = Folder(image.parent)
            assert undo.folder(folder) is folder
        assert undo.path is None
        assert undo.saved_bytes == 0

    def test_a_job_that_changes_nothing_leaves_no_journal(self, image: Path, journal: Path) -> None:
        """An empty journal goes, and nothing is said of it."""
        with undoing.undoable(journal) as undo:
            assert journal.exists()
            undo.device(RawDevice(image, writable=True)).close()
        assert not journal.exists()
        assert undo.path is None

    @pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, DeviceError, SystemExit])
    def test_a_job_that_fails_is_taken_back(
        self, image: Path, journal: Path, stop: type[BaseException]
    ) -> None:
        """Whatever ends it, the image is as before and the journal is gone."""

        def fail() -> None:
            with (
                undoing.undoable(journal) as undo,
                undo.device(RawDevice(image, writable=True)) as device,
            ):
                device.write(0, b"half done")
                device.resize(100)
                raise stop("stop")

        with pytest.raises(stop):
            fail()
        assert image.read_bytes() == b"old" * 50_000
        assert not journal.exists()

    def test_a_status_is_no_failure(self, image: Path, journal: Path) -> None:
        """A command that ends with status 1 within the block has done its job."""

        def end() -> None:
            with undoing.undoable(journal) as undo:
                with undo.device(RawDevice(image, writable=True)) as device:
                    device.write(0, b"done")
                raise click.exceptions.Exit(1)

        with pytest.raises(click.exceptions.Exit):
            end()
        assert image.read_bytes().startswith(b"done")
        assert journal.exists()

    def test_a_job_that_cannot_be_taken_back_says_how(self, image: Path, journal: Path) -> None:
        """When the way back fails as well, the journal stays and the message has the command."""

        def fail() -> None:
            with undoing.undoable(journal) as undo:
                device = undo.device(RawDevice(image, writable=True))
                left_open.append(device)
                device.write(0, b"half done")
                raise DeviceError("the disk is on fire")

        left_open: list[Any] = []
        with pytest.raises(IpvaError, match=r"on fire; and the image .*run: ipva undo .*\.undo"):
            fail()
        left_open[0].close()
        assert journal.exists()

    def test_an_image_left_open_is_told(self, image: Path, journal: Path) -> None:
        """The job is done, and the message says so and what is missing."""

        def forget() -> None:
            with undoing.undoable(journal) as undo:
                device = undo.device(RawDevice(image, writable=True))
                left_open.append(device)
                device.write(0, b"done")

        left_open: list[Any] = []
        with pytest.raises(IpvaError, match="all is done, but a later change"):
            forget()
        left_open[0].close()
        assert image.read_bytes().startswith(b"done")
        assert journal.exists()

    def test_it_says_how_to_take_it_back(
        self, image: Path, journal: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """After the job the user gets the command."""
        with undoing.undoable(journal) as undo:
            device = undo.device(RawDevice(image, writable=True))
            assert isinstance(device, UndoDevice)
            device.write(0, b"done")
            device.close()
        undo.say()
        assert capsys.readouterr().out == f"to take it back (64.0 KiB saved): ipva undo {journal}\n"

    def test_a_missing_folder_is_refused(self, image: Path) -> None:
        """A typo makes no folders, and the job does not begin."""
        with pytest.raises(UsageError, match="no such folder"):
            undoing.undoable(image.parent / "typo" / "x.undo").__enter__()


def test_repair_options() -> None:
    """A command with the options gets both; one that saves only when asked gets one."""

    @click.command()
    @undoing.repair_options
    def repair(undo_file: str | None, no_undo: bool) -> None:
        """Mend."""

    names = {parameter.name for parameter in repair.params}
    assert names == {"undo_file", "no_undo"}
    context = repair.make_context("repair", ["--undo", "x", "--no-undo"])
    assert context.params == {"undo_file": "x", "no_undo": True}
