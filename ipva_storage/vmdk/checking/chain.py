"""The disks below a snapshot's child: whether each is there, and is the one it was taken over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_storage.errors import DeviceError, VmdkError
from ipva_storage.findings import Finding
from ipva_storage.units import SECTOR_BYTES, printable
from ipva_storage.vmdk import chain
from ipva_storage.vmdk.access import is_vmdk, read_descriptor
from ipva_storage.vmdk.descriptor import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice, Folder
    from ipva_storage.vmdk.descriptor import Descriptor


def check_chain(
    raw: BlockDevice, folder: Folder | None, descriptor: Descriptor
) -> Iterator[Finding]:
    """What is wrong with the parent, its parent, and so on; their own structure is not looked at.

    Args:
        raw: the child's file with the descriptor.
        folder: where it is.
        descriptor: the child's.
    """
    where, seen = raw.name, [raw.name]
    while chain.has_parent(descriptor):
        if folder is None:
            message = "the folder of its parent is not known"
            yield Finding("VMDK031", "parent", message, where=where)
            return
        try:
            folder, name = chain.find_parent(folder, descriptor, where)
            with folder.open(name) as file:
                parent_name = file.name
                if not is_vmdk(file):
                    raise VmdkError("it is no VMDK file", where=parent_name)
                parent = read_descriptor(file)
        except (VmdkError, DeviceError) as error:
            yield _missing(descriptor, where, error)
            return
        if parent_name in seen or len(seen) > chain.DEPTH_MAX:
            message = f"its parent “{shown(name)}” is among its own children"
            yield Finding("VMDK031", "parent", message, where=where, repair=chain.RING_REMEDY)
            return
        yield from _link(descriptor, parent, name, where)
        seen.append(parent_name)
        where, descriptor = printable(parent_name), parent


def _missing(descriptor: Descriptor, where: str, error: VmdkError | DeviceError) -> Finding:
    message, repair = error.message, error.remedy
    if isinstance(error, VmdkError) and error.where not in (None, where):  # of the parent's text
        hint = shown(descriptor.parent_hint or "")
        message = f"its parent “{hint}” cannot be read ({printable(error.message)})"
        repair = "put the right file in its place, from a backup"
    return Finding("VMDK031", "parent", message, where=where, repair=repair)


def _link(descriptor: Descriptor, parent: Descriptor, name: str, where: str) -> Iterator[Finding]:
    problem = chain.mismatch(descriptor, parent, name)
    if problem is not None:
        yield Finding("VMDK032", "parent", problem, where=where, repair=chain.MISMATCH_REMEDY)
    ours, theirs = (
        sum(line.sector_count for line in each.extents) for each in (descriptor, parent)
    )
    if ours != theirs and theirs:
        message = (
            f"its parent “{shown(name)}” has {theirs * SECTOR_BYTES} bytes, and it has "
            f"{ours * SECTOR_BYTES}"
        )
        yield Finding("VMDK033", "parent", message, where=where)
