"""Flash objects: put, replaced, deleted and changed together, on a flash small enough to reclaim.

Here the flash lies on a disk of sectors. What a NOR chip does to words within a program is explored
by the flash room's own tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from ipva_storage import flash
from ipva_storage.sim.workloads.model import ModelWorkload
from ipva_storage.units import KIB

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping

    from ipva_storage.device import BlockDevice
    from ipva_storage.findings import Finding
    from ipva_storage.sim.workloads.model import Contents, Key

SEGMENT_BYTES: Final = 4 * KIB
SEGMENT_COUNT: Final = 9
KEYS: Final = tuple(f"CFG{number}/NAME".encode() for number in range(10))
IN_FLIGHT_CODES: Final = ("FLASH006",)
LIVE_BYTES_MAX: Final = 14 * KIB
"""How much is stored at most: about half of the flash. Confidence: chosen."""


class FlashWorkload(ModelWorkload):
    """Put, replace, delete and batch. Contents: value by key."""

    name: ClassVar[str] = "flash"
    size_bytes: ClassVar[int] = SEGMENT_BYTES * SEGMENT_COUNT
    steps_usual: ClassVar[int] = 100

    def initial(self) -> Contents:
        """An object that is never changed."""
        return {b"LICENSE": b"kept" * 40}

    def plan(
        self, choice: random.Random, before: Contents
    ) -> tuple[Mapping[Key, bytes | None], Contents]:
        """One change, or a batch of some; values shrink when much is stored."""
        stored = sum(len(value or b"") for value in before.values())
        longest = 3000 if stored < LIVE_BYTES_MAX - 8000 else 40
        count = choice.choice((1, 1, 1, 2, 4))
        changes: dict[Key, bytes | None] = {}
        for key in choice.sample(KEYS, count):
            is_gone = key in before and choice.random() < (0.3 if longest > 40 else 0.7)
            changes[key] = None if is_gone else choice.randbytes(choice.randrange(longest))
        after = {key: value for key, value in before.items() if changes.get(key, b"") is not None}
        return changes, {
            **after,
            **{key: value for key, value in changes.items() if value is not None},
        }

    def prepare(self, device: BlockDevice) -> None:
        """Format the flash and put the first object in."""
        flash.format(_nor(device))
        directory = flash.open(_nor(device))
        for key, value in self.initial().items():
            directory.put(_bytes(key), value or b"")
        directory.close()

    def run(self, device: BlockDevice, number: int) -> None:
        """Make the change; every seventh step in a session that is closed properly."""
        directory = flash.open(_nor(device))
        changes = self.script[number]
        if len(changes) > 1:
            directory.batch({_bytes(key): value for key, value in changes.items()})
        else:
            for key, value in changes.items():
                if value is None:
                    directory.delete(_bytes(key))
                else:
                    directory.put(_bytes(key), value)
        if number % 7 == 6:
            directory.close()

    def contents(self, device: BlockDevice) -> Contents:
        """Every object."""
        return dict(flash.open(_nor(device)).items())

    def findings(self, device: BlockDevice) -> Iterable[Finding]:
        """What `flash.check` says, but for the write in flight.

        Its bytes may land in any order; to the check, which cannot know of a power cut, it looks
        like damage.
        """
        return [each for each in flash.check(_nor(device)) if each.code not in IN_FLIGHT_CODES]

    def go_on(self, device: BlockDevice) -> list[str]:
        """Two more puts are there after another mount, with everything else."""
        directory = flash.open(_nor(device))
        expected = dict(directory.items()) | {b"AFTER": b"works" * 300, KEYS[0]: b"new"}
        directory.put(b"AFTER", b"works" * 300)
        directory.put(KEYS[0], b"new")
        found = dict(flash.open(_nor(device)).items())
        return [] if found == expected else ["what is put after the cut changes other objects"]


def _nor(device: BlockDevice) -> flash.NorDevice:
    return flash.NorDevice(device, segment_bytes=SEGMENT_BYTES, segment_count=SEGMENT_COUNT)


def _bytes(key: Key) -> bytes:
    assert isinstance(key, bytes)
    return key
