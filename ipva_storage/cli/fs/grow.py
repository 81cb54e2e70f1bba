"""`ipva fs grow`: a larger volume with all its files, with its partition and its disk."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ipva_storage.cli import interrupts, output, undoing
from ipva_storage.cli.disk.change import NewSize, NewSizeType
from ipva_storage.cli.disk.place import Place, image_place, is_vmdk, stoppable
from ipva_storage.errors import UsageError
from ipva_storage.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.device import BlockDevice
    from ipva_storage.fat import GrownDisk
    from ipva_storage.progress import Progress


class Sizes(NamedTuple):
    """How long the disk is and is to be, and where the volume is to end (None: at its end)."""

    before_bytes: int
    after_bytes: int
    end_bytes: int | None


# An unknown option is an argument here, because “+1G” may follow it; no argument takes “--typo”.
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("disk")
@click.argument("size", type=NewSizeType(), required=False)
@output.dry_run_option
@undoing.repair_options
@output.outside_option
@output.json_option
def grow(
    disk: str,
    size: NewSize | None,
    dry_run: bool,
    undo_file: str | None,
    no_undo: bool,
    allow_outside: bool,
    as_json: bool,
) -> None:
    """Make the FAT volume of DISK larger, up to its end or to SIZE. Every file stays.

    A SIZE beyond the end of DISK (4G, or 1G more: +1G) makes DISK and its partition larger, too.
    FAT12 becomes FAT16, and that FAT32, where the volume is too large for it. What is overwritten
    is saved first, for `ipva undo`.

    \b
    Example:
      ipva fs grow demo#cf 4G
    """
    place = image_place(disk, allow_outside=allow_outside)
    sizes = _sizes(place, size)
    planned = _rehearse(place, sizes)
    done = planned
    journal = undoing.journal_path(undo_file, place.path, by_default=not no_undo, dry_run=dry_run)
    with undoing.undoable(journal) as undo:
        if not dry_run:
            done = _carry_out(Place(undo.folder(place.folder), place.name), sizes)
    if as_json:
        path = None if undo.path is None else str(undo.path)
        facts = {"file": str(place.path), **_facts(done, sizes)}
        output.document(facts | {"undo": path, "dry_run": dry_run})
        return
    _show(disk, done, sizes, dry_run=dry_run)
    undo.say()


def _sizes(place: Place, size: NewSize | None) -> Sizes:
    with opened(place, writable=False) as device:
        before = device.size_bytes
    if size is None:
        return Sizes(before, before, None)
    if size.sign < 0:
        raise UsageError("a volume is not made smaller", where=str(place.path))
    wanted = size.of(before, str(place.path))
    return Sizes(before, max(before, wanted), wanted if wanted < before else None)


@contextlib.contextmanager
def opened(place: Place, *, writable: bool) -> Iterator[BlockDevice]:
    """The disk, opened through the folder of its place, so that changes are saved for undo."""
    from ipva_storage.appliance import image

    raw = place.folder.open(place.name, writable=writable)
    device = image.disk_in(raw, place.folder, writable=writable, as_found=True)
    with contextlib.closing(device):
        yield device


def _rehearse(place: Place, sizes: Sizes) -> GrownDisk:
    """Do all of it in memory, so that what is refused changes nothing."""
    from ipva_storage import fat
    from ipva_storage.device import OverlayDevice

    if sizes.after_bytes != sizes.before_bytes:
        _resize(place, sizes.after_bytes, dry_run=True)
    with opened(place, writable=False) as device:
        overlay = OverlayDevice(device)
        overlay.resize(sizes.after_bytes)
        return fat.grow_disk(overlay, sizes.end_bytes)


def _carry_out(place: Place, sizes: Sizes) -> GrownDisk:
    from ipva_storage import fat

    with output.progress_bar(place.name) as bar, interrupts.deferred() as may_stop:
        progress = stoppable(bar, may_stop)
        if sizes.after_bytes != sizes.before_bytes:
            _resize(place, sizes.after_bytes, dry_run=False, progress=progress)
        with opened(place, writable=True) as device:
            done = fat.grow_disk(device, sizes.end_bytes, progress=progress)
            device.flush()
    return done


def _resize(
    place: Place, size_bytes: int, *, dry_run: bool, progress: Progress | None = None
) -> None:
    from ipva_storage import vmdk
    from ipva_storage.progress import silent

    told = progress or silent
    if is_vmdk(place):
        vmdk.resize(place.folder, place.name, size_bytes, dry_run=dry_run, progress=told)
        return
    with place.folder.open(place.name, writable=not dry_run) as raw:
        vmdk.resize_raw(raw, size_bytes, dry_run=dry_run, progress=told)


def _facts(done: GrownDisk, sizes: Sizes) -> dict[str, Any]:
    volume = done.volume
    return {
        "before": volume.before_bytes,
        "after": volume.after_bytes,
        "fat_before": volume.before_bits,
        "fat": volume.after_bits,
        "cluster": volume.cluster_bytes,
        "disk_before": sizes.before_bytes,
        "disk_after": sizes.after_bytes,
        "partition": done.partition,
        "partition_before": done.partition_before_bytes,
        "partition_after": done.partition_after_bytes,
    }


def _show(disk: str, done: GrownDisk, sizes: Sizes, *, dry_run: bool) -> None:
    volume, verb = done.volume, "would become" if dry_run else "is now"
    if sizes.after_bytes != sizes.before_bytes:
        before, after = format_size(sizes.before_bytes), format_size(sizes.after_bytes)
        output.say(f"{disk} {verb} {after}; it was {before}")
    if done.partition_before_bytes != done.partition_after_bytes and done.partition is not None:
        size = format_size(done.partition_after_bytes)
        output.say(f"its partition {done.partition} {verb} {size}")
    if not volume.is_changed:
        output.say(f"its volume has {format_size(volume.after_bytes)} already")
        return
    output.say(
        f"its volume {verb} {format_size(volume.after_bytes)}, FAT{volume.after_bits}; "
        f"it was {format_size(volume.before_bytes)}, FAT{volume.before_bits}"
    )
