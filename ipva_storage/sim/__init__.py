"""Power cuts and what they leave: the crash explorer, its workloads, and a clock to run them by.

`explore` is for work on one device, `explore_job` for work on the files of a folder. `workloads` is
not imported here: it opens every store.
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
from ipva_storage.sim.files import MemoryFolder
from ipva_storage.sim.jobs import FileState, Job, explore_job, file_points, file_states
from ipva_storage.sim.medium import Medium

__all__ = [
    "CrashPoint",
    "CrashState",
    "Cut",
    "Exploration",
    "FileState",
    "Job",
    "Medium",
    "MemoryFolder",
    "Recording",
    "Step",
    "Violation",
    "VirtualClock",
    "Workload",
    "crash_points",
    "crash_states",
    "explore",
    "explore_job",
    "file_points",
    "file_states",
    "record",
    "replay",
]
