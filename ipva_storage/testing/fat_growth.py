"""Work on volumes for the crash explorer: growing them, and putting their files in one piece.

The promise: after a cut at any point every file and folder is there, byte for byte; the check finds
nothing that could lose one; and the same work again gets through.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipva_storage import fat
from ipva_storage.device import OverlayDevice, SliceDevice
from ipva_storage.sim.explore import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ipva_storage.device import BlockDevice

HARMLESS: Final = frozenset({"FAT003", "FAT005", "FAT011", "FAT018", "FAT050"})
"""Backup and copies that differ, lost clusters, an outdated summary: what a cut may leave."""
LEFT: Final = frozenset({"FAT011", "FAT050"})
"""What the same work after a cut does not take away: clusters that belong to no file."""
LABEL: Final = "KEPT"

Contents = dict[str, "bytes | None"]


def fill(device: BlockDevice, *, file_count: int, is_full: bool, seed: int = 1) -> None:
    """Put files into folders of some levels, in pieces and with gaps, up to the last cluster.

    Args:
        device: a volume that was just made.
        file_count: about how many.
        is_full: leave no room but for a folder or two.
        seed: of what is in them.
    """
    rng = random.Random(seed)
    with fat.open(device) as volume:
        folders, paths = [""], []
        with volume.batch():
            for number in range(file_count // 5 + 1):
                path = f"{rng.choice(folders)}/Folder with a long name {number}"
                volume.mkdir(path)
                folders.append(path)
            for number in range(file_count):
                paths.append(f"{rng.choice(folders)}/File {number} of some.bin")
                volume.write(paths[-1], rng.randbytes(rng.choice((0, 1, 700, 3000, 9000))))
        for path in rng.sample(paths, file_count // 4):
            volume.delete(path)
        with volume.batch():
            for number in range(file_count // 6):
                path = f"{rng.choice(folders)}/LATE{number}.BIN"
                volume.write(path, rng.randbytes(rng.randrange(12_000)))
        if is_full and volume.free_bytes:
            volume.write("/Filler", rng.randbytes(volume.free_bytes))


def contents(device: BlockDevice) -> Contents:
    """Every file and folder of a volume."""
    volume = fat.open(device)
    return {path: None if entry.is_dir else volume.read(path) for path, entry in volume.walk()}


def codes(device: BlockDevice) -> set[str]:
    """The codes of what the check finds."""
    return {finding.code for finding in fat.check(device)}


@dataclass
class VolumeWork:
    """One change of a volume as a whole."""

    name: str
    before_bytes: int
    """Length of the volume."""
    size_bytes: int
    """Length of the device."""
    change: Callable[[BlockDevice], object]
    fat_bits: int | None = None
    cluster_bytes: int | None = None
    file_count: int = 12
    is_full: bool = False
    fat_count: int = 2

    def prepare(self, device: BlockDevice) -> None:
        """Make the volume at the start of the device."""
        part = SliceDevice(device, 0, self.before_bytes)
        fat.format(
            part, fat_bits=self.fat_bits, cluster_bytes=self.cluster_bytes, label=LABEL,
            volume_id=7, fat_count=self.fat_count,
        )  # fmt: skip
        fill(part, file_count=self.file_count, is_full=self.is_full)
        self._expected = contents(part)

    def steps(self) -> Sequence[Step]:
        """The change."""

        def run(device: BlockDevice) -> None:
            self.change(device)

        return [Step(self.name, run)]

    def verify(self, device: BlockDevice, acknowledged_step_count: int) -> list[str]:
        """Look at a state, then do the same again."""
        found = [*self._differences(device, "after the cut")]
        wrong = codes(device) - (frozenset() if acknowledged_step_count else HARMLESS)
        if wrong:
            found.append(f"the check finds {sorted(wrong)}")
        again = OverlayDevice(device)
        self.change(again)
        found += self._differences(again, "when done again")
        wrong = codes(again) - LEFT
        if wrong:
            found.append(f"when done again the check finds {sorted(wrong)}")
        return found

    def _differences(self, device: BlockDevice, when: str) -> list[str]:
        now: Mapping[str, bytes | None] = contents(device)
        kept = self._expected
        lost = [path for path in kept if path not in now]
        changed = [path for path, data in now.items() if kept.get(path, b"?") != data]
        volume = fat.open(device)
        wrong = [] if volume.label == LABEL else [f"{when} the label is {volume.label}"]
        wrong += [f"{when} {path} is gone" for path in lost]
        return wrong + [f"{when} {path} has another content" for path in changed]
