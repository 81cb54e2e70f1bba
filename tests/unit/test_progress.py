"""Progress: a job can be listened to, or not."""

from __future__ import annotations

import inspect

from ipva_storage.progress import Progress, silent


def test_silent_is_a_listener() -> None:
    """The default takes what a job tells."""
    listener: Progress = silent
    assert inspect.signature(listener).bind(3, 7)
    listener(3, 7)
