"""Many VMs looked at, one after the other or on all cores; a bad one never stops the rest."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipva_storage import appliance, doctor
from ipva_storage.device import Folder
from ipva_storage.errors import IpvaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.findings import Finding


@dataclass(frozen=True, slots=True)
class Scan:
    """What looking at one VM gave."""

    vm: str
    """Path of the .vmx."""
    findings: tuple[Finding, ...]
    error: str | None = None
    """Why it could not be looked at, or None."""


def find(root: str | os.PathLike[str]) -> Iterator[str]:
    """Paths of the .vmx files below a folder, in order. Links to folders are not followed."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(".vmx"):
                yield os.path.join(folder, name)  # noqa: PTH118 - os.walk gives strings


def examine(vmx: str) -> Scan:
    """Look at one VM, read-only."""
    folder, name = os.path.split(vmx)
    try:
        machine = appliance.open(Folder(folder or "."), name)
        return Scan(vmx, tuple(doctor.examine(machine)))
    except IpvaError as error:
        return Scan(vmx, (), str(error))


def scan(root: str | os.PathLike[str], *, process_count: int | None = None) -> Iterator[Scan]:
    """Look at every VM below a folder, in the order of their paths.

    Args:
        root: the folder.
        process_count: how many at a time; all cores unless given, 1 stays in this process.
    """
    if process_count == 1:
        yield from map(examine, find(root))
        return
    with ProcessPoolExecutor(process_count) as pool:
        yield from pool.map(examine, find(root))
