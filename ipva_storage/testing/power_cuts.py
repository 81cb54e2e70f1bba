"""Power cuts while several files are written: for jobs whose promise rests on their order.

`ipva_storage.sim` explores one device. Here each file has barriers of its own, as the host's files
have: a flush of one says nothing of the others.

```python
log = FileLog()
files = {name: log.device(name, content) for name, content in before.items()}
work(files)
for cut in power_cuts(log):
    assert promise_holds(cut.files)
```
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from ipva_storage.device import MemoryDevice, Operation, TraceDevice, TraceRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _typeshed import ReadableBuffer

MISSING_MAX: Final = 6
"""How many of a file's latest changes are left out in turn. Confidence: chosen."""


class LoggedChange(NamedTuple):
    """A change of one of the files."""

    name: str
    record: TraceRecord


@dataclass
class FileLog:
    """What happened to several files, in one order."""

    before: dict[str, bytes] = field(default_factory=dict)
    changes: list[LoggedChange] = field(default_factory=list)

    def device(self, name: str, content: bytes) -> TraceDevice:
        """A file with this content, whose changes are logged."""
        self.before[name] = content
        return _LoggedDevice(MemoryDevice(content, name=name), self)


@dataclass(frozen=True)
class PowerCut:
    """The files after a cut."""

    position: int
    """How many changes had been issued."""
    how: str
    files: dict[str, bytes]


class _LoggedDevice(TraceDevice):
    """Hands what it records on to the log of all files."""

    def __init__(self, device: MemoryDevice, log: FileLog) -> None:
        super().__init__(device, keep_data=True)
        self._all = log

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        super().write(offset_bytes, data)
        self._hand_on()

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        super().discard(offset_bytes, length_bytes)
        self._hand_on()

    def resize(self, size_bytes: int, /) -> None:
        super().resize(size_bytes)
        self._hand_on()

    def flush(self) -> None:
        super().flush()
        self._hand_on()

    def _hand_on(self) -> None:
        self._all.changes.append(LoggedChange(self.name, self.records.pop()))


def power_cuts(log: FileLog) -> Iterator[PowerCut]:
    """Every state that a cut may leave, of those that are tried.

    At each position: everything landed; the change in flight landed in part; all changes of a file
    since its last flush are lost, or of all files; one of them is missing; only the newest landed.
    """
    durable = dict(log.before)
    loose: dict[str, list[TraceRecord]] = {name: [] for name in durable}
    for position in range(len(log.changes) + 1):
        for how, kept in _kept(loose):
            yield PowerCut(position, how, _files(durable, kept))
        if position == len(log.changes):
            return
        name, record = log.changes[position]
        if record.operation is Operation.FLUSH:
            durable[name] = _played(durable[name], loose[name])
            loose[name] = []
            continue
        for torn in _torn(record):
            kept = {**loose, name: [*loose[name], torn]}
            how = f"{torn.length_bytes} bytes of the next landed"
            yield PowerCut(position, how, _files(durable, kept))
        loose[name].append(record)


def _kept(
    loose: dict[str, list[TraceRecord]],
) -> Iterator[tuple[str, dict[str, list[TraceRecord]]]]:
    """Which of the changes since each file's last flush landed."""
    yield "all landed", loose
    busy = [name for name, records in loose.items() if records]
    if len(busy) > 1:
        yield "all since the flushes are lost", {name: [] for name in loose}
    for name in busy:
        records = loose[name]
        yield f"all of {name} since its flush is lost", {**loose, name: []}
        if len(records) > 1:
            yield f"only the newest of {name} landed", {**loose, name: records[-1:]}
            for index in range(max(0, len(records) - MISSING_MAX), len(records) - 1):
                rest = records[:index] + records[index + 1 :]
                yield f"change {index} of {name} is missing", {**loose, name: rest}


def _torn(record: TraceRecord) -> Iterator[TraceRecord]:
    """The first part of a write or discard."""
    whole = record.length_bytes
    for kept in sorted({1, 511, 512, 4096, whole // 2, whole - 1}):
        if record.operation is not Operation.RESIZE and 0 < kept < whole:
            data = None if record.data is None else record.data[:kept]
            yield TraceRecord(record.operation, record.offset_bytes, kept, data)


def _files(durable: dict[str, bytes], kept: dict[str, list[TraceRecord]]) -> dict[str, bytes]:
    return {name: _played(content, kept[name]) for name, content in durable.items()}


def _played(content: bytes, records: Sequence[TraceRecord]) -> bytes:
    """A file after some changes; what lies beyond its end because a resize is missing is lost."""
    if not records:
        return content
    found = bytearray(content)
    for record in records:
        start, size_bytes = record.offset_bytes, len(found)
        if record.operation is Operation.RESIZE:
            found = found[:start].ljust(start, b"\0")
            continue
        data = bytes(record.length_bytes) if record.data is None else record.data
        found[start : start + len(data)] = data[: max(0, size_bytes - start)]
        assert len(found) == size_bytes
    return bytes(found)
