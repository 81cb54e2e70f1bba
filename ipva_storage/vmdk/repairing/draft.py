"""The files of a disk as a repair would leave them: drawn up in memory, committed step by step.

Invariants:

1. Until `commit` no file is changed.
2. A commit does the steps in the order in which they were drawn up, each durable before the next,
   and each with as few bytes as change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipva_storage.device import Folder, MemoryDevice, OverlayDevice, read
from ipva_storage.device.base import announce
from ipva_storage.errors import DeviceError

if TYPE_CHECKING:
    import os

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
        self._raws: dict[str, FileDevice | None] = {}
        self._overlays: dict[str, OverlayDevice] = {}
        self.steps: list[Step] = []
        self.folder: Folder = _DraftFolder(folder.path, self, allow_outside=folder.allow_outside)
        """A folder in which the files are as they would be, for opening and checking the disk."""

    def device(self, name: str) -> OverlayDevice:
        """A file as it would be; it stays open until `close`.

        Raises:
            DeviceError: there is none, or it cannot be read.
        """
        if name not in self._overlays:
            raw = self._folder.open(name)
            self._raws[name] = raw
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
        self._raws.setdefault(name, None)
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
        for raw in self._raws.values():
            if raw is not None:
                raw.close()
        self._raws.clear()
        self._overlays.clear()

    def has(self, name: str) -> bool:
        """Whether a file of that name would be there."""
        if name in self._overlays:
            return True
        try:
            return self._folder.resolve(name).is_file()
        except DeviceError:
            return False


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


class _DraftFolder(Folder):
    """Gives the files of a draft; closing one leaves it open in there."""

    def __init__(self, path: str | os.PathLike[str], draft: Draft, *, allow_outside: bool) -> None:
        super().__init__(path, allow_outside=allow_outside)
        self._draft = draft

    def open(self, name: str, *, writable: bool = False) -> FileDevice:
        """A file as it would be.

        Raises:
            DeviceError: there is none, or it was asked for writing.
        """
        if writable:
            raise DeviceError("a draft is changed by its steps only", where=str(self.path / name))
        return OverlayDevice(self._draft.device(name))
