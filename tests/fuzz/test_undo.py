"""Damaged undo journals: the images come back whole, or a message says why nothing was done."""

from __future__ import annotations

import contextlib
import io
import os
import random
import time
from pathlib import Path

import pytest

from ipva_storage.cli.main import main
from ipva_storage.device import Folder
from ipva_storage.device.undo import ImageFolder, UndoFolder, UndoJournal

DAMAGES = 1000
SECONDS_MAX = 5.0
NAMES = ("first.img", "second.img")


def undo(journal: Path, *options: str) -> tuple[int, str]:
    """Status and all output of `ipva undo`; a traceback fails the test."""
    out = io.StringIO()
    started = time.process_time()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
        pytest.raises(SystemExit) as ended,
    ):
        main(["undo", str(journal), *options])
    assert time.process_time() - started < SECONDS_MAX
    assert isinstance(ended.value.code, int)
    return ended.value.code, out.getvalue()


def do_job(folder: Path, *, is_finished: bool) -> bytes:
    """Two images and a job over them; gives the journal."""
    chance = random.Random(9)
    contents = (chance.randbytes(150_000) + bytes(100_000), chance.randbytes(70_000))
    for name, content in zip(NAMES, contents, strict=True):
        (folder / name).write_bytes(content)
    journal = UndoJournal.create(Folder(folder), "undo")
    guarded = UndoFolder(Folder(folder), journal)
    with (
        guarded.open(NAMES[0], writable=True) as first,
        guarded.open(NAMES[1], writable=True) as second,
    ):
        first.write(10, b"new" * 100)
        second.write(60_000, b"new" * 100)
        first.write(140_000, b"new" * 20_000)
        second.resize(100)
        first.resize(300_000)
        first.write(100_000, b"new")
    if is_finished:
        journal.finish(ImageFolder(folder / "undo"))
    journal.close()
    return (folder / "undo").read_bytes()


def damage(content: bytes, chance: random.Random) -> bytes:
    """Cut off, or with flipped bits, noise, zeros, or a part that is there twice or missing."""
    found = bytearray(content)
    # Half of the damages hit records, which are a small part of the file.
    marks = [at for at in range(0, len(found), 512) if content[at : at + 4] in (b"UBAT", b"USTA")]
    at = chance.randrange(len(found)) if chance.random() < 0.5 else chance.choice([0, *marks])
    at += chance.randrange(64) if at in marks else 0
    length = chance.choice([1, 4, 64, 512, 5000])
    kind = chance.choice(["cut", "flip", "noise", "zeros", "twice", "missing"])
    if kind == "cut":
        del found[at:]
    elif kind == "flip":
        for _ in range(chance.choice([1, 1, 3])):
            place = min(at + chance.randrange(length), len(found) - 1)
            found[place] ^= 1 << chance.randrange(8)
    elif kind == "missing":
        del found[at : at + length]
    elif kind == "twice":
        found[at:at] = found[at : at + length]
    else:
        patch = chance.randbytes(length) if kind == "noise" else bytes(length)
        found[at : at + length] = patch
    return bytes(found)


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_thousand_damages_restore_all_or_nothing(tmp_path: Path, is_finished: bool) -> None:
    """After each damage both images are as before the job, or untouched and a message says why."""
    content = do_job(tmp_path, is_finished=is_finished)
    images = [tmp_path / name for name in NAMES]
    left = [image.read_bytes() for image in images]
    times = [image.stat().st_mtime_ns for image in images]
    assert undo(tmp_path / "undo")[0] == 0
    before = [image.read_bytes() for image in images]
    assert before != left
    chance = random.Random(f"undo {is_finished}")
    refused = 0
    for number in range(DAMAGES // 2):
        for image, old, time_ns in zip(images, left, times, strict=True):
            image.write_bytes(old)
            os.utime(image, ns=(time_ns, time_ns))
        (tmp_path / "undo").write_bytes(damage(content, chance))
        status, said = undo(tmp_path / "undo", *(["--force"] if number % 2 else []))
        assert said
        now = [image.read_bytes() for image in images]
        if status == 0:
            assert now == before, number
        else:
            assert now == left, number
            refused += 1
    assert refused > DAMAGES // 4
