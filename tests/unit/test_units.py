"""Sizes: read as people write them, written as people read them."""

from __future__ import annotations

import doctest
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipva_storage import units
from ipva_storage.units import GIB, KIB, MIB, TIB, format_size, parse_size, truncate_decimals

FACTORS = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB}


def test_examples_in_docstrings() -> None:
    """The examples in the module's documentation are true, and there are some."""
    result = doctest.testmod(units)
    assert result.attempted >= 5
    assert result.failed == 0


@given(
    number=st.integers(0, 10**6),
    unit=st.sampled_from(sorted(FACTORS)),
    suffix=st.sampled_from(["", "B", "iB", "b", "ib"]),
    gap=st.sampled_from(["", " "]),
    lower=st.booleans(),
)
def test_parse_any_spelling(number: int, unit: str, suffix: str, gap: str, lower: bool) -> None:
    """All spellings of a unit mean the same power of 1024."""
    if not unit:
        suffix = suffix.replace("i", "")
    text = f" {number}{gap}{unit}{suffix} "
    assert parse_size(text.lower() if lower else text) == number * FACTORS[unit]


@given(st.integers(0, 10**6))
def test_plain_number_counts_the_default(number: int) -> None:
    """A plain number counts what the caller says; one with a unit does not."""
    assert parse_size(str(number), default_factor=MIB) == number * MIB
    assert parse_size(f"{number}K", default_factor=MIB) == number * KIB


@pytest.mark.parametrize(
    "text",
    ["", " ", "M", "-1", "-1M", "1.5G", "1,5G", "0x10", "1E3", "64MM", "64 M B", "½", "٣", "²"],
)
def test_no_size(text: str) -> None:
    """What is no size is refused with a message that shows how to write one."""
    with pytest.raises(ValueError, match="is not a size; write it like 64M"):
        parse_size(text)


@pytest.mark.parametrize("text", ["1" * 19, "9" * 5000 + "T"])
def test_absurd_size(text: str) -> None:
    """A number longer than any disk is refused before it is computed."""
    with pytest.raises(ValueError, match="larger than any disk"):
        parse_size(text)


@given(st.text(max_size=12))
def test_parse_any_text(text: str) -> None:
    """Any text is a size, or refused with `ValueError`."""
    try:
        outcome = str(parse_size(text) >= 0)
    except ValueError as error:
        outcome = str(error)
    assert outcome == "True" or f"“{text}”" in outcome


@given(st.integers(0, 2000 * TIB))
def test_format_is_near(size_bytes: int) -> None:
    """What is printed is within half of its last digit, in the largest unit that leaves 1."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9])?) (TiB|GiB|MiB|KiB|B)", format_size(size_bytes))
    assert match is not None
    factor = FACTORS[match[2].rstrip("iB")]
    assert abs(float(match[1]) * factor - size_bytes) <= factor * 0.0501
    assert size_bytes >= factor or size_bytes == 0
    assert factor == TIB or size_bytes < factor * 1024


@given(st.integers(0, 10**12), st.sampled_from([1, 3, KIB, MIB, GIB]), st.integers(0, 4))
def test_truncates_and_never_rounds_up(numerator: int, denominator: int, digits: int) -> None:
    """A cut quotient is at most the true one, and less than one last digit below."""
    text = truncate_decimals(numerator, denominator, digits)
    whole, _, fraction = text.partition(".")
    assert len(fraction) == digits
    scaled = int(whole + fraction)
    assert scaled * denominator <= numerator * 10**digits < (scaled + 1) * denominator


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(64946176, "61.93"), (14680064, "14.00"), (58982400, "56.25")]
)
def test_seed_figures(size_bytes: int, text: str) -> None:
    """The figures of the boot trace come out as the appliance prints them."""
    assert truncate_decimals(size_bytes, MIB, 2) == text
