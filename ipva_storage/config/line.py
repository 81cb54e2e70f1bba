"""Lines of a configuration file, and the two simple kinds that have fields.

Invariant: `text` is the line as it stands in the file, and the fields are what it says; so a line
is changed by making another one, never by changing a field.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from ipva_storage.errors import UsageError

_LEAD: Final = r"[ \t\ufeff]*"
_GAP: Final = r"[ \t]+"
_CONFIG: Final = re.compile(
    rf"{_LEAD}config{_GAP}(change|add){_GAP}(\S+)(?:{_GAP}(.*))?", re.DOTALL
)
_VARS: Final = re.compile(
    rf"{_LEAD}vars{_GAP}create{_GAP}(\S+){_GAP}(\S+)(?:{_GAP}(.*))?", re.DOTALL
)
_BREAKS: Final = re.compile(r"[\r\n]")

CRLF: Final = "\r\n"
"""The line ending of a new line.

Source: GitHub innovaphone/php-update-server, saveBackup. Confidence: stated.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A line: of a kind below, or a comment, a blank or an unknown one, which is only kept."""

    text: str
    """The line without its ending."""
    ending: str
    """Its line ending: CRLF, LF, CR, or nothing in a last line that has none."""


_L = TypeVar("_L", bound=Line)


@dataclass(frozen=True, slots=True)
class ModuleConfig(Line):
    """`config change MODULE ARGUMENTS` or `config add …`.

    Source: GitHub innovaphone/php-update-server; vendor page "Concept Innovaphone Virtual
    Appliance", console. Confidence: stated.
    """

    verb: str
    """`change` or `add`."""
    module: str
    """Such as `IP0`."""
    arguments: str
    """The rest of the line, such as `ETH0 /addr 1.2.3.4`."""

    @classmethod
    def of(cls, verb: str, module: str, arguments: str = "", *, ending: str = CRLF) -> Self:
        """A new line.

        Raises:
            UsageError: the parts do not make a line that reads back as them.
        """
        text = f"config {verb} {module} {arguments}" if arguments else f"config {verb} {module}"
        return same(cls(text, ending, verb, module, arguments), parse_module_config(text, ending))


@dataclass(frozen=True, slots=True)
class Variable(Line):
    """`vars create NAME FLAGS VALUE`.

    Source: GitHub innovaphone/php-update-server, getVarDump. Confidence: stated (the form),
    inferred (that the middle word is flags).
    """

    name: str
    """Such as `UPDATE/CHECK`."""
    flags: str
    """Such as `pb`, which is inferred to mean persistent and binary."""
    value: str
    """The rest of the line; lower-case hexadecimal where the value is binary."""

    @classmethod
    def of(cls, name: str, flags: str, value: str = "", *, ending: str = CRLF) -> Self:
        """A new line.

        Raises:
            UsageError: the parts do not make a line that reads back as them.
        """
        text = f"vars create {name} {flags} {value}" if value else f"vars create {name} {flags}"
        return same(cls(text, ending, name, flags, value), parse_variable(text, ending))


def parse_module_config(text: str, ending: str) -> ModuleConfig | None:
    """The line as a `config` line, if it is one."""
    match = _CONFIG.fullmatch(text)
    if match is None:
        return None
    verb, module, arguments = match.groups(default="")
    return ModuleConfig(text, ending, verb, module, arguments)


def parse_variable(text: str, ending: str) -> Variable | None:
    """The line as a `vars create` line, if it is one."""
    match = _VARS.fullmatch(text)
    return None if match is None else Variable(text, ending, *match.groups(default=""))


def same(made: _L, read: Line | None) -> _L:
    """The line that was made, if it reads back as it.

    Raises:
        UsageError: it does not.
    """
    if made != read or _BREAKS.search(made.text):
        raise UsageError(f"“{made.text[:80]}” does not read back as what was asked for")
    return made
