"""Which orphan chain is evidently the rest of which file.

Evident is: the chain has exactly as many clusters as the file lacks, and either it begins in the
cluster after the file's last one, or no other orphan has that length and no other file lacks it.
Confidence: chosen.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Short:
    """A file that lacks clusters."""

    key: int
    """Whatever names it to who asks."""
    last: int
    """Its last cluster; 0 where it has none."""
    missing_count: int


def match(shorts: Iterable[Short], orphans: Mapping[int, int]) -> dict[int, int]:
    """Files and the rest of each.

    Args:
        shorts: the files.
        orphans: first cluster and length of each whole orphan chain that may be a file's.

    Returns:
        The first cluster of the rest, by the key of the file.
    """
    files = list(shorts)
    found: dict[int, int] = {}
    left = dict(orphans)
    for file in files:
        if file.last and left.get(file.last + 1) == file.missing_count:
            found[file.key] = file.last + 1
            del left[file.last + 1]
    wanted = Counter(file.missing_count for file in files if file.key not in found)
    there = Counter(left.values())
    head_of = {length: head for head, length in left.items()}
    for file in files:
        length = file.missing_count
        if file.key not in found and wanted[length] == 1 and there[length] == 1:
            found[file.key] = head_of[length]
    return found
