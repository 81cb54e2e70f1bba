"""The virtual machine: its .vmx, its four disks, power and the boot trace."""

from ipva_storage.appliance.create import VMX_NAME, create
from ipva_storage.appliance.machine import Appliance, open  # noqa: A004 - the door of every store
from ipva_storage.appliance.power import BootResult, boot
from ipva_storage.appliance.roles import Role
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
]
