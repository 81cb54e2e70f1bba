"""Damaged images: every command ends with a message and status 0, 1 or 2, and soon."""

from __future__ import annotations

import contextlib
import gzip
import io
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipva_storage import appliance
from ipva_storage.cli.main import main
from ipva_storage.device import Folder

SECONDS_MAX = 5.0
DAMAGES = 1000

INSPECTIONS = (
    ("info", "{}"),
    ("disk", "info", "{}"),
    ("disk", "check", "{}"),
    ("disk", "map", "{}"),
    ("disk", "resize", "{}", "+1M", "--dry-run"),
    ("disk", "compact", "{}", "--dry-run"),
    ("fs", "check", "{}"),
    ("fs", "tree", "{}:/"),
    ("flash", "info", "{}"),
    ("dump", "list", "{}"),
)


def run(*words: str) -> tuple[int, str]:
    """Status and all output of a command; a traceback fails the test."""
    out, err = io.StringIO(), io.StringIO()
    started = time.process_time()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main(list(words))
    assert time.process_time() - started < SECONDS_MAX, words
    assert isinstance(ended.value.code, int)
    return ended.value.code, out.getvalue() + err.getvalue()


def inspect(image: Path) -> dict[str, int]:
    """Every inspecting command over one image: each says something and has a lawful status."""
    statuses = {}
    for words in INSPECTIONS:
        status, said = run(*(word.format(image) for word in words))
        assert status in (0, 1, 2), words
        assert said or status == 0, words
        statuses[" ".join(words[:2])] = status
    return statuses


def broken_images(shared_images: Path) -> Iterator[Path]:
    """Every damaged image at hand."""
    for folder in sorted(shared_images.glob("*-broken")):
        yield from sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.interop
def test_every_damaged_image_at_hand_is_called_damaged_or_refused(
    shared_images: Path, tmp_path: Path
) -> None:
    """No command calls a broken image sound; its mended twin is none of ours to complain about."""
    seen = 0
    for path in broken_images(shared_images):
        image = path
        if path.suffix == ".gz":
            assert run("info", str(path))[0] == 2
            image = tmp_path / path.stem
            with gzip.open(path) as packed, image.open("wb") as file:
                shutil.copyfileobj(packed, file)
        statuses = inspect(image)
        if ".fixed" not in path.name:
            judge = "fs check" if "fat" in path.parts[-3] else "disk check"
            assert statuses[judge] in (1, 2), (path.name, statuses)
            seen += 1
        if image is not path:
            image.unlink()
    assert seen >= 10


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An appliance with something on every disk."""
    folder = tmp_path_factory.mktemp("good") / "vm"
    appliance.create(Folder(folder), cf_bytes=16 * 2**20)
    for words in (
        ("flash", "put", str(folder), "alice", "--value", "(cn=Alice)" * 50),
        ("fs", "put", str(Path(__file__)), f"{folder}#cf:/a folder/"),
    ):
        assert run(*words)[0] == 0
    return folder


@pytest.mark.parametrize("disk", ["hd-boot", "hd-cf", "hd-flash", "hd-dump"])
def test_a_thousand_random_damages_end_with_a_message(
    good: Path, tmp_path: Path, disk: str
) -> None:
    """Truncated anywhere or with bytes flipped, an image never causes a traceback or a hang."""
    content = (good / f"{disk}.vmdk").read_bytes()
    chance = random.Random(disk)
    image = tmp_path / "damaged.vmdk"
    for _ in range(DAMAGES // 4 // len(INSPECTIONS) + 1):
        for words in INSPECTIONS:
            damaged = bytearray(content)
            is_cut = chance.random() < 0.3
            if is_cut:
                del damaged[chance.randrange(len(damaged)) :]
            else:
                for _ in range(chance.choice([1, 1, 8, 64])):
                    # Half of the flips hit the first 64 KiB, where the structures are.
                    reach = len(damaged) if chance.random() < 0.5 else min(65536, len(damaged))
                    damaged[chance.randrange(reach)] ^= 1 << chance.randrange(8)
            image.write_bytes(damaged)
            status, said = run(*(word.format(image) for word in words))
            assert status in (0, 1, 2), words
            assert said or status == 0, words
            if is_cut:
                assert run("disk", "check", str(image))[0] in (1, 2)
