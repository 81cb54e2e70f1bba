"""Power cuts and what they leave: the crash explorer, its workloads, and a clock to run them by.

`workloads` is not imported here: it opens every store.
"""

from ipva_storage.sim.clock import VirtualClock
from ipva_storage.sim.crash import CrashPoint, CrashState, Cut, crash_points, crash_states
from ipva_storage.sim.explore import (
    Exploration,
    Recording,
    Step,
    Violation,
    Workload,
    explore,
    record,
    replay,
)
from ipva_storage.sim.medium import Medium

__all__ = [
    "CrashPoint",
    "CrashState",
    "Cut",
    "Exploration",
    "Medium",
    "Recording",
    "Step",
    "Violation",
    "VirtualClock",
    "Workload",
    "crash_points",
    "crash_states",
    "explore",
    "record",
    "replay",
]
