"""The group `ipva fs`, and where its commands are."""

from __future__ import annotations

from typing import Final

import click

from ipva_storage.cli.lazy import Entry, LazyGroup

_HERE: Final = "ipva_storage.cli.fs"

ENTRIES: Final = {
    "ls": Entry("list a folder, or one file", f"{_HERE}.files", "list_folder"),
    "tree": Entry("list a folder and all below it", f"{_HERE}.files", "tree"),
    "cat": Entry("write a file to standard output", f"{_HERE}.files", "cat"),
    "get": Entry("copy files and folders out", f"{_HERE}.files", "get"),
    "put": Entry("copy files and folders in", f"{_HERE}.files", "put"),
    "rm": Entry("remove files and folders", f"{_HERE}.files", "rm"),
    "mkdir": Entry("make a folder", f"{_HERE}.files", "mkdir"),
    "mv": Entry("move or rename a file or folder", f"{_HERE}.files", "mv"),
    "info": Entry("show kind, room and pieces of a volume", f"{_HERE}.facts", "info"),
    "label": Entry("show or set the label", f"{_HERE}.facts", "label"),
    "undelete": Entry("put back or copy out deleted files", f"{_HERE}.undelete", "undelete"),
    "format": Entry("make an empty volume", f"{_HERE}.make", "format_volume"),
    "grow": Entry("make a volume larger with its files", f"{_HERE}.grow", "grow"),
    "defrag": Entry("put files and folders in one piece", f"{_HERE}.defrag", "defrag"),
    "check": Entry("check the volumes of a disk", f"{_HERE}.volume", "check"),
    "repair": Entry("mend the volumes of a disk", f"{_HERE}.repair", "repair"),
}


@click.group("fs", cls=LazyGroup, entries=ENTRIES, short_help="files on FAT disks")
def command() -> None:
    """Work with files on FAT12/16/32 disks, partitioned or not.

    A path in a disk is written DISK:/folder/file.txt, where DISK is an image file or one of a
    VM's disks, VM#boot or VM#cf. Names match whatever their case.
    """
