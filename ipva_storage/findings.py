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
    count: int | None = None
    """How many things it is about, such as grains, where it stands for several."""
    length_bytes: int | None = None
    """How much it is about, in bytes, where that is known."""

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
    "VMDK001": Kind(_E, "sparse header damaged", "the disk does not open"),
    "VMDK002": Kind(
        _E, "line ends were changed", "the file was sent as text and is damaged throughout"
    ),
    "VMDK003": Kind(_E, "descriptor missing or damaged", "VMware does not open the disk"),
    "VMDK004": Kind(
        _W, "descriptor and header disagree on the size", "programs see different disks"
    ),
    "VMDK005": Kind(_E, "grain directory outside the file", "other programs do not open the disk"),
    "VMDK006": Kind(_W, "redundant grain directory outside the file", "the second copy is gone"),
    "VMDK007": Kind(
        _E, "grain table outside the file", "a part of the disk is lost to most programs"
    ),
    "VMDK008": Kind(
        _W, "redundant grain table outside the file", "the second copy is gone in part"
    ),
    "VMDK009": Kind(_W, "grain tables disagree", "one copy is wrong; grains may be read from it"),
    "VMDK010": Kind(_E, "grain outside the file", "its data is lost; the file was probably cut"),
    "VMDK011": Kind(_W, "grain not on a border", "VMware does not write this; it may be damage"),
    "VMDK012": Kind(_E, "grain used twice", "writing one part of the disk changes another"),
    "VMDK013": Kind(
        _E, "grain in the metadata", "its data is wrong, and writing it destroys the disk"
    ),
    "VMDK014": Kind(_W, "not closed after writing", "what was written last may be missing"),
    "VMDK015": Kind(_E, "extent missing", "the disk does not open"),
    "VMDK016": Kind(_E, "extent too short", "the end of the disk is lost"),
    "VMDK017": Kind(_W, "descriptor incomplete", "VMware may refuse the disk"),
    "VMDK018": Kind(_W, "zeroed grain not announced", "some programs read other bytes there"),
    "VMDK019": Kind(_W, "grain behind the end of the disk", "it takes space and is never read"),
    "VMDK020": Kind(_E, "grain tables overlap", "parts of the disk show the same data"),
    "VMDK021": Kind(
        _E, "extents share bytes", "writing one part of the disk changes another, or its descriptor"
    ),
    "VMDK022": Kind(_W, "extent without sectors", "some programs refuse the disk"),
    "VMDK023": Kind(_E, "disk without sectors", "there is nothing to use"),
    "VMDK024": Kind(_E, "marker damaged", "programs that read in sequence stop there"),
    "VMDK025": Kind(_E, "footer missing or damaged", "the disk does not open"),
    "VMDK026": Kind(_E, "compressed grain damaged", "its data is lost"),
    "VMDK027": Kind(
        _E, "grain and table disagree", "some programs read other bytes there, without a word"
    ),
    "VMDK028": Kind(
        _W, "grain in no table", "programs that use the tables read zeros where there is data"
    ),
    "VMDK029": Kind(_W, "stream not ended", "the file may have been cut; some programs refuse it"),
    "VMDK030": Kind(_I, "space in no use", "the file is larger than it needs to be"),
    "VMDK031": Kind(
        _E, "parent missing", "the disk does not open; here are only the changes since a snapshot"
    ),
    "VMDK032": Kind(
        _E, "parent changed after the snapshot", "the disk would show a mixture that never was"
    ),
    "VMDK033": Kind(_W, "parent of another size", "some programs refuse the disk"),
    "VMDK034": Kind(
        _W, "header contradicts itself", "programs may read the disk in different ways"
    ),
    "VMDK035": Kind(
        _E,
        "grain tables lost",
        "some or all of the disk reads as zeros, and its data is in the file",
    ),
    "VMDK036": Kind(
        _W, "descriptor and files disagree", "programs may refuse the disk, or show other bytes"
    ),
    # -- partition table ----------------------------------------------------------------------
    "PART001": Kind(_E, "partition leaves the disk", "its end is not there; the disk was cut"),
    "PART002": Kind(_E, "partitions overlap", "writing to one destroys the other"),
    "PART003": Kind(_I, "partition holds no FAT volume", "it has to be formatted before use"),
    "PART004": Kind(_W, "more than one active partition", "which one starts is left to chance"),
    # -- fat ----------------------------------------------------------------------------------
    "FAT001": Kind(_E, "boot sector unusable", "the volume does not open"),
    "FAT002": Kind(_I, "boot sector unusual", "some systems may read another type of FAT"),
    "FAT003": Kind(_W, "backup boot sector differs", "it is of no use when the first one is lost"),
    "FAT004": Kind(_W, "first table entry wrong", "some systems do not open the volume"),
    "FAT005": Kind(_W, "copies of the table differ", "one is wrong; systems may read either"),
    "FAT006": Kind(_E, "chain broken", "the rest of the file or folder is lost"),
    "FAT007": Kind(_E, "chain too short", "the end of the file is lost"),
    "FAT008": Kind(_W, "chain too long", "space is taken that belongs to no content"),
    "FAT009": Kind(_E, "chain runs in a ring", "what follows in the file or folder is lost"),
    "FAT010": Kind(_E, "clusters shared", "writing one file changes another"),
    "FAT011": Kind(_W, "lost clusters", "space is taken that belongs to no file"),
    "FAT012": Kind(_E, "bad first cluster", "the content of the file or folder is lost"),
    "FAT013": Kind(_W, "“.” or “..” wrong", "some systems go astray in the folder"),
    "FAT014": Kind(_W, "invalid name", "the file cannot be reached everywhere"),
    "FAT015": Kind(_W, "name used twice", "only the first of the files can be reached"),
    "FAT016": Kind(_W, "long name without its file", "it takes room in the folder"),
    "FAT017": Kind(_W, "labels differ", "systems show different names for the volume"),
    "FAT018": Kind(_W, "free-space summary wrong", "systems show a wrong amount of free space"),
    "FAT019": Kind(_W, "not cleanly closed", "what was written last may be incomplete"),
    "FAT020": Kind(_E, "volume longer than its device", "files at the end are lost"),
    "FAT021": Kind(_I, "not everything checked", "there is more than the check looks at"),
    "FAT022": Kind(_E, "boot sector field wrong", "files are read from wrong places"),
    "FAT023": Kind(_W, "table too small", "some systems do not open the volume"),
    "FAT024": Kind(_W, "no free-space summary", "systems count the free space each time"),
    "FAT025": Kind(_W, "no backup boot sector", "nothing is left when the first one is lost"),
    "FAT026": Kind(_W, "boot sector without jump", "some systems do not open the volume"),
    "FAT027": Kind(_W, "type text wrong", "some systems do not open the volume"),
    "FAT028": Kind(_W, "flags of the table in use wrong", "systems may read either copy"),
    "FAT029": Kind(_E, "table lost", "files cannot be found beyond their first cluster"),
    "FAT030": Kind(_W, "volume longer than its partition", "systems may refuse or cut the volume"),
    "FAT040": Kind(_E, "folder within itself", "programs that go through all folders never end"),
    "FAT041": Kind(_E, "folder in two places", "deleting it in one destroys it in the other"),
    "FAT042": Kind(_E, "folder that is none", "its names are nonsense, and writing there destroys"),
    "FAT043": Kind(_W, "folder with a length", "some systems take it for damaged"),
    "FAT044": Kind(_W, "attributes that cannot be", "systems show a label, a file or nothing"),
    "FAT045": Kind(_W, "date that cannot be", "systems show different dates, or none"),
    "FAT046": Kind(_W, "records after the end mark", "some systems show them, others do not"),
    "FAT047": Kind(_W, "long name with another checksum", "only the short name is shown"),
    "FAT048": Kind(_W, "invalid long name", "the file cannot be reached everywhere"),
    "FAT049": Kind(_W, "long-name record with odd fields", "some systems do not show the name"),
    "FAT050": Kind(_W, "lost folder", "nothing that is in it can be reached"),
    # -- flash --------------------------------------------------------------------------------
    "FLASH001": Kind(_W, "clean marker unreadable", "the segment's erase count is lost, no data"),
    "FLASH002": Kind(_W, "open header unreadable", "its records are read all the same"),
    "FLASH003": Kind(_W, "seal header unreadable", "mounting takes longer; no data is lost"),
    "FLASH004": Kind(_E, "entry table does not match its seal", "entries may be lost"),
    "FLASH005": Kind(_E, "entry unreadable", "an object or its newest version is lost"),
    "FLASH006": Kind(_E, "object bytes damaged", "an object or its newest version is lost"),
    "FLASH007": Kind(_E, "large object incomplete", "an object or its newest version is lost"),
    "FLASH008": Kind(_I, "reclaim interrupted", "the next start finishes it; nothing is lost"),
    "FLASH009": Kind(_I, "batch without commit", "it counts as never written, as promised"),
    "FLASH010": Kind(_I, "last write cut off", "it was never acknowledged; nothing is lost"),
    "FLASH011": Kind(_E, "flash layout unknown", "it is not a flash directory of this toolkit"),
    "FLASH012": Kind(_I, "segment with unreadable content", "it is free, and erased before use"),
    # -- dump ---------------------------------------------------------------------------------
    "DUMP001": Kind(
        _E,
        "no usable superblock",
        "crash records cannot be read, and none is kept until the disk is formatted",
    ),
    "DUMP002": Kind(
        _W, "one of the two superblocks is damaged", "works; the next crash record mends it"
    ),
    "DUMP003": Kind(_I, "the superblocks differ", "the power went during a write; nothing is lost"),
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
    "VM001": Kind(_E, "a disk cannot be used", "its content is out of reach of the appliance"),
    "VM002": Kind(_E, "the RAM size is unusable", "the appliance does not start"),
    "VM003": Kind(_I, "more than 3 GiB of RAM", "the rest is left unused"),
    "VM004": Kind(
        _E, "the network card has no driver", "the appliance does not boot: NIC unavailable!"
    ),
    "VM005": Kind(
        _E, "the performance counter is off", "the appliance stops: perfcounter-not enabled!!!"
    ),
    "VM006": Kind(_E, "the RAM is too small for what is stored", "the next boot loses objects"),
    "VM007": Kind(_I, "crash dumps are waiting", "read them before newer ones replace them"),
    "VM008": Kind(
        _I, "the CompactFlash volume is smaller than its disk", "the rest of the disk is unused"
    ),
    "VM009": Kind(
        _E, "a disk stands on the wrong node", "does not boot, or the disk's content is destroyed"
    ),
    "VM010": Kind(_E, "a file is the disk of two nodes", "they overwrite each other"),
    "VM011": Kind(_E, "a disk is too small for its role", "the appliance does not boot"),
    "VM012": Kind(
        _W, "the .vmx names a disk below a snapshot", "the next write makes the snapshot useless"
    ),
}
"""Every code there is, by room, in order."""
