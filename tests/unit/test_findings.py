"""The catalogue of findings: stable codes, in order, each said once."""

from __future__ import annotations

import re
from itertools import groupby

import pytest

from ipva_storage.findings import CATALOGUE, Finding, Kind, Severity

ROOMS = ["VMDK", "PART", "FAT", "FLASH", "DUMP", "BOOT", "VM"]
ROWS = list(CATALOGUE.items())


def _room(code: str) -> str:
    return code.rstrip("0123456789")


@pytest.mark.parametrize("code", CATALOGUE)
def test_code_format(code: str) -> None:
    """A code is its room and three digits."""
    assert re.fullmatch(f"({'|'.join(ROOMS)})[0-9]{{3}}", code)


def test_rooms_in_order() -> None:
    """Each room's codes stand together, the rooms in the order of the catalogue's sections."""
    rooms = [room for room, _ in groupby(map(_room, CATALOGUE))]
    assert rooms == [room for room in ROOMS if room in rooms]


def test_codes_in_order() -> None:
    """Within a room the codes rise."""
    for _, codes in groupby(CATALOGUE, _room):
        listed = list(codes)
        assert listed == sorted(listed)


@pytest.mark.parametrize(("code", "kind"), ROWS, ids=list(CATALOGUE))
def test_kind_is_complete(code: str, kind: Kind) -> None:
    """Each says what is wrong and what it means, in plain sentences without a full stop."""
    assert isinstance(kind.severity, Severity)
    for text in (kind.title, kind.stake):
        assert text == text.strip() != ""
        assert not text.endswith(".")
        assert len(text) <= 160


def test_titles_are_unique_in_their_room() -> None:
    """No two codes of a room have the same title."""
    titles = [(_room(code), kind.title.casefold()) for code, kind in ROWS]
    assert len(set(titles)) == len(titles)


def test_unknown_code_refused() -> None:
    """A finding cannot carry a code that is not in the catalogue."""
    with pytest.raises(ValueError, match="VMDK999 is not in the catalogue"):
        Finding("VMDK999", "header", "it is wrong")


def test_finding_takes_its_severity_from_the_catalogue() -> None:
    """A finding matters as much as its code says."""
    code, kind = ROWS[0]
    assert Finding(code, "header", "it is wrong").severity is kind.severity
