"""The error tree: drawn as it is, pickled whole, and readable."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from ipva_storage import errors
from ipva_storage.errors import FatNotFoundError, IpvaError, VmdkError

CLASSES = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, IpvaError) and each.__module__ == errors.__name__
]


def _drawn() -> dict[str, tuple[str | None, str | None]]:
    """Class name to its parent and the built-in it also is, as the docstring draws them."""
    assert errors.__doc__ is not None
    drawing = errors.__doc__.split("```text\n")[1].split("```")[0]
    found: dict[str, tuple[str | None, str | None]] = {}
    path: list[tuple[int, str]] = []
    for line in drawing.splitlines():
        depth = len(line) - len(line.lstrip())
        words = line.strip().lstrip("*+- ").split()
        also = words[words.index("an" if "an" in words else "a") + 1] if "also" in words else None
        while path and path[-1][0] >= depth:
            path.pop()
        found[words[0]] = (path[-1][1] if path else None, also)
        path.append((depth, words[0]))
    return found


def test_drawing_has_every_class() -> None:
    """The docstring draws exactly the classes that there are."""
    assert sorted(_drawn()) == sorted(each.__name__ for each in CLASSES)


@pytest.mark.parametrize("each", CLASSES, ids=lambda each: each.__name__)
def test_drawing_is_true(each: type[IpvaError]) -> None:
    """Each class has the parent, and the built-in beside it, that the drawing gives."""
    parent, also = _drawn()[each.__name__]
    first, *others = each.__bases__
    assert first.__name__ == (parent or "Exception")
    assert [base.__name__ for base in others] == ([also] if also else [])


@pytest.mark.parametrize("each", CLASSES, ids=lambda each: each.__name__)
def test_name_and_docstring(each: type[IpvaError]) -> None:
    """Each ends in `Error` and says in a sentence when it is raised."""
    assert each.__name__.endswith("Error")
    assert each.__doc__


@pytest.mark.parametrize("each", CLASSES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("how", ["pickle", "copy", "deepcopy"])
def test_crosses_a_process_whole(each: type[IpvaError], how: str) -> None:
    """Pickling and copying keep class, message and every keyword."""
    error = each("it is broken", where="disk.vmdk", offset_bytes=512, remedy="mend it")
    duplicate = (lambda each: pickle.loads(pickle.dumps(each))) if how == "pickle" else None
    again = (duplicate or getattr(copy, how))(error)
    assert type(again) is each
    assert str(again) == str(error) == "disk.vmdk: it is broken (at byte 512); mend it"
    assert again.__dict__ == error.__dict__


def test_text_without_keywords() -> None:
    """Without keywords the text is the message alone, for those that are a KeyError too."""
    assert str(errors.FlashNotFoundError("no object “a”")) == "no object “a”"
    assert str(IpvaError("plain")) == "plain"
    assert str(IpvaError("plain", offset_bytes=0)) == "plain (at byte 0)"


def test_caught_as_the_built_in() -> None:
    """Code that catches the built-in catches ours."""
    with pytest.raises(FileNotFoundError):
        raise FatNotFoundError("no file “a”")
    with pytest.raises(KeyError):
        raise errors.FlashNotFoundError("no object “a”")
    with pytest.raises(OSError, match="full"):
        raise errors.NoSpaceError("the store is full")
    with pytest.raises(FileExistsError):
        raise errors.FatExistsError("“a” is there")


def test_cause_is_kept() -> None:
    """The cause stays for those who debug."""
    inner = ValueError("inner")
    with pytest.raises(VmdkError) as caught:
        raise VmdkError("outer") from inner
    assert caught.value.__cause__ is inner
