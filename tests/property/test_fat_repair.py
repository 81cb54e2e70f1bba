"""Random damage to folder records and table entries: repair keeps what is sound, and is done."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ipva_storage import fat
from ipva_storage.fat import names, records, rejoining, samenames
from ipva_storage.fat.folder import pack_long
from ipva_storage.fat.geometry import Geometry
from ipva_storage.fat.rejoining import Short
from ipva_storage.testing import fat_machine
from tests.damage.fat_volumes import Volume, codes, entry, sound, sound_files, tree

CLUSTERS = 80
"""Those in which the tree of the volumes lies, and some free ones."""


def cluster(found: Geometry, number: int) -> int:
    """One of the clusters of the tree, or near it."""
    return 2 + number % CLUSTERS if number < 2 * CLUSTERS else number % (found.entry_count + 9)


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """What to do to a volume: the kind, where, and with what."""
    kind = st.sampled_from(["link", "link", "byte", "byte", "record", "start", "wipe"])
    number = st.integers(0, 4 * CLUSTERS)
    return draw(st.lists(st.tuples(kind, number, number), min_size=1, max_size=6))


def damage(volume: Volume, what: list[tuple[str, int, int]]) -> None:
    """Do it."""
    found = volume.geometry
    spots = [found.root_offset_bytes + 32 * index for index in range(12)]
    if found.root_cluster:
        spots = [found.cluster_offset_bytes(found.root_cluster) + 32 * index for index in range(12)]
    for path in ("/SUB", "/OTHER", "/SUB/Deep folder", "/SUB/Deep folder/Deeper"):
        spots += [volume.place(path) + 32 * index for index in range(10)]
    specials = [0, 1, volume.bad, volume.end, found.entry_count + 3]
    for kind, one, two in what:
        spot = spots[one % len(spots)]
        if kind == "link":
            value = specials[two % 5] if two % 3 else cluster(found, two)
            volume.link(min(cluster(found, one), found.entry_count - 1), value)
        elif kind == "byte":
            volume.put(spot + two % 32, bytes([two % 256 ^ 0x10]))
        elif kind == "record":
            volume.put(spot, bytes(volume.device.data[(at := spots[two % len(spots)]) : at + 32]))
        elif kind == "start":
            volume.put(spot + 26, cluster(found, two).to_bytes(2, "little"))
        else:
            volume.put(spot, bytes(32 * (1 + two % 3)))


@given(st.sampled_from([12, 16]), damages())
def test_repair_keeps_what_is_sound(bits: int, what: list[tuple[str, int, int]]) -> None:
    """Nothing of a file that the check calls sound changes, and nothing wrong is left."""
    volume = Volume(sound(bits))
    damage(volume, what)
    device = volume.device
    before = sound_files(device, volume.geometry)
    fat.repair(device)
    assert codes(device) == set()
    after = sound_files(device, volume.geometry)
    assert {key: after.get(key) for key in before} == before
    tree(device)
    content = bytes(device.data)
    assert not fat.repair(device).is_changed
    assert bytes(device.data) == content


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6)), max_size=8),
    st.dictionaries(st.integers(2, 40), st.integers(1, 6), max_size=8),
)
def test_rests_are_evident(files: list[tuple[int, int]], orphans: dict[int, int]) -> None:
    """A file gets a chain of the length it lacks, none is given twice, and none by a toss-up."""
    shorts = [Short(key, last, count) for key, (last, count) in enumerate(files)]
    found = rejoining.match(shorts, orphans)
    assert len(set(found.values())) == len(found)
    for key, head in found.items():
        last, count = files[key]
        assert orphans[head] == count
        rivals = [one for one in found if one != key and files[one][1] == count]
        if head != last + 1:
            left = [one for one in orphans if orphans[one] == count]
            near = sum(files[one][0] + 1 == found[one] for one in rivals)
            assert len(left) - near == 1


@given(st.lists(fat_machine.names(), max_size=12), st.lists(st.booleans(), min_size=24))
def test_same_names(many: list[str], shows: list[bool]) -> None:
    """Files that share a name are those that comparing every pair finds."""
    raw, keys = b"", []
    for index, name in enumerate(many):
        short = names.make_short(name, set())
        is_long = shows[index]
        raw += (pack_long(name, short) if is_long else b"") + entry(short)
        keys.append({samenames.short_key(short)} | ({names.fold(name)} if is_long else set()))
    parsed = records.parse(raw)
    at = np.flatnonzero(parsed.is_short)
    found = {later for later, _ in samenames.duplicates(parsed, at)}
    slow = {
        int(at[index])
        for index in range(len(keys))
        if any(keys[index] & keys[before] for before in range(index))
    }
    assert found == slow


def test_letters_of_two_cases() -> None:
    """No character outside the ranges that are looked at has another case."""
    cased = {unit for part in samenames._CASED for unit in part}
    assert not [
        unit for unit in range(1 << 16) if unit not in cased and names.fold(chr(unit)) != chr(unit)
    ]
