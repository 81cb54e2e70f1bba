"""The README shows what really happens."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
from pathlib import Path
from subprocess import PIPE

import pytest

from ipva_storage import appliance
from ipva_storage.cli.main import main
from ipva_storage.device import Folder

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run(line: str) -> str:
    """What a command prints: ours in this process, any other as it is."""
    program, *arguments = shlex.split(line)
    if program != "ipva":
        return subprocess.run([program, *arguments], check=True, text=True, stdout=PIPE).stdout
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        main(arguments)
    return out.getvalue()


def test_the_first_block_is_the_trace_of_a_new_appliance(tmp_path: Path) -> None:
    """What the first command ends with is the boot trace of a new appliance."""
    machine = appliance.create(Folder(tmp_path / "demo"))
    assert blocks("text")[0].splitlines() == appliance.boot(machine).trace


def test_every_command_shown_prints_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each `$ …` of the README, run in order, gives the lines below it."""
    monkeypatch.chdir(tmp_path)
    appliance.create(Folder("demo"))
    shown = [
        command.partition("\n")
        for block in blocks("text")
        for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    ]
    assert len(shown) >= 3
    for command, _, expected in shown:
        assert run(command) == expected, command


def test_every_python_block_runs() -> None:
    """The library examples run as printed."""
    for block in blocks("python"):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(block, "README.md", "exec"), {})
        assert out.getvalue()
