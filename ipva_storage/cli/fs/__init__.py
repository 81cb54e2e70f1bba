"""`ipva fs`: FAT volumes and the files on them. A module for each kind of job."""

from ipva_storage.cli.fs.group import command

__all__ = ["command"]
