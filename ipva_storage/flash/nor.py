"""NOR flash over a block device: program clears bits, erase sets a whole segment to 0xFF.

Invariants:

1. A program that would turn a 0 bit into 1 raises `NorViolationError` and changes nothing.
2. Every program and erase is on the device when the call returns, in the order of the calls; only
   `barrier` makes it durable.
3. `image` always equals what the device would read, from the first use on.
4. Loading reads the data of the device and not its holes.

A disk that was never written reads as zeros where a chip out of the factory reads as 0xFF. Such a
segment is called virgin; it takes an erase, like any other, before it can be programmed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipva_storage.device import MemoryDevice
from ipva_storage.errors import DeviceError, NorViolationError, UsageError
from ipva_storage.flash.segments import PHYSICAL_SEGMENTS, SEGMENT_BYTES

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice

MINIMUM_SEGMENT_BYTES: Final = 1024
"""Smallest geometry that holds a record with the longest key. Confidence: chosen."""


class NorDevice:
    """The first `segment_count` segments of a device, as NOR flash.

    Attributes:
        device: where the bytes are.
        segment_bytes: size of a segment, a power of two.
        segment_count: how many there are.
        size_bytes: both multiplied.
        program_count: programs so far.
        programmed_bytes: bytes they programmed.
        reprogram_count: programs that met bytes already programmed since the erase.
        erase_count: erases so far.
        read_bytes: bytes read from the device.
    """

    def __init__(
        self,
        device: BlockDevice,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        segment_count: int = PHYSICAL_SEGMENTS,
    ) -> None:
        """Show `device` as NOR flash; nothing is read yet.

        Raises:
            UsageError: the geometry makes no sense.
            DeviceError: the device is too small for it.
        """
        if segment_bytes < MINIMUM_SEGMENT_BYTES or segment_bytes & (segment_bytes - 1):
            raise UsageError(f"{segment_bytes} bytes make no flash segment")
        if not 2 <= segment_count <= 0xFFFF or segment_bytes > SEGMENT_BYTES:
            raise UsageError(f"{segment_count} × {segment_bytes} bytes make no flash")
        self.segment_bytes = segment_bytes
        self.segment_count = segment_count
        self.size_bytes = segment_bytes * segment_count
        if device.size_bytes < self.size_bytes:
            raise DeviceError(
                f"it has {device.size_bytes} bytes, and the flash needs {self.size_bytes}",
                where=device.name,
                remedy="use the flash disk of an appliance",
            )
        self.device = device
        self.program_count = self.programmed_bytes = self.reprogram_count = 0
        self.erase_count = self.read_bytes = 0
        self._ones = b"\xff" * segment_bytes
        self._zeros = bytes(segment_bytes)
        self._is_shared = type(device) is MemoryDevice
        self._image: bytearray | None = None
        self._touched = bytearray(segment_count)

    @property
    def name(self) -> str:
        """Name of the device."""
        return self.device.name

    @property
    def image(self) -> bytearray:
        """The whole flash in memory. Read it; only `program` and `erase` may change it."""
        return self._load() if self._image is None else self._image

    def _load(self) -> bytearray:
        if type(self.device) is MemoryDevice:  # its own bytes are the mirror
            self._image = self.device.data
            self._touched = bytearray(b"\x01" * self.segment_count)
            return self._image
        image = bytearray(self.size_bytes)
        view = memoryview(image)
        for run in self.device.extents():
            stop = min(run.offset_bytes + run.length_bytes, self.size_bytes)
            if not run.is_data or run.offset_bytes >= stop:
                continue
            self.device.read_into(run.offset_bytes, view[run.offset_bytes : stop])
            self.read_bytes += stop - run.offset_bytes
            first, last = run.offset_bytes // self.segment_bytes, (stop - 1) // self.segment_bytes
            self._touched[first : last + 1] = b"\x01" * (last + 1 - first)
        view.release()
        self._image = image
        return image

    def is_virgin(self, segment: int) -> bool:
        """Whether a segment reads as zeros throughout."""
        image = self.image
        if not self._touched[segment]:
            return True
        if not image.startswith(self._zeros, segment * self.segment_bytes):
            return False
        self._touched[segment] = 0  # only an erase can change that
        return True

    def is_blank(self, address: int, length_bytes: int) -> bool:
        """Whether a range within one segment reads as 0xFF throughout."""
        ones = self._ones
        return self.image.startswith(
            ones if length_bytes == len(ones) else ones[:length_bytes], address
        )

    def program(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Program bytes: clear the bits that are 0 in `data`.

        Raises:
            NorViolationError: a bit would have to become 1; nothing is changed.
            DeviceError: the range leaves the flash, or the device refused.
        """
        image = self._image if self._image is not None else self._load()
        length_bytes = len(data)
        end = address + length_bytes
        is_inside = address >= 0 and end <= self.size_bytes
        if not (is_inside and image.startswith(self._ones[:length_bytes], address)):
            self._check_program(address, data)
        if not self._is_shared:
            self.device.write(address, data)
        image[address:end] = data
        self.program_count += 1
        self.programmed_bytes += length_bytes

    def _check_program(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """The slow way: the target is not blank, or is not there."""
        end = address + len(data)
        if address < 0 or end > self.size_bytes:
            raise DeviceError("the program leaves the flash", where=self.name, offset_bytes=address)
        old = int.from_bytes(self.image[address:end], "little")
        new = int.from_bytes(data, "little")
        if new & ~old:
            raise NorViolationError(
                "a bit that is 0 would have to become 1, which takes an erase",
                where=self.name,
                offset_bytes=address,
            )
        self.reprogram_count += 1

    def erase(self, segment: int) -> None:
        """Set a whole segment to 0xFF.

        Raises:
            DeviceError: there is no such segment, or the device refused.
        """
        if not 0 <= segment < self.segment_count:
            raise DeviceError(f"there is no segment {segment}", where=self.name)
        image = self.image
        address = segment * self.segment_bytes
        if not self._is_shared:
            self.device.write(address, self._ones)
        image[address : address + self.segment_bytes] = self._ones
        self._touched[segment] = 1
        self.erase_count += 1

    def barrier(self) -> None:
        """Make every program and erase so far durable before any later one."""
        self.device.flush()
