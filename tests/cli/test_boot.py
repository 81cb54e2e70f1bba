"""`ipva boot` and `ipva flash plan`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Ipva = Callable[..., Any]


def fill(vm: Path, count: int, size_bytes: int) -> None:
    """Store objects straight through the library."""
    from ipva_storage import appliance, flash
    from ipva_storage.device import Folder

    with_ram = appliance.open(Folder(vm))
    device = with_ram.open_disk(appliance.Role.FLASH, writable=True)
    directory = flash.open(flash.NorDevice(device))
    directory.batch(
        {f"user{index:05d}".encode(): bytes([index % 256]) * size_bytes for index in range(count)}
    )
    directory.close()
    device.flush()
    device.close()


def test_boot_prints_the_traces_of_the_seed(ipva: Ipva, vm: Path) -> None:
    """At 64 MiB the lines are those that the vendor shows, character for character."""
    result = ipva("boot", vm)
    assert result.status == 0
    lines = result.out.splitlines()
    assert "0:0000:030:4 - Intel(R) Core(TM)2 Duo CPU     E8400  @ 3.00GHz" in lines
    assert "0:0000:030:4 - mem(64946176)=61.93MB" in lines
    at = lines.index("0:0000:081:4 - start flashdir FLASHDIR0")
    assert lines[at + 1] == "0:0000:081:4 - fdir: segments=901->224(14.0MB)"


def test_192_mib_give_900_segments(ipva: Ipva, vm: Path) -> None:
    """From 192 MiB on the directory may use all 900 segments."""
    facts = ipva("boot", vm, "--ram", "192", "--json").document
    assert facts["segments"]["physical"] == 901
    assert facts["segments"]["usable"] == 900
    assert "0:0000:081:4 - fdir: segments=901->900(56.2MB)" in facts["trace"]


def test_plan_lists_exactly_what_boot_then_loses(ipva: Ipva, vm: Path) -> None:
    """The plan for 20 MiB and the loss of a boot with it are one list; a second boot is clean."""
    fill(vm, 1000, 2000)
    plan = ipva("flash", "plan", vm, "--ram", "20", "--json")
    assert plan.status == 1
    planned = plan.document["lost"]
    assert 0 < len(planned) < 1000
    dry = ipva("boot", vm, "--ram", "20", "--dry-run", "--json")
    assert dry.document["lost"] == planned
    boot = ipva("boot", vm, "--ram", "20", "--json")
    assert boot.status == 1
    assert boot.document["lost"] == planned
    left = {each["name"] for each in ipva("flash", "ls", vm, "--json").document}
    assert left == {f"user{index:05d}" for index in range(1000)} - set(planned)
    again = ipva("boot", vm, "--ram", "192", "--json")
    assert again.status == 0
    assert again.document["lost"] == []


def test_the_minimum_ram_of_a_plan_is_enough_and_not_too_much(ipva: Ipva, vm: Path) -> None:
    """With the minimum nothing is lost; with a MiB less something is."""
    fill(vm, 1000, 2000)
    plan = ipva("flash", "plan", vm, "--ram", "20", "--json").document
    minimum_mib = plan["minimum_ram"] // 2**20
    assert ipva("flash", "plan", vm, "--ram", minimum_mib).status == 0
    assert ipva("flash", "plan", vm, "--ram", minimum_mib - 1).status == 1


def test_less_than_20_mib_does_not_boot(ipva: Ipva, vm: Path) -> None:
    """Below the minimum the appliance does not start, and says so."""
    result = ipva("boot", vm, "--ram", "19")
    assert result.status in (1, 2)
    assert "20" in result.out + result.err
