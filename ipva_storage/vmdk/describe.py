"""The text of a new descriptor, and the geometry in it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from ipva_storage.units import SECTOR_BYTES
from ipva_storage.vmdk.descriptor import NO_PARENT_CID, Descriptor

if TYPE_CHECKING:
    from collections.abc import Iterable

ADAPTERS: Final = ("ide", "buslogic", "lsilogic", "legacyESX")
"""Values of `ddb.adapterType`. Source: Virtual Disk Format 5.0; qemu adds the last."""

IDE_CYLINDERS_MAX: Final = 16383
"""Cylinders that IDE can name. Source: ATA-4. Confidence: stated."""

TRACK_SECTORS: Final = 63
"""Sectors of a track. Source: what VMware and qemu write. Confidence: inferred."""

_TEMPLATE: Final = """\
# Disk DescriptorFile
version=1
encoding="UTF-8"
CID={cid:08x}
parentCID={parent_cid:08x}
createType="{subformat}"
{hint}
# Extent description
{extents}

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "{cylinders}"
ddb.geometry.heads = "{heads}"
ddb.geometry.sectors = "{sectors}"
ddb.adapterType = "{adapter}"
"""


def describe(
    subformat: str,
    extents: Iterable[str],
    size_bytes: int,
    *,
    adapter: str = "ide",
    cid: int | None = None,
    parent_cid: int = NO_PARENT_CID,
    parent_name: str | None = None,
) -> Descriptor:
    """A descriptor.

    Args:
        subformat: its `createType`.
        extents: the extent lines.
        size_bytes: of the disk, for the geometry.
        adapter: one of `ADAPTERS`.
        cid: its content identifier; a new one unless given.
        parent_cid: the parent's, for a snapshot's child.
        parent_name: file name of the parent.
    """
    cylinders, heads = geometry(size_bytes, adapter)
    text = _TEMPLATE.format(
        cid=new_cid() if cid is None else cid,
        parent_cid=parent_cid,
        subformat=subformat,
        hint="" if parent_name is None else f'parentFileNameHint="{parent_name}"\n',
        extents="\n".join(extents),
        cylinders=cylinders,
        heads=heads,
        sectors=TRACK_SECTORS,
        adapter=adapter,
    )
    return Descriptor(text)


def geometry(size_bytes: int, adapter: str) -> tuple[int, int]:
    """Cylinders and heads of a disk; IDE has 16 heads, and an end to its cylinders."""
    heads = 16 if adapter.lower() == "ide" else 255
    cylinders = size_bytes // SECTOR_BYTES // (heads * TRACK_SECTORS)
    return (min(cylinders, IDE_CYLINDERS_MAX) if heads == 16 else cylinders), heads


def new_cid() -> int:
    """A content identifier that is none of the reserved ones."""
    return secrets.randbelow(NO_PARENT_CID - 2) + 1
