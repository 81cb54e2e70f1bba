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
    """Print operations per second and device work, and commands beside a peer's, a line each."""
    beside = [(name, facts) for name, facts in RESULTS if "peer_seconds" in facts]
    if beside:
        terminalreporter.section("whole commands beside a peer (best round)")
    for name, facts in beside:
        ratio = f"{facts['seconds']:8.3f} s {facts['peer_seconds']:8.3f} s {facts['ratio']:7.3f} ×"
        rest = ", ".join(
            f"{key} {facts[key]}" for key in ("goal", "size", "memory") if key in facts
        )
        terminalreporter.write_line(f"{name:42} {ratio}  {rest}")
    if len(beside) == len(RESULTS):
        return
    terminalreporter.section("objects per second (best round)")
    for name, facts in RESULTS:
        if "peer_seconds" in facts:
            continue
        rest = ", ".join(
            f"{key.replace('_', ' ')} {value}"
            for key, value in facts.items()
            if key != "operations_per_second"
        )
        per_second = facts.get("operations_per_second", 0)
        terminalreporter.write_line(f"{name:42} {per_second:>11,}  {rest}".rstrip())
