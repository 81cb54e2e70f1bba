"""`ipva fs grow`."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipva_storage.cli import undoing
from tests.cli.conftest import Ipva

FILES = 12


@pytest.fixture
def filled(ipva: Ipva, vm: Path, tmp_path: Path) -> Path:
    """A VM with files on its CompactFlash."""
    source = tmp_path / "Some files"
    source.mkdir()
    for number in range(FILES):
        (source / f"A file {number}.txt").write_bytes(bytes([number]) * number * 5000)
    assert ipva("fs", "put", source, f"{vm}#cf:/").status == 0
    return vm


def same_files(ipva: Ipva, disk: object, tmp_path: Path) -> bool:
    """Whether all files are on the disk as they were put there."""
    out = tmp_path / "got"
    assert ipva("fs", "get", f"{disk}:/Some files", out, "--force").status == 0
    source = tmp_path / "Some files"
    return all((out / path.name).read_bytes() == path.read_bytes() for path in source.iterdir())


def test_disk_and_volume_in_one_go(ipva: Ipva, filled: Path, tmp_path: Path) -> None:
    """The disk, the volume and the undo file are told; all files stay; undo takes it back."""
    before = (filled / "hd-cf.vmdk").read_bytes()
    done = ipva("fs", "grow", f"{filled}#cf", "600M", "--json").document
    assert (done["before"], done["after"]) == (64 << 20, 600 << 20)
    assert (done["fat_before"], done["fat"], done["cluster"]) == (16, 32, 2048)
    assert (done["disk_before"], done["disk_after"]) == (64 << 20, 600 << 20)
    assert (done["partition"], done["dry_run"]) == (None, False)
    assert same_files(ipva, f"{filled}#cf", tmp_path)
    assert ipva("fs", "check", f"{filled}#cf").status == 0
    assert ipva("disk", "check", f"{filled}#cf").status == 0
    assert ipva("undo", done["undo"]).status == 0
    assert (filled / "hd-cf.vmdk").read_bytes() == before
    assert same_files(ipva, f"{filled}#cf", tmp_path)


def test_dry_run_and_refusals_change_nothing(ipva: Ipva, filled: Path) -> None:
    """What would be done is told in words; what cannot be is refused before anything happens."""
    disk = filled / "hd-cf.vmdk"
    before = disk.read_bytes()
    told = ipva("fs", "grow", disk, "+1G", "--dry-run")
    assert told.status == 0
    assert "its volume would become 1.1 GiB, FAT32; it was 64.0 MiB, FAT16" in told.out
    assert ipva("fs", "grow", disk, "1M").status == 2
    assert ipva("fs", "grow", disk, "-1M").status == 2
    assert ipva("fs", "grow", f"{filled}#dump", "1G").status == 2
    assert "larger clusters" in ipva("fs", "grow", disk, "1T").err
    assert disk.read_bytes() == before
    assert not list(filled.glob("*.undo"))


def test_no_size_fills_the_disk(ipva: Ipva, filled: Path, tmp_path: Path) -> None:
    """After a resize of the disk alone, the volume follows; then there is nothing to do."""
    disk = filled / "hd-cf.vmdk"
    assert ipva("disk", "resize", disk, "100M").status == 0
    assert ipva("fs", "grow", disk, "80M", "--no-undo").status == 0
    grown = ipva("fs", "grow", disk, "--no-undo")
    assert "its volume is now 100.0 MiB, FAT16; it was 80.0 MiB, FAT16" in grown.out
    again = ipva("fs", "grow", disk)
    assert "has 100.0 MiB already" in again.out
    assert same_files(ipva, disk, tmp_path)
    assert not list(filled.glob("*.undo"))


def test_a_raw_disk_with_a_partition(ipva: Ipva, tmp_path: Path, filled: Path) -> None:
    """The partition is told, too."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(20 << 20))
    assert ipva("fs", "format", image, "--partition").status == 0
    assert ipva("fs", "put", tmp_path / "Some files", f"{image}:/").status == 0
    grown = ipva("fs", "grow", image, "40M")
    assert "its partition 1 is now 39.0 MiB" in grown.out
    assert "ipva undo" in grown.out
    assert ipva("fs", "check", image).status == 0
    assert same_files(ipva, image, tmp_path)
    assert ipva("fs", "grow", image, "60M", "--json").document["partition_after"] == 59 << 20


def test_a_failure_on_the_way_is_taken_back(
    ipva: Ipva, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the medium fails in the middle, the disk is as it was."""
    from ipva_storage.errors import DeviceError
    from ipva_storage.fat.growing import switching

    disk = filled / "hd-cf.vmdk"
    before = disk.read_bytes()
    real, calls = switching.switch, []

    def fails(*args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == 1:  # the rehearsal
            return real(*args, **kwargs)  # type: ignore[arg-type]
        raise DeviceError("no room left on the host", where="disk")

    monkeypatch.setattr(switching, "switch", fails)
    assert ipva("fs", "grow", disk, "600M").status == 2
    assert disk.read_bytes() == before
    assert not list(filled.glob("*.undo"))
    assert undoing.journal_path(None, disk, by_default=True) == disk.with_name("hd-cf.vmdk.undo")


def test_defrag_puts_files_in_one_piece(ipva: Ipva, filled: Path, tmp_path: Path) -> None:
    """What was moved and given back is told; a dry run changes nothing; undo takes it back."""
    from ipva_storage.cli import targets

    with targets.open_volume(f"{filled}#cf", writable=True) as volume:
        volume.write("/Filler", bytes(volume.free_bytes - 50_000))
        for number in range(0, FILES, 2):
            volume.delete(f"/Some files/A file {number}.txt")
        volume.write("/In pieces", b"piece" * 16_000)
        for number in range(0, FILES, 2):
            data = (tmp_path / "Some files" / f"A file {number}.txt").read_bytes()
            if number < 4:
                volume.write(f"/Some files/A file {number}.txt", data)
            else:
                (tmp_path / "Some files" / f"A file {number}.txt").unlink()
        volume.delete("/Filler")
    disk = filled / "hd-cf.vmdk"
    before = disk.read_bytes()
    told = ipva("fs", "defrag", disk, "--dry-run")
    assert "files would be put in one piece: 1" in told.out
    assert disk.read_bytes() == before
    journal = filled / "journal"
    done = ipva("fs", "defrag", disk, "--undo", journal, "--json").document
    assert (done["moved"], done["left"], done["dry_run"]) == (1, 0, False)
    assert done["moved_bytes"] >= 80_000
    assert same_files(ipva, disk, tmp_path)
    assert ipva("fs", "cat", f"{disk}:/In pieces").out == "piece" * 16_000
    assert ipva("fs", "check", disk).status == 0
    assert "would be put in one piece: 0" in ipva("fs", "defrag", disk, "--dry-run").out
    assert ipva("undo", journal).status == 0
    assert disk.read_bytes() == before


def test_a_smaller_size_is_refused_and_nothing_called_damaged(
    ipva: Ipva, filled: Path, tmp_path: Path
) -> None:
    """With and without a partition, the size that is there is named."""
    card = tmp_path / "card.img"
    card.write_bytes(bytes(64 << 20))
    assert ipva("fs", "format", card, "--partition").status == 0
    for disk in (f"{filled}#cf", card):
        refused = ipva("fs", "grow", disk, "20M")
        assert refused.status == 2
        assert "already, and is not made smaller" in refused.err
        assert "damaged" not in refused.err


def test_the_boot_disk_boots_when_it_is_larger(ipva: Ipva, vm: Path) -> None:
    """Its only file is in the root folder, whose place moves with the clusters."""
    firmware = ipva("fs", "ls", f"{vm}#boot:/", "--json").document
    assert ipva("fs", "grow", f"{vm}#boot", "1G").status == 0
    assert ipva("fs", "ls", f"{vm}#boot:/", "--json").document == firmware
    assert ipva("fs", "check", f"{vm}#boot").status == 0
    booted = ipva("boot", vm, "--dry-run")
    assert booted.status == 0
    assert "segments=901" in booted.out
