"""What is wrong with a VMDK: every fault with its code and place. Nothing is written."""

from ipva_storage.vmdk.check.image import check

__all__ = ["check"]
