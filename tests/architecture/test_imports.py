"""Which room may know which, and what an import may cost."""

from __future__ import annotations

import importlib
import pkgutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import ipva_storage
from ipva_storage import dump, fat, vmdk
from ipva_storage.device import BlockDevice, Folder, RawDevice, SliceDevice
from ipva_storage.units import GIB, MIB

REPOSITORY = Path(__file__).parents[2]

MODULES = sorted(
    each.name
    for each in pkgutil.walk_packages(ipva_storage.__path__, "ipva_storage.")
    if not each.name.endswith("__main__")
)


def _imported(statement: str, *heavy: str) -> list[str]:
    """Which of the heavy modules a fresh Python has after a statement."""
    code = f"{statement}\nimport sys\nprint(*[name for name in {heavy} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    return result.stdout.split()


def test_contracts_are_kept() -> None:
    """Imports go one way: every contract of import-linter is kept."""
    code = "import sys; from importlinter.cli import lint_imports_command as run; run()"
    result = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
    assert "0 broken" in result.stdout


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports(module: str) -> None:
    """Every module imports, without a warning."""
    assert importlib.import_module(module).__name__ == module


def test_command_line_starts_light() -> None:
    """The command line's entry imports none of NumPy, Construct, Rich: its help appears at once."""
    heavy = ("numpy", "construct", "rich", "matplotlib", "ipva_storage.testing")
    assert _imported("import ipva_storage.cli.main", *heavy) == []


@pytest.mark.parametrize("words", [[], ["disk"], ["disk", "convert"], ["disk", "snapshot"]])
def test_help_stays_light(words: list[str]) -> None:
    """Printing the help, of any command, imports none of them either, and succeeds."""
    statement = (
        "import sys\nfrom ipva_storage.cli.main import main\n"
        f"sys.argv = ['ipva', *{words}, '--help']\n"
        "import contextlib, io\nout = io.StringIO()\n"
        "with contextlib.redirect_stdout(out):\n"
        "    try:\n        main()\n    except SystemExit as end:\n"
        "        assert not end.code, end.code\n"
        "assert 'Usage' in out.getvalue(), out.getvalue()"
    )
    heavy = ("numpy", "construct", "rich", "ipva_storage.vmdk", "ipva_storage.fat")
    assert _imported(statement, *heavy) == []


@pytest.mark.parametrize("room", ["device", "vmdk", "fat", "flash", "dump", "boot", "config"])
def test_rooms_open_without_numpy(room: str) -> None:
    """Importing a room's package does not import NumPy, which is for tables."""
    assert _imported(f"import ipva_storage.{room}", "numpy") == []


def test_opening_an_image_file_starts_light() -> None:
    """The door of image files, and its room, import neither NumPy nor Construct."""
    assert _imported("import ipva_storage.appliance.image", "numpy", "construct") == []


INFO = """
import contextlib, io, sys
from ipva_storage.cli.main import main
for words in {words}:
    sys.argv = ["ipva", *words]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            main()
        except SystemExit as end:
            assert not end.code, (words, end.code)
    assert words[-1] in out.getvalue(), (words, out.getvalue())
"""
"""Runs commands, each of which must succeed and name its disk."""


def test_info_of_a_disk_needs_no_numpy(tmp_path: Path) -> None:
    """`disk info` and `info` of FAT, blank, dump and unknown disks, raw and VMDK, import none.

    What tells them apart, sizes, free space and labels are read without.
    """
    disks = [str(path) for path in _every_sort_of_disk(tmp_path)]
    words = [["disk", "info", disk] for disk in disks]
    words += [["info", disk] for disk in disks if not disk.endswith("unknown.img")]
    assert len(words) > 20
    assert _imported(INFO.format(words=words), "numpy") == []


def _every_sort_of_disk(folder: Path) -> Iterator[Path]:
    """Images of everything that `info` tells but a flash directory, which has to be mounted."""
    contents: dict[str, tuple[int, Callable[[BlockDevice], None]]] = {
        "fat12": (MIB, lambda disk: fat.format(disk, label="A")),
        "fat16": (16 * MIB, lambda disk: fat.format(disk, fat_bits=16)),
        "fat32": (64 * MIB, lambda disk: fat.format(disk, fat_bits=32, label="B")),
        "partitioned": (17 * MIB, _partition),
        "blank": (100 * MIB, lambda _: None),
        "dump": (MIB, _write_dump),
        "unknown": (3 * MIB, lambda disk: disk.write(MIB, b"something else")),
        "large-unknown": (64 * GIB, lambda disk: disk.write(40 * GIB, b"something else")),
    }
    for name, (size_bytes, fill) in contents.items():
        vmdk.create(Folder(folder), f"{name}.vmdk", size_bytes, fill=fill)
        yield folder / f"{name}.vmdk"
        with RawDevice.create(folder / f"{name}.img", size_bytes) as disk:
            fill(disk)
        yield folder / f"{name}.img"
    vmdk.create(Folder(folder), "flat.vmdk", MIB, subformat="monolithicFlat")
    yield folder / "flat.vmdk"


def _partition(disk: BlockDevice) -> None:
    """Give a disk one FAT16 partition of 16 MiB, from 1 MiB on."""
    entry = struct.pack("<B3xB3xII", 0x80, 0x06, MIB // 512, 16 * MIB // 512)
    disk.write(446, entry + bytes(48) + b"\x55\xaa")
    fat.format(SliceDevice(disk, MIB, 16 * MIB), fat_bits=16)


def _write_dump(disk: BlockDevice) -> None:
    dump.format(disk)
    dump.open(disk).append("trap", "at 0x1234", time=datetime(2024, 5, 6, tzinfo=UTC))


def test_ground_needs_the_standard_library_only() -> None:
    """The ground and the device room import nothing that has to be installed."""
    statement = (
        "import ipva_storage.errors, ipva_storage.units, ipva_storage.findings, "
        "ipva_storage.progress, ipva_storage.device"
    )
    assert _imported(statement, "numpy", "construct", "click", "rich", "ipva_formats") == []
