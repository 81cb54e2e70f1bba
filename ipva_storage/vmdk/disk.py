"""A VMDK disk as a device: its extents one after the other, and the descriptor that names them.

Invariants:

1. Before the first change of a session each extent is marked (`begin`) and the CID is changed,
   durably, so that a snapshot taken over the old content is known not to fit any more.
2. `seal` and `close` take the marks back only after everything is durable.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from ipva_storage.device import Device, byte_view, merge_extents
from ipva_storage.device import Extent as Run
from ipva_storage.errors import DeviceError, NoSpaceError
from ipva_storage.vmdk.descriptor import NO_PARENT_CID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _typeshed import ReadableBuffer, WriteableBuffer

    from ipva_storage.device import BlockDevice
    from ipva_storage.vmdk.descriptor import Descriptor
    from ipva_storage.vmdk.extent.base import DiskExtent


class VmdkDevice(Device):
    """The disk in a VMDK. `ipva_storage.vmdk.open` makes it."""

    def __init__(
        self,
        raw: BlockDevice,
        descriptor: Descriptor,
        extents: Sequence[DiskExtent],
        *,
        descriptor_offset_bytes: int,
        descriptor_room_bytes: int = 0,
        writable: bool,
        parent: VmdkDevice | None = None,
    ) -> None:
        """Join extents.

        Args:
            raw: the file with the descriptor.
            descriptor: what it says.
            extents: in the order of the descriptor.
            descriptor_offset_bytes: where in `raw` the descriptor's text starts.
            descriptor_room_bytes: how long an embedded one may become.
            writable: whether changes are allowed.
            parent: the disk that shows through, closed with this one.
        """
        self.name = raw.name
        self.descriptor = descriptor
        self.parent = parent
        self._raw = raw
        self._extents = list(extents)
        self._size_bytes = sum(extent.size_bytes for extent in extents)
        self._descriptor_offset_bytes = descriptor_offset_bytes
        self._descriptor_room_bytes = descriptor_room_bytes
        self._writable = writable
        self._is_begun = False
        self.keeps_cid = False
        """Whether writing leaves the CID alone: while a commit gives it what a child shows."""

    @property
    def size_bytes(self) -> int:
        """Size of the disk."""
        return self._size_bytes

    @property
    def subformat(self) -> str:
        """The kind, as the descriptor says it, such as `monolithicSparse`."""
        return self.descriptor.create_type or "monolithicSparse"

    @property
    def file_size_bytes(self) -> int:
        """Size of all its files, without those of a parent."""
        return sum(raw.size_bytes for raw in self.files)

    @property
    def files(self) -> tuple[BlockDevice, ...]:
        """Its files, each once, the one with the descriptor first; without those of a parent."""
        found = [self._raw, *(extent.raw for extent in self._extents if extent.raw is not None)]
        return tuple({id(raw): raw for raw in found}.values())

    @property
    def is_embedded(self) -> bool:
        """Whether it is one file, with its descriptor in it."""
        return len(self._extents) == 1 and self._extents[0].raw is self._raw

    @property
    def parts(self) -> tuple[DiskExtent, ...]:
        """The extents as they are in the files, in order."""
        return tuple(self._extents)

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer."""
        view = byte_view(buffer)
        self._check(offset_bytes, len(view))
        for extent, at, start, stop in self._pieces(offset_bytes, len(view)):
            extent.read_into(at, view[start:stop])

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        """Put `data` at `offset_bytes`; what is new is safe from a power cut after `flush`."""
        view = byte_view(data)
        self._check(offset_bytes, len(view))
        self._begin()
        for extent, at, start, stop in self._pieces(offset_bytes, len(view)):
            extent.write(at, view[start:stop])

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        """Zero a range, giving its space back to the host."""
        self._check(offset_bytes, length_bytes)
        self._begin()
        for extent, at, start, stop in self._pieces(offset_bytes, length_bytes):
            extent.discard(at, stop - start)

    def flush(self) -> None:
        """Make everything written so far durable."""
        if self._is_begun:
            for extent in self._extents:
                extent.flush()

    def extents(self) -> Iterator[Run]:
        """Runs of data and holes over the whole disk."""
        return merge_extents(self._runs())

    def seal(self) -> None:
        """Write everything and mark the disk as closed; it stays open, for further changes too."""
        for extent in self._extents:
            extent.seal()
        self._is_begun = False

    def close(self) -> None:
        """Seal the disk when it was changed, and close its files."""
        try:
            if self._is_begun:
                self.seal()
        finally:
            self._is_begun = False
            for extent in self._extents:
                extent.close()
            self._raw.close()
            if self.parent is not None:
                self.parent.close()

    def fits(self, descriptor: Descriptor) -> bool:
        """Whether another descriptor has room in the place of this one."""
        length = len(self.descriptor.encode())
        return len(descriptor.encode()) <= max(self._descriptor_room_bytes, length)

    def rewrite(self, descriptor: Descriptor) -> None:
        """Put another descriptor in the place of this one, and make it durable.

        Only the bytes from the first that changes to the last are written.

        Raises:
            NoSpaceError: it does not fit there.
        """
        text, old = descriptor.encode(), self.descriptor.encode()
        if not self.fits(descriptor):
            raise NoSpaceError("the new descriptor has no room in its place", where=self.name)
        start, stop = _differing(text.ljust(len(old), b"\0"), old.ljust(len(text), b"\0"))
        if start < stop:
            part = text.ljust(len(old), b"\0")[start:stop]
            self._raw.write(self._descriptor_offset_bytes + start, part)
            self._raw.flush()
        self.descriptor = descriptor

    def accept_parent(self) -> None:
        """Name the parent's content by its CID, durably, where this disk's own told it so far.

        A commit that did not get further leaves that (see `chain`); with another CID of this disk
        the parent would not be recognised any more.
        """
        cid = None if self.parent is None else self.parent.descriptor.cid
        if cid is not None and cid != self.descriptor.parent_cid:
            self.rewrite(self.descriptor.with_value("parentCID", f"{cid:08x}"))

    def _begin(self) -> None:
        if self._is_begun:
            return
        if not self._writable:
            raise DeviceError("it was opened read-only", where=self.name)
        for extent in self._extents:
            extent.begin()
        if not self.keeps_cid:
            self.accept_parent()
            self._change_cid()
        self._is_begun = True

    def _change_cid(self) -> None:
        """Write another CID over the old one, and nothing else, so that no tear spoils the text."""
        changed = self.descriptor
        reserved = (self.descriptor.cid, 0, NO_PARENT_CID, NO_PARENT_CID - 1)
        for _ in range(64):  # not for ever: a text may have its CID where it cannot be changed
            if changed.cid not in reserved:
                break
            changed = self.descriptor.with_cid(secrets.randbits(32))
        if changed.text == self.descriptor.text:
            return
        before, after = self.descriptor.encode(), changed.encode()
        start = next(at for at in range(len(before)) if before[at] != after[at])
        digits = after[start : start + 8]
        self._raw.write(self._descriptor_offset_bytes + start, digits)
        self._raw.flush()
        self.descriptor = changed

    def _pieces(
        self, offset_bytes: int, length_bytes: int
    ) -> Iterator[tuple[DiskExtent, int, int, int]]:
        """Cut a range at the extents' borders: extent, start in it, start and stop in the range."""
        first = 0
        end = offset_bytes + length_bytes
        for extent in self._extents:
            start, stop = max(offset_bytes, first), min(end, first + extent.size_bytes)
            if start < stop:
                yield extent, start - first, start - offset_bytes, stop - offset_bytes
            first += extent.size_bytes

    def _runs(self) -> Iterator[Run]:
        first = 0
        for extent in self._extents:
            for run in extent.extents():
                length = min(run.length_bytes, extent.size_bytes - run.offset_bytes)
                yield Run(first + run.offset_bytes, max(length, 0), run.is_data)
            first += extent.size_bytes


def _differing(one: bytes, other: bytes) -> tuple[int, int]:
    """The first byte in which two texts of one length differ, and the one behind the last."""
    at = [index for index, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]]
    return (at[0], at[-1] + 1) if at else (0, 0)
