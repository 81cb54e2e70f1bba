"""Appliances with damaged files: a boot tells, and never fails in another way."""

from __future__ import annotations

import contextlib
import random
import shutil
from pathlib import Path

import pytest

from ipva_storage import appliance, dump
from ipva_storage.appliance import Role
from ipva_storage.device import Folder
from ipva_storage.errors import IpvaError
from ipva_storage.units import MIB

DAMAGES = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An appliance to damage copies of."""
    path = tmp_path_factory.mktemp("made") / "vm"
    appliance.create(Folder(path), cf_bytes=16 * MIB)
    return path


def damage(content: bytearray, chance: random.Random) -> None:
    """Cut it short, or change some bytes, mostly near its start."""
    if chance.random() < 0.2:
        del content[chance.choice([chance.randrange(len(content)), chance.randrange(2048)]) :]
        return
    for _ in range(chance.choice([1, 8, 64])):
        at = chance.randrange(min(len(content), chance.choice([512, 4096, len(content)])))
        content[at] = chance.choice([0, 255, content[at] ^ 1 << chance.randrange(8)])


def test_a_boot_of_a_damaged_machine_tells_what_is_wrong(made: Path, tmp_path: Path) -> None:
    """A boot gives a trace or an error, a disk opens or raises one of ours, whatever the bytes."""
    chance = random.Random(2013)
    outcomes = set()
    for index in range(DAMAGES):
        vm = shutil.copytree(made, tmp_path / str(index))
        path = chance.choice(sorted(vm.iterdir()))
        content = bytearray(path.read_bytes())
        damage(content, chance)
        path.write_bytes(content)
        machine = appliance.open(Folder(vm))
        result = appliance.boot(machine, ram_bytes=chance.choice([None, 20 * MIB]))
        assert result.booted is (result.error is None)
        outcomes.add(result.booted)
        read_dump(machine)
        shutil.rmtree(vm)
    assert outcomes == {True, False}


def read_dump(machine: appliance.Appliance) -> None:
    """Look at the dump disk in every way there is."""
    try:
        device = machine.open_disk(Role.DUMP)
    except IpvaError:
        return
    with contextlib.closing(device), contextlib.suppress(IpvaError):
        list(dump.check(device))
        assert dump.open(device).records() == []
