"""The firmware image `ipva.bin`, and the loader that finds it on the boot disk.

The image's layout is ours (`formats/spec/firmware.md`); the vendor's is not public. Where and under
which name the loader looks, and what it prints when it fails, is the vendor's.
"""

from ipva_storage.boot.check import check
from ipva_storage.boot.firmware import Firmware, build_firmware, demo_firmware, parse_firmware
from ipva_storage.boot.loader import FIRMWARE_NAME, SHORT_NAME, BootError, load

__all__ = [
    "FIRMWARE_NAME",
    "SHORT_NAME",
    "BootError",
    "Firmware",
    "build_firmware",
    "check",
    "demo_firmware",
    "load",
    "parse_firmware",
]
