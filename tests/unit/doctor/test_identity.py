from __future__ import annotations

import itertools

import pytest

from ipva_storage import boot, dump, fat, flash
from ipva_storage.appliance import Role
from ipva_storage.appliance.create import format_boot, format_flash
from ipva_storage.device import MemoryDevice
from ipva_storage.doctor import identity
from ipva_storage.doctor.identity import NOTHING, UNKNOWN, Held
from ipva_storage.units import MIB

GOOD = {role: Held(role, "") for role in Role}


def test_each_disk_is_known_by_its_content() -> None:
    """The four disks of a new appliance, a blank one, an erased one and noise."""
    disks = {role: MemoryDevice(64 * MIB) for role in Role}
    format_boot(disks[Role.BOOT], boot.demo_firmware())
    fat.format(disks[Role.CF], label="CF0")
    format_flash(disks[Role.FLASH])
    dump.format(disks[Role.DUMP])
    for role, disk in disks.items():
        assert identity.recognise(disk).role is role
    assert identity.recognise(disks[Role.CF]).label == "CF0"
    assert identity.recognise(MemoryDevice(MIB)) is NOTHING
    erased = MemoryDevice(2 * MIB)
    erased.write(0, b"\xff" * MIB)
    assert identity.recognise(erased) is NOTHING
    erased.write(MIB + 5, b"x")
    assert identity.recognise(erased) is UNKNOWN


def test_a_card_that_holds_the_image_of_a_flash_is_a_card() -> None:
    """The headers of a flash inside a file do not make a volume a flash disk."""
    card = MemoryDevice(96 * MIB)
    fat.format(card)
    nor = MemoryDevice(flash.FLASH_BYTES)
    format_flash(nor)
    volume = fat.open(card)
    volume.write("/backup.img", bytes(nor.data))
    volume.flush()
    assert identity.recognise(card).role is Role.CF


def test_doubt_is_not_blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk too long to be read through is not called blank, which would invite a format."""
    disk = MemoryDevice(4 * MIB)
    disk.write(0, b"\xff" * 4 * MIB)
    assert identity.is_blank(disk)
    monkeypatch.setattr(identity, "_BLANK_LIMIT_BYTES", 2 * MIB)
    assert not identity.is_blank(disk)


def test_disks_in_their_places_are_not_misplaced() -> None:
    """Nor is what is blank or unknown."""
    for role in Role:
        assert not identity.is_misplaced(role, GOOD)
        for other in (NOTHING, UNKNOWN):
            assert not identity.is_misplaced(role, GOOD | {role: other})


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(Role, 2)))
def test_any_two_disks_swapped_are_both_misplaced(first: Role, second: Role) -> None:
    """Without any label, too."""
    held = GOOD | {first: GOOD[second], second: GOOD[first]}
    assert [role for role in Role if identity.is_misplaced(role, held)] == [first, second]


@pytest.mark.parametrize(
    ("on_boot", "on_card", "misplaced"),
    [
        ((Role.CF, ""), (Role.CF, ""), []),
        ((Role.CF, "HD-BOOT"), (Role.CF, "CF0"), []),
        ((Role.CF, "HD-BOOT"), (Role.BOOT, "CF0"), []),
        ((Role.CF, ""), (Role.BOOT, "CF0"), []),
        ((Role.CF, "CF0"), (Role.CF, "CF0"), [Role.BOOT]),
        ((Role.CF, "CF0"), (Role.BOOT, "HD-BOOT"), [Role.BOOT, Role.CF]),
        ((Role.CF, "OTHER"), (Role.BOOT, "OTHER"), [Role.BOOT, Role.CF]),
        ((Role.CF, "HD-BOOT"), (Role.BOOT, "HD-BOOT"), [Role.CF]),
        ((Role.BOOT, ""), (Role.BOOT, ""), []),
        ((Role.BOOT, "HD-BOOT"), (Role.BOOT, "CF0"), []),
        ((Role.BOOT, "HD-BOOT"), (Role.BOOT, "HD-BOOT"), [Role.CF]),
    ],
)
def test_firmware_and_label_tell_a_boot_disk_from_a_card(
    on_boot: tuple[Role, str], on_card: tuple[Role, str], misplaced: list[Role]
) -> None:
    """A card may hold a copy of the firmware, and a boot disk may have lost its own."""
    held = GOOD | {
        Role.BOOT: Held(on_boot[0], "", on_boot[1]),
        Role.CF: Held(on_card[0], "", on_card[1]),
    }
    assert [role for role in Role if identity.is_misplaced(role, held)] == misplaced
