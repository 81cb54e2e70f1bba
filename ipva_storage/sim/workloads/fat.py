"""Files: written, replaced and deleted in folders that come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from ipva_storage import fat
from ipva_storage.sim.clock import START
from ipva_storage.sim.workloads.model import ModelWorkload
from ipva_storage.units import KIB

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping

    from ipva_storage.device import BlockDevice
    from ipva_storage.findings import Finding
    from ipva_storage.sim.workloads.model import Contents, Key

FOLDERS: Final = ("/logs", "/a folder with a rather long name", "/logs/older")
NAMES: Final = ("CONFIG.TXT", "a file with a long name, as phones upload them.cfg", "ü.bin", "x")
CLUSTER_BYTES: Final = 1 * KIB
"""Small clusters make chains of some length. Confidence: chosen."""


class FatWorkload(ModelWorkload):
    """Write, replace, delete and mkdir on a FAT12 volume. Contents: bytes by path."""

    name: ClassVar[str] = "fat"
    size_bytes: ClassVar[int] = 256 * KIB
    steps_usual: ClassVar[int] = 24

    fat_bits: ClassVar[int] = 12

    def initial(self) -> Contents:
        """Files that no step before the last changes, and a folder."""
        return {
            "/ipva.bin": bytes(range(256)) * 21,
            "/HTTP": None,
            "/HTTP/index.htm": b"<html>" * 100,
        }

    def plan(
        self, choice: random.Random, before: Contents
    ) -> tuple[Mapping[Key, bytes | None], Contents]:
        """Write, replace or delete a file; make or delete a folder."""
        files = [str(key) for key, value in before.items() if value is not None]
        empty = [str(key) for key in before if key in FOLDERS and _is_empty(str(key), before)]
        absent = [
            each for each in FOLDERS if each not in before and _folder(each) in {*before, "/"}
        ]
        if absent and choice.random() < 0.3:
            path = choice.choice(absent)
            return {path + "/": b""}, {**before, path: None}
        gone = [each for each in files if each != "/ipva.bin"] + empty
        if gone and choice.random() < 0.3:
            path = choice.choice(gone)
            return {path: None}, {key: value for key, value in before.items() if key != path}
        folders = ["", *(str(key) for key, value in before.items() if value is None)]
        path = f"{choice.choice(folders)}/{choice.choice(NAMES)}"
        length = choice.choice((0, 1, CLUSTER_BYTES, choice.randrange(8 * CLUSTER_BYTES)))
        data = choice.randbytes(length)
        return {path: data}, {**before, path: data}

    def prepare(self, device: BlockDevice) -> None:
        """Format the volume and put the first files in."""
        fat.format(device, fat_bits=self.fat_bits, cluster_bytes=CLUSTER_BYTES, volume_id=1)
        with fat.open(device) as volume:
            for path, data in self.initial().items():
                if data is None:
                    volume.mkdir(str(path))
                else:
                    volume.write(str(path), data, modified=START)

    def run(self, device: BlockDevice, number: int) -> None:
        """Open the volume, change it, close it."""
        with fat.open(device) as volume:
            for key, data in self.script[number].items():
                path = str(key)
                if data is None:
                    volume.delete(path)
                elif path.endswith("/"):
                    volume.mkdir(path.rstrip("/"))
                else:
                    volume.write(path, data, modified=START)

    def contents(self, device: BlockDevice) -> Contents:
        """Every file and folder."""
        return _contents(fat.open(device))

    def findings(self, device: BlockDevice) -> Iterable[Finding]:
        """What `fat.check` says; lost clusters and a wrong summary are no errors."""
        return fat.check(device)

    def go_on(self, device: BlockDevice) -> list[str]:
        """Another file can be written and everything else stays; the check finds no error."""
        with fat.open(device) as volume:
            before = _contents(volume)
            volume.write("/after the cut.txt", b"works" * 500, modified=START)
        expected = {**before, "/after the cut.txt": b"works" * 500}
        if _contents(fat.open(device)) != expected:
            return ["a file written after the cut changes others"]
        return [
            f"after another file the check says {finding.code}: {finding.message}"
            for finding in fat.check(device)
            if finding.severity == "error"
        ]


def _contents(volume: fat.FatVolume) -> Contents:
    return {path: None if entry.is_dir else volume.read(path) for path, entry in volume.walk()}


def _folder(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _is_empty(path: str, contents: Contents) -> bool:
    return not any(str(key).startswith(path + "/") for key in contents)
