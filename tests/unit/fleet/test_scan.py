"""Many VMs looked at together."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipva_storage import appliance, fleet
from ipva_storage.device import Folder


@pytest.fixture
def fleet_folder(tmp_path: Path) -> Path:
    """Three VMs: a good one, one without its dump disk, and a .vmx that is none."""
    for name in ("a-good", "b-without-dump", "c-nonsense"):
        appliance.create(Folder(tmp_path / name), cf_bytes=16 * 2**20)
    (tmp_path / "b-without-dump" / "hd-dump.vmdk").unlink()
    (tmp_path / "c-nonsense" / "ipva.vmx").write_bytes(b"\xff\x00 no vmx \x01")
    return tmp_path


@pytest.mark.parametrize("process_count", [1, 2])
def test_one_bad_vm_does_not_stop_the_rest(fleet_folder: Path, process_count: int) -> None:
    """Every VM gives its findings or its error, in the order of the paths."""
    scans = list(fleet.scan(fleet_folder, process_count=process_count))
    assert [Path(scan.vm).parent.name for scan in scans] == [
        "a-good",
        "b-without-dump",
        "c-nonsense",
    ]
    good, without_dump, nonsense = scans
    assert good.error is None
    assert [found for found in good.findings if found.severity != "info"] == []
    assert any(found.severity == "error" for found in without_dump.findings)
    assert nonsense.error is not None or nonsense.findings


def test_find_does_not_follow_links_to_folders(fleet_folder: Path) -> None:
    """A link that leads back up does not make the search endless."""
    (fleet_folder / "a-good" / "up").symlink_to(fleet_folder)
    assert len(list(fleet.find(fleet_folder))) == 3
