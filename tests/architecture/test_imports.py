"""Which room may know which, and what an import may cost."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import ipva_storage

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


def test_ground_needs_the_standard_library_only() -> None:
    """The ground and the device room import nothing that has to be installed."""
    statement = (
        "import ipva_storage.errors, ipva_storage.units, ipva_storage.findings, "
        "ipva_storage.progress, ipva_storage.device"
    )
    assert _imported(statement, "numpy", "construct", "click", "rich", "ipva_formats") == []
