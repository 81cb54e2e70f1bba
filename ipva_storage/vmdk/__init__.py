"""VMDK files as block devices.

`open` gives a disk of any kind as a `BlockDevice`, `create` makes one, `check` says what is wrong
with one, `repair` mends it; `resize`, `compact`, `snapshot` and `commit` change one, whole at every
write. Kinds: `formats/spec/vmdk.md` has the table of what is read, written and made.
"""

from ipva_storage.vmdk.access import is_beheaded, is_vmdk, open  # noqa: A004 - the rooms' common doors
from ipva_storage.vmdk.check import check
from ipva_storage.vmdk.compact import Compacted, compact, punch
from ipva_storage.vmdk.create import REWRITABLE, SUBFORMATS, create, file_names
from ipva_storage.vmdk.describe import ADAPTERS
from ipva_storage.vmdk.descriptor import NO_PARENT_CID, Descriptor, ExtentLine
from ipva_storage.vmdk.disk import VmdkDevice
from ipva_storage.vmdk.remains import has_remains, open_remains
from ipva_storage.vmdk.repair import Lost, Repaired, repair
from ipva_storage.vmdk.resize import Resized, resize, resize_raw
from ipva_storage.vmdk.snapshot import Committed, commit, snapshot

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
    "is_beheaded",
    "is_vmdk",
    "open",
    "open_remains",
    "punch",
    "repair",
    "resize",
    "resize_raw",
    "snapshot",
]
