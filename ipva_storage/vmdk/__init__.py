"""VMDK files as block devices.

`open` gives a disk of any supported kind as a `BlockDevice`, `create` makes one, `check` says what
is wrong with one. Supported: `monolithicSparse`, `monolithicFlat`, and `vmfs` (flat) which is read
and written but not made.
"""

from ipva_storage.vmdk.access import is_vmdk, open  # noqa: A004 - the rooms' common doors
from ipva_storage.vmdk.check import check
from ipva_storage.vmdk.create import SUBFORMATS, create
from ipva_storage.vmdk.descriptor import NO_PARENT_CID, Descriptor, ExtentLine
from ipva_storage.vmdk.disk import VmdkDevice

__all__ = [
    "NO_PARENT_CID",
    "SUBFORMATS",
    "Descriptor",
    "ExtentLine",
    "VmdkDevice",
    "check",
    "create",
    "is_vmdk",
    "open",
]
