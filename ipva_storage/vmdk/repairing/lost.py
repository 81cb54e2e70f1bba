"""What a repair cannot bring back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipva_storage.vmdk.extent.header import SparseHeader


@dataclass(frozen=True, slots=True)
class Lost:
    """A range of the disk whose content is known by nothing that is left."""

    offset_bytes: int
    length_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class MendedTables:
    """What came of the tables of an extent."""

    lost: list[Lost]
    """What cannot be read any more."""
    header: SparseHeader
    """The header that goes with them."""
