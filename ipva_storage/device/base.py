"""The block device: what every store reads and writes, and nothing more.

Invariants every kind keeps (the suite in `tests/device_contract` checks them on each):

1. A read returns what the last writes left; bytes never written read as zero.
2. A request that leaves `0 … size_bytes` raises `DeviceError` before anything is read or written.
3. `extents()` covers the device in order without gaps or overlaps; what it calls a hole reads as
   zero.
4. `flush()` is a barrier: what was written before it is durable before what is written after it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from ipva_storage.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of a device that is all data or all known zeros."""

    offset_bytes: int
    length_bytes: int
    is_data: bool
    """False: a hole, which reads as zeros and takes no space."""


@runtime_checkable
class BlockDevice(Protocol):
    """A range of bytes addressed by offset."""

    @property
    def name(self) -> str:
        """What error messages call it: the path, or the path and the part of it."""

    @property
    def size_bytes(self) -> int:
        """Length in bytes."""

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer with the bytes from `offset_bytes` on."""

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        """Put `data` at `offset_bytes`; it may not reach past the end."""

    def flush(self) -> None:
        """Make everything written so far durable before anything written later."""

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        """Make a range read as zeros, giving its space back where the kind can."""

    def extents(self) -> Iterator[Extent]:
        """Runs of data and holes, in order, over the whole device; adjacent runs differ."""

    def resize(self, size_bytes: int, /) -> None:
        """Change the length; new bytes read as zeros. `DeviceError` where the kind is fixed."""

    def close(self) -> None:
        """Flush nothing, release what is held. Closing twice is harmless."""


class FileDevice(BlockDevice, Protocol):
    """A block device that the end of a `with` block closes: what a folder opens."""

    def __enter__(self) -> Self:
        """Itself."""

    def __exit__(self, *_: object) -> None:
        """Close it."""


class Device(ABC):
    """Base of our own kinds: range checks, the context manager, and the answers of a fixed size."""

    name: str = "device"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    @abstractmethod
    def size_bytes(self) -> int:
        """Length in bytes."""

    @abstractmethod
    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer."""

    @abstractmethod
    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        """Put `data` at `offset_bytes`."""

    @abstractmethod
    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        """Make a range read as zeros."""

    @abstractmethod
    def extents(self) -> Iterator[Extent]:
        """Runs of data and holes."""

    def close(self) -> None:  # noqa: B027 - nothing to do is an answer
        """Release what is held; nothing, unless a kind says otherwise."""

    def flush(self) -> None:  # noqa: B027 - likewise
        """Nothing to make durable, unless a kind says otherwise."""

    def resize(self, size_bytes: int, /) -> None:
        """Refuse: this kind has one size for life.

        Raises:
            DeviceError: always, and nothing is changed.
        """
        raise DeviceError(
            f"its size is fixed at {self.size_bytes} bytes and cannot become {size_bytes}",
            where=self.name,
        )

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes < 0:
            raise DeviceError(f"a length of {size_bytes} bytes is none", where=self.name)

    def _check(self, offset_bytes: int, length_bytes: int) -> None:
        if offset_bytes < 0 or length_bytes < 0 or offset_bytes + length_bytes > self.size_bytes:
            raise DeviceError(
                f"{length_bytes} bytes there leave the device, which ends at {self.size_bytes}",
                where=self.name,
                offset_bytes=offset_bytes,
            )


def announce(device: BlockDevice, ranges: Iterable[tuple[int, int]]) -> None:
    """Tell a device that saves what is overwritten which ranges are next, to be saved together.

    For other devices it means nothing.

    Args:
        device: what is to be written to.
        ranges: offsets and lengths.
    """
    expect = getattr(device, "expect", None)
    if expect is not None:
        expect(ranges)


def byte_view(data: ReadableBuffer) -> memoryview:
    """The bytes of any buffer, flat, without a copy: NumPy tables of records too.

    Raises:
        TypeError: the buffer has gaps or is stored column by column, so that its bytes are no run.
    """
    view = memoryview(data)
    if not view.c_contiguous:
        raise TypeError("the bytes of this buffer do not follow each other; copy it first")
    if view.format == "B" and view.ndim == 1:
        return view
    from pickle import PickleBuffer  # its raw() takes formats that memoryview.cast refuses

    return PickleBuffer(view).raw()


def read(device: BlockDevice, offset_bytes: int, length_bytes: int) -> bytes:
    """Bytes of a device, as an object of their own.

    Raises:
        DeviceError: the range leaves the device, or it cannot be read. A claim of an absurd length
            fails before any memory is taken.
    """
    take: Callable[[int, int], bytes] | None = getattr(device, "read_bytes", None)
    if take is not None:
        return take(offset_bytes, length_bytes)
    if offset_bytes < 0 or length_bytes < 0 or offset_bytes + length_bytes > device.size_bytes:
        raise DeviceError(
            f"{length_bytes} bytes there leave the device, which ends at {device.size_bytes}",
            where=device.name,
            offset_bytes=offset_bytes,
        )
    buffer = bytearray(length_bytes)
    device.read_into(offset_bytes, buffer)
    return bytes(buffer)


def merge_extents(runs: Iterable[Extent]) -> Iterator[Extent]:
    """Runs in order, neighbours of one kind joined, empty ones dropped."""
    offset_bytes = length_bytes = 0
    is_data: bool | None = None
    for run in runs:
        if not run.length_bytes:
            continue
        if run.is_data is is_data:
            length_bytes += run.length_bytes
            continue
        if is_data is not None:
            yield Extent(offset_bytes, length_bytes, is_data)
        offset_bytes, length_bytes, is_data = run.offset_bytes, run.length_bytes, run.is_data
    if is_data is not None:
        yield Extent(offset_bytes, length_bytes, is_data)
