"""What is wrong with a VMDK: every fault with its code and place. Nothing is written."""

from ipva_storage.vmdk.checking.image import check

__all__ = ["check"]
