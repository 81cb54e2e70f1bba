"""Moving and renaming: one owner of a content gives it to another, in two sectors at most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_storage.errors import FatExistsError, NoSpaceError, UsageError
from ipva_storage.fat import names
from ipva_storage.fat.content import read_pieces
from ipva_storage.fat.folder import changed
from ipva_storage.fat.writing import REWRITTEN_BYTES_MAX

if TYPE_CHECKING:
    from ipva_storage.fat.folder import Folder
    from ipva_storage.fat.records import FatEntry, Slot
    from ipva_storage.fat.volume import FatVolume


def move(volume: FatVolume, source: str, target: str, *, force: bool) -> FatEntry:
    """See `FatVolume.move`."""
    start, slot = volume.tree.existing(source)
    new_start, name = volume.writer.new_place(target)
    folder, new_folder = volume.writer.sound(start), volume.tree.folder(new_start)
    _check_source(volume, source, target, start, slot)
    old = new_folder.find(name)
    if old is slot:
        if name == slot.entry.name:
            return slot.entry
        old = None
    elif old is not None:
        _check_replaced(volume, target, slot, old, force=force)
        volume.open_files.check_closed(new_start, old.short, target)
    elif names.fold(name) in new_folder.removed:
        volume.writer.changes.commit()  # the old entry goes before the new one comes
    if old is None and folder is new_folder and folder.rename(slot, name):
        volume.writer.done(folder)
        found = folder.find(name)
        assert found is not None
        return found.entry
    if slot.entry.is_dir and folder is not new_folder:
        moved = volume.writer.sound(slot.entry.first_cluster)
        moved.check_parent()
        volume.writer.changes.reparent_later(moved, volume.writer.above(new_start))
    return _carry(volume, source, (folder, slot), (new_folder, old), name)


def _check_source(volume: FatVolume, source: str, target: str, start: int, slot: Slot) -> None:
    if not slot.entry.is_dir:
        volume.open_files.check_closed(start, slot.short, source)
        return
    if slot.entry.first_cluster in volume.tree.starts_above(target)[1:]:
        raise UsageError(
            f"“{source}” cannot go into itself, to “{target}”",
            where=volume.name,
            remedy="choose a place outside of it",
        )


def _check_replaced(volume: FatVolume, target: str, slot: Slot, old: Slot, *, force: bool) -> None:
    if old.entry.is_dir or slot.entry.is_dir:
        raise FatExistsError(
            f"“{target}” exists already, and only files replace files",
            where=volume.name,
            remedy="choose another name, or delete it first",
        )
    if not force:
        raise FatExistsError(
            f"“{target}” exists already", where=volume.name, remedy="use --force to replace it"
        )


def _carry(
    volume: FatVolume,
    source: str,
    old_place: tuple[Folder, Slot],
    new_place: tuple[Folder, Slot | None],
    name: str,
) -> FatEntry:
    """Name the content in its new place, then take the old name away."""
    writer, changes = volume.writer, volume.writer.changes
    (folder, slot), (new_folder, replaced) = old_place, new_place
    entry = slot.entry
    record = folder.record_of(slot)
    chain = _copy(volume, source, entry)
    try:
        if chain:
            record = changed(record, cluster=chain[0])
        if replaced is None:
            writer.make_room(new_folder, name)
            replaced = new_folder.add(name, record)
        else:
            changes.free_later(replaced.entry.first_cluster)
            new_folder.update(replaced, record)
    except BaseException:
        writer.table.release(chain)
        raise
    changes.remove_later(folder, slot)
    if chain:
        changes.free_later(entry.first_cluster)
    writer.done(folder, new_folder)
    return replaced.entry


def _copy(volume: FatVolume, path: str, entry: FatEntry) -> list[int]:
    """New clusters with the content of a file that is short, where there is room; else none."""
    if entry.is_dir or not 0 < entry.size_bytes <= REWRITTEN_BYTES_MAX:
        return []
    pieces = volume.runs_of(path, entry)
    content = read_pieces(volume.tree.device, volume.geometry, pieces, entry.size_bytes)
    try:
        with volume.writer.new_chain(entry.size_bytes) as chain:
            volume.writer.fill(path, chain, content, entry.size_bytes)
    except NoSpaceError:
        return []
    return chain
