"""The command line, called as a user calls it but in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ipva_storage.cli.main import main


class Result(NamedTuple):
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)


Ipva = Callable[..., Result]


@pytest.fixture
def ipva(capfd: pytest.CaptureFixture[str]) -> Ipva:
    """Run `ipva` with arguments and give status, output and errors."""

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        code = ended.value.code
        assert isinstance(code, int)
        return Result(code, out, err)

    return run


@pytest.fixture
def vm(ipva: Ipva, tmp_path: Path) -> Path:
    """A fresh appliance with a small CompactFlash."""
    folder = tmp_path / "vm"
    made = ipva("new", folder, "--cf-size", "64M")
    assert made.status == 0, made.err
    return folder
