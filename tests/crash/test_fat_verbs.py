"""Power cuts at every write of one verb on a FAT volume, writes between barriers in any order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from ipva_storage import fat
from ipva_storage.device import MemoryDevice
from ipva_storage.errors import FatNotFoundError
from ipva_storage.fat import FatVolume, file, moving
from ipva_storage.testing.power_cuts import FileLog, power_cuts
from ipva_storage.units import KIB

HARMLESS = {"FAT002", "FAT005", "FAT011", "FAT018", "FAT019", "FAT046", "FAT050"}
"""Unusual header, copies differ, lost clusters, free count, not closed: what a cut may leave."""

ONE, TWO, THREE, BIG = b"1" * 900, b"two" * 700, b"33" * 3000, b"big" * 9000
OLD = {
    "/One name.txt": ONE,
    "/d/Two.txt": TWO,
    "/d/e/Three, with a long name.bin": THREE,
    "/d/Bystander": b"by" * 500,
    "/big": BIG,
}
Verb = Callable[[FatVolume], object]
Allowed = dict[str, tuple[bytes | None, ...]]


def make(bits: int) -> bytes:
    """A volume with the old files; its free clusters are in other sectors of the table, too."""
    device = MemoryDevice(300 * KIB if bits == 12 else 5000 * KIB if bits == 16 else 34000 * KIB)
    fat.format(device, fat_bits=bits, cluster_bytes=512, volume_id=7)
    with fat.open(device) as volume:
        volume.mkdir("/d/e", parents=True)
        for number in range(9):
            volume.write(f"/filler {number}", bytes(700))
        volume.write("/room", bytes(300 * 512))
        for number, (path, content) in enumerate(OLD.items()):
            volume.delete(f"/filler {number * 2}")
            volume.write(path, content)
    return bytes(device.data)


def cut_volumes(before: bytes, verb: Verb) -> Iterator[tuple[str, MemoryDevice]]:
    """What every power cut leaves, and the volume after all as the last.

    A disk is taken to write a sector whole, so states with a part of one are left out.
    """
    log = FileLog()
    with fat.open(log.device("volume", before)) as volume:
        verb(volume)
    for cut in power_cuts(log):
        landed = re.match(r"(\d+) bytes of the next landed", cut.how)
        if landed is None or int(landed[1]) % 512 == 0:
            yield f"at {cut.position}, {cut.how}", MemoryDevice(cut.files["volume"])


def content_of(volume: FatVolume, path: str) -> bytes | None:
    """The content of a file, or None where there is none."""
    try:
        return volume.read(path)
    except FatNotFoundError:
        return None


def explore(verb: Verb, allowed: Allowed, kept: dict[bytes, list[str]], extra: set[str]) -> int:
    """Try every cut.

    Args:
        verb: what is done.
        allowed: what each path may hold; all others are as they were.
        kept: contents that must be under one of their names whenever the power goes.
        extra: codes that a check may give besides the harmless ones.

    Returns:
        How many states were tried.
    """
    count = 0
    before = make(12)
    for when, device in cut_volumes(before, verb):
        volume = fat.open(device)
        for path in {*OLD, *allowed}:
            found = content_of(volume, path)
            assert found in allowed.get(path, (OLD.get(path),)), f"{path} {when}"
        for content, paths in kept.items():
            assert content in [content_of(volume, path) for path in paths], f"{paths} {when}"
        codes = {finding.code for finding in fat.check(device)}
        assert codes <= HARMLESS | extra, f"{codes - HARMLESS - extra} {when}"
        count += 1
    codes = {finding.code for finding in fat.check(device)}
    assert codes <= {"FAT002"}, "all is well at the end"
    return count


def append(volume: FatVolume, path: str, data: bytes) -> None:
    """Write at the end of a file, over several clusters."""
    with volume.open(path, "a") as target:
        target.write(data)


def truncate(volume: FatVolume, path: str, size: int) -> None:
    """Cut a file."""
    with volume.open(path, "r+") as target:
        target.truncate(size)


def rewrite(volume: FatVolume, path: str, data: bytes) -> None:
    """Empty a file and write it anew."""
    with volume.open(path, "w") as target:
        target.write(data)


LONG = "/d/e/" + "A name so long that it takes more than one sector " * 4 + "end"
NAMES: dict[str, tuple[Verb, str, str]] = {
    "in place": (
        lambda volume: volume.move("/d/Two.txt", "/d/Deux.text"),
        "/d/Two.txt",
        "/d/Deux.text",
    ),
    "case": (lambda volume: volume.move("/big", "/BiG"), "/big", "/BiG"),
    "other folder": (
        lambda volume: volume.move("/d/Two.txt", "/Deux.text"),
        "/d/Two.txt",
        "/Deux.text",
    ),
    "up": (
        lambda volume: volume.move("/d/e/Three, with a long name.bin", "/d/x"),
        "/d/e/Three, with a long name.bin",
        "/d/x",
    ),
    "replacing": (
        lambda volume: volume.move("/One name.txt", "/d/Two.txt", force=True),
        "/One name.txt",
        "/d/Two.txt",
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_moved_file_is_always_somewhere(name: str) -> None:
    """Whenever the power goes, a moved file is whole under one of its names, or both."""
    verb, source, target = NAMES[name]
    content = OLD[source]
    allowed: Allowed = {source: (content, None), target: (content, OLD.get(target))}
    assert explore(verb, allowed, {content: [source, target]}, set()) > 4


@pytest.mark.parametrize("name", ["other folder", "up", "replacing"])
def test_a_long_file_is_under_both_names_at_worst(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file too long to be copied may be left under both names, which is told as shared."""
    monkeypatch.setattr(moving, "REWRITTEN_BYTES_MAX", 0)
    verb, source, target = NAMES[name]
    content = OLD[source]
    allowed: Allowed = {source: (content, None), target: (content, OLD.get(target))}
    explore(verb, allowed, {content: [source, target]}, {"FAT010"})
    with pytest.raises(AssertionError, match="FAT010"):
        explore(verb, allowed, {content: [source, target]}, set())


def test_a_moved_folder_is_under_both_names_at_worst() -> None:
    """A folder that goes elsewhere is there with all in it, before, after or both."""
    source, target = "/d/e/Three, with a long name.bin", "/f/Three, with a long name.bin"
    allowed: Allowed = {source: (THREE, None), target: (THREE, None)}
    explore(
        lambda volume: volume.move("/d/e", "/f"),
        allowed,
        {THREE: [source, target]},
        {"FAT010", "FAT013", "FAT041"},
    )


def test_a_renamed_folder_is_always_there_once() -> None:
    """A folder that stays in its folder has the old or the new name."""
    source, target = "/d/e/Three, with a long name.bin", "/d/f/Three, with a long name.bin"
    allowed: Allowed = {source: (THREE, None), target: (THREE, None)}
    explore(lambda volume: volume.move("/d/e", "/d/f"), allowed, {THREE: [source, target]}, set())


def test_a_tree_goes_at_once() -> None:
    """Of a tree that is deleted all is there, or nothing."""
    gone: Allowed = {path: (OLD[path], None) for path in OLD if path.startswith("/d/")}
    explore(lambda volume: volume.delete("/d", recursive=True), gone, {}, set())
    for when, device in cut_volumes(make(12), lambda volume: volume.delete("/d", recursive=True)):
        volume = fat.open(device)
        found = {content_of(volume, path) is None for path in gone}
        assert len(found) == 1, when


FILES: dict[str, tuple[Verb, str, bytes]] = {
    "append": (lambda volume: append(volume, "/big", b"x" * 5000), "/big", BIG + b"x" * 5000),
    "append to a cluster": (
        lambda volume: append(volume, "/One name.txt", b"x"),
        "/One name.txt",
        ONE + b"x",
    ),
    "truncate": (lambda volume: truncate(volume, "/big", 9001), "/big", BIG[:9001]),
    "empty": (lambda volume: truncate(volume, "/big", 0), "/big", b""),
    "lengthen": (
        lambda volume: truncate(volume, "/d/Two.txt", 9000),
        "/d/Two.txt",
        TWO.ljust(9000, b"\0"),
    ),
    "rewrite": (lambda volume: rewrite(volume, "/big", b"new" * 2000), "/big", b"new" * 2000),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_changes_its_length_is_old_or_new(name: str) -> None:
    """A short file that is changed through a file object is the old or the new."""
    verb, path, new = FILES[name]
    allowed: Allowed = {path: (OLD[path], new)}
    explore(verb, allowed, {}, set())


@pytest.mark.parametrize("name", ["append", "truncate", "lengthen"])
def test_a_long_file_has_too_many_clusters_at_worst(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file too long to be copied is the old or the new, with clusters beyond its end at worst."""
    monkeypatch.setattr(file, "REWRITTEN_BYTES_MAX", 0)
    monkeypatch.setattr("ipva_storage.fat.table.FatTable.is_whole_entry", lambda *_: True)
    verb, path, new = FILES[name]
    explore(verb, {path: (OLD[path], new)}, {}, {"FAT008"})


def test_overwriting_keeps_the_rest() -> None:
    """Bytes written in place are old or new sector by sector, and all others stay."""

    def overwrite(volume: FatVolume) -> None:
        with volume.open("/big", "r+") as target:
            target.seek(3000)
            target.write(b"#" * 2000)

    for when, device in cut_volumes(make(12), overwrite):
        found = fat.open(device).read("/big")
        assert found[:3000] + found[5000:] == BIG[:3000] + BIG[5000:], when
        assert all(one in (old, ord("#")) for one, old in zip(found, BIG, strict=True)), when
        assert {finding.code for finding in fat.check(device)} <= HARMLESS, when


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_labels_differ_at_worst(bits: int) -> None:
    """A label is the old or the new in each of its places."""
    for when, device in cut_volumes(make(bits), lambda volume: volume.set_label("NEW")):
        assert fat.open(device).label in (None, "NEW"), when
        codes = {finding.code for finding in fat.check(device)}
        assert codes <= HARMLESS | {"FAT017", "FAT003"}, when


def test_a_batch_of_moves() -> None:
    """Moves, deletions and new files in one batch: every old content is somewhere or deleted."""

    def work(volume: FatVolume) -> None:
        with volume.batch():
            volume.mkdir("/n")
            volume.move("/d/Two.txt", "/n/Two.txt")
            volume.move("/One name.txt", "/d/Two.txt")
            volume.move("/d/e/Three, with a long name.bin", LONG)
            volume.write("/One name.txt", b"again")

    allowed: Allowed = {
        "/n/Two.txt": (TWO, None),
        "/d/Two.txt": (TWO, ONE, None),
        "/One name.txt": (ONE, b"again", None),
        "/d/e/Three, with a long name.bin": (THREE, None),
        LONG: (THREE, None),
    }
    kept = {
        TWO: ["/d/Two.txt", "/n/Two.txt"],
        ONE: ["/One name.txt", "/d/Two.txt"],
        THREE: ["/d/e/Three, with a long name.bin", LONG],
    }
    explore(work, allowed, kept, {"FAT016"})  # the name is longer than a sector


def test_a_short_name_is_given_on_only_after_it_is_gone() -> None:
    """A new name in a batch takes no short name that the medium still has."""

    def work(volume: FatVolume) -> None:
        with volume.batch():
            volume.move("/d/e/Three, with a long name.bin", "/x")
            volume.write("/d/e/Three, with another name.bin", b"")

    source, target = "/d/e/Three, with a long name.bin", "/x"
    allowed: Allowed = {
        source: (THREE, None),
        target: (THREE, None),
        "/d/e/Three, with another name.bin": (None, b""),
    }
    explore(work, allowed, {THREE: [source, target]}, set())
