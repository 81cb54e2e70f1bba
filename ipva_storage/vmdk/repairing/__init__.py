"""Mending a VMDK from what is left of it: copies, markers, descriptor, header."""

from ipva_storage.vmdk.repairing.image import Repaired, lost_descriptor, repair
from ipva_storage.vmdk.repairing.lost import Lost

__all__ = ["Lost", "Repaired", "lost_descriptor", "repair"]
