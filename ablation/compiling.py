"""Compiled operators and objectives, for runs on a GPU that are long enough to earn the compilation back.

A small network leaves a GPU waiting for the host, which launches one kernel after the other, and the color
chain is many small ones. `torch.compile` fuses them and replays them as one CUDA graph. What is compiled
depends on shapes and settings, not on the cell, so the cells that a worker computes one after the other share
it; later processes find it in the compiler's cache on disk. On a CPU nothing is compiled: there it gained
little for the encoder and did not pay for the time that it takes (`python -m benchmarks`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from ablation.methods import Learner
from ablation.operators.base import transform

Objective = Callable[[Learner, list[Tensor], Tensor], tuple[Tensor, dict[str, Tensor]]]


def objective_of(learner: Learner, views: list[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """`learner.loss` as a function, which can be compiled."""
    return learner.loss(views, labels)


@functools.cache
def compiled_objective() -> Objective:
    """`objective_of`, its forward and backward passes as CUDA graphs where there is CUDA."""
    _prepare()
    compiled = torch.compile(objective_of, dynamic=False, mode="reduce-overhead")

    def objective(learner: Learner, views: list[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        torch.compiler.cudagraph_mark_step_begin()  # what the last step left may be overwritten
        return compiled(learner, views, labels)

    return objective


@functools.cache
def compiled_transform() -> Callable[..., Tensor]:
    """`Operator.transform`, compiled anew for each operator that it meets."""
    _prepare()
    return torch.compile(transform, dynamic=False)


def make_room(device: torch.device) -> None:
    """Forgets what was compiled for earlier cells where less than half of the GPU is free.

    Each learner's step is recorded with memory of its own, which outlives the learner; there is no smaller way to
    free it than to record, from the cache on disk, anew. The memory is the device's, which other workers share.
    """
    if device.type != "cuda":
        return
    torch.cuda.empty_cache()  # what is only kept for later does not count
    free, total = torch.cuda.mem_get_info(device)
    if free < total / 2:
        torch.compiler.reset()
        torch.cuda.empty_cache()


def _prepare() -> None:
    torch._dynamo.config.recompile_limit = 100  # operators, methods and shapes of a worker's cells
