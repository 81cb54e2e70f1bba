"""Names: what Windows allows, how it shortens, how it compares.

Source: MS, "Short Directory Entries" and "FAT Long Directory Entries". Confidence: stated, unless a
line says otherwise.
"""

from __future__ import annotations

import functools
import struct
from typing import Final

from ipva_formats import fat as layout
from ipva_storage.errors import UsageError

CODE_PAGE: Final = "cp437"
"""Code page of short names. Confidence: chosen (the PC's; a volume does not say)."""

RESERVED: Final = frozenset('"*/:<>?\\|')
"""Not allowed in any name, besides the control characters. Source: MS, "Long Name Characters"."""
_SHORT_PUNCTUATION: Final = "$%'-_@~`!(){}^#&"
_SHORT_ALLOWED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" + _SHORT_PUNCTUATION)
_LONG_ONLY: Final = frozenset("+,;=[]")
"""Allowed in long names; `_` stands for them in short ones."""
_DEVICE_TAILS_PLAIN: Final = 4
"""How many ~N tails Windows tries on the plain base. Source: Windows 2000 and later.
Confidence: inferred."""
_TAIL_MAX: Final = 999_999


def check_code_page(name: str) -> str:
    """Pass on the name of a code page that short names can be in.

    Raises:
        UsageError: Python knows none of that name.
    """
    try:
        b"A".decode(name)
        b"\xe9".decode(name, "replace")
    except (LookupError, UnicodeError, ValueError) as error:
        raise UsageError(
            f"“{name}” is no code page", remedy="use one like cp437, cp850 or cp1252"
        ) from error
    return name


def validate(name: str) -> str:
    """Pass on a name that Windows would take.

    Raises:
        UsageError: it says what is wrong with it.
    """
    fault = _fault(name)
    if fault is None:
        return name
    shown = name.encode("utf-8", "backslashreplace").decode()
    raise UsageError(f"“{shown[:80]}” cannot be a file name: {fault}", remedy="choose another name")


def _fault(name: str) -> str | None:
    if name in ("", ".", ".."):
        return "it names no file"
    bad = next((char for char in name if char in RESERVED or char < " " or char == "\x7f"), None)
    if bad is not None:
        return f"{bad!r} is reserved"
    if name[-1] in ". ":
        return "it ends in a dot or a space"
    if name.startswith(" "):
        return "it begins with a space"
    units = len(encode_long(name)) // 2
    if units > layout.LONG_NAME_UNITS_MAX:
        return f"it has {units} UTF-16 units, and {layout.LONG_NAME_UNITS_MAX} are the most"
    return None


def encode_long(name: str) -> bytes:
    """A long name as UTF-16, little-endian; lone surrogates pass."""
    return name.encode("utf-16-le", "surrogatepass")


@functools.lru_cache(maxsize=4096)
def fold(name: str) -> str:
    """What two names have in common when only their case differs.

    One UTF-16 unit becomes one, so characters beyond the basic plane stay, and nothing but a–z
    becomes ASCII, as in the table that Windows compares with. Confidence: inferred.
    """
    if name.isascii():
        return name.upper()
    return "".join(map(_fold_character, name))


def _fold_character(char: str) -> str:
    if char > "\uffff":
        return char
    upper = char.upper()
    is_one = len(upper) == 1 and upper <= "\uffff"
    return upper if is_one and (char.isascii() or not upper.isascii()) else char


def checksum(short: bytes) -> int:
    """The byte that ties long-name records to their short name.

    Args:
        short: the 11 bytes of the name on disk.

    Source: MS, "Checksum Generation".
    """
    total = 0
    for byte in short:
        total = ((total >> 1 | (total & 1) << 7) + byte) & 0xFF
    return total


@functools.lru_cache(maxsize=4096)
def show_short(short: bytes, case_flags: int = 0, code_page: str = CODE_PAGE) -> str:
    """A short name as people read it: `BASE.EXT`.

    Args:
        short: the 11 bytes on disk.
        case_flags: Windows NT's lower-case bits.
        code_page: of the bytes over 0x7F.
    """
    if short[0] == layout.MARK_KANJI_E5:
        short = b"\xe5" + short[1:]
    base = short[:8].decode(code_page, "replace").rstrip(" ")
    extension = short[8:].decode(code_page, "replace").rstrip(" ")
    if case_flags & layout.CASE_LOWER_BASE:
        base = base.lower()
    if case_flags & layout.CASE_LOWER_EXTENSION:
        extension = extension.lower()
    return f"{base}.{extension}" if extension else base


def show_label(label: bytes, code_page: str = CODE_PAGE) -> str:
    """The 11 bytes of a label as people read it; nothing where there is none."""
    return label.decode(code_page, "replace").rstrip(" ")


def is_short_valid(short: bytes) -> bool:
    """Whether 11 bytes may be a file's short name, in the widest reading that peers take."""
    if short[0] in (0x20, 0x00, layout.MARK_DELETED):
        return False
    bad = any(byte < 0x20 or byte == 0x7F or chr(byte) in RESERVED for byte in short[1:])
    first = short[0] if short[0] != layout.MARK_KANJI_E5 else 0x41
    return not (bad or first < 0x20 or first == 0x7F or chr(first) in RESERVED or 0x2E in short)


@functools.lru_cache(maxsize=4096)
def fit_short(name: str) -> tuple[bytes, int] | None:
    """The 11 bytes and the case bits of a name that needs no long one, or None.

    Base and extension may each be all upper or all lower case: the bits of Windows NT say which.
    """
    base, dot, extension = name.rpartition(".") if "." in name else (name, "", "")
    if not 1 <= len(base) <= 8 or len(extension) > 3 or (dot and not extension):
        return None
    flags = 0
    for part, bit in (
        (base, layout.CASE_LOWER_BASE),
        (extension, layout.CASE_LOWER_EXTENSION),
    ):
        upper = part.upper()
        if not part.isascii() or not _SHORT_ALLOWED.issuperset(upper):
            return None
        if part != upper:
            if part != part.lower():
                return None
            flags |= bit
    return _pad(base.upper(), extension.upper()), flags


def _pad(base: str, extension: str) -> bytes:
    return base.encode().ljust(8) + extension.encode().ljust(3)


def _basis(name: str) -> tuple[str, str, bool]:
    """Base of at most 8, extension of at most 3, and whether something other than case was lost.

    Characters beyond ASCII become `_`. Confidence: chosen (Windows turns them into the machine's
    code page, which a volume does not name).
    """
    plain = name.replace(" ", "").lstrip(".")
    stem, _, tail = plain.rpartition(".") if "." in plain else (plain, "", "")
    stem = stem.replace(".", "")
    base, extension = _short_characters(stem), _short_characters(tail)
    is_lossy = plain != name or "." in plain[: -len(tail) - 1] or len(base) > 8
    is_lossy = is_lossy or len(extension) > 3 or (base, extension) != (fold(stem), fold(tail))
    return base[:8] or "_", extension[:3], is_lossy or not base


def _short_characters(text: str) -> str:
    return "".join(char if char in _SHORT_ALLOWED else "_" for char in fold(text))


def make_short(name: str, taken: frozenset[bytes] | set[bytes]) -> bytes:
    """A short name for a long one, other than all in `taken`.

    Args:
        name: the long name, valid.
        taken: short names of the folder, 11 bytes each.

    Returns:
        11 bytes: the name itself in upper case where it fits, else a base with a tail: `~1` to
        `~4`, then two letters and four hexadecimal digits of the long name with `~1` and on.

    Raises:
        UsageError: every tail is taken.
    """
    base, extension, is_lossy = _basis(name)
    if not is_lossy:
        plain = _pad(base, extension)
        if plain not in taken:
            return plain
    for number in range(1, _DEVICE_TAILS_PLAIN + 1):
        candidate = _with_tail(base, extension, number)
        if candidate not in taken:
            return candidate
    hashed = f"{base[:2]}{hash_long(name):04X}"
    for number in range(1, _TAIL_MAX + 1):
        candidate = _with_tail(hashed, extension, number)
        if candidate not in taken:
            return candidate
    raise UsageError(f"no short name is left for “{name}” in its folder")


def resembles(name: str, short: bytes) -> bool:
    """Whether a short name, of 11 bytes, was evidently made from a long one; one byte may be wrong.

    Its tail ~N, which depends on what else was in the folder, does not count.
    """
    base, extension, _ = _basis(name)
    text = short.decode("latin-1")
    stem, tilde, _ = text[:8].rstrip(" ").partition("~")
    if not tilde and len(stem) != len(base):
        return False
    pairs = list(zip(stem, base, strict=False)) + list(
        zip(text[8:], extension.ljust(3), strict=True)
    )
    wrong = sum(one != other for one, other in pairs)
    return wrong == 0 or (wrong == 1 and len(stem) >= 3)


def _with_tail(base: str, extension: str, number: int) -> bytes:
    tail = f"~{number}"
    return _pad(base[: 8 - len(tail)] + tail, extension)


def hash_long(name: str) -> int:
    """The 16 bits that Windows puts into a short name after its fourth try.

    Source: published observation of Windows 7 and later. Confidence: inferred; any value would be
    valid, because only uniqueness matters.
    """
    total = 0
    for unit in struct.unpack(f"<{len(encode_long(name)) // 2}H", encode_long(name)):
        total = (total * 0x25 + unit) & 0xFFFF
    signed = (total * 314_159_269) & 0xFFFFFFFF
    if signed & 0x80000000:
        signed = 0x100000000 - signed
    value = signed % 1_000_000_007 & 0xFFFF
    return (
        (value & 0xF000) >> 12 | (value & 0x0F00) >> 4 | (value & 0x00F0) << 4 | (value & 0xF) << 12
    )


_NO_LABEL_CHARACTERS: Final = '"*/:<>?\\|+,;=[].'
"""Source: MS, "Volume label"; what Windows refuses. Confidence: inferred."""


def label_bytes(label: str) -> bytes:
    """The 11 bytes of a volume label.

    Raises:
        UsageError: it is too long, or has a character that labels may not have.
    """
    text = label.strip().upper()
    bad = next(
        (char for char in text if char < " " or not char.isascii() or char in _NO_LABEL_CHARACTERS),
        None,
    )
    if bad is not None or not 1 <= len(text) <= 11:
        what = f"{bad!r} is reserved" if bad else "it takes 1 to 11 characters"
        raise UsageError(f"“{label}” cannot be a label: {what}", remedy="choose another label")
    return text.encode().ljust(11)


def is_label(label: bytes) -> bool:
    """Whether 11 bytes on disk can be a label: no control characters, none that are reserved.

    Lower case and characters beyond ASCII are taken, as other programs write them.
    """
    return label[:1] != b" " and not any(
        byte < 0x20 or byte in (0x7F, 0xFF) or chr(byte) in _NO_LABEL_CHARACTERS for byte in label
    )
