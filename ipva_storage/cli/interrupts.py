"""Ctrl-C at a safe point: between two files or pieces, never in the middle of a commit."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C back until the job asks; a second one acts at once.

    Yields:
        What the job calls where it may stop: it raises `KeyboardInterrupt` if Ctrl-C came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    is_asked = False

    def note(*_: object) -> None:
        nonlocal is_asked
        if is_asked:
            raise KeyboardInterrupt
        is_asked = True

    def check() -> None:
        if is_asked:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
