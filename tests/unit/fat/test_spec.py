"""The spec pages say what the definitions do: every field, its offset and its size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import construct
import pytest

from ipva_formats import fat, mbr

PAGES = Path(__file__).parent.parent.parent.parent / "formats" / "spec"


def rows(struct: construct.Construct[Any, Any]) -> list[str]:
    """The start of the row that a page has for each field."""
    while isinstance(struct, construct.Renamed):
        struct = struct.subcon
    assert isinstance(struct, construct.Struct)
    found, at = [], 0
    for field in struct.subcons:
        found.append((at, field.sizeof(), field.name))
        at += field.sizeof()
    return [f"| {offset} | {size} | {name} |" for offset, size, name in found]


@pytest.mark.parametrize(
    ("page", "name", "struct"),
    [
        ("fat.md", "BOOT_SECTOR", fat.BOOT_SECTOR),
        ("fat.md", "BOOT_SECTOR_32", fat.BOOT_SECTOR_32),
        ("fat.md", "FSINFO", fat.FSINFO),
        ("fat.md", "ENTRY", fat.ENTRY),
        ("fat.md", "LONG_ENTRY", fat.LONG_ENTRY),
        ("mbr.md", "MBR", mbr.MBR),
        ("mbr.md", "PARTITION", mbr.PARTITION),
    ],
)
def test_page_matches_definition(
    page: str, name: str, struct: construct.Construct[Any, Any]
) -> None:
    """Each table of a page is the definition of that name, field by field."""
    text = (PAGES / page).read_text()
    section = text.split(f"`{name}`\n", 1)[1].split("\n## ", 1)[0]
    cells = [line.split("|") for line in section.splitlines() if line.startswith("| ")]
    found = [f"|{row[1]}|{row[2]}|{row[4].replace('`', '')}|" for row in cells[2:]]
    assert found == rows(struct)
