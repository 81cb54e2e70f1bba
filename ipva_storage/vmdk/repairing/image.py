"""Mending a VMDK from whatever is left: drawn up, checked as it would be, then committed.

Nothing is made up: what cannot be brought back is told by range of the disk. Nothing is committed
that leaves the disk with an error that it did not have.
"""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ipva_storage.device import read
from ipva_storage.errors import DeviceError, VmdkError
from ipva_storage.findings import Finding, Severity
from ipva_storage.progress import silent
from ipva_storage.units import SECTOR_BYTES, printable
from ipva_storage.vmdk import access, chain
from ipva_storage.vmdk.checking import check
from ipva_storage.vmdk.checking.image import REPAIR
from ipva_storage.vmdk.descriptor import Descriptor, is_descriptor
from ipva_storage.vmdk.extent.flat import FLAT_KINDS
from ipva_storage.vmdk.extent.header import (
    DESCRIPTOR_MAX_BYTES,
    NEWLINES,
    SPARSE_MAGIC,
    SparseHeader,
    build_header,
    header_problems,
    parse_header,
    read_header,
    sent_as_text,
)
from ipva_storage.vmdk.extent.stream import FOOTER_OFFSET_BYTES
from ipva_storage.vmdk.repairing import text as texts
from ipva_storage.vmdk.repairing.draft import Draft
from ipva_storage.vmdk.repairing.lost import Lost, MendedTables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipva_storage.device import BlockDevice, Folder
    from ipva_storage.progress import Progress

HEADER_CODES: Final = frozenset(
    f"VMDK{number:03}" for number in (1, 5, 6, 7, 8, 13, 20, 24, 25, 27, 28, 34, 35)
)
"""Findings that may come from a wrong header."""

TABLES_CODES: Final = frozenset(f"VMDK{number:03}" for number in (1, 5, 6, 7, 8, 35))
"""Findings of damage that may have taken tables with it."""

PASSES_MAX: Final = 8
"""How often a disk is mended: what one pass mends may show the next one more. Confidence: chosen;
two are enough as a rule, and the last one changes nothing.
"""

NO_DESCRIPTOR: Final = "the descriptor is not there"

FIELDS_BYTES: Final = 79
"""The fields of a header; what follows is padding. Source: Virtual Disk Format 5.0."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did, or would do."""

    fixed: tuple[Finding, ...]
    """What is found no more."""
    left: tuple[Finding, ...]
    """What is found still, without what is for information."""
    lost: tuple[Lost, ...]
    """What the disk held there is not known any more."""
    is_changed: bool
    """Whether anything had to be written."""
    made: tuple[str, ...] = ()
    """Files that were not there before, which an undo leaves there."""
    notes: tuple[str, ...] = ()
    """What was assumed, for people."""


def repair(
    folder: Folder,
    name: str,
    *,
    accept_parent: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Repaired:
    """Mend a disk, as far as anything that is left allows.

    Args:
        folder: where the disk is.
        name: its file; of a disk whose descriptor is lost also one of its extents.
        accept_parent: take a snapshot's child to fit the parent that is there, though that was
            changed since.
        dry_run: find out what would be mended, and change nothing.
        progress: told how far the checks are.

    Raises:
        VmdkError: it is no VMDK, or nothing of it can be recognised.
        DeviceError: a file cannot be read or written.
    """
    draft = Draft(folder)
    try:
        name = _descriptor_of(draft, name)
        before = after = _findings(draft, name, progress)
        lost: list[Lost] = []
        for _ in range(PASSES_MAX):
            so_far = draft.change_count
            found = _mend(draft, name, after, accept_parent=accept_parent)
            lost += [one for one in found if one not in lost]
            if draft.change_count == so_far:
                break
            after = _findings(draft, name, progress)
        _refuse_worse(before, after, str(folder.path / name))
        _refuse_vanishing(draft, folder, name)
        if not dry_run:
            draft.commit()
        kept = {(one.code, one.where, one.offset_bytes, one.message) for one in after}
        fixed = [
            one
            for one in before
            if (one.code, one.where, one.offset_bytes, one.message) not in kept
            and one.severity is not Severity.INFO
        ]
        left = [_unmended(one) for one in after if one.severity is not Severity.INFO]
        return Repaired(
            tuple(fixed),
            tuple(left),
            tuple(lost),
            not draft.is_empty,
            tuple(draft.made),
            tuple(draft.notes),
        )
    finally:
        draft.close()


def _unmended(finding: Finding) -> Finding:
    """Without the advice to do what was just done."""
    return replace(finding, repair=None) if finding.repair == REPAIR else finding


def lost_descriptor(folder: Folder, name: str) -> Finding | None:
    """What is wrong with a disk whose descriptor is gone, where `repair` can make it anew.

    Args:
        folder: where the disk is.
        name: its file, or that of one of its extents.
    """
    wanted = texts.descriptor_name(name)
    if folder.has(wanted) or not name.lower().endswith(".vmdk"):
        return None
    where = str(folder.path / wanted)
    try:
        if texts.separate_text(folder, wanted, b"") is None:
            return None
    except VmdkError as error:
        return Finding("VMDK015", "extent", error.message, where=where, repair=error.remedy)
    return Finding("VMDK003", "descriptor", NO_DESCRIPTOR, where=where, repair=REPAIR)


def _descriptor_of(draft: Draft, name: str) -> str:
    """The file of the disk: of an extent that has lost its descriptor, where that is to be."""
    wanted = texts.descriptor_name(name)
    if wanted == name or not draft.has(name):
        return name
    text = texts.separate_text(draft.folder, wanted, b"")  # where one has to be made
    if draft.has(wanted):
        with draft.folder.open(wanted) as raw:
            if access.is_vmdk(raw):
                text = _text_or_empty(raw)
    return wanted if text is None or _names(text, name) else name


def _text_or_empty(raw: BlockDevice) -> Descriptor:
    try:
        return access.read_descriptor(raw)
    except VmdkError:
        return Descriptor("")


def _names(text: Descriptor, name: str) -> bool:
    """Whether a descriptor has a file as an extent."""
    return any(line.file_name == name for line in text.extents)


def _findings(draft: Draft, name: str, progress: Progress) -> list[Finding]:
    """What is wrong with the disk as it would be."""
    if not draft.has(name):
        where = str(draft.folder.path / name)
        return [Finding("VMDK003", "descriptor", NO_DESCRIPTOR, where=where)]
    with draft.folder.open(name) as raw:
        if access.is_vmdk(raw) or access.is_beheaded(raw):
            return list(check(raw, draft.folder, progress=progress))
        if _is_text_lost(draft, name, raw):
            message = "it is no descriptor any more"
            return [Finding("VMDK003", "descriptor", message, raw.name, 0)]
        raise VmdkError(
            "nothing in it is recognised: neither a header, a descriptor nor a footer",
            where=raw.name,
            remedy="restore it from a backup",
        )


def _is_text_lost(draft: Draft, name: str, raw: BlockDevice) -> bool:
    """Whether a small file stands in the place of a descriptor whose extents are there."""
    if raw.size_bytes > DESCRIPTOR_MAX_BYTES:
        return False
    return texts.separate_text(draft.folder, name, b"") is not None


def _refuse_worse(before: Sequence[Finding], after: Sequence[Finding], where: str) -> None:
    """Stop when the draft has an error of a kind that was not there before."""
    known = {one.code for one in before}
    for one in after:
        if one.severity is Severity.ERROR and one.code not in known and "VMDK001" not in known:
            unlocked = known & {"VMDK003", "VMDK005", "VMDK024", "VMDK025"}
            if unlocked or one.code == "VMDK035":
                continue  # what was behind it could not be seen before
            raise VmdkError(
                f"mending would leave it with another fault ({one.code}: {one.message})",
                where=where,
                remedy="nothing was changed; restore it from a backup",
            )


def _refuse_vanishing(draft: Draft, folder: Folder, name: str) -> None:
    """Stop when grains that can be read would vanish, or show in another place."""
    from ipva_storage.vmdk.repairing.directories import vanished_count

    for file in {step.name for step in draft.steps if step.writes and folder.has(step.name)}:
        with folder.open(file) as old:
            new = draft.device(file)
            try:
                count = vanished_count((old, read_header(old)), (new, read_header(new)))
            except VmdkError:
                continue  # there was no header, so nothing could be read
        if count:
            disk = shlex.quote(str(folder.path / name))
            raise VmdkError(
                f"mending would lose {count} grains that can be read now",
                where=old.name,
                remedy="nothing was changed; copy the disk instead: "
                f"ipva disk convert {disk} saved.vmdk -O monolithicSparse --salvage",
            )


def _mend(draft: Draft, name: str, before: Sequence[Finding], *, accept_parent: bool) -> list[Lost]:
    if not any(one.severity is not Severity.INFO for one in before):
        return []
    lost: list[Lost] = []
    if not draft.has(name):
        _new_text(draft, name, b"")
    with draft.folder.open(name) as raw:
        start = read(raw, 0, min(raw.size_bytes, 1024))
        is_separate = is_descriptor(start) or not (
            start[:4] == SPARSE_MAGIC or access.is_beheaded(raw)
        )
    if is_separate:
        _mend_described(draft, name, before, lost)
    else:
        _mend_extent(draft, name, before, lost, is_embedded=True)
    if accept_parent:
        _accept_parent(draft, name)
    return lost


def _new_text(draft: Draft, name: str, old: bytes) -> None:
    """Make a descriptor for the extents beside its place."""
    found = texts.separate_text(draft.folder, name, old)
    if found is None:
        raise VmdkError(
            "there is no descriptor, and no extent that one could be made for",
            where=str(draft.folder.path / name),
            remedy="put the extents (such as …-flat.vmdk) into the folder; of a snapshot's child, "
            "the descriptor says what it was taken over, and cannot be made without that",
        )
    draft.create(name, found.encode())
    draft.notes = [texts.assumed(found, old)]


def _mend_described(draft: Draft, name: str, before: Sequence[Finding], lost: list[Lost]) -> None:
    """A disk whose descriptor is a file of its own."""
    old = read(draft.device(name), 0, min(draft.device(name).size_bytes, 1 << 20))
    try:
        if not is_descriptor(old):  # its lines may be there, but nobody takes it for one
            raise VmdkError("it is no descriptor any more", where=name, offset_bytes=0)
        text = Descriptor.parse(old)
        lines = access.extent_lines(text, name)
    except VmdkError:
        _new_text(draft, name, old)
        text = Descriptor.parse(read(draft.device(name), 0, draft.device(name).size_bytes))
        lines = text.extents
    first = 0
    for line in lines:
        file = line.file_name
        if access.has_file(line) and line.kind not in FLAT_KINDS and file and draft.has(file):
            found: list[Lost] = []
            _mend_extent(
                draft,
                file,
                before,
                found,
                is_embedded=False,
                said_sectors=line.sector_count,
                has_parent=chain.has_parent(text),
            )
            lost += [replace(one, offset_bytes=first + one.offset_bytes) for one in found]
        first += line.size_bytes
    wanted = texts.completed(text, draft.folder, name)
    if wanted.text != text.text:
        draft.create(name, wanted.encode())


def _mend_extent(
    draft: Draft,
    name: str,
    before: Sequence[Finding],
    lost: list[Lost],
    *,
    is_embedded: bool,
    said_sectors: int | None = None,
    has_parent: bool = False,
) -> None:
    """A file with a sparse extent: what its header names, its descriptor, and the header last.

    Where no descriptor is in it, `said_sectors` and `has_parent` are what the separate one says.
    """
    raw = draft.device(name)
    from ipva_storage.vmdk.repairing.header import agrees, best_header

    there = read(raw, 0, min(raw.size_bytes, SECTOR_BYTES))
    if there[:4] in access.OTHER_MAGICS:
        return
    codes = {one.code for one in before}
    header = read_header(raw) if there[:4] == SPARSE_MAGIC else None
    if header is not None and header.was_sent_as_text:
        raise sent_as_text(raw.name)
    text = _text_of(raw, header) if is_embedded else None
    has_parent = has_parent or (text is not None and chain.has_parent(text))
    if text is not None and text.extents:
        said_sectors = sum(line.sector_count for line in text.extents)
    is_misplaced = "VMDK003" in codes and text is not None  # the text is not where it is said
    # A file that no descriptor named was not checked.
    is_unusable = header is None or any(header_problems(header, raw.size_bytes))
    is_doubtful = is_unusable or bool(codes & HEADER_CODES)
    if is_misplaced or (is_doubtful and (header is None or not agrees(raw, header))):
        kind = text.create_type if text is not None else ""
        read_with = None if is_unusable or _is_doubtful(before, raw.name) else header
        header = best_header(
            raw,
            said_sectors,
            kind,
            has_descriptor=is_embedded,
            is_disputed=is_embedded and "VMDK004" in codes,
            read_with=read_with,
        )
    if header is None:
        lost.append(Lost(0, (said_sectors or 0) * SECTOR_BYTES, "its header cannot be made out"))
        return
    keeps_size = False
    if "VMDK004" in codes and is_embedded and said_sectors:
        likely = likely_sectors(raw, header, text, said_sectors)
        keeps_size = likely is None
        header = replace(header, capacity_sectors=likely or header.capacity_sectors)
    mended = _mend_inside(
        draft, name, header, has_parent=has_parent, is_damaged=bool(codes & TABLES_CODES)
    )
    lost += mended.lost
    header = replace(mended.header, newlines=NEWLINES, unclean_shutdown=0)
    length = FIELDS_BYTES if there[:4] == SPARSE_MAGIC and "VMDK001" not in codes else SECTOR_BYTES
    if is_embedded:
        _mend_embedded(draft, name, header, length, keeps_size=keeps_size)
    _put_header(draft, name, header, length)


def _put_header(
    draft: Draft, name: str, header: SparseHeader, length_bytes: int = FIELDS_BYTES
) -> None:
    """One sector at once; of a whole header just the fields."""
    draft.write(draft.step(name), 0, build_header(header)[:length_bytes])


def _is_doubtful(before: Sequence[Finding], name: str) -> bool:
    """Whether a file may not read as it should with the header that it has."""
    return any(
        one.severity is Severity.ERROR or one.code == "VMDK034"
        for one in before
        if one.where in (None, name, printable(name))
    )


def likely_sectors(
    raw: BlockDevice, header: SparseHeader, text: Descriptor | None, said_sectors: int
) -> int | None:
    """The capacity where header and descriptor disagree: what the geometry or a footer confirms.

    None where neither decides.
    """
    ours = header.capacity_sectors
    ddb = {} if text is None else text.ddb
    cylinders = ddb.get("geometry.cylinders", "")
    heads, track = ddb.get("geometry.heads", ""), ddb.get("geometry.sectors", "")
    votes = {ours: 0, said_sectors: 0}
    if heads.isdigit() and track.isdigit() and int(heads) * int(track):
        for sectors in votes:
            votes[sectors] += str(sectors // (int(heads) * int(track))) == cylinders
    at = raw.size_bytes - FOOTER_OFFSET_BYTES
    if header.is_compressed and at > 0 and read(raw, at, 4) == SPARSE_MAGIC:
        footer = parse_header(read(raw, at, SECTOR_BYTES)).capacity_sectors
        for sectors in votes:
            votes[sectors] += 2 * (sectors == footer)
    if votes[said_sectors] == votes[ours]:
        return None
    return max(votes, key=votes.__getitem__)


def _text_of(raw: BlockDevice, header: SparseHeader | None) -> Descriptor | None:
    """The embedded descriptor: where the header says, or where it usually is."""
    places = [(SECTOR_BYTES, 20 * SECTOR_BYTES)]
    if header is not None:
        start = header.descriptor_offset_sectors * SECTOR_BYTES
        places.insert(0, (start, header.descriptor_sectors * SECTOR_BYTES))
    for start, length in places:
        room = min(length, DESCRIPTOR_MAX_BYTES, raw.size_bytes - start)
        if start and room > 0:
            with contextlib.suppress(VmdkError):
                return Descriptor.parse(read(raw, start, room))
    return None


def _mend_inside(
    draft: Draft, name: str, header: SparseHeader, *, has_parent: bool, is_damaged: bool
) -> MendedTables:
    if header.is_compressed:
        from ipva_storage.vmdk.repairing.stream import mend_stream

        return mend_stream(draft, name, header)
    from ipva_storage.vmdk.repairing.sparse import mend_tables

    return mend_tables(draft, name, header, has_parent=has_parent, is_damaged=is_damaged)


def _mend_embedded(
    draft: Draft, name: str, header: SparseHeader, length_bytes: int, *, keeps_size: bool
) -> None:
    raw = draft.device(name)
    has_room = 0 < header.descriptor_end_sectors <= max(header.metadata_sectors, 0)
    if not header.descriptor_offset_sectors or not has_room:
        return
    wanted = texts.embedded_text(raw, header, draft.folder, name, keeps_size=keeps_size)
    if wanted is None:
        return
    with contextlib.suppress(VmdkError):
        if access.read_embedded(raw, header).text == wanted.text:
            return
    _put_text(draft, name, header, wanted.encode(), length_bytes)


def _put_text(
    draft: Draft, name: str, header: SparseHeader, data: bytes, length_bytes: int = FIELDS_BYTES
) -> None:
    """An embedded descriptor, where it has room: the old one or the new one counts at any time.

    One sector is written at once. Of more, a copy behind the old text counts until all are there.
    """
    at, room = header.descriptor_offset_sectors, header.descriptor_sectors
    new, old = data.ljust(room * SECTOR_BYTES, b"\0"), draft.device(name)
    if len(data) > room * SECTOR_BYTES:
        return
    length = min(len(new), max(old.size_bytes - at * SECTOR_BYTES, 0))
    there = read(old, at * SECTOR_BYTES, length) if length else b""
    sectors = range(0, len(new), SECTOR_BYTES)
    changed = [
        start for start in sectors if not there.startswith(new[start:][:SECTOR_BYTES], start)
    ]
    count = -(-len(data) // SECTOR_BYTES)
    used = max(count, -(-len(there.rstrip(b"\0")) // SECTOR_BYTES))
    if len(changed) > 1 and used + count <= room:
        draft.write(draft.step(name), (at + used) * SECTOR_BYTES, new[: count * SECTOR_BYTES])
        copied = replace(
            header, descriptor_offset_sectors=at + used, descriptor_sectors=room - used
        )
        _put_header(draft, name, copied, length_bytes)
        draft.write(draft.step(name), at * SECTOR_BYTES, new[: used * SECTOR_BYTES])
        _put_header(draft, name, header, length_bytes)
    draft.write(draft.step(name), at * SECTOR_BYTES, new)


def _accept_parent(draft: Draft, name: str) -> None:
    """Let a child expect the parent that is there."""
    device = draft.device(name)
    try:
        text = access.read_descriptor(device)
        if not chain.has_parent(text):
            return
        place, parent_name = chain.find_parent(draft.folder, text, device.name)
        with place.open(parent_name) as raw:
            parent = access.read_descriptor(raw)
    except (VmdkError, DeviceError):
        return
    if parent.cid is None or chain.mismatch(text, parent, parent_name) is None:
        return
    wanted = text.with_value("parentCID", f"{parent.cid:08x}").encode()
    if read(device, 0, 4) == SPARSE_MAGIC:
        _put_text(draft, name, read_header(device), wanted)
    else:
        draft.create(name, wanted)
