"""From one Construct definition, the NumPy dtype that reads a whole table of such records."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import construct as c

if TYPE_CHECKING:
    import numpy as np

_CODES: Final = {
    "B": "u1",
    "H": "u2",
    "L": "u4",
    "I": "u4",
    "Q": "u8",
    "b": "i1",
    "h": "i2",
    "l": "i4",
    "i": "i4",
    "q": "i8",
    "e": "f2",
    "f": "f4",
    "d": "f8",
}

_SAME_BYTES: Final[tuple[type[Any], ...]] = (
    c.Renamed,
    c.Const,
    c.Default,
    c.Enum,
    c.FlagsEnum,
    c.Hex,
    c.HexDump,
    c.Rebuild,
    c.Adapter,
)


class NotVectorisable(TypeError):  # noqa: N818 - a statement about the definition
    """A field has no fixed-size NumPy counterpart; the text names its path."""

    def __init__(self, path: str, field: c.Construct[Any, Any]) -> None:
        super().__init__(f"{path}: {type(_plain(field)).__name__} has no fixed NumPy type")
        self.path = path


@functools.cache
def dtype_of(struct: c.Construct[Any, Any]) -> np.dtype[np.void]:
    """The packed structured dtype of a fixed-size `Struct`.

    Args:
        struct: a `Struct`, or one renamed, each field of which has a size that depends on nothing.

    Returns:
        A dtype with `itemsize == struct.sizeof()`. Anonymous fields (padding) become gaps, byte
        strings become void (`V`, because `S` drops trailing zeros), nested structs stay nested.
        The same object every time.

    Raises:
        NotVectorisable: a field is conditional, greedy, or sized by another field.
    """
    return _struct_dtype(struct, getattr(struct, "name", None) or "record")


def _struct_dtype(struct: c.Construct[Any, Any], path: str) -> np.dtype[np.void]:
    import numpy as np

    struct = _plain(struct)
    if not isinstance(struct, c.Struct):
        raise NotVectorisable(path, struct)
    names: list[str] = []
    types: list[Any] = []
    offsets: list[int] = []
    at = 0
    for index, field in enumerate(struct.subcons):
        here = f"{path}.{field.name or index}"
        size = _size(field, here)
        if field.name is not None and size:
            names.append(field.name)
            types.append(_field_dtype(field, here))
            offsets.append(at)
        at += size
    return np.dtype({"names": names, "formats": types, "offsets": offsets, "itemsize": at})


def _plain(field: c.Construct[Any, Any]) -> c.Construct[Any, Any]:
    while isinstance(field, c.Renamed):
        field = field.subcon
    return field


def _size(field: c.Construct[Any, Any], path: str) -> int:
    """Length of a field, in bytes; what fails in a nested one is named by its own path."""
    plain = _plain(field)
    if isinstance(plain, c.Struct):
        return sum(
            _size(each, f"{path}.{each.name or index}") for index, each in enumerate(plain.subcons)
        )
    if isinstance(plain, c.Array) and not callable(plain.count):
        return plain.count * _size(plain.subcon, f"{path}[]")
    try:
        return field.sizeof()
    except (c.SizeofError, KeyError, AttributeError) as error:  # some conditions raise the latter
        raise NotVectorisable(path, field) from error


def _field_dtype(field: c.Construct[Any, Any], path: str) -> Any:
    import numpy as np

    if isinstance(field, c.Struct):
        return _struct_dtype(field, path)
    if isinstance(field, _SAME_BYTES):
        return _field_dtype(field.subcon, path)
    if isinstance(field, c.FormatField):
        order, code = field.fmtstr[0], field.fmtstr[1:]
        return np.dtype(order + _CODES[code])
    if isinstance(field, c.Array) and not callable(field.count):
        return np.dtype((_field_dtype(field.subcon, f"{path}[]"), (field.count,)))
    if isinstance(field, (c.Bytes, c.BytesInteger, c.Padded, c.FixedSized, c.Transformed)):
        return np.dtype((np.void, _size(field, path)))
    raise NotVectorisable(path, field)
