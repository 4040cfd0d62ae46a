"""Compiled operators and objectives, for GPU runs that are long enough to repay the compilation.

A small network leaves a GPU waiting for the host to launch kernels, and the color chain has many small ones.
`torch.compile` fuses them and replays them as one CUDA graph. Compiled code depends on shapes and settings, not
on the cell, so a worker's cells share it, and later processes find it in the compiler's cache on disk. On a CPU
nothing is compiled: the gain for the encoder was small and did not repay the time (`python -m benchmarks`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from ablation.methods import Learner
from ablation.operators import FromKornia, Operator
from ablation.operators.base import Annotations, Params, transform

Objective = Callable[..., tuple[Tensor, dict[str, Tensor]]]  # takes learner, views, labels and annotations


def objective_of(
    learner: Learner, views: list[Tensor], labels: Tensor | None, annotations: list[Annotations] | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """`learner.loss` as a function, so that it can be compiled."""
    return learner.loss(views, labels) if annotations is None else learner.loss(views, labels, annotations)


@functools.cache
def compiled_objective() -> Objective:
    """`objective_of` compiled, with forward and backward passes as CUDA graphs on a GPU."""
    _prepare()
    compiled = torch.compile(objective_of, dynamic=False, mode="reduce-overhead")

    def objective(*batch) -> tuple[Tensor, dict[str, Tensor]]:
        torch.compiler.cudagraph_mark_step_begin()  # the last step's tensors may be overwritten
        return compiled(*batch)

    return objective


@functools.cache
def compiled_transform() -> Callable[..., Tensor]:
    """`Operator.transform`, compiled for each operator; Kornia's modules run uncompiled."""
    _prepare()
    compiled = torch.compile(transform, dynamic=False)

    def one(operator: Operator, images: Tensor, params: Params) -> Tensor:
        return (transform if isinstance(operator, FromKornia) else compiled)(operator, images, params)

    return one


def make_room(device: torch.device) -> None:
    """Drops the compiled code of earlier cells if less than half of the GPU's memory is free.

    Each learner's recorded step has its own memory, which outlives the learner; the only way to free it is to record
    again, from the cache on disk. Other workers share the device's memory.
    """
    if device.type != "cuda":
        return
    torch.cuda.empty_cache()  # so that cached memory counts as free
    free, total = torch.cuda.mem_get_info(device)
    if free < total / 2:
        torch.compiler.reset()
        torch.cuda.empty_cache()


def _prepare() -> None:
    torch._dynamo.config.recompile_limit = 100  # enough for the operators, methods and shapes of a worker's cells
