"""The whole VM looked at: findings of every disk together, read-only."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ipva_storage.appliance import Role
from ipva_storage.doctor import disks, machine
from ipva_storage.errors import IpvaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.appliance import Appliance
    from ipva_storage.findings import Finding

__all__ = ["examine"]


def examine(appliance: Appliance) -> Iterator[Finding]:
    """Everything that is wrong with a VM: its .vmx, then each disk in order of its IDE node.

    Nothing is written. A damaged disk is a finding and never ends the examination.
    """
    for found in machine.examine(appliance):
        yield dataclasses.replace(found, where=found.where or appliance.vmx.name)
    for role in Role:
        try:
            name = appliance.disk_name(role)
        except IpvaError:
            name = appliance.vmx.name
        for found in disks.examine(appliance, role):
            yield dataclasses.replace(found, where=found.where or name)
