from __future__ import annotations

import time

import pytest

from ipva_storage.appliance import VmxFile, new_vmx
from ipva_storage.errors import ConfigError, UsageError
from ipva_storage.units import GIB, MIB

SAMPLE = (
    "#!/usr/bin/vmware\r\n"
    '.encoding = "windows-1252"\r\n'
    'MemSize="64"\r\n'
    "  numvcpus =  1   # one\r\n"
    'ide0:1.fileName = "a|22b|7C.vmdk"\n'
    "\n"
    "nonsense here\n"
    "empty =\n"
    'ethernet0.generatedAddress = "00:0c:29:f4:c6:d9"\n'
    'uuid.bios = "56 4d 64 b9 52 ce 38 57-66 29 e8 f2 77 f4 c6 d9"'
)


def test_text_comes_back_to_the_byte() -> None:
    """Order, comments, blanks, odd lines and line endings are kept."""
    assert VmxFile(SAMPLE).text() == SAMPLE
    data = b'displayName = "Gr\xfc\xdfe"\r\n'
    assert VmxFile.decode(data).encode() == data


def test_names_are_found_without_regard_to_case() -> None:
    """Quoted, bare, commented and empty values are read."""
    vmx = VmxFile(SAMPLE)
    assert vmx.get("memsize") == "64"
    assert vmx.get("NUMVCPUS") == "1"
    assert vmx.get("ide0:1.filename") == 'a"b|.vmdk'
    assert vmx.get("empty") == ""
    assert vmx.get("nonsense") is None
    assert "EMPTY" in vmx
    assert "nonsense here" not in vmx


def test_a_change_touches_its_line_only() -> None:
    """Spelling of the name, blanks and the comment stay; the rest of the file too."""
    vmx = VmxFile(SAMPLE)
    vmx.set("Numvcpus", "2")
    vmx.set("memsize", "192")
    expected = SAMPLE.replace("=  1   # one", '=  "2"   # one').replace('"64"', '"192"')
    assert vmx.text() == expected
    assert VmxFile(vmx.text()).get("numvcpus") == "2"


def test_a_new_name_goes_last_with_the_line_ending_of_the_file() -> None:
    """A last line without an ending gets one first."""
    vmx = VmxFile(SAMPLE)
    vmx.set("new.key", 'a "b" | c\n')
    assert vmx.text() == SAMPLE + '\r\nnew.key = "a |22b|22 |7C c|0A"\r\n'
    assert VmxFile(vmx.text()).get("new.key") == 'a "b" | c\n'


def test_a_name_that_makes_no_line_is_refused() -> None:
    """A name with a blank would read back as something else."""
    with pytest.raises(UsageError):
        VmxFile().set("two words", "x")


def test_remove_drops_every_line_of_a_name() -> None:
    """A name that is there twice is gone afterwards."""
    vmx = VmxFile('a = "1"\nA = "2"\nb = "3"\n')
    assert vmx.get("a") == "1"
    assert vmx.remove("a")
    assert not vmx.remove("a")
    assert vmx.text() == 'b = "3"\n'


def test_ram_is_counted_in_mib() -> None:
    """`memsize` is read and written in MiB."""
    vmx = VmxFile(SAMPLE)
    assert vmx.ram_bytes == 64 * MIB
    vmx.ram_bytes = 3 * GIB
    assert vmx.get("memsize") == "3072"
    with pytest.raises(UsageError):
        vmx.ram_bytes = MIB + 1


@pytest.mark.parametrize(
    "text", ["", 'memsize = "lots"', 'memsize = "-4"', f"memsize = {'9' * 5000}"]
)
def test_ram_that_is_no_number_is_an_error_with_a_remedy(text: str) -> None:
    """A missing or absurd memsize is told, not guessed."""
    with pytest.raises(ConfigError, match="memsize"):
        _ = VmxFile(text).ram_bytes


def test_a_disk_is_found_by_its_node() -> None:
    """Absent nodes and CD drives are no disks; a node is present unless it says not."""
    vmx = VmxFile(
        'ide0:0.fileName = "a.vmdk"\n'
        'ide0:1.present = "FALSE"\nide0:1.fileName = "b.vmdk"\n'
        'ide1:0.present = "TRUE"\nide1:0.deviceType = "cdrom-image"\nide1:0.fileName = "c.iso"\n'
        'ide1:1.present = "true"\nide1:1.deviceType = "disk"\nide1:1.fileName = "d.vmdk"\n'
    )
    assert [vmx.disk_file(node) for node in ("0:0", "0:1", "1:0", "1:1")] == [
        "a.vmdk",
        None,
        None,
        "d.vmdk",
    ]


def test_set_mac_changes_address_and_uuid_together() -> None:
    """The generated address goes, and the UUID's last three bytes follow the new one."""
    vmx = VmxFile(SAMPLE)
    assert vmx.mac == "00:0c:29:f4:c6:d9"
    vmx.set_mac("00-50-56-3F-00-01")
    assert vmx.mac == "00:50:56:3f:00:01"
    assert vmx.get("ethernet0.addressType") == "static"
    assert vmx.get("ethernet0.generatedAddress") is None
    assert vmx.get("uuid.bios") == "56 4d 64 b9 52 ce 38 57-66 29 e8 f2 77 3f 00 01"


@pytest.mark.parametrize("mac", ["00:0c:29:f4:c6:d9", "00:50:56:40:00:00", "00:50:56:00:00", "x"])
def test_an_address_outside_vmwares_range_is_refused(mac: str) -> None:
    """Only 00:50:56:00:00:00 to 00:50:56:3f:ff:ff may be assigned."""
    with pytest.raises(UsageError, match="00:50:56"):
        VmxFile().set_mac(mac)


def test_a_new_vmx_has_what_an_ipva_needs() -> None:
    """RAM, four disks, the network card, the perfctr line and a consistent identity."""
    disks = {"0:0": "b.vmdk", "0:1": "c.vmdk", "1:0": "f.vmdk", "1:1": "d.vmdk"}
    vmx = new_vmx(ram_bytes=64 * MIB, disks=disks, mac="00:50:56:01:02:03")
    assert vmx.text() == new_vmx(ram_bytes=64 * MIB, disks=disks, mac="00:50:56:01:02:03").text()
    assert vmx.ram_bytes == 64 * MIB
    assert {node: vmx.disk_file(node) for node in disks} == disks
    assert (vmx.nic_type, vmx.has_pseudo_perfctr) == ("vlance", True)
    assert vmx.uuid_bios is not None
    assert vmx.uuid_bios[:2] == b"\x56\x4d"
    assert vmx.uuid_bios[-3:] == b"\x01\x02\x03"
    assert 'monitor_control.pseudo_perfctr = "TRUE"\n' in vmx.text()


def test_two_new_machines_have_different_addresses() -> None:
    """The address is drawn from VMware's range for static ones."""
    macs = {new_vmx(ram_bytes=64 * MIB, disks={}).mac for _ in range(8)}
    assert len(macs) > 1
    assert all(mac is not None and mac.startswith("00:50:56:") for mac in macs)


def test_a_vmx_longer_than_any_is_refused() -> None:
    """The length is checked before the text is taken apart."""
    with pytest.raises(ConfigError, match="longer"):
        VmxFile.decode(bytes(MIB + 1))


@pytest.mark.parametrize(
    "text",
    [
        "a=" + " " * 3000 + '"',
        "a=" + " " * 500_000 + '"',
        " " * 250_000 + "a" * 250_000 + " " * 250_000,
        "\ufeff" * 300_000 + "=",
        'a="' * 200_000,
        "a=b" + " #" * 200_000 + '"',
        ("a=" + " " * 1000 + '"\n') * 1000,
        '"\r' * 200_000,
    ],
    ids=range(8),
)
def test_hostile_lines_take_linear_time(text: str) -> None:
    """Lines that nearly are entries are read in a moment, and come back to the letter."""
    started = time.process_time()
    vmx = VmxFile(text)
    assert time.process_time() - started < 2  # the first took minutes
    assert vmx.text() == text


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("a=b", "b"),
        ("\ufeffa = b c \t# d", "b c"),
        ("a=", ""),
        ("a=  \t", ""),
        ("a= # c", ""),
        ('a="" #', ""),
        ('a= "b # c" # d', "b # c"),
        ("a=b=c", "b=c"),
        ('a="b"c', None),
        ('a="b', None),
        ('a=b"', None),
        ('a=b #"', "b"),
        ("a b=c", None),
        ("=b", None),
        ("#a=b", None),
        ("\ufeff=b", None),
    ],
)
def test_every_form_of_a_line(line: str, value: str | None) -> None:
    """What is an entry, what it says, and that changing it touches only the value."""
    vmx = VmxFile(line)
    assert vmx.get("a") == value
    if value is not None:
        vmx.set("a", "new")
        assert vmx.get("a") == "new"
        before, _, after = vmx.text().partition('"new"')
        assert line.startswith(before)
        assert line.endswith(after)


def test_messages_show_values_without_what_a_terminal_obeys() -> None:
    """A value with an escape sequence, or bytes that are no UTF-8, is escaped in an error."""
    vmx = VmxFile.decode(b'memsize = "6\xa5\x1b[2J"\n', name="x.vmx")
    with pytest.raises(ConfigError) as caught:
        _ = vmx.ram_bytes
    assert str(caught.value).isprintable()
    assert "\\x1b[2J" in str(caught.value)
    with pytest.raises(UsageError) as refused:
        vmx.set_mac("\x1b[2J")
    assert str(refused.value).isprintable()
