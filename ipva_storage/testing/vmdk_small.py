"""Small VMDK disks in memory, so that every state of a job on them can be visited.

Grains of 4 KiB, four in a table, eight in a file of a split disk: a disk of a few grains has
several tables and files. `SMALL` holds the numbers that are to be put in the place of the usual
ones meanwhile; `shrink_geometry` does that with pytest's `monkeypatch`.
"""

from __future__ import annotations

import random
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipva_storage import vmdk
from ipva_storage.device import Folder, MemoryDevice
from ipva_storage.sim.files import MemoryFolder
from ipva_storage.testing.vmdk_crash import CommitJob, DiskJob, content_of
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.access import read_descriptor
from ipva_storage.vmdk.creation import new_sparse
from ipva_storage.vmdk.extent.header import read_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pytest

    from ipva_storage.device import BlockDevice

    Writes = Iterable[tuple[int, bytes]]
    Files = dict[str, bytes]

GRAIN_BYTES: Final = 4096
SPLIT_BYTES: Final = 8 * GRAIN_BYTES
SIZE_BYTES: Final = 18 * GRAIN_BYTES + 512
"""Size of the disks that are made here unless another is given."""
SMALL: Final = {
    "ipva_storage.vmdk.creation": {"GRAIN_SECTORS": 8, "GTES_PER_GT": 4, "SPLIT_SECTORS": 64},
    "ipva_storage.vmdk.resize_plan": {"SPLIT_SECTORS": 64},
    "ipva_storage.vmdk.repairing.header": {"GRAIN_SECTORS": 8, "GTES_PER_GT": 4},
    "ipva_storage.vmdk.compaction": {"HOLE_BYTES": GRAIN_BYTES},
}


def shrink_geometry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `create`, `resize` and `snapshot` make small things until the test ends."""
    # All of them before any is shrunk: one takes its numbers from another, and would keep them.
    modules = [import_module(name) for name in SMALL]
    for module, values in zip(modules, SMALL.values(), strict=True):
        for key, value in values.items():
            monkeypatch.setattr(module, key, value)
    for key, value in {"grain_sectors": 8, "gtes_per_gt": 4}.items():
        monkeypatch.setitem(new_sparse.__kwdefaults__ or {}, key, value)


def noise(length_bytes: int, seed: int = 0) -> bytes:
    """Bytes that tell every place from every other."""
    return random.Random(seed).randbytes(length_bytes)


def disk_files(
    subformat: str, size_bytes: int, writes: Writes = (), *, name: str = "disk.vmdk"
) -> Files:
    """A new disk of any kind that is written to, and its files."""

    def fill(disk: BlockDevice) -> None:
        for offset_bytes, data in writes:
            disk.write(offset_bytes, data)

    is_stream = subformat == "streamOptimized"
    with tempfile.TemporaryDirectory() as place:
        vmdk.create(
            Folder(place), name, size_bytes, subformat=subformat, fill=fill if is_stream else None
        )
        files = {path.name: path.read_bytes() for path in Path(place).iterdir()}
    return files if is_stream else written(files, writes, name=name)


def written(files: Mapping[str, bytes], writes: Writes, *, name: str = "disk.vmdk") -> Files:
    """The files after some writes to a disk in them."""
    folder = MemoryFolder(files)
    with vmdk.open(folder.open(name, writable=True), folder, writable=True) as disk:
        for offset_bytes, data in writes:
            disk.write(offset_bytes, data)
    return folder.files


def child_files(
    files: Mapping[str, bytes], writes: Writes, *, parent: str = "base.vmdk", child: str
) -> Files:
    """The files with a snapshot's child over a disk in them."""
    folder = MemoryFolder(files)
    vmdk.snapshot(folder, parent, child)
    return written(folder.files, writes, name=child)


def split_child_files(
    files: Mapping[str, bytes], writes: Writes, *, parent: str = "base.vmdk", child: str
) -> Files:
    """The same with a child that is split into files, as VMware makes them."""
    folder = MemoryFolder(files)
    with folder.open(parent) as raw:
        cid = read_descriptor(raw).cid
    size_bytes = len(content_of(folder, parent))
    found = disk_files("twoGbMaxExtentSparse", size_bytes, name=child)
    hint = f'parentFileNameHint="{parent}"\n# Extent description'
    text = found[child].decode().replace("# Extent description", hint)
    found[child] = text.replace("parentCID=ffffffff", f"parentCID={cid:08x}").encode()
    return written({**files, **found}, writes, name=child)


def full_disk(subformat: str = "monolithicSparse") -> Files:
    """A disk of `SIZE_BYTES` without a zero grain."""
    return disk_files(subformat, SIZE_BYTES, [(0, noise(SIZE_BYTES))])


def holey_disk(subformat: str) -> Files:
    """A shorter one with runs of grains, single ones, holes, and a grain that its end cuts."""
    writes = [
        (0, noise(2 * GRAIN_BYTES + 700, 1)),
        (5 * GRAIN_BYTES, noise(GRAIN_BYTES, 2)),
        (7 * GRAIN_BYTES, noise(100, 3)),
        (9 * GRAIN_BYTES + 100, noise(GRAIN_BYTES + 900, 4)),
    ]
    return disk_files(subformat, 10 * GRAIN_BYTES + 1536, writes)


def disk_with_remains() -> Files:
    """The sparse one with bytes and an entry behind its end, as another program may leave them."""
    content = bytearray(holey_disk("monolithicSparse")["disk.vmdk"])
    header = read_header(MemoryDevice(content))
    directories = (header.rgd_offset_sectors, header.gd_offset_sectors)
    # Grain 10, the last one, is the third of the third table; the fourth is behind the end.
    entries = [(sector + header.directory_sectors + 2) * SECTOR_BYTES + 8 for sector in directories]
    place = int.from_bytes(content[entries[0] : entries[0] + 4], "little") * SECTOR_BYTES
    content[place + 1536 : place + GRAIN_BYTES] = noise(GRAIN_BYTES - 1536)
    for at in entries:
        content[at + 4 : at + 8] = (len(content) // SECTOR_BYTES).to_bytes(4, "little")
    return {"disk.vmdk": bytes(content + noise(GRAIN_BYTES))}


def parent_disk(subformat: str) -> Files:
    """One to take snapshots over, `base.vmdk`."""
    writes = [(0, noise(4 * GRAIN_BYTES, 1)), (8 * GRAIN_BYTES, noise(3 * GRAIN_BYTES + 200, 2))]
    return disk_files(subformat, SIZE_BYTES, writes, name="base.vmdk")


def parent_and_child(subformat: str, *, is_split: bool = False, child: str = "child.vmdk") -> Files:
    """The same with a child over it, which holds data over data and over nothing, and zeros."""
    writes = [
        (GRAIN_BYTES + 100, noise(GRAIN_BYTES, 3)),
        (9 * GRAIN_BYTES, bytes(GRAIN_BYTES)),
        (14 * GRAIN_BYTES, noise(GRAIN_BYTES, 4)),
        (17 * GRAIN_BYTES, noise(GRAIN_BYTES + 512, 5)),
    ]
    make = split_child_files if is_split else child_files
    return make(parent_disk(subformat), writes, child=child)


def chain_of_three(subformat: str) -> Files:
    """A disk, `mid.vmdk` over it, and `top.vmdk` over that."""
    writes = [
        (3 * GRAIN_BYTES + 5, noise(GRAIN_BYTES, 21)),
        (9 * GRAIN_BYTES, noise(GRAIN_BYTES, 22)),
        (14 * GRAIN_BYTES + 100, noise(100, 23)),
    ]
    files = parent_and_child(subformat, child="mid.vmdk")
    return child_files(files, writes, parent="mid.vmdk", child="top.vmdk")


def without(files: Mapping[str, bytes], grains: Iterable[int]) -> Files:
    """The files after zeros were written over some grains of `disk.vmdk`, which stay."""
    size_bytes = len(content_of(MemoryFolder(files), "disk.vmdk"))
    starts = [grain * GRAIN_BYTES for grain in grains]
    return written(files, [(at, bytes(min(GRAIN_BYTES, size_bytes - at))) for at in starts])


def resize_job(
    files: Mapping[str, bytes], size_bytes: int, *, allow_loss: bool = False, name: str = "resize"
) -> DiskJob:
    """Give `disk.vmdk` another size."""
    before = content_of(MemoryFolder(files), "disk.vmdk")
    after = before[:size_bytes].ljust(size_bytes, b"\0")

    def work(folder: Folder) -> None:
        vmdk.resize(folder, "disk.vmdk", size_bytes, allow_loss=allow_loss)

    return DiskJob(name, files, "disk.vmdk", before, after, work)


def compact_job(
    files: Mapping[str, bytes], *, bystanders: tuple[str, ...] = (), name: str = "compact"
) -> DiskJob:
    """Make the files of `disk.vmdk` smaller."""
    content = content_of(MemoryFolder(files), "disk.vmdk")

    def work(folder: Folder) -> None:
        vmdk.compact(folder, "disk.vmdk")

    return DiskJob(name, files, "disk.vmdk", content, content, work, bystanders)


def commit_job(
    files: Mapping[str, bytes],
    *,
    parent: str = "base.vmdk",
    child: str = "child.vmdk",
    above: str | None = None,
    removes: bool = False,
    bystanders: tuple[str, ...] = (),
) -> CommitJob:
    """Give a child's changes to its parent."""
    folder = MemoryFolder(files)
    return CommitJob(
        "commit",
        files,
        parent,
        child,
        content_of(folder, parent),
        content_of(folder, child),
        removes=removes,
        above=above,
        above_shown=b"" if above is None else content_of(folder, above),
        bystanders=bystanders,
    )
