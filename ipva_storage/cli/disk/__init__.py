"""`ipva disk`: VMDK and raw images. A module for each kind of job; none imports a store's room."""

from ipva_storage.cli.disk.group import command

__all__ = ["command"]
