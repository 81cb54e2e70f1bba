"""What a volume keeps about itself: free-space summary, labels, state bits, backup boot sector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_storage.fat.fsinfo import FsInfo
from ipva_storage.fat.table import FatTable

if TYPE_CHECKING:
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.repairing.draft import Draft


def mend(draft: Draft, geometry: Geometry) -> None:
    """Put everything right that follows from the rest of the volume."""
    table = FatTable(draft, geometry)
    info = FsInfo(draft, geometry.fsinfo_offset_bytes)
    info.update(table.free_count, table.next_free)
