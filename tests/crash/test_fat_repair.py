"""The power goes at every write of a repair's commit: another repair comes to the same end."""

from __future__ import annotations

from typing import Any

import pytest

from ipva_storage import fat
from ipva_storage.device import MemoryDevice
from tests.damage import fat_damage
from tests.damage.fat_volumes import Damage, Volume, codes, sound, tree

DAMAGES = [
    fat_damage.to_free,
    fat_damage.to_bad,
    fat_damage.ring_amid,
    fat_damage.too_short,
    fat_damage.too_long,
    fat_damage.start_outside,
    fat_damage.shared_tail,
    fat_damage.shared_start,
    fat_damage.orphan,
    fat_damage.deleted_record,
    fat_damage.lost_folder,
    fat_damage.deleted_folder,
    fat_damage.folder_start_outside,
    fat_damage.folder_in_itself,
    fat_damage.folder_twice,
    fat_damage.sector_wiped,
    fat_damage.dot_taken,
    fat_damage.end_amid,
    fat_damage.same_long,
    fat_damage.long_bad_letter,
]


class Recorder(MemoryDevice):
    """A device that remembers what is written, and in which order."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.writes: list[tuple[int, bytes]] = []

    def write(self, offset_bytes: int, data: Any, /) -> None:
        """Write, and remember it."""
        self.writes.append((offset_bytes, bytes(data)))
        super().write(offset_bytes, data)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_power_cut_in_a_repair(damage: Damage) -> None:
    """Whatever of a repair reached the medium, all is there that is after a whole one."""
    volume = Volume(sound(12))
    damage(volume)
    damaged = bytes(volume.device.data)
    whole = Recorder(damaged)
    fat.repair(whole)
    expected = sorted(data.rstrip(b"\0") for data in tree(whole).values() if data)
    assert whole.writes
    for count in range(len(whole.writes)):
        device = MemoryDevice(damaged)
        for at, data in whole.writes[:count]:
            device.write(at, data)
        fat.repair(device)
        assert codes(device) == set()
        found = sorted(data.rstrip(b"\0") for data in tree(device).values() if data)
        assert found == expected, f"cut after {count} of {len(whole.writes)} writes"
