"""The files of a disk as a repair would leave them: drawn up in memory, committed step by step.

Invariants:

1. Until `commit` no file is changed.
2. A commit does the steps in the order in which they were drawn up, each durable before the next.
3. A file that `create` draws up is there as a whole or not at all, also in the place of another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipva_storage.device import Folder, MemoryDevice, OverlayDevice, read
from ipva_storage.device.base import announce
from ipva_storage.device.folder import FolderAround
from ipva_storage.errors import DeviceError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ipva_storage.device.base import FileDevice


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes to be put into a file; or, without data, a new length for it."""

    offset_bytes: int
    data: bytes | None = None


@dataclass(slots=True)
class Step:
    """Changes of one file that are durable before the next step."""

    name: str
    writes: list[Write] = field(default_factory=list)
    content: bytes | None = None
    """What the whole file is before the writes, where it is made anew."""


class Draft:
    """The files of a folder, with the changes of a repair over them."""

    def __init__(self, folder: Folder) -> None:
        """Start without changes; files are opened as they are asked for."""
        self._folder = folder
        self._raws: list[FileDevice] = []
        self._overlays: dict[str, OverlayDevice] = {}
        self.steps: list[Step] = []
        self.made: list[str] = []
        """Files that were not there."""
        self.notes: list[str] = []
        """What was assumed."""
        self.folder: Folder = _DraftFolder(folder, self)
        """A folder in which the files are as they would be, for opening and checking the disk."""

    def device(self, name: str) -> OverlayDevice:
        """A file as it would be; it stays open until `close`.

        Raises:
            DeviceError: there is none, or it cannot be read.
        """
        if name not in self._overlays:
            raw = self._folder.open(name)
            self._raws.append(raw)
            self._overlays[name] = OverlayDevice(raw)
        return self._overlays[name]

    def step(self, name: str) -> Step:
        """Begin a step: changes of one file that are durable before those of the next."""
        self.steps.append(Step(name))
        return self.steps[-1]

    def write(self, step: Step, offset_bytes: int, data: ReadableBuffer) -> bool:
        """Change bytes of a step's file; what is as it should be already is left alone.

        Returns:
            Whether anything changed.
        """
        device, wanted = self.device(step.name), bytes(data)
        end_bytes = offset_bytes + len(wanted)
        if end_bytes > device.size_bytes:
            self.resize(step, end_bytes)
        if read(device, offset_bytes, len(wanted)) == wanted:
            return False
        device.write(offset_bytes, wanted)
        step.writes.append(Write(offset_bytes, wanted))
        return True

    def resize(self, step: Step, size_bytes: int) -> None:
        """Change the length of a step's file."""
        device = self.device(step.name)
        if device.size_bytes != size_bytes:
            device.resize(size_bytes)
            step.writes.append(Write(size_bytes))

    def create(self, name: str, content: bytes) -> None:
        """A file that is not there yet, or replaces one as a whole."""
        if not self.has(name):
            self.made.append(name)
        place = str(self._folder.path / name)
        self._overlays[name] = OverlayDevice(MemoryDevice(content, name=place))
        self.steps.append(Step(name, content=content))

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change."""
        return not self.change_count

    @property
    def change_count(self) -> int:
        """Writes and files made anew so far."""
        return sum(len(step.writes) + (step.content is not None) for step in self.steps)

    def commit(self) -> None:
        """Change the files.

        Raises:
            DeviceError: a file cannot be written; steps before that are done.
        """
        writers: dict[str, FileDevice] = {}
        try:
            for step in self.steps:
                if step.content is not None:
                    if step.name in writers:
                        writers.pop(step.name).close()
                    self._folder.replace(step.name, step.content)
                if not step.writes:
                    continue
                if step.name not in writers:
                    writers[step.name] = self._folder.open(step.name, writable=True)
                _apply(step, writers[step.name])
        finally:
            for writer in writers.values():
                writer.close()

    def close(self) -> None:
        """Forget everything, and close the files."""
        for raw in self._raws:
            raw.close()
        self._raws.clear()
        self._overlays.clear()

    def has(self, name: str) -> bool:
        """Whether a file of that name would be there."""
        return name in self._overlays or self._folder.has(name)

    def names(self) -> list[str]:
        """Names of the files that would be there, sorted."""
        return sorted({*self._folder.names(), *self._overlays})


def _apply(step: Step, device: FileDevice) -> None:
    announce(
        device,
        [(each.offset_bytes, len(each.data)) for each in step.writes if each.data is not None],
    )
    for write in step.writes:
        if write.data is None:
            device.resize(write.offset_bytes)
        else:
            device.write(write.offset_bytes, write.data)
    device.flush()


class _DraftFolder(FolderAround):
    """Gives the files of a draft; closing one leaves it open in there."""

    def __init__(self, folder: Folder, draft: Draft) -> None:
        super().__init__(folder)
        self._draft = draft

    def names(self) -> list[str]:
        """Names of the files, sorted."""
        return self._draft.names()

    def has(self, name: str) -> bool:
        """Whether a file of that name would be there."""
        return self._draft.has(name)

    def open(self, name: str, *, writable: bool = False) -> FileDevice:
        """A file as it would be.

        Raises:
            DeviceError: there is none, or it was asked for writing.
        """
        if writable:
            raise DeviceError("a draft is changed by its steps only", where=str(self.path / name))
        return OverlayDevice(self._draft.device(name))
