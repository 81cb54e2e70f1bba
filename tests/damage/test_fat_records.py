"""Damage to folder records and chains is found and mended, and what survives is the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ipva_storage import fat
from tests.damage import fat_damage as d
from tests.damage.fat_damage import LONG, SECOND, A, B, C, D, F, Z
from tests.damage.fat_volumes import Damage, Tree, Volume, codes, content, sound, tree

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


def filled(files: Tree, _: int) -> None:
    """All that was free is in a file."""
    free_bytes = fat.open(Volume(sound(12)).device).free_bytes
    files["/FILL"] = content("/FILL", free_bytes)


KINDS = [
    Kind("chain to a free cluster", "FAT006", d.to_free),
    Kind("chain to a free cluster, FAT12", "FAT006", d.to_free, bits=(12,)),
    Kind("end of a chain wiped", "FAT006", d.to_free_end),
    Kind("chain to a bad cluster", "FAT006", d.to_bad),
    Kind("chain to the outside", "FAT006", d.to_outside),
    Kind("chain to cluster 1", "FAT006", d.to_one),
    Kind("ring", "FAT009", d.ring),
    Kind("ring, FAT12", "FAT009", d.ring, bits=(12,)),
    Kind("ring amid a chain", "FAT009", d.ring_amid),
    Kind("ring of one", "FAT009", d.ring_of_one),
    Kind("ring of a folder", "FAT009", d.folder_ring),
    Kind("chain too short", "FAT007", d.too_short),
    Kind("chain too short, rest free", "FAT007", d.too_short_freed, cut(SECOND, 2)),
    Kind(
        "chain too long",
        "FAT008",
        d.too_long,
        both(
            made("/FSCK0000.REC", SECOND, 1),
            lambda files, _: files.update({SECOND: files[SECOND][:10]}),
        ),
    ),
    Kind("chain too long by zeros", "FAT008", d.too_long_zero),
    Kind("length lost", "FAT008", d.length_lost, both(made("/FSCK0000.REC", C), cut(C, 0))),
    Kind("length beyond the volume", "FAT007", d.length_huge),
    Kind("no first cluster", "FAT012", d.start_zero),
    Kind("start in a free cluster", "FAT012", d.start_free),
    Kind("start in a bad cluster", "FAT012", d.start_bad),
    Kind("start outside", "FAT012", d.start_outside),
    Kind("all entries of a file wiped", "FAT012", d.start_wiped),
    Kind("start of another file", "FAT010", d.shared_start),
    Kind(
        "tail of another file",
        "FAT010",
        d.shared_tail,
        lambda files, size: files.update(
            {SECOND: files[SECOND][: 3 * size] + files[C][: len(files[SECOND]) - 3 * size]}
        ),
    ),
    Kind(
        "chain of another file, no room",
        "FAT010",
        d.shared_without_room,
        both(filled, cut(A, 0)),
        bits=(12,),
    ),
    Kind("three files in one chain", "FAT010", d.three_share),
    Kind("file in a folder's cluster", "FAT010", d.file_in_folder),
    Kind("file without record", "FAT011", d.orphan, both(made("/FSCK0000.REC", A), gone(A))),
    Kind("lost zeros", "FAT011", d.orphan_zeros),
    Kind("lost ring", "FAT011", d.orphan_ring, both(made("/FSCK0000.REC", A), gone(A))),
    Kind(
        "lost chain into a file",
        "FAT011",
        d.orphan_into_file,
        both(made("/FSCK0000.REC", A), gone(A)),
    ),
    Kind("record marked free", "FAT011", d.deleted_record),
    Kind("folder without record", "FAT050", d.lost_folder, renamed("/SUB", "/FSCK0000")),
    Kind("folder's record marked free", "FAT050", d.deleted_folder),
    Kind("folder without first cluster", "FAT012", d.folder_start_zero),
    Kind("folder starts outside", "FAT012", d.folder_start_outside),
    Kind("folder's entry free", "FAT012", d.folder_entry_free),
    Kind("folder's cluster marked bad", "FAT012", d.folder_entry_bad),
    Kind("folder that is nowhere", "FAT012", d.folder_gone, gone("/HOLLOW/")),
    Kind(
        "folder in itself",
        "FAT040",
        d.folder_in_itself,
        both(made("/FSCK0000.REC", F), gone(F), lambda files, _: files.update({"/OTHER/": b""})),
    ),
    Kind("folder in one it is in", "FAT040", d.folder_in_ancestor),
    Kind("folder in two places", "FAT041", d.folder_twice),
    Kind("folder that is none", "FAT042", d.garbage_folder),
    Kind("both dots wiped", "FAT013", d.dots_wiped),
    Kind(
        "start of a folder wiped", "FAT013", d.sector_wiped, both(made("/FSCK0000.REC", B), gone(B))
    ),
    Kind("dot elsewhere", "FAT013", d.dot_wrong),
    Kind("dot dot elsewhere", "FAT013", d.dot_dot_wrong),
    Kind("dot with a name", "FAT013", d.dot_renamed),
    Kind("dot dot a file", "FAT013", d.dot_no_folder),
    Kind("file in the place of dot", "FAT013", d.dot_taken),
    Kind("dot in the root", "FAT013", d.dot_in_root),
    Kind("file called dot dot", "FAT013", d.dot_extra, renamed(D, "/SUB/Deep folder/FSCK0000.000")),
    Kind("folder with a length", "FAT043", d.folder_length),
    Kind("dot with a length", "FAT043", d.dot_length),
    Kind("second label", "FAT044", d.second_label),
    Kind("label in a folder", "FAT044", d.label_below),
    Kind("file as label", "FAT044", d.label_bit),
    Kind("folder as label", "FAT044", d.label_bit_folder),
    Kind("label with a cluster", "FAT044", d.label_with_cluster),
    Kind("label of bad letters", "FAT044", d.label_letters),
    Kind("no short name", "FAT044", d.case_bit),
    Kind("bits that mean nothing", "FAT044", d.attribute_bits),
    Kind("dates that cannot be", "FAT045", d.bad_dates),
    Kind("record behind the end", "FAT046", d.stale_copy),
    Kind("end amid a folder", "FAT046", d.end_amid, both(made("/FSCK0000.REC", B), gone(B))),
    Kind("invalid short name", "FAT014", d.bad_short, renamed(A, "/FSCK0000.000")),
    Kind("blank short name", "FAT014", d.bad_short_blank, renamed(A, "/FSCK0000.000")),
    Kind("invalid short name beside a long one", "FAT014", d.bad_short_of_long),
    Kind("short name twice", "FAT015", d.same_short, renamed(Z, "/A~1.TXT")),
    Kind(
        "short and long name twice",
        "FAT015",
        d.same_long,
        lambda files, _: files.update({"/z~2.Txt": b""}),
    ),
    Kind("short name changed", "FAT047", d.long_checksum),
    Kind("checksum of one part", "FAT047", d.long_checksum_part),
    Kind("long name without file", "FAT016", d.long_orphan),
    Kind(
        "long name of another file",
        "FAT016",
        d.long_stranger,
        lambda files, _: files.update({"/STRANGER.TXT": b""}),
    ),
    Kind("parts of a long name swapped", "FAT016", d.long_order, renamed(LONG, "/AFILEW~1.TXT")),
    Kind(
        "invalid long name",
        "FAT048",
        d.long_bad_letter,
        renamed(LONG, "/_ file with a long name.txt"),
    ),
    Kind("fields of a long-name record", "FAT049", d.long_fields),
]
CASES = [pytest.param(kind, bits, id=f"{kind.name}-{bits}") for kind in KINDS for bits in kind.bits]


def expected(kind: Kind, bits: int) -> Tree:
    """The tree that a repair should leave."""
    volume = Volume(sound(bits))
    files = tree(volume.device)
    size = volume.geometry.cluster_bytes
    kind.after(files, size)
    if kind.damage is d.garbage_folder:
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
    kind: Kind, bits: int, tmp_path: Path, peer: Callable[..., Any]
) -> None:
    """fsck.fat has nothing to say about a repaired volume."""
    volume = Volume(sound(bits))
    kind.damage(volume)
    fat.repair(volume.device)
    image = tmp_path / "volume.img"
    image.write_bytes(volume.device.data)
    result = peer("fsck.fat", "-n", image)
    assert result.returncode == 0, result.stdout
    assert len(result.stdout.splitlines()) == 2, result.stdout
