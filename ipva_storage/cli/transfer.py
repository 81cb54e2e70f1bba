"""Trees of files between the host and a FAT volume: what `ipva fs get`, `put` and `mv` do."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from ipva_storage.device import Folder, RawDevice, read
from ipva_storage.errors import FatExistsError, FatNotFoundError, UsageError
from ipva_storage.units import MIB

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Sequence

    from ipva_storage.fat import FatEntry, FatVolume
    from ipva_storage.progress import Progress

CHUNK_BYTES: Final = 4 * MIB


class _Job(NamedTuple):
    """One file to copy into a volume, or a folder to make there."""

    source: Path
    path: str
    size_bytes: int | None
    """None for a folder."""


class Copied(NamedTuple):
    """What a copy into a volume did."""

    file_count: int
    """Files copied."""
    skipped: list[str]
    """Links to folders, pipes and the like, which a FAT volume cannot hold; never followed."""


def put(
    volume: FatVolume,
    sources: Sequence[Path],
    path: str,
    *,
    force: bool,
    progress: Progress,
    may_stop: Callable[[], None],
) -> Copied:
    """Copy files and trees into a volume, in one batch of writes: all of them, or none.

    Only where old files must give their room to new ones is what is finished kept.

    Raises:
        FatExistsError: a file is there already and `force` is False.
        NoSpaceError: the volume is full.
        UsageError: two sources have one name, as FAT compares names.
    """
    skipped: list[str] = []
    jobs = list(_jobs(volume, sources, path, skipped))
    _refuse_twins(jobs)
    if not force:
        _refuse_existing(volume, jobs)
    total = sum(job.size_bytes or 0 for job in jobs)
    done = count = 0
    with volume.batch(all_or_nothing=True):
        for job in jobs:
            may_stop()
            if job.size_bytes is None:
                _make_folder(volume, job.path)
                continue
            with RawDevice(job.source) as file:
                volume.write_chunks(
                    job.path,
                    _chunks(file, may_stop),
                    size_bytes=file.size_bytes,
                    modified=_modified(job.source),
                )
                done += file.size_bytes
            count += 1
            progress(done, total)
    return Copied(count, skipped)


def _jobs(
    volume: FatVolume, sources: Sequence[Path], path: str, skipped: list[str]
) -> Iterator[_Job]:
    into_folder = path.endswith("/") or len(sources) > 1 or _is_folder(volume, path)
    if into_folder and path.strip("/"):
        yield from (
            _Job(sources[0], str(parent), None)
            for parent in reversed([PurePosixPath(path), *PurePosixPath(path).parents][:-1])
        )
    for source in sources:
        name = source.resolve().name
        target = str(PurePosixPath(path) / name) if into_folder else path
        yield from _tree(source, target, skipped)


def _tree(source: Path, path: str, skipped: list[str]) -> Iterator[_Job]:
    if not source.is_dir():
        yield _Job(source, path, source.stat().st_size)
        return
    yield _Job(source, path, None)
    for child in sorted(source.iterdir()):
        if child.is_file() or (child.is_dir() and not child.is_symlink()):
            yield from _tree(child, str(PurePosixPath(path) / child.name), skipped)
        else:
            skipped.append(str(child))


def _is_folder(volume: FatVolume, path: str) -> bool:
    found = _stat(volume, path)
    return not path.strip("/") or (found is not None and found.is_dir)


def _stat(volume: FatVolume, path: str) -> FatEntry | None:
    try:
        return volume.stat(path)
    except FatNotFoundError:
        return None


def _refuse_twins(jobs: Sequence[_Job]) -> None:
    """Refuse names that differ in case only: FAT keeps one of them."""
    from ipva_storage.fat.names import fold

    seen: dict[str, _Job] = {}
    for job in jobs:
        other = seen.setdefault(fold(job.path), job)
        is_one_folder = other.path == job.path and job.size_bytes is other.size_bytes is None
        if other is not job and not is_one_folder:
            raise UsageError(
                f"{other.source} and {job.source} would both be {job.path}",
                remedy="rename one of them; FAT does not tell upper from lower case",
            )


def _refuse_existing(volume: FatVolume, jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if job.size_bytes is not None and _stat(volume, job.path) is not None:
            raise FatExistsError(
                f"{job.path} is there already",
                where=volume.name,
                remedy="use --force to replace it",
            )


def _make_folder(volume: FatVolume, path: str) -> None:
    found = _stat(volume, path)
    if found is None:
        volume.mkdir(path)
    elif not found.is_dir:
        raise FatExistsError(f"{path} is a file, not a folder", where=volume.name)


def _chunks(file: RawDevice, may_stop: Callable[[], None]) -> Iterator[bytes]:
    for at in range(0, file.size_bytes, CHUNK_BYTES):
        may_stop()
        yield read(file, at, min(CHUNK_BYTES, file.size_bytes - at))


def _modified(path: Path) -> dt.datetime:
    """Local wall-clock time, as FAT keeps it."""
    from ipva_storage.fat import clock

    return clock.of_host(path.stat().st_mtime)


def get(volume: FatVolume, path: str, out: Path, *, force: bool, progress: Progress) -> int:
    """Copy a file or a tree out of a volume.

    Names in an image may lie: one that would leave its folder is refused.

    Returns:
        The number of files copied.
    """
    if path.strip("/"):
        entry = volume.stat(path)
        if not entry.is_dir:
            target = out / entry.name if out.is_dir() else out
            _get_file(volume, path, entry, target, force=force)
            progress(entry.size_bytes, entry.size_bytes)
            return 1
    found = list(volume.walk(path))
    total = sum(each.size_bytes for _, each in found if not each.is_dir)
    done = count = 0
    _host_folder(out)
    for inner, each in found:
        relative = PurePosixPath(inner).relative_to(PurePosixPath("/") / path.strip("/"))
        target = _inside(out, relative)
        if each.is_dir:
            _host_folder(target)
            continue
        _get_file(volume, inner, each, target, force=force)
        done, count = done + each.size_bytes, count + 1
        progress(done, total)
    return count


def _inside(out: Path, relative: PurePosixPath) -> Path:
    target = out
    for part in relative.parts:
        target = Folder(target).resolve(part)
    return target


def _host_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the folder cannot be made ({error.strerror})", where=str(path)
        ) from error


def _get_file(volume: FatVolume, path: str, entry: FatEntry, target: Path, *, force: bool) -> None:
    with Folder(target.parent).new_file(target.name, force=force) as file:
        at = 0
        for chunk in volume.read_chunks(path):
            file.resize(at + len(chunk))
            file.write(at, chunk)
            at += len(chunk)
    modified = entry.modified.timestamp()
    with contextlib.suppress(OSError):  # a host that keeps no times has the content all the same
        os.utime(target, (modified, modified))


def move(volume: FatVolume, source: str, target: str, *, force: bool) -> str:
    """Move or rename within a volume; into a folder under its own name.

    Returns:
        The path that it has now.
    """
    entry = volume.stat(source)
    found = _stat(volume, target) if target.strip("/") else None
    is_itself = found is not None and found.first_cluster == entry.first_cluster and found.is_dir
    if target.endswith("/") or (found is not None and found.is_dir and not is_itself):
        target = str(PurePosixPath("/", target) / entry.name)
    return str(PurePosixPath(target).parent / volume.move(source, target, force=force).name)
