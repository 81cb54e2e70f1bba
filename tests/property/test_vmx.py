"""Any text is a .vmx, and what is set is read back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipva_storage.appliance import VmxFile

PARTS = st.sampled_from(
    ['a = "1"', "a", " = ", '"', "#", "|22", "|", "memsize", "\r\n", "\n", "\r", "\ufeff", "\x0b"]
)
TEXTS = st.lists(st.one_of(PARTS, st.text(max_size=20))).map("".join)
KEYS = st.text(st.characters(codec="ascii", exclude_characters=" \t=#\r\n"), min_size=1)


@given(TEXTS)
def test_every_text_round_trips(text: str) -> None:
    """Reading and writing changes nothing."""
    assert VmxFile(text).text() == text


@given(st.binary())
def test_every_byte_string_round_trips(data: bytes) -> None:
    """Other encodings come back to the byte."""
    assert VmxFile.decode(data).encode() == data


@given(TEXTS, KEYS, st.text())
def test_what_is_set_is_read_back(text: str, key: str, value: str) -> None:
    """A value set in any file reads back, also after writing it; other values stay."""
    vmx = VmxFile(text)
    before = {line.key.lower(): vmx.get(line.key) for line in vmx if line.key is not None}
    vmx.set(key, value)
    again = VmxFile(vmx.text())
    assert vmx.get(key) == again.get(key) == value
    before[key.lower()] = value
    after = {line.key.lower(): again.get(line.key) for line in again if line.key is not None}
    assert after == before


@given(TEXTS, st.lists(st.tuples(KEYS, st.text(max_size=5)), max_size=5))
def test_setting_twice_adds_no_line(text: str, values: list[tuple[str, str]]) -> None:
    """A second set of the same names replaces and does not append."""
    vmx = VmxFile(text)
    for key, value in values:
        vmx.set(key, value)
    count = len(list(vmx))
    for key, value in values:
        vmx.set(key, value)
    assert len(list(vmx)) == count
