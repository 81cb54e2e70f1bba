"""VMDK files as block devices.

`open` gives a disk of any kind as a `BlockDevice`, `create` makes one, `check` says what is wrong
with one, `repair` mends it; `resize`, `compact`, `snapshot` and `commit` change one, whole at every
write. Kinds: `formats/spec/vmdk.md` has the table of what is read, written and made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from ipva_storage.vmdk.access import is_beheaded, is_vmdk, open  # noqa: A004 - the rooms' common doors
from ipva_storage.vmdk.descriptor import NO_PARENT_CID, Descriptor, ExtentLine
from ipva_storage.vmdk.disk import VmdkDevice

if TYPE_CHECKING:
    from ipva_storage.vmdk.checking import check
    from ipva_storage.vmdk.compaction import Compacted, compact, punch
    from ipva_storage.vmdk.creation import REWRITABLE, SUBFORMATS, create, file_names
    from ipva_storage.vmdk.describe import ADAPTERS
    from ipva_storage.vmdk.remains import has_remains, hide_lost, open_remains
    from ipva_storage.vmdk.repairing import Lost, Repaired, lost_descriptor, repair
    from ipva_storage.vmdk.resizing import Resized, resize, resize_raw
    from ipva_storage.vmdk.snapshots import Committed, commit, snapshot

__all__ = [
    "ADAPTERS",
    "NO_PARENT_CID",
    "REWRITABLE",
    "SUBFORMATS",
    "Committed",
    "Compacted",
    "Descriptor",
    "ExtentLine",
    "Lost",
    "Repaired",
    "Resized",
    "VmdkDevice",
    "check",
    "commit",
    "compact",
    "create",
    "file_names",
    "has_remains",
    "hide_lost",
    "is_beheaded",
    "is_vmdk",
    "lost_descriptor",
    "open",
    "open_remains",
    "punch",
    "repair",
    "resize",
    "resize_raw",
    "snapshot",
]

_ON_DEMAND: Final = {
    "ADAPTERS": "describe",
    "Committed": "snapshots",
    "Compacted": "compaction",
    "Lost": "repairing",
    "REWRITABLE": "creation",
    "Repaired": "repairing",
    "Resized": "resizing",
    "SUBFORMATS": "creation",
    "check": "checking",
    "commit": "snapshots",
    "compact": "compaction",
    "create": "creation",
    "file_names": "creation",
    "has_remains": "remains",
    "hide_lost": "remains",
    "lost_descriptor": "repairing",
    "open_remains": "remains",
    "punch": "compaction",
    "repair": "repairing",
    "resize": "resizing",
    "resize_raw": "resizing",
    "snapshot": "snapshots",
}
"""Names, and the module of each. No module has the name of a door, which it would hide."""


def __getattr__(name: str) -> object:
    """Import what is needed less often when it is first named."""
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
