"""Every error this toolkit raises on purpose.

What an image says wrong is a `Finding` (see `findings`), not an exception. An exception means that
the operation cannot go on; its text names the file, the place and the way out.

```text
IpvaError
  * ImageError                the bytes forbid going on
    + VmdkError
    + FatError
      - FatNotFoundError      also a FileNotFoundError
      - FatExistsError        also a FileExistsError
    + FlashError
      - FlashNotFoundError    also a KeyError
    + DumpError
    + FirmwareError
    + ConfigError
    + UndoError
    + NoDiskError
  * DeviceError               the medium refused
    + PowerCutError           raised by the fault device only
    + NorViolationError       a program that would set a cleared bit
  * NoSpaceError              also an OSError
  * UsageError                the caller's arguments
```
"""

from __future__ import annotations

import re
import shlex


class IpvaError(Exception):
    """Base of the tree.

    Attributes:
        message: what is wrong, in one sentence without a full stop.
        where: the file or structure, or None.
        offset_bytes: the place in it, or None.
        remedy: what to do next, or None; `DISK` in a command stands for `where`.
    """

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        offset_bytes: int | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.offset_bytes = offset_bytes
        self.remedy = remedy

    def __str__(self) -> str:
        text = self.message if self.where is None else f"{self.where}: {self.message}"
        if self.offset_bytes is not None:
            text += f" (at byte {self.offset_bytes})"
        return text if self.advice is None else f"{text}; {self.advice}"

    @property
    def advice(self) -> str | None:
        """The remedy as it can be typed, with the file in the place of `DISK`.

        >>> VmdkError("it is damaged", where="a b.vmdk", remedy="run: ipva disk repair DISK").advice
        "run: ipva disk repair 'a b.vmdk'"
        """
        if self.remedy is None or self.where is None:
            return self.remedy
        place = shlex.quote(self.where)
        return re.sub(r"\bDISK\b", lambda _: place, self.remedy)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the keywords, so that an error crosses a process pool whole."""
        return (_rebuild, (type(self), self.message, dict(self.__dict__)))


def _rebuild(kind: type[IpvaError], message: str, state: dict[str, object]) -> IpvaError:
    error = kind(message)
    error.__dict__.update(state)
    return error


class ImageError(IpvaError):
    """The bytes of an image forbid going on."""


class VmdkError(ImageError):
    """A VMDK file cannot be used."""


class FatError(ImageError):
    """A FAT volume cannot be used."""


class FatNotFoundError(FatError, FileNotFoundError):
    """No file or folder of that name."""


class FatExistsError(FatError, FileExistsError):
    """Something of that name is there already, or is in the way."""


class FlashError(ImageError):
    """A flash directory cannot be used."""


class FlashNotFoundError(FlashError, KeyError):
    """No object of that name."""


class DumpError(ImageError):
    """A dump disk cannot be used."""


class FirmwareError(ImageError):
    """A firmware image cannot be used."""


class ConfigError(ImageError):
    """A configuration file cannot be used."""


class UndoError(ImageError):
    """An undo journal cannot be used, or does not fit the images that it names."""


class NoDiskError(ImageError):
    """A file is no disk image of a kind that is read."""


class DeviceError(IpvaError):
    """The medium refused: out of range, read-only, locked, or the host said no."""


class PowerCutError(DeviceError):
    """The simulated power is gone; nothing after it reaches the medium."""


class NorViolationError(DeviceError):
    """A program would have to turn a 0 bit into 1, which only an erase can do."""


class NoSpaceError(IpvaError, OSError):
    """The store is full; it stays readable, and deletable from."""


class UsageError(IpvaError):
    """The caller's arguments make no sense."""
