"""What is wrong with the virtual machine itself: RAM, network card, clock.

Source: vendor page "Concept Innovaphone Virtual Appliance": RAM limits, "NIC unavailable!",
"perf-counter not enabled!". Confidence: stated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_storage.appliance.power import NIC_TYPES
from ipva_storage.errors import IpvaError
from ipva_storage.findings import Finding
from ipva_storage.flash.segments import MAXIMUM_RAM_BYTES, visible_ram_bytes
from ipva_storage.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.appliance import Appliance
    from ipva_storage.doctor.advice import Names


def examine(appliance: Appliance, names: Names) -> Iterator[Finding]:
    """Findings of the .vmx."""
    yield from _ram(appliance, names)
    vmx = appliance.vmx
    if not vmx.has_nic or (vmx.nic_type and vmx.nic_type.lower() not in NIC_TYPES):
        yield Finding(
            "VM004",
            "network card",
            f"the type is “{(vmx.nic_type or 'none')[:40]}”, and there is a driver for vlance only",
            where=names.vmx,
            repair=f'in {names.vmx} set ethernet0.present = "TRUE" and '
            'ethernet0.virtualDev = "vlance"',
        )
    if not vmx.has_pseudo_perfctr:
        yield Finding(
            "VM005",
            "clock",
            "monitor_control.pseudo_perfctr is not TRUE",
            where=names.vmx,
            repair=f'in {names.vmx} add the line monitor_control.pseudo_perfctr = "TRUE"',
        )


def _ram(appliance: Appliance, names: Names) -> Iterator[Finding]:
    try:
        ram_bytes = appliance.ram_bytes
        visible_ram_bytes(ram_bytes)
    except IpvaError as error:
        repair = f'in {names.vmx} set memsize = "64" or more'
        yield Finding("VM002", "memsize", error.message, where=names.vmx, repair=repair)
        return
    if ram_bytes > MAXIMUM_RAM_BYTES:
        message = f"{format_size(ram_bytes)} are given, and 3.0 GiB are used"
        yield Finding("VM003", "memsize", message, where=names.vmx)
