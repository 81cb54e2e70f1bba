"""How the source looks: sizes, names, docstrings and exports, read from the text itself."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import construct as c
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
ROOTS = ["ipva_storage", "formats/ipva_formats"]
LINES_MAX = 600
FUNCTION_LINES_MAX = 70
NAMES_BANNED = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "core"}
FIELDS_BANNED = {"size", "length", "offset"}

SOURCES = sorted(
    path
    for root in [*ROOTS, "tests", "bench"]
    for path in (REPOSITORY / root).rglob("*.py")
    if "__pycache__" not in path.parts
)
SHIPPED = [
    path for path in SOURCES if path.relative_to(REPOSITORY).parts[0] in ("ipva_storage", "formats")
]
FORMATS = sorted(
    path for path in (REPOSITORY / ROOTS[1]).glob("*.py") if not path.name.startswith("_")
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _id(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _public(tree: ast.Module) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Public functions and classes of a module, and the public methods of those classes."""
    for node in tree.body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield node.name, node
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, Function) and not inner.name.startswith("_"):
                    yield f"{node.name}.{inner.name}", inner


def test_sources_are_found() -> None:
    """The tests below look at something."""
    assert len(SHIPPED) > 20
    assert len(FORMATS) >= 3


@pytest.mark.parametrize("path", SOURCES, ids=_id)
def test_file_is_short(path: Path) -> None:
    """No file is longer than a person reads in one go."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_MAX


@pytest.mark.parametrize("path", SOURCES, ids=_id)
def test_functions_are_short(path: Path) -> None:
    """No function is longer than a screen."""
    long = [
        f"{node.name}: {length} lines"
        for node in ast.walk(_tree(path))
        if isinstance(node, Function)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert long == []


@pytest.mark.parametrize("path", SHIPPED, ids=_id)
def test_everything_public_is_documented(path: Path) -> None:
    """Every module, and every public class, function and method, has a docstring."""
    tree = _tree(path)
    bare = [name for name, node in _public(tree) if not ast.get_docstring(node)]
    assert bare == []
    assert ast.get_docstring(tree)


@pytest.mark.parametrize("path", [path for path in SOURCES if "tests" in path.parts], ids=_id)
def test_every_test_says_what_is_true(path: Path) -> None:
    """Every test has a docstring that is a sentence."""
    bare = [
        node.name
        for node in ast.walk(_tree(path))
        if isinstance(node, Function)
        and node.name.startswith("test_")
        and not re.search(r"\w+ .*[.:]", ast.get_docstring(node) or "")
    ]
    assert bare == []


@pytest.mark.parametrize("path", SHIPPED, ids=_id)
def test_all_is_what_is_there(path: Path) -> None:
    """Where a module lists its exports, each is there, once, and a package lists all it has."""
    tree = _tree(path)
    listed = _literal(tree, "__all__")
    if listed is None:
        return
    bound, shown = set(_bound(tree)), set(_bound(tree, for_type_checker=False))
    lazy = any(isinstance(node, Function) and node.name == "__getattr__" for node in tree.body)
    assert len(listed) == len(set(listed))
    assert lazy or set(listed) <= bound
    if path.name == "__init__.py":
        assert {name for name in shown if not name.startswith("_")} - set(listed) <= set(
            _incidental(tree)
        )


def _literal(tree: ast.Module, name: str) -> list[str] | None:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            assert isinstance(node, ast.Assign)
            return list(ast.literal_eval(node.value))
    return None


def _bound(tree: ast.Module, *, for_type_checker: bool = True) -> Iterator[str]:
    """Names that a module binds at its top, with or without those for the type checker."""
    indent_max = 4 if for_type_checker else 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and node.col_offset <= indent_max:
            yield from (alias.asname or alias.name for alias in node.names)
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def _incidental(tree: ast.Module) -> Iterator[str]:
    """Names imported for the package's own use: modules, and what other packages define."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            package = module.split(".")[0] in ("ipva_storage", "ipva_formats")
            if not package or module.count(".") < 2:
                yield from (alias.asname or alias.name for alias in node.names)


@pytest.mark.parametrize("path", SHIPPED, ids=_id)
def test_names_say_something(path: Path) -> None:
    """No module or package is called by a word that says nothing."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    assert not NAMES_BANNED & set(parts)


@pytest.mark.parametrize("path", SHIPPED, ids=_id)
def test_only_the_command_line_prints(path: Path) -> None:
    """No room but `cli` prints or ends the program."""
    if "cli" in path.parts:
        return
    calls = [
        node.lineno
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id in ("print", "exit", "quit"))
            or ast.unparse(node.func) in ("sys.exit", "os._exit", "sys.stdout.write")
        )
    ]
    assert calls == []


@pytest.mark.parametrize("path", SHIPPED, ids=_id)
def test_nothing_is_left_undone(path: Path) -> None:
    """No stub, no note to oneself, no net that catches everything."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\b(TODO|FIXME|XXX)\b|except Exception\b|except:", text)


@pytest.mark.parametrize("path", SHIPPED, ids=_id)
def test_no_path_of_this_machine(path: Path) -> None:
    """No absolute path of a developer's machine is in what is shipped."""
    assert not re.search(r"[\"' (]/(work|home|tmp|root|Users)/", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FORMATS, ids=lambda path: path.stem)
def test_field_names_carry_a_unit(path: Path) -> None:
    """No field is a bare size, length or offset: the unit is in the name."""
    import importlib

    module = importlib.import_module(f"ipva_formats.{path.stem}")
    names = {name for value in vars(module).values() for name in _field_names(value)}
    assert not names & FIELDS_BANNED


def _field_names(value: Any, depth: int = 0) -> Iterator[str]:
    """Names of all fields of a definition, at any depth."""
    if not isinstance(value, c.Construct) or depth > 12:
        return
    if value.name is not None:
        yield value.name
    for inner in [*getattr(value, "subcons", []), getattr(value, "subcon", None)]:
        yield from _field_names(inner, depth + 1)


@pytest.mark.parametrize("path", FORMATS, ids=lambda path: path.stem)
def test_format_is_documented(path: Path) -> None:
    """Every format has its page, byte by byte, and its row in the catalogue."""
    page = REPOSITORY / "formats" / "spec" / f"{path.stem}.md"
    assert page.is_file()
    text = page.read_text(encoding="utf-8")
    assert re.search(r"\|\s*offset", text, re.IGNORECASE)
    assert re.search(r"\b(stated|inferred|chosen)\b", text)
    catalogue = (REPOSITORY / "formats" / "README.md").read_text(encoding="utf-8")
    assert f"spec/{path.stem}.md" in catalogue
    assert f"ipva_formats.{path.stem}" in catalogue


@pytest.mark.parametrize("path", FORMATS, ids=lambda path: path.stem)
def test_format_names_its_sources(path: Path) -> None:
    """Every format says where it is from and how sure that is."""
    text = path.read_text(encoding="utf-8")
    assert re.search(r"\b[Cc]onfidence\b", text)
