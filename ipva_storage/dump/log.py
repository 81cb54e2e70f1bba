"""The log of crash records.

Invariants, kept by a power cut at every write (tests/crash/test_dump.py):

1. A record is there completely or not at all: its payload is durable before its header is written.
2. A record leaves the log only when a newer one needs its place, or by `clear`; the superblock
   stops naming it before its bytes are touched.
3. Sequence numbers never repeat within a log, so that a header left over from earlier can never be
   taken for a newer one.
"""

from __future__ import annotations

import dataclasses
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ipva_formats import dump as layout
from ipva_storage.dump.ring import (
    Chain,
    Header,
    build_header,
    read_payload,
    record_bytes,
)
from ipva_storage.dump.superblock import Superblock, write_both
from ipva_storage.errors import DumpError, NoSpaceError, UsageError
from ipva_storage.units import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipva_storage.device import BlockDevice


@dataclass(frozen=True, slots=True)
class CrashRecord:
    """One crash record, without its text."""

    sequence: int
    time: datetime
    """When it happened, in UTC."""
    kind: str
    """`trap`, `reboot`, or another short word."""
    size_bytes: int
    """Length of the text in UTF-8."""
    is_valid: bool
    """Whether the text is what was written."""
    offset_bytes: int
    """Where its header is on the disk."""


@dataclass(slots=True)
class _State:
    """What is known of the disk."""

    superblock: Superblock
    counts: int
    """Index of the superblock copy that counts."""
    headers: list[Header]
    at_bytes: int
    """Where the next record goes if it fits there."""
    next_sequence: int


class DumpLog:
    """Crash records, oldest first. Made by `dump.open`."""

    def __init__(
        self,
        device: BlockDevice,
        superblock: Superblock | None,
        *,
        counts: int = 0,
        blank: Callable[[], Superblock],
    ) -> None:
        """Read the headers. `blank` formats the disk, which is done at the first append."""
        self._device = device
        self._blank = blank
        self._state = None if superblock is None else self._mount(superblock, counts)

    def __len__(self) -> int:
        return 0 if self._state is None else len(self._state.headers)

    def __repr__(self) -> str:
        return f"<DumpLog {self._device.name}: {len(self)} records>"

    def records(self) -> list[CrashRecord]:
        """All records, oldest first. Reads every text once, to say whether it is valid."""
        headers = [] if self._state is None else self._state.headers
        return [self._record(header) for header in headers]

    def read(self, sequence: int) -> str:
        """The text of one record.

        Raises:
            DumpError: there is no such record, or its text is damaged.
        """
        for header in [] if self._state is None else self._state.headers:
            if header.sequence == sequence:
                return read_payload(self._device, header).decode("utf-8", "replace")
        raise DumpError(
            f"there is no crash record {sequence}",
            where=self._device.name,
            remedy="`ipva dump list` shows the numbers that there are",
        )

    def append(self, kind: str, text: str, *, time: datetime) -> CrashRecord:
        """Write a record; when it returns, the record is durable.

        Args:
            kind: a word of at most 16 printable ASCII characters, such as `trap`.
            text: at most 1 MiB in UTF-8; lone surrogates are written with a backslash.
            time: when it happened; one without a zone is taken as UTC.

        Raises:
            UsageError: the kind or the text is not as above.
            NoSpaceError: the text is longer than the whole ring.
            DeviceError: the disk refused; the log is as it was, or lacks its oldest records.
        """
        payload = text.encode("utf-8", "backslashreplace")
        self._refuse(kind, payload)
        if self._state is None:
            self._state = self._mount(self._blank(), 0)
        state = self._state
        place = self._place(state, record_bytes(len(payload)))
        header = Header(
            place, state.next_sequence, _utc(time), kind, len(payload), zlib.crc32(payload)
        )
        self._make_room(state, header)
        self._commit(state, header, payload)
        return self._record(header, is_valid=True)

    def clear(self) -> None:
        """Forget all records. Their bytes stay on the disk until they are overwritten."""
        if self._state is not None:
            state = self._state
            self._write_superblock(state, state.at_bytes, state.next_sequence)
            state.headers.clear()

    def _mount(self, superblock: Superblock, counts: int) -> _State:
        chain = Chain.of(self._device, superblock)
        headers = list(chain.headers())
        return _State(superblock, counts, headers, chain.at_bytes, chain.sequence)

    def _record(self, header: Header, *, is_valid: bool | None = None) -> CrashRecord:
        return CrashRecord(
            header.sequence,
            header.time,
            header.kind,
            header.payload_bytes,
            self._is_valid(header) if is_valid is None else is_valid,
            header.offset_bytes,
        )

    def _is_valid(self, header: Header) -> bool:
        try:
            read_payload(self._device, header)
        except DumpError:
            return False
        return True

    def _refuse(self, kind: str, payload: bytes) -> None:
        is_word = kind.isascii() and kind.isprintable() and 0 < len(kind) <= layout.KIND_BYTES
        if not is_word:
            raise UsageError(
                f"“{printable(kind[:40])}” is no kind of crash record; use a word of at most "
                f"{layout.KIND_BYTES} ASCII characters"
            )
        if len(payload) > layout.PAYLOAD_LIMIT_BYTES:
            raise UsageError(
                f"a crash text of {len(payload)} bytes is too long; "
                f"at most {layout.PAYLOAD_LIMIT_BYTES} fit in a record"
            )

    def _place(self, state: _State, length_bytes: int) -> int:
        superblock = state.superblock
        if length_bytes > superblock.ring_bytes:
            raise NoSpaceError(
                f"a record of {length_bytes} bytes is longer than the whole ring",
                where=self._device.name,
            )
        fits = state.at_bytes + length_bytes <= superblock.ring_end_bytes
        return state.at_bytes if fits else superblock.ring_offset_bytes

    def _make_room(self, state: _State, new: Header) -> None:
        """Give up the oldest records that are in the way, and say how far the log is."""
        in_the_way = [index for index, old in enumerate(state.headers) if _overlap(old, new)]
        drop_count = in_the_way[-1] + 1 if in_the_way else 0
        drop_count = max(drop_count, len(state.headers) + 1 - layout.RECORD_LIMIT)
        kept = state.headers[drop_count:]
        oldest = kept[0] if kept else new
        self._write_superblock(state, oldest.offset_bytes, oldest.sequence)
        state.headers[:] = kept

    def _write_superblock(self, state: _State, tail_offset_bytes: int, tail_sequence: int) -> None:
        highest = max(state.superblock.generation, state.next_sequence)
        if highest >= layout.SEQUENCE_LIMIT - 2:
            raise DumpError(
                "the numbers of this log are used up",
                where=self._device.name,
                remedy="save its records with `ipva dump show`, then format the disk",
            )
        state.superblock = dataclasses.replace(
            state.superblock,
            generation=state.superblock.generation + 1,
            tail_offset_bytes=tail_offset_bytes,
            tail_sequence=tail_sequence,
            next_sequence=state.next_sequence,
        )
        write_both(self._device, state.superblock, counts=state.counts)

    def _commit(self, state: _State, header: Header, payload: bytes) -> None:
        """The payload, a barrier, then the header that makes it count."""
        if payload:
            padded = payload.ljust(record_bytes(len(payload)) - layout.SECTOR_BYTES, b"\0")
            self._device.write(header.offset_bytes + layout.SECTOR_BYTES, padded)
            self._device.flush()
        self._device.write(header.offset_bytes, build_header(header, state.superblock.log_id))
        self._device.flush()
        state.headers.append(header)
        state.at_bytes, state.next_sequence = header.end_bytes, header.sequence + 1


def _overlap(old: Header, new: Header) -> bool:
    return old.offset_bytes < new.end_bytes and new.offset_bytes < old.end_bytes


def _utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise UsageError(f"{time} is outside the calendar in UTC") from error
