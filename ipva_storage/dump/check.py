"""What is wrong with a dump disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipva_storage.dump.ring import Chain, read_payload
from ipva_storage.dump.superblock import Superblock, is_blank, newest, read_copies
from ipva_storage.errors import DumpError
from ipva_storage.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.dump.superblock import Copy


_FORMAT: Final = (
    "keep a copy (ipva disk convert -O monolithicSparse VM#dump dump-copy.vmdk) before you format "
    "it, which loses what it holds: ipva dump format --force VM"
)


def check(device: BlockDevice) -> Iterator[Finding]:
    """Everything wrong with the log, in the order of the disk. Writes nothing.

    Raises:
        DeviceError: the disk cannot be read.
    """
    copies = read_copies(device)
    counts = newest(copies)
    if counts is None:
        yield from _unusable(device, copies)
        return
    superblock = copies[counts].superblock
    assert superblock is not None  # `newest` names none without one
    yield from _other_copy(copies[1 - counts], superblock)
    yield from _records(device, superblock)


def _unusable(device: BlockDevice, copies: tuple[Copy, Copy]) -> Iterator[Finding]:
    if is_blank(device):
        yield Finding(
            "DUMP004", "superblock", "the disk is all zero; the first crash record formats it"
        )
        return
    for copy in copies:
        fault = copy.fault or "it is all zero"
        message = f"it cannot be used: {fault}"
        yield Finding("DUMP001", "superblock", message, None, copy.offset_bytes, _FORMAT)


def _other_copy(other: Copy, superblock: Superblock) -> Iterator[Finding]:
    if other.superblock is None or other.fault is not None:
        fault = other.fault or "it is all zero"
        message = f"this copy cannot be used: {fault}; the other one is whole"
        yield Finding("DUMP002", "superblock", message, None, other.offset_bytes)
    elif other.superblock != superblock:
        yield Finding(
            "DUMP003",
            "superblock",
            f"the copies are of generations {superblock.generation} and "
            f"{other.superblock.generation}: the power went while they were written",
            None,
            other.offset_bytes,
        )


def _records(device: BlockDevice, superblock: Superblock) -> Iterator[Finding]:
    chain = Chain.of(device, superblock)
    for header in chain.headers():
        try:
            read_payload(device, header)
        except DumpError as error:
            yield Finding("DUMP005", "record", error.message, None, error.offset_bytes)
    for gap_bytes in chain.gaps:
        message = "a crash record should start here, and its header is damaged"
        yield Finding("DUMP006", "record header", message, None, gap_bytes)
