"""What of a file belongs to a disk, and what else is in there.

A descriptor names files, and is input: a line may name a file that was never made for the disk, or
a part of one that holds other things too. So nothing is deleted, cut or written over but what is
the disk's alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_storage.device import SliceDevice, read
from ipva_storage.device.copy import chunks, is_zero
from ipva_storage.errors import DeviceError, VmdkError
from ipva_storage.progress import silent
from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk import access
from ipva_storage.vmdk.extent.flat import FLAT_KINDS
from ipva_storage.vmdk.extent.sparse import SparseExtent
from ipva_storage.vmdk.extent.stream import StreamExtent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipva_storage.device import BlockDevice, Folder
    from ipva_storage.progress import Progress
    from ipva_storage.vmdk.descriptor import ExtentLine


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


def behind_bytes(folder: Folder, line: ExtentLine, stop_bytes: int | None = None) -> int:
    """How much lies in a file behind the extent there, from its first byte that is not zero.

    Args:
        folder: where the file is.
        line: the extent.
        stop_bytes: where a flat file ends, for this question; its own end unless given.

    Raises:
        VmdkError: the extent is damaged.
        DeviceError: the file cannot be read.
    """
    with folder.open(line.file_name or "") as file:
        if line.kind not in FLAT_KINDS:
            extent = access.grain_extent(file, writable=False)
            return lost_tail_bytes(extent, line.size_bytes)
        size_bytes = file.size_bytes if stop_bytes is None else min(stop_bytes, file.size_bytes)
        return _data_bytes(file, end_bytes(line), size_bytes)


def end_bytes(line: ExtentLine) -> int:
    """Where a flat extent ends in its file."""
    return line.offset_sectors * SECTOR_BYTES + line.size_bytes


def own_files(
    folder: Folder, lines: Sequence[ExtentLine], kept: Sequence[ExtentLine] = ()
) -> tuple[list[str], list[str]]:
    """Files of extents that go, each once: those that may be deleted, and those that must stay.

    A file stays that lies elsewhere, that the descriptor makes read-only, or that holds anything
    but these extents.

    Args:
        folder: where the disk is.
        lines: the extents that go.
        kept: those that stay; their files are in neither list.
    """
    staying = {line.file_name for line in kept}
    names = dict.fromkeys(line.file_name or "" for line in lines if access.has_file(line))
    own: list[str] = []
    shared: list[str] = []
    for name in names:
        if name not in staying:
            named = [line for line in lines if line.file_name == name]
            (own if _is_own(folder, name, named) else shared).append(name)
    return own, shared


def _is_own(folder: Folder, name: str, lines: Sequence[ExtentLine]) -> bool:
    is_elsewhere = any(letter in name for letter in "/\\")
    if is_elsewhere or any(line.access != "RW" for line in lines):
        return False
    try:
        with folder.open(name) as file:
            return _holds_only(file, lines)
    except (DeviceError, VmdkError):
        return False


def _holds_only(file: BlockDevice, lines: Sequence[ExtentLine]) -> bool:
    """Whether there is nothing in a file but what the lines name of it."""
    if all(line.kind in FLAT_KINDS for line in lines):
        return not any(_data_bytes(file, *gap) for gap in _gaps(file.size_bytes, lines))
    extent = access.grain_extent(file, writable=False)
    is_lone = not (
        isinstance(extent, SparseExtent | StreamExtent) and extent.header.descriptor_offset_sectors
    )
    return is_lone and len(lines) == 1 and not lost_tail_bytes(extent, lines[0].size_bytes)


def _gaps(size_bytes: int, lines: Sequence[ExtentLine]) -> Iterator[tuple[int, int]]:
    """What of a flat file no line names: start and stop."""
    at = 0
    for line in sorted(lines, key=lambda line: line.offset_sectors):
        yield at, line.offset_sectors * SECTOR_BYTES
        at = max(at, end_bytes(line))
    yield at, size_bytes


def _data_bytes(file: BlockDevice, start_bytes: int, stop_bytes: int) -> int:
    """From the first byte of a range that is not zero to its end; 0 where all is zero."""
    if start_bytes >= stop_bytes:
        return 0
    return lost_tail_bytes(SliceDevice(file, start_bytes, stop_bytes - start_bytes), 0)
