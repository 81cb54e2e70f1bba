"""The virtual machine: its .vmx, its four disks, power and the boot trace.

Its modules are imported when one of their names is first used, because opening an image file
(`image`) needs none of the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from ipva_storage.appliance.create import VMX_NAME, create
from ipva_storage.appliance.roles import Role

if TYPE_CHECKING:
    from ipva_storage.appliance.image import open_image
    from ipva_storage.appliance.machine import (
        Appliance,
        open,  # noqa: A004 - the door of every store
    )
    from ipva_storage.appliance.power import BootResult, boot
    from ipva_storage.appliance.vmx import VmxFile, new_vmx

__all__ = [
    "VMX_NAME",
    "Appliance",
    "BootResult",
    "Role",
    "VmxFile",
    "boot",
    "create",
    "new_vmx",
    "open",
    "open_image",
]

_ON_DEMAND: Final = {
    "Appliance": "machine",
    "BootResult": "power",
    "VmxFile": "vmx",
    "boot": "power",
    "new_vmx": "vmx",
    "open": "machine",
    "open_image": "image",
}
"""Names, and the module of each."""


def __getattr__(name: str) -> object:
    """Import what is needed less often when it is first named."""
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
