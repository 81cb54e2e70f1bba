"""Refusing to change an image that an earlier job left half changed, while its journal is there.

A job that was killed, or that a power cut ended, leaves its journal: it alone says how the image
was. When another job changes the image first, that journal would mix old and new.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from ipva_storage.errors import IpvaError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def refuse_unfinished(images: Iterable[Path]) -> None:
    """Refuse to change images that a journal in their folder is to put back first.

    Args:
        images: the files that are to be changed.

    Raises:
        UsageError: there is a journal of a job, or of an undo, that did not come to its end.
    """
    files = [os.path.realpath(image) for image in images]
    for folder in dict.fromkeys(os.path.dirname(file) for file in files):  # noqa: PTH120
        for journal, name in _left(folder):
            if os.path.join(folder, name) in files:  # noqa: PTH118 - as an absolute name does, too
                raise UsageError(
                    "an earlier job on it did not come to its end",
                    where=name,
                    remedy=f"take that back first: ipva undo {shlex.quote(journal)}; "
                    "or delete that file, if the image is to stay as it is",
                )


def _left(folder: str) -> Iterator[tuple[str, str]]:
    """The journals of a folder that were left so, each with every image that it names."""
    from ipva_storage.device import RawDevice
    from ipva_storage.device.undo import JournalReader

    for path in _journals(folder):
        try:
            with RawDevice(path, writable=True) as file:  # that of a job at work is locked
                names = JournalReader(file).left_images()
        except IpvaError:  # damaged, so that nothing can be taken back with it
            continue
        for name in names:
            yield path, name


def _journals(folder: str) -> Iterator[str]:
    """Files that begin as a journal does."""
    from ipva_storage.device.undo.records import MAGIC

    try:
        entries = sorted(os.scandir(folder or "."), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        try:
            if entry.is_file() and entry.stat().st_size > len(MAGIC):
                with open(entry.path, "rb") as file:  # noqa: PTH123
                    is_journal = file.read(len(MAGIC)) == MAGIC
                if is_journal:
                    yield entry.path
        except OSError:
            continue
