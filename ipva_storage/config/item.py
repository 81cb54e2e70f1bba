"""Objects of the flash directory as lines of a configuration file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from ipva_storage.config.line import CRLF, Line, same

if TYPE_CHECKING:
    from collections.abc import Iterable

_ITEM: Final = re.compile(
    r"[ \t\ufeff]*mod[ \t]+cmd[ \t]+(FLASHDIR[0-9]+)[ \t]+add-item[ \t]+([0-9]{1,10})[ \t]*(.*)",
    re.DOTALL,
)
_PARENTHESIS: Final = re.compile(r"[()]")


class Attribute(NamedTuple):
    """One `(name=value)` of an object."""

    name: str
    value: str
    """As written: not decoded, parentheses balanced."""


@dataclass(frozen=True, slots=True)
class FlashItem(Line):
    """`mod cmd FLASHDIR0 add-item ID (name=value)…`.

    Source: GitHub innovaphone/soapphp5, sample; wiki "Howto:Encrypt or Decrypt PBX user
    passwords". Confidence: stated (the form), inferred (that the number is a container's).
    """

    directory: str
    """`FLASHDIR0`."""
    container_id: int
    """Such as 101."""
    attributes: tuple[Attribute, ...]
    """In the order of the line; a name may come more than once."""

    @classmethod
    def of(
        cls,
        container_id: int,
        attributes: Iterable[tuple[str, str]],
        *,
        directory: str = "FLASHDIR0",
        ending: str = CRLF,
    ) -> Self:
        """A new line.

        Raises:
            UsageError: the parts do not make a line that reads back as them: a value with an odd
                parenthesis, for one.
        """
        named = tuple(Attribute(name, value) for name, value in attributes)
        body = "".join(f"({name}={value})" for name, value in named)
        text = f"mod cmd {directory} add-item {container_id} {body}".rstrip(" ")
        return same(cls(text, ending, directory, container_id, named), parse_item(text, ending))

    def value(self, name: str) -> str | None:
        """The first value of that name, or None."""
        return next(iter(self.values(name)), None)

    def values(self, name: str) -> list[str]:
        """Every value of that name, in order."""
        return [attribute.value for attribute in self.attributes if attribute.name == name]


def parse_item(text: str, ending: str) -> FlashItem | None:
    """The line as a flash directory object, if it is a well-formed one."""
    match = _ITEM.fullmatch(text)
    if match is None:
        return None
    attributes = parse_attributes(match[3])
    if attributes is None:
        return None
    return FlashItem(text, ending, match[1], int(match[2]), attributes)


def parse_attributes(text: str) -> tuple[Attribute, ...] | None:
    """The attributes of a list `(name=value)(name=value)…`, or None where it is none.

    A value ends at the parenthesis that closes its attribute, so `(pbx=<user cn="a (b)"/>)` is one.
    """
    attributes: list[Attribute] = []
    depth = start = end = 0
    for match in _PARENTHESIS.finditer(text):
        if match[0] == "(":
            if not depth:
                if text[end : match.start()].strip(" \t"):
                    return None
                start = match.end()
            depth += 1
            continue
        depth -= 1
        if depth < 0:
            return None
        if not depth:
            end = match.end()
            name, equals, value = text[start : match.start()].partition("=")
            if not equals or not name or "(" in name:
                return None
            attributes.append(Attribute(name, value))
    return None if depth or text[end:].strip(" \t") else tuple(attributes)
