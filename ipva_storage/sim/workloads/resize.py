"""A sparse VMDK in one file: written to, made larger and smaller, and compact again."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from ipva_storage import vmdk
from ipva_storage.device import Folder, TraceDevice, read
from ipva_storage.sim.workloads.model import ModelWorkload, difference
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.creation import new_sparse

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping

    from ipva_storage.device import BlockDevice
    from ipva_storage.findings import Finding
    from ipva_storage.sim.workloads.model import Contents, Key

NAME: Final = "disk.vmdk"
GRAIN_SECTORS: Final = 8
GTES_PER_GT: Final = 4
"""Small tables, so that a larger disk needs more of them. Confidence: chosen."""

SIZES_SECTORS: Final = range(60, 300)
"""The sizes that the disk gets, with and without a cut grain at the end. Confidence: chosen."""

_ZEROS: Final = bytes(SECTOR_BYTES)
SIZE: Final = "size"
COMPACT: Final = "compact"


class ResizeWorkload(ModelWorkload):
    """Write, resize, compact. Contents: bytes by sector, without those of zeros, and the size.

    A resize is there whole or not at all; of a write each sector is old or new.
    """

    name: ClassVar[str] = "resize"
    size_bytes: ClassVar[int] = 0
    steps_usual: ClassVar[int] = 12

    def initial(self) -> Contents:
        """Some grains at the start, and one that the end cuts."""
        sectors: Contents = dict.fromkeys((*range(20), 99), b"first 512" * 56 + b"12345678")
        return {**sectors, SIZE: b"100"}

    def plan(
        self, choice: random.Random, before: Contents
    ) -> tuple[Mapping[Key, bytes | None], Contents]:
        """Write a run or zeros, change the size, or compact."""
        size_sectors = int(before[SIZE] or b"")
        kind = choice.choice(("write", "zeros", SIZE, SIZE, COMPACT))
        if kind == COMPACT:
            return {COMPACT: b""}, before
        if kind == SIZE:
            return _planned_size(before, choice.choice(SIZES_SECTORS))
        count = choice.choice((1, 8, 24))
        first = choice.randrange(size_sectors - count)
        data = [choice.randbytes(SECTOR_BYTES) if kind == "write" else None for _ in range(count)]
        changes: dict[Key, bytes | None] = {first + at: each for at, each in enumerate(data)}
        return changes, _without_none({**before, **changes})

    def prepare(self, device: BlockDevice) -> None:
        """Make the disk and close it."""
        start = self.initial()
        size_bytes = int(start.pop(SIZE) or b"") * SECTOR_BYTES
        disk = new_sparse(
            device, NAME, size_bytes, grain_sectors=GRAIN_SECTORS, gtes_per_gt=GTES_PER_GT
        )
        for sector, data in start.items():
            disk.write(_offset_bytes(sector), data or b"")
        disk.close()

    def run(self, device: BlockDevice, number: int) -> None:
        """Do what the script says."""
        changes = self.script[number]
        size_sectors = changes.get(SIZE)
        if COMPACT in changes:
            vmdk.compact(_OneFile(device), NAME)
        elif size_sectors is not None:
            size_bytes = int(size_sectors) * SECTOR_BYTES
            vmdk.resize(_OneFile(device), NAME, size_bytes, allow_loss=True)
        else:
            with vmdk.open(_OneFile(device).open(NAME), writable=True) as disk:
                for sector, data in changes.items():
                    disk.write(_offset_bytes(sector), data or _ZEROS)

    def contents(self, device: BlockDevice) -> Contents:
        """Every sector that is not all zero, and how many there are."""
        disk = vmdk.open(_OneFile(device).open(NAME))
        data = read(disk, 0, disk.size_bytes)
        sectors = (data[at : at + SECTOR_BYTES] for at in range(0, len(data), SECTOR_BYTES))
        found: Contents = {at: content for at, content in enumerate(sectors) if content != _ZEROS}
        return {**found, SIZE: str(len(data) // SECTOR_BYTES).encode()}

    def findings(self, device: BlockDevice) -> Iterable[Finding]:
        """What `vmdk.check` says."""
        return vmdk.check(device)

    def compare(self, found: Contents, before: Contents, after: Contents) -> list[str]:
        """A change of size is there or not; otherwise each sector is as before or as after."""
        if before[SIZE] != after[SIZE]:
            return super().compare(found, before, after)
        keys = {*found, *before, *after}
        if all(found.get(key) in (before.get(key), after.get(key)) for key in keys):
            return []
        return [f"some sectors are neither old nor new ({difference(found, after)})"]

    def go_on(self, device: BlockDevice) -> list[str]:
        """The disk can be compacted, made longer, and written to; nothing else changes."""
        expected = self.contents(device)
        size_sectors = int(expected[SIZE] or b"") + GRAIN_SECTORS * GTES_PER_GT
        vmdk.compact(_OneFile(device), NAME)
        vmdk.resize(_OneFile(device), NAME, size_sectors * SECTOR_BYTES)
        with vmdk.open(_OneFile(device).open(NAME), writable=True) as disk:
            disk.write(disk.size_bytes - SECTOR_BYTES, b"after the cut..." * 32)
        expected |= {size_sectors - 1: b"after the cut..." * 32, SIZE: str(size_sectors).encode()}
        problems = [
            f"after more work the check says {finding.code}: {finding.message}"
            for finding in vmdk.check(device)
            if finding.severity != "info"
        ]
        if self.contents(device) != expected:
            problems.append("more work after the cut changes other sectors")
        return problems


class _Kept(TraceDevice):
    """A device that stays open when it is closed."""

    def close(self) -> None:
        """Nothing."""


class _OneFile(Folder):
    """A folder with a disk of one file in it, which is a given device."""

    def __init__(self, device: BlockDevice) -> None:
        super().__init__("memory")
        self._device = device

    def names(self) -> list[str]:
        """The disk."""
        return [NAME]

    def open(self, name: str, *, writable: bool = False) -> TraceDevice:
        """The device, whatever the name."""
        del name, writable
        return _Kept(self._device)


def _planned_size(
    before: Contents, size_sectors: int
) -> tuple[Mapping[Key, bytes | None], Contents]:
    gone: dict[Key, bytes | None] = {
        key: None for key in before if isinstance(key, int) and key >= size_sectors
    }
    changes = {**gone, SIZE: str(size_sectors).encode()}
    return changes, _without_none({**before, **changes})


def _without_none(contents: Contents) -> Contents:
    return {key: value for key, value in contents.items() if value is not None}


def _offset_bytes(key: Key) -> int:
    assert isinstance(key, int)
    return key * SECTOR_BYTES
