"""What is wrong with an image: stable codes, in one table that code, docs and tests share.

A `check` yields findings and never raises for what the image says, so that one bad sector does not
hide the next. Codes never change their meaning; a retired one is not used again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """Data is lost or will be, or the appliance does not boot."""
    WARNING = "warning"
    """Works now, and something is not as it should be."""
    INFO = "info"
    """Worth knowing; nothing to do."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the catalogue."""

    severity: Severity
    title: str
    """What is wrong, in general."""
    stake: str
    """What it means for the user."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong at one place."""

    code: str
    """Key of `CATALOGUE`."""
    structure: str
    """The part of the format, such as `grain directory`."""
    message: str
    """What is wrong here, in one sentence without a full stop."""
    where: str | None = None
    """The file (device name), filled in by whoever knows it."""
    offset_bytes: int | None = None
    """The place in the checked device, in bytes."""
    repair: str | None = None
    """The command that mends it, or None."""

    def __post_init__(self) -> None:
        if self.code not in CATALOGUE:
            raise ValueError(f"{self.code} is not in the catalogue of findings")

    @property
    def severity(self) -> Severity:
        """How much it matters; the same for every finding of one code."""
        return CATALOGUE[self.code].severity


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO

CATALOGUE: Final[dict[str, Kind]] = {
    # -- vmdk ---------------------------------------------------------------------------------
    # -- partition table ----------------------------------------------------------------------
    # -- fat ----------------------------------------------------------------------------------
    # -- flash --------------------------------------------------------------------------------
    # -- dump ---------------------------------------------------------------------------------
    "DUMP001": Kind(
        _E,
        "no usable superblock",
        "crash records cannot be read, and none is kept until the disk is formatted",
    ),
    "DUMP002": Kind(
        _W, "one of the two superblocks is damaged", "works; the next crash record mends it"
    ),
    "DUMP003": Kind(
        _I, "the superblocks differ", "the power went during a write; nothing is lost"
    ),
    "DUMP004": Kind(_I, "the dump disk was never used", "nothing to do"),
    "DUMP005": Kind(_E, "the text of a crash record is damaged", "this record cannot be trusted"),
    "DUMP006": Kind(
        _E, "a crash record is lost", "its header is damaged; the records around it are readable"
    ),
    # -- boot (firmware) ----------------------------------------------------------------------
    "BOOT001": Kind(
        _E, "the boot volume cannot be read", "the appliance does not boot: Loading failed"
    ),
    "BOOT002": Kind(
        _E, "there is no firmware on the boot disk", "the appliance does not boot: Loading failed"
    ),
    "BOOT003": Kind(
        _E, "the firmware header is not one we know", "does not boot, unless it is the vendor's"
    ),
    "BOOT004": Kind(_E, "the firmware is damaged", "the appliance does not boot: checksum wrong!"),
    # -- appliance and doctor -----------------------------------------------------------------
}
"""Every code there is, by room, in order."""
