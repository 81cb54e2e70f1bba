"""A file of the host as a device: the only place where image bytes meet the operating system."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import stat
import sys
from typing import TYPE_CHECKING, Final

from ipva_storage.device.base import Device, Extent, byte_view, merge_extents
from ipva_storage.device.direct import DirectWriter
from ipva_storage.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

_PUNCH_HOLE_KEEP_SIZE: Final = 0x02 | 0x01
_PIECE_BYTES: Final = 1 << 20

_ZEROS: Final = bytes(_PIECE_BYTES)


class RawDevice(Device):
    """A regular file or a block node of the host.

    Opened read-only unless asked; a writable one holds an exclusive lock, so that a second writer
    is refused instead of mixing its bytes in. Windows and shares without locks have none.
    """

    def __init__(self, path: str | os.PathLike[str], *, writable: bool = False) -> None:
        """Open an existing file.

        Raises:
            DeviceError: it cannot be opened, is no file, or another process writes to it.
        """
        self.name = os.fspath(path)
        self.is_writable = writable
        self._direct: DirectWriter | None = None
        flags = (os.O_RDWR if writable else os.O_RDONLY) | getattr(os, "O_BINARY", 0)
        # A FIFO opened plainly would wait for its other end for ever.
        flags |= getattr(os, "O_NONBLOCK", 0)
        self._file = -1
        try:
            self._file = os.open(self.name, flags)
            self._size_bytes = self._measure()
        except (OSError, ValueError) as error:
            self.close()
            raise refusal(error, self.name) from error
        try:
            if writable:
                _lock(self._file, self.name)
        except DeviceError:
            self.close()
            raise

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], size_bytes: int = 0, *, name: str | None = None
    ) -> RawDevice:
        """Make a new file of zeros, which must not exist yet, open for writing.

        Args:
            path: where it is.
            size_bytes: its length.
            name: what messages call it, where it is to have another name in the end.

        Raises:
            DeviceError: it exists, or cannot be made.
        """
        where = os.fspath(path) if name is None else name
        try:
            with open(path, "xb") as file:  # noqa: PTH123
                file.truncate(size_bytes)
        except OSError as error:
            raise refusal(error, where) from error
        try:
            device = cls(path, writable=True)
        except DeviceError as error:
            error.where = where
            raise
        device.name = where
        device._direct = DirectWriter(device._file)
        return device

    @property
    def size_bytes(self) -> int:
        """Length in bytes."""
        return self._size_bytes

    def read_into(self, offset_bytes: int, buffer: WriteableBuffer, /) -> None:
        """Fill the whole buffer."""
        view = byte_view(buffer)
        self._check(offset_bytes, len(view))
        done = 0
        while done < len(view):
            try:  # not by _told, which takes longer than a small read
                count = _read_at(self._file, view[done:] if done else view, offset_bytes + done)
            except OSError as error:
                raise refusal(error, self.name, offset_bytes + done) from error
            if not count:
                raise DeviceError(
                    "the file ended early: something cut it while it was open",
                    where=self.name,
                    offset_bytes=offset_bytes + done,
                )
            done += count

    def read_bytes(self, offset_bytes: int, length_bytes: int, /) -> bytes:
        """Bytes as an object of their own, without the copy that a buffer costs."""
        self._check(offset_bytes, length_bytes)
        if hasattr(os, "pread"):
            try:
                found = os.pread(self._file, length_bytes, offset_bytes)
            except OSError as error:
                raise refusal(error, self.name, offset_bytes) from error
            if len(found) == length_bytes:
                return found
        buffer = bytearray(length_bytes)
        self.read_into(offset_bytes, buffer)
        return bytes(buffer)

    def write(self, offset_bytes: int, data: ReadableBuffer, /) -> None:
        """Put `data` at `offset_bytes`."""
        view = byte_view(data)
        self._check_writable(offset_bytes, len(view))
        done = 0 if self._direct is None else self._direct.write(view, offset_bytes)
        while done < len(view):
            with self._told(offset_bytes + done):
                done += _write_at(self._file, view[done:], offset_bytes + done)

    def flush(self) -> None:
        """Wait until the host has the bytes on its medium."""
        if self.is_writable:
            with self._told(None):
                getattr(os, "fdatasync", os.fsync)(self._file)

    def forget(self) -> None:
        """Let the host drop what it keeps of the file, so that reading asks the medium again."""
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)

    def discard(self, offset_bytes: int, length_bytes: int, /) -> None:
        """Punch a hole where the host can; write zeros where it cannot."""
        self._check_writable(offset_bytes, length_bytes)
        if not length_bytes or _punch(self._file, offset_bytes, length_bytes):
            return
        for at in range(0, length_bytes, len(_ZEROS)):
            self.write(offset_bytes + at, _ZEROS[: min(len(_ZEROS), length_bytes - at)])

    def extents(self) -> Iterator[Extent]:
        """Runs as the host's file system keeps them."""
        return merge_extents(self._runs())

    def resize(self, size_bytes: int, /) -> None:
        """Cut or lengthen the file."""
        self._check_writable(0, 0)
        with self._told(size_bytes):
            os.ftruncate(self._file, size_bytes)
        self._size_bytes = size_bytes

    def close(self) -> None:
        """Close the file, which gives the lock back."""
        if self._direct is not None:
            self._direct.close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _measure(self) -> int:
        mode = os.fstat(self._file).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise OSError(errno.EINVAL, "it is neither a file nor a disk")
        return os.lseek(self._file, 0, os.SEEK_END)

    def _runs(self) -> Iterator[Extent]:
        at, end = 0, self._size_bytes
        seek_data = getattr(os, "SEEK_DATA", None)
        while at < end:
            if seek_data is None:
                yield Extent(at, end - at, is_data=True)
                return
            try:
                data = min(os.lseek(self._file, at, seek_data), end)
            except OSError as error:
                is_hole = error.errno == errno.ENXIO  # no data from here on
                yield Extent(at, end - at, is_data=not is_hole)
                return
            with self._told(data):
                hole = min(os.lseek(self._file, data, os.SEEK_HOLE), end)
            yield Extent(at, data - at, is_data=False)
            yield Extent(data, hole - data, is_data=True)
            at = hole

    def _check_writable(self, offset_bytes: int, length_bytes: int) -> None:
        if not self.is_writable:
            raise DeviceError("it was opened read-only", where=self.name)
        self._check(offset_bytes, length_bytes)

    @contextlib.contextmanager
    def _told(self, offset_bytes: int | None) -> Iterator[None]:
        """Turn the host's refusal into ours, with the place."""
        try:
            yield
        except OSError as error:
            raise refusal(error, self.name, offset_bytes) from error


def refusal(
    error: OSError | ValueError, where: str, offset_bytes: int | None = None
) -> DeviceError:
    """The host's refusal as ours, with the way out where there is one."""
    code = error.errno if isinstance(error, OSError) else None
    reasons = {
        errno.ENOENT: "there is no such file",
        errno.EISDIR: "it is a folder; name an image file",
        errno.EACCES: "permission denied; check who may open it",
        errno.EEXIST: "it exists already; choose another name",
        errno.ENOSPC: "the host disk is full",
        errno.EDQUOT: "your share of the host disk is used up",
        errno.EFBIG: "the host lets no file be as long as that",
        errno.EMFILE: "too many files are open",
    }
    remedies = {
        errno.ENOSPC: "make room and run it again",
        errno.EDQUOT: "make room and run it again",
        errno.EFBIG: "see ulimit -f, or use a folder whose file system takes it",
        errno.EMFILE: "allow more with: ulimit -n 4096",
    }
    text = getattr(error, "strerror", None) or str(error)
    return DeviceError(
        reasons.get(code or 0, text),
        where=where,
        offset_bytes=offset_bytes,
        remedy=remedies.get(code or 0),
    )


def _read_at(file: int, view: memoryview, offset_bytes: int) -> int:
    """How many bytes were read; fewer than asked for only at the end or above 2 GiB."""
    if hasattr(os, "preadv"):
        return os.preadv(file, [view], offset_bytes)
    os.lseek(file, offset_bytes, os.SEEK_SET)  # Windows
    data = os.read(file, min(len(view), _PIECE_BYTES))
    view[: len(data)] = data
    return len(data)


def _write_at(file: int, view: memoryview, offset_bytes: int) -> int:
    """How many bytes were written."""
    if hasattr(os, "pwrite"):
        return os.pwrite(file, view, offset_bytes)
    os.lseek(file, offset_bytes, os.SEEK_SET)  # Windows
    return os.write(file, view[:_PIECE_BYTES])


def _lock(file: int, name: str) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DeviceError(
            "another process is writing to it", where=name, remedy="wait until it is done"
        ) from error
    except OSError:  # a share that knows no locks; refusing it would leave no way to work there
        return
    with contextlib.suppress(OSError):
        if not os.path.samestat(os.fstat(file), os.stat(name)):  # noqa: PTH116
            raise DeviceError(
                "another process replaced it in this moment", where=name, remedy="run it again"
            )


def _punch(file: int, offset_bytes: int, length_bytes: int) -> bool:
    """Whether the host made the range a hole (Linux `fallocate`)."""
    fallocate = _linux("fallocate")
    return fallocate is not None and not fallocate(
        ctypes.c_int(file),
        ctypes.c_int(_PUNCH_HOLE_KEEP_SIZE),
        ctypes.c_longlong(offset_bytes),
        ctypes.c_longlong(length_bytes),
    )


@functools.cache
def _linux(name: str) -> Callable[..., int] | None:
    """A call of Linux's that Python's `os` has not; None on other hosts."""
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    return found
