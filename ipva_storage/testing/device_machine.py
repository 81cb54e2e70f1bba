"""State machines that drive block devices against a bytearray.

Subclass `DeviceMachine` and override `make` to drive a device of your own:

```python
class MyMachine(DeviceMachine):
    def make(self):
        return MyDevice(bytes(DEVICE_BYTES))

TestMine = MyMachine.TestCase
```
"""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ipva_storage.device import (
    BlockDevice,
    MemoryDevice,
    OverlayDevice,
    SliceDevice,
    TraceDevice,
    read,
)

DEVICE_BYTES: Final = 5 * 4096 + 700
"""Length of the devices here: some overlay pages, and an end inside one."""

_BEFORE_BYTES: Final = 1300
_AFTER_BYTES: Final = 900

_sizes = st.integers(0, 3 * DEVICE_BYTES) | st.sampled_from((0, 1, 4095, 4096, 4097, DEVICE_BYTES))
_data = st.binary(max_size=200) | st.builds(
    lambda value, length: bytes([value]) * length, st.integers(1, 255), st.integers(0, 10_000)
)


class DeviceMachine(RuleBasedStateMachine):
    """Writes, discards and flushes; after each step everything is read and compared."""

    def __init__(self) -> None:
        super().__init__()
        self.device = self.make()
        self.model = bytearray(read(self.device, 0, self.device.size_bytes))

    def make(self) -> BlockDevice:
        """A writable device; here the smallest there is."""
        return MemoryDevice(DEVICE_BYTES)

    def teardown(self) -> None:
        """Close the device."""
        self.device.close()

    @rule(place=st.floats(0, 1), data=_data)
    def write(self, place: float, data: bytes) -> None:
        """Write somewhere, as much as fits."""
        start = int(place * len(self.model))
        data = data[: len(self.model) - start]
        self.device.write(start, data)
        self.model[start : start + len(data)] = data

    @rule(first=st.floats(0, 1), second=st.floats(0, 1))
    def discard(self, first: float, second: float) -> None:
        """Discard a range."""
        start, stop = sorted(int(place * len(self.model)) for place in (first, second))
        self.device.discard(start, stop - start)
        self.model[start:stop] = bytes(stop - start)

    @rule()
    def flush(self) -> None:
        """Flush, which changes nothing that is read."""
        self.device.flush()

    @rule(first=st.floats(0, 1), second=st.floats(0, 1))
    def read_part(self, first: float, second: float) -> None:
        """A part reads like the same part of the model."""
        start, stop = sorted(int(place * len(self.model)) for place in (first, second))
        assert read(self.device, start, stop - start) == self.model[start:stop]

    @invariant()
    def reads_as_model(self) -> None:
        """Invariant 1: the whole device reads as the model."""
        assert self.device.size_bytes == len(self.model)
        assert read(self.device, 0, len(self.model)) == self.model

    @invariant()
    def holes_are_zero(self) -> None:
        """Invariant 3: the runs cover everything in order, and holes are zeros."""
        at = 0
        kind: bool | None = None
        for run in self.device.extents():
            assert run.offset_bytes == at
            assert run.length_bytes > 0
            assert run.is_data is not kind
            kind = run.is_data
            at += run.length_bytes
            assert run.is_data or not any(self.model[run.offset_bytes : at])
        assert at == len(self.model)


class OverlayMachine(DeviceMachine):
    """An overlay: what is below changes at a commit only, and a rollback goes back to it."""

    def make(self) -> BlockDevice:
        """An overlay over patterned memory."""
        self.below = MemoryDevice(bytes(number % 255 for number in range(DEVICE_BYTES)))
        self.committed = bytes(self.below.data)
        self.overlay = OverlayDevice(self.below)
        return self.overlay

    @rule(size_bytes=_sizes)
    def resize(self, size_bytes: int) -> None:
        """Cut the end off, or add zeros."""
        self.device.resize(size_bytes)
        self.model = self.model[:size_bytes] + bytes(max(0, size_bytes - len(self.model)))

    @rule()
    def commit(self) -> None:
        """Make the changes true below."""
        self.overlay.commit()
        self.committed = bytes(self.model)

    @rule()
    def roll_back(self) -> None:
        """Forget the changes."""
        self.overlay.rollback()
        self.model = bytearray(self.committed)

    @invariant()
    def below_is_committed(self) -> None:
        """The device below holds what was committed last, no more and no less."""
        assert self.below.data == self.committed


class StackMachine(DeviceMachine):
    """An overlay over a trace over a slice over memory: each passes on what it is told."""

    def make(self) -> BlockDevice:
        """The stack, on memory whose rest is filled with a mark."""
        content = bytes(number % 253 for number in range(DEVICE_BYTES))
        self.memory = MemoryDevice(b"\xaa" * _BEFORE_BYTES + content + b"\xbb" * _AFTER_BYTES)
        self.trace = TraceDevice(
            SliceDevice(self.memory, _BEFORE_BYTES, DEVICE_BYTES), keep_data=True
        )
        self.replayed = bytearray(content)
        self.overlay = OverlayDevice(self.trace)
        return self.overlay

    @precondition(lambda self: self.overlay.changed_bytes)
    @rule()
    def commit(self) -> None:
        """Commit through the trace into the slice."""
        self.overlay.commit()
        assert read(self.trace, 0, DEVICE_BYTES) == self.model

    @invariant()
    def rest_is_untouched(self) -> None:
        """Nothing outside the slice ever changes."""
        assert self.memory.data[:_BEFORE_BYTES] == b"\xaa" * _BEFORE_BYTES
        assert self.memory.data[-_AFTER_BYTES:] == b"\xbb" * _AFTER_BYTES

    @invariant()
    def records_replay(self) -> None:
        """The records of the trace, replayed, give what the slice holds."""
        for record in self.trace.records:
            data = record.data if record.data is not None else bytes(record.length_bytes)
            self.replayed[record.offset_bytes : record.offset_bytes + record.length_bytes] = data
        self.trace.records.clear()
        assert read(self.trace, 0, DEVICE_BYTES) == self.replayed
