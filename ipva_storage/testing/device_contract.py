"""One suite that every block device passes: inherit from `DeviceContract` and say how to make one.

```python
class TestMyDevice(DeviceContract):
    def make(self, content):
        return MyDevice(content)
```

The tests cite the invariants of `ipva_storage.device.base`. They need pytest and NumPy.
"""

from __future__ import annotations

from array import array
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest

from ipva_storage.device import BlockDevice, Extent, read
from ipva_storage.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENT_BYTES = 40 * 1024 + 512
"""Length of the device under test: some pages, and an end inside one."""


def patterned(length_bytes: int = CONTENT_BYTES) -> bytes:
    """Bytes of which no two neighbouring sectors are alike, with zeros and a whole zero block."""
    numbers = np.arange(length_bytes, dtype=np.uint32)
    content = ((numbers * 7 + numbers // 512 * 31) % 251).astype(np.uint8)
    content[8192:16384] = 0
    return content.tobytes()


class DeviceContract:
    """What holds for every block device that can be written.

    Override `make`, and set `can_resize` where a resize is not refused.
    """

    can_resize: ClassVar[bool] = False
    """Whether `resize` works; otherwise it has to be refused."""

    def make(self, content: bytes) -> BlockDevice:
        """A writable device that reads as `content`; called at most once in a test."""
        raise NotImplementedError

    @pytest.fixture
    def content(self) -> bytes:
        """What the device holds at the start: a whole number of sectors."""
        return patterned()

    @pytest.fixture
    def device(self, content: bytes) -> Iterator[BlockDevice]:
        """The device under test, closed in the end."""
        device = self.make(content)
        yield device
        device.close()

    def test_protocol(self, device: BlockDevice) -> None:
        """It has every method of a block device, and a name for messages."""
        assert isinstance(device, BlockDevice)
        assert device.name

    def test_reads_content(self, device: BlockDevice, content: bytes) -> None:
        """Invariant 1: it reads as what it was made of."""
        assert device.size_bytes == len(content)
        assert read(device, 0, len(content)) == content

    @pytest.mark.parametrize(
        ("offset_bytes", "length_bytes"),
        [
            (0, 1),
            (511, 2),
            (1000, 3000),
            (4095, 2),
            (4096, 4096),
            (8191, 8194),
            (-1, 1),
            (-700, 700),
        ],
    )
    def test_reads_parts(
        self, device: BlockDevice, content: bytes, offset_bytes: int, length_bytes: int
    ) -> None:
        """Invariant 1: any part reads like the same part of the whole (negative: from the end)."""
        start = offset_bytes % len(content)
        assert read(device, start, length_bytes) == content[start : start + length_bytes]

    @pytest.mark.parametrize(
        ("offset_bytes", "length_bytes"),
        [(0, 1), (511, 2), (512, 512), (4090, 5000), (8000, 9000), (-1, 1), (-513, 513), (0, None)],
    )
    def test_reads_last_write(
        self, device: BlockDevice, content: bytes, offset_bytes: int, length_bytes: int | None
    ) -> None:
        """Invariant 1: the last write wins, and nothing beside it changes."""
        start = offset_bytes % len(content)
        length = len(content) if length_bytes is None else length_bytes
        model = bytearray(content)
        for value in (0xEE, 0x5A):
            device.write(start, bytes([value]) * length)
            model[start : start + length] = bytes([value]) * length
        assert read(device, 0, len(content)) == model

    def test_reads_after_flush(self, device: BlockDevice, content: bytes) -> None:
        """Invariant 4: a flush goes through, and changes nothing that is read."""
        device.write(700, b"barrier")
        device.flush()
        device.write(703, b"after")
        device.flush()
        assert read(device, 700, 9) == b"barafter" + content[708:709]

    def test_many_writes(self, device: BlockDevice, content: bytes) -> None:
        """Invariant 1: a thousand overlapping writes leave what a bytearray would hold."""
        random = np.random.default_rng(20261123)
        model = bytearray(content)
        for number in range(1000):
            start = int(random.integers(len(content)))
            data = random.bytes(int(random.integers(1, 1500)))[: len(content) - start]
            device.write(start, data)
            model[start : start + len(data)] = data
            if number % 100 == 0:
                assert read(device, 0, len(content)) == model
        assert read(device, 0, len(content)) == model

    @pytest.mark.parametrize(
        ("offset_bytes", "length_bytes"),
        [(-1, 1), (-4, 8), (CONTENT_BYTES, 1), (CONTENT_BYTES - 3, 4), (1 << 62, 1), (0, None)],
    )
    def test_refuses_outside(
        self, device: BlockDevice, content: bytes, offset_bytes: int, length_bytes: int | None
    ) -> None:
        """Invariant 2: what leaves the device is refused before anything is read or written."""
        length = CONTENT_BYTES + 1 if length_bytes is None else length_bytes
        buffer = bytearray(b"\xaa" * length)
        with pytest.raises(DeviceError):
            device.read_into(offset_bytes, buffer)
        assert buffer == b"\xaa" * length
        with pytest.raises(DeviceError):
            device.write(offset_bytes, buffer)
        with pytest.raises(DeviceError):
            device.discard(offset_bytes, length)
        assert read(device, 0, len(content)) == content

    def test_refuses_negative_discard(self, device: BlockDevice, content: bytes) -> None:
        """Invariant 2: a discard of less than nothing is refused."""
        with pytest.raises(DeviceError):
            device.discard(10, -1)
        assert read(device, 0, len(content)) == content

    @pytest.mark.parametrize("offset_bytes", [0, 1, 4096, CONTENT_BYTES])
    def test_empty_requests(self, device: BlockDevice, content: bytes, offset_bytes: int) -> None:
        """Reading, writing and discarding nothing is allowed anywhere, the end included."""
        device.write(offset_bytes, b"")
        device.write(offset_bytes, np.zeros(0, "<u4").data)
        device.read_into(offset_bytes, bytearray())
        device.discard(offset_bytes, 0)
        assert read(device, 0, len(content)) == content

    def test_extents_cover(self, device: BlockDevice, content: bytes) -> None:
        """Invariant 3: the runs follow each other, differ, cover everything; holes are zeros."""
        device.discard(20480, 8192)
        device.write(24576, b"island")
        device.flush()
        runs = list(device.extents())
        _assert_runs(runs, len(content))
        for run in runs:
            if not run.is_data:
                assert not any(read(device, run.offset_bytes, run.length_bytes))

    @pytest.mark.parametrize(
        ("offset_bytes", "length_bytes"),
        [(0, 512), (100, 1), (4000, 9000), (4096, 8192), (0, CONTENT_BYTES), (-600, 600)],
    )
    def test_discard_zeroes(
        self, device: BlockDevice, content: bytes, offset_bytes: int, length_bytes: int
    ) -> None:
        """Invariant 1: a discarded range reads as zeros, its neighbours as before."""
        start = offset_bytes % len(content)
        device.discard(start, length_bytes)
        expected = bytearray(content)
        expected[start : start + length_bytes] = bytes(length_bytes)
        assert read(device, 0, len(content)) == expected

    def test_writes_after_discard(self, device: BlockDevice) -> None:
        """Invariant 1: what is written into a discarded range is read, zeros around it."""
        device.discard(4096, 12288)
        device.write(8190, b"back")
        assert read(device, 4096, 12288) == bytes(4094) + b"back" + bytes(8190)

    @pytest.mark.parametrize("kind", ["bytes", "bytearray", "slice", "array", "table", "records"])
    def test_accepts_buffers(self, device: BlockDevice, kind: str) -> None:
        """It takes any buffer whose bytes follow each other, to read into and to write from."""
        data = bytes(range(1, 241))
        device.write(1234, _as_buffer(data, kind))
        assert read(device, 1234, len(data)) == data
        target = _as_buffer(bytes(len(data)), "bytearray" if kind == "bytes" else kind)
        assert not isinstance(target, bytes)
        device.read_into(1234, target)
        assert memoryview(target).tobytes() == data

    def test_refuses_buffer_with_gaps(self, device: BlockDevice, content: bytes) -> None:
        """A buffer whose bytes do not follow each other is refused, and nothing changes."""
        gaps = np.zeros((16, 16), np.uint8)[:, ::2].data
        with pytest.raises(TypeError):
            device.write(0, gaps)
        with pytest.raises(TypeError):
            device.read_into(0, gaps)
        assert read(device, 0, len(content)) == content

    def test_keeps_no_reference(self, device: BlockDevice) -> None:
        """What is written is a copy: changing the buffer afterwards changes nothing."""
        data = bytearray(b"before")
        device.write(5, data)
        data[:] = b"after!"
        assert read(device, 5, 6) == b"before"

    def test_close_twice(self, content: bytes) -> None:
        """Closing twice is harmless."""
        device = self.make(content)
        device.close()
        device.close()

    def test_resize(self, device: BlockDevice, content: bytes) -> None:
        """A resize cuts the end off or adds zeros, for good; a fixed kind refuses it whole."""
        sizes = (len(content) + 8192, 12800, 512, 20480, 0, 4096)
        if not self.can_resize:
            with pytest.raises(DeviceError):
                device.resize(sizes[0])
            assert device.size_bytes == len(content)
            assert read(device, 0, len(content)) == content
            return
        model = bytearray(content)
        for size_bytes in sizes:
            device.resize(size_bytes)
            model = model[:size_bytes] + bytes(max(0, size_bytes - len(model)))
            assert device.size_bytes == size_bytes
            assert read(device, 0, size_bytes) == model
            _assert_runs(list(device.extents()), size_bytes)

    def test_refuses_negative_size(self, device: BlockDevice, content: bytes) -> None:
        """No device gets a length below zero."""
        with pytest.raises(DeviceError):
            device.resize(-5)
        assert read(device, 0, len(content)) == content


def _assert_runs(runs: list[Extent], size_bytes: int) -> None:
    at = 0
    for run in runs:
        assert run.offset_bytes == at
        assert run.length_bytes > 0
        at += run.length_bytes
    assert at == size_bytes
    kinds = [run.is_data for run in runs]
    assert all(one is not other for one, other in pairwise(kinds))


def _as_buffer(data: bytes, kind: str) -> bytes | bytearray | memoryview:
    """The same bytes as another kind of buffer."""
    if kind == "bytes":
        return data
    if kind == "bytearray":
        return bytearray(data)
    if kind == "slice":
        return memoryview(bytearray(b"xx" + data + b"yy"))[2:-2]
    if kind == "array":
        return memoryview(array("I", data))
    if kind == "table":
        return np.frombuffer(bytearray(data), ">u4").reshape(-1, 4).data
    return np.frombuffer(bytearray(data), [("first", "<u2"), ("rest", "V6")]).data
