"""The choice of an executor from a command's options."""

from __future__ import annotations

import os
import secrets
from dataclasses import replace

from ablation.execution.devices import choose_devices, choose_workers, device_of_process
from ablation.execution.executor import Executor
from ablation.execution.inline import InlineExecutor
from ablation.execution.options import ExecutionOptions
from ablation.execution.pool import PoolExecutor
from ablation.execution.torchrun import TorchrunExecutor
from ablation.spec import InvalidSpec
from ablation.study.experiment_file import Source
from ablation.system import distributed

WORTH_COMPILING = 10_000  # steps of a worker: compiling takes a minute or two and saves milliseconds per step


def choose_executor(options: ExecutionOptions, source: Source, runs: int, steps: float = 0.0) -> Executor:
    """runs: their largest possible number; steps: of all trainings together, 0 if not known."""
    if distributed.count() > 1:
        return TorchrunExecutor(options.jobs(device_of_process(options.device)))
    if options.ray:
        return _on_ray(options, source, runs, steps)
    devices = choose_devices(options.device)
    workers = choose_workers(options.workers, devices)
    at_once = max(1, min(workers, runs))
    jobs = options.jobs(devices[0], compiled=worth_compiling(steps / at_once, devices[0]))
    return InlineExecutor(jobs) if workers == 1 else PoolExecutor(jobs, source, devices, at_once)


def worth_compiling(steps: float, device: str) -> bool:
    """Whether a worker takes enough steps on a GPU for compiling to save time (training/compile.py)."""
    return device.startswith("cuda") and steps >= WORTH_COMPILING


def _on_ray(options: ExecutionOptions, source: Source, runs: int, steps: float) -> Executor:
    if options.ray == "local":
        # Ray listens on every interface (2.60, even with a loopback address), so access needs this token, which only
        # the environment of its processes holds. Ray reads it on import.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        from ablation.execution.ray import RayExecutor
    except ImportError as error:
        raise InvalidSpec(
            "--ray needs Ray, which is not installed. Run: pip install -e '.[ray]' in the suite's folder."
        ) from error
    executor = RayExecutor(options.jobs("cpu"), source, options.ray, options.gpus_per_run, options.workers)
    compiled = worth_compiling(steps / max(1, min(executor.capacity, runs)), executor.options.device)
    executor.options = replace(executor.options, compiled=compiled)
    return executor
