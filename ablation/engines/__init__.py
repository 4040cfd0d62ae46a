"""Where runs are computed: in this process, in a process per device, on a Ray cluster."""

from ablation.engines.base import (
    Engine,
    Job,
    OnProgress,
    Outcome,
    Part,
    Setup,
    Work,
    compute_job,
    every_half_second,
    keep_freed_memory,
    settle_in,
)
from ablation.engines.here import in_this_process
from ablation.engines.processes import environment_of_a_worker, in_workers, obituary, setup_of_a_worker

__all__ = [
    "Engine",
    "Job",
    "OnProgress",
    "Outcome",
    "Part",
    "Setup",
    "Work",
    "compute_job",
    "environment_of_a_worker",
    "every_half_second",
    "in_this_process",
    "in_workers",
    "keep_freed_memory",
    "obituary",
    "settle_in",
    "setup_of_a_worker",
]
