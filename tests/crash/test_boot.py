"""The power goes while the appliance boots with less RAM."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from ipva_storage import appliance, flash
from ipva_storage.appliance import Appliance, Role
from ipva_storage.device import BlockDevice, FaultDevice, Folder, SliceDevice, TraceDevice
from ipva_storage.units import MIB

OBJECTS = {f"cn={n:03}".encode(): bytes([n]) * 3000 for n in range(40)}
RAM_BYTES = 20 * MIB


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An appliance whose objects do not fit at 20 MiB."""
    path = tmp_path_factory.mktemp("made") / "vm"
    machine = appliance.create(Folder(path), cf_bytes=16 * MIB)
    with contextlib.closing(machine.open_disk(Role.FLASH, writable=True)) as device:
        directory = flash.open(nor_of(device), durable=False)
        directory.batch(OBJECTS)
        directory.close()
    return path


def nor_of(device: BlockDevice) -> flash.NorDevice:
    """The flash on its disk."""
    return flash.NorDevice(SliceDevice(device, 0, flash.FLASH_BYTES))


def stored(machine: Appliance) -> dict[bytes, bytes]:
    """What the flash directory holds."""
    with contextlib.closing(machine.open_disk(Role.FLASH)) as device:
        return dict(flash.open(nor_of(device), read_only=True).items())


def wrap_flash(
    monkeypatch: pytest.MonkeyPatch, wrap: type[TraceDevice] | type[FaultDevice], **how: int
) -> list[TraceDevice | FaultDevice]:
    """Let every flash disk that is opened for writing go through a device of that kind."""
    real = Appliance.open_disk
    made: list[TraceDevice | FaultDevice] = []

    def open_disk(self: Appliance, role: Role, *, writable: bool = False) -> BlockDevice:
        device = real(self, role, writable=writable)
        if role is not Role.FLASH or not writable:
            return device
        made.append(wrap(device, **how))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(Appliance, "open_disk", open_disk)
    return made


def test_a_boot_after_a_cut_ends_as_the_first_would_have(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut anywhere in the shrink, the next boot loses what was planned and nothing else."""
    vm = shutil.copytree(made, tmp_path / "whole")
    with monkeypatch.context() as patch:
        traces = wrap_flash(patch, TraceDevice)
        lost = appliance.boot(appliance.open(Folder(vm)), ram_bytes=RAM_BYTES).lost
        (trace,) = traces
        assert isinstance(trace, TraceDevice)
        write_count = trace.work.write_count
    expected = {key: value for key, value in OBJECTS.items() if key not in lost}
    assert 0 < len(lost) < len(OBJECTS)
    cuts = sorted({*range(3), *range(0, write_count, max(1, write_count // 6)), write_count - 1})
    for cut in cuts:
        vm = shutil.copytree(made, tmp_path / str(cut))
        machine = appliance.open(Folder(vm))
        with monkeypatch.context() as patch:
            wrap_flash(patch, FaultDevice, cut_after_writes=cut, torn_bytes=3)
            result = appliance.boot(machine, ram_bytes=RAM_BYTES)
        assert not result.booted
        assert result.error is not None
        assert "the power" in result.error
        left = stored(machine)
        assert expected.items() <= left.items() <= OBJECTS.items(), cut
        again = appliance.boot(machine, ram_bytes=RAM_BYTES)
        assert set(again.lost) == set(left) - set(expected), cut
        assert stored(machine) == expected, cut
        shutil.rmtree(vm)
