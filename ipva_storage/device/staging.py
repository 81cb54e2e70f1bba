"""Several files that appear together in a folder, or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from typing import TYPE_CHECKING

from ipva_storage.device.folder import Folder, flush_folder, held
from ipva_storage.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@contextlib.contextmanager
def staged(
    folder: Folder, *, last: str, force: bool = False, names: Iterable[str] = ()
) -> Iterator[Folder]:
    """A hidden folder within `folder`, whose files move out when the block ends well.

    On an error or Ctrl-C it goes, with all that is in it; files that had moved out already go too,
    those that they replaced come back, and a folder that was made for this is removed. A file that
    is replaced is there at every moment, the old one or the new one.

    Args:
        folder: where the files shall be; made if it is not there.
        last: the name of the file that moves last, because it makes the others count.
        force: replace files of the same names.
        names: of files that are known beforehand; where one is there, nothing is begun.

    Raises:
        DeviceError: a file of one of the names is there, or the folder cannot be written to.
    """
    is_new = not folder.path.exists()
    place = folder.path / f".{secrets.token_hex(4)}.part"
    for name in names:
        _refuse(folder.path / name, force=force)
    try:
        place.mkdir(parents=True)
    except OSError as error:
        raise DeviceError(
            f"nothing can be made there ({error.strerror})", where=str(folder.path)
        ) from error
    is_done = False
    try:
        yield Folder(place, shown=folder.path)
        _Move(place, folder.path, force=force).all(last)
        is_done = True
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if is_new and not is_done:
            with contextlib.suppress(OSError):
                folder.path.rmdir()


def _refuse(path: Path, *, force: bool) -> None:
    if path.is_dir():
        raise DeviceError("it is a folder", where=str(path), remedy="choose another name")
    if not force and os.path.lexists(path):
        raise DeviceError(
            "it exists already", where=str(path), remedy="choose another name, or use --force"
        )


class _Move:
    """Moves files from one folder to the other, and back when one of them cannot."""

    def __init__(self, source: Path, target: Path, *, force: bool) -> None:
        self._source = source
        self._target = target
        self._aside = source / ".aside"
        self._force = force

    def all(self, last: str) -> None:
        names = sorted((path.name for path in self._source.iterdir()), key=lambda n: (n == last, n))
        for name in names:
            _refuse(self._target / name, force=self._force)
        started: list[str] = []
        try:
            self._aside.mkdir()
            for name in names:
                started.append(name)
                self._one(name)
            flush_folder(self._target)
        except BaseException as error:
            for name in reversed(started):
                self._back(name)
            if isinstance(error, OSError):
                raise DeviceError(
                    f"the files cannot be given their names ({error.strerror})",
                    where=str(self._target),
                ) from error
            raise

    def _one(self, name: str) -> None:
        target = self._target / name
        if not os.path.lexists(target):
            (self._source / name).rename(target)
            return
        _refuse(target, force=self._force)
        with held(target):
            _keep(target, self._aside / name)
            (self._source / name).replace(target)

    def _back(self, name: str) -> None:
        target, old = self._target / name, self._aside / name
        with contextlib.suppress(OSError):
            if os.path.lexists(old):
                old.replace(target)
            elif not (self._source / name).exists():
                target.unlink(missing_ok=True)


def _keep(path: Path, aside: Path) -> None:
    """Another name for a file that is to be replaced; without hard links it loses its own."""
    try:
        os.link(path, aside, follow_symlinks=False)
    except (OSError, NotImplementedError):
        path.rename(aside)
