"""Whether a device holds our layout, and making it hold an empty one. No NumPy, no Construct."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_storage.device import read
from ipva_storage.flash.records import (
    OPEN_AT,
    VERSION,
    pack_clean_marker,
    unpack_clean_marker,
    unpack_open_header,
)
from ipva_storage.flash.segments import PHYSICAL_SEGMENTS, SEGMENT_BYTES

if TYPE_CHECKING:
    from ipva_storage.device import BlockDevice
    from ipva_storage.flash.nor import NorDevice


def identify(device: BlockDevice) -> bool:
    """Whether a device holds a flash directory of ours, by the headers of its segments.

    A disk of zeros does not, though it opens as an empty directory. The headers of all segments
    are looked at, in holes too: a large VMDK would read all its tables to say where those are.
    """
    size_bytes = min(device.size_bytes, PHYSICAL_SEGMENTS * SEGMENT_BYTES)
    for at in range(0, size_bytes - SEGMENT_BYTES + 1, SEGMENT_BYTES):
        header = read(device, at, 64)
        marker = unpack_clean_marker(header)
        if marker is not None and marker.segment_bytes == SEGMENT_BYTES:
            return marker.version == VERSION
        if unpack_open_header(header, OPEN_AT) is not None:
            return True
    return False


def format_flash(nor: NorDevice) -> None:
    """Empty the flash: erase every segment that was ever written, and mark the first as ours.

    Segments that read as zeros stay as they are (they count as free), so that a new sparse disk
    stays small. Erase counts are kept. A cut leaves some objects; format it again.

    Raises:
        DeviceError: the device refused.
    """
    for at in range(nor.segment_count):
        if at and nor.is_virgin(at):
            continue
        marker = unpack_clean_marker(nor.image, at * nor.segment_bytes)
        erase_count = min(marker.erase_count + 1, 0xFFFFFFFF) if marker else 1
        nor.erase(at)
        nor.program(
            at * nor.segment_bytes,
            pack_clean_marker(nor.segment_count, nor.segment_bytes, erase_count),
        )
    nor.barrier()
