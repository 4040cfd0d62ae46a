"""Runs in this process, one after the other."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

from ablation.engines.base import Job, OnProgress, Outcome, Setup, compute_job, parts_of, settle_in


def in_this_process(jobs: Sequence[Job], on_progress: OnProgress, at_once: int, setup: Setup) -> Iterator[Outcome]:
    """On a CPU with one thread, so that the numbers are those of a worker. `at_once` is 1."""
    import torch

    threads = torch.get_num_threads()
    settle_in(setup.device)
    who = f"process {os.getpid()} on {setup.device}"
    try:
        for job in jobs:
            start = time.perf_counter()
            on_progress(who, job, 0.0)
            computed = compute_job(job, setup, lambda fraction, job=job: on_progress(who, job, fraction))
            for part in parts_of(job.parts, computed):
                yield Outcome(job, time.perf_counter() - start, part)
    finally:
        torch.set_num_threads(threads)
