"""An appliance to break, copied from one that is made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ipva_storage import appliance
from ipva_storage.device import Folder
from ipva_storage.units import MIB


@pytest.fixture(scope="session")
def new_appliance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new appliance with a small CompactFlash; copy it before changing it."""
    path = tmp_path_factory.mktemp("made") / "vm"
    appliance.create(Folder(path), cf_bytes=16 * MIB, mac="00:50:56:00:00:01")
    return path


@pytest.fixture
def vm(new_appliance: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(new_appliance, tmp_path / "vm"))
