"""The check of a volume: everything wrong with it, found without writing.

The order is from the boot sector inwards; what comes first explains what comes after.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ipva_storage.errors import FatError
from ipva_storage.fat import chains, copies, geometry, layouts, structure
from ipva_storage.fat.chains import End
from ipva_storage.fat.survey import Owner, Survey, printable
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
    total_bytes = (found.fat_count + 1) * found.fat_bytes
    progress(0, total_bytes)
    table = FatTable(device, found, copy=copies.best_copy(device, found))
    yield from structure.check_heads(device, found, table)
    yield from _compare_copies(device, found, table.copy)
    progress(found.fat_count * found.fat_bytes, total_bytes)
    survey = Survey(device, found, table)
    yield from survey.walk()
    yield from structure.check_label(device, found, survey.label)
    yield from _check_chains(device, found, table, survey.owners)
    yield from structure.check_fsinfo(device, found, table)
    progress(total_bytes, total_bytes)


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


def _check_chains(
    device: BlockDevice, found: Geometry, table: FatTable, owners: list[Owner]
) -> Iterator[Finding]:
    if chains.is_too_much(table.values):
        yield Finding(
            "FAT021",
            "table",
            "the chains: there are too many clusters in use, or too many fragments",
            where=device.name,
            offset_bytes=found.fat_offset_bytes,
        )
        return
    for owner in owners:
        if not owner.first_cluster and owner.content_bytes:
            yield _owner_finding(device, owner, "FAT012", "has content and no first cluster")
    fit = copies.fit(table.values, owners, found)
    chain_map = fit.chain_map
    for index in np.flatnonzero(~fit.is_sound).tolist():
        yield from _judge(
            device,
            fit.owners[index],
            End(int(chain_map.ends[index])),
            int(chain_map.lengths[index]),
            int(fit.need[index]),
            is_shared=bool(chain_map.is_shared[index]),
        )
    if len(chain_map.lost):
        yield Finding(
            "FAT011",
            "table",
            f"{len(chain_map.lost)} clusters are in use and belong to no file, "
            f"the first is cluster {chain_map.lost[0]}",
            where=device.name,
            offset_bytes=found.cluster_offset_bytes(int(chain_map.lost[0])),
        )


_END_TEXT: Final = {
    End.FREE: ("FAT006", "ends in a free cluster after {length} clusters"),
    End.BAD: ("FAT006", "ends in a cluster marked bad after {length} clusters"),
    End.OUTSIDE: ("FAT006", "points to a cluster that does not exist after {length} clusters"),
    End.RING: ("FAT009", "runs in a ring"),
    End.START: ("FAT012", "starts at cluster {first}, which is not in use"),
}


def _judge(
    device: BlockDevice, owner: Owner, end: End, length: int, need: int, *, is_shared: bool
) -> Iterator[Finding]:
    if end in _END_TEXT:
        code, text = _END_TEXT[end]
        text = text.format(length=length, first=owner.first_cluster)
        yield _owner_finding(device, owner, code, f"has a chain that {text}")
    elif not owner.is_dir and length != need:
        code = "FAT007" if length < need else "FAT008"
        text = f"has {owner.content_bytes} bytes, which take {need} clusters, and has {length}"
        yield _owner_finding(device, owner, code, text)
    if is_shared:
        yield _owner_finding(device, owner, "FAT010", "shares clusters with another file or folder")


def _owner_finding(device: BlockDevice, owner: Owner, code: str, text: str) -> Finding:
    return Finding(
        code,
        "folder" if owner.is_dir else "file",
        printable(f"“{owner.path}” {text}"),
        where=device.name,
        offset_bytes=owner.offset_bytes,
    )
