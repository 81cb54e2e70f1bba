"""What the benchmarks share: how large they are."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def object_count() -> int:
    """How many objects; `IPVA_BENCH_OBJECTS=2000` makes a quick run."""
    return int(os.environ.get("IPVA_BENCH_OBJECTS", "20000"))
