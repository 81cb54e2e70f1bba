"""Short names as Windows makes them, and what names are allowed."""

from __future__ import annotations

import pytest

from ipva_storage.fat import names


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("readme.txt", b"README  TXT"),
        ("ReadMe.Txt", b"README  TXT"),
        ("The quick brown.fox", b"THEQUI~1FOX"),
        ("archive.tar.gz", b"ARCHIV~1GZ "),
        (".bashrc", b"BASHRC~1   "),
        ("a+b.c", b"A_B~1   C  "),
        ("file.html", b"FILE~1  HTM"),
        ("é.txt", b"_~1     TXT"),
        ("...a", b"A~1        "),
        ("no extension", b"NOEXTE~1   "),
    ],
)
def test_short_names(name: str, short: bytes) -> None:
    """The first short name of a long one."""
    assert names.make_short(name, set()) == short


def test_tails_after_the_fourth() -> None:
    """Four plain tails, then four digits of a hash, as Windows does."""
    taken: set[bytes] = set()
    for _ in range(6):
        taken.add(names.make_short("The quick brown.fox", taken))
    number = f"{names.hash_long('The quick brown.fox'):04X}".encode()
    assert {b"THEQUI~%dFOX" % index for index in (1, 2, 3, 4)} < taken
    assert {b"TH%s~%dFOX" % (number, index) for index in (1, 2)} < taken


def test_checksum_of_the_specification() -> None:
    """The checksum rotates right and adds, over all eleven bytes."""
    assert names.checksum(b"\0" * 10 + b"A") == 0x41
    assert names.checksum(b"\x01" + b"\0" * 10) == 1 << (8 - 10 % 8) % 8
    assert names.checksum(b"A          ") != names.checksum(b"B          ")


def test_e5_is_kept_as_05() -> None:
    """A name that begins with byte E5 is kept with 05 and shown right."""
    assert names.show_short(b"\x05BC     TXT", code_page="cp850") == "\u00d5BC.TXT"


def test_fold_is_one_to_one() -> None:
    """Comparison keeps the length, and turns no other letter into an ASCII one."""
    assert names.fold("straße") == "STRAßE"
    assert names.fold("ıſ") == "ıſ"
    assert names.fold("äÖ𝒳") == "ÄÖ𝒳"


@pytest.mark.parametrize("name", ["AUX", "a b.c", "+,;=[]", "~", "한글", "𝒳"])
def test_allowed_names(name: str) -> None:
    """Names that FAT takes, whatever a program makes of them."""
    assert names.validate(name) == name
