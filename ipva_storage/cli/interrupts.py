"""Ctrl-C at a safe point: between two files or pieces, never in the middle of a commit.

A request to end (SIGTERM) and the end of the terminal (SIGHUP) count as Ctrl-C.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""What ends a job; Windows has no SIGHUP."""


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Let all of them raise `KeyboardInterrupt`, so that nothing is left half-written."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with _handled(stop):
        yield


@contextlib.contextmanager
def _handled(handler: Callable[..., None]) -> Iterator[None]:
    """A handler for those that are not ignored, as under nohup; in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in SIGNALS}
    heard = [each for each, old in before.items() if old not in (signal.SIG_IGN, None)]
    for each in heard:
        signal.signal(each, handler)
    try:
        yield
    finally:
        for each in heard:
            signal.signal(each, before[each])


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C back until the job asks; a second one acts at once.

    Yields:
        What the job calls where it may stop: it raises `KeyboardInterrupt` if Ctrl-C came.
    """
    is_asked = False

    def note(*_: object) -> None:
        nonlocal is_asked
        if is_asked:
            raise KeyboardInterrupt
        is_asked = True

    def check() -> None:
        if is_asked:
            raise KeyboardInterrupt

    with _handled(note):
        yield check
