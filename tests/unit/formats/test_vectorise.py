"""One Construct definition gives the NumPy type of a whole table, or says why it cannot."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import construct as c
import numpy as np
import pytest

from ipva_formats import NotVectorisable, dtype_of


def test_offsets_follow_the_struct() -> None:
    """Fields stand where the definition puts them; padding is a gap."""
    struct = c.Struct("a" / c.Int8ul, c.Padding(3), "b" / c.Int32ul, "c" / c.Bytes(5), c.Padding(1))
    dtype = dtype_of(struct)
    fields = dtype.fields
    assert fields is not None
    assert {name: fields[name][1] for name in fields} == {"a": 0, "b": 4, "c": 8}
    assert dtype.itemsize == struct.sizeof() == 14


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (c.Int8ul, "u1"),
        (c.Int16ul, "<u2"),
        (c.Int16ub, ">u2"),
        (c.Int32sl, "<i4"),
        (c.Int32sb, ">i4"),
        (c.Int64ul, "<u8"),
        (c.Int64sb, ">i8"),
        (c.Float32l, "<f4"),
        (c.Float64b, ">f8"),
        (c.Enum(c.Int16ul, one=1), "<u2"),
        (c.FlagsEnum(c.Int8ul, one=1), "u1"),
        (c.Const(7, c.Int32ub), ">u4"),
        (c.Const(b"MAGIC"), "V5"),
        (c.Default(c.Int16ul, 3), "<u2"),
        (c.Hex(c.Int32ul), "<u4"),
        (c.Bytes(11), "V11"),
        (c.Int24ul, "V3"),
        (c.PaddedString(8, "ascii"), "V8"),
        (c.BitStruct("x" / c.BitsInteger(12), "y" / c.BitsInteger(4)), "V2"),
    ],
    ids=str,
)
def test_type_of_a_field(field: c.Construct[Any, Any], expected: str) -> None:
    """Each kind of field has the NumPy type of the same bytes and byte order."""
    dtype = dtype_of(c.Struct("x" / field))
    assert dtype["x"] == np.dtype(expected)


def test_arrays_and_nested_structs() -> None:
    """Arrays become subarrays, structs nest, both to any depth."""
    point = c.Struct("x" / c.Int16ul, "y" / c.Int16ub)
    dtype = dtype_of(
        c.Struct("points" / c.Array(3, point), "grid" / c.Array(2, c.Array(4, c.Byte)))
    )
    assert dtype["points"].shape == (3,)
    assert dtype["points"].base["y"] == np.dtype(">u2")
    assert dtype.itemsize == 3 * 4 + 8
    table = np.frombuffer(bytes(range(40)), dtype)
    assert table["grid"].shape == (2, 2, 4)
    assert table["grid"][1, 0].tolist() == [32, 33, 34, 35]


def test_trailing_zeros_are_kept() -> None:
    """Byte strings keep trailing zeros, which NumPy's `S` would drop."""
    table = np.frombuffer(b"ab\0\0", dtype_of(c.Struct("name" / c.Bytes(4))))
    assert bytes(table["name"][0]) == b"ab\0\0"


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("x" / c.If(c.this.a, c.Int8ul), "record.x"),
        ("x" / c.Bytes(c.this.a), "record.x"),
        ("x" / c.GreedyBytes, "record.x"),
        ("x" / c.GreedyRange(c.Int8ul), "record.x"),
        ("x" / c.CString("ascii"), "record.x"),
        ("x" / c.Prefixed(c.Int8ul, c.GreedyBytes), "record.x"),
        ("x" / c.Array(c.this.a, c.Int8ul), "record.x"),
        ("x" / c.Sequence(c.Int8ul, c.Int8ul), "record.x"),
        ("x" / c.Struct("deep" / c.Struct("er" / c.VarInt)), "record.x.deep.er"),
        ("x" / c.Array(2, c.Struct("in" / c.Union(0, "u" / c.Int8ul))), "record.x[].in"),
        (c.Padding(c.this.a), "record.1"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value.subcon).__name__,
)
def test_no_fixed_size(field: c.Construct[Any, Any], path: str) -> None:
    """A field that is conditional, greedy, or sized by another is refused with its path."""
    with pytest.raises(NotVectorisable) as caught:
        dtype_of(c.Struct("a" / c.Int8ul, field))
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")


def test_only_structs() -> None:
    """A lone field is no table."""
    with pytest.raises(NotVectorisable, match="record"):
        dtype_of(c.Int32ul)


def test_name_of_the_struct_begins_the_path() -> None:
    """A struct that has a name is called by it."""
    with pytest.raises(NotVectorisable, match=r"header\.rest: GreedyBytes"):
        dtype_of("header" / c.Struct("rest" / c.GreedyBytes))


def test_same_object_each_time() -> None:
    """The type is derived once."""
    struct = c.Struct("a" / c.Int8ul)
    assert dtype_of(struct) is dtype_of(struct)


def test_importing_formats_does_not_import_numpy() -> None:
    """Importing every format leaves NumPy alone; asking for a table's type imports it."""
    code = (
        "import importlib, pkgutil, sys, ipva_formats\n"
        "names = [each.name for each in pkgutil.iter_modules(ipva_formats.__path__)]\n"
        "for name in names: importlib.import_module(f'ipva_formats.{name}')\n"
        "assert len(names) > 1\n"
        "print('numpy' in sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
