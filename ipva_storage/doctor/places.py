"""Which disk stands where: files on two nodes, and disks on a node of another role."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import PurePath
from typing import TYPE_CHECKING

from ipva_storage import vmdk
from ipva_storage.appliance import Role
from ipva_storage.doctor import identity
from ipva_storage.errors import IpvaError
from ipva_storage.findings import Finding
from ipva_storage.vmdk import chain
from ipva_storage.vmdk.access import read_descriptor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ipva_storage.appliance import Appliance
    from ipva_storage.doctor.advice import Names


def shared_files(appliance: Appliance, names: Names) -> Iterator[Finding]:
    """A file that is the disk of more than one node."""
    seen: dict[object, Role] = {}
    for role in Role:
        key = _file_key(appliance, role)
        if key is None:
            continue
        first = seen.setdefault(key, role)
        if first is not role:
            yield Finding(
                "VM010",
                role.place,
                f"its file is that of {first.place}, too",
                where=names.path(appliance, role),
                repair=f"name a file of its own in {names.vmx}: ide{role.node}.fileName",
            )


def _file_key(appliance: Appliance, role: Role) -> object | None:
    """What is the same for two names of one file; None where there is no file."""
    with contextlib.suppress(IpvaError, OSError, ValueError):
        found = appliance.folder.resolve(appliance.disk_name(role)).stat()
        return (found.st_dev, found.st_ino)
    return None


def below_snapshots(appliance: Appliance, names: Names) -> Iterator[Finding]:
    """Disks that the .vmx names although snapshots were taken over them."""
    for role in Role:
        with contextlib.suppress(IpvaError):
            name = appliance.disk_name(role)
            for child in _children(appliance, name):
                path = shlex.quote(str(appliance.folder.path / child))
                yield Finding(
                    "VM012",
                    role.place,
                    f"{child} is a snapshot over {name}, and the .vmx names {name}",
                    where=names.path(appliance, role),
                    repair=f'in {names.vmx} set ide{role.node}.fileName = "{child}"; or give its '
                    f"changes to {name}: ipva disk snapshot commit --remove {path}",
                )


def _children(appliance: Appliance, name: str) -> list[str]:
    """Snapshots over a disk, as the .vmx would name them."""
    place = PurePath(name)
    with appliance.folder.open(name) as raw:
        if not vmdk.is_vmdk(raw):
            return []
        descriptor = read_descriptor(raw)
    found = chain.children(appliance.folder.beside(name), place.name, descriptor)
    return [str(place.with_name(child)) for child in found]


def misplaced(
    appliance: Appliance, role: Role, held: Mapping[Role, identity.Held], names: Names
) -> Finding:
    """The finding of a disk for which `identity.is_misplaced` holds."""
    here = held[role]
    return Finding(
        "VM009",
        role.place,
        f"this is {here.text}: the {here.role} disk? It stands on IDE {role.node}",
        where=names.path(appliance, role),
        repair=_right_file(appliance, role, held, names),
    )


def _right_file(
    appliance: Appliance, role: Role, held: Mapping[Role, identity.Held], names: Names
) -> str:
    for other in Role:
        if other is not role and held[other].role is role and identity.is_misplaced(other, held):
            name = appliance.vmx.disk_file(other.node)
            line = f'ide{role.node}.fileName = "{name}"'
            return f"in {names.vmx} set {line}: that file holds the {role} disk"
    return f"put the {role} disk's file into ide{role.node}.fileName of {names.vmx}"
