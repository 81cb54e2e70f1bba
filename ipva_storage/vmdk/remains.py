"""Opening a damaged disk for what is left of it; nothing of it is written to.

What `open` refuses as a whole is refused here part by part, when it is read: an extent that is not
there, a flat file that was cut, a stream-optimized file whose end, and so its directory, is lost.
Read it through a `SalvageDevice`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ipva_storage.device import Extent as Run
from ipva_storage.device import byte_view, read
from ipva_storage.errors import VmdkError
from ipva_storage.units import SECTOR_BYTES, printable
from ipva_storage.vmdk import access, chain
from ipva_storage.vmdk.descriptor import Descriptor, is_descriptor, shown
from ipva_storage.vmdk.disk import VmdkDevice
from ipva_storage.vmdk.extent.base import DiskExtent, ReadOnlyExtent
from ipva_storage.vmdk.extent.flat import FLAT_KINDS
from ipva_storage.vmdk.extent.header import SPARSE_MAGIC, check_usable, read_header
from ipva_storage.vmdk.extent.sparse import SparseExtent
from ipva_storage.vmdk.extent.zero import ZeroExtent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import WriteableBuffer

    from ipva_storage.device import BlockDevice, Folder
    from ipva_storage.vmdk.descriptor import ExtentLine


def open_remains(folder: Folder, name: str) -> VmdkDevice:
    """A disk, read-only, whether it is whole or not.

    Args:
        folder: where the disk is.
        name: its file.

    Raises:
        VmdkError: nothing can be read of it, or it is a snapshot's child whose parent does not fit.
        DeviceError: a file is outside the folder, or cannot be opened though it is there.
    """
    try:
        return hide_lost(access.open(folder.open(name), folder))
    except VmdkError:
        with contextlib.ExitStack() as files:
            raw = files.enter_context(folder.open(name))
            disk = _described(raw, folder, files) or _stream(raw)
            if disk is None:
                raise
            files.pop_all()
            return hide_lost(disk)


def hide_lost(disk: VmdkDevice) -> VmdkDevice:
    """From now on, refuse to read what lost tables told of, also in the disks below.

    Returns:
        The disk.
    """
    each: VmdkDevice | None = disk
    while each is not None:
        for part in each.parts:
            if isinstance(part, SparseExtent):
                part.hide_lost()
        each = each.parent
    return disk


def has_remains(folder: Folder, name: str) -> bool:
    """Whether a disk that does not open is one that `open_remains` can open all the same."""
    with folder.open(name) as raw:
        try:
            start = read(raw, 0, min(raw.size_bytes, 1024))
            if start[:4] != SPARSE_MAGIC:
                return is_descriptor(start) and _is_whole(access.read_descriptor(raw), raw.name)
            header = read_header(raw)
            check_usable(header, raw)
            return header.has_markers and not chain.has_parent(_descriptor(raw))
        except VmdkError:
            return False


def _is_whole(descriptor: Descriptor, where: str) -> bool:
    """Whether a descriptor says what the disk is made of; a child's does not.

    Raises:
        VmdkError: its extents cannot be.
    """
    return bool(access.extent_lines(descriptor, where)) and not chain.has_parent(descriptor)


def _descriptor(raw: BlockDevice) -> Descriptor:
    try:
        return access.read_descriptor(raw)
    except VmdkError:
        return Descriptor("")


def _stream(raw: BlockDevice) -> VmdkDevice | None:
    """The disk in a stream-optimized file; None where it is none, or a child."""
    if read(raw, 0, min(raw.size_bytes, 4)) != SPARSE_MAGIC:
        return None
    header, descriptor = read_header(raw), _descriptor(raw)
    if not header.has_markers or chain.has_parent(descriptor):
        return None
    at = header.descriptor_offset_sectors * SECTOR_BYTES
    extents = [_walked(raw, None)]
    return VmdkDevice(raw, descriptor, extents, descriptor_offset_bytes=at, writable=False)


def _walked(raw: BlockDevice, size_bytes: int | None) -> DiskExtent:
    from ipva_storage.vmdk.extent.walked import WalkedExtent

    return WalkedExtent(raw, read_header(raw), size_bytes=size_bytes)


def _described(raw: BlockDevice, folder: Folder, files: contextlib.ExitStack) -> VmdkDevice | None:
    """The disk of a descriptor; None where that is none, or a child's."""
    if not is_descriptor(read(raw, 0, min(raw.size_bytes, 1024))):
        return None
    descriptor = access.read_separate(raw)
    if chain.has_parent(descriptor):
        return None
    lines = access.extent_lines(descriptor, raw.name)
    extents = [_part(folder, line, raw.name, files) for line in lines]
    return VmdkDevice(raw, descriptor, extents, descriptor_offset_bytes=0, writable=False)


def _part(folder: Folder, line: ExtentLine, where: str, files: contextlib.ExitStack) -> DiskExtent:
    """One extent as far as it is there."""
    name = line.file_name or ""
    if not access.has_file(line):
        return ZeroExtent(line, where)
    folder.resolve(name)  # which refuses one that leaves the folder
    if not folder.has(name):
        return LostExtent(line, where, f"its extent “{shown(name)}” is not there")
    file = files.enter_context(folder.open(name))
    if line.kind in FLAT_KINDS:
        return CutExtent(file, line)
    try:
        extent = access.grain_extent(file, writable=False, size_bytes=line.size_bytes)
        problem = f"its extent “{shown(name)}” is too short"
    except VmdkError as error:
        with contextlib.suppress(VmdkError):
            if read_header(file).has_markers:
                return _walked(file, line.size_bytes)
        problem = error.message
    else:
        if extent.size_bytes == line.size_bytes:
            return extent
    file.close()
    return LostExtent(line, printable(file.name), problem)


class LostExtent(ReadOnlyExtent):
    """A part of a disk of which nothing can be read."""

    kind = "lost"

    def __init__(self, line: ExtentLine, name: str, problem: str) -> None:
        """Take the size from an extent line; `problem` is what every read says."""
        self.name = name
        self._size_bytes = line.size_bytes
        self._problem = problem

    @property
    def size_bytes(self) -> int:
        """Size of the part."""
        return self._size_bytes

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Refuse.

        Raises:
            VmdkError: always.
        """
        self._check(offset_bytes, len(byte_view(buffer)))
        raise VmdkError(self._problem, where=self.name)

    def extents(self) -> Iterator[Run]:
        """One run of data, because it may have been any."""
        yield Run(0, self._size_bytes, is_data=True)


class CutExtent(ReadOnlyExtent):
    """A flat extent whose file may end too soon."""

    kind = "flat, and was cut"

    def __init__(self, raw: BlockDevice, line: ExtentLine) -> None:
        """Show the part of `raw` that the line names."""
        self.name = raw.name
        self.raw: BlockDevice = raw
        self._offset_bytes = line.offset_sectors * SECTOR_BYTES
        self._size_bytes = line.size_bytes

    @property
    def size_bytes(self) -> int:
        """Size of the part, with what is not there."""
        return self._size_bytes

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer.

        Raises:
            VmdkError: the file ends before.
        """
        view = byte_view(buffer)
        self._check(offset_bytes, len(view))
        place = self._offset_bytes + offset_bytes
        if place + len(view) > self.raw.size_bytes:
            raise VmdkError("the file ends before that", where=self.name, offset_bytes=place)
        self.raw.read_into(place, view)

    def extents(self) -> Iterator[Run]:
        """The runs of the file, and one of data for what is not there."""
        first, end = self._offset_bytes, self._offset_bytes + self._size_bytes
        at = first
        for run in self.raw.extents():
            start = max(run.offset_bytes, first)
            stop = min(run.offset_bytes + run.length_bytes, end)
            if start < stop:
                yield Run(start - first, stop - start, run.is_data)
                at = stop
        yield Run(at - first, end - at, is_data=True)
