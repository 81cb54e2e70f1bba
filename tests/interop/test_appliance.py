"""A new appliance, looked at by the peers: qemu-img, fsck.fat and mtools."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipva_storage import appliance, boot, fat
from ipva_storage.device import Folder, RawDevice

pytestmark = pytest.mark.interop

Peer = Callable[..., Any]
LONG_NAMES = 500


@pytest.fixture(scope="module")
def vm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A booted appliance of the default size."""
    folder = tmp_path_factory.mktemp("appliance") / "vm"
    machine = appliance.create(Folder(folder))
    assert appliance.boot(machine).booted
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five hundred files with long names and all kinds of sizes."""
    folder = tmp_path_factory.mktemp("files")
    chance = random.Random(500)
    for index in range(LONG_NAMES):
        name = f"Announcement number {index:03d} – with a long name.Wav"
        (folder / name).write_bytes(chance.randbytes(chance.choice([0, 1, 511, 4096, 20_000])))
    return folder


def raw_of(peer: Peer, disk: Path, target: Path) -> Path:
    """The disk as a raw image, by qemu-img."""
    peer("qemu-img", "convert", "-O", "raw", disk, target, check=True)
    return target


@pytest.mark.parametrize("disk", ["hd-boot", "hd-cf", "hd-flash", "hd-dump"])
def test_qemu_img_finds_each_disk_sound(vm: Path, peer: Peer, disk: str) -> None:
    """`qemu-img check` has nothing to say."""
    result = peer("qemu-img", "check", vm / f"{disk}.vmdk")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "No errors were found" in result.stdout


@pytest.mark.parametrize("disk", ["hd-boot", "hd-cf"])
def test_fsck_finds_the_volumes_clean(vm: Path, peer: Peer, disk: str, tmp_path: Path) -> None:
    """`fsck.fat -n` calls what qemu-img extracts clean."""
    raw = raw_of(peer, vm / f"{disk}.vmdk", tmp_path / "raw.img")
    result = peer("fsck.fat", "-n", raw)
    assert result.returncode == 0, result.stdout
    assert "differ" not in result.stdout


def test_mcopy_reads_the_firmware_byte_for_byte(vm: Path, peer: Peer, tmp_path: Path) -> None:
    """The firmware comes out of the boot disk as it was put in, by its short name."""
    raw = raw_of(peer, vm / "hd-boot.vmdk", tmp_path / "raw.img")
    assert "ipva" in peer("mdir", "-i", raw, "::", check=True).stdout.casefold()
    peer("mcopy", "-i", raw, "::IPVA.BIN", tmp_path / "ipva.bin", check=True)
    assert (tmp_path / "ipva.bin").read_bytes() == boot.demo_firmware()


def test_mtools_extracts_what_put_copied_in(
    vm: Path, peer: Peer, files: Path, tmp_path: Path
) -> None:
    """Five hundred long-named files put by the command line are listed and read by mtools."""
    from ipva_storage.cli.main import main

    with pytest.raises(SystemExit) as ended:
        main(["fs", "put", str(files), f"{vm}#cf:/", "--force"])
    assert ended.value.code == 0
    raw = raw_of(peer, vm / "hd-cf.vmdk", tmp_path / "raw.img")
    assert peer("fsck.fat", "-n", raw).returncode == 0
    out = tmp_path / "out"
    out.mkdir()
    peer("mcopy", "-s", "-m", "-i", raw, f"::{files.name}", out, check=True)
    assert contents(out / files.name) == contents(files)


def test_what_mtools_copied_in_reads_back_here(peer: Peer, files: Path, tmp_path: Path) -> None:
    """The other way round: mkfs.fat and mcopy write, we list and read the same."""
    image = tmp_path / "theirs.img"
    peer("mkfs.fat", "-C", "-n", "THEIRS", image, 64 * 1024, check=True)
    peer("mcopy", "-s", "-i", image, files, "::", check=True)
    with RawDevice(image) as device:
        volume = fat.open(device)
        found = {
            path.rpartition("/")[2]: volume.read(path)
            for path, entry in volume.walk("/")
            if not entry.is_dir
        }
    assert found == contents(files)


def contents(folder: Path) -> dict[str, bytes]:
    """Files of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "image",
    [
        "vmdk/dfvfs/ext2.vmdk",
        "vmdk/vmdk-rs/monolithicSparse.vmdk",
        "vmdk/vmdk-rs/vmfs_thick.vmdk",
    ],
)
def test_images_of_others_convert_as_qemu_img_converts_them(
    shared_images: Path, peer: Peer, tmp_path: Path, image: str
) -> None:
    """`ipva disk convert -O raw` gives qemu-img's bytes."""
    from ipva_storage.cli.main import main

    ours = tmp_path / "ours.img"
    with pytest.raises(SystemExit) as ended:
        main(["disk", "convert", str(shared_images / image), str(ours), "-O", "raw"])
    assert ended.value.code == 0
    theirs = raw_of(peer, shared_images / image, tmp_path / "theirs.img")
    assert ours.read_bytes() == theirs.read_bytes()
