"""Fuzz the VMDK room with atheris: by hand, for as long as you like.

    python3 dev.py fuzz vmdk -max_total_time=600

The dependency group `fuzz` has atheris, which is for Linux. Arguments are those of
libFuzzer; folders are corpora, of which the first gets what is new. Without a folder new inputs are
forgotten, and the kept ones in `corpus/vmdk` are where it starts. To keep what a run found, and
nothing that adds nothing:

    python3 dev.py fuzz vmdk -max_total_time=600 found tests/fuzz/corpus/vmdk
    python3 dev.py fuzz vmdk -merge=1 merged tests/fuzz/corpus/vmdk found

An input that breaks a promise is left as `crash-…`; replay it with its name as the only argument,
make it smaller with `-minimize_crash=1 -max_total_time=60`, and put it into the corpus when the
fault is mended: `test_vmdk_corpus.py` runs all of them in the suite.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from atheris.import_hook import HookManager

ROOT: Final = Path(__file__).resolve().parents[2]

sys.path.insert(0, str(ROOT))
# Comparisons are not watched: atheris 3.0 never frees the array that one of arrays gives.
with HookManager({"ipva_storage", "ipva_formats"}, set(), True, trace_dataflow=False):
    import pytest

    from tests.fuzz import driver, promises, vmdk_inputs, vmdk_promises


def bounded(data: bytes) -> None:
    """Try one input within bounds."""
    promises.bounded(vmdk_promises.one, data)


def mutate(data: bytes, size_max: int, seed: int) -> bytes:
    """Change edits; of whole files, any byte."""
    seeds = len(vmdk_inputs.SEEDS)
    is_whole = bool(data) and data[0] % (seeds + 2) >= seeds
    return driver.mutate_bytes(data, size_max) if is_whole else driver.mutate(data, size_max, seed)


def main() -> None:
    """Fuzz until told to stop."""
    vmdk_inputs.shrink(pytest.MonkeyPatch())
    driver.run("vmdk", bounded, mutate)


if __name__ == "__main__":
    main()
