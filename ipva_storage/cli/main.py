"""The program `ipva`: finds the command, runs it, and turns failure into a line and a status.

Exit status: 0 done, nothing wrong found; 1 done, problems found or left; 2 could not be done.
Importing this module imports neither NumPy, Construct nor Rich, so that `--help` is immediate.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Final

import click

from ipva_storage import __version__
from ipva_storage.cli import interrupts
from ipva_storage.cli.lazy import Entry, LazyGroup
from ipva_storage.errors import IpvaError
from ipva_storage.units import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: Final = {
    "new": "make an appliance: a .vmx and four disks",
    "boot": "power the simulated appliance on and print its boot trace",
    "info": "what a VM or a disk is, down to volumes, flash use and dumps",
    "doctor": "look at the whole VM and say what is wrong",
    "undo": "take a repair or another change of an image back, byte for byte",
    "disk": "VMDK and raw images: check, repair, convert, resize, compact, snapshot, …",
    "fs": "files on FAT disks: ls, tree, cat, get, put, rm, mkdir, format, check",
    "flash": "the emulated flash: info, ls, get, put, rm, plan, check, format",
    "dump": "crash dumps: list, show, add, clear, check, format",
}
"""Every command and its one line in `ipva --help`; each is a module of this room."""

CANNOT_RUN: Final = 2


_ENTRIES: Final = {name: Entry(line, f"ipva_storage.cli.{name}") for name, line in COMMANDS.items()}


@click.group(
    cls=LazyGroup, entries=_ENTRIES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="ipva")
def program() -> None:
    """Open, check and simulate the storage of an innovaphone Virtual Appliance.

    \b
    Start with:
      ipva new demo          make an appliance
      ipva boot demo         boot it
      ipva COMMAND --help    every command shows an example
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and end the process with its status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    colour = False if os.environ.get("NO_COLOR") else None
    # NumPy's linear algebra starts threads when it is imported: 0.1 s, and nothing here uses it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show a letter gets an escape
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with interrupts.raised():
            status = program.main(words, prog_name="ipva", standalone_mode=False, color=colour)
        sys.stdout.flush()
        code = status if isinstance(status, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = CANNOT_RUN
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        remedy = f"see: {context.command_path} --help" if context else None
        told = IpvaError(error.format_message(), remedy=remedy)
        code = _refuse(told, as_json="--json" in words)
    except (click.Abort, KeyboardInterrupt):
        told = IpvaError("interrupted", remedy="nothing was left half-written")
        code = _refuse(told, as_json="--json" in words)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except IpvaError as error:
        code = _refuse(error, as_json="--json" in words)
    except OSError as error:  # the host refused where no device was asked, such as a folder
        told = IpvaError(error.strerror or str(error), where=error.filename)
        code = _refuse(told, as_json="--json" in words)
    sys.exit(code)


def _refuse(error: IpvaError, *, as_json: bool) -> int:
    """Say in one line what is wrong, where, and what to do next."""
    click.echo(f"ipva: {printable(' '.join(str(error).split()))}", err=True)
    if as_json:
        import json

        places = {"where": error.where, "offset": error.offset_bytes, "remedy": error.advice}
        click.echo(json.dumps({"error": {"message": error.message, **places}}))
    return CANNOT_RUN
