"""The copies of the table: the one that fits the folders, in every place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_storage.device import read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.repairing.draft import Draft
    from ipva_storage.fat.repairing.lost import Lost


def mend(draft: Draft, geometry: Geometry) -> Iterator[Lost]:
    """Make all copies of the table equal, and what is lost of them as it must have been."""
    if geometry.mirrored_fat is None:
        raw = read(draft, geometry.fat_offset_bytes, geometry.fat_bytes)
        for copy in range(1, geometry.fat_count):
            draft.write(geometry.fat_offset_bytes + copy * geometry.fat_bytes, raw)
    yield from ()
