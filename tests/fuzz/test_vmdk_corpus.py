"""The inputs that fuzzing kept: every promise is kept for each, in little time and memory."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipva_storage.cli.main import main
from tests.fuzz import promises, vmdk_inputs, vmdk_promises

CORPUS = sorted((Path(__file__).parent / "corpus" / "vmdk").iterdir())
PARTS = 8
TRACED = 16
"""Inputs whose memory is measured, twice, because that takes four times as long."""
MEMORY_MAX_BYTES = 96 << 20
"""What one input may take at a time; most of it is one bit a grain that a file has room for."""
GROWS = 4
"""A number that lets a disk be made larger."""
CORPUS_MAX_BYTES = 300_000
CLI_INPUTS = 24

COMMANDS = (
    ("info", "{}"),
    ("disk", "info", "{}"),
    ("disk", "check", "{}"),
    ("disk", "map", "{}"),
    ("disk", "diff", "{}", "{}"),
    ("disk", "repair", "{}", "--dry-run"),
    ("disk", "resize", "{}", "+1M", "--dry-run"),
    ("disk", "compact", "{}", "--dry-run"),
    ("disk", "convert", "{}", "{}.raw", "-O", "raw"),
    ("disk", "convert", "{}", "{}.new.vmdk", "-O", "streamOptimized", "--salvage"),
)
KEYS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("disk", "check"): ("errors", "leaks", "findings"),
    ("disk", "repair"): ("fixed", "left"),
    ("disk", "info"): ("format", "virtual_size"),
}


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Small seeds, made once."""
    with pytest.MonkeyPatch.context() as patch:
        vmdk_inputs.shrink(patch)
        yield


def test_the_corpus_is_there_and_small() -> None:
    """Hundreds of inputs, of every seed and for every job."""
    inputs = [path.read_bytes() for path in CORPUS]
    assert sum(map(len, inputs)) < CORPUS_MAX_BYTES
    heads = [each[:2].ljust(2, b"\0") for each in inputs]
    kinds, jobs = len(vmdk_inputs.SEEDS) + 2, len(vmdk_promises.JOBS)
    assert {head[0] % kinds for head in heads} == set(range(kinds))
    assert {head[1] % jobs for head in heads} == set(range(jobs))


@pytest.mark.parametrize("part", range(PARTS))
def test_every_promise_is_kept(part: int) -> None:
    """For each kept input, and soon."""
    for path in CORPUS[part::PARTS]:
        try:
            promises.bounded(vmdk_promises.one, path.read_bytes())
        except Exception as error:
            error.add_note(f"the input is {path.name}")
            raise


@pytest.mark.parametrize("job", vmdk_promises.JOBS[:-1], ids=lambda job: job.__name__)
def test_every_promise_is_kept_for_sound_disks(job: vmdk_promises.Job) -> None:
    """Each seed as it is: what a fault breaks most easily."""
    number = vmdk_promises.JOBS.index(job)
    for kind in range(len(vmdk_inputs.SEEDS)):
        promises.bounded(vmdk_promises.one, bytes([kind, number, GROWS, 0]))


def test_little_memory_is_taken() -> None:
    """However long a file says it is, and whatever else it says."""
    cases = {path: vmdk_inputs.case_of(path.read_bytes()) for path in CORPUS}
    longest = sorted(CORPUS, key=lambda path: -max(cases[path].holes.values(), default=0))
    tracemalloc.start()
    try:
        for path in (*longest[:TRACED], *longest[TRACED :: len(CORPUS) // TRACED]):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            vmdk_promises.one(path.read_bytes())
            assert tracemalloc.get_traced_memory()[1] - before < MEMORY_MAX_BYTES, path.name
    finally:
        tracemalloc.stop()


def run(words: list[str]) -> tuple[int, str, str]:
    """Status, output and messages of a command; a traceback fails the test."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main(words)
    assert isinstance(ended.value.code, int)
    return ended.value.code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: "-".join(words[:2]))
def test_commands_keep_their_contract(tmp_path: Path, words: tuple[str, ...]) -> None:
    """One document, a lawful status, and an untouched image, whatever the image."""
    chance = random.Random(words[1])
    statuses = set()
    for path in chance.sample(CORPUS, CLI_INPUTS):
        case = vmdk_inputs.case_of(path.read_bytes())
        if not case.files:
            continue
        folder = tmp_path / path.name
        folder.mkdir()
        for name, content in case.files.items():
            (folder / name).write_bytes(content)
        image = folder / case.name
        before = {each.name: each.stat().st_mtime_ns for each in folder.iterdir()}
        status, out, err = run([*(word.format(image) for word in words), "--json"])
        statuses.add(status)
        assert status in (0, 1, 2)
        assert "Traceback" not in err
        document = json.loads(out)
        if status == 2:
            assert document["error"]["message"].isprintable(), path.name
        else:
            assert all(key in document for key in KEYS.get(words[:2], ())), path.name
        for name, content in case.files.items():
            assert (folder / name).read_bytes() == content
            assert (folder / name).stat().st_mtime_ns == before[name]
        shutil.rmtree(folder)
    assert len(statuses) > 1
