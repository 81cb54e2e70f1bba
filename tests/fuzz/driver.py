"""What fuzzing a room with atheris takes, whatever the room."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import atheris

from tests.fuzz import edits

OPTIONS: Final = ("-timeout=60", "-rss_limit_mb=1024", "-max_len=4096", "-report_slow_units=5")
"""What counts as a hang, as growth, and as long; an argument of the same name counts instead."""

Try = Callable[[bytes], None]
Mutator = Callable[[bytes, int, int], bytes]


def run(room: str, one: Try, mutator: Mutator) -> None:
    """Try inputs until told to stop; the kept ones of a room are where it starts."""
    given = sys.argv[1:]
    names = {each.partition("=")[0] for each in given}
    options = [each for each in OPTIONS if each.partition("=")[0] not in names]
    kept = ",".join(str(path) for path in (Path(__file__).parent / "corpus" / room).glob("*"))
    is_given = any(not each.startswith("-") for each in given)
    corpus = [] if is_given or not kept else [f"-seed_inputs={kept}"]
    again = f"{sys.executable} {sys.argv[0]}"  # what a shell is to start for a merge
    atheris.Setup([again, *options, *given, *corpus], one, custom_mutator=mutator)
    atheris.Fuzz()


def mutate(data: bytes, size_max: int, seed: int) -> bytes:
    """Change a head, add, drop, double or change an edit."""
    chance = random.Random(seed)
    head, step = edits.HEAD.size, edits.RECORD.size
    if len(data) < head or chance.random() < 0.1:
        return mutate_bytes(data, size_max)
    found = [data[at : at + step] for at in range(head, len(data), step)]
    start = bytearray(data[:head])
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        _mutate_edits(found, start, chance)
    return (bytes(start) + b"".join(found[: edits.EDITS_MAX]))[:size_max]


def mutate_bytes(data: bytes, size_max: int) -> bytes:
    """Change any byte."""
    return bytes(atheris.Mutate(data, size_max))


def _mutate_edits(found: list[bytes], start: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(found)) if found else 0
    what = chance.random()
    if what < 0.15:
        start[chance.randrange(len(start))] = chance.randrange(256)
    elif what < 0.45 or not found:
        found.insert(at, _new_edit(chance))
    elif what < 0.6:
        del found[at]
    elif what < 0.65:
        found.append(found[at])
    else:
        edit = bytearray(found[at])
        place = chance.randrange(len(edit))
        edit[place] = chance.choice((chance.randrange(256), edit[place] ^ 1 << chance.randrange(8)))
        found[at] = bytes(edit)


def _new_edit(chance: random.Random) -> bytes:
    where = chance.choice(
        (32768 + chance.randrange(100), chance.randrange(12000), chance.randrange(64))
    )
    value = chance.choice((chance.randrange(256), chance.getrandbits(32)))
    return edits.RECORD.pack(chance.randrange(256), where, chance.randrange(256), value)
