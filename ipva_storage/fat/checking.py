"""The check of a volume: everything wrong with it, found without writing.

The order is from the boot sector inwards; what comes first explains what comes after.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ipva_storage.errors import FatError
from ipva_storage.fat import copies, geometry, judging, layouts, structure
from ipva_storage.fat.survey import Survey
from ipva_storage.fat.table import FatTable
from ipva_storage.findings import Finding, Severity
from ipva_storage.progress import silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.progress import Progress

REPAIR: Final = "ipva fs repair DISK"
"""The command that mends what is found. `DISK` becomes the name that the user can type."""


def check(device: BlockDevice, *, progress: Progress = silent) -> Iterator[Finding]:
    """What is wrong with the volume on `device`; it is only read.

    Args:
        device: the volume.
        progress: told how much of what is read has been read.

    Raises:
        DeviceError: the medium cannot be read.
    """
    for found in _check(device, progress):
        is_to_mend = found.severity is not Severity.INFO
        yield replace(found, repair=REPAIR) if is_to_mend and found.repair is None else found


def _check(device: BlockDevice, progress: Progress) -> Iterator[Finding]:
    try:
        geometry.parse(device)
    except FatError as error:
        yield structure.unusable(device, error.message, layouts.judge(device))
        return
    verdict = layouts.judge(device)
    if verdict is None:
        return
    yield from structure.check_boot(device, verdict)
    yield from _check_content(device, verdict.geometry, progress)


def _check_content(device: BlockDevice, found: Geometry, progress: Progress) -> Iterator[Finding]:
    table_bytes = found.fat_count * found.fat_bytes
    progress(0, table_bytes)
    table = FatTable(device, found, copy=copies.best_copy(device, found))
    yield from structure.check_heads(device, found, table)
    yield from _compare_copies(device, found, table.copy)
    progress(table_bytes, table_bytes)
    survey = Survey(device, found, table)
    yield from survey.walk(
        progress=lambda done, known: progress(table_bytes + done, table_bytes + known)
    )
    yield from structure.check_label(device, found, survey.label)
    yield from judging.findings(survey)
    yield from structure.check_fsinfo(device, found, table)


def _compare_copies(device: BlockDevice, found: Geometry, best: int) -> Iterator[Finding]:
    """Which copies differ, and which of them fits the folders."""
    every = structure.copies_in_use(found)
    for copy in every[1:]:
        count, first = structure.differing_sectors(device, found, copy)
        if count:
            yield Finding(
                "FAT005",
                "table",
                f"copy {copy + 1} of the table differs from copy {every[0] + 1} in {count} sectors;"
                f" copy {best + 1} fits the folders best",
                where=device.name,
                offset_bytes=found.fat_offset_bytes + copy * found.fat_bytes + first,
            )
