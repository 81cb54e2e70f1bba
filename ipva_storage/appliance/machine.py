"""The virtual machine as a folder: its .vmx and its four disks, each found by its IDE node."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipva_storage.appliance.image import open_image
from ipva_storage.appliance.vmx import LIMIT_BYTES, VmxFile
from ipva_storage.device import read
from ipva_storage.errors import ConfigError, IpvaError, UsageError
from ipva_storage.units import printable

if TYPE_CHECKING:
    from ipva_storage.appliance.roles import Role
    from ipva_storage.device import BlockDevice, Folder


@dataclass(frozen=True, slots=True)
class Appliance:
    """A virtual machine. Nothing of it is open but while a disk is used."""

    folder: Folder
    vmx_name: str
    vmx: VmxFile

    @property
    def ram_bytes(self) -> int:
        """Configured RAM.

        Raises:
            ConfigError: the .vmx does not say.
        """
        return self.vmx.ram_bytes

    def disk_name(self, role: Role) -> str:
        """Name of the file that holds a disk.

        Raises:
            ConfigError: the .vmx has no disk at that node.
        """
        name = self.vmx.disk_file(role.node)
        if name is None:
            raise ConfigError(
                f"there is no {role} disk: IDE {role.node} is empty",
                where=self.vmx.name,
                remedy=f'add a line like ide{role.node}.fileName = "{role.file_name}"',
            )
        return name

    def open_disk(self, role: Role, *, writable: bool = False) -> BlockDevice:
        """A disk as a device, VMDK or raw; close it after use.

        Raises:
            ConfigError: the .vmx has no disk at that node.
            NoDiskError: its file holds no disk that is read here.
            DeviceError: its file is missing, outside the folder, or in use.
            VmdkError: its file is no usable VMDK.
        """
        name = self.disk_name(role)
        try:
            return open_image(self.folder, name, writable=writable)
        except IpvaError as error:
            error.where = f"{printable(error.where or name)}, {role.place}"
            raise


def open(folder: Folder, vmx_name: str | None = None) -> Appliance:  # noqa: A001 - a store's door
    """The virtual machine in a folder.

    Args:
        folder: where its files are.
        vmx_name: which .vmx; needed only where there are several.

    Raises:
        UsageError: there is no .vmx, or more than one.
        DeviceError: it cannot be read.
        ConfigError: it is longer than any.
    """
    name = _only_vmx(folder) if vmx_name is None else vmx_name
    with folder.open(name) as file:
        if file.size_bytes > LIMIT_BYTES:
            raise ConfigError(f"{file.size_bytes} bytes are too long for a .vmx", where=file.name)
        content = read(file, 0, file.size_bytes)
        return Appliance(folder, name, VmxFile.decode(content, name=file.name))


def vmx_names(folder: Folder) -> list[str]:
    """The .vmx files of a folder."""
    names = folder.names()
    return [name for name in names if name.lower().endswith(".vmx") and not name.startswith(".")]


def _only_vmx(folder: Folder) -> str:
    found = vmx_names(folder)
    if len(found) == 1:
        return found[0]
    where = str(folder.path)
    if not found:
        raise UsageError(
            "there is no .vmx in it",
            where=where,
            remedy=f"make an appliance with: ipva new {shlex.quote(where)}",
        )
    raise UsageError(
        f"there are {len(found)} .vmx files in it ({printable(', '.join(found[:4]))})",
        where=where,
        remedy="name the one you mean",
    )
