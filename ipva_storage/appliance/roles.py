"""The four disks of an appliance."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from ipva_storage.units import GIB, MIB


class Role(StrEnum):
    """What a disk is for. It follows from the IDE node, never from the file's name."""

    BOOT = "boot"
    CF = "cf"
    FLASH = "flash"
    DUMP = "dump"

    @property
    def node(self) -> str:
        """IDE controller and unit, such as `0:1`.

        Source: vendor page "Concept Innovaphone Virtual Appliance", Reference14r1.
        Confidence: stated.
        """
        return _NODES[self]

    @property
    def file_name(self) -> str:
        """The file's name in a download; vSphere renames it.

        Source: same page. Confidence: stated.
        """
        return f"hd-{self}.vmdk"

    @property
    def place(self) -> str:
        """The disk as messages name it."""
        return f"the {self} disk on IDE {self.node}"


_NODES: Final = {Role.BOOT: "0:0", Role.CF: "0:1", Role.FLASH: "1:0", Role.DUMP: "1:1"}

BOOT_BYTES: Final = 16 * MIB
"""A new boot disk. Confidence: chosen."""

CF_BYTES: Final = GIB
"""A new CompactFlash disk.

Source: vendor page "Concept Innovaphone Virtual Appliance", FAQ. Confidence: stated.
"""

FLASH_DISK_BYTES: Final = 100 * MIB
"""A new flash disk, of which the first 64 MiB are the flash.

Source: same page, FAQ. Confidence: stated (both sizes), chosen (that the flash is at the start).
"""

DUMP_BYTES: Final = 64 * MIB
"""A new dump disk. Confidence: chosen."""

BOOT_LABEL: Final = "HD-BOOT"
CF_LABEL: Final = "CF0"
"""Volume labels of new disks: the names under which the appliance serves them.

Source: same page (`/drive/HD-BOOT`); Course12:Basic (`/DRIVE/CF0`). Confidence: stated (the
names), chosen (that they are the labels).
"""
