"""Deleted files and folders put back where they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipva_formats import fat as layout
from ipva_storage.errors import FatError, FatExistsError
from ipva_storage.fat import faults, records, samenames
from ipva_storage.fat import geometry as boot_sector
from ipva_storage.fat.deleted import Deleted, DeletedFiles, Place, State
from ipva_storage.fat.fsinfo import FsInfo
from ipva_storage.fat.names import CODE_PAGE
from ipva_storage.fat.repairing.draft import Draft
from ipva_storage.fat.repairing.editor import FolderEditor
from ipva_storage.fat.table import FREE, FatTable, runs

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice

DEPTH_MAX: Final = 64
"""Most deleted folders within each other that are put back. Confidence: chosen."""


@dataclass(frozen=True, slots=True)
class Undeleted:
    """What was put back."""

    restored: tuple[Deleted, ...]
    """Files and folders, with the names that they have now."""
    left: tuple[Deleted, ...]
    """What was in a restored folder and could not be."""


def undelete(
    device: BlockDevice, path: str, *, dry_run: bool = False, code_page: str = CODE_PAGE
) -> Undeleted:
    """Put a deleted file, or a folder with all that was in it, back where it was.

    Args:
        device: the volume, not the disk.
        path: where it was; of several of that name the one of which most can be had.
        dry_run: write nothing.
        code_page: of short names.

    Raises:
        FatError: it is lost, or it was in a folder that is deleted, too.
        FatExistsError: there is something of its name now.
        FatNotFoundError: none of that name was deleted.
    """
    source = DeletedFiles(device, code_page=code_page)
    found = source.find(path)
    source.refuse_lost(found)
    above = source.folder(path.rstrip("/").rpartition("/")[0])
    if above.is_deleted:
        raise FatError(
            f"“{above.path}” was deleted, too",
            where=device.name,
            remedy="put that folder back, with all in it; or copy the file out",
        )
    return _Restoring(device, source).run(above, found, dry_run=dry_run)


class _Restoring:
    """Putting one file or folder back: table first, then folders from within, last its record."""

    def __init__(self, device: BlockDevice, source: DeletedFiles) -> None:
        self._draft = Draft(device)
        self._geometry = found = boot_sector.parse(device)
        self._source = source
        self._table = FatTable(self._draft, found)
        self._editors: list[FolderEditor] = []
        self._restored: list[Deleted] = []
        self._left: list[Deleted] = []

    def run(self, above: Place, found: Deleted, *, dry_run: bool) -> Undeleted:
        number = 1 if above.path else 0
        pieces = above.pieces
        editor = FolderEditor(self._draft, self._geometry, self._table, pieces, number=number)
        if not self._put_back(editor, above, found, 0):
            raise FatExistsError(
                f"there is another “{found.path}” now",
                where=self._draft.name,
                remedy="rename that one, or copy the deleted one out",
            )
        if not dry_run:
            self._commit(editor)
        return Undeleted(tuple(self._restored), tuple(self._left))

    def _commit(self, editor: FolderEditor) -> None:
        draft = self._draft
        self._table.write()
        draft.step()
        for inner in self._editors:
            inner.write()
        draft.step()
        editor.write()
        draft.step()
        free_from = self._table.next_free
        FsInfo(draft, self._geometry.fsinfo_offset_bytes).update(self._table.free_count, free_from)
        draft.commit()

    def _put_back(self, editor: FolderEditor, above: Place, one: Deleted, depth: int) -> bool:
        """Take a file or folder back into a folder; whether its name was free."""
        parsed = editor.parsed
        keys = (samenames.keys_of(parsed, at) for at in faults.files(parsed).tolist())
        named = one.remains.named(set[str]().union(*keys), editor.shorts())
        if named is None:
            return False
        record = _pointed(named.live, one.chain[0] if one.chain else 0, self._geometry.fat_bits)
        editor.put(named.first_record, record)
        for cluster, following in zip(one.chain, (*one.chain[1:], self._table.end), strict=False):
            self._table.put(cluster, following)
        self._restored.append(self._source.judged(above.path, named))
        if one.entry.is_dir:
            self._put_content_back(f"{above.path}/{named.name}", one, above.start, depth + 1)
        return True

    def _put_content_back(self, path: str, one: Deleted, above: int, depth: int) -> None:
        """Take back what was in a folder."""
        pieces = [
            (self._geometry.cluster_offset_bytes(first), count * self._geometry.cluster_bytes)
            for first, count in runs(one.chain)
        ]
        editor = FolderEditor(self._draft, self._geometry, self._table, pieces, number=1)
        self._editors.append(editor)
        up = 0 if above == self._geometry.root_cluster else above
        dots = ((records.DOT, one.chain[0]), (records.DOT_DOT, up))
        for record, (short, cluster) in enumerate(dots):
            raw = short + bytes([layout.ATTRIBUTE_FOLDER]) + editor.get(record)[12:]
            editor.put(record, _pointed(raw, cluster, self._geometry.fat_bits))
        place = Place(path, one.chain[0], pieces, is_deleted=True)
        for child in list(self._source.of(place)):
            first = child.remains.first_record
            if editor.get(first)[0] != layout.MARK_DELETED:
                editor.free(first, len(child.remains.raw) // layout.ENTRY_BYTES)
            is_free = all(self._table[cluster] == FREE for cluster in child.chain)
            can_be = child.state is not State.LOST and is_free and depth < DEPTH_MAX
            if not can_be or not self._put_back(editor, place, child, depth):
                self._left.append(child)


def _pointed(raw: bytes, cluster: int, fat_bits: int) -> bytes:
    """Records of which the last one, a short one, starts at a cluster."""
    changed = bytearray(raw)
    if fat_bits == 32:
        changed[-12:-10] = (cluster >> 16).to_bytes(2, "little")
    changed[-6:-4] = (cluster & 0xFFFF).to_bytes(2, "little")
    return bytes(changed)
