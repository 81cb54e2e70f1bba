"""What holds for any VMDK, however bad: one input is one disk, looked at and worked on.

Nothing but errors of the house comes out, within bounded time and memory, and:

1. Two reads agree; a map covers the disk, and its holes are zeros.
2. A disk whose check is clean reads throughout.
3. Salvaging never fails once it has begun, and hands out nothing but what the disk reads as.
4. Dry runs change nothing, and say what a run does. A repair done again has nothing to do.
5. No job changes what a disk that could be read whole reads as, but as it was told to; a repair
   may, where the check called it damaged.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ipva_storage import vmdk
from ipva_storage.device import BlockDevice, Extent, Folder, SalvageDevice, copy, is_zero, read
from ipva_storage.errors import DeviceError, IpvaError
from ipva_storage.findings import Finding, Severity
from ipva_storage.vmdk.repairing.text import descriptor_name
from tests.fuzz.promises import BrokenPromiseError, place, refusals, require
from tests.fuzz.vmdk_inputs import Case, case_of

WHOLE_BYTES: Final = 1 << 20
"""The largest disk that is read whole; of larger ones some pieces are read."""
WORK_BYTES: Final = 1 << 28
"""The largest disk that is written to: what writing takes grows with the disk, and lawfully so."""
PIECE_BYTES: Final = 1 << 16
RUNS_MAX: Final = 64
MAP_MAX: Final = 20_000
STEP_BYTES: Final = 1536
"""What the second reading takes at once; no power of two, so that it crosses every border."""
AMBIGUOUS: Final = frozenset({"VMDK004", "VMDK009", "VMDK028", "VMDK034"})
"""Warnings that two parts of the file tell different disks: a repair takes the likelier one."""
PARENTS: Final = ("base.vmdk", "mid.vmdk", "disk.vmdk")
"""Disks that may be below another one in an input."""
PATCH: Final = b"written by a job"

Piece = tuple[int, bytes | None]
"""A place, and what is there, or None where it cannot be read."""
Found = tuple[Finding, ...]


@dataclass(frozen=True)
class Disk:
    """A disk as it was found, before any job."""

    folder: Folder
    name: str
    number: int
    findings: Found | None
    """What the check said; None where it refused."""
    content: bytes | None
    """All of it, where it is small and can be read."""
    size_bytes: int | None
    is_sound: bool
    """Whether the check has nothing against it, nor against any disk below it."""


def one(data: bytes) -> None:
    """Make the disk that a fuzzer's bytes mean, and see that every promise is kept.

    Raises:
        BrokenPromiseError: one is not; or any error that is none of the house.
    """
    case = case_of(data)
    with place() as path:
        folder = Folder(path)
        _lay_out(path, case)
        before = _stats(path)
        disk = _looked_at(folder, case.name, case.number)
        require(_stats(path) == before, "looking at it changed it")
        JOBS[case.job % len(JOBS)](disk)


def _lay_out(path: Path, case: Case) -> None:
    for name, content in case.files.items():
        with (path / name).open("wb") as file:
            file.write(content)
            if case.holes.get(name, 0) > len(content):
                file.truncate(case.holes[name])


def _stats(path: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file: what a job that writes nothing leaves alone."""
    with os.scandir(path) as entries:
        stats = {entry.name: entry.stat() for entry in entries}
    return {name: (each.st_size, each.st_mtime_ns) for name, each in stats.items()}


def _looked_at(folder: Folder, name: str, number: int = 0) -> Disk:
    findings = _checked(folder, name)
    pieces: list[Piece] | None = None
    size_bytes: int | None = None
    is_forbidden = False
    with refusals(), vmdk.open(folder.open(name), folder) as disk:
        size_bytes = disk.size_bytes
        pieces = _read_in_two_ways(folder, name, disk)
        is_forbidden = _is_forbidden(disk)
        _told(disk)
    _salvaged(folder, name, pieces)
    is_sound = _is_sound(folder, name, findings)
    if is_sound and not is_forbidden:
        require(pieces is not None, "its check is clean, and it does not open")
        bad = [at for at, data in pieces or () if data is None]
        require(not bad, f"its check is clean, and it does not read at {bad[:3]}")
    return Disk(folder, name, number, findings, _whole(size_bytes, pieces), size_bytes, is_sound)


def _is_forbidden(disk: vmdk.VmdkDevice | None) -> bool:
    """Whether its descriptor forbids reading a part of a disk, or of one below it."""
    while disk is not None:
        if any(line.access == "NOACCESS" for line in disk.descriptor.extents):
            return True
        disk = disk.parent
    return False


def _told(disk: vmdk.VmdkDevice) -> None:
    """Everything that `info` asks."""
    require(disk.file_size_bytes >= 0, "its files have a length")
    for text in (disk.subformat, *disk.descriptor.ddb.values()):
        require(isinstance(text, str), "a value is no text")


def _checked(folder: Folder, name: str) -> Found | None:
    """What the check says, in bounded number and in words; None where it refuses."""
    found: Found | None = None
    with refusals(), folder.open(name) as raw:
        found = tuple(vmdk.check(raw, folder))
        require(found == tuple(vmdk.check(raw, folder)), "two checks differ")
    for each in found or ():
        require(each.message.isprintable(), f"a finding is not for people: {each.message!r}")
        require(each.where is not None, f"a finding does not say where: {each}")
    require(len(found or ()) < 2000, f"there are {len(found or ())} findings")
    return found


def _codes(disk: Disk) -> set[str]:
    return {each.code for each in disk.findings or ()}


def _errors(findings: Found) -> set[str]:
    return {each.code for each in findings if each.severity is Severity.ERROR}


def _is_sound(folder: Folder, name: str, findings: Found | None) -> bool:
    """Whether the check has nothing against a disk, nor against any below it."""
    if findings is None or _errors(findings):
        return False
    if any(each.code == "VMDK034" for each in findings):
        return False
    try:
        return not any(
            _errors(_whole_check(folder, other))
            for other in set(PARENTS).intersection(folder.names()) - {name}
        )
    except IpvaError:
        return False


def _whole_check(folder: Folder, name: str) -> Found:
    with folder.open(name) as raw:
        return tuple(vmdk.check(raw, folder)) if vmdk.is_vmdk(raw) else ()


def _read_in_two_ways(folder: Folder, name: str, disk: BlockDevice) -> list[Piece]:
    """The pieces of a disk, read at once, and in small steps from a second handle."""
    found: list[Piece] = []
    runs = list(_mapped(disk))
    with vmdk.open(folder.open(name), folder) as other:
        for at, length, is_data in _pieces(runs, disk.size_bytes):
            whole = _bytes_at(disk, at, length)
            parts = [
                _bytes_at(other, start, min(STEP_BYTES, at + length - start))
                for start in range(at, at + length, STEP_BYTES)
            ]
            steps = None if None in parts else b"".join(part for part in parts if part is not None)
            require(whole == steps, f"two reads of {length} bytes at {at} differ")
            require(is_data or whole is None or is_zero(whole), f"a hole at {at} is no zeros")
            found.append((at, whole))
    return found


def _mapped(disk: BlockDevice) -> Iterator[tuple[int, int, bool]]:
    """The first runs of a map that covers the disk."""
    at, before, count = 0, None, 0
    try:
        for run in disk.extents():
            require(run.offset_bytes == at, f"the map has a gap or an overlap at {at}")
            require(run.length_bytes > 0, f"the map has an empty run at {at}")
            require(run.is_data is not before, f"the map has two equal runs in a row at {at}")
            at, before, count = at + run.length_bytes, run.is_data, count + 1
            if count <= RUNS_MAX:
                yield run.offset_bytes, run.length_bytes, run.is_data
            if count == MAP_MAX:
                return
    except IpvaError as error:
        require(error.where is not None, f"an error does not say where: {error}")
        if count == 0:
            yield 0, disk.size_bytes, True
        return
    require(at == disk.size_bytes, f"the map ends at {at}, the disk at {disk.size_bytes}")


def _pieces(runs: list[tuple[int, int, bool]], size_bytes: int) -> Iterator[tuple[int, int, bool]]:
    """All of a small disk; of a large one the start and the end of some runs."""
    for at, length, is_data in runs:
        if size_bytes <= WHOLE_BYTES:
            for start in range(at, at + length, PIECE_BYTES):
                yield start, min(PIECE_BYTES, at + length - start), is_data
        else:
            yield at, min(PIECE_BYTES // 8, length), is_data
            yield at + length - min(512, length), min(512, length), is_data


def _bytes_at(device: BlockDevice, at: int, length: int) -> bytes | None:
    with refusals():
        return read(device, at, length)
    return None


def _whole(size_bytes: int | None, pieces: list[Piece] | None) -> bytes | None:
    """All of a disk, where it is small and was read."""
    if size_bytes is None or size_bytes > WHOLE_BYTES or pieces is None:
        return None
    parts = [data for _, data in pieces if data is not None]
    return b"".join(parts) if sum(map(len, parts)) == size_bytes else None


def _salvaged(folder: Folder, name: str, pieces: list[Piece] | None) -> None:
    """What is left of a disk opens where it is said to be there, unless it is elsewhere."""
    has_remains, remains = False, None
    with refusals():
        has_remains = vmdk.has_remains(folder, name)
    with refusals():
        try:
            remains = vmdk.open_remains(folder, name)
        except DeviceError:
            return
    require(remains is not None or not has_remains, "it has remains, and they do not open")
    if remains is not None:
        with remains:
            _salvage(SalvageDevice(remains, piece_bytes=512), pieces)


def _salvage(device: SalvageDevice, pieces: list[Piece] | None) -> None:
    """Never an error, and nothing but what the disk reads as."""
    known = dict(pieces or ())
    if pieces is None:
        runs = [(run.offset_bytes, run.length_bytes, run.is_data) for run in _some(device)]
        places = [(at, length) for at, length, _ in _pieces(runs, device.size_bytes)]
    else:
        places = [(at, len(data)) for at, data in pieces if data is not None]
    for at, length in places[:RUNS_MAX]:
        try:
            data = read(device, at, length)
        except IpvaError as error:
            raise BrokenPromiseError(f"salvaging fails at {at}: {error}") from error
        require(known.get(at) in (None, data), f"salvaging reads something else at {at}")
    require(pieces is None or not device.lost, "salvaging loses what can be read")


def _some(device: BlockDevice) -> list[Extent]:
    found: list[Extent] = []
    for run in device.extents():
        found.append(run)
        if len(found) == RUNS_MAX:
            break
    return found


# -- jobs -------------------------------------------------------------------------------------


def do_nothing(_: Disk) -> None:
    """Looking at it is enough."""


def repair(disk: Disk) -> None:
    """A dry run, a run, and another one, which has nothing to do."""
    before = _stats(disk.folder.path)
    planned = done = again = None
    with refusals():
        planned = vmdk.repair(disk.folder, disk.name, dry_run=True)
    require(_stats(disk.folder.path) == before, "a dry repair changed something")
    with refusals():
        done = vmdk.repair(disk.folder, disk.name)
    is_same = _stats(disk.folder.path) == before
    if planned is None or done is None:
        require(planned is None and done is None, "a repair and its dry run disagree")
        require(is_same, "a repair that was refused changed something")
        return
    require(_outline(planned) == _outline(done), "a repair does not do what its dry run says")
    require(done.is_changed != is_same, "a repair does not say whether it changed something")
    after = _looked_at(disk.folder, disk.name)
    require(_left_is_true(disk, done, after), f"left are {after.findings}, it says {done.left}")
    with refusals():
        again = vmdk.repair(disk.folder, disk.name)
    require(again is not None, "a disk cannot be repaired again")
    require(again is None or not again.is_changed, f"a repair again has something to do: {again}")
    if disk.is_sound and disk.content is not None and not _codes(disk) & AMBIGUOUS:
        require(after.content is not None, "a repair breaks what could be read")
        kept = _without(disk.content, done), _without(after.content or b"", done)
        length = min(map(len, kept))
        require(kept[0][:length] == kept[1][:length], "a repair changes what could be read")


def _left_is_true(disk: Disk, done: vmdk.Repaired, after: Disk) -> bool:
    """Whether the check says what a repair says; of an extent, what it says of the disk."""
    left = _outlines(done.left)
    if left == _outlines(after.findings or ()):
        return True
    name = descriptor_name(disk.name)
    return name != disk.name and left == _outlines(_checked(disk.folder, name) or ())


def _without(content: bytes, done: vmdk.Repaired) -> bytes:
    """Content with zeros where a repair says that it is lost."""
    found = bytearray(content)
    for lost in done.lost:
        part = slice(lost.offset_bytes, min(lost.offset_bytes + lost.length_bytes, len(found)))
        found[part] = bytes(len(found[part]))
    return bytes(found)


def _outline(done: vmdk.Repaired) -> tuple[object, ...]:
    return (_outlines(done.fixed), _outlines(done.left), done.lost, done.is_changed)


def _outlines(findings: Found) -> list[tuple[str, int | None]]:
    return [
        (each.code, each.offset_bytes) for each in findings if each.severity is not Severity.INFO
    ]


def _content(folder: Folder, name: str) -> bytes | None:
    """All of a small disk; None where it cannot be read."""
    with refusals(), vmdk.open(folder.open(name), folder) as disk:
        return read(disk, 0, disk.size_bytes) if disk.size_bytes <= WHOLE_BYTES else None
    return None


def resize(disk: Disk) -> None:
    """A new size: what is kept of the disk reads as before, and what is new is zeros."""
    size_bytes = _new_size(disk)
    done = _job(
        disk,
        lambda dry_run: vmdk.resize(
            disk.folder, disk.name, size_bytes, allow_loss=disk.number % 2 == 0, dry_run=dry_run
        ),
    )
    if disk.content is None:
        return
    if done:
        after_bytes = -(-size_bytes // 512) * 512
        expected = disk.content[:after_bytes].ljust(after_bytes, b"\0")
        if after_bytes <= WHOLE_BYTES:
            require(_content(disk.folder, disk.name) == expected, "resizing changes the disk")
    else:
        require(_content(disk.folder, disk.name) == disk.content, "refused, resizing changes it")


def _new_size(disk: Disk) -> int:
    old = disk.size_bytes or 0
    sizes = (old + 512, old - 512, old + 4096, old * 2, old // 2, old - 4096, old, 1, old * 4)
    return sizes[disk.number // 2 % len(sizes)]


def compact(disk: Disk) -> None:
    """Smaller files of a disk that reads as before."""
    _job(disk, lambda dry_run: vmdk.compact(disk.folder, disk.name, dry_run=dry_run))
    if disk.content is not None:
        require(_content(disk.folder, disk.name) == disk.content, "compacting changes the disk")


def _job(disk: Disk, work: Callable[[bool], object]) -> bool:
    """A dry run, which changes nothing, and a run; whether it was done."""
    before, is_done, is_planned = _stats(disk.folder.path), False, False
    with refusals():
        work(True)
        is_planned = True
    require(_stats(disk.folder.path) == before, "a dry run changed something")
    if (disk.size_bytes or 0) > WORK_BYTES:
        return False
    with refusals():
        work(False)
        is_done = True
    require(is_planned or not is_done, "a dry run refuses what a run does")
    if is_done and disk.is_sound:
        found = _checked(disk.folder, disk.name)
        require(found is not None and not _errors(found), f"after it the check says {found}")
    return is_done


def write(disk: Disk) -> None:
    """Bytes written at some places, and a part discarded: there, and nowhere else."""
    if disk.size_bytes is None or disk.size_bytes > WORK_BYTES:
        return
    end = max(disk.size_bytes - len(PATCH), 0)
    places = sorted({0, disk.number * 509 % (end + 1), end})
    expected = None if disk.content is None else bytearray(disk.content)
    with refusals():
        raw = disk.folder.open(disk.name, writable=True)
        with vmdk.open(raw, disk.folder, writable=True) as device:
            for at in places if end else ():
                device.write(at, PATCH)
                if expected is not None:
                    expected[at : at + len(PATCH)] = PATCH
            device.discard(end // 2, end // 4)
            if expected is not None:
                expected[end // 2 : end // 2 + end // 4] = bytes(end // 4)
    if expected is not None and disk.is_sound:
        found = _content(disk.folder, disk.name)
        require(found == bytes(expected), "writing changes something else")


def snapshot(disk: Disk) -> None:
    """A child over the disk, written to, and given back to it."""
    if disk.size_bytes is None or disk.size_bytes > WORK_BYTES:
        return
    child, done = "new.vmdk", False
    expected = disk.content
    with refusals():
        vmdk.snapshot(disk.folder, disk.name, child)
        require(_content(disk.folder, child) == disk.content, "a new child shows something else")
        with vmdk.open(
            disk.folder.open(child, writable=True), disk.folder, writable=True
        ) as device:
            device.write(0, PATCH)
        if expected is not None:
            expected = PATCH + expected[len(PATCH) :]
            require(_content(disk.folder, child) == expected, "a child shows something else")
        vmdk.commit(disk.folder, child)
        done = True
    if done and disk.is_sound:
        require(_content(disk.folder, disk.name) == expected, "a commit is not what the child was")


def commit(disk: Disk) -> None:
    """A child's changes given to its parent; the child shows the same."""
    _job(
        disk,
        lambda dry_run: vmdk.commit(disk.folder, disk.name, dry_run=dry_run, force=True),
    )
    if disk.content is not None:
        require(_content(disk.folder, disk.name) == disk.content, "a commit changes the child")


def convert(disk: Disk) -> None:
    """What can be read of it as a disk of another kind."""
    kind = vmdk.SUBFORMATS[disk.number % len(vmdk.SUBFORMATS)]
    with refusals(), vmdk.open_remains(disk.folder, disk.name) as remains:
        source = SalvageDevice(remains, piece_bytes=512)
        if not 0 < source.size_bytes <= WHOLE_BYTES:
            return
        vmdk.create(
            disk.folder,
            "converted.vmdk",
            source.size_bytes,
            subformat=kind,
            fill=lambda new: copy(source, new),
        )
        expected = read(source, 0, source.size_bytes)
        found = _content(disk.folder, "converted.vmdk")
        require(found == expected, "a converted disk is another")


Job = Callable[[Disk], None]

JOBS: Final[tuple[Job, ...]] = (
    *(do_nothing, repair, resize, compact, write, snapshot, commit, convert, repair),
)
"""What is done with a disk, by the second byte of an input."""
