"""Telling VMDK files from others, and opening them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ipva_storage.device import SliceDevice, read
from ipva_storage.errors import DeviceError, VmdkError
from ipva_storage.units import SECTOR_BYTES, printable
from ipva_storage.vmdk import chain
from ipva_storage.vmdk.descriptor import Descriptor, ExtentLine, is_descriptor, shown
from ipva_storage.vmdk.disk import VmdkDevice
from ipva_storage.vmdk.extent.cowd import COWD_MAGIC, CowdExtent
from ipva_storage.vmdk.extent.flat import FLAT_KINDS, FlatExtent, shared_bytes
from ipva_storage.vmdk.extent.header import (
    CAPACITY_MAX_BYTES,
    DESCRIPTOR_MAX_BYTES,
    SPARSE_MAGIC,
    SparseHeader,
    check_usable,
    read_header,
)
from ipva_storage.vmdk.extent.sesparse import SESPARSE_MAGIC, SeSparseExtent
from ipva_storage.vmdk.extent.sparse import SparseExtent
from ipva_storage.vmdk.extent.stream import FOOTER_OFFSET_BYTES, StreamExtent
from ipva_storage.vmdk.extent.zero import ZeroExtent

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice, Folder
    from ipva_storage.vmdk.extent.base import DiskExtent

EXTENTS_MAX: Final = 1024
"""The most extents of a disk. Confidence: chosen (a disk of 2 TiB in pieces of 2 GiB)."""

OTHER_MAGICS: Final = {COWD_MAGIC: "vmfsSparse", SESPARSE_MAGIC[:4]: "seSparse"}
"""The first bytes of extents that are only ever a part of a disk."""

GRAIN_KINDS: Final = ("SPARSE", "VMFSSPARSE", "SESPARSE")
"""Words for extents that keep their bytes in grains; what it is, the file's content says.

Source: Virtual Disk Format 5.0; qemu for the last. Confidence: stated, inferred.
"""

FILE_KINDS: Final = (*FLAT_KINDS, *GRAIN_KINDS)
"""Words for extents with a file."""

FILELESS_KINDS: Final = ("ZERO",)
"""Words for extents without a file. Source: Virtual Disk Format 5.0. Confidence: stated."""

DEVICE_KINDS: Final = ("VMFSRDM", "VMFSRAW")
"""Words for a whole physical disk. Source: Virtual Disk Format 5.0. Confidence: stated."""


BEHEADED_REMEDY: Final = "its start is lost; mend it with: ipva disk repair DISK"
"""What to do about a file that `is_beheaded`."""


def is_vmdk(raw: BlockDevice) -> bool:
    """Whether a file is a VMDK by its content: a sparse extent of any kind, or a descriptor."""
    start = read(raw, 0, min(raw.size_bytes, 1024))
    return start[:4] == SPARSE_MAGIC or start[:4] in OTHER_MAGICS or is_descriptor(start)


def is_beheaded(raw: BlockDevice) -> bool:
    """Whether a file has lost its first bytes, and is a sparse extent by what is left.

    That is a descriptor where it is embedded as a rule, or a footer.
    """
    if raw.size_bytes < 2 * SECTOR_BYTES or read(raw, 0, 4) == SPARSE_MAGIC:
        return False
    footer = read(raw, raw.size_bytes - FOOTER_OFFSET_BYTES, 4) == SPARSE_MAGIC
    return footer or is_descriptor(read(raw, SECTOR_BYTES, SECTOR_BYTES))


def open(  # noqa: A001 - the rooms' common door
    raw: BlockDevice, folder: Folder | None = None, *, writable: bool = False
) -> VmdkDevice:
    """The disk in a VMDK, with all disks below it where it is a snapshot's child.

    Args:
        raw: the file; it belongs to the disk from now on, and is closed when this fails.
        folder: where the extents of a separate descriptor, and a parent, are.
        writable: whether the disk may be changed; `raw` must be writable then. Parents never are.

    Raises:
        VmdkError: it is no VMDK, is damaged, or is of a kind that is not read, or not written.
        DeviceError: `raw` cannot be read.
    """
    return _open(raw, folder, (), writable=writable)


def _open(
    raw: BlockDevice, folder: Folder | None, children: tuple[str, ...], *, writable: bool = False
) -> VmdkDevice:
    try:
        start = read(raw, 0, min(raw.size_bytes, 1024))
        if start[:4] == SPARSE_MAGIC:
            return _open_embedded(raw, folder, children, writable=writable)
        if start[:4] in OTHER_MAGICS:
            raise lone_extent(OTHER_MAGICS[start[:4]], raw.name)
        if is_descriptor(start):
            return _open_described(raw, folder, children, writable=writable)
        remedy = BEHEADED_REMEDY if is_beheaded(raw) else None
        raise VmdkError("it is no VMDK file", where=raw.name, remedy=remedy)
    except BaseException:
        raw.close()
        raise


def lone_extent(kind: str, where: str) -> VmdkError:
    """The error for a part of a disk that is named without its descriptor."""
    return VmdkError(
        f"it is one extent of a disk ({kind}), without a descriptor",
        where=where,
        remedy="name the descriptor's file; if that is lost, make it anew: ipva disk repair DISK",
    )


def read_embedded(raw: BlockDevice, header: SparseHeader) -> Descriptor:
    """The descriptor within a sparse extent.

    Raises:
        VmdkError: there is none, it is outside the file, or it is no descriptor.
    """
    offset_bytes = header.descriptor_offset_sectors * SECTOR_BYTES
    length_bytes = header.descriptor_sectors * SECTOR_BYTES
    if not offset_bytes or not 0 < length_bytes <= DESCRIPTOR_MAX_BYTES:
        raise VmdkError("its header names no descriptor", where=raw.name, offset_bytes=28)
    if offset_bytes + length_bytes > raw.size_bytes:
        raise VmdkError("its descriptor is outside the file", where=raw.name, offset_bytes=28)
    return _parse(raw, read(raw, offset_bytes, length_bytes), offset_bytes)


def read_separate(raw: BlockDevice) -> Descriptor:
    """The descriptor that is a file of its own.

    Raises:
        VmdkError: it is too long, or is no descriptor.
    """
    if raw.size_bytes > DESCRIPTOR_MAX_BYTES:
        raise VmdkError(f"a descriptor of {raw.size_bytes} bytes is none", where=raw.name)
    return _parse(raw, read(raw, 0, raw.size_bytes), 0)


def read_descriptor(raw: BlockDevice) -> Descriptor:
    """The descriptor of a disk, embedded or separate, without opening anything else.

    Raises:
        VmdkError: there is none.
    """
    if read(raw, 0, min(raw.size_bytes, 4)) == SPARSE_MAGIC:
        return read_embedded(raw, read_header(raw))
    return read_separate(raw)


def _parse(raw: BlockDevice, data: bytes, offset_bytes: int) -> Descriptor:
    try:
        return Descriptor.parse(data)
    except VmdkError as error:
        error.where, error.offset_bytes = raw.name, offset_bytes
        raise


def open_extent(folder: Folder, name: str, where: str, *, writable: bool) -> BlockDevice:
    """A file that a descriptor names.

    Raises:
        VmdkError: it is not in the folder, or cannot be opened.
    """
    try:
        return folder.open(name, writable=writable)
    except DeviceError as error:
        raise VmdkError(
            f"its extent “{shown(name)}” cannot be opened ({printable(error.message)})",
            where=where,
            remedy=error.remedy or "put the file beside its descriptor",
        ) from error


def grain_extent(
    raw: BlockDevice,
    *,
    writable: bool,
    size_bytes: int | None = None,
    below: BlockDevice | None = None,
) -> DiskExtent:
    """The extent in a file that keeps its bytes in grains, of whatever kind by its content.

    Args:
        raw: the file.
        writable: whether it is to be written to.
        size_bytes: how much of it belongs to the disk; all of it unless given.
        below: the part of the parent that shows where it has no grain.

    Raises:
        VmdkError: it is damaged, or of a kind that is not read, or not written.
    """
    magic = read(raw, 0, min(raw.size_bytes, 4))
    if magic in OTHER_MAGICS:
        if writable:
            raise read_only(OTHER_MAGICS[magic], raw.name)
        delta = CowdExtent if magic == COWD_MAGIC else SeSparseExtent
        return delta(raw, size_bytes=size_bytes, below=below)
    header = read_header(raw)
    if header.is_compressed:
        if writable:
            raise read_only("streamOptimized", raw.name)
        return StreamExtent(raw, header, size_bytes=size_bytes, below=below)
    check_usable(header, raw)
    if writable and header.version == 3:
        raise VmdkError(
            "version 3 keeps a change record that writing would make wrong",
            where=raw.name,
            remedy="open it read-only, or convert it",
        )
    return SparseExtent(raw, header, writable=writable, size_bytes=size_bytes, below=below)


def read_only(kind: str, where: str) -> VmdkError:
    """The error for writing to a kind that is only read."""
    return VmdkError(
        f"{kind} disks are read, and not written to",
        where=where,
        remedy="convert it first: ipva disk convert DISK new.vmdk -O monolithicSparse",
    )


def _open_embedded(
    raw: BlockDevice, folder: Folder | None, children: tuple[str, ...], *, writable: bool
) -> VmdkDevice:
    header = read_header(raw)
    if not header.descriptor_offset_sectors and not header.is_compressed:
        check_usable(header, raw)
        raise lone_extent("SPARSE", raw.name)
    descriptor = _descriptor_or_empty(raw, header, writable=writable)
    parent = _open_parent(folder, descriptor, raw.name, children)
    try:
        extent = grain_extent(raw, writable=writable, below=parent)
    except BaseException:
        if parent is not None:
            parent.close()
        raise
    return VmdkDevice(
        raw,
        descriptor,
        [extent],
        descriptor_offset_bytes=header.descriptor_offset_sectors * SECTOR_BYTES,
        descriptor_room_bytes=header.descriptor_sectors * SECTOR_BYTES,
        writable=writable,
        parent=parent,
    )


def _descriptor_or_empty(raw: BlockDevice, header: SparseHeader, *, writable: bool) -> Descriptor:
    """The embedded descriptor; reading needs none, because the header says enough."""
    try:
        return read_embedded(raw, header)
    except VmdkError:
        if writable:
            raise
        return Descriptor("")


def _open_parent(
    folder: Folder | None, descriptor: Descriptor, where: str, children: tuple[str, ...]
) -> VmdkDevice | None:
    if not chain.has_parent(descriptor):
        return None
    return chain.open_parent(folder, descriptor, where, children, _open)


def _open_described(
    raw: BlockDevice, folder: Folder | None, children: tuple[str, ...], *, writable: bool
) -> VmdkDevice:
    descriptor = read_separate(raw)
    lines = extent_lines(descriptor, raw.name)
    for problem in shared_bytes(lines, own_name(raw)) if writable else ():
        raise VmdkError(
            f"{problem}, so that writing one part of the disk would change another",
            where=raw.name,
            remedy="open it read-only, or mend the extent lines of its descriptor",
        )
    if folder is None:
        raise VmdkError("the folder of its extents is not known", where=raw.name)
    files: dict[str, BlockDevice] = {}
    parent: VmdkDevice | None = None
    try:
        _open_files(files, folder, descriptor, raw.name, writable=writable)
        if any(line.kind not in FLAT_KINDS for line in lines):
            parent = _open_parent(folder, descriptor, raw.name, children)
        extents = _open_extents(files, lines, raw.name, parent, writable=writable)
    except BaseException:
        for file in (*files.values(), *([parent] if parent is not None else [])):
            file.close()
        raise
    return VmdkDevice(
        raw, descriptor, extents, descriptor_offset_bytes=0, writable=writable, parent=parent
    )


def _open_files(
    files: dict[str, BlockDevice],
    folder: Folder,
    descriptor: Descriptor,
    where: str,
    *,
    writable: bool,
) -> None:
    """Open each file that a descriptor names, once, for writing where a line allows it."""
    lines = descriptor.extents
    changed = {line.file_name for line in lines if writable and line.access == "RW"}
    for name in dict.fromkeys(line.file_name for line in lines if has_file(line)):
        assert name is not None
        try:
            files[name] = open_extent(folder, name, where, writable=name in changed)
        except VmdkError as error:
            if chain.has_parent(descriptor):
                error.remedy = lost_delta_remedy(descriptor)
            raise


def lost_delta_remedy(descriptor: Descriptor) -> str:
    """What is left when the changes since a snapshot are gone."""
    parent = shown(descriptor.parent_hint or "its parent")
    return (
        "it holds the changes since a snapshot; without it the disk is as it was then, which is "
        f"“{parent}”: put the file back, or use that disk"
    )


def _open_extents(
    files: dict[str, BlockDevice],
    lines: tuple[ExtentLine, ...],
    where: str,
    parent: VmdkDevice | None,
    *,
    writable: bool,
) -> list[DiskExtent]:
    extents: list[DiskExtent] = []
    first_bytes = 0
    for line in lines:
        below = _part(parent, first_bytes, line.size_bytes)
        first_bytes += line.size_bytes
        if not has_file(line):
            extents.append(ZeroExtent(line, where))
        elif line.kind in FLAT_KINDS:
            extents.append(FlatExtent(files[line.file_name or ""], line))
        else:
            extents.append(_grain_part(files[line.file_name or ""], line, below, writable=writable))
    return extents


def _grain_part(
    file: BlockDevice, line: ExtentLine, below: BlockDevice | None, *, writable: bool
) -> DiskExtent:
    extent = grain_extent(
        file,
        writable=writable and line.access == "RW",
        size_bytes=line.size_bytes,
        below=below,
    )
    if extent.size_bytes < line.size_bytes:
        raise VmdkError(
            f"it has room for {extent.size_bytes // SECTOR_BYTES} sectors, its descriptor says "
            f"{line.sector_count}",
            where=printable(file.name),
            remedy="put the right file in its place, or mend it: ipva disk repair DISK",
        )
    return extent


def _part(parent: VmdkDevice | None, first_bytes: int, size_bytes: int) -> BlockDevice | None:
    """What of a parent lies below an extent; None where it ends before."""
    if parent is None or first_bytes >= parent.size_bytes:
        return None
    return SliceDevice(parent, first_bytes, min(size_bytes, parent.size_bytes - first_bytes))


def own_name(raw: BlockDevice) -> str:
    """Name of a file without its folder."""
    return re.split(r"[/\\]", raw.name)[-1]


def has_file(line: ExtentLine) -> bool:
    """Whether an extent has bytes in a file that may be read."""
    return line.kind not in FILELESS_KINDS and line.access != "NOACCESS"


def extent_lines(descriptor: Descriptor, where: str) -> tuple[ExtentLine, ...]:
    """The extent lines of a disk, bounded.

    Raises:
        VmdkError: there is none or too many, one is of a kind that is not read, or they are too
            large for a disk.
    """
    lines = descriptor.extents
    if not 1 <= len(lines) <= EXTENTS_MAX:
        raise VmdkError(f"its descriptor names {len(lines)} extents", where=where)
    for line in lines:
        _refuse_line(descriptor, line, where)
    sector_count = sum(line.sector_count for line in lines)
    if sector_count * SECTOR_BYTES > CAPACITY_MAX_BYTES:
        raise VmdkError(f"a disk of {sector_count} sectors is impossible", where=where)
    return lines


def _refuse_line(descriptor: Descriptor, line: ExtentLine, where: str) -> None:
    if line.kind in DEVICE_KINDS:
        raise VmdkError(
            f"{shown(descriptor.create_type)}: it stands for a physical disk, whose bytes are not "
            "in these files",
            where=where,
            remedy="read that disk itself",
        )
    if has_file(line) and (line.kind not in FILE_KINDS or line.file_name is None):
        raise VmdkError(f"an extent of kind {shown(line.kind)} is unknown", where=where)
    if line.size_bytes + line.offset_sectors * SECTOR_BYTES > CAPACITY_MAX_BYTES:
        raise VmdkError(f"an extent of {line.sector_count} sectors is impossible", where=where)
