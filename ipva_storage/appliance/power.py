"""Powering the simulated appliance on: the checks that stop it, and its boot trace.

Trace lines and stops are the vendor's to the character where its page gives them. Their order
among each other is chosen: what VMware needs (RAM, disks), what the boot code needs (firmware),
then what the firmware needs (clock, network card, flash).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ipva_storage import units
from ipva_storage.appliance.flashdisk import mounted_flash
from ipva_storage.appliance.roles import Role
from ipva_storage.errors import IpvaError
from ipva_storage.units import MIB, truncate_decimals

if TYPE_CHECKING:
    from ipva_storage.appliance.machine import Appliance

CPU_LINE: Final = "0:0000:030:4 - Intel(R) Core(TM)2 Duo CPU     E8400  @ 3.00GHz"
MEMORY_LINE: Final = "0:0000:030:4 - mem({dram_bytes})={dram_mib}MB"
FLASHDIR_LINE: Final = "0:0000:081:4 - start flashdir FLASHDIR0"
SEGMENTS_LINE: Final = "0:0000:081:4 - fdir: segments={physical}->{usable}({mib}MB)"
"""Source: vendor page "Concept Innovaphone Virtual Appliance", boot trace. Confidence: stated."""

LOST_LINE: Final = "0:0000:081:4 - fdir: lost {key}"
FORMATTED_LINE: Final = "0:0000:081:4 - fdir: empty disk, formatted"
"""Confidence: chosen. The vendor's page says that objects get lost, and not how it is told."""

NIC_UNAVAILABLE: Final = "NIC unavailable!"
NO_PERFCOUNTER: Final = "perfcounter-not enabled!!!"
"""Console texts. Source: same page, boot problems. Confidence: stated."""

NIC_TYPES: Final = ("vlance", "pcnet32")
"""Network cards with a driver; a .vmx without a type gives the same AMD card.

Source: same page, "NIC unavailable!". Confidence: stated.
"""


@dataclass(slots=True)
class BootResult:
    """What came of it."""

    ram_bytes: int
    """RAM that it was booted with."""
    booted: bool = False
    error: str | None = None
    """Why it did not boot; a console text to the character where the vendor's page gives it."""
    reason: str | None = None
    """The cause and the remedy behind a console text."""
    trace: list[str] = field(default_factory=list)
    dram_bytes: int = 0
    """RAM that the appliance sees; 0 when it does not get that far."""
    segments: dict[str, int] = field(default_factory=dict)
    """`physical`, `usable` and `bytes` of the flash directory; empty when it does not start."""
    lost: list[bytes] = field(default_factory=list)
    """Keys of the objects that did not fit any more, in the order they went."""


def boot(
    appliance: Appliance, *, ram_bytes: int | None = None, dry_run: bool = False
) -> BootResult:
    """Boot the appliance; the flash directory is recovered, and fitted to the RAM.

    Args:
        appliance: the machine; its disks must not be open elsewhere.
        ram_bytes: RAM instead of the .vmx's.
        dry_run: write nothing; tell what a boot would do.

    Returns:
        The trace, and what stopped it or what was lost. What is wrong with the machine is told
        here and not raised.
    """
    result = BootResult(0 if ram_bytes is None else ram_bytes)
    try:
        if ram_bytes is None:
            result.ram_bytes = appliance.ram_bytes
        _boot(appliance, result, dry_run=dry_run)
    except IpvaError as error:
        result.reason = units.printable(str(error))
        result.error = getattr(error, "console", None) or result.reason
    return result


def _boot(appliance: Appliance, result: BootResult, *, dry_run: bool) -> None:
    from ipva_storage import flash
    from ipva_storage.boot import load

    dram_bytes = flash.visible_ram_bytes(result.ram_bytes)
    for role in Role:
        appliance.open_disk(role).close()
    with contextlib.closing(appliance.open_disk(Role.BOOT)) as disk:
        load(disk)
    _check_hardware(appliance)
    result.dram_bytes = dram_bytes
    dram_mib = truncate_decimals(dram_bytes, MIB, 2)
    result.trace += [CPU_LINE, MEMORY_LINE.format(dram_bytes=dram_bytes, dram_mib=dram_mib)]
    _start_flashdir(appliance, result, dry_run=dry_run)
    result.booted = True


def _check_hardware(appliance: Appliance) -> None:
    """What the firmware needs of the virtual machine.

    Raises:
        BootError: it stops here; `console` says what the appliance says.
    """
    from ipva_storage.boot import BootError

    vmx = appliance.vmx
    if not vmx.has_pseudo_perfctr:
        raise BootError(
            f"{NO_PERFCOUNTER} (the clock would stand still)",
            console=NO_PERFCOUNTER,
            where=vmx.name,
            remedy='add the line monitor_control.pseudo_perfctr = "TRUE"',
        )
    nic_type = vmx.nic_type
    if not vmx.has_nic or (nic_type and nic_type.lower() not in NIC_TYPES):
        raise BootError(
            f"{NIC_UNAVAILABLE} (there is no driver for “{(nic_type or 'none')[:40]}”)",
            console=NIC_UNAVAILABLE,
            where=vmx.name,
            remedy='set ethernet0.present = "TRUE" and ethernet0.virtualDev = "vlance"',
        )


def _start_flashdir(appliance: Appliance, result: BootResult, *, dry_run: bool) -> None:
    from ipva_storage import flash

    result.trace.append(FLASHDIR_LINE)
    segment_count = flash.DEFAULT_RULE.segment_count(result.ram_bytes)
    with mounted_flash(appliance, dry_run=dry_run) as (directory, was_blank):
        result.lost = list(directory.shrink(segment_count))
    used_bytes = segment_count * flash.SEGMENT_BYTES
    result.segments = {
        "physical": flash.PHYSICAL_SEGMENTS,
        "usable": segment_count,
        "bytes": used_bytes,
    }
    if was_blank:
        result.trace.append(FORMATTED_LINE)
    mib = truncate_decimals(used_bytes, MIB, 1)
    result.trace.append(
        SEGMENTS_LINE.format(physical=flash.PHYSICAL_SEGMENTS, usable=segment_count, mib=mib)
    )
    result.trace += [LOST_LINE.format(key=printable(key)) for key in result.lost]


def printable(key: bytes) -> str:
    r"""A key as text on one line: UTF-8, with backslash escapes for what cannot be printed.

    >>> printable(b"cn=M\xc3\xbcller\x00\xff")
    'cn=Müller\\x00\\xff'
    """
    return units.printable(key.decode("utf-8", "backslashreplace"))
