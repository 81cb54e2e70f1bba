"""The medium goes back to each mark, and its digest says what is in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipva_storage.device import BlockDevice
from ipva_storage.sim import Medium
from ipva_storage.testing.device_contract import DeviceContract
from ipva_storage.testing.device_machine import DEVICE_BYTES, DeviceMachine


class TestContract(DeviceContract):
    """A medium is a device like any other."""

    can_resize = True

    def make(self, content: bytes) -> BlockDevice:
        return Medium(content)


class _Machine(DeviceMachine):
    def make(self) -> BlockDevice:
        return Medium(bytes(DEVICE_BYTES))


TestMachine = _Machine.TestCase

_steps = st.lists(
    st.tuples(st.sampled_from(["write", "discard", "resize"]), st.integers(0, 9000), st.binary())
)


def _change(medium: Medium, what: str, number: int, data: bytes) -> None:
    if what == "resize":
        medium.resize(number)
        return
    start = min(number, medium.size_bytes)
    data = data[: medium.size_bytes - start]
    if what == "write":
        medium.write(start, data)
    else:
        medium.discard(start, len(data))


@given(_steps)
def test_rollback_to_every_mark(steps: list[tuple[str, int, bytes]]) -> None:
    """Invariants 1 and 2: each change is one mark, and each mark can be gone back to."""
    medium = Medium(b"\x11" * 5000)
    history = []
    for number, step in enumerate(steps):
        assert medium.mark() == number
        history.append((bytes(medium.data), medium.digest()))
        _change(medium, *step)
    for number in reversed(range(len(steps))):
        medium.rollback(number)
        assert (bytes(medium.data), medium.digest()) == history[number]


@given(_steps, _steps)
def test_digest_is_of_the_content(
    one: list[tuple[str, int, bytes]], other: list[tuple[str, int, bytes]]
) -> None:
    """Invariant 3: the digest is that of a fresh medium of the same content, and differs else."""
    mediums = [Medium(bytes(9000)), Medium(bytes(9000))]
    for medium, steps in zip(mediums, (one, other), strict=True):
        for number, step in enumerate(steps):
            _change(medium, *step)
            if number % 3 == 0:
                medium.digest()
        assert medium.digest() == Medium(medium.data).digest()
    same = mediums[0].data == mediums[1].data
    assert (mediums[0].digest() == mediums[1].digest()) is same


def test_digest_tells_pages_apart() -> None:
    """Equal pages in another order are another content."""
    one, two = b"a" * 4096, b"b" * 4096
    assert Medium(one + two).digest() != Medium(two + one).digest()
    assert Medium(one + one).digest() != Medium(two + two).digest()
    assert Medium(b"").digest() != Medium(b"\0").digest()


def test_settle_forgets() -> None:
    """After settling, marks begin again and what was is kept."""
    medium = Medium(b"old")
    medium.write(0, b"new")
    medium.settle()
    assert medium.mark() == 0
    medium.rollback(0)
    assert medium.data == b"new"
