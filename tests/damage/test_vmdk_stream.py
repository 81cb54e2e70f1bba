"""Damage to a stream-optimized VMDK, one kind a part, field and marker: found, and mended."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, MemoryDevice, copy
from ipva_storage.vmdk.creation import sparse_header
from ipva_storage.vmdk.extent.header import build_header
from ipva_storage.vmdk.extent.markers import Kind
from ipva_storage.vmdk.extent.tables import bytes_of, usual_directory
from tests.damage.images import (
    NAME,
    SECTOR,
    Blocks,
    Change,
    Image,
    both,
    content_of,
    cut,
    found,
    longer,
    make,
    noise,
    put,
    text,
    without,
    zeros,
)

END = 2**64 - 1
CAPACITY = 70 * 2048

HEADER: dict[str, Change] = {
    "magic": put(0, 0),
    "header-zeros": zeros(0),
    "header-noise": noise(0),
    "version-0": put(4, 0),
    "version-1": put(4, 1),
    "flags-0": put(8, 0),
    "flags-sparse": put(8, 3),
    "flags-no-markers": put(8, 0x10001),
    "flags-no-compression": put(8, 0x20001),
    "capacity-0": put(12, 0, 8),
    "capacity-half": put(12, CAPACITY // 2, 8),
    "grain-half": put(20, 64, 8),
    "grain-double": put(20, 256, 8),
    "descriptor-offset-0": put(28, 0, 8),
    "descriptor-size-absurd": put(36, 2**30, 8),
    "entries-half": put(44, 256),
    "entries-1024": put(44, 1024),
    "overhead-0": put(64, 0, 8),
    "overhead-256": put(64, 256, 8),
    "unclean": put(72, 1, 1),
    "newlines": put(73, 0x0A0A0D20),
    "compression-0": put(77, 0, 2),
    "descriptor-zeros": zeros(SECTOR, 20 * SECTOR),
    "descriptor-noise": noise(SECTOR),
    "descriptor-no-cid": text(b"\nCID=", b"\nXXX="),
}
"""Damage in front of the grains, for each layout."""

At = Callable[[Image], Change]


def grain(number: int) -> Callable[[Image], int]:
    """Where a compressed grain starts, in bytes."""
    return lambda image: image.grains[number].sector * SECTOR


MARKERS: dict[str, At] = {
    "lba": lambda image: put(grain(20)(image), 7, 8),
    "lba-of-another": lambda image: put(grain(20)(image), 128 * 3, 8),
    "lba-behind-the-end": lambda image: put(grain(20)(image), CAPACITY + 128, 8),
    "length": lambda image: put(grain(20)(image) + 8, 3),
    "length-0": lambda image: put(grain(20)(image) + 8, 0),
    "length-absurd": lambda image: put(grain(20)(image) + 8, 2**31),
    "marker-zeros": lambda image: zeros(grain(20)(image), 12),
    "marker-noise": lambda image: noise(grain(20)(image), 12),
    "first-marker": lambda image: zeros(grain(0)(image), 12),
    "last-marker": lambda image: noise(grain(-1)(image), 12),
}
"""Damage to the markers of grains, for each layout."""


def metadata(kind: Kind, damage: Callable[[int], Change], skip: int = 0) -> At:
    """Damage to the sector of a marker, or `skip` sectors behind it."""
    return lambda image: damage((image.part(kind).sector + skip) * SECTOR)


def footer_field(image: Image, at: int, value: int, length: int) -> Change:
    """Another number in the footer."""
    return put((image.part(Kind.FOOTER).sector + 1) * SECTOR + at, value, length)


TAIL: dict[str, At] = {
    **{
        f"{kind.name.lower()}-marker-{damage.__name__}": metadata(kind, damage)
        for kind in (Kind.TABLE, Kind.DIRECTORY, Kind.FOOTER)
        for damage in (zeros, noise)
    },
    **{
        f"{kind.name.lower()}-{damage.__name__}": metadata(kind, damage, 1)
        for kind in (Kind.TABLE, Kind.DIRECTORY, Kind.FOOTER)
        for damage in (zeros, noise)
    },
    "gd-in-the-header": lambda _: put(56, 22, 8),
    "rgd": lambda _: put(48, 22, 8),
    "table-entry": lambda image: put((image.part(Kind.TABLE).sector + 1) * SECTOR + 4, 77),
    "footer-capacity": lambda image: footer_field(image, 12, 8, 8),
    "footer-gd": lambda image: footer_field(image, 56, 5, 8),
    "footer-grain": lambda image: footer_field(image, 20, 64, 8),
    "footer-overhead": lambda image: footer_field(image, 64, 256, 8),
    "footer-compression": lambda image: footer_field(image, 77, 0, 2),
    "end-of-stream": lambda image: noise(len(image.content) - SECTOR),
    "no-end-of-stream": lambda image: cut(len(image.content) - SECTOR),
    "no-footer": lambda image: cut(len(image.content) - 3 * SECTOR),
    "padding": lambda _: longer(bytes(SECTOR)),
    "something-behind": lambda _: longer(b"x" * 700),
    "header-and-footer": lambda image: both(
        zeros(0), zeros((image.part(Kind.FOOTER).sector + 1) * SECTOR)
    ),
}
"""Damage to what is behind the grains."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """A stream as VMware's tools and we write it: tables, directory and footer at the end."""
    return make(tmp_path_factory.mktemp("sound"), "streamOptimized")


@pytest.fixture(scope="module")
def front(image: Image) -> Image:
    """The same disk as qemu writes it: both copies of the tables in front, nothing at the end."""
    header = sparse_header(CAPACITY, 128, 512, 20)
    header = replace(header, version=3, flags=image.header.flags | 2, compress_algorithm=1)
    content = bytearray(128 * SECTOR)
    content[: 21 * SECTOR] = image.content[: 21 * SECTOR]
    entries = [0] * (3 * 512)
    for record in image.grains:
        entries[record.lba_sector // 128] = len(content) // SECTOR
        start = record.sector * SECTOR
        content += image.content[start : start + record.sector_count * SECTOR]
    content[:SECTOR] = build_header(header)
    for sector in (header.rgd_offset_sectors, header.gd_offset_sectors):
        directory = bytes_of(usual_directory(header, sector))
        content[sector * SECTOR : sector * SECTOR + len(directory)] = directory
        tables = struct.pack(f"<{len(entries)}I", *entries)
        content[(sector + 1) * SECTOR : (sector + 1) * SECTOR + len(tables)] = tables
    found_image = Image.of(bytes(content))
    assert found_image.data == image.data
    return found_image


def damaged(image: Image, change: Change, path: Path) -> Folder:
    """A folder with the image, damaged."""
    content = bytearray(image.content)
    change(content)
    assert content != image.content
    (path / NAME).write_bytes(content)
    return Folder(path)


def assert_mended(image: Image, change: Change, path: Path) -> None:
    """Found before; afterwards all is well, and the disk reads as ever."""
    folder = damaged(image, change, path)
    assert found(folder)
    repaired = vmdk.repair(folder, NAME)
    assert repaired.fixed
    assert (repaired.left, repaired.lost) == ((), ())
    assert found(folder) == set()
    assert content_of(folder) == image.data


def test_sound_streams_have_no_findings(image: Image, front: Image, tmp_path: Path) -> None:
    """Neither layout has a finding, and a repair leaves both alone."""
    for one in (image, front):
        (tmp_path / NAME).write_bytes(one.content)
        assert found(Folder(tmp_path)) == set()
        assert not vmdk.repair(Folder(tmp_path), NAME).is_changed


@pytest.mark.parametrize("layout", ["image", "front"])
@pytest.mark.parametrize("name", HEADER)
def test_a_damaged_header_is_mended(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, layout: str
) -> None:
    """From the footer, the descriptor, the grains or the usual layout, whichever is left."""
    assert_mended(request.getfixturevalue(layout), HEADER[name], tmp_path)


@pytest.mark.parametrize("layout", ["image", "front"])
@pytest.mark.parametrize("name", MARKERS)
def test_a_damaged_marker_is_mended(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, layout: str
) -> None:
    """A grain's marker is made anew from the tables, its neighbours and the grain itself."""
    image = request.getfixturevalue(layout)
    assert_mended(image, MARKERS[name](image), tmp_path)


@pytest.mark.parametrize("name", TAIL)
def test_a_damaged_tail_is_mended(image: Image, tmp_path: Path, name: str) -> None:
    """Tables, directory, footer, their markers and the end are made anew from the grains."""
    assert_mended(image, TAIL[name](image), tmp_path)


@pytest.mark.parametrize("damage", [zeros, noise], ids=["zeros", "noise"])
@pytest.mark.parametrize("sector", [21, 22, 26, 34, 35, 39])
def test_damaged_tables_in_front_are_mended(
    front: Image, tmp_path: Path, sector: int, damage: Callable[[int], Change]
) -> None:
    """Directories and tables of either copy are made anew."""
    if not any(front.content[sector * SECTOR : (sector + 1) * SECTOR]) and damage is zeros:
        pytest.fail("there is nothing to lose in this sector")
    assert_mended(front, damage(sector * SECTOR), tmp_path)


def test_all_tables_in_front_are_made_anew(front: Image, tmp_path: Path) -> None:
    """With both copies of directories and tables gone, the grains tell everything."""
    assert_mended(front, zeros(21 * SECTOR, 26 * SECTOR), tmp_path)


@pytest.mark.parametrize("layout", ["image", "front"])
def test_damaged_data_is_told(request: pytest.FixtureRequest, tmp_path: Path, layout: str) -> None:
    """A grain whose data is damaged is lost: told by range, never served, and all else reads."""
    image = request.getfixturevalue(layout)
    record = image.grains[20]
    change = noise(record.sector * SECTOR + 40, 4)
    folder = damaged(image, change, tmp_path)
    assert found(folder) == {"VMDK026"}
    assert content_of(folder) is None
    repaired = vmdk.repair(folder, NAME)
    (lost,) = repaired.lost
    assert (lost.offset_bytes, lost.length_bytes) == (record.lba_sector * SECTOR, 65536)
    assert [one.code for one in repaired.left] == ["VMDK026"]


@pytest.mark.parametrize("part", [0.0, 5e-7, 0.005, 0.1, 0.5, 0.9])
def test_a_download_cut_short_is_saved_as_far_as_it_got(
    image: Image, tmp_path: Path, part: float
) -> None:
    """What came before the cut reads as ever, and what is behind is told by range."""
    length = 128 * SECTOR + int((len(image.content) - 128 * SECTOR) * part)
    folder = damaged(image, cut(length), tmp_path)
    assert found(folder) >= {"VMDK025"}
    repaired = vmdk.repair(folder, NAME)
    assert repaired.left == ()
    kept = [one for one in image.grains if (one.sector + one.sector_count) * SECTOR <= length]
    (lost,) = repaired.lost
    end = (kept[-1].lba_sector + 128) * SECTOR if kept else 0
    assert (lost.offset_bytes, lost.length_bytes) == (end, CAPACITY * SECTOR - end)
    assert content_of(folder) == without(image.data, repaired.lost)
    assert found(folder) == set()


def test_a_stream_cut_between_two_grains(image: Image, tmp_path: Path) -> None:
    """Also where no grain is cut, the end is told to be unknown."""
    record = image.grains[20]
    folder = damaged(image, cut(record.sector * SECTOR), tmp_path)
    repaired = vmdk.repair(folder, NAME)
    (lost,) = repaired.lost
    before = image.grains[19]
    assert lost.offset_bytes == (before.lba_sector + 128) * SECTOR
    assert content_of(folder) == without(image.data, repaired.lost)


@pytest.mark.parametrize("layout", ["image", "front"])
@pytest.mark.parametrize("seed", range(25))
def test_no_damage_shows_other_data_unnoticed(
    request: pytest.FixtureRequest, tmp_path: Path, seed: int, layout: str
) -> None:
    """Bytes damaged anywhere: wrong data is never read without a finding, before or after."""
    image = request.getfixturevalue(layout)
    rng = random.Random(seed)
    content = bytearray(image.content)
    for _ in range(rng.choice([1, 2, 5])):
        at = rng.randrange(rng.choice([SECTOR, 64 * SECTOR, len(content)]))
        content[at : at + 4] = rng.choice([rng.randbytes(4), bytes(4)])
    (tmp_path / NAME).write_bytes(content)
    folder = Folder(tmp_path)
    allowed: tuple[Blocks | None, ...] = (None, image.data)
    assert content_of(folder) in allowed or found(folder)
    repaired = vmdk.repair(folder, NAME)
    assert content_of(folder) in allowed or repaired.left or repaired.lost


def test_a_repaired_stream_is_one_that_peers_read(
    image: Image, tmp_path: Path, peer: Callable[..., object]
) -> None:
    """`qemu-img` checks and compares what was mended from a cut file."""
    folder = damaged(image, cut(len(image.content) * 2 // 3), tmp_path)
    vmdk.repair(folder, NAME)
    with vmdk.open(folder.open(NAME), folder) as disk:
        raw = MemoryDevice(disk.size_bytes)
        copy(disk, raw)
    (tmp_path / "expected.raw").write_bytes(raw.data)
    check = peer("qemu-img", "check", tmp_path / NAME)
    assert check.returncode == 0, check  # type: ignore[attr-defined]
    same = peer("qemu-img", "compare", tmp_path / NAME, "-F", "raw", tmp_path / "expected.raw")
    assert same.returncode == 0, same  # type: ignore[attr-defined]
