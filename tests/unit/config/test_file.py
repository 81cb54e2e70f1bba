from __future__ import annotations

import pytest

from ipva_storage import config
from ipva_storage.config import Attribute, FlashItem, Line, ModuleConfig, Variable
from ipva_storage.errors import ConfigError, UsageError

SAMPLE = (
    "# saved by hand\r\n"
    "config change IP0 ETH0 /addr 1.2.3.4 /mask 255.255.255.0\r\n"
    "config add  LOG0\n"
    "vars create X509/REQUESTRESPONSE/00000 pb 3082ab\r\n"
    "vars create EMPTY p\r\n"
    'mod cmd FLASHDIR0 add-item 101 (cn=A (B) C)(h323=a)(h323=b)(pbx=<user x="(1)"/>)\r\n'
    "\r\n"
    "mod cmd FLASHDIR0 add-item 101 (cn=odd\r\n"
    "config activate"
)


def test_known_lines_get_fields_and_others_are_kept() -> None:
    """Each kind is recognised; comments, blanks, broken and unknown lines are plain lines."""
    lines = config.parse(SAMPLE).lines
    kinds = [type(line) for line in lines]
    assert kinds == [
        Line, ModuleConfig, ModuleConfig, Variable, Variable, FlashItem, Line, Line, Line,
    ]  # fmt: skip
    assert lines[-1] == Line("config activate", "")


def test_the_text_comes_back_to_the_byte() -> None:
    """Line endings of three kinds, double blanks and a last line without ending survive."""
    assert config.parse(SAMPLE).text() == SAMPLE


def test_fields_say_what_the_line_says() -> None:
    """Module, variable and object lines are taken apart."""
    file = config.parse(SAMPLE)
    first, second = file.modules()
    assert (first.verb, first.module) == ("change", "IP0")
    assert first.arguments == "ETH0 /addr 1.2.3.4 /mask 255.255.255.0"
    assert (second.verb, second.module, second.arguments) == ("add", "LOG0", "")
    binary, empty = file.variables()
    assert (binary.name, binary.flags, binary.value) == (
        "X509/REQUESTRESPONSE/00000",
        "pb",
        "3082ab",
    )
    assert (empty.name, empty.flags, empty.value) == ("EMPTY", "p", "")


def test_attributes_keep_order_repeats_and_nested_parentheses() -> None:
    """An object's attributes are a list, and a value ends where its own parenthesis closes."""
    (item,) = config.parse(SAMPLE).items()
    assert (item.directory, item.container_id) == ("FLASHDIR0", 101)
    assert item.attributes == (
        Attribute("cn", "A (B) C"),
        Attribute("h323", "a"),
        Attribute("h323", "b"),
        Attribute("pbx", '<user x="(1)"/>'),
    )
    assert item.value("h323") == "a"
    assert item.values("h323") == ["a", "b"]
    assert item.value("loc") is None


@pytest.mark.parametrize(
    "text", ["(a=1", "a=1)", "(a=1)x", "x(a=1)", "(=1)", "(a)", "(a(b)=1)", "(a=1))"]
)
def test_a_malformed_attribute_list_is_none(text: str) -> None:
    """What is not a list of attributes is not guessed at."""
    assert config.parse_attributes(text) is None


def test_new_lines_read_back_as_what_they_were_made_from() -> None:
    """A made line is parsed to an equal one."""
    made: list[Line] = [
        ModuleConfig.of("change", "UP1", "/url x"),
        ModuleConfig.of("add", "UP1"),
        Variable.of("UPDATE/CHECK", "p", "1"),
        Variable.of("UPDATE/CHECK", "p"),
        FlashItem.of(101, [("cn", "x"), ("cn", ""), ("pbx", "<a (b)/>")]),
        FlashItem.of(101, []),
    ]
    file = config.ConfigFile(tuple(made))
    assert config.parse(file.text()).lines == file.lines


def test_parts_that_do_not_make_their_line_are_refused() -> None:
    """A value that would end the line or the attribute early cannot be written."""
    with pytest.raises(UsageError):
        FlashItem.of(101, [("cn", "a)b")])
    with pytest.raises(UsageError):
        FlashItem.of(101, [("cn", "a\r\nconfig change X")])
    with pytest.raises(UsageError):
        FlashItem.of(101, [("c=n", "a")])
    with pytest.raises(UsageError):
        Variable.of("two words", "p", "1")
    with pytest.raises(UsageError):
        ModuleConfig.of("remove", "UP1")
    with pytest.raises(UsageError):
        ModuleConfig.of("change", "UP1", " starts with a blank")


def test_the_line_ending_is_the_most_common_one() -> None:
    """New lines can be given the ending of their file."""
    assert config.parse(SAMPLE).line_ending == "\r\n"
    assert config.parse("a\nb\n").line_ending == "\n"
    assert config.parse("").line_ending == "\r\n"


def test_bytes_that_are_no_utf8_survive() -> None:
    """Decoding and encoding again gives the same bytes."""
    data = b"config change X /name Gr\xfc\xdfe\r\n"
    assert config.encode(config.parse(config.decode(data)).text()) == data


def test_a_file_longer_than_any_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The length is checked before the text is taken apart."""
    monkeypatch.setattr("ipva_storage.config.file.LIMIT_BYTES", 10)
    assert config.decode(b"x" * 10) == "x" * 10
    with pytest.raises(ConfigError, match="11 bytes"):
        config.decode(b"x" * 11)


def test_a_long_digit_run_is_no_container() -> None:
    """A number that no container has makes the line an unknown one, and costs nothing."""
    (line,) = config.parse(f"mod cmd FLASHDIR0 add-item {'9' * 5000} (a=b)").lines
    assert type(line) is Line
