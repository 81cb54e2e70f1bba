"""What the benchmarks share: how large they are, and the summary in operations per second."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS: list[tuple[str, dict[str, Any]]] = []
"""Name of each benchmark that ran, and what it found out beside its time."""


@pytest.fixture(scope="session")
def object_count() -> int:
    """How many objects; `IPVA_BENCH_OBJECTS=2000` makes a quick run."""
    return int(os.environ.get("IPVA_BENCH_OBJECTS", "20000"))


@pytest.fixture(autouse=True)
def _keep_result(request: pytest.FixtureRequest) -> Iterator[None]:
    benchmark: Any = request.getfixturevalue("benchmark")
    yield
    if benchmark.extra_info:
        name = request.node.name.removeprefix("test_").replace("_", " ")
        RESULTS.append((name, benchmark.extra_info))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print operations per second and device work, a line a benchmark."""
    if not RESULTS:
        return
    terminalreporter.section("objects per second (best round)")
    for name, facts in RESULTS:
        rest = ", ".join(
            f"{key.replace('_', ' ')} {value}"
            for key, value in facts.items()
            if key != "operations_per_second"
        )
        per_second = facts.get("operations_per_second", 0)
        terminalreporter.write_line(f"{name:42} {per_second:>11,}  {rest}".rstrip())
