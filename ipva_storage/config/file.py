"""A configuration file as a whole: read and written without changing a byte."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipva_storage.config.item import FlashItem, parse_item
from ipva_storage.config.line import CRLF, Line, ModuleConfig, Variable
from ipva_storage.config.line import parse_module_config as _parse_module_config
from ipva_storage.config.line import parse_variable as _parse_variable
from ipva_storage.errors import ConfigError
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_BYTES: Final = 256 * MIB
"""The longest file that is read: several times the whole flash. Confidence: chosen."""

_LINE: Final = re.compile(r"([^\r\n]*)(\r\n|\n|\r|\Z)")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """Lines in order. `parse(text).text() == text` for every text."""

    lines: tuple[Line, ...] = ()

    def text(self) -> str:
        """The file, each line with the ending it had."""
        return "".join([line.text + line.ending for line in self.lines])

    def items(self) -> list[FlashItem]:
        """The objects of the flash directory, in order."""
        return [line for line in self.lines if isinstance(line, FlashItem)]

    def variables(self) -> list[Variable]:
        """The `vars create` lines, in order."""
        return [line for line in self.lines if isinstance(line, Variable)]

    def modules(self) -> list[ModuleConfig]:
        """The `config change` and `config add` lines, in order."""
        return [line for line in self.lines if isinstance(line, ModuleConfig)]

    @property
    def line_ending(self) -> str:
        """The most common line ending; CRLF in a file without any."""
        counts = Counter(line.ending for line in self.lines if line.ending)
        return counts.most_common(1)[0][0] if counts else CRLF


def parse(text: str) -> ConfigFile:
    """The lines of a configuration file. Every text is one: unknown lines are kept."""
    return ConfigFile(tuple(_lines(text)))


def _lines(text: str) -> Iterator[Line]:
    for match in _LINE.finditer(text):
        content, ending = match.groups()
        if content or ending:
            yield _line(content, ending)


def _line(text: str, ending: str) -> Line:
    for read in (parse_item, _parse_variable, _parse_module_config):
        line = read(text, ending)
        if line is not None:
            return line
    return Line(text, ending)


def decode(data: bytes) -> str:
    """The text in the bytes of a file; `encode` gives the same bytes again, whatever they are.

    Raises:
        ConfigError: the file is longer than `LIMIT_BYTES`.
    """
    if len(data) > LIMIT_BYTES:
        raise ConfigError(f"a configuration file of {len(data)} bytes is longer than any")
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The bytes of a text that `decode` gave."""
    return text.encode("utf-8", "surrogateescape")
