"""Descriptors made anew: from the header, the extents in the folder, and the rest of the old."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipva_storage.device import read
from ipva_storage.errors import DeviceError, VmdkError
from ipva_storage.units import SECTOR_BYTES, format_size
from ipva_storage.vmdk import access, chain
from ipva_storage.vmdk.describe import ADAPTERS, describe, new_cid
from ipva_storage.vmdk.descriptor import NO_PARENT_CID, Descriptor
from ipva_storage.vmdk.extent.header import CAPACITY_MAX_BYTES, SPARSE_MAGIC, read_header

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice, Folder
    from ipva_storage.vmdk.extent.header import SparseHeader

_PART: Final = re.compile(r"(.+)-(flat|delta|sesparse|[fs][0-9]{3})\.vmdk", re.IGNORECASE)
"""What VMware calls the extents of a disk. Source: VMware manuals, "Files that make up a virtual
machine". Confidence: stated.
"""

_SNAPSHOT: Final = re.compile(r"(.+)-([0-9]{6})\.vmdk", re.IGNORECASE)
"""What VMware calls the disks of snapshots. Source: as above. Confidence: stated."""

_VALUE: Final = re.compile(
    rb'(?<![A-Za-z])(CID|parentCID|parentFileNameHint|ddb\.adapterType)[ \t]*=[ \t]*"?([^"\r\n\0]+)'
)

PARTS_MAX: Final = 999


def descriptor_name(name: str) -> str:
    """The descriptor's file for the name of an extent; other names stay.

    >>> descriptor_name("hd-cf-flat.vmdk")
    'hd-cf.vmdk'
    """
    match = _PART.fullmatch(name)
    return name if match is None else f"{match[1]}.vmdk"


@dataclass(frozen=True, slots=True)
class Remains:
    """What a damaged descriptor still says."""

    cid: int | None = None
    parent_cid: int | None = None
    parent_name: str | None = None
    adapter: str = "ide"

    @classmethod
    def of(cls, data: bytes) -> Remains:
        """Look for values anywhere in the bytes."""
        found: dict[str, str] = {}
        for key, value in _VALUE.findall(data):
            found.setdefault(key.decode(), value.decode("utf-8", "replace").strip())
        adapter = found.get("ddb.adapterType", "ide")
        return cls(
            _number(found.get("CID")),
            _number(found.get("parentCID")),
            found.get("parentFileNameHint"),
            adapter if adapter in ADAPTERS else "ide",
        )


def _number(text: str | None) -> int | None:
    if text is None or re.fullmatch(r"[0-9A-Fa-f]{1,8}", text) is None:
        return None
    return int(text, 16)


def embedded_text(
    raw: BlockDevice, header: SparseHeader, folder: Folder, name: str, *, keeps_size: bool = False
) -> Descriptor | None:
    """The descriptor that a sparse file should have in it; None where that is not known.

    Args:
        raw: the file.
        header: its header, as it should be.
        folder: where it is.
        name: its file name.
        keeps_size: whether the descriptor may go on to say another size than the header.
    """
    try:
        text = access.read_embedded(raw, header)
    except VmdkError:
        text = None
    if text is not None and text.extents:
        if not keeps_size:
            text = _sized(text, header, name)
        return completed(text, folder, name, header.is_compressed)
    at = header.descriptor_offset_sectors * SECTOR_BYTES
    room = min(header.descriptor_sectors * SECTOR_BYTES, max(raw.size_bytes - at, 0))
    remains = Remains.of(read(raw, at, room))
    subformat = "streamOptimized" if header.is_compressed else "monolithicSparse"
    line = f'RW {header.capacity_sectors} SPARSE "{name}"'
    return _described(subformat, [line], header.capacity_bytes, remains, folder, name)


def _sized(text: Descriptor, header: SparseHeader, name: str) -> Descriptor:
    """A descriptor with the size that the header says."""
    if sum(line.sector_count for line in text.extents) == header.capacity_sectors:
        return text
    line = text.extents[0]
    return text.with_extents([f'{line.access} {header.capacity_sectors} SPARSE "{name}"'])


def completed(
    text: Descriptor, folder: Folder, name: str, is_compressed: bool | None = None
) -> Descriptor:
    """A descriptor with a content identifier and a kind."""
    if not chain.can_be_parent(text):
        text = text.with_value("CID", f"{_cid(folder, name):08x}")
    if not text.create_type and is_compressed is not None:
        kind = "streamOptimized" if is_compressed else "monolithicSparse"
        text = text.with_value("createType", kind)
    elif not text.create_type:
        text = text.with_value("createType", _kind_of(text))
    return text


def _kind_of(text: Descriptor) -> str:
    kinds = {line.kind for line in text.extents}
    if kinds == {"VMFS"}:
        return "vmfs"
    if kinds == {"FLAT"}:
        return "monolithicFlat" if len(text.extents) == 1 else "twoGbMaxExtentFlat"
    return "twoGbMaxExtentSparse" if kinds == {"SPARSE"} else "custom"


def _cid(folder: Folder, name: str) -> int:
    """A content identifier: the one that a child in the folder expects, or a new one."""
    for other in folder.names():
        if other == name or not other.lower().endswith(".vmdk"):
            continue
        try:
            with folder.open(other) as raw:
                child = access.read_descriptor(raw) if access.is_vmdk(raw) else None
        except (DeviceError, VmdkError):
            continue
        if child is not None and chain.has_parent(child):
            hint = re.split(r"[/\\]", child.parent_hint or "")[-1]
            if hint == name:
                return child.parent_cid
    return new_cid()


def separate_text(folder: Folder, name: str, old: bytes) -> Descriptor | None:
    """The descriptor of the extents that lie beside its place; None where there are none.

    Args:
        folder: where they are.
        name: the descriptor's file name.
        old: what is left of the descriptor.

    Raises:
        VmdkError: one of several numbered extents is not there.
    """
    stem = name.removesuffix(".vmdk")
    names = set(folder.names())
    for ending, kind, word in (
        ("flat", _flat_kind(folder, names), "FLAT"),
        ("f001", "twoGbMaxExtentFlat", "FLAT"),
        ("s001", "twoGbMaxExtentSparse", "SPARSE"),
        ("delta", "vmfsSparse", "VMFSSPARSE"),
        ("sesparse", "seSparse", "SESPARSE"),
    ):
        parts = [f"{stem}-{ending}.vmdk"]
        if ending.endswith("001"):
            parts = _numbered(folder, names, f"{stem}-{ending[0]}")
        if not parts or parts[0] not in names:
            continue
        return _of_parts(folder, name, kind, "VMFS" if kind == "vmfs" else word, parts, old)
    return None


def _of_parts(
    folder: Folder, name: str, kind: str, word: str, parts: list[str], old: bytes
) -> Descriptor | None:
    lines, total = [], 0
    for part in parts:
        sector_count = _sectors(folder, part, word)
        if sector_count is None:
            return None
        rest = " 0" if word == "FLAT" else ""
        lines.append(f'RW {sector_count} {word} "{part}"{rest}')
        total += sector_count
    if total * SECTOR_BYTES > CAPACITY_MAX_BYTES:
        return None
    return _described(kind, lines, total * SECTOR_BYTES, Remains.of(old), folder, name)


def _numbered(folder: Folder, names: set[str], start: str) -> list[str]:
    """Names of the numbered extents of a disk.

    Raises:
        VmdkError: one is missing before the last one.
    """
    wanted = [f"{start}{number:03}.vmdk" for number in range(1, PARTS_MAX + 1)]
    found = [at for at, name in enumerate(wanted) if name in names]
    parts = wanted[: found[-1] + 1] if found else []
    for part in parts:
        if part not in names:
            raise VmdkError(
                f"its extent “{part}” is missing, and so is the descriptor, which says how long "
                "that is",
                where=str(folder.path / part),
                remedy="put that file into the folder, or get it or the descriptor from a backup",
            )
    return parts


def _flat_kind(folder: Folder, names: set[str]) -> str:
    """What the other flat disks of a folder are: ESXi's, or a hosted product's."""
    for other in sorted(names):
        if not other.lower().endswith(".vmdk"):
            continue
        try:
            with folder.open(other) as raw:
                if access.is_vmdk(raw) and access.read_descriptor(raw).create_type == "vmfs":
                    return "vmfs"
        except (DeviceError, VmdkError):
            continue
    return "monolithicFlat"


def _sectors(folder: Folder, name: str, word: str) -> int | None:
    """How much of a disk an extent's file holds."""
    with folder.open(name) as raw:
        if word in ("FLAT", "VMFS"):
            return raw.size_bytes // SECTOR_BYTES
        start = read(raw, 0, min(raw.size_bytes, SECTOR_BYTES))
        if start[:4] == SPARSE_MAGIC and len(start) == SECTOR_BYTES:
            return read_header(raw).capacity_sectors
        if start[:4] == b"COWD":
            return int.from_bytes(start[12:16], "little")
        if start[:4] == bytes.fromhex("bebafeca"):
            return int.from_bytes(start[16:24], "little")
        return None


def assumed(text: Descriptor, old: bytes) -> str:
    """What a new descriptor was made from, and what of it nobody knows.

    Args:
        text: the new one.
        old: what was left of the old one.
    """
    lines, kind = text.extents, text.create_type
    files = "1 file" if len(lines) == 1 else f"{len(lines)} files"
    unknown = [f"its kind ({kind})"] if kind in ("monolithicFlat", "vmfs") else []
    if b"ddb.adapterType" not in old:
        unknown.append(f"its adapter ({text.ddb.get('adapterType', '')})")
    told = f"; {' and '.join(unknown)} {'are' if len(unknown) > 1 else 'is'} assumed"
    size = format_size(sum(line.size_bytes for line in lines))
    return f"the descriptor was made from {files}, {size}{told if unknown else ''}"


def _described(
    subformat: str,
    lines: list[str],
    size_bytes: int,
    remains: Remains,
    folder: Folder,
    name: str,
) -> Descriptor | None:
    """A new descriptor with what is left of the old one.

    A disk that is named as a snapshot's child gets one only with the parent that it had: without
    it, the disk would show zeros in the place of all that did not change.
    """
    is_child = remains.parent_cid not in (None, NO_PARENT_CID)
    if is_child != (remains.parent_name is not None):
        return None
    if _SNAPSHOT.fullmatch(name) and not is_child:
        return None
    return describe(
        subformat,
        lines,
        size_bytes,
        adapter=remains.adapter,
        cid=_cid(folder, name) if remains.cid is None else remains.cid,
        parent_cid=remains.parent_cid or NO_PARENT_CID,
        parent_name=remains.parent_name,
    )


def likely_parent(folder: Folder, name: str) -> str | None:
    """By VMware's way of naming, the disk that a snapshot's child was taken over, if it is there.

    >>> from ipva_storage.device import Folder
    >>> likely_parent(Folder("nowhere"), "hd-cf-000002.vmdk") is None
    True
    """
    match = _SNAPSHOT.fullmatch(name)
    if match is None:
        return None
    names = folder.names()
    before = [f"{match[1]}-{number:06}.vmdk" for number in range(int(match[2]) - 1, 0, -1)]
    return next((one for one in (*before[:64], f"{match[1]}.vmdk") if one in names), None)
