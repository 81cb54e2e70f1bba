"""What the command-line contract fixes for every command."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from ipva_storage.cli import undoing
from ipva_storage.cli.main import COMMANDS, program
from ipva_storage.device import RawDevice

Ipva = Callable[..., Any]


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Each command and subcommand with the words that call it."""
    context = click.Context(program)
    for name in COMMANDS:
        command = program.get_command(context, name)
        assert command is not None
        yield from below(name, command)


def below(words: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """A command, or all that are in a group."""
    if not isinstance(command, click.Group):
        yield words, command
        return
    context = click.Context(command)
    for word in list(command.commands) or command.list_commands(context):  # as they are written
        child = command.get_command(context, word)
        assert child is not None
        yield from below(f"{words} {word}", child)


@pytest.mark.parametrize(("words", "command"), list(every_command()))
def test_every_command_shows_an_example_that_starts_with_its_words(
    words: str, command: click.Command
) -> None:
    """The help of each command has an example of just that command."""
    assert command.help is not None
    assert "Example:" in command.help
    assert f"ipva {words} " in command.help


@pytest.mark.parametrize(("words", "command"), list(every_command()))
def test_every_command_that_changes_an_image_has_a_dry_run(
    words: str, command: click.Command
) -> None:
    """What writes to an existing image can be tried without writing."""
    changing = {"put", "rm", "mkdir", "format", "add", "clear", "boot", "undo", "undelete"}
    changing |= {"mv", "label"}
    changing |= {"repair", "resize", "compact", "commit", "grow", "defrag"}
    options = {parameter.name for parameter in command.params}
    assert ("dry_run" in options) == (words.split()[-1] in changing)


FIRST = ("undo", "new", "boot", "fs put", "flash put", "dump add")
LAST = (
    "fs rm",
    "fs undelete",
    "flash rm",
    "dump clear",
    "fs format",
    "flash format",
    "dump format",
)


def test_every_example_runs_as_printed(
    ipva: Ipva, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder with an appliance `demo` and a README.md each example ends with status 0 or 1.

    Those that make something come first, those that remove it last.
    """
    monkeypatch.chdir(tmp_path)
    Path("README.md").write_text("hello")
    assert ipva("new", "demo", "--cf-size", "64M").status == 0
    with undoing.undoable(Path("demo/hd-cf.vmdk.undo")) as undo:
        raw = RawDevice("demo/hd-cf.vmdk", writable=True)
        with undo.device(raw) as device:
            device.write(0, b"damaged")
    order = {words: place for place, words in enumerate([*FIRST, "", *LAST])}
    commands = sorted(every_command(), key=lambda each: order.get(each[0], len(FIRST)))
    for words, command in commands:
        example = next(
            line for line in (command.help or "").splitlines() if f"ipva {words} " in line
        )
        typed, _, line = example.strip().rpartition("ipva ")
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
        result = ipva(*shlex.split(line))
        allowed = (0, 1) if "plan" in words else (0,)
        assert result.status in allowed, (line, result)


def test_no_color_is_honoured(vm: Path) -> None:
    """With NO_COLOR even a terminal gets plain text."""
    code = "import pty, sys; pty.spawn([sys.executable, '-m', 'ipva_storage.cli', *sys.argv[1:]])"
    (vm / "hd-dump.vmdk").unlink()
    for no_color, is_coloured in (("", True), ("1", False)):
        shown = subprocess.run(
            [sys.executable, "-c", code, "doctor", str(vm)],
            capture_output=True,
            env={**os.environ, "NO_COLOR": no_color, "TERM": "xterm"},
            check=False,
        )
        assert b"VM001" in shown.stdout
        assert (b"\x1b[3" in shown.stdout) is is_coloured


def test_a_usage_error_is_one_line_and_with_json_one_document(ipva: Ipva, vm: Path) -> None:
    """A bad option or a missing argument is refused like anything else."""
    plain = ipva("flash", "plan", vm, "--ram", "abc")
    assert plain.status == 2
    assert plain.err.count("\n") == 1
    assert "ipva flash plan --help" in plain.err
    as_json = ipva("boot", "--json")
    assert as_json.status == 2
    assert "VM" in as_json.document["error"]["message"]


def test_help_lists_every_command() -> None:
    """`ipva --help` names each command of the table once."""
    shown = click.Context(program).get_help()
    for name in COMMANDS:
        assert f"\n  {name} " in shown


def test_an_unknown_command_is_refused_with_status_2(ipva: Ipva) -> None:
    """A command that does not exist cannot run."""
    result = ipva("nonsense")
    assert result.status == 2
    assert "nonsense" in result.err


def test_a_bad_size_is_refused_with_a_hint(ipva: Ipva, tmp_path: Path) -> None:
    """A size that is none says how sizes are written."""
    result = ipva("new", tmp_path / "x", "--ram", "lots")
    assert result.status == 2
    assert "64M" in result.err
    assert not (tmp_path / "x").exists()


def test_a_refusal_is_one_line_and_with_json_one_document(ipva: Ipva, tmp_path: Path) -> None:
    """An error says what, where and what next on stderr, and as JSON on stdout when asked."""
    plain = ipva("info", tmp_path / "missing.vmdk")
    assert plain.status == 2
    assert plain.err.count("\n") == 1
    assert "missing.vmdk" in plain.err
    assert plain.out == ""
    as_json = ipva("info", tmp_path / "missing.vmdk", "--json")
    assert as_json.status == 2
    assert "missing.vmdk" in as_json.document["error"]["where"]


def test_a_closed_pipe_ends_quietly(vm: Path) -> None:
    """`ipva … | head` ends without a traceback when the reader leaves early."""
    code = "from ipva_storage.cli.main import main; main()"
    command = [sys.executable, "-c", code, "fs", "cat", f"{vm}#boot:/ipva.bin"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_ctrl_c_leaves_no_half_written_file(
    ipva: Ipva, vm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted conversion removes what it had written and ends with status 2."""
    from ipva_storage import device

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(device, "copy", interrupt)
    result = ipva("disk", "convert", f"{vm}#cf", tmp_path / "out.img", "-O", "raw")
    assert result.status == 2
    assert [each.name for each in tmp_path.iterdir()] == ["vm"]


def test_ctrl_c_while_the_program_is_imported() -> None:
    """It ends as at any other time: one line, status 2."""
    code = """
import builtins, sys
usual = builtins.__import__
def stopped(name, *words):
    if name == "click":
        raise KeyboardInterrupt
    return usual(name, *words)
builtins.__import__ = stopped
from ipva_storage.cli.start import main
main()
"""
    command = [sys.executable, "-c", code, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "ipva: interrupted; nothing was begun\n"


def test_an_ignored_signal_stays_ignored(ipva: Ipva, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under nohup a job goes on when the terminal ends."""
    monkeypatch.setattr("ipva_storage.cli.main.program", _Hangup())
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert ipva().status == 0
        signal.signal(signal.SIGHUP, before)
        assert ipva().status == 2
    finally:
        signal.signal(signal.SIGHUP, before)


class _Hangup:
    """A program whose terminal ends."""

    def main(self, *_: object, **__: object) -> int:
        signal.raise_signal(signal.SIGHUP)
        return 0


def test_inspection_leaves_bytes_and_times_as_they_were(ipva: Ipva, vm: Path) -> None:
    """No inspecting command changes any file of the VM."""

    def state() -> dict[str, tuple[bytes, int]]:
        return {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in vm.iterdir()}

    before = state()
    for words in (
        ["info", vm],
        ["doctor", vm],
        ["boot", vm, "--dry-run", "--ram", "20"],
        ["flash", "info", vm],
        ["flash", "ls", vm],
        ["flash", "plan", vm, "--ram", "20"],
        ["flash", "check", vm],
        ["flash", "put", vm, "x", "--value", "y", "--dry-run"],
        ["dump", "list", vm],
        ["dump", "check", vm],
        ["dump", "clear", vm, "--dry-run"],
        ["fs", "ls", f"{vm}#boot:/"],
        ["fs", "tree", f"{vm}#boot:/"],
        ["fs", "check", f"{vm}#cf"],
        ["fs", "mkdir", f"{vm}#cf:/new", "--dry-run"],
        ["fs", "format", f"{vm}#cf", "--dry-run"],
        ["disk", "info", f"{vm}#cf"],
        ["disk", "check", f"{vm}#cf"],
        ["disk", "map", f"{vm}#cf"],
        ["disk", "diff", f"{vm}#cf", vm / "hd-cf.vmdk"],
        ["disk", "resize", f"{vm}#cf", "+1G", "--dry-run"],
        ["disk", "compact", f"{vm}#cf", "--dry-run"],
    ):
        result = ipva(*words)
        assert result.status == 0, (words, result.out, result.err)
    assert state() == before


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["info", "VM"], {"kind", "disks"}),
        (["boot", "VM"], {"booted", "error", "trace", "ram", "dram", "segments", "lost"}),
        (["doctor", "VM"], {"findings"}),
        (["disk", "info", "VM#cf"], {"format", "virtual_size", "file_size", "volumes"}),
        (["disk", "check", "VM#cf"], {"errors", "leaks", "leaked_bytes", "findings"}),
        (["disk", "diff", "VM#cf", "VM#cf"], {"equal", "sizes", "ranges"}),
        (["fs", "check", "VM#cf"], {"findings"}),
        (["flash", "info", "VM"], {"segments", "objects", "used", "free", "wear"}),
        (
            ["flash", "plan", "VM", "--ram", "20"],
            {"ram", "segments", "fits", "needed_segments", "minimum_ram", "lost"},
        ),
    ],
)
def test_json_has_the_keys_that_scripts_rely_on(
    ipva: Ipva, vm: Path, words: list[str], keys: set[str]
) -> None:
    """Each document has at least the contract's keys."""
    result = ipva(*[word.replace("VM", str(vm)) for word in words], "--json")
    assert result.status == 0, result.err
    assert keys <= set(result.document)


def test_new_says_where_everything_is(ipva: Ipva, tmp_path: Path) -> None:
    """`ipva new --json` names the .vmx and the four disks, which exist."""
    result = ipva("new", tmp_path / "vm", "--cf-size", "64M", "--json")
    assert result.status == 0
    assert Path(result.document["vmx"]).is_file()
    assert set(result.document["disks"]) == {"boot", "cf", "flash", "dump"}
    assert all(Path(path).is_file() for path in result.document["disks"].values())


def test_new_overwrites_nothing_unless_forced(ipva: Ipva, vm: Path) -> None:
    """A second `new` in the same folder is refused and changes nothing; --force replaces."""
    before = {each.name: each.read_bytes() for each in vm.iterdir()}
    assert ipva("new", vm).status == 2
    assert {each.name: each.read_bytes() for each in vm.iterdir()} == before
    assert ipva("new", vm, "--cf-size", "64M", "--force").status == 0


def test_a_gzipped_image_names_the_program_that_unpacks_it(ipva: Ipva, tmp_path: Path) -> None:
    """An archive is refused with the way out."""
    import gzip

    packed = tmp_path / "disk.img.gz"
    packed.write_bytes(gzip.compress(bytes(1000)))
    result = ipva("info", packed)
    assert result.status == 2
    assert "gunzip" in result.err


def test_a_file_of_unknown_content_is_not_guessed_at(ipva: Ipva, tmp_path: Path) -> None:
    """`info` refuses what it does not recognise; `disk info` still gives its size."""
    noise = tmp_path / "noise.img"
    noise.write_bytes(b"neither disk nor volume " * 1000)
    assert ipva("info", noise).status == 2
    assert ipva("disk", "info", noise, "--json").document["virtual_size"] == 24000


def test_json_output_is_one_document_and_nothing_else(ipva: Ipva, vm: Path) -> None:
    """Standard output parses whole."""
    assert isinstance(json.loads(ipva("info", vm, "--json").out), dict)
