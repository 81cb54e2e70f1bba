"""Making new disks, laid out as VMware and qemu do."""

from __future__ import annotations

import secrets
from array import array
from typing import TYPE_CHECKING, Final

from ipva_storage.errors import UsageError
from ipva_storage.units import SECTOR_BYTES, printable
from ipva_storage.vmdk.descriptor import NO_PARENT_CID, Descriptor
from ipva_storage.vmdk.disk import VmdkDevice
from ipva_storage.vmdk.extent.flat import FlatExtent
from ipva_storage.vmdk.extent.header import CAPACITY_MAX_BYTES, SparseHeader
from ipva_storage.vmdk.extent.sparse import SparseExtent
from ipva_storage.vmdk.extent.tables import bytes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipva_storage.device import BlockDevice, Folder

SUBFORMATS: Final = ("monolithicSparse", "monolithicFlat")
"""The kinds that `create` makes."""

ADAPTERS: Final = ("ide", "buslogic", "lsilogic", "legacyESX")
"""Values of `ddb.adapterType`. Source: Virtual Disk Format 5.0; qemu adds the last."""

GRAIN_SECTORS: Final = 128
"""A grain of 64 KiB. Source: VMware's and qemu's default. Confidence: stated."""

GTES_PER_GT: Final = 512
DESCRIPTOR_SECTORS: Final = 20
"""Room for the embedded descriptor. Source: VMware's and qemu's files. Confidence: inferred."""

IDE_CYLINDERS_MAX: Final = 16383
"""Cylinders that IDE can name. Source: ATA-4. Confidence: stated."""

_TEMPLATE: Final = """\
# Disk DescriptorFile
version=1
encoding="UTF-8"
CID={cid:08x}
parentCID=ffffffff
createType="{subformat}"

# Extent description
{extent}

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "{cylinders}"
ddb.geometry.heads = "{heads}"
ddb.geometry.sectors = "63"
ddb.adapterType = "{adapter}"
"""


def create(
    folder: Folder,
    name: str,
    size_bytes: int,
    *,
    subformat: str = "monolithicSparse",
    adapter: str = "ide",
    force: bool = False,
    fill: Callable[[BlockDevice], None] | None = None,
) -> None:
    """Make a disk of zeros, or of what `fill` writes; its files appear whole or not at all.

    Of a flat disk the content `NAME-flat.vmdk` appears first and the descriptor last, and without
    the descriptor there is no disk.

    Args:
        folder: where.
        name: name of the file, with `.vmdk`.
        size_bytes: size of the disk; rounded up to whole sectors of 512 bytes.
        subformat: one of `SUBFORMATS`.
        adapter: one of `ADAPTERS`.
        force: replace files of these names.
        fill: is given the disk, to write its content before the files get their names.

    Raises:
        UsageError: the size, subformat, adapter or name makes no sense.
        DeviceError: the files are there already, or cannot be made.
    """
    _check_arguments(name, size_bytes, subformat, adapter)
    if subformat == "monolithicSparse":
        with folder.new_file(name, force=force) as raw:
            _finish(new_sparse(raw, name, size_bytes, adapter=adapter), fill)
        return
    flat_name = f"{name.removesuffix('.vmdk')}-flat.vmdk"
    sector_count = -(-size_bytes // SECTOR_BYTES)
    descriptor = _descriptor(subformat, f'RW {sector_count} FLAT "{flat_name}" 0', adapter)
    with folder.new_file(name, force=force) as raw, folder.new_file(flat_name, force=force) as flat:
        _finish(_new_flat(raw, flat, descriptor), fill)


def new_sparse(
    raw: BlockDevice,
    name: str,
    size_bytes: int,
    *,
    adapter: str = "ide",
    grain_sectors: int = GRAIN_SECTORS,
    gtes_per_gt: int = GTES_PER_GT,
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
    """
    sector_count = -(-size_bytes // SECTOR_BYTES)
    descriptor = _descriptor("monolithicSparse", f'RW {sector_count} SPARSE "{name}"', adapter)
    header = _sparse_header(sector_count, grain_sectors, gtes_per_gt)
    _write_metadata(raw, header, descriptor)
    extent = SparseExtent(raw, header, writable=True)
    return VmdkDevice(
        raw, descriptor, [extent], descriptor_offset_bytes=SECTOR_BYTES, writable=True
    )


def _sparse_header(sector_count: int, grain_sectors: int, gtes_per_gt: int) -> SparseHeader:
    """The header of a disk laid out as VMware and qemu do."""
    from ipva_formats.vmdk import FLAG_NEWLINES, FLAG_REDUNDANT, NEWLINES

    table_count = -(-sector_count // (grain_sectors * gtes_per_gt))
    table_sectors = -(-gtes_per_gt * 4 // SECTOR_BYTES)
    copy_sectors = -(-table_count * 4 // SECTOR_BYTES) + table_count * table_sectors
    rgd_sector = 1 + DESCRIPTOR_SECTORS
    gd_sector = rgd_sector + copy_sectors
    overhead = -(-(gd_sector + copy_sectors) // grain_sectors) * grain_sectors
    return SparseHeader(
        version=1,
        flags=FLAG_NEWLINES | FLAG_REDUNDANT,
        capacity_sectors=sector_count,
        grain_sectors=grain_sectors,
        descriptor_offset_sectors=1,
        descriptor_sectors=DESCRIPTOR_SECTORS,
        gtes_per_gt=gtes_per_gt,
        rgd_offset_sectors=rgd_sector,
        gd_offset_sectors=gd_sector,
        overhead_sectors=overhead,
        unclean_shutdown=0,
        newlines=NEWLINES,
        compress_algorithm=0,
    )


def _write_metadata(raw: BlockDevice, header: SparseHeader, descriptor: Descriptor) -> None:
    """Header, descriptor, both directories; the tables are zeros of the new file."""
    from ipva_formats.vmdk import SPARSE_HEADER

    raw.resize(header.overhead_sectors * SECTOR_BYTES)
    fields = {name: getattr(header, name) for name in SparseHeader.__slots__}
    raw.write(0, SPARSE_HEADER.build(fields))
    raw.write(SECTOR_BYTES, descriptor.encode())
    step = header.table_sectors
    for directory_sector in (header.rgd_offset_sectors, header.gd_offset_sectors):
        first = directory_sector + -(-header.table_count * 4 // SECTOR_BYTES)
        tables = array("I", range(first, first + header.table_count * step, step))
        raw.write(directory_sector * SECTOR_BYTES, bytes_of(tables))


def _new_flat(raw: BlockDevice, flat: BlockDevice, descriptor: Descriptor) -> VmdkDevice:
    line = descriptor.extents[0]
    flat.resize(line.size_bytes)
    text = descriptor.encode()
    raw.resize(len(text))
    raw.write(0, text)
    extents = [FlatExtent(flat, line)]
    return VmdkDevice(raw, descriptor, extents, descriptor_offset_bytes=0, writable=True)


def _finish(disk: VmdkDevice, fill: Callable[[BlockDevice], None] | None) -> None:
    """Fill and seal a disk whose files somebody else closes."""
    if fill is not None:
        fill(disk)
    disk.seal()


def _descriptor(subformat: str, extent: str, adapter: str) -> Descriptor:
    sector_count = int(extent.split()[1])
    heads = 16 if adapter == "ide" else 255
    cylinders = sector_count // (heads * 63)
    text = _TEMPLATE.format(
        cid=secrets.randbelow(NO_PARENT_CID - 2) + 1,
        subformat=subformat,
        extent=extent,
        cylinders=min(cylinders, IDE_CYLINDERS_MAX) if adapter == "ide" else cylinders,
        heads=heads,
        adapter=adapter,
    )
    return Descriptor(text)


def _check_arguments(name: str, size_bytes: int, subformat: str, adapter: str) -> None:
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        raise UsageError("the name is not valid UTF-8", where=printable(name))
    if subformat not in SUBFORMATS:
        raise UsageError(f"“{subformat}” disks are not made; choose {' or '.join(SUBFORMATS)}")
    if adapter not in ADAPTERS:
        raise UsageError(f"“{adapter}” is no adapter; choose {', '.join(ADAPTERS)}")
    if not 1 <= size_bytes <= CAPACITY_MAX_BYTES:
        raise UsageError(f"a disk of {size_bytes} bytes cannot be; choose 1 byte to 64 TiB")
    if any(c in name for c in '"\r\n\0'):
        raise UsageError("a file name with quotation marks or line ends fits no descriptor")
