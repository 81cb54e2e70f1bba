"""Damaged disks, salvaged: what is told as read is right, whatever the damage."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ipva_storage import vmdk
from ipva_storage.device import BlockDevice, Folder, SalvageDevice, read
from ipva_storage.errors import IpvaError
from ipva_storage.units import KIB, MIB

SIZE_BYTES = 2 * MIB
DAMAGES = 150


def content() -> bytes:
    """Noise, text and zeros."""
    chance = random.Random(11)
    parts = (chance.randbytes(64 * KIB), b"text" * (16 * KIB), bytes(64 * KIB))
    return b"".join(chance.choice(parts) for _ in range(SIZE_BYTES // (64 * KIB)))


CONTENT = content()


def fill(disk: BlockDevice) -> None:
    """Write it."""
    disk.write(0, CONTENT)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Cut somewhere, with a sector of noise or zeros somewhere, or both."""
    spoilt = bytearray(data)
    for _ in range(chance.choice([0, 1, 1, 4])):
        at = chance.randrange(8 * KIB, len(spoilt) - 512) & -512
        spoilt[at : at + 512] = chance.choice([bytes(512), chance.randbytes(512)])
    return bytes(spoilt[: chance.choice([len(spoilt), chance.randrange(80 * KIB, len(spoilt))])])


@pytest.mark.parametrize("kind", ["streamOptimized", "monolithicFlat"])
def test_what_is_not_lost_is_right(tmp_path: Path, kind: str) -> None:
    """Of a damaged stream, and of a cut flat file, every byte is the old one, or is told as lost.

    A stream's grains have checksums. A flat file has none, so that it is only cut.
    """
    folder, chance = Folder(tmp_path), random.Random(kind)
    vmdk.create(folder, "disk.vmdk", SIZE_BYTES, subformat=kind, fill=fill)
    is_flat = kind == "monolithicFlat"
    file = tmp_path / ("disk-flat.vmdk" if is_flat else "disk.vmdk")
    data, opened = file.read_bytes(), 0
    for _ in range(DAMAGES):
        cut = data[: chance.randrange(len(data))]
        file.write_bytes(cut if is_flat else damaged(data, chance))
        try:
            disk = vmdk.open_remains(folder, "disk.vmdk")
        except IpvaError:
            continue
        opened += 1
        with disk:
            device = SalvageDevice(disk)
            found, expected = read(device, 0, SIZE_BYTES), bytearray(CONTENT)
            for at, length in device.lost:
                expected[at : at + length] = bytes(length)
            assert found == expected
    assert opened > DAMAGES // 2
