"""Power cuts at every write of a FAT workload: files that were there stay, byte for byte."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from ipva_storage import fat
from ipva_storage.device import BlockDevice, FaultDevice, MemoryDevice, OverlayDevice, TraceDevice
from ipva_storage.errors import FatError, FatNotFoundError, PowerCutError
from ipva_storage.fat import FatVolume
from ipva_storage.units import KIB, MIB

HARMLESS = {"FAT002", "FAT005", "FAT011", "FAT018", "FAT019", "FAT050"}
"""Unusual header, copies differ, lost clusters, free count, not closed: what a cut may leave."""

OLD = {
    "/Kept as it was.txt": b"kept" * 700,
    "/Replaced by something longer.txt": b"old" * 900,
    "/SHORT.TXT": b"short",
    "/folder one/Deleted later.bin": b"bye" * 2000,
    "/folder one/b.txt": b"b",
    "/Filler.bin": b"f" * 400 * KIB,
}
"""The filler takes clusters enough that the table's sectors before and after it differ."""
NEW = {
    "/Filler.bin": OLD["/Filler.bin"],
    "/Kept as it was.txt": OLD["/Kept as it was.txt"],
    "/Replaced by something longer.txt": b"new" * 3000,
    "/SHORT.TXT": b"",
    "/folder one/b.txt": b"b",
    "/folder one/Second level/Made new.dat": b"new file" * 500,
    **{f"/folder one/One of many files, {n:02}.txt": bytes([n]) * n * 90 for n in range(24)},
}

KINDS = pytest.mark.parametrize(
    ("bits", "size_bytes", "cluster_bytes"),
    [(12, MIB, 512), (16, 5 * MIB, KIB), (32, 34 * MIB, 512)],
    ids=["fat12", "fat16", "fat32"],
)


def make(bits: int, size_bytes: int, cluster_bytes: int) -> MemoryDevice:
    """A volume with the old files, closed."""
    device = MemoryDevice(size_bytes)
    fat.format(device, fat_bits=bits, cluster_bytes=cluster_bytes, volume_id=7)
    with fat.open(device) as volume:
        volume.mkdir("/folder one")
        for path, content in OLD.items():
            volume.write(path, content)
    return device


def change(volume: FatVolume) -> None:
    """Take the volume from the old files to the new ones."""
    volume.write("/Replaced by something longer.txt", NEW["/Replaced by something longer.txt"])
    volume.write("/short.txt", b"")
    volume.delete("/folder one/Deleted later.bin")
    volume.mkdir("/folder one/Second level")
    for path, content in NEW.items():
        if path.startswith("/folder one/") and path not in OLD:
            volume.write(path, content)


def change_in_batch(volume: FatVolume) -> None:
    """The same in one batch."""
    with volume.batch():
        change(volume)


def content_of(volume: FatVolume, path: str) -> bytes | None:
    """The content of a file, or None where there is none."""
    try:
        return volume.read(path)
    except FatNotFoundError:
        return None


def assert_sound(device: BlockDevice, when: str) -> None:
    """Each file is whole, as it was or as it became; the check finds nothing but leftovers."""
    volume = fat.open(device)
    for path in {*OLD, *NEW}:
        found = content_of(volume, path)
        assert found in (OLD.get(path), NEW.get(path)), f"{path} is neither old nor new {when}"
    codes = {finding.code for finding in fat.check(device)}
    assert codes <= HARMLESS, f"{codes - HARMLESS} {when}"


def cuts(work: TraceDevice) -> list[tuple[int, int]]:
    """Every write, and for each the whole sectors of it that may still arrive."""
    writes = [record for record in work.records if record.operation in ("write", "discard")]
    found = []
    for index, record in enumerate(writes):
        sectors = min(record.length_bytes // 512, 3)
        found += [(index, 512 * count) for count in range(sectors)]
    return found


@KINDS
@pytest.mark.parametrize("change_it", [change, change_in_batch])
def test_old_files_survive(
    bits: int, size_bytes: int, cluster_bytes: int, change_it: Callable[[FatVolume], None]
) -> None:
    """A cut at any write, torn at any sector, leaves each file old or new and the check content."""
    base = make(bits, size_bytes, cluster_bytes)
    trace = TraceDevice(OverlayDevice(base))
    with fat.open(trace) as volume:
        change_it(volume)
    points = cuts(trace)
    assert len(points) > 30
    step = 1 if bits == 12 else 2
    for writes, torn_bytes in points[::step]:
        survivor = OverlayDevice(base)
        fault = FaultDevice(survivor, cut_after_writes=writes, torn_bytes=torn_bytes)
        with pytest.raises(PowerCutError):
            work(fault, change_it)
        assert_sound(survivor, f"after write {writes} and {torn_bytes} bytes")


def work(device: BlockDevice, change_it: Callable[[FatVolume], None]) -> None:
    """Open, change, flush."""
    volume = fat.open(device)
    change_it(volume)
    volume.flush()


@KINDS
def test_acknowledged_writes_survive(bits: int, size_bytes: int, cluster_bytes: int) -> None:
    """What a call has returned from is on the medium when the next call is cut."""
    base = make(bits, size_bytes, cluster_bytes)
    for writes in range(0, 60, 3):
        survivor = OverlayDevice(base)
        volume = fat.open(FaultDevice(survivor, cut_after_writes=writes))
        done = []
        with contextlib.suppress(PowerCutError):
            for number in range(12):
                path = f"/folder one/Acknowledged file {number}.txt"
                volume.write(path, bytes([number]) * 1500)
                done.append((path, bytes([number]) * 1500))
        found = fat.open(survivor)
        assert all(found.read(path) == content for path, content in done)


def test_volume_goes_on_after_a_cut() -> None:
    """A volume that was cut takes new files, and only lost clusters and the like remain."""
    base = make(12, MIB, 512)
    for writes in range(0, 90, 7):
        survivor = OverlayDevice(base)
        with contextlib.suppress(PowerCutError):
            work(FaultDevice(survivor, cut_after_writes=writes), change_in_batch)
        with fat.open(survivor) as volume:
            for number in range(20):
                volume.write(f"/folder one/After the cut {number}.txt", b"x" * 700)
        codes = {finding.code for finding in fat.check(survivor)}
        assert codes <= HARMLESS
        assert fat.open(survivor).read("/folder one/After the cut 3.txt") == b"x" * 700


def test_no_write_after_a_failed_one() -> None:
    """A volume whose write failed refuses further changes until it is opened anew."""
    base = make(12, MIB, 512)
    volume = fat.open(FaultDevice(OverlayDevice(base), cut_after_writes=3))
    with pytest.raises(PowerCutError):
        change(volume)
    for attempt in (lambda: volume.write("/again.txt", b""), lambda: volume.delete("/SHORT.TXT")):
        with pytest.raises(FatError, match="open it again"):
            attempt()


def test_same_name_deleted_and_written_in_one_batch() -> None:
    """A name deleted and written in one batch is never there twice."""
    device = MemoryDevice(MIB)
    fat.format(device, cluster_bytes=512, volume_id=7)
    path = "/d/A file with a long name, 7.txt"
    with fat.open(device) as volume:
        volume.mkdir("/d")
        for number in range(8):
            volume.write(f"/d/A file with a long name, {number}.txt", b"old")
        volume.delete("/d/A file with a long name, 0.txt")

    def swap(volume: FatVolume) -> None:
        with volume.batch():
            volume.delete(path)
            volume.write(path, b"new")

    trace = TraceDevice(OverlayDevice(device))
    work(trace, swap)
    for writes in range(trace.work.write_count):
        survivor = OverlayDevice(device)
        with pytest.raises(PowerCutError):
            work(FaultDevice(survivor, cut_after_writes=writes), swap)
        assert {finding.code for finding in fat.check(survivor)} <= HARMLESS
        assert content_of(fat.open(survivor), path) in (b"old", b"new", None)


def test_first_write_marks_the_volume_and_close_clears_it() -> None:
    """The volume says that it is in use from the first change to the close."""
    for bits, size_bytes in ((16, 5 * MIB), (32, 34 * MIB)):
        device = make(bits, size_bytes, 1024 if bits == 16 else 512)
        assert "FAT019" not in {finding.code for finding in fat.check(device)}
        volume = fat.open(device)
        volume.delete("/SHORT.TXT")
        assert "FAT019" in {finding.code for finding in fat.check(device)}
        volume.close()
        assert list(fat.check(device)) == []


def test_batch_has_few_barriers() -> None:
    """A batch of a hundred files costs no more barriers than one file."""
    device = TraceDevice(make(16, 5 * MIB, KIB))
    with fat.open(device) as volume:
        volume.write("/Warm up.txt", b"x")
        device.reset()
        volume.write("/One more.txt", b"x")
        single = device.work.flush_count
        device.reset()
        with volume.batch():
            for number in range(100):
                volume.write(f"/folder one/Batched {number}.txt", b"x" * number)
        assert device.work.flush_count <= single + 1
        assert single == 3
