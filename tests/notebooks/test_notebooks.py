"""The notebooks run, show pictures, and are what their sources say."""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_every_source_has_its_notebook() -> None:
    """Sources and notebooks come in pairs."""
    assert NOTEBOOKS
    assert {path.stem for path in NOTEBOOKS} == {path.stem for path in FOLDER.glob("*.py")}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_is_what_its_source_says(path: Path) -> None:
    """Cell by cell, the executed notebook holds the text of its source."""
    source = jupytext.read(path.with_suffix(".py"))
    notebook = nbformat.read(path, as_version=4)
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in source.cells]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_and_shows_what_it_showed(path: Path) -> None:
    """Run afresh, it draws as many pictures and prints the same results as the kept outputs."""
    kept = nbformat.read(path, as_version=4)
    fresh = nbformat.read(path, as_version=4)
    NotebookClient(fresh, timeout=60, kernel_name="python3").execute()
    assert results(fresh) == results(kept)
    assert pictures(fresh) == pictures(kept) > 0


def results(notebook: nbformat.NotebookNode) -> list[str]:
    """The plain-text result of each cell that gives text and no picture."""
    return [
        output["data"]["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "execute_result" and "image/png" not in output["data"]
    ]


def pictures(notebook: nbformat.NotebookNode) -> int:
    """How many pictures the outputs hold."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)
