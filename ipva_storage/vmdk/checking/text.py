"""A descriptor against itself and the files beside it: what a slip of an editor leaves."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ipva_storage.findings import Finding
from ipva_storage.vmdk import chain
from ipva_storage.vmdk.access import GRAIN_KINDS
from ipva_storage.vmdk.descriptor import shown
from ipva_storage.vmdk.extent.flat import FLAT_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import Folder
    from ipva_storage.vmdk.descriptor import Descriptor, ExtentLine

VERSIONS: Final = ("1", "2", "3", "4")
"""Versions of descriptors. Source: Virtual Disk Format 5.0 has 1; newer hosts write the others.
Confidence: stated, inferred.
"""

_FLAT_TYPES: Final = ("monolithicflat", "twogbmaxextentflat", "vmfs")
_GRAIN_TYPES: Final = (
    "monolithicsparse",
    "twogbmaxextentsparse",
    "streamoptimized",
    "vmfssparse",
    "sesparse",
)
_NUMBERED: Final = re.compile(r"(.+-[sf])([0-9]{3})(\.vmdk)", re.IGNORECASE)


def contradictions(
    descriptor: Descriptor, lines: tuple[ExtentLine, ...], folder: Folder | None, name: str
) -> Iterator[Finding]:
    """What a separate descriptor says that cannot be together.

    Args:
        descriptor: the text.
        lines: its extent lines.
        folder: where its extents are.
        name: its file name.
    """
    for problem in _problems(descriptor, lines, folder):
        remedy = f"if that is a mistake, mend “{shown(name)}” in an editor"
        yield Finding("VMDK036", "descriptor", problem, offset_bytes=0, repair=remedy)


def _problems(
    descriptor: Descriptor, lines: tuple[ExtentLine, ...], folder: Folder | None
) -> Iterator[str]:
    values = {key.lower(): value for key, value in descriptor.values.items()}
    version = values.get("version", VERSIONS[0])
    if version not in VERSIONS:
        yield f"version {shown(version)} is unknown"
    kinds = {line.kind for line in lines}
    kind = descriptor.create_type
    for types, others in ((_FLAT_TYPES, GRAIN_KINDS), (_GRAIN_TYPES, FLAT_KINDS)):
        if kind.lower() in types and kinds & set(others):
            odd = " and ".join(sorted(kinds & set(others)))
            yield f"its createType is “{shown(kind)}”, and it has extents of kind {odd}"
    if chain.has_parent(descriptor) and kinds <= {*FLAT_KINDS, "ZERO"}:
        yield "its parentCID is that of a snapshot's child, and its extents are those of no child"
    yield from _numbers(lines, folder)


def _numbers(lines: tuple[ExtentLine, ...], folder: Folder | None) -> Iterator[str]:
    """Numbered extents that are out of order, or left out though their files are there."""
    named = {line.file_name for line in lines}
    found = [_NUMBERED.fullmatch(line.file_name or "") for line in lines]
    for one, other in pairwise(match for match in found if match is not None):
        if one[1] != other[1]:
            continue
        first, second = int(one[2]), int(other[2])
        if second < first:
            yield f"“{shown(other[0])}” follows “{shown(one[0])}”"
        for number in range(first + 1, second):
            left_out = f"{one[1]}{number:03}{one[3]}"
            if folder is not None and left_out not in named and folder.has(left_out):
                yield f"“{shown(left_out)}” is there, and no extent line names it"
                break
