"""What every room promises of any image: bounded time and memory, errors that are for people."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ipva_storage.errors import ImageError, IpvaError

SECONDS_MAX: Final = 10.0
GROWTH_MAX_BYTES: Final = 64 << 20
"""How much more memory than any before an input may take; our own limit is four times that."""


class BrokenPromiseError(AssertionError):
    """The product did what it never may."""


def require(is_kept: bool, promise: str) -> None:
    """See that a promise is kept.

    Raises:
        BrokenPromiseError: it is not.
    """
    if not is_kept:
        raise BrokenPromiseError(promise)


def bounded(one: Callable[[bytes], None], data: bytes) -> None:
    """Try one input within the bounds of time and memory, measured in the whole process.

    Raises:
        BrokenPromiseError: it takes too much, or `one` raises it.
    """
    started, before = time.process_time(), _peak_bytes()
    one(data)
    seconds, grown = time.process_time() - started, _peak_bytes() - before
    require(seconds < SECONDS_MAX, f"it takes {seconds:.1f} seconds")
    require(grown < GROWTH_MAX_BYTES, f"it takes {grown} bytes of memory more than any before")


def _peak_bytes() -> int:
    """The most memory that this process ever had."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextlib.contextmanager
def refusals(*, may_name_files: bool = False) -> Iterator[None]:
    """Let an error of the house pass, when it says what a user needs.

    Args:
        may_name_files: it may name a file in an image, whatever letters its name has.
    """
    try:
        yield
    except IpvaError as error:
        is_plain = may_name_files or error.message.isprintable()
        require(is_plain, f"its message is not for people: {error.message!r}")
        is_placed = error.where is not None or not isinstance(error, ImageError)
        require(is_placed, f"an error does not say where: {error}")


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """An empty folder, in memory where the host has that."""
    memory = Path("/dev/shm")
    where = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=where) as found:
        first = _lowest_handle()
        yield Path(found)
        require(_lowest_handle() <= first, "it leaves a file open")


def _lowest_handle() -> int:
    """The number that the next file to be opened gets: one that stays open raises it."""
    handle = os.open(os.devnull, os.O_RDONLY)
    os.close(handle)
    return handle
