"""Fuzz the FAT room with atheris: by hand, for as long as you like.

    python3 dev.py fuzz fat -max_total_time=600

All that `fuzz_vmdk.py` says holds here, with `corpus/fat` and `test_fat_corpus.py`.
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
    from tests.fuzz import driver, fat_inputs, fat_promises, promises


def bounded(data: bytes) -> None:
    """Try one input within bounds."""
    promises.bounded(fat_promises.one, data)


def main() -> None:
    """Fuzz until told to stop."""
    fat_inputs.seeds()
    driver.run("fat", bounded, driver.mutate)


if __name__ == "__main__":
    main()
