"""VMDK with its peers: qemu-img reads what we write, we read what it writes, and real images."""

from __future__ import annotations

import contextlib
import csv
import random
import shutil
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipva_storage import vmdk
from ipva_storage.device import BlockDevice, Folder, MemoryDevice, RawDevice, copy, read
from ipva_storage.errors import IpvaError, VmdkError

if TYPE_CHECKING:
    import subprocess

    Peer = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.interop

SIZE_BYTES = 70 * 1024 * 1024 + 3 * 512
"""Two full grain tables and some, and an end within a grain."""


def scattered() -> MemoryDevice:
    """Text and noise here and there, up to the last byte."""
    disk, rng = MemoryDevice(SIZE_BYTES), random.Random(5)
    for _ in range(30):
        length = rng.choice([100, 4096, 70_000, 300_000])
        data = rng.randbytes(length) if rng.random() < 0.5 else b"text " * (length // 5)
        disk.write(rng.randrange(disk.size_bytes - length), data)
    disk.write(disk.size_bytes - 5, b"tail!")
    disk.discard(1 << 20, 3 << 20)
    return disk


def scatter(disk: BlockDevice) -> None:
    """Write them to a disk, from its start to its end."""
    copy(scattered(), disk)


def to_raw(image: Path, target: Path) -> None:
    """Convert with our own means."""
    folder = Folder(image.parent)
    with vmdk.open(folder.open(image.name), folder) as disk:
        RawDevice.create(target, disk.size_bytes).close()
        with RawDevice(target, writable=True) as out:
            copy(disk, out)


def assert_clean(peer: Peer, image: Path) -> None:
    """`qemu-img check` finds nothing, and knows the format."""
    found = peer("qemu-img", "check", image)
    assert "No errors" in found.stdout or "does not support checks" in found.stderr
    assert f"file format: {'vmdk'}" in peer("qemu-img", "info", image, check=True).stdout


@pytest.mark.parametrize("subformat", vmdk.SUBFORMATS)
@pytest.mark.parametrize("adapter", ["ide", "lsilogic"])
def test_qemu_reads_ours(tmp_path: Path, peer: Peer, subformat: str, adapter: str) -> None:
    """What we write, in two sessions, qemu-img checks, converts and compares as equal."""
    folder, image = Folder(tmp_path), tmp_path / "ours.vmdk"
    vmdk.create(folder, image.name, SIZE_BYTES, subformat=subformat, adapter=adapter, fill=scatter)
    assert_clean(peer, image)
    if subformat in vmdk.REWRITABLE:
        with vmdk.open(folder.open(image.name, writable=True), folder, writable=True) as disk:
            disk.write(40 << 20, b"second session" * 5000)
        assert_clean(peer, image)
    to_raw(image, tmp_path / "ours.raw")
    same = peer("qemu-img", "compare", image, "-F", "raw", tmp_path / "ours.raw")
    assert same.returncode == 0, same.stdout
    info = peer("qemu-img", "info", image).stdout
    assert f"virtual size: 70 MiB ({SIZE_BYTES} bytes)" in info


@pytest.mark.parametrize("subformat", [kind for kind in vmdk.SUBFORMATS if kind != "vmfs"])
def test_we_read_qemus(tmp_path: Path, peer: Peer, subformat: str) -> None:
    """What qemu-img writes we read to the byte, find nothing in, and write on; qemu sees it."""
    source, image = tmp_path / "source.raw", tmp_path / "theirs.vmdk"
    with RawDevice.create(source, SIZE_BYTES) as raw:
        scatter(raw)
    options = ["convert", "-O", "vmdk", "-o", f"subformat={subformat}", source, image]
    peer("qemu-img", *options, check=True)
    to_raw(image, tmp_path / "ours.raw")
    assert (tmp_path / "ours.raw").read_bytes() == source.read_bytes()
    folder = Folder(tmp_path)
    with folder.open(image.name) as raw:
        assert list(vmdk.check(raw, folder)) == []
    if subformat not in vmdk.REWRITABLE:
        return
    cid = cid_of(folder, image.name)
    with vmdk.open(folder.open(image.name, writable=True), folder, writable=True) as disk:
        disk.write(50 << 20, b"ours" * 100_000)
    assert cid_of(folder, image.name) != cid
    with RawDevice(source, writable=True) as raw:
        raw.write(50 << 20, b"ours" * 100_000)
    assert_clean(peer, image)
    assert peer("qemu-img", "compare", "-F", "raw", image, source).returncode == 0


def cid_of(folder: Folder, name: str) -> int | None:
    """The content identifier that is in the file."""
    with vmdk.open(folder.open(name), folder) as disk:
        return disk.descriptor.cid


def test_zeroed_grains_of_qemu(tmp_path: Path, peer: Peer) -> None:
    """Grains that qemu marks as zeros (version 2) read as zeros and can be written."""
    image = tmp_path / "zeroed.vmdk"
    peer("qemu-img", "create", "-f", "vmdk", "-o", "zeroed_grain=on", image, "4M", check=True)
    if shutil.which("qemu-io") is None:
        pytest.skip("qemu-io is not installed")
    peer("qemu-io", "-c", "write -P 7 0 1M", "-c", "write -z 64k 64k", image, check=True)
    folder = Folder(tmp_path)
    with vmdk.open(folder.open(image.name, writable=True), folder, writable=True) as disk:
        assert read(disk, 0, 1 << 17) == b"\7" * 65536 + bytes(65536)
        disk.write(100_000, b"here")
    peer("qemu-img", "convert", "-O", "raw", image, tmp_path / "out.raw", check=True)
    expected = bytearray(b"\7" * (1 << 20))
    expected[65536:131072] = bytes(65536)
    expected[100_000:100_004] = b"here"
    assert (tmp_path / "out.raw").read_bytes()[: 1 << 20] == expected
    assert_clean(peer, image)


def manifest(shared_images: Path) -> list[str]:
    """Names of all VMDK files among the real images."""
    with (shared_images / "MANIFEST.tsv").open(newline="") as file:
        rows = csv.reader(file, delimiter="\t")
        return [row[0] for row in rows if row[0].startswith("vmdk") and row[0].endswith(".vmdk")]


def test_real_images_as_qemu_reads_them(shared_images: Path, peer: Peer, tmp_path: Path) -> None:
    """Each real image of a kind that we read has the bytes that qemu-img finds, and no findings."""
    read_names = []
    for name in manifest(shared_images):
        image = shared_images / name
        try:
            to_raw(image, tmp_path / "ours.raw")
        except VmdkError:
            continue
        read_names.append(name)
        same = peer("qemu-img", "compare", image, "-F", "raw", tmp_path / "ours.raw")
        (tmp_path / "ours.raw").unlink()
        assert same.returncode == 0, (name, same.stdout)
        with RawDevice(image) as raw:
            assert list(vmdk.check(raw, Folder(image.parent))) == [], name
    assert sorted(read_names) == [
        "vmdk/cot/blank.vmdk",
        "vmdk/cot/input.vmdk",
        "vmdk/cot/ubuntu.2.0-disk1.vmdk",
        "vmdk/dfvfs/ext2.vmdk",
        "vmdk/qemu-iotests/iotest-version3.vmdk",
        "vmdk/vmdk-rs/monolithicSparse.vmdk",
        "vmdk/vmdk-rs/streamOptimized.vmdk",
        "vmdk/vmdk-rs/streamOptimizedWithMarkers.vmdk",
        "vmdk/vmdk-rs/twoGbMaxExtentSparse.vmdk",
        "vmdk/vmdk-rs/vmfs_thick.vmdk",
    ]


def test_broken_images_cost_little(shared_images: Path) -> None:
    """Every file of the folders is refused, or opened and checked, soon and in little memory."""
    images = [path for path in sorted(shared_images.glob("vmdk*/**/*")) if path.is_file()]
    assert len(images) > 15
    tracemalloc.start()
    for image in images:
        started = time.process_time()
        tracemalloc.reset_peak()
        for job in (open_and_read, check_all):
            with contextlib.suppress(IpvaError):
                job(image)
        assert time.process_time() - started < 5, image
        assert tracemalloc.get_traced_memory()[1] < 64 << 20, image
    tracemalloc.stop()


def open_and_read(image: Path) -> None:
    """Open it and read its first megabyte."""
    with vmdk.open(RawDevice(image), Folder(image.parent)) as disk:
        assert read(disk, 0, min(disk.size_bytes, 1 << 20)) is not None


def check_all(image: Path) -> None:
    """Check it to the end."""
    with RawDevice(image) as raw:
        assert all(finding.where for finding in vmdk.check(raw, Folder(image.parent)))
