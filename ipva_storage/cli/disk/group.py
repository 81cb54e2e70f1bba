"""The group `ipva disk`, and where its commands are."""

from __future__ import annotations

from typing import Final

import click

from ipva_storage.cli.lazy import Entry, LazyGroup

_HERE: Final = "ipva_storage.cli.disk"

ENTRIES: Final = {
    "info": Entry("what a disk is: kind, files, parents, volumes", f"{_HERE}.inspect", "info"),
    "check": Entry("check the structure of an image", f"{_HERE}.inspect", "check"),
    "repair": Entry("mend an image from whatever is left of it", f"{_HERE}.repair", "repair"),
    "map": Entry("list runs of data, and holes", f"{_HERE}.inspect", "map_runs"),
    "convert": Entry("copy a disk to an image of another kind", f"{_HERE}.convert", "convert"),
    "create": Entry("make an empty disk", f"{_HERE}.make", "create"),
    "diff": Entry("compare what two disks read as", f"{_HERE}.inspect", "diff"),
    "resize": Entry("give a disk another size", f"{_HERE}.change", "resize"),
    "compact": Entry("give space back to the host", f"{_HERE}.change", "compact"),
    "snapshot": Entry("take snapshots, and commit them", f"{_HERE}.snapshot", "group"),
}


@click.group("disk", cls=LazyGroup, entries=ENTRIES, short_help="VMDK and raw images")
def command() -> None:
    """Inspect, check, repair, convert and change disk images: VMDK of every kind, and raw ones."""
