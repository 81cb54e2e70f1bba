"""The virtual machine: its .vmx, its four disks, power and the boot trace."""

from ipva_storage.appliance.identity import random_static_mac
from ipva_storage.appliance.vmx import VmxFile, new_vmx

__all__ = ["VmxFile", "new_vmx", "random_static_mac"]
