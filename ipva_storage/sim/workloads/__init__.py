"""Work on each store, with the check of its promise: what the crash explorer runs.

>>> from ipva_storage.sim import explore, workloads
>>> explore(workloads.make("dump", step_count=2), limit=20).violations
()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from ipva_storage.errors import UsageError

if TYPE_CHECKING:
    from ipva_storage.sim.workloads.model import ModelWorkload

WORKLOADS: Final = {
    "dump": "DumpWorkload",
    "fat": "FatWorkload",
    "flash": "FlashWorkload",
    "vmdk": "VmdkWorkload",
    "resize": "ResizeWorkload",
}
"""Name of a store to the class of its workload; each is in the module of that name."""


def make(name: str, *, step_count: int | None = None, seed: int = 0) -> ModelWorkload:
    """The workload of a store; only that store is imported.

    Args:
        name: a key of `WORKLOADS`.
        step_count: how much work; as much as is right for that store if None.
        seed: chooses what is done.

    Raises:
        UsageError: there is no such workload.
    """
    if name not in WORKLOADS:
        raise UsageError(f"there is no workload “{name}”; choose {', '.join(WORKLOADS)}")
    module = importlib.import_module(f"{__name__}.{name}")
    workload: ModelWorkload = getattr(module, WORKLOADS[name])(step_count=step_count, seed=seed)
    return workload


__all__ = ["WORKLOADS", "make"]
