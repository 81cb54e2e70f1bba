"""Snapshots: a child over a disk, and giving a child's changes back to the disk below it.

Order of a commit, so that the child reads the same at every write, and nothing is lost:

1. Everything that the child holds is written to the parent, and made durable. The child hides it
   meanwhile, and the parent keeps its CID, so that the child still fits.
2. The parent gets the child's CID, in one write: it holds what the child holds. From here on the
   parent can stand alone; the child is recognised by its own CID (see `chain`).
3. The child's `parentCID` becomes that CID as well.
4. The child's grains go, because each equals what is below it (`compact`); or the child goes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from ipva_storage.device.copy import CHUNK_BYTES
from ipva_storage.errors import UsageError, VmdkError
from ipva_storage.progress import silent
from ipva_storage.vmdk import access, chain
from ipva_storage.vmdk.compaction import compact, refuse_lost
from ipva_storage.vmdk.creation import new_sparse
from ipva_storage.vmdk.describe import ADAPTERS
from ipva_storage.vmdk.descriptor import Descriptor, shown
from ipva_storage.vmdk.extent.sparse import SparseExtent
from ipva_storage.vmdk.ownership import own_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import Folder
    from ipva_storage.progress import Progress
    from ipva_storage.vmdk.disk import VmdkDevice


class Committed(NamedTuple):
    """What a commit did, or would do."""

    parent: str
    """Path of the disk that holds the changes now, as its folder leads there."""
    written_bytes: int
    """How much of the child went into it."""
    outdated: tuple[str, ...] = ()
    """Names of other children in its folder, which fit it no more."""
    kept_files: tuple[str, ...] = ()
    """Files of a removed child that stay, because they hold something else too, or lie
    elsewhere."""


def snapshot(folder: Folder, name: str, child: str, *, force: bool = False) -> None:
    """Take a snapshot: make an empty child over a disk, which holds all changes from now on.

    The disk itself must not be written to any more; give the virtual machine the child.

    Args:
        folder: where the disk is, and the child is to be.
        name: the disk's file.
        child: the child's file, with `.vmdk`.
        force: replace a file of that name.

    Raises:
        VmdkError: the disk is damaged, or has no content identifier.
        DeviceError: the child's file is there already, or cannot be made.
    """
    if child == name:
        raise UsageError("the child needs a name of its own", where=name)
    with folder.new_file(child, force=force) as raw:
        parent = access.open(folder.open(name), folder)
        if not chain.can_be_parent(parent.descriptor):
            parent.close()
            raise VmdkError(
                "it has no content identifier, by which a child could recognise it",
                where=parent.name,
                remedy="mend that first: ipva disk repair DISK",
            )
        adapter = parent.descriptor.ddb.get("adapterType", "ide")
        disk = new_sparse(
            raw,
            child,
            parent.size_bytes,
            adapter=adapter if adapter in ADAPTERS else "ide",
            parent=parent,
            parent_name=name,
        )
        disk.seal()
        parent.close()


def commit(
    folder: Folder,
    name: str,
    *,
    remove: bool = False,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Committed:
    """Give a child's changes to the disk below it; the child stays, empty, and reads the same.

    Args:
        folder: where the child is.
        name: the child's file.
        remove: delete the child's files afterwards, those that hold nothing else.
        force: go on although other children were taken over the same disk, which then fit no more.
        dry_run: find out how much is to be written, and change nothing.
        progress: told how far it is.

    Raises:
        VmdkError: it is no child, its parent is missing, was changed or is of a kind that is not
            written to, or another child needs the parent as it is.
        DeviceError: a file cannot be read or written.
    """
    with access.open(folder.open(name, writable=not dry_run), folder) as child:
        place, parent_name = _parent_of(folder, child)
        refuse_lost(child)
        runs = list(_own_runs(child))
        others = _refuse(place, parent_name, name, child, force=force)
        is_same = child.parent is not None and child.parent.descriptor.cid == child.descriptor.cid
        own, shared = [name], list[str]()
        if remove:
            _refuse_needed(folder, name, child)
            if not child.is_embedded:
                files, shared = own_files(folder, child.descriptor.extents)
                own.extend(files)
        done = Committed(
            place.resolve(parent_name).as_posix(),
            sum(length for _, length in runs),
            () if is_same else tuple(others),
            tuple(shared),
        )
        if dry_run:
            return done
        raw = place.open(parent_name, writable=True)
        with access.open(raw, place, writable=True) as parent:
            parent.keeps_cid = True
            parent.accept_parent()
            _write(child, parent, runs, progress)
            parent_text = parent.descriptor
        is_sparse = all(isinstance(extent, SparseExtent) for extent in child.parts)
        cid, text = child.descriptor.cid or 0, child.descriptor
        _put(place, parent_name, _with_cid(parent_text, cid))
    if remove:
        for file in own:  # the descriptor first: without it there is no disk, and not half of one
            folder.remove(file)
        return done
    _put(folder, name, text.with_value("parentCID", f"{cid:08x}"))
    if is_sparse:
        compact(folder, name, progress=progress)
    return done


def _parent_of(folder: Folder, child: VmdkDevice) -> tuple[Folder, str]:
    if child.parent is None:
        raise VmdkError(
            "it is no snapshot's child, so there is nothing to commit it to", where=child.name
        )
    return chain.find_parent(folder, child.descriptor, child.name)


def _refuse(
    place: Folder, parent_name: str, name: str, child: VmdkDevice, *, force: bool
) -> list[str]:
    """Refuse what cannot be committed.

    Returns:
        Other children of the parent, which then fit no more.
    """
    parent = child.parent
    assert parent is not None
    _refuse_one_file(child, parent)
    if not all(chain.can_be_parent(disk.descriptor) for disk in (child, parent)):
        raise VmdkError(
            "it or its parent has no content identifier",
            where=child.name,
            remedy="mend that first: ipva disk repair DISK",
        )
    if child.size_bytes > parent.size_bytes:
        raise VmdkError(
            f"it has {child.size_bytes} bytes, and its parent “{shown(parent_name)}” only "
            f"{parent.size_bytes}",
            where=child.name,
            remedy="make one disk of both: ipva disk convert DISK new.vmdk -O monolithicSparse",
        )
    others = [
        other for other in chain.children(place, parent_name, parent.descriptor) if other != name
    ]
    for other in [] if force else others:
        raise VmdkError(
            f"“{shown(other)}” was taken over the same disk, and would fit no more",
            where=child.name,
            remedy="commit or remove that first, or use --force if it is not needed",
        )
    return others


def _refuse_one_file(child: VmdkDevice, parent: VmdkDevice | None) -> None:
    """Refuse a child that lies in a file of a disk below it: writing to one changes the other."""
    names = {os.path.realpath(file.name) for file in child.files}
    while parent is not None:
        for file in parent.files:
            if os.path.realpath(file.name) in names:
                raise VmdkError(
                    f"“{access.own_name(file)}” is a part of it, and of the disk below it",
                    where=child.name,
                    remedy="mend the extent lines of its descriptor",
                )
        parent = parent.parent


def _refuse_needed(folder: Folder, name: str, child: VmdkDevice) -> None:
    for other in chain.children(folder, name, child.descriptor):
        raise VmdkError(
            f"“{shown(other)}” was taken over it, and needs it",
            where=child.name,
            remedy="commit that first, or let this one stay",
        )


def _own_runs(child: VmdkDevice) -> Iterator[tuple[int, int]]:
    """What a child holds itself: offset and length."""
    first = 0
    for extent in child.parts:
        for run in extent.own_extents():
            length = min(run.length_bytes, extent.size_bytes - run.offset_bytes)
            if run.is_data and length > 0:
                yield first + run.offset_bytes, length
        first += extent.size_bytes


def _write(
    child: VmdkDevice, parent: VmdkDevice, runs: list[tuple[int, int]], progress: Progress
) -> None:
    buffer = bytearray(CHUNK_BYTES)
    for offset_bytes, length_bytes in runs:
        for at in range(0, length_bytes, CHUNK_BYTES):
            view = memoryview(buffer)[: min(CHUNK_BYTES, length_bytes - at)]
            child.read_into(offset_bytes + at, view)
            parent.write(offset_bytes + at, view)
            progress(offset_bytes + at, child.size_bytes)
    parent.seal()
    progress(child.size_bytes, child.size_bytes)


def _with_cid(descriptor: Descriptor, cid: int) -> Descriptor:
    """A descriptor with another CID, whole even where the old one has fewer digits."""
    text = descriptor.with_cid(cid)
    return text if text.cid == cid else text.with_value("CID", f"{cid:08x}")


def _put(folder: Folder, name: str, text: Descriptor) -> None:
    """Give a disk another descriptor, in its place; as a new file where it has grown too long."""
    with access.open(folder.open(name, writable=True), folder) as disk:
        if disk.fits(text):
            disk.rewrite(text)
            return
    folder.replace(name, text.encode())
