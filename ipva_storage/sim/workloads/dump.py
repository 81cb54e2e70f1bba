"""Crash records: appended until the ring goes round, and cleared now and then."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from ipva_storage import dump
from ipva_storage.sim.clock import VirtualClock
from ipva_storage.sim.workloads.model import ModelWorkload, difference
from ipva_storage.units import KIB

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping, Sequence

    from ipva_storage.device import BlockDevice
    from ipva_storage.findings import Finding
    from ipva_storage.sim.explore import Step
    from ipva_storage.sim.workloads.model import Contents, Key

TEXT_BYTES_MAX: int = 14 * KIB
"""Longest text: a handful of them fill the ring. Confidence: chosen."""

_KIND = "trap"


class DumpWorkload(ModelWorkload):
    """Appends, with a clear now and then. Contents: text by sequence number.

    Which old records give way to a new one is the store's affair: the contents after each step are
    those of the run without a cut. In flight, records that give way may be gone already.
    """

    name: ClassVar[str] = "dump"
    size_bytes: ClassVar[int] = 72 * KIB
    steps_usual: ClassVar[int] = 40

    def plan(
        self, choice: random.Random, before: Contents
    ) -> tuple[Mapping[Key, bytes | None], Contents]:
        """Append a text of any length, or clear."""
        if len(self.script) % 32 == 31:
            return {"all": None}, before
        text = f"crash {len(self.script)} ".encode()
        short = choice.choice((0, 1, len(text), 500, 512, 513))
        length = choice.choice((short, choice.randrange(TEXT_BYTES_MAX)))
        return {"text": (text * (length // len(text) + 1))[:length]}, before

    def prepare(self, device: BlockDevice) -> None:
        """Format the disk."""
        dump.format(device, log_id=self.seed + 1)

    def steps(self) -> Sequence[Step]:
        """The script; the contents to expect are noted anew while it runs."""
        self.expected = [self.initial()]
        self._clock = VirtualClock(datetime(2026, 3, 1, tzinfo=UTC), seed=self.seed)
        return super().steps()

    def run(self, device: BlockDevice, number: int) -> None:
        """Append or clear; both are durable when they return, `clear` after a flush."""
        log = dump.open(device)
        text = self.script[number].get("text")
        if text is None:
            log.clear()
        else:
            log.append(_KIND, text.decode(), time=self._clock.tick())
        device.flush()
        self.expected.append(_contents(log))

    def contents(self, device: BlockDevice) -> Contents:
        """The texts of all records; an invalid one reads as none."""
        return _contents(dump.open(device))

    def findings(self, device: BlockDevice) -> Iterable[Finding]:
        """What `dump.check` says."""
        return dump.check(device)

    def compare(self, found: Contents, before: Contents, after: Contents) -> list[str]:
        """As before or after, or as before without the oldest that the new record needs."""
        new = [key for key in after if key not in before]
        kept = list(before.items())
        for start in range(len(kept) + 1) if new else range(1):
            rest = dict(kept[start:])
            if found == rest and all(key in rest for key in after if key in before):
                return []
        if found == after:
            return []
        return [f"it holds neither what was before ({difference(found, before)}) nor what is after"]

    def go_on(self, device: BlockDevice) -> list[str]:
        """Another record is kept, beside the newest."""
        log = dump.open(device)
        newest = list(_contents(log).items())[-1:]
        added = log.append(_KIND, "after the cut", time=datetime(2026, 4, 1, tzinfo=UTC))
        again = _contents(dump.open(device))
        kept = [*newest, (added.sequence, b"after the cut")]
        return [] if list(again.items())[-len(kept) :] == kept else ["a new record is not kept"]


def _contents(log: dump.DumpLog) -> Contents:
    return {
        each.sequence: log.read(each.sequence).encode() if each.is_valid else None
        for each in log.records()
    }
