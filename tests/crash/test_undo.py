"""A power cut at any write of a job, or of its way back, leaves what an undo restores."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from ipva_storage.device import FaultDevice, MemoryDevice
from ipva_storage.device.base import FileDevice
from ipva_storage.device.undo import Images, UndoDevice, UndoJournal, restore
from ipva_storage.errors import DeviceError, PowerCutError, UndoError
from ipva_storage.testing import power_cuts as power_cuts_module
from ipva_storage.testing.power_cuts import FileLog, PowerCut, power_cuts

KIB = 1024
JOURNAL = "job.undo"


def originals() -> dict[str, bytes]:
    """Two images: some blocks and an end inside one, with zeros in between."""
    chance = random.Random(5)
    first = chance.randbytes(200 * KIB) + bytes(130 * KIB) + chance.randbytes(70 * KIB + 100)
    return {"first.img": first, "second.img": chance.randbytes(90 * KIB)}


@dataclass
class Opened(Images):
    """Images that are open already."""

    files: dict[str, FileDevice] = field(default_factory=dict)

    def open(self, name: str, *, writable: bool) -> FileDevice:
        return self.files[name]

    def modified_us(self, name: str) -> int:
        return 0


def work(files: dict[str, FileDevice], *, is_finished: bool = True) -> None:
    """Write, discard, shrink and grow, over and beyond the old ends, with few flushes."""
    journal = UndoJournal(files[JOURNAL], journal_id=1, time_us=1)
    first, second = (UndoDevice(files[name], journal) for name in ("first.img", "second.img"))
    first.write(10, b"new" * 700)
    first.write(65_000, b"across a border" * 100)
    second.resize(150 * KIB)
    second.write(89 * KIB, b"over the old end" * 200)
    first.discard(3 * KIB, 180 * KIB)
    first.flush()
    first.write(20, b"again, where all is saved")
    first.resize(250 * KIB)
    first.resize(450 * KIB)
    first.write(245 * KIB, b"grown back" * 1000)
    second.flush()
    second.expect([(0, 100), (70_000, 100)])
    second.write(0, b"announced")
    second.write(70_000, b"announced")
    second.resize(10 * KIB)
    if is_finished:
        journal.finish(Opened(files))


def recorded(*, is_finished: bool = True) -> FileLog:
    """The job, on files whose changes are logged."""
    log = FileLog()
    files: dict[str, FileDevice] = {name: log.device(name, c) for name, c in originals().items()}
    work({**files, JOURNAL: log.device(JOURNAL, b"")}, is_finished=is_finished)
    return log


def undone(files: dict[str, bytes]) -> dict[str, bytes]:
    """The images after an undo."""
    media = {name: MemoryDevice(content, name=name) for name, content in files.items()}
    restore(media[JOURNAL], Opened(dict(media)))
    return {name: bytes(media[name].data) for name in files if name != JOURNAL}


def is_restorable(files: dict[str, bytes]) -> bool:
    """Whether an undo brings the images back, or says rightly that there is nothing to do."""
    try:
        return undone(files) == originals()
    except UndoError as error:
        images = {name: files[name] for name in files if name != JOURNAL}
        reasons = ("taken back already", "before its job changed anything")
        return any(each in error.message for each in reasons) and images == originals()


def broken(log: FileLog) -> list[PowerCut]:
    """The cuts after which an undo does not bring the images back."""
    return [cut for cut in power_cuts(log) if not is_restorable(cut.files)]


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_cut_at_any_write_of_the_job(is_finished: bool) -> None:
    """Whatever of journal and images landed, an undo gives the bytes and lengths from before."""
    log = recorded(is_finished=is_finished)
    cuts = list(power_cuts(log))
    assert len(cuts) > 350
    assert len({tuple(cut.files.values()) for cut in cuts}) > 200
    assert broken(log) == []


def test_a_cut_at_any_write_of_the_way_back() -> None:
    """A restore that was cut, wherever, is run again and gives the same; no force is needed."""
    states = [cut.files for cut in power_cuts(recorded()) if cut.how == "all landed"]
    count = 0
    for files in (states[-1], states[len(states) // 2]):
        log = FileLog()
        media: dict[str, FileDevice] = {name: log.device(name, c) for name, c in files.items()}
        restore(media[JOURNAL], Opened(media))
        count += sum(1 for _ in power_cuts(log))
        assert broken(log) == []
    assert count > 150


Breakage = Callable[[pytest.MonkeyPatch], None]


def no_journal_flush(patch: pytest.MonkeyPatch) -> None:
    """The journal is never flushed before the image is changed."""
    flush = power_cuts_module._LoggedDevice.flush

    def only_images(self: power_cuts_module._LoggedDevice) -> None:
        if self.name != JOURNAL:
            flush(self)

    patch.setattr(power_cuts_module._LoggedDevice, "flush", only_images)


def save_after(patch: pytest.MonkeyPatch) -> None:
    """What a write overwrites is saved afterwards."""

    def write(self: UndoDevice, offset_bytes: int, data: bytes) -> None:
        self._device.write(offset_bytes, data)
        self._save([(offset_bytes, offset_bytes + len(data))])

    patch.setattr(UndoDevice, "write", write)


def no_entry_for_growth(patch: pytest.MonkeyPatch) -> None:
    """A change that overwrites nothing is let through without the image's entry."""
    save = UndoDevice._save

    def skip(self: UndoDevice, ranges: list[tuple[int, int]], *, ahead: bool = False) -> None:
        if any(start < min(stop, len(originals()[self.name])) for start, stop in ranges):
            save(self, ranges, ahead=ahead)

    patch.setattr(UndoDevice, "_save", skip)


@pytest.mark.parametrize("breakage", [no_journal_flush, save_after, no_entry_for_growth])
def test_these_cuts_find_a_wrong_order(breakage: Breakage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the barrier, the order or the entry some cut loses bytes, and these tests see it."""
    breakage(monkeypatch)
    log = recorded(is_finished=False)
    monkeypatch.undo()
    assert broken(log)


@pytest.mark.parametrize("torn_bytes", [0, 5, 600])
def test_a_job_on_failing_devices(torn_bytes: int) -> None:
    """With the power cut by devices, of either file, the undo restores as well."""
    before = originals()
    cuts = 0
    for guarded in (*before, JOURNAL):
        for cut in range(60):
            media = {name: MemoryDevice(content, name=name) for name, content in before.items()}
            media[JOURNAL] = MemoryDevice(name=JOURNAL)
            fault = FaultDevice(media[guarded], cut_after_writes=cut, torn_bytes=torn_bytes)
            try:
                work({**media, guarded: fault})
            except PowerCutError:
                cuts += 1
            else:
                break
            assert is_restorable({name: bytes(each.data) for name, each in media.items()})
    assert cuts > 20


def test_a_journal_that_cannot_be_flushed_stops_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the host cannot make the journal durable, no image is changed, then or later."""

    class Full(MemoryDevice):
        flushes = 0

        def flush(self) -> None:
            self.flushes += 1
            if self.flushes == 2:
                raise DeviceError("the host disk is full", where=self.name)

    image = MemoryDevice(b"x" * 1000, name="image")
    device = UndoDevice(image, UndoJournal(Full(name=JOURNAL)))
    with pytest.raises(DeviceError, match="full"):
        device.write(0, b"new")
    with pytest.raises(DeviceError, match="could not be written, so nothing is changed"):
        device.write(0, b"new")
    assert image.data == b"x" * 1000


def test_an_interrupt_inside_a_save_stops_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C between the flush and the account of it leaves a journal that restores."""
    image, file = MemoryDevice(b"x" * 300_000, name="image"), MemoryDevice(name=JOURNAL)
    device = UndoDevice(image, UndoJournal(file))
    device.write(0, b"new")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(UndoJournal, "_account", interrupt)
        with pytest.raises(KeyboardInterrupt):
            device.write(200_000, b"new")
    with pytest.raises(DeviceError, match="nothing is changed"):
        device.write(200_000, b"cleaning up")
    restore(file, Opened({"image": image}))
    assert image.data == b"x" * 300_000
