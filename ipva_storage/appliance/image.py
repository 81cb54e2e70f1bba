"""Opening an image file: a VMDK by its content, a raw disk, or a refusal that names the way out.

There is one rule for what is a disk, whether a .vmx names the file or a person does. A person may
also want to see what is left of one (`as_found`).
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from ipva_storage.device import read
from ipva_storage.errors import NoDiskError, VmdkError
from ipva_storage.units import SECTOR_BYTES, printable

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice, Folder

_OTHER_ENDINGS: Final = (".vmx", ".vmxf", ".vmsd", ".nvram", ".log")
"""Files that VMware keeps beside the disks. Source: VMware manuals, "Files that make up a virtual
machine". Confidence: stated.
"""

_MAGIC_BYTES: Final = 512
_RAW: Final = "qemu-img convert -O raw {} new.img"
_FOREIGN: Final = (
    (0, b"\x1f\x8b\x08", "a gzip file", "gunzip < {} > new.img"),
    (0, b"PK\x03\x04", "a zip archive", "unzip {}"),
    (0, b"\xfd7zXZ\0", "an xz file", "unxz < {} > new.img"),
    (0, b"BZh", "a bzip2 file", "bunzip2 < {} > new.img"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file", "unzstd < {} > new.img"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x {}"),
    (257, b"ustar", "a tar archive (an .ova is one)", "tar xf {}"),
    (0, b"QFI\xfb", "a qcow2 disk", _RAW),
    (0, b"vhdxfile", "a VHDX disk", _RAW),
    (0, b"conectix", "a VHD disk", _RAW),
    (0, b"<<< ", "a VDI disk", _RAW),
)
"""Where a magic number is, which, what it is of, and the command that makes an image of the file.

Source: RFC 1952, RFC 8878, POSIX.1 (ustar), the zip, xz, bzip2 and 7z file formats, and QEMU's
sources for other disks. Confidence: stated.
"""


def open_image(folder: Folder, name: str, *, writable: bool = False) -> BlockDevice:
    """The disk in a file of a folder; close it after use.

    Args:
        folder: where the file is, and the extents that it names.
        name: of the file; one that leaves the folder is refused.
        writable: whether the disk may be changed, which locks the file.

    Raises:
        NoDiskError: the file holds no disk that is read here.
        VmdkError: it is no usable VMDK, or is named as one and is none.
        DeviceError: it is missing, outside the folder, or in use.
    """
    return disk_in(folder.open(name, writable=writable), folder.beside(name), writable=writable)


def disk_in(
    raw: BlockDevice, folder: Folder, *, writable: bool = False, as_found: bool = False
) -> BlockDevice:
    """The disk in a file that is open: `raw` itself, unless it is a VMDK.

    Args:
        raw: the file; it belongs to the disk from now on, and is closed when this fails.
        folder: where the extents are that it names.
        writable: whether the disk may be changed; `raw` must be writable then.
        as_found: take a raw disk also where no machine would: a flat extent without its descriptor,
            one that ends within a sector, one with the name of another file.

    Raises:
        NoDiskError: the file holds no disk that is read here.
        VmdkError: it is no usable VMDK, or is named as one and is none.
        DeviceError: it cannot be read.
    """
    from ipva_storage import vmdk

    try:
        is_vmdk = vmdk.is_vmdk(raw)
        if not is_vmdk:
            refuse_foreign(raw)
            _refuse_beheaded(raw)
            _refuse_misnamed(raw.name)
            if not as_found:
                _refuse_unfit(raw)
    except BaseException:
        raw.close()
        raise
    return vmdk.open(raw, folder, writable=writable) if is_vmdk else raw


def refuse_foreign(raw: BlockDevice) -> None:
    """Refuse what holds a disk in a form that is not read here: an archive, or another's disk.

    Raises:
        NoDiskError: it is one; the remedy is the command that makes an image of it.
    """
    start = read(raw, 0, min(raw.size_bytes, _MAGIC_BYTES))
    for offset_bytes, magic, kind, command in _FOREIGN:
        if start.startswith(magic, offset_bytes):
            told = command.format(shlex.quote(printable(raw.name)))
            raise NoDiskError(
                f"it is {kind}, which is not read here",
                where=raw.name,
                remedy=f"turn it into an image first: {told}",
            )


def _refuse_beheaded(raw: BlockDevice) -> None:
    """Refuse as raw what is a VMDK by all but its first bytes, whatever its name.

    Raises:
        VmdkError: it is one.
    """
    from ipva_storage import vmdk

    if vmdk.is_beheaded(raw):
        remedy = "mend it with: ipva disk repair DISK"
        raise VmdkError("it is a VMDK whose start is lost", where=raw.name, remedy=remedy)


def _refuse_misnamed(name: str) -> None:
    """Refuse as raw what is named .vmdk: a write would finish off a disk whose start is lost.

    Raises:
        VmdkError: it is so named.
    """
    if name.lower().endswith(".vmdk") and not _is_flat_extent(name):
        raise VmdkError(
            "it is named .vmdk and holds neither a sparse extent nor a descriptor",
            where=name,
            remedy="rename it to .img if it is a raw image; else restore it from a backup",
        )


def _refuse_unfit(raw: BlockDevice) -> None:
    """Refuse as a machine's raw disk what is another file of it, or has a length that no disk has.

    Raises:
        NoDiskError: it is one of them.
    """
    what = None
    if _is_flat_extent(raw.name):
        what = "it is the data of a flat disk, and not the descriptor that names it"
    elif raw.name.lower().endswith(_OTHER_ENDINGS):
        what = "it is a file of the virtual machine, and no disk"
    elif not raw.size_bytes or raw.size_bytes % SECTOR_BYTES:
        what = f"it is no disk, or was cut: {raw.size_bytes} bytes are not whole sectors"
    if what is not None:
        raise NoDiskError(what, where=raw.name)


def _is_flat_extent(name: str) -> bool:
    """Whether a name is one that VMware gives to the data of a flat disk."""
    return name.lower().endswith("-flat.vmdk")
