"""Where runs are computed: in this process, in a process per device, on a Ray cluster."""

from ablation.engines.base import (
    Engine,
    Job,
    OnProgress,
    Outcome,
    Setup,
    Work,
    compute_missing,
    every_half_second,
    keep_freed_memory,
    read_weights,
    settle_in,
)
from ablation.engines.here import in_this_process
from ablation.engines.processes import environment_of_a_worker, in_workers, obituary

__all__ = [
    "Engine",
    "Job",
    "OnProgress",
    "Outcome",
    "Setup",
    "Work",
    "compute_missing",
    "environment_of_a_worker",
    "every_half_second",
    "in_this_process",
    "in_workers",
    "keep_freed_memory",
    "obituary",
    "read_weights",
    "settle_in",
]
