"""Fuzz the VMDK room with atheris: by hand, for as long as you like.

    python3 dev.py fuzz -max_total_time=600

The dependency group `fuzz` has atheris, which is for Linux. Arguments are those of
libFuzzer; folders are corpora, of which the first gets what is new. Without a folder new inputs are
forgotten, and the kept ones in `corpus/vmdk` are where it starts. To keep what a run found, and
nothing that adds nothing:

    python3 dev.py fuzz -max_total_time=600 found tests/fuzz/corpus/vmdk
    python3 dev.py fuzz -merge=1 merged tests/fuzz/corpus/vmdk found

An input that breaks a promise is left as `crash-…`; replay it with its name as the only argument,
make it smaller with `-minimize_crash=1 -max_total_time=60`, and put it into the corpus when the
fault is mended: `test_vmdk_corpus.py` runs all of them in the suite.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Final

import atheris

ROOT: Final = Path(__file__).resolve().parents[2]
CORPUS: Final = Path(__file__).parent / "corpus" / "vmdk"
OPTIONS: Final = ("-timeout=60", "-rss_limit_mb=1024", "-max_len=4096", "-report_slow_units=5")
"""What counts as a hang, as growth, and as long; an argument of the same name counts instead."""

sys.path.insert(0, str(ROOT))
with atheris.instrument_imports(include=["ipva_storage", "ipva_formats"]):
    import pytest

    from tests.fuzz import vmdk_inputs, vmdk_promises


def mutate(data: bytes, size_max: int, seed: int) -> bytes:
    """Change a head, add, drop, double or change an edit; of whole files, any byte."""
    chance = random.Random(seed)
    head = vmdk_inputs.HEAD.size
    is_whole = bool(data) and data[0] % (len(vmdk_inputs.SEEDS) + 2) >= len(vmdk_inputs.SEEDS)
    if is_whole or len(data) < head or chance.random() < 0.1:
        return bytes(atheris.Mutate(data, size_max))
    step = vmdk_inputs.RECORD.size
    edits = [data[at : at + step] for at in range(head, len(data), step)]
    start = bytearray(data[:head])
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        _mutate_edits(edits, start, chance)
    return (bytes(start) + b"".join(edits[: vmdk_inputs.EDITS_MAX]))[:size_max]


def _mutate_edits(edits: list[bytes], start: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(edits)) if edits else 0
    what = chance.random()
    if what < 0.15:
        start[chance.randrange(len(start))] = chance.randrange(256)
    elif what < 0.45 or not edits:
        edits.insert(at, _new_edit(chance))
    elif what < 0.6:
        del edits[at]
    elif what < 0.65:
        edits.append(edits[at])
    else:
        edit = bytearray(edits[at])
        place = chance.randrange(len(edit))
        edit[place] = chance.choice((chance.randrange(256), edit[place] ^ 1 << chance.randrange(8)))
        edits[at] = bytes(edit)


def _new_edit(chance: random.Random) -> bytes:
    where = chance.choice(
        (32768 + chance.randrange(100), chance.randrange(12000), chance.randrange(64))
    )
    value = chance.choice((chance.randrange(256), chance.getrandbits(32)))
    return vmdk_inputs.RECORD.pack(chance.randrange(256), where, chance.randrange(256), value)


def main() -> None:
    """Fuzz until told to stop."""
    vmdk_inputs.shrink(pytest.MonkeyPatch())
    given = sys.argv[1:]
    names = {each.partition("=")[0] for each in given}
    options = [each for each in OPTIONS if each.partition("=")[0] not in names]
    kept = ",".join(str(path) for path in CORPUS.iterdir())
    corpus = [] if any(not each.startswith("-") for each in given) else [f"-seed_inputs={kept}"]
    again = f"{sys.executable} {sys.argv[0]}"  # what a shell is to start for a merge
    arguments = [again, *options, *given, *corpus]
    atheris.Setup(arguments, vmdk_promises.bounded, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
