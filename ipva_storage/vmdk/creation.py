"""Making new disks, laid out as VMware and qemu do."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from ipva_storage.device.staging import staged
from ipva_storage.errors import UsageError
from ipva_storage.units import SECTOR_BYTES, printable
from ipva_storage.vmdk.access import EXTENTS_MAX
from ipva_storage.vmdk.codec import DEFAULT_LEVEL, LEVELS
from ipva_storage.vmdk.describe import ADAPTERS, describe
from ipva_storage.vmdk.descriptor import NO_PARENT_CID, Descriptor
from ipva_storage.vmdk.disk import VmdkDevice
from ipva_storage.vmdk.extent.flat import FlatExtent
from ipva_storage.vmdk.extent.header import CAPACITY_MAX_BYTES, SparseHeader, build_header
from ipva_storage.vmdk.extent.pack import StreamWriter, stream_header
from ipva_storage.vmdk.extent.sparse import SparseExtent
from ipva_storage.vmdk.extent.tables import bytes_of, usual_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipva_storage.device import BlockDevice, Folder
    from ipva_storage.vmdk.extent.base import DiskExtent

REWRITABLE: Final = (
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "vmfs",
)
"""The kinds that `create` makes and that are written to afterwards."""

SUBFORMATS: Final = (*REWRITABLE, "streamOptimized")
"""The kinds that `create` makes; the last is written once, from start to end."""

GRAIN_SECTORS: Final = 128
"""A grain of 64 KiB. Source: VMware's and qemu's default. Confidence: stated."""

GTES_PER_GT: Final = 512
DESCRIPTOR_SECTORS: Final = 20
"""Room for the embedded descriptor. Source: VMware's and qemu's files. Confidence: inferred."""

SPLIT_SECTORS: Final = 4_192_256
"""The most that VMware puts into one extent of a split disk, 2047 MiB, so that the file stays below
2 GiB. Source: descriptors of VMware Workstation. Confidence: inferred.
"""


def create(
    folder: Folder,
    name: str,
    size_bytes: int,
    *,
    subformat: str = "monolithicSparse",
    adapter: str = "ide",
    force: bool = False,
    level: int = DEFAULT_LEVEL,
    fill: Callable[[BlockDevice], None] | None = None,
    verify: Callable[[Folder], None] | None = None,
) -> None:
    """Make a disk of zeros, or of what `fill` writes; its files appear whole or not at all.

    Of a disk of several files the descriptor appears last, and without it there is no disk.

    Args:
        folder: where.
        name: name of the file, with `.vmdk`.
        size_bytes: size of the disk; rounded up to whole sectors of 512 bytes.
        subformat: one of `SUBFORMATS`.
        adapter: one of `ADAPTERS`.
        force: replace files of these names.
        level: how hard to compress a `streamOptimized` disk, 1 to 9.
        fill: is given the disk, to write its content before the files get their names. A
            `streamOptimized` disk is to be written from start to end.
        verify: is given a folder in which the finished disk lies under its name, before the files
            are moved to their place; what it raises undoes all.

    Raises:
        UsageError: the size, subformat, adapter or name makes no sense.
        DeviceError: the files are there already, or cannot be made.
    """
    _check_arguments(name, size_bytes, subformat, adapter, level)
    folder.resolve(name)
    names = file_names(name, size_bytes, subformat)
    with staged(folder, last=name, force=force, names=names) as place:
        with contextlib.ExitStack() as files:
            raw = files.enter_context(place.new_file(name))
            disk = _DISKS[subformat](
                _Making(place, name, size_bytes, subformat, adapter, level, files), raw
            )
            if fill is not None:
                fill(disk)
            disk.seal()
        if verify is not None:
            verify(place)


def file_names(name: str, size_bytes: int, subformat: str) -> list[str]:
    """Names of all files of a disk that `create` makes, the one with the descriptor first.

    Args:
        name: its file.
        size_bytes: of the disk.
        subformat: one of `SUBFORMATS`.
    """
    letter = {"twoGbMaxExtentSparse": "s", "twoGbMaxExtentFlat": "f"}.get(subformat)
    if letter is not None:
        count = -(-size_bytes // (SPLIT_SECTORS * SECTOR_BYTES))
        return [name, *(_part_name(name, f"{letter}{number + 1:03}") for number in range(count))]
    is_flat = subformat in ("monolithicFlat", "vmfs")
    return [name, _part_name(name, "flat")] if is_flat else [name]


def _part_name(name: str, ending: str) -> str:
    """Name of a further file, with the ending before `.vmdk`."""
    return f"{name.removesuffix('.vmdk')}-{ending}.vmdk"


class _Making:
    """What the makers of the kinds need to know."""

    def __init__(
        self,
        place: Folder,
        name: str,
        size_bytes: int,
        subformat: str,
        adapter: str,
        level: int,
        files: contextlib.ExitStack,
    ) -> None:
        self.name = name
        self.sector_count = -(-size_bytes // SECTOR_BYTES)
        self.subformat = subformat
        self.adapter = adapter
        self.level = level
        self._place = place
        self._files = files

    def describe(self, extents: list[str]) -> Descriptor:
        size_bytes = self.sector_count * SECTOR_BYTES
        return describe(self.subformat, extents, size_bytes, adapter=self.adapter)

    def part(self, ending: str) -> tuple[str, BlockDevice]:
        """One more file: its name, and the file."""
        name = _part_name(self.name, ending)
        return name, self._files.enter_context(self._place.new_file(name))

    def pieces(self) -> Iterator[tuple[int, int]]:
        """The extents of a split disk: number from 1, and sectors."""
        for number, first in enumerate(range(0, self.sector_count, SPLIT_SECTORS), 1):
            yield number, min(SPLIT_SECTORS, self.sector_count - first)


def _make_sparse(making: _Making, raw: BlockDevice) -> VmdkDevice:
    size_bytes = making.sector_count * SECTOR_BYTES
    return new_sparse(raw, making.name, size_bytes, adapter=making.adapter)


def _make_stream(making: _Making, raw: BlockDevice) -> VmdkDevice:
    size_bytes = making.sector_count * SECTOR_BYTES
    return new_stream(raw, making.name, size_bytes, adapter=making.adapter, level=making.level)


def _make_flat(making: _Making, raw: BlockDevice) -> VmdkDevice:
    """One flat file: a hosted one, or ESXi's, which has its own word and no offset."""
    is_esxi = making.subformat == "vmfs"
    kind, rest = ("VMFS", "") if is_esxi else ("FLAT", " 0")
    name, file = making.part("flat")
    line = f'RW {making.sector_count} {kind} "{name}"{rest}'
    return _described(raw, making.describe([line]), [file])


def _make_split_flat(making: _Making, raw: BlockDevice) -> VmdkDevice:
    lines, files = [], []
    for number, sector_count in making.pieces():
        name, file = making.part(f"f{number:03}")
        lines.append(f'RW {sector_count} FLAT "{name}" 0')
        files.append(file)
    return _described(raw, making.describe(lines), files)


def _make_split_sparse(making: _Making, raw: BlockDevice) -> VmdkDevice:
    lines: list[str] = []
    extents: list[DiskExtent] = []
    for number, sector_count in making.pieces():
        name, file = making.part(f"s{number:03}")
        lines.append(f'RW {sector_count} SPARSE "{name}"')
        extents.append(new_sparse_extent(file, sector_count))
    return _with_text(raw, making.describe(lines), extents)


_DISKS: Final[dict[str, Callable[[_Making, BlockDevice], VmdkDevice]]] = {
    "monolithicSparse": _make_sparse,
    "monolithicFlat": _make_flat,
    "twoGbMaxExtentSparse": _make_split_sparse,
    "twoGbMaxExtentFlat": _make_split_flat,
    "vmfs": _make_flat,
    "streamOptimized": _make_stream,
}


def _described(raw: BlockDevice, descriptor: Descriptor, files: list[BlockDevice]) -> VmdkDevice:
    """A disk of flat extents, each with a file."""
    extents: list[DiskExtent] = []
    for file, line in zip(files, descriptor.extents, strict=True):
        file.resize(line.size_bytes)
        extents.append(FlatExtent(file, line))
    return _with_text(raw, descriptor, extents)


def _with_text(raw: BlockDevice, descriptor: Descriptor, extents: list[DiskExtent]) -> VmdkDevice:
    text = descriptor.encode()
    raw.resize(len(text))
    raw.write(0, text)
    return VmdkDevice(raw, descriptor, extents, descriptor_offset_bytes=0, writable=True)


def new_sparse(
    raw: BlockDevice,
    name: str,
    size_bytes: int,
    *,
    adapter: str = "ide",
    grain_sectors: int = GRAIN_SECTORS,
    gtes_per_gt: int = GTES_PER_GT,
    parent: VmdkDevice | None = None,
    parent_name: str | None = None,
) -> VmdkDevice:
    """Lay out an empty sparse disk in an empty file, and open it for writing.

    Header, descriptor, redundant directory and tables, primary directory and tables, up to the
    next grain.

    Args:
        raw: the file; it belongs to the disk from now on.
        name: what its extent line calls it.
        size_bytes: size of the disk; rounded up to whole sectors.
        adapter: one of `ADAPTERS`.
        grain_sectors: a power of two, 8 to 2048. VMware reads 128 for certain.
        gtes_per_gt: entries in a grain table, up to 512. VMware reads 512 for certain.
        parent: the disk that shows through; it belongs to the disk from now on.
        parent_name: the parent's file name.
    """
    sector_count = -(-size_bytes // SECTOR_BYTES)
    cid = None if parent is None else parent.descriptor.cid
    descriptor = describe(
        "monolithicSparse",
        [f'RW {sector_count} SPARSE "{name}"'],
        sector_count * SECTOR_BYTES,
        adapter=adapter,
        cid=cid,
        parent_cid=NO_PARENT_CID if cid is None else cid,
        parent_name=parent_name,
    )
    header = sparse_header(sector_count, grain_sectors, gtes_per_gt, DESCRIPTOR_SECTORS)
    write_metadata(raw, header)
    raw.write(SECTOR_BYTES, descriptor.encode())
    extent = SparseExtent(raw, header, writable=True, below=parent)
    return VmdkDevice(
        raw,
        descriptor,
        [extent],
        descriptor_offset_bytes=SECTOR_BYTES,
        writable=True,
        parent=parent,
    )


def new_stream(
    raw: BlockDevice,
    name: str,
    size_bytes: int,
    *,
    adapter: str = "ide",
    level: int = DEFAULT_LEVEL,
) -> VmdkDevice:
    """Begin a stream-optimized disk in an empty file; it is to be written from start to end.

    Args:
        raw: the file; it belongs to the disk from now on.
        name: what its extent line calls it.
        size_bytes: size of the disk; rounded up to whole sectors.
        adapter: one of `ADAPTERS`.
        level: how hard to compress, 1 to 9.
    """
    sector_count = -(-size_bytes // SECTOR_BYTES)
    descriptor = describe(
        "streamOptimized",
        [f'RW {sector_count} SPARSE "{name}"'],
        sector_count * SECTOR_BYTES,
        adapter=adapter,
    )
    header = stream_header(sector_count, GRAIN_SECTORS, GTES_PER_GT, DESCRIPTOR_SECTORS)
    raw.resize(header.overhead_sectors * SECTOR_BYTES)
    raw.write(0, build_header(header))
    raw.write(SECTOR_BYTES, descriptor.encode())
    extent = StreamWriter(raw, header, level=level)
    return VmdkDevice(
        raw, descriptor, [extent], descriptor_offset_bytes=SECTOR_BYTES, writable=True
    )


def new_sparse_extent(raw: BlockDevice, sector_count: int) -> SparseExtent:
    """Lay out an empty extent of a split disk in an empty file, and open it for writing."""
    header = sparse_header(sector_count, GRAIN_SECTORS, GTES_PER_GT, descriptor_sectors=0)
    write_metadata(raw, header)
    return SparseExtent(raw, header, writable=True)


def sparse_header(
    sector_count: int, grain_sectors: int, gtes_per_gt: int, descriptor_sectors: int
) -> SparseHeader:
    """The header of an extent laid out as VMware and qemu do."""
    from ipva_formats.vmdk import FLAG_NEWLINES, FLAG_REDUNDANT, NEWLINES

    table_count = -(-sector_count // (grain_sectors * gtes_per_gt))
    table_sectors = -(-gtes_per_gt * 4 // SECTOR_BYTES)
    copy_sectors = -(-table_count * 4 // SECTOR_BYTES) + table_count * table_sectors
    rgd_sector = 1 + descriptor_sectors
    gd_sector = rgd_sector + copy_sectors
    overhead = -(-(gd_sector + copy_sectors) // grain_sectors) * grain_sectors
    return SparseHeader(
        version=1,
        flags=FLAG_NEWLINES | FLAG_REDUNDANT,
        capacity_sectors=sector_count,
        grain_sectors=grain_sectors,
        descriptor_offset_sectors=1 if descriptor_sectors else 0,
        descriptor_sectors=descriptor_sectors,
        gtes_per_gt=gtes_per_gt,
        rgd_offset_sectors=rgd_sector,
        gd_offset_sectors=gd_sector,
        overhead_sectors=overhead,
        unclean_shutdown=0,
        newlines=NEWLINES,
        compress_algorithm=0,
    )


def write_metadata(raw: BlockDevice, header: SparseHeader) -> None:
    """Header and both directories; the tables are zeros of the new file."""
    raw.resize(header.overhead_sectors * SECTOR_BYTES)
    raw.write(0, build_header(header))
    for directory_sector in (header.rgd_offset_sectors, header.gd_offset_sectors):
        raw.write(
            directory_sector * SECTOR_BYTES, bytes_of(usual_directory(header, directory_sector))
        )


def _check_arguments(name: str, size_bytes: int, subformat: str, adapter: str, level: int) -> None:
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        raise UsageError("the name is not valid UTF-8", where=printable(name))
    if subformat not in SUBFORMATS:
        raise UsageError(f"“{subformat}” disks are not made; choose {' or '.join(SUBFORMATS)}")
    if adapter not in ADAPTERS:
        raise UsageError(f"“{adapter}” is no adapter; choose {', '.join(ADAPTERS)}")
    if level not in LEVELS:
        raise UsageError(f"{level} is no level of compression; choose 1 to 9")
    if not 1 <= size_bytes <= CAPACITY_MAX_BYTES:
        raise UsageError(f"a disk of {size_bytes} bytes cannot be; choose 1 byte to 64 TiB")
    if len(file_names(name, size_bytes, subformat)) - 1 > EXTENTS_MAX:
        raise UsageError(
            f"a disk of {size_bytes} bytes has too many pieces of 2 GiB",
            remedy="choose a kind that is not split, such as monolithicSparse",
        )
    if any(c in name for c in '"\r\n\0'):
        raise UsageError("a file name with quotation marks or line ends fits no descriptor")
