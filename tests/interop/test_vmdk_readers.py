"""VMDK with those that only read it: libvmdk and 7-Zip find the bytes that are in it.

They read what we write, and what we change; and of what qemu-img writes they and we read the same.
qemu-img is asked as well where a disk was changed. Every kind that we write is read by all three.
What they do not read: 7-Zip no snapshot's child, no delta of an ESXi host, and no stream of
qemu-img; libvmdk no `seSparse`.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipva_storage import vmdk
from ipva_storage.device import Folder, MemoryDevice, copy, read
from ipva_storage.testing.vmdk_deltas import cowd_file, descriptor, shown
from ipva_storage.units import MIB
from ipva_storage.vmdk import codec
from ipva_storage.vmdk.extent.header import read_header
from ipva_storage.vmdk.extent.markers import Kind, walk

if TYPE_CHECKING:
    import subprocess

    Peer = Callable[..., subprocess.CompletedProcess[str]]

Reader = Callable[[Path], bytes]
"""What a disk is for a peer, from its first byte to its last."""

pytestmark = pytest.mark.interop

SIZE_BYTES = 33 * MIB + 3 * 512
"""A full grain table and some, and an end within a grain."""
QEMU_KINDS = [kind for kind in vmdk.SUBFORMATS if kind not in ("vmfs", "streamOptimized")]


def content(size_bytes: int) -> bytes:
    """Text, noise and zeros here and there, up to the last byte."""
    data, rng = bytearray(size_bytes), random.Random(size_bytes)
    for _ in range(25):
        length = min(rng.choice([100, 4096, 70_000, 300_000]), size_bytes)
        at = rng.randrange(size_bytes - length + 1)
        filling = [rng.randbytes(length), b"text " * length, bytes(length)]
        data[at : at + length] = rng.choice(filling)[:length]
    data[-5:] = b"tail!"
    return bytes(data)


def make(folder: Folder, data: bytes, subformat: str, *, name: str = "x.vmdk") -> None:
    """A disk of a kind with some content."""
    fill = partial(copy, MemoryDevice(data))
    vmdk.create(folder, name, len(data), subformat=subformat, fill=fill)


def change(folder: Folder, name: str, *changes: tuple[int, bytes]) -> bytes:
    """Write to a disk; what it reads as then."""
    with vmdk.open(folder.open(name, writable=True), folder, writable=True) as disk:
        for offset_bytes, data in changes:
            disk.write(offset_bytes, data)
        return read(disk, 0, disk.size_bytes)


def by_us(image: Path) -> bytes:
    """What we read."""
    folder = Folder(image.parent)
    with vmdk.open(folder.open(image.name), folder) as disk:
        return read(disk, 0, disk.size_bytes)


def by_libvmdk(image: Path) -> bytes:
    """What libvmdk reads, given the parents; it finds the identifiers that we find, too."""
    pyvmdk = pytest.importorskip("pyvmdk", reason="libvmdk-python is not installed")
    handles: list[Any] = []
    name: str | None = image.name
    while name is not None:
        handle = pyvmdk.handle()
        handle.open(str(image.with_name(name)))
        handle.open_extent_data_files()
        if handles:
            cid = handles[-1].get_parent_content_identifier()
            assert cid == handle.get_content_identifier()
            handles[-1].set_parent(handle)
        handles.append(handle)
        name = handle.get_parent_filename()
    folder = Folder(image.parent)
    with vmdk.open(folder.open(image.name), folder) as disk:
        assert handles[0].get_content_identifier() == disk.descriptor.cid
        assert handles[0].get_parent_content_identifier() == disk.descriptor.parent_cid
    data: bytes = handles[0].read_buffer_at_offset(handles[0].get_media_size(), 0)
    for handle in handles:
        handle.close()
    return data


def seven_zip() -> str:
    """The program, by the name that it has here."""
    found = next(filter(shutil.which, ("7zz", "7z", "7za")), None)
    if found is None:
        pytest.skip("7-Zip is not installed")
    return found


def by_7zip(peer: Peer, image: Path) -> bytes:
    """What 7-Zip unpacks, after a test without a complaint."""
    tested = peer(seven_zip(), "t", "-tvmdk", image)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "Everything is Ok" in tested.stdout
    assert "WARNINGS:" not in tested.stdout
    return unpacked(peer, image)


def unpacked(peer: Peer, image: Path) -> bytes:
    """What 7-Zip unpacks; it is not to look into the partitions."""
    place = image.parent / "unpacked"
    peer(seven_zip(), "x", "-tvmdk", f"-o{place}", image)
    (raw,) = place.iterdir()
    data = raw.read_bytes()
    shutil.rmtree(place)
    return data


def by_qemu(peer: Peer, image: Path) -> bytes:
    """What qemu-img converts, after a check without a complaint."""
    checked = peer("qemu-img", "check", image)
    assert "No errors" in checked.stdout or "does not support checks" in checked.stderr
    raw = image.with_suffix(".raw")
    peer("qemu-img", "convert", "-O", "raw", image, raw, check=True)
    data = raw.read_bytes()
    raw.unlink()
    return data


def reader_of(name: str, peer: Peer) -> Reader:
    """A peer by its name."""
    readers: dict[str, Reader] = {
        "libvmdk": by_libvmdk,
        "7-Zip": partial(by_7zip, peer),
        "qemu-img": partial(by_qemu, peer),
    }
    return readers[name]


@pytest.fixture(params=["libvmdk", "7-Zip"])
def reader(request: pytest.FixtureRequest, peer: Peer) -> Reader:
    """A peer that reads every kind that we write; `test_vmdk.py` asks qemu-img the same."""
    return reader_of(request.param, peer)


@pytest.fixture(params=["libvmdk", "7-Zip", "qemu-img"])
def any_reader(request: pytest.FixtureRequest, peer: Peer) -> Reader:
    """Each of the peers."""
    return reader_of(request.param, peer)


@pytest.fixture(params=["libvmdk", "qemu-img"])
def chain_reader(request: pytest.FixtureRequest, peer: Peer) -> Reader:
    """A peer that reads a snapshot's child; 7-Zip does not (`test_7zip_reads_no_children`)."""
    return reader_of(request.param, peer)


@pytest.mark.parametrize("size_bytes", [512, 64 * 1024, 3 * MIB + 65_024, SIZE_BYTES])
@pytest.mark.parametrize("subformat", vmdk.SUBFORMATS)
def test_ours(tmp_path: Path, reader: Reader, subformat: str, size_bytes: int) -> None:
    """A disk of a sector, of a grain, and with an end within a grain, is its bytes."""
    data = content(size_bytes)
    make(Folder(tmp_path), data, subformat)
    assert reader(tmp_path / "x.vmdk") == data


@pytest.mark.parametrize("subformat", vmdk.SUBFORMATS)
def test_ours_without_data(tmp_path: Path, reader: Reader, subformat: str) -> None:
    """A new disk is zeros."""
    vmdk.create(Folder(tmp_path), "x.vmdk", SIZE_BYTES, subformat=subformat)
    assert reader(tmp_path / "x.vmdk") == bytes(SIZE_BYTES)


@pytest.mark.parametrize("subformat", ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_ours_of_several_files(
    tmp_path: Path, any_reader: Reader, subformat: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A split disk is its parts, one behind the other."""
    monkeypatch.setattr("ipva_storage.vmdk.creation.SPLIT_SECTORS", 10 * MIB // 512)
    data = content(SIZE_BYTES)
    make(Folder(tmp_path), data, subformat)
    assert len(list(tmp_path.iterdir())) == 5
    assert any_reader(tmp_path / "x.vmdk") == data


@pytest.mark.parametrize("engines", ["both", "isal", "libdeflate", "neither"])
@pytest.mark.parametrize("level", [1, 6, 9])
def test_ours_by_every_codec(
    tmp_path: Path, any_reader: Reader, monkeypatch: pytest.MonkeyPatch, level: int, engines: str
) -> None:
    """Whatever deflated a stream, and however hard it tried, all inflate it."""
    if engines not in ("both", "isal"):
        monkeypatch.setattr(codec, "_isal", lambda: None)
    if engines not in ("both", "libdeflate"):
        monkeypatch.setattr(codec, "_libdeflate", lambda: None)
    data = content(3 * MIB + 512)
    fill = partial(copy, MemoryDevice(data))
    vmdk.create(
        Folder(tmp_path), "x.vmdk", len(data), subformat="streamOptimized", level=level, fill=fill
    )
    assert any_reader(tmp_path / "x.vmdk") == data


def make_with_qemu(peer: Peer, image: Path, data: bytes, subformat: str) -> None:
    """A disk of a kind, as qemu-img writes it."""
    source = image.with_suffix(".raw")
    source.write_bytes(data)
    options = ["convert", "-O", "vmdk", "-o", f"subformat={subformat}", source, image]
    peer("qemu-img", *options, check=True)


@pytest.mark.parametrize("subformat", QEMU_KINDS)
def test_qemus(tmp_path: Path, peer: Peer, reader: Reader, subformat: str) -> None:
    """What qemu-img writes is the same for them and for us."""
    data = content(SIZE_BYTES)
    make_with_qemu(peer, tmp_path / "x.vmdk", data, subformat)
    assert by_us(tmp_path / "x.vmdk") == data
    assert reader(tmp_path / "x.vmdk") == data


def test_qemus_streams(tmp_path: Path, peer: Peer) -> None:
    """Of qemu-img's streams libvmdk and we read the same; 7-Zip wants a marker at the directory."""
    data, image = content(SIZE_BYTES), tmp_path / "x.vmdk"
    make_with_qemu(peer, image, data, "streamOptimized")
    assert by_us(image) == data
    assert by_libvmdk(image) == data
    if shutil.which("7zz"):
        refused = peer("7zz", "t", image)
        assert refused.returncode == 2
        assert "Cannot open the file as [VMDK] archive" in refused.stderr


REAL = {
    "dfvfs/ext2.vmdk": ["libvmdk", "7-Zip"],
    "vmdk-rs/monolithicSparse.vmdk": ["libvmdk", "7-Zip"],
    "vmdk-rs/streamOptimized.vmdk": ["libvmdk"],  # qemu's: `test_qemus_streams`
    "vmdk-rs/streamOptimizedWithMarkers.vmdk": ["7-Zip"],  # libvmdk misses the signature
    "vmdk-rs/twoGbMaxExtentSparse.vmdk": ["libvmdk", "7-Zip"],
    "vmdk-rs/vmfs_thick.vmdk": ["libvmdk", "7-Zip"],
}
"""Real images of up to 10 MiB, and who reads them."""


@pytest.mark.parametrize(
    ("name", "reader_name"), [(name, one) for name, readers in REAL.items() for one in readers]
)
def test_real_images(
    tmp_path: Path, peer: Peer, shared_images: Path, name: str, reader_name: str
) -> None:
    """They and we read the same in images that others wrote."""
    shutil.copytree((shared_images / "vmdk" / name).parent, tmp_path / "real")
    image = tmp_path / "real" / Path(name).name
    theirs = by_libvmdk(image) if reader_name == "libvmdk" else unpacked(peer, image)
    assert theirs == by_us(image)


@pytest.mark.parametrize("grain_sectors", [1, 8, 128])
def test_deltas_of_esxi_hosts(tmp_path: Path, grain_sectors: int) -> None:
    """A COWD disk is the same for libvmdk and for us."""
    capacity = 4096 * 8 + 4096 + 77
    rng = random.Random(grain_sectors)
    numbers = rng.sample(range(capacity // grain_sectors), 30)
    grains = {number: rng.randbytes(grain_sectors * 512) for number in numbers}
    folder = Folder(tmp_path)
    folder.replace("x-delta.vmdk", cowd_file(capacity, grains, grain_sectors=grain_sectors))
    folder.replace("x.vmdk", descriptor("vmfsSparse", capacity, "x-delta.vmdk", cid=2).encode())
    expected = shown(capacity * 512, grain_sectors * 512, dict(grains))
    assert by_us(tmp_path / "x.vmdk") == expected
    assert by_libvmdk(tmp_path / "x.vmdk") == expected


def chain_of_three(folder: Folder, subformat: str) -> bytes:
    """Two snapshots, `child.vmdk` and `x.vmdk`, over a disk of a kind; what the last one shows."""
    make(folder, content(SIZE_BYTES), subformat, name="base.vmdk")
    vmdk.snapshot(folder, "base.vmdk", "child.vmdk")
    change(folder, "child.vmdk", (1000, b"child" * 30_000), (8 * MIB, bytes(MIB)))
    vmdk.snapshot(folder, "child.vmdk", "x.vmdk")
    top = b"top" * 20_000
    return change(folder, "x.vmdk", (70_000, top), (SIZE_BYTES - 700, b"end" * 200))


@pytest.mark.parametrize("subformat", vmdk.SUBFORMATS)
def test_snapshots(tmp_path: Path, chain_reader: Reader, subformat: str) -> None:
    """A chain of children shows what we see, over a disk of any kind, and so does an empty one."""
    folder = Folder(tmp_path)
    expected = chain_of_three(folder, subformat)
    assert chain_reader(tmp_path / "x.vmdk") == expected
    assert chain_reader(tmp_path / "base.vmdk") == content(SIZE_BYTES)
    vmdk.snapshot(folder, "x.vmdk", "empty.vmdk")
    assert chain_reader(tmp_path / "empty.vmdk") == expected


def test_7zip_reads_no_children(tmp_path: Path, peer: Peer) -> None:
    """7-Zip calls a snapshot's child an unsupported method, and gives out nothing wrong for it."""
    chain_of_three(Folder(tmp_path), "monolithicSparse")
    refused = peer(seven_zip(), "t", tmp_path / "x.vmdk")
    assert refused.returncode == 2
    assert "Unsupported Method" in refused.stderr


@pytest.mark.parametrize("subformat", vmdk.REWRITABLE)
@pytest.mark.parametrize("removes", [False, True])
def test_commit(tmp_path: Path, any_reader: Reader, subformat: str, *, removes: bool) -> None:
    """A disk that took its child's changes in shows them."""
    folder = Folder(tmp_path)
    make(folder, content(SIZE_BYTES), subformat)
    vmdk.snapshot(folder, "x.vmdk", "child.vmdk")
    changes = (1000, b"child" * 30_000), (8 * MIB, bytes(MIB)), (SIZE_BYTES - 70, b"end" * 20)
    expected = change(folder, "child.vmdk", *changes)
    vmdk.commit(folder, "child.vmdk", remove=removes)
    assert any_reader(tmp_path / "x.vmdk") == expected


@pytest.mark.parametrize("removes_top", [False, True])
def test_commit_into_a_child(tmp_path: Path, chain_reader: Reader, *, removes_top: bool) -> None:
    """A child that took another's changes in shows them, and so does the other, where it stays."""
    expected = chain_of_three(Folder(tmp_path), "monolithicSparse")
    vmdk.commit(Folder(tmp_path), "x.vmdk", remove=removes_top)
    for name in ["child.vmdk"] if removes_top else ["child.vmdk", "x.vmdk"]:
        assert chain_reader(tmp_path / name) == expected


@pytest.mark.parametrize("size_bytes", [70 * MIB + 512, 5 * MIB + 1024])
@pytest.mark.parametrize("subformat", vmdk.SUBFORMATS)
def test_resize(tmp_path: Path, any_reader: Reader, subformat: str, size_bytes: int) -> None:
    """A disk that was made larger or smaller has that size, its bytes, and zeros behind them."""
    data = content(SIZE_BYTES)
    make(Folder(tmp_path), data, subformat)
    vmdk.resize(Folder(tmp_path), "x.vmdk", size_bytes, allow_loss=True)
    expected = data[:size_bytes].ljust(size_bytes, b"\0")
    assert any_reader(tmp_path / "x.vmdk") == expected


@pytest.mark.parametrize("subformat", ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_resize_by_files(
    tmp_path: Path, any_reader: Reader, subformat: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A split disk gets further files, and loses some."""
    for module in ("creation", "resize_plan"):
        monkeypatch.setattr(f"ipva_storage.vmdk.{module}.SPLIT_SECTORS", 10 * MIB // 512)
    data, folder = content(SIZE_BYTES), Folder(tmp_path)
    make(folder, data, subformat)
    vmdk.resize(folder, "x.vmdk", 45 * MIB)
    assert any_reader(tmp_path / "x.vmdk") == data.ljust(45 * MIB, b"\0")
    vmdk.resize(folder, "x.vmdk", 12 * MIB, allow_loss=True)
    assert any_reader(tmp_path / "x.vmdk") == data[: 12 * MIB]


def length_of(folder: Path) -> int:
    """How long all files in a folder are."""
    return sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.parametrize("subformat", vmdk.REWRITABLE)
def test_compact(tmp_path: Path, any_reader: Reader, subformat: str) -> None:
    """A disk that was made smaller in place reads as before."""
    folder = Folder(tmp_path)
    make(folder, content(SIZE_BYTES), subformat)
    noise = random.Random(1).randbytes(4 * MIB)
    change(folder, "x.vmdk", (10 * MIB, noise))
    expected = change(folder, "x.vmdk", (10 * MIB, bytes(3 * MIB)))
    before_bytes = length_of(tmp_path)
    freed_bytes = vmdk.compact(folder, "x.vmdk").freed_bytes
    assert freed_bytes > 2 * MIB
    if "Sparse" in subformat:
        assert before_bytes - length_of(tmp_path) == freed_bytes
    assert any_reader(tmp_path / "x.vmdk") == expected


def lose_tables(folder: Folder, name: str) -> None:
    """Overwrite the primary directory and the first table."""
    with folder.open(name, writable=True) as raw:
        raw.write(read_header(raw).gd_offset_sectors * 512, b"\x55" * 1024)


def lose_header(folder: Folder, name: str) -> None:
    """Overwrite the first sector."""
    with folder.open(name, writable=True) as raw:
        raw.write(0, b"\x55" * 512)


def lose_marker(folder: Folder, name: str) -> None:
    """Overwrite the marker of a grain."""
    with folder.open(name, writable=True) as raw:
        grains = [part for part in walk(raw, read_header(raw)) if part.kind is Kind.GRAIN]
        raw.write(grains[3].sector * 512, b"\x55" * 12)


def lose_footer(folder: Folder, name: str) -> None:
    """Cut the footer and the end of the stream off."""
    with folder.open(name, writable=True) as raw:
        raw.resize(raw.size_bytes - 1536)


def lose_file(folder: Folder, name: str) -> None:
    """Delete it."""
    folder.remove(name)


@pytest.mark.parametrize(
    ("subformat", "damage", "name"),
    [
        ("monolithicSparse", lose_tables, "x.vmdk"),
        ("monolithicSparse", lose_header, "x.vmdk"),
        ("twoGbMaxExtentSparse", lose_tables, "x-s001.vmdk"),
        ("twoGbMaxExtentSparse", lose_header, "x-s001.vmdk"),
        ("twoGbMaxExtentSparse", lose_file, "x.vmdk"),
        ("monolithicFlat", lose_file, "x.vmdk"),
        ("twoGbMaxExtentFlat", lose_file, "x.vmdk"),
        ("vmfs", lose_file, "x.vmdk"),
        ("streamOptimized", lose_header, "x.vmdk"),
        ("streamOptimized", lose_marker, "x.vmdk"),
        ("streamOptimized", lose_footer, "x.vmdk"),
    ],
)
def test_repair(
    tmp_path: Path,
    any_reader: Reader,
    subformat: str,
    damage: Callable[[Folder, str], None],
    name: str,
) -> None:
    """A disk that was mended reads as before the damage."""
    data, folder = content(SIZE_BYTES), Folder(tmp_path)
    make(folder, data, subformat)
    damage(folder, name)
    assert vmdk.repair(folder, "x.vmdk").is_changed
    assert any_reader(tmp_path / "x.vmdk") == data
