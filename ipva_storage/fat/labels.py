"""The volume label, in the two places where it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipva_formats import fat as layout
from ipva_storage.device import read
from ipva_storage.fat import clock
from ipva_storage.fat.folder import pack_entry

if TYPE_CHECKING:
    from ipva_storage.fat.writing import Writer

_SECTOR_BYTES: Final = 512
_NO_NAME: Final = b"NO NAME".ljust(11)
_LABEL_AT: Final = {12: 43, 16: 43, 32: 71}
"""Offset of the label in the boot sector, by FAT bits. A test holds it equal to the definitions."""


def put(writer: Writer, label: bytes | None) -> None:
    """Put a label into the root folder, then into the boot sector and its backup.

    Args:
        writer: of the volume.
        label: its 11 bytes; None removes it.

    Raises:
        NoSpaceError: the root folder is full.
    """
    root = writer.sound(writer.tree.root_start)
    now = clock.now()
    record = label and pack_entry(
        label, attributes=layout.ATTRIBUTE_LABEL, created=now, modified=now, cluster=0
    )
    root.set_label(record)
    writer.changes.folders.add(root)
    writer.changes.commit()
    geometry = writer.geometry
    if geometry.boot_label is None:
        return
    for place in (0, geometry.backup_offset_bytes):
        if place is not None:
            _put_boot(writer, place, _LABEL_AT[geometry.fat_bits], label or _NO_NAME)
    writer.device.flush()


def _put_boot(writer: Writer, place: int, at: int, label: bytes) -> None:
    """Change the label in a boot sector; in what is none nothing is changed."""
    sector = bytearray(read(writer.device, place, _SECTOR_BYTES))
    is_boot = int.from_bytes(sector[510:], "little") == layout.BOOT_SIGNATURE
    if is_boot and sector[at - 5] == layout.EXTENDED_SIGNATURE:
        sector[at : at + 11] = label
        writer.device.write(place, sector)
