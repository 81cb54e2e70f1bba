"""Any text is a configuration file, and comes back as it was."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipva_storage import config
from ipva_storage.config import FlashItem, Variable

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n()= \t\ufeff"), min_size=1)
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="\r\n()"))
NESTED = st.recursive(
    PLAIN, lambda inner: st.tuples(PLAIN, inner, PLAIN).map(lambda p: f"{p[0]}({p[1]}){p[2]}")
)
ATTRIBUTES = st.lists(st.tuples(WORDS.filter(str.strip), NESTED), max_size=6)
KNOWN = st.sampled_from(
    ["config change ", "config add IP0", "vars create ", "mod cmd FLASHDIR0 add-item 101 (cn=", ")"]
)
TEXTS = st.lists(
    st.one_of(KNOWN, st.text(max_size=30), st.sampled_from(["\r\n", "\n", "\r", "\x0b", "\u2028"]))
).map("".join)


@given(TEXTS)
def test_every_text_round_trips(text: str) -> None:
    """`parse` followed by `text` changes nothing, and keeps each line on its own."""
    file = config.parse(text)
    assert file.text() == text
    assert config.parse(file.text()) == file
    assert not any(set(line.text) & set("\r\n") for line in file.lines)


@given(st.binary())
def test_every_byte_string_round_trips(data: bytes) -> None:
    """Files that are no UTF-8 come back to the byte."""
    assert config.encode(config.parse(config.decode(data)).text()) == data


@given(st.integers(0, 2**31), ATTRIBUTES)
def test_every_object_round_trips(container_id: int, attributes: list[tuple[str, str]]) -> None:
    """An object made from attributes with balanced values reads back as them."""
    item = FlashItem.of(container_id, attributes)
    (read,) = config.parse(item.text + item.ending).items()
    assert read == item
    assert [tuple(a) for a in read.attributes] == attributes
    assert read.container_id == container_id


@given(WORDS.filter(lambda w: not any(c.isspace() for c in w)), st.sampled_from(["p", "pb"]), PLAIN)
def test_every_variable_round_trips(name: str, flags: str, value: str) -> None:
    """A variable made from its parts reads back as them."""
    value = value.strip(" \t")
    (read,) = config.parse(Variable.of(name, flags, value).text).variables()
    assert (read.name, read.flags, read.value) == (name, flags, value)
