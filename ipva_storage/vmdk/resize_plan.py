"""What another size makes of a disk's files and of its descriptor, before anything is written.

All that can be refused is refused here, so that a resize that begins can be done.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ipva_storage.errors import NoSpaceError, UsageError, VmdkError
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk import access
from ipva_storage.vmdk.creation import SPLIT_SECTORS
from ipva_storage.vmdk.describe import geometry, new_cid
from ipva_storage.vmdk.descriptor import shown
from ipva_storage.vmdk.extent.flat import FLAT_KINDS, FlatExtent
from ipva_storage.vmdk.extent.sparse import SparseExtent
from ipva_storage.vmdk.ownership import behind_bytes, end_bytes, lost_tail_bytes, own_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipva_storage.device import BlockDevice, Folder
    from ipva_storage.vmdk.descriptor import Descriptor, ExtentLine
    from ipva_storage.vmdk.disk import VmdkDevice
    from ipva_storage.vmdk.extent.base import DiskExtent


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done."""

    descriptor: Descriptor
    """As it is."""
    text: Descriptor
    """As it is to be."""
    after: tuple[ExtentLine, ...]
    """The extents as they are to be."""
    is_embedded: bool = False
    """Whether the disk is one file, with its descriptor in it."""
    own: tuple[str, ...] = ()
    """Files that the disk needs no more, and that hold nothing else."""
    shared: tuple[str, ...] = ()
    """Those that hold something else too, and stay."""
    behind_bytes: int = 0
    """What lies in the last file behind the disk's extent and would go."""

    @property
    def before(self) -> tuple[ExtentLine, ...]:
        """The extents as they are."""
        return self.descriptor.extents

    @property
    def last(self) -> int:
        """Number of the extent that gets another length."""
        return min(len(self.before), len(self.after)) - 1

    @property
    def growth_sectors(self) -> int:
        """How much longer that one gets."""
        return self.after[self.last].sector_count - self.before[self.last].sector_count


def plan_resize(folder: Folder, name: str, disk: VmdkDevice, size_bytes: int) -> Plan:
    """Find out what is to be done.

    Args:
        folder: where the disk is.
        name: its file.
        disk: the same, open for reading.
        size_bytes: its new size, another than it has.

    Raises:
        UsageError: it would have too many parts, or a part's name is taken or cannot be written.
        VmdkError: its last part keeps its size, or it has no extent line.
        NoSpaceError: the new descriptor has no room in its place.
    """
    before, sector_count = disk.descriptor.extents, size_bytes // SECTOR_BYTES
    if disk.is_embedded:
        if not isinstance(disk.parts[0], SparseExtent):
            raise _fixed(disk, disk.parts[0])
        after = [replace(line, sector_count=sector_count) for line in before[:1]]
        text = resized_text(disk.descriptor, after, size_bytes, disk.name)
        if not disk.fits(text):
            raise NoSpaceError(
                "its descriptor has no room for the new size", where=disk.name, remedy=_CONVERT
            )
        return Plan(disk.descriptor, text, tuple(after), is_embedded=True)
    after = planned_lines(before, sector_count, split=_split_stem(disk, name))
    _refuse_many(disk, after)
    last = min(len(before), len(after)) - 1
    _refuse_fixed(disk, disk.parts[last], before, after)
    for line in after[len(before) :]:
        _refuse_twice(disk, line, before)
        refuse_taken(folder, line)
    text = resized_text(disk.descriptor, after, size_bytes, disk.name)
    own, shared = own_files(folder, before[len(after) :], after)
    return Plan(
        disk.descriptor,
        text,
        tuple(after),
        own=tuple(own),
        shared=tuple(shared),
        behind_bytes=_behind(folder, before, last, after[last]),
    )


_CONVERT = "convert the disk first: ipva disk convert DISK new.vmdk -O monolithicSparse"


def _refuse_many(disk: BlockDevice, after: Sequence[ExtentLine]) -> None:
    if len(after) > access.EXTENTS_MAX:
        raise UsageError(
            f"it would have {len(after)} extents, which are too many",
            where=disk.name,
            remedy="convert it to a kind that is not split: "
            f"ipva disk convert {shlex.quote(disk.name)} new.vmdk -O monolithicSparse",
        )


def _refuse_fixed(
    disk: BlockDevice,
    extent: DiskExtent,
    before: Sequence[ExtentLine],
    after: Sequence[ExtentLine],
) -> None:
    """Refuse a last part that cannot have another length, or no others behind it."""
    last = min(len(before), len(after)) - 1
    was, becomes = before[last], after[last]
    grows = len(after) > len(before) or becomes.sector_count > was.sector_count
    if not grows and (becomes.sector_count == was.sector_count or not access.has_file(was)):
        return
    if not isinstance(extent, FlatExtent | SparseExtent):
        raise _fixed(disk, extent)
    if was.access != "RW":
        raise VmdkError(
            f"its descriptor makes its last part, “{shown(was.file_name or '')}”, read-only",
            where=disk.name,
            remedy=_CONVERT,
        )
    if becomes.sector_count > was.sector_count and is_shared(before, was):
        raise VmdkError(
            "its last extent shares its file with others, and cannot grow there",
            where=disk.name,
            remedy=_CONVERT,
        )


def _fixed(disk: BlockDevice, extent: DiskExtent) -> VmdkError:
    kind = getattr(extent, "kind", "of a kind that is not written to")
    return VmdkError(
        f"its last part is {kind}, and keeps its size", where=disk.name, remedy=_CONVERT
    )


def is_shared(lines: Sequence[ExtentLine], line: ExtentLine) -> bool:
    """Whether several extents lie in the file of one."""
    return sum(each.file_name == line.file_name for each in lines) > 1


def _behind(folder: Folder, before: Sequence[ExtentLine], last: int, becomes: ExtentLine) -> int:
    """What would go with the end of the last file that stays, or would be written over."""
    was = before[last]
    is_changed = was.sector_count != becomes.sector_count
    if not is_changed or not access.has_file(was) or is_shared(before, was):
        return 0
    is_longer = becomes.sector_count > was.sector_count
    return behind_bytes(folder, was, end_bytes(becomes) if is_longer else None)


def resized_text(
    descriptor: Descriptor, lines: Sequence[ExtentLine], size_bytes: int, where: str
) -> Descriptor:
    """The descriptor of a disk that has another size, and so another content, from now on.

    Raises:
        VmdkError: it has no extent line; the message calls it `where`.
        UsageError: a name cannot be written there.
    """
    cylinders, _ = geometry(size_bytes, descriptor.ddb.get("adapterType", "ide"))
    try:
        text = descriptor.with_extents([str(line) for line in lines]).with_cid(new_cid())
    except VmdkError as error:
        error.where, error.remedy = where, "mend that first: ipva disk repair DISK"
        raise
    if "geometry.cylinders" in descriptor.ddb:
        text = text.with_value("ddb.geometry.cylinders", str(cylinders))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"its descriptor is written in {descriptor.encoding}, which has no letters for the "
            "names of further parts",
            where=where,
            remedy="give the disk's files plainer names",
        ) from error
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
        further = replace(planned[-1], sector_count=count, file_name=new_name)
        planned.append(replace(further, offset_sectors=0, rest=()))
        left -= count
    return planned


def _refuse_twice(disk: BlockDevice, line: ExtentLine, before: Sequence[ExtentLine]) -> None:
    if any(each.file_name == line.file_name for each in before):
        raise UsageError(
            f"its next part is to be called “{shown(line.file_name or '')}”, as another is already",
            where=disk.name,
            remedy=_CONVERT,
        )


def refuse_taken(folder: Folder, line: ExtentLine) -> None:
    """Refuse a further part whose name a file has, unless a resize that was cut left that.

    Raises:
        UsageError: it is there.
    """
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
