"""The repair of a volume: drawn up over it, checked as it would be, then committed.

The passes go from the boot sector inwards, each on what the one before left. Rules: nothing is made
up; data is preferred to truncation; no byte of a file that the check calls sound is changed; what
nothing can bring back is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from ipva_storage.fat.checking import check
from ipva_storage.fat.repairing import boot, chains, folders, summary, tables
from ipva_storage.fat.repairing.draft import Draft
from ipva_storage.fat.repairing.lost import Lost, Recovered
from ipva_storage.fat.table import FatTable
from ipva_storage.findings import Finding, Severity
from ipva_storage.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat.geometry import Geometry
    from ipva_storage.progress import Progress

    Pass = Callable[[Draft, Geometry, FatTable], Iterator[Lost | Recovered]]

One = TypeVar("One", bound=Lost | Recovered)

ROUNDS_MAX: Final = 4
"""How often the passes are run, one after the other. Confidence: chosen."""

PASSES: Final[tuple[Pass, ...]] = (folders.mend, chains.mend)
"""What mends folders and chains, in order; each on the table as it was left."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did, or would do."""

    fixed: tuple[Finding, ...]
    """What is found no more."""
    left: tuple[Finding, ...]
    """What is found still, without what is for information."""
    lost: tuple[Lost, ...]
    """What of which file or folder could not be brought back."""
    recovered: tuple[Recovered, ...]
    """Files that were made of clusters which belonged to none."""
    is_changed: bool
    """Whether anything had to be written."""


def repair(device: BlockDevice, *, dry_run: bool = False, progress: Progress = silent) -> Repaired:
    """Mend a volume, as far as anything that is left allows.

    Args:
        device: the volume, not the disk; it stays the caller's.
        dry_run: find out what would be mended, and write nothing.
        progress: told how far the checks are.

    Raises:
        DeviceError: the medium cannot be read or written. Steps of the commit that were done before
            stay; another repair goes on from there.
    """
    draft = Draft(device)
    told: list[Lost | Recovered] = []
    findings = _findings(draft, progress)
    seen = dict.fromkeys(findings)
    for _ in range(ROUNDS_MAX):
        if not findings:
            break
        told += _round(draft)
        before, findings = findings, _findings(draft, progress)
        seen |= dict.fromkeys(findings)
        if findings == before:
            break
    is_changed = draft.is_changed
    if is_changed and not dry_run:
        draft.commit()
    left = {(one.code, one.structure, one.offset_bytes) for one in findings}
    return Repaired(
        fixed=tuple(one for one in seen if (one.code, one.structure, one.offset_bytes) not in left),
        left=tuple(findings),
        lost=_once(one for one in told if isinstance(one, Lost)),
        recovered=_once(one for one in told if isinstance(one, Recovered)),
        is_changed=is_changed,
    )


def _findings(draft: Draft, progress: Progress) -> list[Finding]:
    """What is wrong with the volume as it would be, without what is for information."""
    return [one for one in check(draft, progress=progress) if one.severity is not Severity.INFO]


def _round(draft: Draft) -> Iterator[Lost | Recovered]:
    """All passes once."""
    geometry = boot.mend(draft)
    if geometry is None:
        return
    draft.step()
    yield from tables.mend(draft, geometry)
    draft.step()
    for mend in PASSES:
        table = FatTable(draft, geometry)
        yield from mend(draft, geometry, table)
        draft.step()
        table.write()
        draft.step()
    summary.mend(draft, geometry)
    draft.step()


def _once(told: Iterable[One]) -> tuple[One, ...]:
    """Each thing once, in order: a second round may find it again."""
    return tuple(dict.fromkeys(told))
