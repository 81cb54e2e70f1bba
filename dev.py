#!/usr/bin/env python3
"""Everything a developer runs, on a machine with Python 3.11 and pip and nothing else.

    python3 dev.py demo      make an appliance in ./demo and boot it
    python3 dev.py test      run the tests (further arguments go to pytest)
    python3 dev.py check     lint, types, imports contract
    python3 dev.py bench     benchmarks: flash directory, VMDK, undo (arguments go to pytest)
    python3 dev.py fuzz fat  fuzz a room, fat or vmdk, until Ctrl-C (arguments go to libFuzzer)

Each sets up what it needs in ./.venv first, once, and again only when pyproject.toml changes.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
SCRIPTS = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = SCRIPTS / "python"
MODERN_PIP = "pip>=25.1"  # the first that installs dependency groups


def run(*command: str | Path) -> None:
    """Run a command in the root of the project; end with its status when it fails."""
    status = subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode
    if status:
        sys.exit(status)


def set_up(group: str | None) -> None:
    """Make .venv hold the project, and a dependency group, unless it does already."""
    stamp = VENV / f".installed-{group or 'run'}"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    print(f"setting up {VENV.relative_to(ROOT)} …", flush=True)
    # Without ensurepip: Debian keeps that in a package of its own. The pip that runs this serves.
    if not PYTHON.exists():
        venv.create(VENV, with_pip=False, symlinks=os.name != "nt")
    outer = [sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "--quiet"]
    run(*outer, MODERN_PIP)
    groups = ["--group", group] if group else []
    run(PYTHON, "-m", "pip", "install", "--quiet", *groups, "--editable", ".")
    stamp.write_text(wanted)


def demo() -> None:
    """Make an appliance in ./demo, unless it is there, and boot it."""
    set_up(None)
    if not (ROOT / "demo").exists():
        run(SCRIPTS / "ipva", "new", "demo")
    run(SCRIPTS / "ipva", "boot", "demo")


def test(arguments: list[str]) -> None:
    """Run the tests on all cores."""
    set_up("dev")
    run(PYTHON, "-m", "pytest", "-n", "auto", "--benchmark-disable", *arguments)


def check() -> None:
    """Run what needs no test: style, types, and which room may import which."""
    set_up("dev")
    run(SCRIPTS / "ruff", "check", ".")
    run(SCRIPTS / "ruff", "format", "--check", ".")
    run(SCRIPTS / "mypy")
    run(SCRIPTS / "lint-imports")


def bench(arguments: list[str]) -> None:
    """Run the benchmarks."""
    set_up("dev")
    columns = "--benchmark-columns=min,median,rounds"
    run(PYTHON, "-m", "pytest", "bench", columns, *arguments)


def fuzz(room: str, arguments: list[str]) -> None:
    """Look for a damaged image that breaks a promise; `tests/fuzz/fuzz_vmdk.py` says more."""
    set_up("fuzz")
    run(PYTHON, f"tests/fuzz/fuzz_{room}.py", *arguments)


def main() -> None:
    """Do what the first argument says."""
    verb, *rest = sys.argv[1:] or [""]
    if sys.version_info < (3, 11):  # noqa: UP036 - the first thing a newcomer may meet
        sys.exit("Python 3.11 or later is needed; run this with it, like python3.11 dev.py demo")
    if verb == "demo" and not rest:
        demo()
    elif verb == "check" and not rest:
        check()
    elif verb == "test":
        test(rest)
    elif verb == "bench":
        bench(rest)
    elif verb == "fuzz" and rest[:1] in (["fat"], ["vmdk"]):
        fuzz(rest[0], rest[1:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
