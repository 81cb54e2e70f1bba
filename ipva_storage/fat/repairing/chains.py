"""The chains of files and folders, as they should be; and what belongs to nothing, made files.

In this order: sound chains are left alone; each other one keeps what leads from its start up to the
first wrong link; then it gets its rest: the orphan chain that evidently is it, or a copy of what it
shares, or the free clusters that its last link led to. Only what is still missing is cut off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipva_storage.fat import chains as chain_map
from ipva_storage.fat.repairing import orphans
from ipva_storage.fat.repairing.folders import surveyed
from ipva_storage.fat.repairing.rests import ChainMender

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.fat.repairing.draft import Draft
    from ipva_storage.fat.repairing.lost import Lost, Recovered
    from ipva_storage.fat.table import FatTable

_FOLDER_ROUNDS_MAX: Final = 8
"""How many levels of lost folders within each other are attached. Confidence: chosen."""


def mend(draft: Draft, geometry: Geometry, table: FatTable) -> Iterator[Lost | Recovered]:
    """Put all chains right, attach lost folders, and make files of lost clusters.

    Yields:
        What is lost of which file, and what was recovered.
    """
    for _ in range(_FOLDER_ROUNDS_MAX):
        survey = surveyed(draft, geometry, table)
        if not survey.is_complete or chain_map.is_too_much(table.values):
            return
        mender = ChainMender(draft, survey)
        yield from mender.mend()
        draft.step()
        table.write()
        draft.step()
        mender.write_records()
        survey = surveyed(draft, geometry, table)
        attached = list(orphans.attach_folders(draft, survey))
        yield from attached
        if not attached:
            break
    yield from orphans.make_files(draft, survey)
