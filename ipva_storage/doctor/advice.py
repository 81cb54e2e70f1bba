"""Real names in advice: what a room calls `VM` or `DISK` gets the name that the user can type."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ipva_storage.appliance.machine import vmx_names
from ipva_storage.units import printable

if TYPE_CHECKING:
    from ipva_storage.appliance import Appliance, Role
    from ipva_storage.findings import Finding

_PLACEHOLDER: Final = re.compile(r"\b(VM|DISK)\b")
_DISK: Final = re.compile(r"\b(?:VM(?:#[a-z]+)?|DISK)\b")


@dataclass(frozen=True, slots=True)
class Names:
    """What a VM and its files are called in findings."""

    folder: str
    vmx: str
    """Path of the .vmx."""
    command: str
    """The VM as a command takes it, quoted for a shell."""

    @classmethod
    def of(cls, appliance: Appliance) -> Names:
        """The names of one VM: its folder, or the .vmx where a folder has several."""
        folder = appliance.folder.path
        vmx = str(folder / appliance.vmx_name)
        name = str(folder) if len(vmx_names(appliance.folder)) == 1 else vmx
        return cls(str(folder), vmx, shlex.quote(name))

    def path(self, appliance: Appliance, role: Role) -> str:
        """Path of a disk's file; of the .vmx where no file is named."""
        name = appliance.vmx.disk_file(role.node)
        return self.vmx if name is None else str(appliance.folder.path / name)

    def disk(self, role: Role) -> str:
        """A disk as a command takes it."""
        return f"{self.command}#{role}"

    def fill(self, finding: Finding, role: Role) -> Finding:
        """The finding of a room about one disk, with real names in its advice."""
        if finding.repair is None:
            return finding
        return replace(finding, repair=fill(finding.repair, self.command, self.disk(role)))


def fill(advice: str, vm: str, disk: str | None = None) -> str:
    """Advice with names in place of the words `VM` and `DISK`.

    >>> fill("ipva fs put --force ipva.bin VM#boot:/ipva.bin", "demo")
    'ipva fs put --force ipva.bin demo#boot:/ipva.bin'

    Args:
        advice: as a room gives it.
        vm: the VM, quoted for a shell.
        disk: the disk that the advice is about; `DISK` stays where it is None.
    """
    names = {"VM": vm, "DISK": "DISK" if disk is None else disk}
    return _PLACEHOLDER.sub(lambda match: names[match[1]], advice)


def fill_image(advice: str, image: str) -> str:
    """Advice about a disk image that belongs to no known VM, with its path in place of all names.

    >>> fill_image("ipva fs put --force ipva.bin VM#boot:/ipva.bin", "hd-boot.vmdk")
    'ipva fs put --force ipva.bin hd-boot.vmdk:/ipva.bin'

    Args:
        advice: as a room gives it.
        image: path of the file, quoted for a shell.
    """
    return _DISK.sub(lambda _: image, advice)


def tidy(finding: Finding) -> Finding:
    """The finding with nothing in it that a terminal would obey: disks and .vmx are input."""
    return replace(
        finding,
        structure=printable(finding.structure),
        message=printable(finding.message),
        where=None if finding.where is None else printable(finding.where),
        repair=None if finding.repair is None else printable(finding.repair),
    )
