"""Fixtures that every kind of test shares."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci",
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("deep", max_examples=10_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

REPOSITORY = Path(__file__).parent.parent

Peer = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def shared_images() -> Path:
    """The folder of real images beside the project; tests skip where it is absent."""
    folder = REPOSITORY.parent / "shared" / "images"
    if not folder.is_dir():
        pytest.skip("the folder of real images is not beside the project")
    return folder


@pytest.fixture(scope="session")
def peer() -> Peer:
    """Run a peer program: `peer("fsck.fat", "-n", path)`; skips where it is not installed."""

    def run(
        program: str, *arguments: object, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
        if found is None:
            pytest.skip(f"{program} is not installed")
        command = [found, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=120)

    return run
