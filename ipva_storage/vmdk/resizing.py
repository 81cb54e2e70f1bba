"""Making a disk larger or smaller: its files, then what its descriptor says.

At every write the disk is whole, of the old size or of the new one. What decides is one sector (the
header of a sparse extent) or one rename (a descriptor file); everything before it adds what nothing
names yet, and everything after it takes away what nothing names any more. A power cut may leave the
latter undone; the same resize again does it. What is refused is refused before (`resize_plan`).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ipva_storage.device import SliceDevice, copy
from ipva_storage.errors import IpvaError, UsageError, VmdkError
from ipva_storage.progress import silent
from ipva_storage.units import SECTOR_BYTES, format_size
from ipva_storage.vmdk import access, chain
from ipva_storage.vmdk.compaction import refuse_lost
from ipva_storage.vmdk.creation import new_sparse_extent, new_stream
from ipva_storage.vmdk.describe import ADAPTERS
from ipva_storage.vmdk.descriptor import shown
from ipva_storage.vmdk.extent.flat import FLAT_KINDS, FlatExtent
from ipva_storage.vmdk.extent.header import CAPACITY_MAX_BYTES
from ipva_storage.vmdk.extent.sparse import SparseExtent
from ipva_storage.vmdk.extent.stream import StreamExtent
from ipva_storage.vmdk.ownership import behind_bytes, end_bytes, lost_tail_bytes
from ipva_storage.vmdk.resize_plan import (
    Plan,
    is_shared,
    plan_resize,
    refuse_taken,
    resized_text,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipva_storage.device import BlockDevice, Folder
    from ipva_storage.progress import Progress
    from ipva_storage.vmdk.descriptor import Descriptor, ExtentLine
    from ipva_storage.vmdk.disk import VmdkDevice
    from ipva_storage.vmdk.extent.base import DiskExtent


@dataclass(frozen=True, slots=True)
class Resized:
    """What was done, or would be."""

    before_bytes: int
    after_bytes: int
    lost_bytes: int
    """Of what is cut off, how much reaches from its first byte that is not zero to the old end;
    with what lies in the disk's last file behind that, and goes too."""
    kept_files: tuple[str, ...] = ()
    """Files that the disk names no more, and that stay, because they hold something else too."""


def resize(
    folder: Folder,
    name: str,
    size_bytes: int,
    *,
    allow_loss: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Resized:
    """Give a disk another size; new bytes read as zeros.

    Sparse, flat and split disks are changed in place; a stream-optimized one is made anew beside
    its place. Partitions and volumes on the disk stay as they are.

    Args:
        folder: where the disk is.
        name: its file.
        size_bytes: the new size; rounded up to whole sectors.
        allow_loss: cut the end off even when it holds anything.
        dry_run: find out what would be lost, and change nothing.
        progress: told how far it is.

    Raises:
        UsageError: the size cannot be, or something would be lost.
        VmdkError: the disk is damaged, a snapshot's child or parent, or of a kind that is not
            written to.
        DeviceError: a file cannot be read or written.
    """
    size_bytes = _whole_sectors(size_bytes)
    with access.open(folder.open(name), folder) as disk:
        _refuse_chain(folder, name, disk)
        if size_bytes < disk.size_bytes and not allow_loss:
            refuse_lost(disk, "; or use --allow-loss")
        descriptor = disk.descriptor
        is_same = disk.size_bytes == size_bytes
        is_stream = any(isinstance(extent, StreamExtent) for extent in disk.parts)
        is_undone = is_same and _is_undone(disk)
        plan = None if is_same or is_stream else plan_resize(folder, name, disk, size_bytes)
        tail = lost_tail_bytes(disk, size_bytes, progress)
        behind = plan.behind_bytes if plan is not None else 0
        if is_undone and allow_loss and not disk.is_embedded:
            behind = behind_bytes(folder, disk.descriptor.extents[-1])
        shared = plan.shared if plan is not None else ()
        done = Resized(disk.size_bytes, size_bytes, tail + behind, shared)
    if not (allow_loss or dry_run):
        _refuse_loss(tail, behind, plan, folder.resolve(name).as_posix())
    if dry_run:
        return done
    if plan is not None:
        _in_place(folder, name, plan, size_bytes)
    elif is_undone:
        _finish(folder, name, allow_loss=allow_loss)
    elif not is_same:
        _make_anew(folder, name, descriptor, size_bytes, progress)
    return done


def resize_raw(
    raw: BlockDevice,
    size_bytes: int,
    *,
    allow_loss: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Resized:
    """Give a raw image another size; arguments and errors are those of `resize`."""
    size_bytes = _whole_sectors(size_bytes)
    lost = lost_tail_bytes(raw, size_bytes, progress)
    done = Resized(raw.size_bytes, size_bytes, lost)
    if dry_run or done.before_bytes == size_bytes:
        return done
    if lost and not allow_loss:
        raise _loss(lost, raw.name)
    raw.resize(size_bytes)
    raw.flush()
    return done


def _whole_sectors(size_bytes: int) -> int:
    rounded = -(-size_bytes // SECTOR_BYTES) * SECTOR_BYTES
    if not 1 <= rounded <= CAPACITY_MAX_BYTES:
        raise UsageError(f"a disk of {size_bytes} bytes cannot be; choose 1 byte to 64 TiB")
    return rounded


def _loss(lost_bytes: int, where: str) -> UsageError:
    return UsageError(
        f"the last {format_size(lost_bytes)} of it are not empty, and would be cut off",
        where=where,
        remedy="shrink what is on it first, or use --allow-loss",
    )


def _refuse_loss(tail: int, behind: int, plan: Plan | None, where: str) -> None:
    if tail:
        raise _loss(tail, where)
    if behind and plan is not None:
        file_name = shown(plan.before[plan.last].file_name or "")
        raise UsageError(
            f"{format_size(behind)} lie behind its end in “{file_name}”, are not empty, and would "
            "be lost",
            where=where,
            remedy="they may be another disk's: convert this one first with: "
            "ipva disk convert DISK new.vmdk -O monolithicSparse; or use --allow-loss",
        )


def _refuse_chain(folder: Folder, name: str, disk: VmdkDevice) -> None:
    if disk.parent is not None:
        raise VmdkError(
            "it holds only what changed since a snapshot, and has the size of the disk below it",
            where=disk.name,
            remedy="commit the snapshot first: ipva disk snapshot commit DISK",
        )
    chain.refuse_children(folder, name, disk.descriptor, disk.name)


def _make_anew(
    folder: Folder, name: str, descriptor: Descriptor, size_bytes: int, progress: Progress
) -> None:
    with (
        folder.new_file(name, force=True) as raw,
        folder.open(name, writable=True),  # a second job would make another one meanwhile
        access.open(folder.open(name), folder) as disk,
    ):
        _refuse_changed(disk, descriptor)
        adapter = disk.descriptor.ddb.get("adapterType", "ide")
        new = new_stream(raw, name, size_bytes, adapter=adapter if adapter in ADAPTERS else "ide")
        kept = SliceDevice(disk, 0, min(disk.size_bytes, size_bytes))
        copy(kept, new, progress=progress)
        new.seal()


def _in_place(folder: Folder, name: str, plan: Plan, size_bytes: int) -> None:
    made: list[ExtentLine] = []
    try:
        with access.open(folder.open(name, writable=True), folder, writable=True) as disk:
            _refuse_changed(disk, plan.descriptor)
            if plan.is_embedded:
                _one_file(disk, plan.text, size_bytes)
                return
            for line in plan.after[len(plan.before) :]:
                _new_part(folder, line)
                made.append(line)
            if plan.growth_sectors > 0:
                _grow_part(disk.parts[plan.last], plan.before, plan.after[plan.last])
        folder.replace(name, plan.text.encode())
    except BaseException:
        _take_back(folder, name, plan, made)
        raise
    if plan.growth_sectors < 0:
        _shrink_part(folder, plan.before, plan.after[plan.last], allow_loss=True)
    for file_name in plan.own:
        folder.remove(file_name)


def _refuse_changed(disk: VmdkDevice, descriptor: Descriptor) -> None:
    if disk.descriptor != descriptor:
        raise VmdkError(
            "something wrote to it in this moment", where=disk.name, remedy="run it again"
        )


def _take_back(folder: Folder, name: str, plan: Plan, made: Sequence[ExtentLine]) -> None:
    """Remove what a resize made that failed before the descriptor named it."""
    with contextlib.suppress(IpvaError):
        with folder.open(name) as raw:
            if access.read_descriptor(raw) != plan.descriptor:
                return
        for line in made:
            folder.remove(line.file_name or "")
        if not plan.is_embedded and plan.growth_sectors > 0:
            _shrink_part(folder, plan.before, plan.before[plan.last], allow_loss=False)


def _one_file(disk: VmdkDevice, text: Descriptor, size_bytes: int) -> None:
    """A sparse disk with its descriptor in it."""
    from ipva_storage.vmdk.extent.capacity import set_capacity

    extent = disk.parts[0]
    assert isinstance(extent, SparseExtent)  # the plan refused others
    set_capacity(extent, size_bytes // SECTOR_BYTES)
    disk.rewrite(text)
    extent.seal()


def _is_undone(disk: VmdkDevice) -> bool:
    """Whether a resize to the size that the disk has may have been cut before its end."""
    from ipva_storage.vmdk.extent.capacity import is_finished

    last, line = disk.parts[-1], disk.descriptor.extents[-1:]
    if any(each.access != "RW" for each in line):
        return False
    if isinstance(last, SparseExtent):
        said = [each.sector_count for each in line]
        return said != [last.header.capacity_sectors] or not is_finished(last)
    return isinstance(last, FlatExtent) and last.end_bytes < last.raw.size_bytes


def _finish(folder: Folder, name: str, *, allow_loss: bool) -> None:
    """What comes after the write that decides, for a disk that has its new size already."""
    from ipva_storage.vmdk.extent.capacity import finish

    raw = folder.open(name, writable=True)
    with access.open(raw, folder, writable=True) as disk:
        last, lines = disk.parts[-1], disk.descriptor.extents
        if isinstance(last, SparseExtent) and last.raw is raw:
            finish(last)
            after = [replace(line, sector_count=last.header.capacity_sectors) for line in lines[:1]]
            if after != list(lines):
                disk.rewrite(resized_text(disk.descriptor, after, disk.size_bytes, disk.name))
            last.seal()
            return
    _shrink_part(folder, lines, lines[-1], allow_loss=allow_loss)


def _new_part(folder: Folder, line: ExtentLine) -> None:
    """One more extent of a split disk; no descriptor names it yet."""
    name = line.file_name or ""
    refuse_taken(folder, line)
    with folder.new_file(name, force=True) as file:
        if line.kind in FLAT_KINDS:
            file.resize(line.size_bytes)
        else:
            new_sparse_extent(file, line.sector_count).seal()


def _grow_part(extent: DiskExtent, before: Sequence[ExtentLine], after: ExtentLine) -> None:
    """Room for the longer last extent; the descriptor does not say so yet."""
    from ipva_storage.vmdk.extent.capacity import set_capacity

    if isinstance(extent, SparseExtent):
        if extent.header.capacity_sectors != before[-1].sector_count:
            set_capacity(extent, before[-1].sector_count)  # what no line names may hold anything
        set_capacity(extent, after.sector_count)
        extent.seal()
    elif isinstance(extent, FlatExtent):
        raw, stop_bytes = extent.raw, end_bytes(after)
        inside_bytes = min(stop_bytes, raw.size_bytes) - extent.end_bytes
        if inside_bytes > 0:  # what no line names may hold anything
            raw.discard(extent.end_bytes, inside_bytes)
        if raw.size_bytes < stop_bytes:
            raw.resize(stop_bytes)
        raw.flush()


def _shrink_part(
    folder: Folder, before: Sequence[ExtentLine], after: ExtentLine, *, allow_loss: bool
) -> None:
    """Give back what the descriptor names no more, if it may hold anything or does not."""
    if not access.has_file(after) or is_shared(before, after):
        return
    with folder.open(after.file_name or "", writable=True) as file:
        if after.kind in FLAT_KINDS:
            if allow_loss or not lost_tail_bytes(file, end_bytes(after)):
                file.resize(end_bytes(after))
                file.flush()
            return
        extent = access.grain_extent(file, writable=True)
        if isinstance(extent, SparseExtent) and (
            allow_loss or not lost_tail_bytes(extent, after.size_bytes)
        ):
            _set_capacity(extent, after.sector_count)


def _set_capacity(extent: SparseExtent, sector_count: int) -> None:
    """Give an extent a capacity, or finish that."""
    from ipva_storage.vmdk.extent.capacity import finish, set_capacity

    if extent.header.capacity_sectors == sector_count:
        finish(extent)
    else:
        set_capacity(extent, sector_count)
    extent.seal()
