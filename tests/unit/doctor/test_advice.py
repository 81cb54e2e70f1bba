from __future__ import annotations

import pytest

from ipva_storage.doctor.advice import fill, fill_image, tidy
from ipva_storage.findings import Finding


@pytest.mark.parametrize(
    ("advice", "filled"),
    [
        ("ipva fs put ipva.bin VM#boot:/ipva.bin", "ipva fs put ipva.bin 'a b'#boot:/ipva.bin"),
        ("ipva disk check DISK", "ipva disk check 'a b'#cf"),
        ("VMware keeps VMs, DISKS and a .VMX", "VMware keeps VMs, DISKS and a .VMX"),
    ],
)
def test_words_are_replaced_whole(advice: str, filled: str) -> None:
    """The placeholders are, and no part of another word is."""
    assert fill(advice, "'a b'", "'a b'#cf") == filled


def test_a_disk_without_a_name_stays() -> None:
    """Where only the VM is known."""
    assert fill("DISK of VM", "demo") == "DISK of demo"


def test_a_finding_is_escaped_throughout() -> None:
    """Every text of it; what is missing stays missing."""
    bad = "\x1b[2J\udca5"
    found = tidy(Finding("VM001", bad, bad, bad, 7, bad))
    good = "\\x1b[2J\\udca5"
    assert found == Finding("VM001", good, good, good, 7, good)
    assert tidy(Finding("VM001", "a", "b")) == Finding("VM001", "a", "b")


def test_the_image_stands_for_the_vm_and_its_disk() -> None:
    """Where an image is looked at alone, every name in the advice is its path."""
    advice = "copy it (ipva disk convert VM#dump x.vmdk), then: ipva dump format --force VM; DISK"
    assert fill_image(advice, "a.img") == (
        "copy it (ipva disk convert a.img x.vmdk), then: ipva dump format --force a.img; a.img"
    )
