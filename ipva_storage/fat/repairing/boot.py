"""The boot sector, as it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_storage.errors import FatError
from ipva_storage.fat import geometry as boot_sector

if TYPE_CHECKING:
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.repairing.draft import Draft


def mend(draft: Draft) -> Geometry | None:
    """Put the boot sector right; None where nothing of the volume is recognised."""
    try:
        return boot_sector.parse(draft)
    except FatError:
        return None
