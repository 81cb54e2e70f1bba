"""The whole VM looked at: findings of every disk together, read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_storage.appliance import Role
from ipva_storage.doctor import advice, disks, identity, machine, places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.appliance import Appliance
    from ipva_storage.findings import Finding

__all__ = ["examine"]


def examine(appliance: Appliance) -> Iterator[Finding]:
    """Everything that is wrong with a VM: its .vmx, then each disk in order of its IDE node.

    Nothing is written. A damaged disk is a finding and never ends the examination. `where` is the
    path of the file, and advice has the VM's own names in it, ready to type.
    """
    yield from map(advice.tidy, _examine(appliance, advice.Names.of(appliance)))


def _examine(appliance: Appliance, names: advice.Names) -> Iterator[Finding]:
    yield from machine.examine(appliance, names)
    yield from places.shared_files(appliance, names)
    yield from places.below_snapshots(appliance, names)
    held = identity.recognise_all(appliance)
    for role in Role:
        yield from disks.examine(appliance, role, held, names)
