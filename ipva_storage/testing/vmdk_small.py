"""Small VMDK disks in memory, so that every state of a job on them can be visited.

Grains of 4 KiB, four in a table, eight in a file of a split disk: a disk of a few grains has
several tables and files. `SMALL` holds the numbers that are to be put in the place of the usual
ones meanwhile; `shrink_geometry` does that with pytest's `monkeypatch`.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipva_storage import vmdk
from ipva_storage.device import Folder
from ipva_storage.sim.files import MemoryFolder
from ipva_storage.testing.vmdk_crash import CommitJob, DiskJob, content_of
from ipva_storage.vmdk.access import read_descriptor
from ipva_storage.vmdk.create import new_sparse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pytest

    Writes = Iterable[tuple[int, bytes]]
    Files = dict[str, bytes]

GRAIN_BYTES: Final = 4096
SPLIT_BYTES: Final = 8 * GRAIN_BYTES
SMALL: Final = {
    "ipva_storage.vmdk.create": {"GRAIN_SECTORS": 8, "GTES_PER_GT": 4, "SPLIT_SECTORS": 64},
    "ipva_storage.vmdk.resize": {"SPLIT_SECTORS": 64},
    "ipva_storage.vmdk.compact": {"HOLE_BYTES": GRAIN_BYTES},
}


def shrink_geometry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `create`, `resize` and `snapshot` make small things until the test ends."""
    for name, values in SMALL.items():
        for key, value in values.items():
            monkeypatch.setattr(sys.modules[name], key, value)
    for key, value in {"grain_sectors": 8, "gtes_per_gt": 4}.items():
        monkeypatch.setitem(new_sparse.__kwdefaults__ or {}, key, value)


def noise(length_bytes: int, seed: int = 0) -> bytes:
    """Bytes that tell every place from every other."""
    return random.Random(seed).randbytes(length_bytes)


def disk_files(
    subformat: str, size_bytes: int, writes: Writes = (), *, name: str = "disk.vmdk"
) -> Files:
    """A new disk of any kind that is written to, and its files."""
    with tempfile.TemporaryDirectory() as place:
        vmdk.create(Folder(place), name, size_bytes, subformat=subformat)
        files = {path.name: path.read_bytes() for path in Path(place).iterdir()}
    return written(files, writes, name=name)


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
