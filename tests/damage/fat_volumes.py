"""Small FAT volumes with a tree of files, ways to damage them, and what is left on them."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from functools import cache

import numpy as np
import pytest

from ipva_storage import fat
from ipva_storage.device import BlockDevice, MemoryDevice, read
from ipva_storage.fat import chains, copies, geometry, judging
from ipva_storage.fat.folder import pack_entry
from ipva_storage.fat.repairing.folders import surveyed
from ipva_storage.fat.table import FatTable
from ipva_storage.units import KIB, MIB

Tree = dict[str, bytes]
"""The files by path; a folder that is empty has a path that ends in a slash."""

SHAPES = {12: (MIB, 512), 16: (5 * MIB, KIB), 32: (34 * MIB, 512)}
"""Length of the volume and of a cluster, by the kind of FAT."""
ENDS = {12: 0xFFF, 16: 0xFFFF, 32: 0x0FFFFFFF}
BADS = {12: 0xFF7, 16: 0xFFF7, 32: 0x0FFFFFF7}
MOMENT = datetime(2024, 5, 6, 7, 8, 10)

SIZES = {
    "/A.TXT": 2.5,
    "/A file with a long name.txt": 3.0,
    "/EMPTY": 0.0,
    "/SUB/B.TXT": 0.4,
    "/SUB/Second long name.dat": 6.2,
    "/SUB/Deep folder/C.BIN": 4.0,
    "/SUB/Deep folder/D.TXT": 1.0,
    "/SUB/Deep folder/Deeper/E.TXT": 2.0,
    "/OTHER/F.TXT": 1.5,
    "/Z.TXT": 0.1,
}
"""The files, with their lengths in clusters."""


class Volume:
    """A volume in memory that can be damaged."""

    def __init__(self, content: bytes) -> None:
        self.device = MemoryDevice(content)
        self.geometry = geometry.parse(self.device)
        survey = surveyed(self.device, self.geometry, FatTable(self.device, self.geometry))
        self._records = {owner.path: owner.offset_bytes for owner in survey.owners}

    @property
    def end(self) -> int:
        """The entry of a chain's last cluster."""
        return ENDS[self.geometry.fat_bits]

    @property
    def bad(self) -> int:
        """The entry of a bad cluster."""
        return BADS[self.geometry.fat_bits]

    def chain(self, path: str) -> list[int]:
        """The clusters of a file or folder."""
        table = FatTable(self.device, self.geometry)
        return table.follow(fat.open(self.device).stat(path).first_cluster)[0]

    def link(self, cluster: int, value: int) -> None:
        """Change an entry in every copy of the table."""
        table = FatTable(self.device, self.geometry)
        table.put(cluster, value)
        table.write()

    def record(self, path: str) -> int:
        """Where the short record of a file or folder is, in bytes."""
        return self._records[path]

    def put(self, offset_bytes: int, data: bytes) -> None:
        """Overwrite bytes."""
        self.device.data[offset_bytes : offset_bytes + len(data)] = data

    def patch(self, path: str, at: int, data: bytes) -> None:
        """Overwrite bytes of the short record of a file or folder."""
        self.put(self.record(path) + at, data)

    def start(self, path: str, cluster: int) -> None:
        """Let a file or folder start elsewhere."""
        self.patch(path, 20, (cluster >> 16).to_bytes(2, "little"))
        self.patch(path, 26, (cluster & 0xFFFF).to_bytes(2, "little"))

    def place(self, path: str, index: int = 0) -> int:
        """Where a cluster of a file or folder is, in bytes."""
        return self.geometry.cluster_offset_bytes(self.chain(path)[index])

    def free_record(self, path: str = "") -> int:
        """Where the first record behind the end of a folder is, in bytes; of the root if none."""
        root = self.geometry.root_cluster
        at = self.geometry.cluster_offset_bytes(root) if root else self.geometry.root_offset_bytes
        at = self.place(path) if path else at
        while self.device.data[at]:
            at += 32
        return at


def content(path: str, length_bytes: int) -> bytes:
    """What a file holds: no zeros, and not like any other."""
    rng = random.Random(path)
    return bytes(rng.randrange(1, 256) for _ in range(length_bytes))


@cache
def sound(bits: int) -> bytes:
    """A volume without any finding."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1700000000")
        size_bytes, cluster_bytes = SHAPES[bits]
        device = MemoryDevice(size_bytes)
        fat.format(device, fat_bits=bits, cluster_bytes=cluster_bytes, label="GOOD", volume_id=1)
        with fat.open(device) as volume:
            for path, clusters in SIZES.items():
                volume.mkdir(path.rpartition("/")[0], parents=True)
                volume.write(path, content(path, int(clusters * cluster_bytes)))
            volume.mkdir("/HOLLOW")
    return bytes(device.data)


def tree(device: MemoryDevice) -> Tree:
    """All that can be reached."""
    volume = fat.open(device)
    found = {}
    for path, entry in volume.walk():
        if not entry.is_dir:
            found[path] = volume.read(path)
        elif not volume.list(path):
            found[path + "/"] = b""
    return found


Sound = dict[tuple[int, int], tuple[list[int], bytes]]
"""Chain and bytes of files, by first cluster and length."""


def sound_files(device: BlockDevice, found: geometry.Geometry) -> Sound:
    """The files whose chains have no fault."""
    table = FatTable(device, found, copy=copies.best_copy(device, found))
    survey = surveyed(device, found, table)
    owners = judging.owners_of(survey)
    good = ~judging.suspects(owners, chains.analyse(table.values, owners.start, found.fat_bits))
    result = {}
    for index in np.flatnonzero(good & ~owners.is_dir).tolist():
        start = int(owners.start[index])
        chain, _ = table.follow(start)
        size = int(survey.entries["content_bytes"][int(owners.entry[index])])
        if max(chain) < table.limit:
            data = b"".join(
                read(device, found.cluster_offset_bytes(one), found.cluster_bytes) for one in chain
            )
            result[start, size] = (chain, data)
    return result


def codes(device: MemoryDevice) -> set[str]:
    """Codes of what is wrong, without what is for information."""
    return {one.code for one in fat.check(device) if one.severity != "info"}


def entry(name: bytes, *, attributes: int = 0x20, cluster: int = 0, length: int = 0) -> bytes:
    """A short record."""
    return pack_entry(
        name,
        attributes=attributes,
        created=MOMENT,
        modified=MOMENT,
        cluster=cluster,
        content_bytes=length,
    )


Damage = Callable[[Volume], None]
