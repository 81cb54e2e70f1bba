"""Damage to folder records and chains is found and mended, and what survives is the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ipva_storage import fat
from ipva_storage.fat.folder import pack_long
from tests.damage.fat_volumes import (
    Damage,
    Tree,
    Volume,
    codes,
    content,
    entry,
    sound,
    tree,
)

A, LONG, B = "/A.TXT", "/A file with a long name.txt", "/SUB/B.TXT"
SECOND, C, D = "/SUB/Second long name.dat", "/SUB/Deep folder/C.BIN", "/SUB/Deep folder/D.TXT"
E, F, Z = "/SUB/Deep folder/Deeper/E.TXT", "/OTHER/F.TXT", "/Z.TXT"
Change = Callable[[Tree, int], None]
"""What becomes of the tree of a volume with clusters of so many bytes."""


def same(_: Tree, __: int) -> None:
    """Everything is as it was before the damage."""


def renamed(old: str, new: str) -> Change:
    """A file, or a folder with all in it, has another path."""

    def change(files: Tree, _: int) -> None:
        for path in list(files):
            if path == old or path.startswith(old + "/"):
                files[new + path[len(old) :]] = files.pop(path)

    return change


def gone(path: str) -> Change:
    """A file is not there."""

    def change(files: Tree, _: int) -> None:
        del files[path]

    return change


def cut(path: str, clusters: int) -> Change:
    """A file ends after so many clusters."""

    def change(files: Tree, size: int) -> None:
        files[path] = files[path][: clusters * size]

    return change


def made(path: str, source: str, first: int = 0, stop: int | None = None) -> Change:
    """A new file has clusters of another, whole ones."""

    def change(files: Tree, size: int) -> None:
        whole = files[source].ljust(-(-len(files[source]) // size) * size, b"\0")
        files[path] = whole[first * size : None if stop is None else stop * size]

    return change


def both(*changes: Change) -> Change:
    """One after the other."""

    def change(files: Tree, size: int) -> None:
        for each in changes:
            each(files, size)

    return change


@dataclass(frozen=True)
class Kind:
    """A kind of damage, what the check calls it, and what is there after a repair."""

    name: str
    code: str
    damage: Damage
    after: Change = same
    bits: tuple[int, ...] = (16, 32)


# -- chains -----------------------------------------------------------------------------------


def to_free(v: Volume) -> None:
    """The middle of a chain is marked free."""
    v.link(v.chain(SECOND)[3], 0)


def to_free_end(v: Volume) -> None:
    """The last entries of a chain are marked free."""
    for cluster in v.chain(SECOND)[4:]:
        v.link(cluster, 0)


def to_bad(v: Volume) -> None:
    """A cluster in a chain is marked bad."""
    v.link(v.chain(SECOND)[4], v.bad)


def to_outside(v: Volume) -> None:
    """A link leads to a cluster that does not exist."""
    v.link(v.chain(SECOND)[2], v.geometry.entry_count + 5)


def to_one(v: Volume) -> None:
    """A link leads to cluster 1."""
    v.link(v.chain(C)[0], 1)


def ring(v: Volume) -> None:
    """The last cluster of a file leads to its first."""
    chain = v.chain(C)
    v.link(chain[-1], chain[0])


def ring_amid(v: Volume) -> None:
    """A link leads back, and the rest of the file is an orphan."""
    chain = v.chain(SECOND)
    v.link(chain[2], chain[1])


def ring_of_one(v: Volume) -> None:
    """A cluster leads to itself."""
    chain = v.chain(C)
    v.link(chain[0], chain[0])


def folder_ring(v: Volume) -> None:
    """A folder's only cluster leads to itself."""
    chain = v.chain("/SUB")
    v.link(chain[-1], chain[0])


def too_short(v: Volume) -> None:
    """A chain ends early; its rest is an orphan."""
    v.link(v.chain(SECOND)[1], v.end)


def too_short_freed(v: Volume) -> None:
    """A chain ends early, and its rest is free."""
    chain = v.chain(SECOND)
    v.link(chain[1], v.end)
    for cluster in chain[2:]:
        v.link(cluster, 0)


def too_long(v: Volume) -> None:
    """A file's length says less than its chain has."""
    v.patch(SECOND, 28, (10).to_bytes(4, "little"))


def too_long_zero(v: Volume) -> None:
    """A chain goes on with clusters of zeros, as Windows reserves them."""
    free = v.chain(Z)[-1] + 40
    v.link(v.chain(Z)[-1], free)
    v.link(free, free + 1)
    v.link(free + 1, v.end)


def length_lost(v: Volume) -> None:
    """A file's length is 0, and its chain is there."""
    v.patch(C, 28, bytes(4))


def length_huge(v: Volume) -> None:
    """A file's length is 4 GiB - 1."""
    v.patch(C, 28, b"\xff" * 4)


def start_zero(v: Volume) -> None:
    """A file has content and no first cluster."""
    v.start(C, 0)


def start_free(v: Volume) -> None:
    """A file starts in a free cluster."""
    v.start(C, v.chain(Z)[-1] + 60)


def start_bad(v: Volume) -> None:
    """A file's first cluster is marked bad."""
    v.link(v.chain(D)[0], v.bad)


def start_outside(v: Volume) -> None:
    """A file starts beyond the end of the volume."""
    v.start(C, v.geometry.entry_count + 1)


def start_wiped(v: Volume) -> None:
    """All entries of a file are free."""
    for cluster in v.chain(C):
        v.link(cluster, 0)


def shared_start(v: Volume) -> None:
    """A file starts where another does; its own chain is an orphan."""
    v.start(B, v.chain(A)[0])


def shared_tail(v: Volume) -> None:
    """Two chains end in the same clusters; nothing else is left of the second one's."""
    chain, other = v.chain(SECOND), v.chain(C)
    for cluster in chain[3:]:
        v.link(cluster, 0)
    v.link(chain[2], other[0])


def shared_without_room(v: Volume) -> None:
    """As a shared tail, and no cluster is free."""
    chain, other = v.chain(SECOND), v.chain(C)
    size = len(v.device.data)
    with fat.open(v.device) as volume:
        volume.write("/FILL", b"x" * (volume.free_bytes - 4 * v.geometry.cluster_bytes))
    assert size == len(v.device.data)
    for cluster in chain[3:]:
        v.link(cluster, v.bad)
    with fat.open(v.device) as volume:
        volume.write("/FILL2", b"x" * volume.free_bytes)
    v.link(chain[2], other[0])


def three_share(v: Volume) -> None:
    """Three files have the same chain."""
    for path in (LONG, D):
        v.start(path, v.chain(A)[0])


def file_in_folder(v: Volume) -> None:
    """A file starts in the clusters of a folder; its own chain is an orphan."""
    v.start(D, v.chain("/OTHER")[0])


def orphan(v: Volume) -> None:
    """A file's records are overwritten."""
    v.put(v.record(A), b"\xe5" + bytes(31))


def orphan_zeros(v: Volume) -> None:
    """Clusters of zeros are in use and belong to nothing."""
    first = v.chain(Z)[-1] + 50
    v.link(first, first + 1)
    v.link(first + 1, v.end)


def orphan_ring(v: Volume) -> None:
    """Clusters that belong to nothing lead to each other."""
    orphan(v)
    chain = list(range(v.chain(LONG)[0] - 3, v.chain(LONG)[0]))
    v.link(chain[-1], chain[0])


def orphan_into_file(v: Volume) -> None:
    """An orphan chain leads into a file."""
    first = v.chain(A)[0]
    orphan(v)
    v.link(first + 2, v.chain(LONG)[0])


def deleted_record(v: Volume) -> None:
    """The records of a file are marked free, and its chain is there."""
    for back in (0, 32, 64):
        v.put(v.record(LONG) - back, b"\xe5")


# -- folders ----------------------------------------------------------------------------------


def lost_folder(v: Volume) -> None:
    """The records of a folder are overwritten."""
    v.put(v.record("/SUB") - 0, b"\xe5" + bytes(31))


def deleted_folder(v: Volume) -> None:
    """The records of a folder are marked free, and its chain is there."""
    for back in (0, 32):
        v.put(v.record("/SUB/Deep folder") - back, b"\xe5")


def folder_start_zero(v: Volume) -> None:
    """A folder has no first cluster."""
    v.start("/SUB/Deep folder", 0)


def folder_start_outside(v: Volume) -> None:
    """A folder starts beyond the end of the volume."""
    v.start("/SUB", v.geometry.entry_count + 9)


def folder_entry_free(v: Volume) -> None:
    """The entry of a folder's only cluster is free."""
    v.link(v.chain("/SUB/Deep folder")[0], 0)


def folder_entry_bad(v: Volume) -> None:
    """A folder's only cluster is marked bad."""
    v.link(v.chain("/SUB/Deep folder")[0], v.bad)


def folder_gone(v: Volume) -> None:
    """A folder starts in a free cluster, and it is nowhere."""
    chain = v.chain("/HOLLOW")
    v.start("/HOLLOW", 0)
    v.link(chain[0], 0)


def folder_in_itself(v: Volume) -> None:
    """A file becomes the folder that it is in."""
    chain = v.chain("/OTHER")
    v.start(F, chain[0])
    v.patch(F, 11, b"\x10")
    v.patch(F, 28, bytes(4))


def folder_in_ancestor(v: Volume) -> None:
    """A folder is one of those that it is in."""
    v.start("/SUB/Deep folder/Deeper", v.chain("/SUB")[0])


def folder_twice(v: Volume) -> None:
    """Two entries name one folder."""
    v.start("/HOLLOW", v.chain("/SUB")[0])


def garbage_folder(v: Volume) -> None:
    """What a folder's cluster holds is no folder."""
    v.put(v.place("/OTHER"), content("garbage", v.geometry.cluster_bytes))


def dots_wiped(v: Volume) -> None:
    """The first two records of a folder are zero, so that it seems to end there."""
    v.put(v.place("/SUB"), bytes(64))


def sector_wiped(v: Volume) -> None:
    """The first records of a folder are zero, a file's too."""
    v.put(v.place("/SUB"), bytes(96))


def dot_wrong(v: Volume) -> None:
    """`.` leads elsewhere."""
    v.put(v.place("/SUB") + 26, b"\x55")


def dot_dot_wrong(v: Volume) -> None:
    """`..` leads elsewhere."""
    v.put(v.place("/SUB/Deep folder") + 32 + 26, b"\x55")


def dot_renamed(v: Volume) -> None:
    """`.` has another name, so that the folder seems to contain itself."""
    v.put(v.place("/SUB"), b"NODOT      ")


def dot_no_folder(v: Volume) -> None:
    """`..` is no folder."""
    v.put(v.place("/SUB") + 32 + 11, b"\x20")


def dot_taken(v: Volume) -> None:
    """A file's record is where `.` belongs."""
    at = v.place("/OTHER")
    v.put(at, bytes(v.device.data[at + 64 : at + 96]))
    v.put(at + 64, b"\xe5")


def dot_in_root(v: Volume) -> None:
    """The root folder has a `.`."""
    v.put(v.free_record(), entry(b".          ", attributes=0x10))


def dot_extra(v: Volume) -> None:
    """A file is called `..`."""
    v.patch(D, 0, b"..         ")


# -- records ----------------------------------------------------------------------------------


def folder_length(v: Volume) -> None:
    """A folder has a length."""
    v.patch("/SUB", 28, b"\x07")


def dot_length(v: Volume) -> None:
    """`.` has a length."""
    v.put(v.place("/SUB") + 28, b"\x07")


def second_label(v: Volume) -> None:
    """The root folder has two labels."""
    v.put(v.free_record(), entry(b"SECOND     ", attributes=0x08))


def label_below(v: Volume) -> None:
    """A folder has a label."""
    v.put(v.free_record("/SUB"), entry(b"SECOND     ", attributes=0x08))


def label_bit(v: Volume) -> None:
    """A file is marked as a label."""
    v.patch(D, 11, b"\x28")


def label_bit_folder(v: Volume) -> None:
    """A folder is marked as a label."""
    v.patch("/OTHER", 11, b"\x18")


def label_with_cluster(v: Volume) -> None:
    """The label has a first cluster and a length."""
    at = v.device.data.find(b"GOOD       \x08")
    v.put(at + 26, v.chain(A)[0].to_bytes(2, "little") + b"\x05\0\0\0")


def label_letters(v: Volume) -> None:
    """The label has characters that no label has."""
    v.put(v.device.data.rfind(b"GOOD       \x08") + 4, b"+")


def case_bit(v: Volume) -> None:
    """Records say that there is no short name."""
    v.patch(A, 12, b"\x20")
    v.put(v.place("/SUB") + 12, b"\x20")


def attribute_bits(v: Volume) -> None:
    """Bits are set that mean nothing."""
    v.patch(A, 11, b"\xe0")


def bad_dates(v: Volume) -> None:
    """Dates that no calendar has."""
    v.patch(A, 13, b"\xc9" + b"\xff" * 4 + b"\x00\x5b")
    v.patch(A, 22, b"\xff\xff\x00\x5b")


def stale_copy(v: Volume) -> None:
    """Behind the end of the root folder is a record that leads to another file's clusters."""
    v.put(v.free_record() + 32, entry(b"OLD     TXT", cluster=v.chain(A)[0], length=9))


def end_amid(v: Volume) -> None:
    """A record in the middle of a folder is zero, so that it seems to end there."""
    at = v.record(B)
    assert at < v.record(SECOND)
    v.put(at, bytes(32))


# -- names ------------------------------------------------------------------------------------


def bad_short(v: Volume) -> None:
    """A short name has a character that no name has."""
    v.patch(A, 0, b"A*")


def bad_short_blank(v: Volume) -> None:
    """A short name begins with a space."""
    v.patch(A, 0, b" ")


def bad_short_of_long(v: Volume) -> None:
    """The short name of a file with a long one has a character that no name has."""
    v.patch(LONG, 3, b"\x01")


def same_short(v: Volume) -> None:
    """Two files have the same short name."""
    v.patch(Z, 0, b"A       TXT")


def same_long(v: Volume) -> None:
    """A short name is the long name of another file."""
    at = v.free_record()
    v.put(at, pack_long("z.Txt", b"OTHER   TXT") + entry(b"OTHER   TXT"))


def long_checksum(v: Volume) -> None:
    """The short name of a file was changed in one letter."""
    v.patch(LONG, 3, b"X")


def long_checksum_part(v: Volume) -> None:
    """One part of a long name has another checksum."""
    v.put(v.record(LONG) - 64 + 13, b"\x99")


def long_orphan(v: Volume) -> None:
    """Long-name records lead to no file."""
    at = v.free_record()
    v.put(at, pack_long("A name without a file.txt", b"ANAME~1 TXT"))


def long_stranger(v: Volume) -> None:
    """Before a short record is the long name of another file."""
    at = v.free_record()
    v.put(at, pack_long("Some other file.txt", b"SOMEOT~1TXT") + entry(b"STRANGERTXT"))


def long_order(v: Volume) -> None:
    """The parts of a long name have changed places."""
    at = v.record(LONG)
    first, second = (bytes(v.device.data[at - back : at - back + 32]) for back in (64, 32))
    v.put(at - 64, second + first)


def long_bad_letter(v: Volume) -> None:
    """A long name has a character that no name has."""
    v.put(v.record(LONG) - 32 + 1, b"*\0")


def long_fields(v: Volume) -> None:
    """Fields of a long-name record that should be zero are not."""
    v.put(v.record(LONG) - 32 + 12, b"\x01")
    v.put(v.record(LONG) - 32 + 26, b"\x05")


KINDS = [
    Kind("chain to a free cluster", "FAT006", to_free),
    Kind("chain to a free cluster, FAT12", "FAT006", to_free, bits=(12,)),
    Kind("end of a chain wiped", "FAT006", to_free_end),
    Kind("chain to a bad cluster", "FAT006", to_bad),
    Kind("chain to the outside", "FAT006", to_outside),
    Kind("chain to cluster 1", "FAT006", to_one),
    Kind("ring", "FAT009", ring),
    Kind("ring, FAT12", "FAT009", ring, bits=(12,)),
    Kind("ring amid a chain", "FAT009", ring_amid),
    Kind("ring of one", "FAT009", ring_of_one),
    Kind("ring of a folder", "FAT009", folder_ring),
    Kind("chain too short", "FAT007", too_short),
    Kind("chain too short, rest free", "FAT007", too_short_freed, cut(SECOND, 2)),
    Kind(
        "chain too long",
        "FAT008",
        too_long,
        both(
            made("/FSCK0000.REC", SECOND, 1),
            lambda files, _: files.update({SECOND: files[SECOND][:10]}),
        ),
    ),
    Kind("chain too long by zeros", "FAT008", too_long_zero),
    Kind("length lost", "FAT008", length_lost, both(made("/FSCK0000.REC", C), cut(C, 0))),
    Kind("length beyond the volume", "FAT007", length_huge),
    Kind("no first cluster", "FAT012", start_zero),
    Kind("start in a free cluster", "FAT012", start_free),
    Kind("start in a bad cluster", "FAT012", start_bad),
    Kind("start outside", "FAT012", start_outside),
    Kind("all entries of a file wiped", "FAT012", start_wiped),
    Kind("start of another file", "FAT010", shared_start),
    Kind(
        "tail of another file",
        "FAT010",
        shared_tail,
        lambda files, size: files.update(
            {SECOND: files[SECOND][: 3 * size] + files[C][: len(files[SECOND]) - 3 * size]}
        ),
    ),
    Kind("three files in one chain", "FAT010", three_share),
    Kind("file in a folder's cluster", "FAT010", file_in_folder),
    Kind("file without record", "FAT011", orphan, both(made("/FSCK0000.REC", A), gone(A))),
    Kind("lost zeros", "FAT011", orphan_zeros),
    Kind("lost ring", "FAT011", orphan_ring, both(made("/FSCK0000.REC", A), gone(A))),
    Kind(
        "lost chain into a file",
        "FAT010" if False else "FAT011",
        orphan_into_file,
        both(made("/FSCK0000.REC", A), gone(A)),
    ),
    Kind("record marked free", "FAT011", deleted_record),
    Kind("folder without record", "FAT050", lost_folder, renamed("/SUB", "/FSCK0000")),
    Kind("folder's record marked free", "FAT050", deleted_folder),
    Kind("folder without first cluster", "FAT012", folder_start_zero),
    Kind("folder starts outside", "FAT012", folder_start_outside),
    Kind("folder's entry free", "FAT012", folder_entry_free),
    Kind("folder's cluster marked bad", "FAT012", folder_entry_bad),
    Kind("folder that is nowhere", "FAT012", folder_gone, gone("/HOLLOW/")),
    Kind(
        "folder in itself",
        "FAT040",
        folder_in_itself,
        both(made("/FSCK0000.REC", F), gone(F), lambda files, _: files.update({"/OTHER/": b""})),
    ),
    Kind("folder in one it is in", "FAT040", folder_in_ancestor),
    Kind("folder in two places", "FAT041", folder_twice),
    Kind("folder that is none", "FAT042", garbage_folder),
    Kind("both dots wiped", "FAT013", dots_wiped),
    Kind(
        "start of a folder wiped", "FAT013", sector_wiped, both(made("/FSCK0000.REC", B), gone(B))
    ),
    Kind("dot elsewhere", "FAT013", dot_wrong),
    Kind("dot dot elsewhere", "FAT013", dot_dot_wrong),
    Kind("dot with a name", "FAT013", dot_renamed),
    Kind("dot dot a file", "FAT013", dot_no_folder),
    Kind("file in the place of dot", "FAT013", dot_taken),
    Kind("dot in the root", "FAT013", dot_in_root),
    Kind("file called dot dot", "FAT013", dot_extra, renamed(D, "/SUB/Deep folder/FSCK0000.000")),
    Kind("folder with a length", "FAT043", folder_length),
    Kind("dot with a length", "FAT043", dot_length),
    Kind("second label", "FAT044", second_label),
    Kind("label in a folder", "FAT044", label_below),
    Kind("file as label", "FAT044", label_bit),
    Kind("folder as label", "FAT044", label_bit_folder),
    Kind("label with a cluster", "FAT044", label_with_cluster),
    Kind("label of bad letters", "FAT044", label_letters),
    Kind("no short name", "FAT044", case_bit),
    Kind("bits that mean nothing", "FAT044", attribute_bits),
    Kind("dates that cannot be", "FAT045", bad_dates),
    Kind("record behind the end", "FAT046", stale_copy),
    Kind("end amid a folder", "FAT046", end_amid, both(made("/FSCK0000.REC", B), gone(B))),
    Kind("invalid short name", "FAT014", bad_short, renamed(A, "/FSCK0000.000")),
    Kind("blank short name", "FAT014", bad_short_blank, renamed(A, "/FSCK0000.000")),
    Kind("invalid short name beside a long one", "FAT014", bad_short_of_long),
    Kind("short name twice", "FAT015", same_short, renamed(Z, "/A~1.TXT")),
    Kind(
        "short and long name twice",
        "FAT015",
        same_long,
        lambda files, _: files.update({"/z~2.Txt": b""}),
    ),
    Kind("short name changed", "FAT047", long_checksum),
    Kind("checksum of one part", "FAT047", long_checksum_part),
    Kind("long name without file", "FAT016", long_orphan),
    Kind(
        "long name of another file",
        "FAT016",
        long_stranger,
        lambda files, _: files.update({"/STRANGER.TXT": b""}),
    ),
    Kind("parts of a long name swapped", "FAT016", long_order, renamed(LONG, "/AFILEW~1.TXT")),
    Kind(
        "invalid long name",
        "FAT048",
        long_bad_letter,
        renamed(LONG, "/_ file with a long name.txt"),
    ),
    Kind("fields of a long-name record", "FAT049", long_fields),
]
CASES = [pytest.param(kind, bits, id=f"{kind.name}-{bits}") for kind in KINDS for bits in kind.bits]


def expected(kind: Kind, bits: int) -> Tree:
    """The tree that a repair should leave."""
    volume = Volume(sound(bits))
    files = tree(volume.device)
    size = volume.geometry.cluster_bytes
    kind.after(files, size)
    if kind.damage is garbage_folder:
        files["/FSCK0000.REC"] = files.pop(F).ljust(2 * size, b"\0")
        files["/OTHER"] = content("garbage", size)
    return files


@pytest.mark.parametrize(("kind", "bits"), CASES)
def test_damage_is_found_and_mended(kind: Kind, bits: int) -> None:
    """A kind of damage has its finding; a repair leaves none, the files it should, and is done."""
    volume = Volume(sound(bits))
    kind.damage(volume)
    assert kind.code in codes(volume.device)
    fat.repair(volume.device)
    assert codes(volume.device) == set()
    assert tree(volume.device) == expected(kind, bits)
    assert not fat.repair(volume.device).is_changed


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_sound_volume(bits: int) -> None:
    """A volume without damage has no finding, and a repair leaves it alone."""
    device = Volume(sound(bits)).device
    assert codes(device) == set()
    assert not fat.repair(device).is_changed
    assert bytes(device.data) == sound(bits)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_dry_run_writes_nothing(kind: Kind) -> None:
    """A dry run tells what a repair does, and leaves every byte."""
    volume = Volume(sound(kind.bits[0]))
    kind.damage(volume)
    before = bytes(volume.device.data)
    told = fat.repair(volume.device, dry_run=True)
    assert bytes(volume.device.data) == before
    assert told == fat.repair(volume.device)
    assert told.is_changed


@pytest.mark.interop
@pytest.mark.parametrize(("kind", "bits"), CASES)
def test_peer_finds_nothing(
    kind: Kind, bits: int, tmp_path: Path, peer: Callable[..., object]
) -> None:
    """fsck.fat has nothing to say about a repaired volume."""
    volume = Volume(sound(bits))
    kind.damage(volume)
    fat.repair(volume.device)
    image = tmp_path / "volume.img"
    image.write_bytes(volume.device.data)
    result = peer("fsck.fat", "-n", image)
    assert result.returncode == 0, result.stdout  # type: ignore[attr-defined]
    assert len(result.stdout.splitlines()) == 2, result.stdout  # type: ignore[attr-defined]
