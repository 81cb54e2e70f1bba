"""A sparse VMDK: blocks written over grains that are there and grains that are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from ipva_storage import vmdk
from ipva_storage.device import read
from ipva_storage.sim.workloads.model import ModelWorkload
from ipva_storage.units import KIB, SECTOR_BYTES
from ipva_storage.vmdk.creation import new_sparse

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping, Sequence

    from ipva_storage.device import BlockDevice
    from ipva_storage.findings import Finding
    from ipva_storage.sim.explore import Step
    from ipva_storage.sim.workloads.model import Contents, Key

DISK_BYTES: Final = 160 * KIB
GRAIN_SECTORS: Final = 8
_LAST_SECTOR: Final = DISK_BYTES // SECTOR_BYTES - 1
_ZEROS: Final = bytes(SECTOR_BYTES)
GTES_PER_GT: Final = 16
"""Small tables, so that there are several of them. Confidence: chosen."""


class VmdkWorkload(ModelWorkload):
    """Write and flush. Contents: bytes by sector; sectors of zeros are left out.

    A disk promises less than a file: of the writes since the last flush each sector is old or new.
    """

    name: ClassVar[str] = "vmdk"
    size_bytes: ClassVar[int] = 0
    steps_usual: ClassVar[int] = 24

    def initial(self) -> Contents:
        """Some grains at the start."""
        return dict.fromkeys(range(40), b"first 512" * 56 + b"12345678")

    def plan(
        self, choice: random.Random, before: Contents
    ) -> tuple[Mapping[Key, bytes | None], Contents]:
        """Write some sectors in one to three runs."""
        changes: dict[Key, bytes | None] = {}
        for _ in range(choice.randint(1, 3)):
            count = choice.choice((1, 2, 8, 20))
            first = choice.randrange(DISK_BYTES // SECTOR_BYTES - count)
            changes |= {first + at: choice.randbytes(SECTOR_BYTES) for at in range(count)}
        return changes, {**before, **changes}

    def prepare(self, device: BlockDevice) -> None:
        """Make the disk and close it."""
        disk = new_sparse(
            device, "disk.vmdk", DISK_BYTES, grain_sectors=GRAIN_SECTORS, gtes_per_gt=GTES_PER_GT
        )
        for sector, data in self.initial().items():
            disk.write(_offset_bytes(sector), data or b"")
        disk.close()

    def steps(self) -> Sequence[Step]:
        """The script; some steps go on in the session of the one before."""
        self._disk: vmdk.VmdkDevice | None = None
        return super().steps()

    def run(self, device: BlockDevice, number: int) -> None:
        """Write the runs and flush; close the disk after every fourth step."""
        disk = self._disk or vmdk.open(device, writable=True)
        self._disk = disk
        for first, data in _runs(self.script[number]):
            disk.write(first * SECTOR_BYTES, data)
        disk.flush()
        if number % 4 == 3:
            disk.close()
            self._disk = None

    def contents(self, device: BlockDevice) -> Contents:
        """Every sector that is not all zero."""
        return _contents(vmdk.open(device))

    def findings(self, device: BlockDevice) -> Iterable[Finding]:
        """What `vmdk.check` says."""
        return vmdk.check(device)

    def compare(self, found: Contents, before: Contents, after: Contents) -> list[str]:
        """Each sector by itself is as before or as after."""
        wrong = [
            str(sector)
            for sector in sorted({*found, *before, *after}, key=_offset_bytes)
            if found.get(sector) not in (before.get(sector), after.get(sector))
        ]
        return [f"sectors {', '.join(wrong[:5])} are neither old nor new"] if wrong else []

    def go_on(self, device: BlockDevice) -> list[str]:
        """The disk can be written, closed and read; nothing else changes, nothing is wrong."""
        disk = vmdk.open(device, writable=True)
        expected: Contents = {
            **_contents(disk),
            _LAST_SECTOR: b"after the cut...".ljust(SECTOR_BYTES, b"."),
        }
        disk.write(_offset_bytes(_LAST_SECTOR), expected[_LAST_SECTOR] or b"")
        disk.close()
        problems = [
            f"after another write the check says {finding.code}: {finding.message}"
            for finding in vmdk.check(device)
            if finding.severity == "error"
        ]
        if _contents(vmdk.open(device)) != expected:
            problems.append("a write after the cut changes other sectors")
        return problems


def _contents(disk: vmdk.VmdkDevice) -> Contents:
    data = read(disk, 0, disk.size_bytes)
    sectors = (data[at : at + SECTOR_BYTES] for at in range(0, len(data), SECTOR_BYTES))
    return {number: content for number, content in enumerate(sectors) if content != _ZEROS}


def _runs(changes: Mapping[Key, bytes | None]) -> list[tuple[int, bytes]]:
    """Neighbouring sectors joined, in the order of the script."""
    runs: list[tuple[int, bytes]] = []
    for key, data in changes.items():
        sector = _offset_bytes(key) // SECTOR_BYTES
        if runs and runs[-1][0] + len(runs[-1][1]) // SECTOR_BYTES == sector:
            runs[-1] = (runs[-1][0], runs[-1][1] + (data or b""))
        else:
            runs.append((sector, data or b""))
    return runs


def _offset_bytes(key: Key) -> int:
    assert isinstance(key, int)
    return key * SECTOR_BYTES
