"""A snapshot's child and the disks below it: found by name, recognised by content identifier.

A child says in `parentCID` which content of its parent it was taken over. The parent's `CID`
changes with its first change after that, and then the child shows a mixture that never was. So a
parent that was changed is refused, with one exception: a parent with the child's *own* CID holds
what the child holds already, because a commit got that far (it gives the parent that CID last).
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from ipva_storage.errors import DeviceError, VmdkError
from ipva_storage.units import printable
from ipva_storage.vmdk.descriptor import NO_PARENT_CID, Descriptor, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipva_storage.device import BlockDevice, Folder
    from ipva_storage.vmdk.disk import VmdkDevice

DEPTH_MAX: Final = 64
"""Disks in a chain. Source: VMware supports 32 snapshots. Confidence: chosen, twice that."""


def has_parent(descriptor: Descriptor) -> bool:
    """Whether a disk is a snapshot's child."""
    return descriptor.parent_cid != NO_PARENT_CID


def can_be_parent(descriptor: Descriptor) -> bool:
    """Whether a child can say which content it was taken over; one CID means none."""
    return descriptor.cid not in (None, NO_PARENT_CID)


def find_parent(folder: Folder, descriptor: Descriptor, where: str) -> tuple[Folder, str]:
    """Where the parent is: its folder, and its name in there.

    The hint is where the parent was when the snapshot was taken. When that is elsewhere, a file of
    that name in this folder is taken: its content identifier tells whether it is the right one.

    Raises:
        VmdkError: there is no such file, or it may not be followed.
    """
    hint = descriptor.parent_hint
    if not hint:
        raise VmdkError(
            "it is a snapshot's child, and does not say whose",
            where=where,
            remedy='add a line like parentFileNameHint="base.vmdk" to its descriptor',
        )
    name = re.split(r"[/\\]", hint)[-1]
    if name in folder.names():
        return folder, name
    try:
        path = folder.resolve(hint)
        if path.is_file():
            return folder.beside(hint), path.name
    except DeviceError:
        if name != hint:
            raise VmdkError(
                f"its parent “{shown(hint)}” is in another folder",
                where=where,
                remedy="copy the parent beside it, or follow it with --allow-outside",
            ) from None
    raise VmdkError(
        f"its parent “{shown(hint)}” is not there",
        where=where,
        remedy="put the parent's files beside it; without them only changes are left",
    )


def open_parent(
    folder: Folder | None,
    descriptor: Descriptor,
    where: str,
    children: tuple[str, ...],
    opener: Callable[[BlockDevice, Folder, tuple[str, ...]], VmdkDevice],
) -> VmdkDevice:
    """The disk that a child was taken over, open for reading.

    Args:
        folder: where the child is.
        descriptor: the child's.
        where: what messages call the child.
        children: names of the disks that are being opened above it.
        opener: opens a disk; `access` has it.

    Raises:
        VmdkError: it is missing, was changed, or is its own parent.
    """
    if folder is None:
        raise VmdkError("it is a snapshot's child, and its folder is not known", where=where)
    place, name = find_parent(folder, descriptor, where)
    try:
        raw = place.open(name)
    except DeviceError as error:
        raise VmdkError(
            f"its parent “{shown(name)}” cannot be opened ({printable(error.message)})",
            where=where,
            remedy=error.remedy,
        ) from error
    if raw.name in (*children, where) or len(children) >= DEPTH_MAX:
        raw.close()
        what = "is among its own children" if len(children) < DEPTH_MAX else "has too many below it"
        raise VmdkError(
            f"its parent “{shown(name)}” {what}",
            where=where,
            remedy=RING_REMEDY,
        )
    parent = opener(raw, place, (*children, where))
    problem = mismatch(descriptor, parent.descriptor, name)
    if problem is not None:
        parent.close()
        raise VmdkError(problem, where=where, remedy=MISMATCH_REMEDY)
    return parent


RING_REMEDY: Final = "name the right parent in parentFileNameHint of its descriptor"

MISMATCH_REMEDY: Final = (
    "put the parent back as it was at the snapshot; if you know that nothing wrote to it, accept "
    "it with: ipva disk repair --accept-parent DISK"
)


def mismatch(child: Descriptor, parent: Descriptor, name: str) -> str | None:
    """Why a disk is not the content that a child was taken over; None where it is."""
    if parent.cid == child.parent_cid or (parent.cid is not None and parent.cid == child.cid):
        return None
    said = "no CID" if parent.cid is None else f"CID {parent.cid:08x}"
    return (
        f"its parent “{shown(name)}” was changed after the snapshot, or is another disk: it has "
        f"{said}, and the snapshot was taken over CID {child.parent_cid:08x}; what shows through "
        "would be a mixture that never was"
    )


def children(folder: Folder, name: str, descriptor: Descriptor) -> Iterator[str]:
    """File names of the snapshots' children that were taken over a disk as it is now.

    Args:
        folder: where the disk is; children elsewhere are not known.
        name: its file.
        descriptor: its descriptor.
    """
    from ipva_storage.vmdk.access import is_vmdk, read_descriptor

    for other in folder.names():
        if other == name or not other.lower().endswith(".vmdk"):
            continue
        try:
            with folder.open(other) as raw:
                if not is_vmdk(raw):
                    continue
                child = read_descriptor(raw)
        except (DeviceError, VmdkError):
            continue
        hint = re.split(r"[/\\]", child.parent_hint or "")[-1]
        if has_parent(child) and hint == name and mismatch(child, descriptor, name) is None:
            yield other


def refuse_children(
    folder: Folder, name: str, descriptor: Descriptor, where: str, *, other_way: str = ""
) -> None:
    """Refuse to change a disk that a snapshot was taken over: what shows through would be wrong.

    Args:
        folder: where the disk is; children elsewhere are not known.
        name: its file.
        descriptor: its descriptor.
        where: what messages call it.
        other_way: what else can be done than to commit the child.

    Raises:
        VmdkError: there is such a child.
    """
    for child in children(folder, name, descriptor):
        raise VmdkError(
            f"“{shown(child)}” was taken over it as a snapshot, and would fit no more",
            where=where,
            remedy=f"{other_way}give its changes to this one first: "
            f"ipva disk snapshot commit --remove {shlex.quote(str(folder.path / child))}",
        )
