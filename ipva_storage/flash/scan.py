"""Reading the segments of a flash: which are free, which hold records, and which entries count.

Reads only. What is wrong is reported as findings; nothing makes it fail but a flash that is not
ours at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from zlib import crc32

from ipva_storage.errors import FlashError
from ipva_storage.findings import Finding
from ipva_storage.flash.log import Segment
from ipva_storage.flash.records import (
    ENTRY_BYTES,
    OPEN_AT,
    PAYLOAD_AT,
    SEAL_AT,
    VERSION,
    OpenHeader,
    unpack_clean_marker,
    unpack_entry,
    unpack_open_header,
    unpack_seal_header,
)

if TYPE_CHECKING:
    from ipva_storage.flash.nor import NorDevice

SALVAGED_SEQUENCE: Final = 1
"""Sequence given to a segment whose open header is unreadable: older than all."""


SALVAGE_LIMIT: Final = 16
"""Where no segment has a readable header, entries are looked for in no more segments than this."""


@dataclass(slots=True)
class Table:
    """The entries of one segment in use."""

    segment: int
    slots: list[int] | int
    """Addresses of the readable entries, oldest first; or, where all are, how many."""
    header: OpenHeader | None
    """None: unreadable; the records are salvaged."""
    is_sealed: bool
    can_seal: bool = False
    """The seal header is blank, and nothing between the entries is unreadable."""
    end_is_clean: bool = True
    """The slot after the last entry is blank."""


@dataclass(slots=True)
class Scan:
    """All segments, read once."""

    segments: list[Segment]
    tables: list[Table] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    """Segments with content of which nothing is ours."""

    def report(self, code: str, structure: str, message: str, offset_bytes: int) -> None:
        """Note a finding."""
        self.findings.append(Finding(code, structure, message, offset_bytes=offset_bytes))

    def forget(self, doomed: set[int], segment_bytes: int) -> None:
        """Say of segments that are about to be erased only that, whatever else they look like."""
        self.findings = [
            one
            for one in self.findings
            if one.offset_bytes is None or one.offset_bytes // segment_bytes not in doomed
        ]
        for at in sorted(doomed):
            message = f"the reclaim of segment {at} was cut off; the next writable open finishes it"
            self.report("FLASH008", "segment", message, at * segment_bytes)


def scan(nor: NorDevice) -> Scan:
    """Read headers and entry tables of all segments.

    Raises:
        FlashError: there is content, and none of it is ours; or it is of another geometry or of a
            later version of the layout.
    """
    result = Scan([Segment() for _ in range(nor.segment_count)])
    written = [at for at in range(nor.segment_count) if not nor.is_virgin(at)]
    if len(written) > SALVAGE_LIMIT and not any(_has_header(nor, at) for at in written):
        result.unknown, written = written, []
    ours = sum([_scan_segment(nor, at, result) for at in written])
    if not ours and any(not _may_be_first_erase(nor, at) for at in result.unknown):
        raise FlashError(
            "its layout is unknown: this is no flash directory of this toolkit",
            where=nor.name,
            offset_bytes=result.unknown[0] * nor.segment_bytes,
            remedy="a real appliance's flash cannot be read here; "
            "see what it is with: ipva info DISK",
        )
    for at in result.unknown:
        message = f"segment {at} holds nothing readable; it is free, and erased before it is used"
        result.report("FLASH012", "segment", message, at * nor.segment_bytes)
    _guess_wear(result)
    return result


def _has_header(nor: NorDevice, at: int) -> bool:
    base = at * nor.segment_bytes
    if unpack_clean_marker(nor.image, base) is not None:
        return True
    return unpack_open_header(nor.image, base + OPEN_AT) is not None


def _may_be_first_erase(nor: NorDevice, at: int) -> bool:
    """Whether a segment may be what a cut left of the first erase of a new disk."""
    start = at * nor.segment_bytes
    return not nor.image[start + ENTRY_BYTES : start + nor.segment_bytes].translate(None, b"\0\xff")


def _scan_segment(nor: NorDevice, at: int, result: Scan) -> bool:
    """Whether anything in the segment is ours."""
    image, base = nor.image, at * nor.segment_bytes
    marker = unpack_clean_marker(image, base)
    if marker is not None:
        _check_marker(nor, marker[:3], base)
        result.segments[at].erase_count = marker.erase_count
    header = unpack_open_header(image, base + OPEN_AT)
    if header is not None:
        if marker is None:
            result.report("FLASH001", "clean marker", f"segment {at} has none", base)
        _add_table(nor, at, header, result)
        return True
    last_slot = base + nor.segment_bytes - ENTRY_BYTES
    is_unused = nor.is_blank(base + OPEN_AT, ENTRY_BYTES) and nor.is_blank(last_slot, ENTRY_BYTES)
    if marker is not None and is_unused:
        result.segments[at].is_clean = True
        return True
    return _scan_headless(nor, at, result) or marker is not None


def _check_marker(nor: NorDevice, said: tuple[int, ...], base: int) -> None:
    version, segment_count, segment_bytes = said
    if version != VERSION:
        raise FlashError(
            f"its layout has version {version}, and only version {VERSION} is known",
            where=nor.name,
            offset_bytes=base,
            remedy="use the program that wrote it",
        )
    if (segment_count, segment_bytes) != (nor.segment_count, nor.segment_bytes):
        raise FlashError(
            f"it was made for {segment_count} segments of {segment_bytes} bytes, not for "
            f"{nor.segment_count} of {nor.segment_bytes}",
            where=nor.name,
            offset_bytes=base,
        )


def _scan_headless(nor: NorDevice, at: int, result: Scan) -> bool:
    """A segment without a readable open header: salvage its records, if it has any."""
    base = at * nor.segment_bytes
    table = Table(at, [], None, is_sealed=False)
    slots, _ = _walk(nor, at, result=None)
    slots = [slot for slot in slots if _payload_is_whole(nor, slot)]
    if not slots:
        if not nor.is_blank(base, nor.segment_bytes):
            result.unknown.append(at)
        return False
    table.slots = slots
    _use(result, table, (base + nor.segment_bytes - slots[-1]) // ENTRY_BYTES)
    return True


def _payload_is_whole(nor: NorDevice, slot: int) -> bool:
    entry = unpack_entry(nor.image, slot)
    if entry is None:
        return False
    start = (slot & -nor.segment_bytes) + 4 * entry.offset_units
    return crc32(nor.image[start : start + entry.payload_bytes]) == entry.payload_crc


def _add_table(nor: NorDevice, at: int, header: OpenHeader, result: Scan) -> None:
    image, base = nor.image, at * nor.segment_bytes
    stop = base + nor.segment_bytes
    seal = unpack_seal_header(image, base + SEAL_AT)
    if seal is not None and seal.sequence == header.sequence:
        table_bytes = seal.entry_count * ENTRY_BYTES
        is_sane = table_bytes <= nor.segment_bytes - PAYLOAD_AT
        if is_sane and crc32(image[stop - table_bytes : stop]) == seal.table_crc:
            table = Table(at, seal.entry_count, header, is_sealed=True)
            _use(result, table, seal.entry_count)
            return
        message = f"the entry table of segment {at} does not match its seal"
        result.report("FLASH004", "entry table", message, base + SEAL_AT)
    is_blank = nor.is_blank(base + SEAL_AT, ENTRY_BYTES)
    if seal is None and not is_blank:
        message = f"the seal header of segment {at} is unreadable"
        result.report("FLASH003", "seal header", message, base + SEAL_AT)
    slots, is_gapless = _walk(nor, at, result)
    count = (stop - slots[-1]) // ENTRY_BYTES if slots else 0
    after = stop - ENTRY_BYTES * (count + 1)
    table = Table(at, slots, header, is_sealed=not is_blank)
    table.can_seal = is_blank and is_gapless
    table.end_is_clean = nor.is_blank(after, ENTRY_BYTES)
    if not table.end_is_clean:
        message = f"the last write to segment {at} was cut off"
        result.report("FLASH010", "entry", message, after)
    _use(result, table, count)


def _use(result: Scan, table: Table, entry_count: int) -> None:
    one = result.segments[table.segment]
    one.sequence = table.header.sequence if table.header else SALVAGED_SEQUENCE
    one.entry_count = entry_count
    result.tables.append(table)


def _walk(nor: NorDevice, at: int, result: Scan | None) -> tuple[list[int], bool]:
    """Addresses of the entries with a good CRC, and whether no bad one lies between them."""
    image, base = nor.image, at * nor.segment_bytes
    slots: list[int] = []
    bad: list[int] = []
    slot, floor = base + nor.segment_bytes - ENTRY_BYTES, base + PAYLOAD_AT
    is_gapless = True
    while slot >= floor and not nor.is_blank(slot, ENTRY_BYTES):
        entry = unpack_entry(image, slot)
        if entry is None:
            bad.append(slot)
        else:
            if bad:
                is_gapless = False
                _report_bad(result, at, bad)
                bad = []
            slots.append(slot)
            end = base + 4 * entry.offset_units + entry.payload_bytes
            if entry.payload_bytes and end <= slot:
                floor = max(floor, end)
        slot -= ENTRY_BYTES
    return slots, is_gapless


def _report_bad(result: Scan | None, at: int, bad: list[int]) -> None:
    if result is not None:
        for slot in bad:
            result.report("FLASH005", "entry", f"an entry of segment {at} is unreadable", slot)


def _guess_wear(result: Scan) -> None:
    """Give segments whose erase count is lost the mean of the others."""
    known = [one.erase_count for one in result.segments if one.erase_count]
    mean = sum(known) // len(known) if known else 0
    lost = {*result.unknown, *(table.segment for table in result.tables)}
    for at in lost:
        one = result.segments[at]
        one.erase_count = one.erase_count or mean
