"""Moving, renaming and deleting trees: what it does, and what is refused."""

from __future__ import annotations

from datetime import datetime

import pytest

from ipva_storage import fat
from ipva_storage.device import MemoryDevice, TraceDevice
from ipva_storage.errors import FatError, FatExistsError, FatNotFoundError, UsageError
from ipva_storage.fat import FatVolume
from ipva_storage.units import KIB, MIB

LONG_AGO = datetime(1999, 12, 31, 23, 59, 58)


def make(bits: int = 16, size_bytes: int = 20 * MIB, cluster_bytes: int = 2 * KIB) -> FatVolume:
    """A volume with folders and files."""
    device = TraceDevice(MemoryDevice(size_bytes))
    fat.format(device, fat_bits=bits, cluster_bytes=cluster_bytes, volume_id=1)
    volume = fat.open(device)
    volume.mkdir("/docs/old", parents=True)
    volume.mkdir("/new")
    volume.write("/docs/A long name.txt", b"text" * 999, modified=LONG_AGO)
    volume.write("/docs/old/b", b"b")
    return volume


def assert_clean(volume: FatVolume) -> None:
    """The check has nothing to say once it is flushed."""
    volume.flush()
    assert list(fat.check(volume._device)) == []


def paths(volume: FatVolume) -> list[str]:
    """All files and folders, in order of name."""
    return sorted(path for path, _ in volume.walk())


@pytest.mark.parametrize(
    "target", ["/docs/Another name.txt", "/docs/SHORT", "/docs/a LONG NAME.txt", "/new/x", "/x"]
)
def test_a_file_keeps_everything_but_its_place(target: str) -> None:
    """A moved file has its content, times and attributes, and its old name is gone."""
    volume = make()
    old = volume.stat("/docs/A long name.txt")
    entry = volume.move("/DOCS/alongn~1.txt", target)
    assert "/" + entry.name == target[target.rindex("/") :]
    assert volume.read(target) == b"text" * 999
    kept = ("modified", "created", "accessed", "attributes", "size_bytes")
    assert [getattr(entry, name) for name in kept] == [getattr(old, name) for name in kept]
    assert target in paths(volume)
    assert len(paths(volume)) == 5
    assert_clean(volume)


def test_a_rename_in_a_folder_is_one_sector() -> None:
    """Renaming within a folder writes one folder sector, once; nothing else but the mark of use."""
    volume = make()
    volume.write("/docs/warm up", b"")
    trace = volume._device
    assert isinstance(trace, TraceDevice)
    trace.reset()
    volume.move("/docs/A long name.txt", "/docs/A name that is somewhat longer.txt")
    volume.move("/docs/old", "/docs/OLDER FOLDER")
    assert [record.length_bytes for record in trace.records if record.length_bytes] == [512, 512]
    assert_clean(volume)


def test_a_folder_moves_with_all_in_it() -> None:
    """A folder takes its content along, and its `..` names the new folder."""
    volume = make()
    volume.move("/docs", "/new/papers")
    assert volume.read("/new/papers/old/b") == b"b"
    assert_clean(volume)
    volume.move("/new/papers/old", "/old")
    assert paths(volume) == ["/new", "/new/papers", "/new/papers/A long name.txt", "/old", "/old/b"]
    assert_clean(volume)


def test_a_folder_does_not_go_into_itself() -> None:
    """A folder is not moved to below itself, and nothing is changed by the try."""
    volume = make()
    for target in ("/docs/docs", "/docs/old/x", "/DOCS/old/x"):
        with pytest.raises(UsageError, match="into itself"):
            volume.move("/docs", target)
    assert len(paths(volume)) == 5
    assert volume.move("/docs", "/docs").name == "docs"
    assert_clean(volume)


def test_only_a_file_is_replaced_and_only_when_forced() -> None:
    """A file replaces a file with `force`; its room is given back."""
    volume = make()
    volume.write("/new/there", bytes(50_000))
    with pytest.raises(FatExistsError, match="--force"):
        volume.move("/docs/A long name.txt", "/new/THERE")
    for source, target in (("/docs", "/new/there"), ("/new/there", "/docs"), ("/docs", "/new")):
        with pytest.raises(FatExistsError, match="only files"):
            volume.move(source, target, force=True)
    with pytest.raises(FatNotFoundError):
        volume.move("/nothing", "/x")
    free_bytes = volume.free_bytes
    volume.move("/docs/A long name.txt", "/new/THERE", force=True)
    assert volume.read("/new/there") == b"text" * 999
    assert volume.stat("/new/there").name == "there"
    assert volume.free_bytes == free_bytes + 25 * volume.cluster_bytes
    assert_clean(volume)


def test_a_long_file_is_moved_without_its_content() -> None:
    """A file over 4 MiB keeps its clusters; a short one is copied, unless there is no room."""
    volume = make()
    content = bytes(range(256)) * 17_000
    volume.write("/big", content)
    before = volume.fragments("/big")
    volume.move("/big", "/new/big")
    assert volume.fragments("/new/big") == before
    volume.write("/filler", bytes(volume.free_bytes))
    place = volume.stat("/docs/A long name.txt").first_cluster
    assert volume.move("/docs/A long name.txt", "/x").first_cluster == place
    assert volume.read("/new/big") == content
    assert_clean(volume)


def test_names_go_round_in_one_batch() -> None:
    """Names are swapped and used again within a batch."""
    volume = make()
    volume.write("/new/other", b"other")
    with volume.batch():
        volume.move("/docs/A long name.txt", "/new/temporary")
        volume.move("/new/other", "/docs/A long name.txt")
        volume.move("/new/temporary", "/new/other")
        volume.write("/new/temporary", b"new")
        volume.move("/docs/old/b", "/b")
        volume.delete("/docs/old")
    assert volume.read("/docs/A long name.txt") == b"other"
    assert volume.read("/new/other") == b"text" * 999
    assert volume.read("/new/temporary") == b"new"
    assert volume.read("/b") == b"b"
    assert_clean(volume)


def test_a_tree_is_deleted_by_one_record() -> None:
    """A whole tree goes with one entry, and all its room comes back."""
    volume = make()
    free_bytes = volume.free_bytes
    with volume.batch():
        for number in range(300):
            volume.mkdir(f"/new/sub/{number % 7}/deep", parents=True)
            volume.write(f"/new/sub/{number % 7}/deep/File number {number}", bytes(number * 50))
    with pytest.raises(FatError, match="not empty"):
        volume.delete("/new/sub")
    assert volume.delete("/new/sub", recursive=True) == 315
    assert volume.free_bytes == free_bytes
    assert volume.delete("/docs/old/b", recursive=True) == 1
    assert paths(volume) == ["/docs", "/docs/A long name.txt", "/docs/old", "/new"]
    assert_clean(volume)


def test_a_tree_that_holds_a_folder_above_it_is_not_deleted() -> None:
    """A folder entry that leads back up does not take what is above along."""
    volume = make()
    start = volume.tree.existing("/docs/old")[0]
    folder = volume.tree.folder(start)
    slot = folder.find("old")
    assert slot is not None
    from ipva_storage.fat.folder import changed

    folder.update(slot, changed(folder.record_of(slot), cluster=start))
    volume.writer.done(folder)
    with pytest.raises(FatError, match="elsewhere"):
        volume.delete("/docs", recursive=True)
    with pytest.raises(FatError, match="elsewhere"):
        volume.delete("/docs/old", recursive=True)
    assert volume.read("/docs/A long name.txt") == b"text" * 999


def test_names_that_differ_in_case_only_are_both_read() -> None:
    """Two names that we would not both make are told apart by how they are written."""
    volume = make()
    folder = volume.tree.folder(0)
    from ipva_storage.fat.folder import changed

    record = folder.record_of(folder.find("docs"))  # type: ignore[arg-type]
    plain = changed(record, attributes=0x20, cluster=0, content_bytes=0)
    for name in ("Ünits.text", "ÜNITS.text", "ünits.text"):
        folder.add(name, plain)
    found = [folder.find(name) for name in ("Ünits.text", "ÜNITS.text", "ünits.text", "üNITS.text")]
    shown = [slot.entry.name for slot in found if slot is not None]
    assert shown == ["Ünits.text", "ÜNITS.text", "ünits.text", "Ünits.text"]
    first = folder.find("Ünits.text")
    assert first is not None
    folder.forget(first)
    left = folder.find("üNITS.text")
    assert left is not None
    assert left.entry.name == "ÜNITS.text"
