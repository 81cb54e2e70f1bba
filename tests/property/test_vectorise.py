"""Every fixed-size struct of every format: the table reads what `parse` reads."""

from __future__ import annotations

import importlib
import pkgutil
import random
from typing import Any

import construct as c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ipva_formats
from ipva_formats import dtype_of


def _structs() -> dict[str, c.Construct[Any, Any]]:
    """All module-level structs of all formats, by module and name."""
    found: dict[str, c.Construct[Any, Any]] = {}
    for each in pkgutil.iter_modules(ipva_formats.__path__):
        module = importlib.import_module(f"ipva_formats.{each.name}")
        for name, value in vars(module).items():
            if isinstance(value, c.Construct) and isinstance(_plain(value), c.Struct):
                found[f"{each.name}.{name}"] = value
    return found


def _plain(struct: c.Construct[Any, Any]) -> c.Construct[Any, Any]:
    while isinstance(struct, c.Renamed):
        struct = struct.subcon
    return struct


def _is_fixed(struct: c.Construct[Any, Any]) -> bool:
    try:
        struct.sizeof()
    except c.SizeofError:
        return False
    return True


ALL = _structs()
FIXED = {name: struct for name, struct in ALL.items() if _is_fixed(struct)}


def _integers(
    struct: c.Construct[Any, Any], path: tuple[str, ...] = ()
) -> dict[tuple[str, ...], c.FormatField[Any, Any]]:
    """Paths of the plain integer fields, in nested structs too."""
    found: dict[tuple[str, ...], c.FormatField[Any, Any]] = {}
    plain: Any = _plain(struct)
    for field in plain.subcons:
        inner = _plain(field)
        if field.name is None:
            continue
        if isinstance(inner, c.Struct):
            found |= _integers(inner, (*path, field.name))
        elif isinstance(inner, c.FormatField):
            found[*path, field.name] = inner
    return found


def _bytes(length_bytes: int) -> st.SearchStrategy[bytes]:
    """Any bytes of that length; noise where Hypothesis finds them too many to shrink."""
    if length_bytes <= 2048:
        return st.binary(min_size=length_bytes, max_size=length_bytes)
    return st.integers(0, 2**32 - 1).map(lambda seed: random.Random(seed).randbytes(length_bytes))


def _raw(struct: c.Construct[Any, Any]) -> c.Construct[Any, Any]:
    """The same bytes without constants and checks, so that any bytes parse."""
    plain: Any = _plain(struct)
    fields = []
    for field in plain.subcons:
        inner = _plain(field)
        if isinstance(inner, c.Struct):
            inner = _raw(inner)
        elif not isinstance(inner, c.FormatField):
            inner = c.Bytes(field.sizeof())
        fields.append(field.name / inner if field.name else inner)
    return c.Struct(*fields)


@pytest.mark.parametrize("name", FIXED)
def test_itemsize_is_sizeof(name: str) -> None:
    """The type of a table is exactly as long as its record."""
    assert dtype_of(FIXED[name]).itemsize == FIXED[name].sizeof()


@pytest.mark.parametrize("name", FIXED)
@given(data=st.data())
def test_table_reads_what_parse_reads(name: str, data: st.DataObject) -> None:
    """On any bytes, each integer of each record of a table is the one that Construct parses."""
    struct, record_bytes = FIXED[name], FIXED[name].sizeof()
    content = data.draw(_bytes(2 * record_bytes))
    table = np.frombuffer(content, dtype_of(struct))
    for index in range(2):
        parsed = _raw(struct).parse(content[index * record_bytes : (index + 1) * record_bytes])
        for path in _integers(struct):
            value: Any = table[index]
            expected: Any = parsed
            for step in path:
                value, expected = value[step], expected[step]
            assert value == expected, path


def test_formats_have_structs() -> None:
    """The discovery finds the structs, so that the tests above test something."""
    modules = {name.split(".")[0] for name in FIXED}
    assert len(modules) >= 3
    assert all(_integers(struct) for name, struct in FIXED.items() if "header" in name.lower())
