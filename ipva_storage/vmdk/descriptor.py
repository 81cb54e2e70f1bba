"""The text descriptor of a VMDK: parse it, change single values, write it back as it was.

Invariants:

1. `Descriptor.parse(data).encode() == data` for every text that parses: line endings, encoding,
   unknown lines, order and spacing stay.
2. A changed value changes its own line only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ipva_storage.errors import VmdkError
from ipva_storage.units import SECTOR_BYTES, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NO_PARENT_CID: Final = 0xFFFF_FFFF
"""`parentCID` of a disk without a parent. Source: Virtual Disk Format 5.0. Confidence: stated."""

SHOWN_MAX: Final = 80
"""Letters of an image's text that a message repeats. Confidence: chosen."""

_EXTENT: Final = re.compile(
    r'(RW|RDONLY|NOACCESS)\s+([0-9]{1,18})\s+([A-Z0-9_]+)(?:\s+"([^"]*)"\s*(.*))?',
    re.IGNORECASE | re.ASCII,
)
_SIGNATURE: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:#[^\r\n]*Disk DescriptorFile|(?:#[^\r\n]*[\r\n]\s*)*"
    rb"(?:version|CID|createType|encoding)\s*=)",
    re.IGNORECASE,
)
_ENCODING: Final = re.compile(
    rb'(?:^|[\r\n])[ \t]*encoding[ \t]*=[ \t]*"?([A-Za-z0-9_-]{1,40})', re.I
)

_LINE_END: Final = re.compile(r"\r\n|\r|\n")

_CID: Final = re.compile(
    r'(?:^|[\r\n])[ \t\ufeff]*CID[ \t]*=[ \t]*"?(?:0x)?([0-9a-f]{1,8})(?![0-9a-fx])', re.I
)

_CODECS: Final = {
    "utf8": "utf-8",
    "usascii": "latin-1",
    "gbk": "gbk",
    "gb2312": "gbk",
    "gb18030": "gb18030",
    "big5": "big5",
    "shiftjis": "shift_jis",
    "euckr": "euc_kr",
    "eucjp": "euc_jp",
    **{f"windows{page}": f"cp{page}" for page in (*range(1250, 1259), 936, 950, 932, 949)},
    **{f"iso8859{part}": f"iso8859_{part}" for part in range(1, 16) if part != 12},
}


@dataclass(frozen=True, slots=True)
class ExtentLine:
    """One line of the extent description, three to seven fields."""

    access: str
    """`RW`, `RDONLY` or `NOACCESS`."""
    sector_count: int
    kind: str
    """`SPARSE`, `FLAT`, `VMFS`, `ZERO`, …, in capitals."""
    file_name: str | None = None
    offset_sectors: int = 0
    """Where a flat extent starts in its file."""
    rest: tuple[str, ...] = ()
    """Further fields: partition UUID and device identifier of a physical disk."""

    @property
    def size_bytes(self) -> int:
        """Length of the extent."""
        return self.sector_count * SECTOR_BYTES

    def __str__(self) -> str:
        """The line as a descriptor has it."""
        words = [self.access, str(self.sector_count), self.kind]
        if self.file_name is not None:
            words.append(f'"{self.file_name}"')
            if self.kind == "FLAT" or self.offset_sectors or self.rest:
                words.append(str(self.offset_sectors))
        return " ".join((*words, *self.rest))


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A parsed descriptor; the text is the only thing it keeps."""

    text: str
    encoding: str = "utf-8"
    """The Python codec that gives the bytes back."""

    @classmethod
    def parse(cls, data: bytes) -> Descriptor:
        """Take the text up to the first zero byte, in the encoding that it names.

        Raises:
            VmdkError: it is no descriptor: it has neither an extent line nor a `createType`.
        """
        data = data.partition(b"\0")[0]
        encoding = _encoding_of(data)
        found = cls(data.decode(encoding), encoding)
        if not found.create_type and not found.extents:
            raise VmdkError("the descriptor has neither an extent line nor a createType")
        return found

    def encode(self) -> bytes:
        """The bytes of the text."""
        return self.text.encode(self.encoding)

    @property
    def values(self) -> dict[str, str]:
        """All assignments, without their quotation marks; of two with one key the first."""
        found: dict[str, str] = {}
        for key, value in _assignments(self.text):
            found.setdefault(key, value)
        return found

    @property
    def ddb(self) -> dict[str, str]:
        """The disk data base: keys without `ddb.`."""
        return {k[4:]: value for k, value in self.values.items() if k[:4].lower() == "ddb."}

    @property
    def create_type(self) -> str:
        """The kind of disk, such as `monolithicSparse`; empty where it is missing."""
        return self._value("createType") or ""

    @property
    def cid(self) -> int | None:
        """The content identifier, which changes with the content; None where it is missing."""
        return _hexadecimal(self._value("CID"))

    @property
    def parent_cid(self) -> int:
        """The content identifier that the parent must have; `NO_PARENT_CID` without one."""
        found = _hexadecimal(self._value("parentCID"))
        return NO_PARENT_CID if found is None else found

    @property
    def parent_hint(self) -> str | None:
        """File name of the parent, or None."""
        return self._value("parentFileNameHint")

    @property
    def extents(self) -> tuple[ExtentLine, ...]:
        """The extent lines, in order."""
        return tuple(_extent_lines(self.text))

    def with_cid(self, cid: int) -> Descriptor:
        """The same text with another CID, in as many digits as the old one has.

        The length of the text stays, so that the change can be written over the old bytes. A text
        without a CID stays as it is.
        """
        match = _CID.search(self.text)
        if match is None or self.cid is None:
            return self
        start, stop = match.span(1)
        digits = f"{cid:08x}"[-(stop - start) :]
        return replace(self, text=self.text[:start] + digits + self.text[stop:])

    def with_value(self, key: str, value: str) -> Descriptor:
        """The same text with another value of a key, in its own line, or in a new one.

        Only the value changes, and the quotation marks around it stay. A new line goes to the end;
        one of the header goes to its start, and has the spaces and marks that VMware writes,
        because qemu looks for just these letters: `CID=` before any `parentCID=`.
        """
        for start, line in _line_spans(self.text):
            match = re.match(r"(\s*\ufeff?([^\s=#]+)\s*=\s*)(\"[^\"]*\"?|[^\r\n]*)", line)
            if match is None or match[2].lower() != key.lower():
                continue
            quoted = f'"{value}"' if match[3].startswith('"') else value
            at = start + match.start(3)
            text = self.text[:at] + quoted + self.text[start + match.end(3) :]
            return replace(self, text=text)
        end = _line_end(self.text)
        if not key.lower().startswith("ddb."):
            line = f"{key}={value}" if key.lower().endswith("cid") else f'{key}="{value}"'
            at = _header_start(self.text)
            if at < len(self.text):
                return replace(self, text=f"{self.text[:at]}{line}{end}{self.text[at:]}")
        else:
            line = f'{key} = "{value}"'
        head = self.text if not self.text or self.text.endswith(("\n", "\r")) else self.text + end
        return replace(self, text=f"{head}{line}{end}")

    def with_extents(self, lines: Sequence[str]) -> Descriptor:
        """The same text with other extent lines, in the place of the first one."""
        spans = [
            (start, start + len(line))
            for start, line in _line_spans(self.text)
            if _EXTENT.fullmatch(line.removeprefix("\ufeff").strip())
        ]
        if not spans:
            raise VmdkError("the descriptor has no extent line to be changed")
        start, at = spans[0]
        parts = [self.text[:start], _line_end(self.text).join(lines)]
        for start, stop in spans[1:]:
            parts.append(self.text[at:start])
            end = _LINE_END.match(self.text, stop)
            at = stop if end is None else end.end()
        return replace(self, text="".join([*parts, self.text[at:]]))

    def _value(self, key: str) -> str | None:
        for found, value in _assignments(self.text):
            if found.lower() == key.lower():
                return value
        return None


def shown(text: str) -> str:
    """A text of the image as a message may repeat it: short, and nothing that a terminal obeys."""
    found = printable(text[: SHOWN_MAX + 1])
    return found if len(found) <= SHOWN_MAX else f"{found[: SHOWN_MAX - 1]}…"


def is_descriptor(data: bytes) -> bool:
    """Whether a file that starts with `data` is a descriptor."""
    return _SIGNATURE.match(data[:1024]) is not None


def _encoding_of(data: bytes) -> str:
    """The codec that decodes all of `data` and gives the same bytes back."""
    match = _ENCODING.search(data)
    name = match[1].decode().lower().replace("-", "").replace("_", "") if match else ""
    for codec in (_CODECS.get(name, "utf-8"), "utf-8"):
        try:
            if data.decode(codec).encode(codec) == data:
                return codec
        except UnicodeError:
            continue
    return "latin-1"


def _lines(text: str) -> Iterator[str]:
    """Lines by CR, LF or both, and not by the other ends that `splitlines` knows; stripped."""
    for line in text.removeprefix("\ufeff").replace("\r", "\n").split("\n"):
        yield line.strip()


def _line_spans(text: str) -> Iterator[tuple[int, str]]:
    """Where each line starts, and the line without its end."""
    for match in re.finditer(r"[^\r\n]+", text):
        yield match.start(), match[0]


def _header_start(text: str) -> int:
    """Where the first line starts that is neither the signature, the version nor the encoding."""
    for start, line in _line_spans(text):
        if start and not re.match(r"\s*(version|encoding)\s*=", line, re.IGNORECASE):
            return start
    return len(text)


def _line_end(text: str) -> str:
    """How the lines of a text end."""
    match = _LINE_END.search(text)
    return match[0] if match else "\n"


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    for line in _lines(text):
        key, equals, value = line.partition("=")
        key = key.rstrip()
        if equals and key and not key.startswith("#") and '"' not in key:
            value = value.lstrip()
            yield key, value[1:].partition('"')[0] if value.startswith('"') else value


def _extent_lines(text: str) -> Iterator[ExtentLine]:
    for line in _lines(text):
        match = _EXTENT.fullmatch(line)
        if match is None:
            continue
        fields = (match[5] or "").split()
        has_offset = bool(fields) and fields[0].isascii() and fields[0].isdigit()
        yield ExtentLine(
            access=match[1].upper(),
            sector_count=int(match[2]),
            kind=match[3].upper(),
            file_name=match[4],
            offset_sectors=int(fields[0][:18]) if has_offset else 0,
            rest=tuple(fields[1:] if has_offset else fields),
        )


def _hexadecimal(value: str | None) -> int | None:
    if value is None or re.fullmatch(r"(?:0x)?[0-9A-Fa-f]{1,8}", value) is None:
        return None
    return int(value, 16)
