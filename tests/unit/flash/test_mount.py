"""Mounting: fresh disks, foreign ones, damaged ones, and what each finding says."""

import contextlib
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipva_storage import flash
from ipva_storage.device import MemoryDevice
from ipva_storage.errors import FlashError, PowerCutError
from ipva_storage.flash import records
from ipva_storage.testing.flash_crash import CutNor

SIZE = 1024


def codes(image: bytes | bytearray) -> list[str]:
    """Codes of what `check` finds, which must not change the image."""
    nor = CutNor(image)
    found = [one.code for one in flash.check(nor)]
    assert nor.image == image
    return found


def made(*, is_closed: bool = True) -> bytearray:
    """A small directory: a, b, c with c written twice."""
    nor = CutNor()
    flash.format(nor)
    directory = flash.open(nor)
    for key, value in [(b"a", b"1"), (b"b", b"2" * 50), (b"c", b"old"), (b"c", b"new")]:
        directory.put(key, value)
    if is_closed:
        directory.close()
    return nor.image


def slot_of(image: bytearray, number: int) -> int:
    """Where the entry of that number in the first segment is."""
    return SIZE - 32 * (number + 1)


def content(image: bytearray) -> dict[bytes, bytes]:
    """What a mount shows."""
    return dict(flash.open(CutNor(image)).items())


ALL = {b"a": b"1", b"b": b"2" * 50, b"c": b"new"}


def test_a_disk_of_zeros_is_an_empty_directory_and_stays_untouched() -> None:
    """The vendor's factory reset, an empty disk, mounts without a write."""
    nor = CutNor()
    assert len(flash.open(nor)) == 0
    assert not any(nor.image)
    assert codes(nor.image) == []
    assert not flash.identify(MemoryDevice(flash.FLASH_BYTES))


def test_format_of_a_new_disk_writes_one_segment() -> None:
    """Only the first segment is erased and marked, so that a sparse disk stays small."""
    nor = CutNor()
    flash.format(nor)
    assert nor.erase_count == 1
    assert not any(nor.image[SIZE:])
    assert codes(nor.image) == []


def test_format_empties_a_used_flash_and_keeps_its_wear() -> None:
    """Nothing is left, and the erase counts go on."""
    nor = CutNor(made())
    wear = flash.open(nor).usage().erase_count_max
    flash.format(nor)
    directory = flash.open(nor)
    assert len(directory) == 0
    assert directory.usage().erase_count_max == wear + 1


def test_identify_knows_ours_by_its_headers() -> None:
    """A formatted device is ours; zeros, noise and a short device are not."""
    device = MemoryDevice(flash.FLASH_BYTES)
    flash.format(flash.NorDevice(device))
    assert flash.identify(device)
    assert not flash.identify(MemoryDevice(b"\x5a" * 3 * flash.SEGMENT_BYTES))
    assert not flash.identify(MemoryDevice(b"short"))


def test_a_foreign_flash_is_refused_and_never_erased() -> None:
    """Content that is not ours stops the mount, with a way out; check says so too."""
    nor = CutNor((b"someone else's flash " * 293)[: 6 * SIZE])
    before = bytes(nor.image)
    with pytest.raises(FlashError, match="unknown"):
        flash.open(nor)
    assert nor.image == before
    assert codes(nor.image) == ["FLASH011"]


def test_another_geometry_and_another_version_are_refused() -> None:
    """The clean marker says what it was made for."""
    image = made()
    with pytest.raises(FlashError, match="6 segments of 1024"):
        flash.open(CutNor(image[: 5 * SIZE], segment_count=5))
    marker = bytearray(image[:28])
    marker[4] = 2
    image[:32] = marker + crc32(marker).to_bytes(4, "little")
    with pytest.raises(FlashError, match="version 2"):
        flash.open(CutNor(image))


def test_a_torn_first_erase_of_a_new_disk_is_no_foreign_flash() -> None:
    """Ones and zeros alone, after a cut in the very first erase, mount as empty."""
    assert content(bytearray(b"\xff" * 300 + bytes(6 * SIZE - 300))) == {}


@pytest.mark.parametrize(
    ("place", "is_closed", "code", "shown"),
    [
        (0x05, True, "FLASH001", ALL),
        (0x21, True, "FLASH002", ALL),
        (0x41, True, "FLASH003", ALL),
        (slot_of(bytearray(), 1) + 12, True, "FLASH004", {b"a": b"1", b"c": b"new"}),
        (slot_of(bytearray(), 1) + 12, False, "FLASH005", {b"a": b"1", b"c": b"new"}),
        (slot_of(bytearray(), 3) + 12, False, "FLASH010", {**ALL, b"c": b"old"}),
        (0x60, True, "FLASH006", {b"b": b"2" * 50, b"c": b"new"}),
    ],
)
def test_damage_is_named_and_costs_no_more_than_it_hits(
    place: int, is_closed: bool, code: str, shown: dict[bytes, bytes]
) -> None:
    """One flipped bit in each structure: its finding, and everything else still there."""
    image = made(is_closed=is_closed)
    assert codes(image) == []
    image[place] ^= 0x10
    assert code in codes(image)
    assert content(image) == shown


def test_a_damaged_new_value_shows_the_older_one_and_says_so() -> None:
    """The newest version that is whole counts."""
    image = made()
    image[image.index(b"new")] ^= 1
    assert content(image) == {**ALL, b"c": b"old"}
    assert codes(image) == ["FLASH006"]


def test_a_large_object_without_one_of_its_parts_is_not_shown() -> None:
    """Never a short value: the object is left out and named."""
    nor = CutNor()
    directory = flash.open(nor)
    directory.put(b"large", bytes(range(256)) * 4)
    directory.put(b"small", b"1")
    at = nor.image.index(bytes(range(200, 256)))
    image = bytearray(nor.image)
    image[at] ^= 1
    assert content(image) == {b"small": b"1"}
    assert "FLASH007" in codes(image)


def test_a_batch_without_its_commit_never_was() -> None:
    """Members alone do not count, and are mentioned."""
    nor = CutNor()
    flash.format(nor)
    directory = flash.open(nor)
    directory.put(b"a", b"1")
    nor.fuse = 4  # two members, then the power goes at the COMMIT
    with pytest.raises(Exception, match="power"):
        directory.batch({b"a": b"2", b"b": b"2"})
    assert codes(nor.image) == ["FLASH009"]
    assert content(nor.image) == {b"a": b"1"}


def test_a_segment_of_noise_is_free_and_used_again() -> None:
    """Unreadable content beside ours is mentioned and later erased."""
    image = made()
    image[2 * SIZE : 3 * SIZE] = b"noise..." * 128
    assert codes(image) == ["FLASH012"]
    directory = flash.open(CutNor(image))
    for turn in range(200):
        directory.put(b"a", b"%d" % turn)
    assert directory.get(b"c") == b"new"


@given(st.binary(max_size=6 * SIZE), st.integers(0, 5 * SIZE))
def test_no_bytes_make_a_mount_fail_otherwise_than_it_may(noise: bytes, at: int) -> None:
    """Any overwritten stretch: a mount with what is left, or a FlashError; check never raises."""
    image = made()
    image[at : at + len(noise)] = noise[: len(image) - at]
    list(flash.check(CutNor(image)))
    try:
        shown = content(image)
    except FlashError:
        return
    assert all(shown[key] in (ALL[key], b"old") for key in shown)


def entry(**changes: int) -> bytes:
    """An entry with a good CRC that says anything."""
    fields = {
        "type": records.PUT,
        "flags": 0,
        "key_bytes": 1,
        "offset_units": 24,
        "payload_bytes": 2,
        "version": 9,
        "key_crc": crc32(b"z"),
        "detail": 0,
        "payload_crc": crc32(b"zz"),
    }
    body = records.ENTRY_BODY.pack(*{**fields, **changes}.values())
    return body + records.U32.pack(crc32(body))


@pytest.mark.parametrize(
    "changes",
    [
        {"key_bytes": 0},
        {"key_bytes": 3},
        {"key_bytes": 256, "payload_bytes": 300},
        {"offset_units": 3},
        {"offset_units": 255},
        {"offset_units": 0xFFFF, "payload_bytes": 0xFFFF},
        {"version": 0},
        {"version": (1 << 64) - 1},
        {"type": 0x55},
        {"type": records.COMMIT, "payload_bytes": 8},
    ],
)
def test_hostile_entries_with_good_crcs_are_left_out(changes: dict[str, int]) -> None:
    """An entry that says what cannot be is a finding, and the directory goes on."""
    image = made(is_closed=False)
    at = slot_of(image, 4)
    image[at : at + 32] = entry(**changes)
    assert "FLASH005" in codes(image)
    nor = CutNor(image)
    directory = flash.open(nor)
    directory.put(b"more", b"1")
    assert dict(flash.open(nor).items()) == {**ALL, b"more": b"1"}


def test_a_hostile_manifest_takes_no_memory() -> None:
    """A large object that claims exabytes in billions of parts is left out at once."""
    nor = CutNor()
    flash.format(nor)
    directory = flash.open(nor)
    directory.put(b"a", b"1")
    image = nor.image
    payload = b"z" + records.LARGE_TAIL.pack(1 << 60, 0xFFFFFFFF)
    image[0x80 : 0x80 + len(payload)] = payload
    at = slot_of(image, 1)
    image[at : at + 32] = entry(
        type=records.LARGE,
        offset_units=0x80 // 4,
        payload_bytes=len(payload),
        payload_crc=crc32(payload),
    )
    assert codes(image) == ["FLASH007"]
    assert content(image) == {b"a": b"1"}


def cut_within_a_reclaim() -> tuple[bytearray, int, dict[bytes, bytes]]:
    """A full flash whose reclaim was cut when it had copied: image, copy segment, content."""
    nor = CutNor()
    directory = flash.open(nor)
    before = {b"%02d" % at: bytes([at]) * 40 for at in range(30)}
    for key, value in before.items():
        directory.put(key, value)
    for turn in range(100):
        image = bytearray(nor.image)
        later = CutNor(image)
        directory = flash.open(later)
        later.fuse = 8
        with contextlib.suppress(PowerCutError):
            for again in range(10):
                key = b"%02d" % ((turn + again) % 30)
                directory.put(key, bytes([turn]) * 40)
                before[key] = bytes([turn]) * 40
        nor = CutNor(later.image)
        headers = [records.unpack_open_header(nor.image, at * SIZE + 0x20) for at in range(6)]
        if all(headers):
            sequences = [header.sequence for header in headers if header]
            return bytearray(nor.image), sequences.index(max(sequences)), before
    raise AssertionError("no reclaim was ever cut")


def test_a_roll_back_that_was_cut_is_finished_and_frees_the_copy_segment() -> None:
    """Copies whose header an interrupted erase took are told from records that need salvage."""
    image, copy, before = cut_within_a_reclaim()
    shown = content(image)
    assert shown.keys() == before.keys()
    image[copy * SIZE : copy * SIZE + 0x60] = b"\xff" * 0x60
    assert "FLASH002" not in codes(image)
    directory = flash.open(CutNor(image))
    assert dict(directory.items()) == shown
    assert directory.usage().segment_count_used < 6
    for turn in range(50):
        directory.put(b"00", b"%040d" % turn)
    assert dict(directory.items()) == {**shown, b"00": b"%040d" % 49}
