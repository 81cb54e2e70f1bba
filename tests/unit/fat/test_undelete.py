"""Deleted files and folders are found with their names, told apart, and put back whole."""

from __future__ import annotations

import pytest

from ipva_storage import fat
from ipva_storage.device import MemoryDevice
from ipva_storage.errors import FatError, FatExistsError, FatNotFoundError
from ipva_storage.fat.deleted import State
from ipva_storage.fat.folder import pack_long
from tests.damage.fat_volumes import Volume, codes, content, entry, sound, tree

LONG = "/A file with a long name.txt"
SECOND = "/SUB/Second long name.dat"


def deleted(bits: int, *paths: str) -> Volume:
    """A volume of which some files were deleted."""
    volume = Volume(sound(bits))
    with fat.open(volume.device) as files:
        for path in paths:
            files.delete(path)
    return volume


def names(device: MemoryDevice, path: str = "/") -> dict[str, State]:
    """What was deleted in a folder."""
    return {one.entry.name: one.state for one in fat.DeletedFiles(device).in_folder(path)}


@pytest.mark.parametrize("bits", [12, 16, 32])
@pytest.mark.parametrize("path", [LONG, SECOND, "/EMPTY"])
def test_put_back(bits: int, path: str) -> None:
    """A deleted file comes back with its name and content, on a volume without findings."""
    whole = tree(Volume(sound(bits)).device)
    volume = deleted(bits, path)
    done = fat.undelete(volume.device, path if path != "/EMPTY" else "/?MPTY")
    assert [one.state for one in done.restored] == [State.WHOLE]
    assert codes(volume.device) == set()
    if path == "/EMPTY":
        whole["/_MPTY"] = whole.pop("/EMPTY")
    assert tree(volume.device) == whole


def test_dry_run_writes_nothing() -> None:
    """A dry run tells the same and writes nothing."""
    volume = deleted(16, SECOND)
    before = bytes(volume.device.data)
    told = fat.undelete(volume.device, SECOND, dry_run=True)
    assert bytes(volume.device.data) == before
    assert told == fat.undelete(volume.device, SECOND)


def test_short_name_needs_a_letter() -> None:
    """The first letter of a short name is not known, whatever letter is asked for."""
    volume = deleted(16, "/A.TXT")
    assert names(volume.device) == {"?.TXT": State.WHOLE}
    done = fat.undelete(volume.device, "/A.TXT")
    assert [one.entry.name for one in done.restored] == ["_.TXT"]
    assert fat.open(volume.device).read("/_.TXT") == tree(Volume(sound(16)).device)["/A.TXT"]


def test_files_between_are_left_out() -> None:
    """Where another file has come into the clusters of a deleted one, the rest is a guess."""
    volume = deleted(16, SECOND)
    chain = Volume(sound(16)).chain(SECOND)
    volume.link(chain[2], volume.end)
    found = fat.DeletedFiles(volume.device).find(SECOND)
    assert found.state is State.GUESS
    assert found.chain[:2] == tuple(chain[:2])
    assert chain[2] not in found.chain
    assert len(found.chain) == len(chain)


def test_first_cluster_in_use() -> None:
    """A file whose first cluster is another's now is lost, and nothing is written."""
    volume = deleted(16, SECOND)
    volume.link(Volume(sound(16)).chain(SECOND)[0], volume.end)
    before = bytes(volume.device.data)
    with pytest.raises(FatError, match="in use"):
        fat.undelete(volume.device, SECOND)
    assert bytes(volume.device.data) == before


def test_too_little_left() -> None:
    """A file that is longer than what is free behind its start is lost."""
    volume = deleted(16, SECOND)
    at = volume.record(SECOND) + 28
    volume.put(at, b"\xff\xff\xff\x7f")
    assert names(volume.device, "/SUB")["Second long name.dat"] is State.LOST


def test_name_is_taken() -> None:
    """A file whose name another has now can be copied out, and not put back."""
    volume = deleted(16, LONG)
    old = content(LONG, 3 * volume.geometry.cluster_bytes)
    with fat.open(volume.device) as files:
        files.write("/Z2.TXT", b"")  # takes the freed records, and no cluster
        files.write(LONG.lower(), b"")
    found = fat.DeletedFiles(volume.device)
    if any(one.path == LONG for one in found.in_folder("/")):
        assert b"".join(found.read_chunks(found.find(LONG))) == old
        with pytest.raises(FatExistsError, match="another"):
            fat.undelete(volume.device, LONG)


def test_nothing_of_that_name() -> None:
    """What never was is not found."""
    volume = deleted(16, LONG)
    for path in ("/nothing.txt", "/NOWHERE/x.txt"):
        with pytest.raises(FatNotFoundError):
            fat.undelete(volume.device, path)


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_folder_with_all_in_it(bits: int) -> None:
    """A deleted folder comes back with what was deleted before it, folders in it too."""
    whole = tree(Volume(sound(bits)).device)
    paths = [path for path in whole if path.startswith("/SUB/Deep folder/")]
    volume = deleted(bits, *paths, "/SUB/Deep folder/Deeper", "/SUB/Deep folder")
    done = fat.undelete(volume.device, "/SUB/Deep folder")
    assert not done.left
    assert codes(volume.device) == set()
    after = tree(volume.device)
    assert after["/SUB/Deep folder/Deeper/_.TXT"] == whole["/SUB/Deep folder/Deeper/E.TXT"]
    assert sorted(after.values()) == sorted(whole.values())


def test_folder_deleted_alone() -> None:
    """Files that were not deleted with their folder come back with it, under their whole names."""
    volume = Volume(sound(16))
    whole = tree(volume.device)
    for path in ("/SUB/B.TXT", SECOND, "/SUB/Deep folder/C.BIN", "/SUB/Deep folder/D.TXT"):
        for cluster in volume.chain(path):
            volume.link(cluster, 0)
    for path in ("/SUB/Deep folder/Deeper/E.TXT", "/SUB/Deep folder/Deeper", "/SUB/Deep folder"):
        for cluster in volume.chain(path):
            volume.link(cluster, 0)
    volume.link(volume.chain("/SUB")[0], 0)
    volume.patch("/SUB", 0, b"\xe5")
    inner = fat.DeletedFiles(volume.device).in_folder("/?UB/Deep folder")
    assert {one.entry.name for one in inner} == {"C.BIN", "D.TXT", "Deeper"}
    done = fat.undelete(volume.device, "/SUB")
    assert not done.left
    assert codes(volume.device) == set()
    renamed = {path.replace("/SUB/", "/_UB/"): data for path, data in whole.items()}
    assert tree(volume.device) == renamed


def test_child_is_lost() -> None:
    """What in a deleted folder is lost is told, and stays deleted."""
    volume = deleted(16, "/OTHER/F.TXT", "/OTHER")
    volume.link(Volume(sound(16)).chain("/OTHER/F.TXT")[0], volume.end)
    done = fat.undelete(volume.device, "/?THER")
    assert [one.entry.name for one in done.left] == ["?.TXT"]
    assert "/_THER/" in tree(volume.device)


def test_file_in_a_deleted_folder() -> None:
    """A file of a deleted folder is read from there, and put back with its folder only."""
    volume = deleted(16, "/OTHER/F.TXT", "/OTHER")
    found = fat.DeletedFiles(volume.device)
    data = tree(Volume(sound(16)).device)["/OTHER/F.TXT"]
    assert b"".join(found.read_chunks(found.find("/OTHER/F.TXT"))) == data
    with pytest.raises(FatError, match="deleted, too"):
        fat.undelete(volume.device, "/OTHER/F.TXT")


def test_long_name_of_another_file() -> None:
    """A long name that does not fit the short one beside it is not put on it."""
    volume = Volume(sound(16))
    short = entry(b"STRANGERTXT", cluster=300, length=5)
    lost = pack_long("Some other file.txt", b"SOMEOT~1TXT") + short
    for at in range(0, len(lost), 32):
        volume.put(volume.free_record(), lost[at : at + 32])
    for back in (0, 32, 64):
        volume.put(volume.free_record() - 32 - back, b"\xe5")
    assert set(names(volume.device)) == {"?TRANGER.TXT"}


def test_long_name_left_alone() -> None:
    """A long name whose records were not marked free names the deleted file all the same."""
    volume = deleted(16, LONG)
    at = volume.record(LONG)
    records = pack_long(LONG[1:], b"AFILEW~1TXT")
    volume.put(at - len(records), records)
    assert names(volume.device) == {LONG[1:]: State.WHOLE}
    fat.undelete(volume.device, LONG)
    assert codes(volume.device) == set()


def test_high_half_of_the_start_is_lost() -> None:
    """On FAT32 a start of which Windows wiped the high half is looked for, and called a guess."""
    volume = Volume(sound(32))
    cluster = (1 << 16) + 40
    data = content("high", volume.geometry.cluster_bytes)
    volume.put(volume.geometry.cluster_offset_bytes(cluster), data)
    volume.link(40, volume.end)
    volume.put(volume.free_record(), b"\xe5" + entry(b"HIGH    TXT", cluster=40, length=9)[1:])
    found = fat.DeletedFiles(volume.device)
    one = found.find("/HIGH.TXT")
    assert (one.state, one.entry.first_cluster) == (State.GUESS, cluster)
    assert b"".join(found.read_chunks(one)) == data[:9]


def test_hostile_remains() -> None:
    """A folder full of deleted records that name everything ends, and names are safe on a host."""
    volume = Volume(sound(16))
    root = volume.geometry.root_offset_bytes
    for index in range(volume.geometry.root_entry_count):
        at = root + index * 32
        volume.put(at, b"\xe5" + entry(b"X......./..", cluster=index, length=1 << 31)[1:])
        volume.put(at + 64 * (index % 7 == 0), b"\xe5" + bytes([0xFF]) * 10)
    for one in fat.DeletedFiles(volume.device).in_folder("/"):
        assert "/" not in one.entry.name
        assert one.entry.name.strip(".")
