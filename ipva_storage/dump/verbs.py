"""The doors of the room: format a dump disk, open one."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from ipva_storage.dump.log import DumpLog
from ipva_storage.dump.superblock import (
    Superblock,
    geometry,
    is_blank,
    newest,
    read_copies,
    write_both,
)
from ipva_storage.errors import DumpError

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice


def format(device: BlockDevice, *, log_id: int | None = None) -> None:  # noqa: A001
    """Make the disk an empty log. Two sectors are written, whatever the size of the disk.

    Args:
        device: at least 68 KiB; at most 1 GiB of it is used.
        log_id: tells this log's records from those of an earlier one on the same disk; random
            unless given (64 bits).

    Raises:
        DumpError: the disk is too small.
        DeviceError: it refused.
    """
    _format(device, secrets.randbits(64) if log_id is None else log_id)


def _format(device: BlockDevice, log_id: int) -> Superblock:
    ring_offset_bytes, ring_bytes = geometry(device)
    counts = newest(read_copies(device))
    superblock = Superblock(log_id, 1, ring_offset_bytes, ring_bytes, ring_offset_bytes, 1, 1)
    write_both(device, superblock, counts=counts or 0)
    return superblock


def open(device: BlockDevice) -> DumpLog:  # noqa: A001
    """The log on a disk. Nothing is written, and one sector a record is read.

    A disk of zeros, never formatted, is an empty log; the first append formats it.

    Raises:
        DumpError: this is not a dump disk of our layout, or both superblocks are damaged.
    """
    copies = read_copies(device)
    counts = newest(copies)

    def blank() -> Superblock:
        return _format(device, secrets.randbits(64))

    if counts is not None:
        return DumpLog(device, copies[counts].superblock, counts=counts, blank=blank)
    if is_blank(device):
        return DumpLog(device, None, blank=blank)
    reasons = " and ".join(
        f"the superblock at {copy.offset_bytes}: {copy.fault or 'it is all zero'}"
        for copy in copies
    )
    raise DumpError(
        f"this is no dump disk that we can read ({reasons})",
        where=device.name,
        offset_bytes=0,
        remedy="`ipva info` says what the disk is; only a format makes it an empty dump disk",
    )
