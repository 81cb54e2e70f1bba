"""Telling VMDK files from others, and opening them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ipva_storage.device import read
from ipva_storage.errors import DeviceError, VmdkError
from ipva_storage.units import SECTOR_BYTES, printable
from ipva_storage.vmdk.descriptor import (
    NO_PARENT_CID,
    Descriptor,
    ExtentLine,
    is_descriptor,
    shown,
)
from ipva_storage.vmdk.disk import VmdkDevice
from ipva_storage.vmdk.extent.flat import FLAT_KINDS, FlatExtent, shared_bytes
from ipva_storage.vmdk.extent.header import (
    CAPACITY_MAX_BYTES,
    DESCRIPTOR_MAX_BYTES,
    SPARSE_MAGIC,
    SparseHeader,
    check_usable,
    read_header,
)
from ipva_storage.vmdk.extent.sparse import SparseExtent

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice, Folder

CONVERT_FIRST: Final = "convert it with qemu-img or VMware first"
"""The way out for kinds that are not read here."""

EXTENTS_MAX: Final = 1024
"""The most extents of a disk. Confidence: chosen (a disk of 2 TiB in pieces of 2 GiB)."""

OTHER_MAGICS: Final = {b"COWD": "vmfsSparse", bytes.fromhex("bebafeca"): "seSparse"}
"""The first bytes of `ipva_formats.vmdk.COWD_MAGIC` and `SESPARSE_MAGIC`."""


def is_vmdk(raw: BlockDevice) -> bool:
    """Whether a file is a VMDK by its content: a sparse extent of any kind, or a descriptor."""
    start = read(raw, 0, min(raw.size_bytes, 1024))
    return start[:4] == SPARSE_MAGIC or start[:4] in OTHER_MAGICS or is_descriptor(start)


def open(  # noqa: A001 - the rooms' common door
    raw: BlockDevice, folder: Folder | None = None, *, writable: bool = False
) -> VmdkDevice:
    """The disk in a VMDK.

    Args:
        raw: the file; it belongs to the disk from now on, and is closed when this fails.
        folder: where the extents of a separate descriptor are.
        writable: whether the disk may be changed; `raw` must be writable then.

    Raises:
        VmdkError: it is no VMDK, is damaged, or is of a kind that is not read.
        DeviceError: `raw` cannot be read.
    """
    try:
        start = read(raw, 0, min(raw.size_bytes, 1024))
        if start[:4] == SPARSE_MAGIC:
            return _open_sparse(raw, writable=writable)
        if start[:4] in OTHER_MAGICS:
            raise refusal(OTHER_MAGICS[start[:4]], raw.name)
        if is_descriptor(start):
            return _open_flat(raw, folder, writable=writable)
        raise VmdkError("it is no VMDK file", where=raw.name)
    except BaseException:
        raw.close()
        raise


def refusal(kind: str, where: str) -> VmdkError:
    """The error for a kind that is not read."""
    return VmdkError(f"{kind} disks are not read yet", where=where, remedy=CONVERT_FIRST)


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


def check_readable(descriptor: Descriptor, expected: tuple[str, ...], where: str) -> None:
    """Refuse the kinds of disk that are not read.

    Raises:
        VmdkError: it is a snapshot's delta, or `createType` is not one of `expected`.
    """
    if descriptor.parent_cid != NO_PARENT_CID:
        parent = shown(descriptor.parent_hint or "another disk")
        raise VmdkError(
            f"it holds only what changed since a snapshot of {parent}",
            where=where,
            remedy=f"remove the snapshot in VMware, or {CONVERT_FIRST}",
        )
    kind = descriptor.create_type
    if kind and kind.lower() not in [one.lower() for one in expected]:
        raise refusal(shown(kind), where)


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


def _parse(raw: BlockDevice, data: bytes, offset_bytes: int) -> Descriptor:
    try:
        return Descriptor.parse(data)
    except VmdkError as error:
        error.where, error.offset_bytes = raw.name, offset_bytes
        raise


def _open_sparse(raw: BlockDevice, *, writable: bool) -> VmdkDevice:
    header = read_header(raw)
    if header.is_compressed:
        raise refusal("streamOptimized", raw.name)
    check_usable(header, raw)
    if not header.descriptor_offset_sectors:
        raise VmdkError(
            "it is one extent of a disk, without a descriptor",
            where=raw.name,
            remedy=f"name the descriptor's file; {CONVERT_FIRST}",
        )
    descriptor = _descriptor_or_empty(raw, header, writable=writable)
    check_readable(descriptor, ("monolithicSparse",), raw.name)
    if writable and header.version == 3:
        raise VmdkError(
            "version 3 keeps a change record that writing would make wrong",
            where=raw.name,
            remedy="open it read-only, or convert it",
        )
    return VmdkDevice(
        raw,
        descriptor,
        [SparseExtent(raw, header, writable=writable)],
        descriptor_offset_bytes=header.descriptor_offset_sectors * SECTOR_BYTES,
        writable=writable,
    )


def _descriptor_or_empty(raw: BlockDevice, header: SparseHeader, *, writable: bool) -> Descriptor:
    """The embedded descriptor; reading needs none, because the header says enough."""
    try:
        return read_embedded(raw, header)
    except VmdkError:
        if writable:
            raise
        return Descriptor("")


def _open_flat(raw: BlockDevice, folder: Folder | None, *, writable: bool) -> VmdkDevice:
    descriptor = read_separate(raw)
    check_readable(descriptor, ("monolithicFlat", "vmfs"), raw.name)
    lines = flat_lines(descriptor, raw.name)
    for problem in shared_bytes(lines, own_name(raw)) if writable else ():
        raise VmdkError(
            f"{problem}, so that writing one part of the disk would change another",
            where=raw.name,
            remedy="open it read-only, or mend the extent lines of its descriptor",
        )
    if folder is None:
        raise VmdkError("the folder of its extents is not known", where=raw.name)
    files: dict[str, BlockDevice] = {}
    changed = {line.file_name for line in lines if writable and line.access == "RW"}
    try:
        for name in dict.fromkeys(line.file_name or "" for line in lines):
            files[name] = open_extent(folder, name, raw.name, writable=name in changed)
        extents = [FlatExtent(files[line.file_name or ""], line) for line in lines]
    except VmdkError:
        for file in files.values():
            file.close()
        raise
    return VmdkDevice(raw, descriptor, extents, descriptor_offset_bytes=0, writable=writable)


def own_name(raw: BlockDevice) -> str:
    """Name of a file without its folder."""
    return re.split(r"[/\\]", raw.name)[-1]


def flat_lines(descriptor: Descriptor, where: str) -> tuple[ExtentLine, ...]:
    """The extent lines of a flat disk, bounded.

    Raises:
        VmdkError: there is none or too many, one is not flat, or they are too large for a disk.
    """
    lines = descriptor.extents
    if not 1 <= len(lines) <= EXTENTS_MAX:
        raise VmdkError(f"its descriptor names {len(lines)} extents", where=where)
    for line in lines:
        if line.kind not in FLAT_KINDS or line.file_name is None or line.access == "NOACCESS":
            kind = f"{shown(descriptor.create_type)} with an extent of kind {shown(line.kind)}"
            raise refusal(kind, where)
        if line.size_bytes + line.offset_sectors * SECTOR_BYTES > CAPACITY_MAX_BYTES:
            raise VmdkError(f"an extent of {line.sector_count} sectors is impossible", where=where)
    sector_count = sum(line.sector_count for line in lines)
    if sector_count * SECTOR_BYTES > CAPACITY_MAX_BYTES:
        raise VmdkError(f"a disk of {sector_count} sectors is impossible", where=where)
    return lines
