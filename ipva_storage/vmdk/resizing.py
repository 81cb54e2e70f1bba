"""Making a disk larger or smaller: its files, then what its descriptor says.

At every write the disk is whole, of the old size or of the new one. What decides is one sector (the
header of a sparse extent) or one rename (a descriptor file); everything before it adds what nothing
names yet, and everything after it takes away what nothing names any more. A power cut may leave the
latter undone; the same resize again does it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ipva_storage.device import SliceDevice, copy, read
from ipva_storage.device.copy import chunks, is_zero
from ipva_storage.errors import UsageError, VmdkError
from ipva_storage.progress import silent
from ipva_storage.units import SECTOR_BYTES, format_size
from ipva_storage.vmdk import access, chain
from ipva_storage.vmdk.compaction import refuse_lost
from ipva_storage.vmdk.creation import SPLIT_SECTORS, new_sparse_extent, new_stream
from ipva_storage.vmdk.describe import ADAPTERS, geometry, new_cid
from ipva_storage.vmdk.extent.flat import FLAT_KINDS, FlatExtent
from ipva_storage.vmdk.extent.header import CAPACITY_MAX_BYTES
from ipva_storage.vmdk.extent.sparse import SparseExtent
from ipva_storage.vmdk.extent.stream import StreamExtent

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
    """Of what is cut off, how much reaches from its first byte that is not zero to the old end."""


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
        lost = lost_tail_bytes(disk, size_bytes, progress)
        done = Resized(disk.size_bytes, size_bytes, lost)
        is_stream = any(isinstance(extent, StreamExtent) for extent in disk.parts)
        is_undone = done.before_bytes == size_bytes and _is_undone(disk)
        if not is_stream and done.before_bytes != size_bytes:
            _refuse_unfit(folder, name, disk, size_bytes)
    if lost and not allow_loss and not dry_run:
        raise _loss(lost, folder.resolve(name).as_posix())
    if dry_run:
        return done
    if is_undone:
        _finish(folder, name, allow_loss=allow_loss)
    elif done.before_bytes == size_bytes:
        return done
    elif is_stream:
        _make_anew(folder, name, size_bytes, progress)
    else:
        _in_place(folder, name, size_bytes)
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


def lost_tail_bytes(device: BlockDevice, size_bytes: int, progress: Progress = silent) -> int:
    """From the first byte behind `size_bytes` that is not zero to the end; 0 where all is zero."""
    for offset_bytes, length_bytes in chunks(device):
        end = offset_bytes + length_bytes
        if end <= size_bytes:
            continue
        start = max(offset_bytes, size_bytes)
        data = read(device, start, end - start)
        progress(end, device.size_bytes)
        if not is_zero(data):
            return device.size_bytes - start - (len(data) - len(data.lstrip(b"\0")))
    return 0


def _refuse_chain(folder: Folder, name: str, disk: VmdkDevice) -> None:
    if disk.parent is not None:
        raise VmdkError(
            "it holds only what changed since a snapshot, and has the size of the disk below it",
            where=disk.name,
            remedy="commit the snapshot first: ipva disk snapshot commit DISK",
        )
    for child in chain.children(folder, name, disk.descriptor):
        raise VmdkError(
            f"“{child}” was taken over it as a snapshot, and would fit no more",
            where=disk.name,
            remedy="commit or remove that first: "
            f"ipva disk snapshot commit {shlex.quote(str(folder.path / child))}",
        )


def _make_anew(folder: Folder, name: str, size_bytes: int, progress: Progress) -> None:
    with folder.new_file(name, force=True) as raw, access.open(folder.open(name), folder) as disk:
        adapter = disk.descriptor.ddb.get("adapterType", "ide")
        new = new_stream(raw, name, size_bytes, adapter=adapter if adapter in ADAPTERS else "ide")
        kept = SliceDevice(disk, 0, min(disk.size_bytes, size_bytes))
        copy(kept, new, progress=progress)
        new.seal()


def _refuse_unfit(folder: Folder, name: str, disk: VmdkDevice, size_bytes: int) -> None:
    """Refuse before anything is written what would be refused on the way, also in a dry run.

    Raises:
        UsageError: it would have too many parts, or a part's name is taken.
        VmdkError: its last part keeps its size.
    """
    before = disk.descriptor.extents
    if len(disk.parts) == 1 and disk.parts[0].raw is disk.files[0]:
        if not isinstance(disk.parts[0], SparseExtent):
            raise _fixed(disk, disk.parts[0])
        return
    after = planned_lines(before, size_bytes // SECTOR_BYTES, split=_split_stem(disk, name))
    if len(after) > access.EXTENTS_MAX:
        raise UsageError(
            f"it would have {len(after)} extents, which are too many",
            where=disk.name,
            remedy="convert it to a kind that is not split: "
            f"ipva disk convert {shlex.quote(disk.name)} new.vmdk -O monolithicSparse",
        )
    for line in after[len(before) :]:
        _refuse_taken(folder, line)
    last = min(len(before), len(after)) - 1
    if after[last].sector_count > before[last].sector_count:
        _refuse_fixed(disk, disk.parts[last], before)


def _refuse_fixed(disk: BlockDevice, extent: DiskExtent, before: Sequence[ExtentLine]) -> None:
    if isinstance(extent, FlatExtent):
        _refuse_shared(extent, before)
    elif not isinstance(extent, SparseExtent):
        raise _fixed(disk, extent)


def _in_place(folder: Folder, name: str, size_bytes: int) -> None:
    raw = folder.open(name, writable=True)
    with access.open(raw, folder, writable=True) as disk:
        before = disk.descriptor.extents
        if len(disk.parts) == 1 and disk.parts[0].raw is raw:
            after = [replace(line, sector_count=size_bytes // SECTOR_BYTES) for line in before[:1]]
            _one_file(disk, resized_text(disk.descriptor, after, size_bytes, disk.name), size_bytes)
            return
        after = planned_lines(before, size_bytes // SECTOR_BYTES, split=_split_stem(disk, name))
        last = min(len(before), len(after)) - 1
        for line in after[len(before) :]:
            _new_part(folder, line)
        if after[last].sector_count > before[last].sector_count:
            _grow_part(disk.parts[last], before, after[last])
        text = resized_text(disk.descriptor, after, size_bytes, disk.name)
    folder.replace(name, text.encode())
    if after[last].sector_count < before[last].sector_count:
        _shrink_part(folder, before, after[last], allow_loss=True)
    for line in before[len(after) :]:
        if line.file_name is not None and line.file_name not in [one.file_name for one in after]:
            folder.remove(line.file_name)


def _one_file(disk: VmdkDevice, text: Descriptor, size_bytes: int) -> None:
    """A sparse disk with its descriptor in it."""
    from ipva_storage.vmdk.extent.capacity import set_capacity

    extent = disk.parts[0]
    if not isinstance(extent, SparseExtent):
        raise _fixed(disk, extent)
    set_capacity(extent, size_bytes // SECTOR_BYTES)
    disk.rewrite(text)
    extent.seal()


def _is_undone(disk: VmdkDevice) -> bool:
    """Whether a resize to the size that the disk has may have been cut before its end."""
    from ipva_storage.vmdk.extent.capacity import is_finished

    last, line = disk.parts[-1], disk.descriptor.extents[-1:]
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


def resized_text(
    descriptor: Descriptor, lines: Sequence[ExtentLine], size_bytes: int, where: str
) -> Descriptor:
    """The descriptor of a disk that has another size, and so another content, from now on.

    Raises:
        VmdkError: it has no extent line; the message calls it `where`.
    """
    cylinders, _ = geometry(size_bytes, descriptor.ddb.get("adapterType", "ide"))
    try:
        text = descriptor.with_extents([str(line) for line in lines]).with_cid(new_cid())
    except VmdkError as error:
        error.where, error.remedy = where, "mend that first: ipva disk repair"
        raise
    if "geometry.cylinders" in descriptor.ddb:
        text = text.with_value("ddb.geometry.cylinders", str(cylinders))
    return text


def _split_stem(disk: VmdkDevice, name: str) -> str | None:
    """How further extents are to be called, for a disk that is split into pieces of 2 GiB."""
    if "maxextent" not in disk.subformat.lower():
        return None
    letter = "f" if disk.descriptor.extents[-1].kind in FLAT_KINDS else "s"
    return f"{name.removesuffix('.vmdk')}-{letter}"


def planned_lines(
    lines: Sequence[ExtentLine], sector_count: int, *, split: str | None
) -> list[ExtentLine]:
    """The extent lines of a disk of another size.

    Args:
        lines: as they are.
        sector_count: of the whole disk, from now on.
        split: what the names of further extents start with; None where the last one takes it all.
    """
    planned: list[ExtentLine] = []
    left = sector_count
    for line in lines:
        if left <= 0:
            return planned
        planned.append(replace(line, sector_count=min(line.sector_count, left)))
        left -= line.sector_count
    if left > 0:
        last = planned[-1]
        room = left if split is None else min(max(SPLIT_SECTORS - last.sector_count, 0), left)
        planned[-1] = replace(last, sector_count=last.sector_count + room)
        left -= room
    while left > 0:
        count = min(SPLIT_SECTORS, left)
        new_name = f"{split}{len(planned) + 1:03}.vmdk"
        planned.append(replace(planned[-1], sector_count=count, file_name=new_name))
        left -= count
    return planned


def _new_part(folder: Folder, line: ExtentLine) -> None:
    """One more extent of a split disk; no descriptor names it yet."""
    name = line.file_name or ""
    _refuse_taken(folder, line)
    with folder.new_file(name, force=True) as file:
        if line.kind in FLAT_KINDS:
            file.resize(line.size_bytes)
        else:
            new_sparse_extent(file, line.sector_count).seal()


def _refuse_taken(folder: Folder, line: ExtentLine) -> None:
    name = line.file_name or ""
    if folder.has(name) and not _is_empty_part(folder, name, line):
        raise UsageError(
            "a file of the name that the next part of the disk is to have is there",
            where=folder.resolve(name).as_posix(),
            remedy="it is no part of the disk; move it away",
        )


def _is_empty_part(folder: Folder, name: str, line: ExtentLine) -> bool:
    """Whether a file is what a resize that was cut left: a part of the kind that holds nothing."""
    with folder.open(name) as file:
        if line.kind in FLAT_KINDS:
            return not lost_tail_bytes(file, 0)
        try:
            extent = access.grain_extent(file, writable=False)
        except VmdkError:
            return False
        is_lone = isinstance(extent, SparseExtent) and not extent.header.descriptor_offset_sectors
        return is_lone and not any(run.is_data for run in extent.own_extents())


def _grow_part(extent: DiskExtent, before: Sequence[ExtentLine], after: ExtentLine) -> None:
    """Room for the longer last extent; the descriptor does not say so yet."""
    from ipva_storage.vmdk.extent.capacity import set_capacity

    if isinstance(extent, SparseExtent):
        if extent.header.capacity_sectors != before[-1].sector_count:
            set_capacity(extent, before[-1].sector_count)  # what no line names may hold anything
        set_capacity(extent, after.sector_count)
        extent.seal()
    elif isinstance(extent, FlatExtent):
        _refuse_shared(extent, before)
        extent.raw.resize(extent.end_bytes)  # what no line names may hold anything
        extent.raw.resize(extent.end_bytes - extent.size_bytes + after.size_bytes)
        extent.raw.flush()
    else:
        raise _fixed(extent, extent)


def _shrink_part(
    folder: Folder, before: Sequence[ExtentLine], after: ExtentLine, *, allow_loss: bool
) -> None:
    """Give back what the descriptor names no more, if it may hold anything or does not."""
    name = after.file_name
    if name is None or sum(line.file_name == name for line in before) > 1:
        return
    with folder.open(name, writable=True) as file:
        if after.kind in FLAT_KINDS:
            end_bytes = after.offset_sectors * SECTOR_BYTES + after.size_bytes
            if allow_loss or not lost_tail_bytes(file, end_bytes):
                file.resize(end_bytes)
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


def _refuse_shared(extent: FlatExtent, before: Sequence[ExtentLine]) -> None:
    names = [line.file_name for line in before]
    if names.count(before[-1].file_name) > 1:
        raise VmdkError(
            "its last extent shares its file with others, and cannot grow there",
            where=extent.name,
            remedy="convert the disk first: ipva disk convert DISK new.vmdk -O monolithicSparse",
        )


def _fixed(disk: BlockDevice, extent: DiskExtent) -> VmdkError:
    kind = getattr(extent, "kind", "of a kind that is not written to")
    return VmdkError(
        f"its last part is {kind}, and keeps its size",
        where=disk.name,
        remedy="convert the disk first: ipva disk convert DISK new.vmdk -O monolithicSparse",
    )
