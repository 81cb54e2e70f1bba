"""What is opened as a disk, and how everything else is refused."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ipva_storage import vmdk
from ipva_storage.appliance import image, open_image
from ipva_storage.device import Folder, RawDevice, read
from ipva_storage.errors import DeviceError, IpvaError, NoDiskError, VmdkError
from ipva_storage.units import MIB

Open = Callable[[Path], None]

FOREIGN = [
    (b"\x1f\x8b\x08", "a gzip file", "gunzip < {} > new.img"),
    (b"PK\x03\x04", "a zip archive", "unzip {}"),
    (b"\xfd7zXZ\0", "an xz file", "unxz < {} > new.img"),
    (b"BZh9", "a bzip2 file", "bunzip2 < {} > new.img"),
    (b"\x28\xb5\x2f\xfd", "a zstd file", "unzstd < {} > new.img"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x {}"),
    (b"\0" * 257 + b"ustar", "a tar archive", "tar xf {}"),
    (b"QFI\xfb", "a qcow2 disk", "qemu-img convert -O raw {} new.img"),
    (b"vhdxfile", "a VHDX disk", "qemu-img convert -O raw {} new.img"),
    (b"conectix", "a VHD disk", "qemu-img convert -O raw {} new.img"),
    (b"<<< QEMU VM Virtual Disk Image >>>", "a VDI disk", "qemu-img convert -O raw {} new.img"),
]


def as_a_person(path: Path) -> None:
    """Open a file as the command line does, and close it."""
    image.disk_in(RawDevice(path), Folder(path.parent), as_found=True).close()


def as_a_machine(path: Path) -> None:
    """Open a file as a .vmx names it, and close it."""
    open_image(Folder(path.parent), path.name).close()


@pytest.mark.parametrize("opened", [as_a_person, as_a_machine])
@pytest.mark.parametrize("name", ["card.img", "card.vmdk", "a card.raw"])
@pytest.mark.parametrize(("magic", "kind", "command"), FOREIGN)
def test_a_foreign_file_names_the_command_that_makes_an_image_of_it(
    tmp_path: Path, opened: Open, name: str, magic: bytes, kind: str, command: str
) -> None:
    """An archive or another program's disk is refused by its content, whatever its name."""
    path = tmp_path / name
    path.write_bytes(magic.ljust(MIB, b"\0"))
    with pytest.raises(NoDiskError, match=re.escape(f"it is {kind}")) as refused:
        opened(path)
    shown = f"'{path}'" if " " in name else str(path)
    assert refused.value.remedy is not None
    assert refused.value.remedy.endswith(f": {command.format(shown)}")
    assert refused.value.where == str(path)


@pytest.mark.parametrize("opened", [as_a_person, as_a_machine])
def test_a_vmdk_by_name_only_is_refused_as_raw(tmp_path: Path, opened: Open) -> None:
    """Zeros that are named .vmdk may be a disk whose start is lost."""
    path = tmp_path / "card.VMDK"
    path.write_bytes(bytes(MIB))
    with pytest.raises(VmdkError, match=r"holds neither"):
        opened(path)


@pytest.mark.parametrize("name", ["card.vmdk", "card.img", "card.log", "card-flat.vmdk"])
def test_a_vmdk_is_one_by_its_content(tmp_path: Path, name: str) -> None:
    """Whatever its name, what starts as a VMDK is opened as one."""
    vmdk.create(Folder(tmp_path), name, MIB)
    with contextlib.closing(open_image(Folder(tmp_path), name)) as disk:
        assert isinstance(disk, vmdk.VmdkDevice)
        assert disk.size_bytes == MIB


def test_what_no_machine_would_attach_is_for_people_only(tmp_path: Path) -> None:
    """A flat extent alone, another file of the machine, and a length that no disk has."""
    for name, size_bytes, reason in (
        ("card-flat.vmdk", MIB, "the data of a flat disk"),
        ("vm.nvram", MIB, "and no disk"),
        ("vmware.LOG", MIB, "and no disk"),
        ("card.img", MIB + 1, "not whole sectors"),
        ("empty.img", 0, "not whole sectors"),
    ):
        path = tmp_path / name
        path.write_bytes(bytes(size_bytes))
        with pytest.raises(NoDiskError, match=reason):
            as_a_machine(path)
        as_a_person(path)


def test_a_refused_file_is_let_go(tmp_path: Path) -> None:
    """No refusal keeps the lock that writing takes."""
    folder = Folder(tmp_path)
    (tmp_path / "card.img").write_bytes(b"QFI\xfb".ljust(MIB, b"\0"))
    (tmp_path / "card.vmdk").write_bytes(bytes(MIB))
    (tmp_path / "bad.vmdk").write_bytes(b"KDMV".ljust(MIB, b"\xff"))
    (tmp_path / "short.img").write_bytes(bytes(700))
    for name in ("card.img", "card.vmdk", "bad.vmdk", "short.img"):
        for _ in range(2):
            with pytest.raises(IpvaError) as refused:
                open_image(folder, name, writable=True)
            assert "another process" not in str(refused.value)


def test_a_disk_that_is_opened_for_writing_is_locked(tmp_path: Path) -> None:
    """VMDK and raw alike."""
    vmdk.create(Folder(tmp_path), "card.vmdk", MIB)
    (tmp_path / "card.img").write_bytes(bytes(MIB))
    for name in ("card.vmdk", "card.img"):
        with contextlib.closing(open_image(Folder(tmp_path), name, writable=True)) as disk:
            disk.write(0, b"x")
            with pytest.raises(DeviceError, match="another process"):
                open_image(Folder(tmp_path), name, writable=True)
        with contextlib.closing(open_image(Folder(tmp_path), name)) as disk:
            assert read(disk, 0, 1) == b"x"


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    """The name may be input."""
    (tmp_path / "card.img").write_bytes(bytes(MIB))
    with pytest.raises(DeviceError, match="not a plain file name"):
        open_image(Folder(tmp_path / "vm"), "../card.img")


def test_a_name_is_repeated_without_what_a_terminal_obeys(tmp_path: Path) -> None:
    """The command of a remedy has the file's name, which may be input."""
    path = tmp_path / "\x1b[2J.img"
    path.write_bytes(b"\x1f\x8b\x08".ljust(512, b"\0"))
    with pytest.raises(NoDiskError) as refused:
        as_a_machine(path)
    assert refused.value.remedy is not None
    assert refused.value.remedy.isprintable()
