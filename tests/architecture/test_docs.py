"""The docs say what is true: every command, every finding, every decision."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from ipva_storage.cli.main import COMMANDS, program
from ipva_storage.findings import CATALOGUE

DOCS = Path(__file__).parent.parent.parent / "docs"
FINDINGS_HEAD = """# Findings

Every code that a check can give; codes keep their meaning for ever.
Written from `ipva_storage/findings.py`. A test fails when the two differ; to write it anew:
`IPVA_UPDATE_DOCS=1 .venv/bin/pytest tests/architecture/test_docs.py`.

| code | severity | what is wrong | what is at stake |
| --- | --- | --- | --- |
"""


def test_every_command_is_in_the_reference() -> None:
    """Each command and subcommand has a row in the command-line reference."""
    text = (DOCS / "reference" / "cli.md").read_text()
    context = click.Context(program)
    for name in COMMANDS:
        command = program.get_command(context, name)
        assert command is not None
        for words in _words(name, command):
            assert f"`ipva {words} " in text, words


def _words(words: str, command: click.Command) -> Iterator[str]:
    """What calls a command, or each of those in a group."""
    if not isinstance(command, click.Group):
        yield words
        return
    context = click.Context(command)
    for word in command.list_commands(context):
        child = command.get_command(context, word)
        assert child is not None
        yield from _words(f"{words} {word}", child)


def test_every_finding_is_in_the_reference() -> None:
    """The page of findings is the catalogue."""
    rows = "".join(
        f"| {code} | {kind.severity} | {kind.title} | {kind.stake} |\n"
        for code, kind in CATALOGUE.items()
    )
    page = DOCS / "reference" / "findings.md"
    if os.environ.get("IPVA_UPDATE_DOCS"):
        page.write_text(FINDINGS_HEAD + rows)
    assert page.read_text() == FINDINGS_HEAD + rows


def test_every_decision_is_in_the_index() -> None:
    """Each decision record is listed, and each listed one exists."""
    index = (DOCS / "adr" / "README.md").read_text()
    records = sorted(path.name for path in (DOCS / "adr").glob("0*.md"))
    assert records
    for name in records:
        assert f"({name})" in index
    assert index.count("](0") == len(records)
