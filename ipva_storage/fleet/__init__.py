"""Many VMs looked at together."""

from ipva_storage.fleet.scan import Scan, examine, find, scan

__all__ = ["Scan", "examine", "find", "scan"]
