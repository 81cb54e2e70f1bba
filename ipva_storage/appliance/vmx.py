"""The `.vmx`: what VMware knows of the virtual machine.

Lines are `name = "value"`, with optional blanks and a comment after `#`; in a quoted value `|22`
is a double quote. Names are compared without regard to case.

Source: open-vm-tools, dictll.c, "the dictionary line format" (public). Confidence: stated (the
line format), inferred (`|` escapes, case).

Invariant: a line that nobody changes is written as it was read, to the byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from ipva_storage.appliance import identity
from ipva_storage.errors import ConfigError, UsageError
from ipva_storage.units import MIB, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_BYTES: Final = MIB
"""The longest `.vmx` that is read. Confidence: chosen (they have a few KiB)."""

RAM_KEY: Final = "memsize"
NIC_KEY: Final = "ethernet0.virtualDev"
PERFCTR_KEY: Final = "monitor_control.pseudo_perfctr"
UUID_KEY: Final = "uuid.bios"

_LINE: Final = re.compile(r"([^\r\n]*)(\r\n|\n|\r|\Z)")
_HEAD: Final = re.compile(
    r"[ \t\ufeff]*+(?P<key>[^ \t=#\ufeff][^ \t=#]*+)[ \t]*+=[ \t]*+", re.DOTALL
)
"""A line up to its value. Possessive, so that a hostile line takes linear time."""
_BLANKS: Final = " \t"
_ESCAPED: Final = re.compile(r"\|([0-9A-Fa-f]{2})")
_TO_ESCAPE: Final = re.compile(r'[\x00-\x1f"|\x7f]')
_RAM: Final = re.compile(r"[0-9]{1,9}")
_CDROMS: Final = ("cdrom", "atapi")


@dataclass(frozen=True, slots=True)
class VmxLine:
    """One line; `key` and `value` are None where it is a comment, blank or unreadable."""

    text: str
    ending: str
    key: str | None = None
    """As written."""
    value: str | None = None
    """With its escapes undone."""


class VmxFile:
    """A `.vmx` in memory: looked up by name, changed line by line."""

    def __init__(self, text: str = "", *, name: str = "vmx") -> None:
        """Take a text apart. Every text is a `.vmx`; what is not an entry is kept.

        Args:
            text: the file; `decode` gives it from bytes.
            name: what error messages call it.
        """
        self.name = name
        self._lines = [
            _parse_line(*match.groups()) for match in _LINE.finditer(text) if any(match.groups())
        ]

    @classmethod
    def decode(cls, data: bytes, *, name: str = "vmx") -> VmxFile:
        """The file of these bytes; `encode` gives the same ones again.

        Raises:
            ConfigError: it is longer than any `.vmx`.
        """
        if len(data) > LIMIT_BYTES:
            raise ConfigError(f"a .vmx of {len(data)} bytes is longer than any", where=name)
        return cls(data.decode("utf-8", "surrogateescape"), name=name)

    def encode(self) -> bytes:
        """The bytes of the file."""
        return self.text().encode("utf-8", "surrogateescape")

    def text(self) -> str:
        """The file, unchanged lines as they were."""
        return "".join(line.text + line.ending for line in self._lines)

    def __iter__(self) -> Iterator[VmxLine]:
        return iter(self._lines)

    def __contains__(self, key: str) -> bool:
        return self._find(key) is not None

    def get(self, key: str) -> str | None:
        """The value of a name, or None. Of a name that is there twice, the first counts.

        VMware refuses a file with a name twice; which one counts here is chosen.
        """
        index = self._find(key)
        return None if index is None else self._lines[index].value

    def set(self, key: str, value: str) -> None:
        """Give a name a value, in its place if it has one, else in a new last line."""
        quoted = f'"{escape(value)}"'
        index = self._find(key)
        if index is None:
            self._append(f"{key} = {quoted}")
            return
        line = self._lines[index]
        entry = _find_entry(line.text)
        assert entry is not None  # `_find` gives entries only
        text = line.text[: entry.start] + quoted + line.text[entry.end :]
        self._lines[index] = VmxLine(text, line.ending, line.key, value)

    def remove(self, key: str) -> bool:
        """Drop every line of a name; whether there was one."""
        wanted = key.lower()
        kept = [line for line in self._lines if line.key is None or line.key.lower() != wanted]
        has_removed = len(kept) < len(self._lines)
        self._lines = kept
        return has_removed

    @property
    def line_ending(self) -> str:
        """The file's line ending: that of its first line, or LF."""
        return next((line.ending for line in self._lines if line.ending), "\n")

    # -- what an IPVA needs of it ----------------------------------------------------------------

    @property
    def ram_bytes(self) -> int:
        """Configured RAM.

        Raises:
            ConfigError: `memsize` is missing or no number.
        """
        value = self.get(RAM_KEY)
        if value is None or not _RAM.fullmatch(value.strip()):
            reason = (
                "there is no memsize"
                if value is None
                else f"memsize “{printable(value[:40])}” is no number"
            )
            raise ConfigError(reason, where=self.name, remedy='add a line like memsize = "64"')
        return int(value) * MIB

    @ram_bytes.setter
    def ram_bytes(self, ram_bytes: int) -> None:
        """Set it, in whole MiB."""
        if ram_bytes <= 0 or ram_bytes % MIB:
            raise UsageError(f"RAM is counted in whole MiB, not in {ram_bytes} bytes")
        self.set(RAM_KEY, str(ram_bytes // MIB))

    def disk_file(self, node: str) -> str | None:
        """The file of the disk at an IDE node such as `0:1`; None where there is no disk.

        A node counts as present unless the file says that it is not. Confidence: chosen.
        """
        name = self.get(f"ide{node}.fileName")
        kind = (self.get(f"ide{node}.deviceType") or "").lower()
        is_present = _is_true(self.get(f"ide{node}.present"), default=True)
        return name if name and is_present and not kind.startswith(_CDROMS) else None

    @property
    def nic_type(self) -> str | None:
        """Type of the first network card; None means VMware's default, the AMD card."""
        return self.get(NIC_KEY)

    @property
    def has_nic(self) -> bool:
        """Whether the first network card is there, which it is unless the file says not."""
        return _is_true(self.get("ethernet0.present"), default=True)

    @property
    def has_pseudo_perfctr(self) -> bool:
        """Whether `monitor_control.pseudo_perfctr` is TRUE, without which the clock stands."""
        return _is_true(self.get(PERFCTR_KEY), default=False)

    @property
    def mac(self) -> str | None:
        """MAC address of the first network card, static or generated."""
        return self.get("ethernet0.address") or self.get("ethernet0.generatedAddress")

    @property
    def uuid_bios(self) -> bytes | None:
        """The 16 bytes of `uuid.bios`; None where it is missing or malformed."""
        return identity.parse_uuid(self.get(UUID_KEY) or "")

    def set_mac(self, mac: str) -> None:
        """Give the first network card a static address, and `uuid.bios` the same last three bytes.

        Source: vendor page "Concept Innovaphone Virtual Appliance", "Network Configuration" (both
        are edited together; a static 00-50-56 address is advised). Confidence: stated.

        Raises:
            UsageError: it is not in VMware's range for static addresses.
        """
        address = identity.parse_static_mac(mac)
        self.set("ethernet0.addressType", "static")
        self.set("ethernet0.address", identity.format_mac(address))
        for key in ("generatedAddress", "generatedAddressOffset"):
            self.remove(f"ethernet0.{key}")
        uuid = (self.uuid_bios or identity.uuid_of(address))[:-3] + address[-3:]
        self.set(UUID_KEY, identity.format_uuid(uuid))

    def _find(self, key: str) -> int | None:
        wanted = key.lower()
        for index, line in enumerate(self._lines):
            if line.key is not None and line.key.lower() == wanted:
                return index
        return None

    def _append(self, text: str) -> None:
        ending = self.line_ending
        if self._lines and not self._lines[-1].ending:
            last = self._lines[-1]
            self._lines[-1] = VmxLine(last.text, ending, last.key, last.value)
        line = _parse_line(text, ending)
        if line.key is None:
            raise UsageError(f"“{printable(text[:80])}” is no line of a .vmx")
        self._lines.append(line)


class _Entry(NamedTuple):
    """Where in a line its parts are."""

    key: str
    start: int
    """First letter of the value, its quote included."""
    end: int
    """One after the value's last letter."""


def _find_entry(text: str) -> _Entry | None:
    """The parts of a line `name = "value" # comment`, or None where it is none."""
    head = _HEAD.match(text)
    if head is None:
        return None
    start = head.end()
    if text.startswith('"', start):
        end = text.find('"', start + 1) + 1
        if not end or text[end:].lstrip(_BLANKS)[:1] not in ("", "#"):
            return None
        return _Entry(head["key"], start, end)
    value = text[start:].partition("#")[0].rstrip(_BLANKS)
    return None if '"' in value else _Entry(head["key"], start, start + len(value))


def _parse_line(text: str, ending: str) -> VmxLine:
    entry = _find_entry(text)
    if entry is None:
        return VmxLine(text, ending)
    value = text[entry.start : entry.end].removeprefix('"').removesuffix('"')
    return VmxLine(text, ending, entry.key, unescape(value))


def escape(value: str) -> str:
    """A value as it stands between quotes."""
    return _TO_ESCAPE.sub(lambda match: f"|{ord(match[0]):02X}", value)


def unescape(value: str) -> str:
    """The value meant by what stands between quotes."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), value)


def _is_true(value: str | None, *, default: bool) -> bool:
    return default if value is None else value.strip().lower() in ("true", "1", "yes", "on")


def new_vmx(*, ram_bytes: int, disks: dict[str, str], mac: str | None = None) -> VmxFile:
    """A `.vmx` with which an IPVA works.

    Args:
        ram_bytes: whole MiB.
        disks: file name of the disk at each IDE node, such as `{"0:0": "hd-boot.vmdk"}`.
        mac: a static address of VMware's range; a random one unless given.

    Raises:
        UsageError: the RAM or the address is not as above.

    Source: vendor page "Concept Innovaphone Virtual Appliance" (RAM, disks, network card,
    perfctr line). Confidence: stated (those), chosen (the rest).
    """
    vmx = VmxFile()
    for key, value in _FIXED.items():
        vmx.set(key, value)
    vmx.ram_bytes = ram_bytes
    for node, name in sorted(disks.items()):
        vmx.set(f"ide{node}.present", "TRUE")
        vmx.set(f"ide{node}.fileName", name)
    vmx.set_mac(identity.random_static_mac() if mac is None else mac)
    return vmx


_FIXED: Final = {
    ".encoding": "UTF-8",
    "config.version": "8",
    "virtualHW.version": "7",
    "displayName": "ipva",
    "guestOS": "other",
    RAM_KEY: "64",
    "numvcpus": "1",
    "floppy0.present": "FALSE",
    "ethernet0.present": "TRUE",
    "ethernet0.connectionType": "bridged",
    NIC_KEY: "vlance",
    PERFCTR_KEY: "TRUE",
}
