"""What the workloads share: a script of changes, and contents that are compared with a model."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from ipva_storage.findings import Severity
from ipva_storage.sim.explore import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ipva_storage.device import BlockDevice
    from ipva_storage.findings import Finding

    Key = str | bytes | int
    Contents = dict[Key, bytes | None]
    """What is in a store, by name; None is a folder."""


class ModelWorkload(ABC):
    """A store against a dictionary.

    A subclass makes a script (`plan`), the store (`prepare`), runs one change (`run`) and reads
    everything back (`contents`). The promise checked: after a cut the contents are those before or
    those after the step in flight, all of them, and the store can be worked on.
    """

    name: ClassVar[str]
    """What reports call it."""
    size_bytes: ClassVar[int]
    """Length of the device it wants, in bytes."""
    steps_usual: ClassVar[int]
    """How much work is right for it."""

    def __init__(self, *, step_count: int | None = None, seed: int = 0) -> None:
        """Plan the work.

        Args:
            step_count: how many steps.
            seed: chooses what is done in them.
        """
        self.seed = seed
        count = self.steps_usual if step_count is None else step_count
        self.expected: list[Contents] = [self.initial()]
        """Contents before the first step, and after each."""
        self.script: list[Mapping[Key, bytes | None]] = []
        """What each step changes: new contents by name, None to delete."""
        choice = random.Random(f"{self.name}:{seed}")
        for _ in range(count):
            changes, after = self.plan(choice, self.expected[-1])
            self.script.append(changes)
            self.expected.append(after)

    # -- for the subclass ---------------------------------------------------------------------

    def initial(self) -> Contents:
        """What `prepare` puts in: nothing, unless a subclass says otherwise."""
        return {}

    @abstractmethod
    def plan(
        self, choice: random.Random, before: Contents
    ) -> tuple[Mapping[Key, bytes | None], Contents]:
        """The changes of one more step, and the contents after it."""

    @abstractmethod
    def prepare(self, device: BlockDevice) -> None:
        """Make the store, with the initial contents."""

    @abstractmethod
    def run(self, device: BlockDevice, number: int) -> None:
        """Do step `number`; what it did is durable when this returns."""

    @abstractmethod
    def contents(self, device: BlockDevice) -> Contents:
        """Open the store, let it recover, and read everything back."""

    @abstractmethod
    def findings(self, device: BlockDevice) -> Iterable[Finding]:
        """What the store's check says before recovery."""

    def go_on(self, device: BlockDevice) -> list[str]:
        """Work on after recovery; what does not work. Nothing, unless a subclass says otherwise."""
        del device
        return []

    def compare(self, found: Contents, before: Contents, after: Contents) -> list[str]:
        """What is neither as before nor as after the step in flight."""
        if found in (before, after):
            return []
        return [f"it holds neither what was before ({difference(found, before)}) nor what is after"]

    # -- for the explorer ---------------------------------------------------------------------

    def steps(self) -> Sequence[Step]:
        """The script as steps."""
        return [self._step(number) for number in range(len(self.script))]

    def _step(self, number: int) -> Step:
        names = ", ".join(describe(key, value) for key, value in self.script[number].items())
        return Step(f"{number}: {names}", lambda device: self.run(device, number))

    def verify(self, device: BlockDevice, acknowledged_step_count: int) -> list[str]:
        """What does not hold in a crash state."""
        before = self.expected[acknowledged_step_count]
        after = self.expected[min(acknowledged_step_count + 1, len(self.script))]
        problems = [
            f"the check says {finding.code}: {finding.message}"
            for finding in self.findings(device)
            if finding.severity is Severity.ERROR
        ]
        problems += self.compare(self.contents(device), before, after)
        return problems or self.go_on(device)


def describe(key: Key, value: bytes | None) -> str:
    """A change in a few words."""
    name = key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)
    return f"{name} gone" if value is None else f"{name} = {len(value)} bytes"


def difference(found: Contents, expected: Contents) -> str:
    """Where two contents differ, in a few words."""
    names = {
        "missing": [str(key) for key in expected if key not in found],
        "extra": [str(key) for key in found if key not in expected],
        "other": [str(key) for key in found if key in expected and found[key] != expected[key]],
    }
    parts = [f"{what} {', '.join(each[:3])}" for what, each in names.items() if each]
    return "; ".join(parts) or "the same"
