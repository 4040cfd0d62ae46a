"""One training by several processes, one GPU each (`torchrun ... -m ablation.cli run NAME`).

Together they compute the same as one process, except for the rounding of sums. Each has its share of every global batch
and of the global batch's draws; batch norm sees the whole batch, and so do the objectives, on z gathered with
gradients. Every process computes the whole loss. For weights before the gather, `DistributedDataParallel` averages the
gradients of the processes' rows; after it every process computes the same gradient, so the average is right, too.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ablation.spec import InvalidSpec

LATE = timedelta(hours=6)  # timeout within a training, where the others wait while one process decodes images
WAIT = timedelta(days=30)  # timeout between trainings, where the others wait while one evaluates and writes


def launched_by_torchrun() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


_alone = False  # whether this process computes something that the other processes of its group do not


@contextmanager
def alone() -> Iterator[None]:
    """Within it `rank` and `count` are those of a single process, for a process that works while the others wait."""
    global _alone
    outer, _alone = _alone, True
    try:
        yield
    finally:
        _alone = outer


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() and not _alone else 0


def count() -> int:
    return distributed.get_world_size() if distributed.is_initialized() and not _alone else 1


_messages: list[distributed.ProcessGroup] = []  # the group for messages: gloo, also between GPUs


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """Joins the processes of torchrun; within it `rank` and `count` are those of the group."""
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=LATE)
    _messages.append(distributed.new_group(backend="gloo", timeout=WAIT))
    try:
        yield
    finally:
        _messages.clear()
        distributed.destroy_process_group()


def broadcast(message: Any) -> Any:
    """The message of process 0, in all processes; for a single process its own."""
    if count() == 1:
        return message
    box = [message]
    distributed.broadcast_object_list(box, src=0, group=_messages[0])
    return box[0]


class AnotherFailed(RuntimeError):
    """Another process of the group raised an exception."""


@contextmanager
def in_step() -> Iterator[None]:
    """Work that every process of the group does: if one of them raises, all do, so that none waits for it."""
    error = None
    try:
        yield
    except Exception as raised:
        error = raised
    if count() > 1:
        reasons: list[str | None] = [None] * count()
        distributed.all_gather_object(reasons, error and f"{type(error).__name__}: {error}", group=_messages[0])
        failed = [f"process {number}: {reason}" for number, reason in enumerate(reasons) if reason]
        if failed and error is None:
            raise AnotherFailed("; ".join(failed))
    if error is not None:
        raise error


def local_rows(batch: Tensor) -> Tensor:
    """This process's rows of a global batch."""
    return batch.chunk(count())[rank()]


def check_divisible(batch: int) -> None:
    if batch % count():
        raise InvalidSpec(
            f"Optimization.batch must be a multiple of the number of processes, {count()}, but got {batch}. Start "
            "another number with torchrun --nproc-per-node."
        )


def gather(z: Tensor) -> Tensor:
    """The z of the global batch from those of all processes, in order; gradients flow back to the process of each
    row."""
    return z if count() == 1 else _Gathered.apply(z)


def mean(value: Tensor) -> Tensor:
    """The mean over all processes, without gradient. It is NaN if the value of any process is NaN."""
    return value if count() == 1 else _sum(value.detach()) / count()


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z: Tensor) -> Tensor:
        parts = [torch.empty_like(z) for _ in range(count())]
        distributed.all_gather(parts, z.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return local_rows(_sum(gradient))


class _Summed(torch.autograd.Function):
    """The sum over processes. The gradient is a sum too, since every process has a loss that depends on it."""

    @staticmethod
    def forward(ctx, part: Tensor) -> Tensor:
        return _sum(part)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _sum(gradient)


def _sum(part: Tensor) -> Tensor:
    whole = part.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(whole)
    return whole


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the batches of all processes on a CPU; `nn.SyncBatchNorm` supports only GPUs."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        dims = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        values = x.numel() // x.shape[1] * count()
        wide = x.float()
        mean = _Summed.apply(wide.sum(dims)) / values
        centred = wide - mean.view(shape)
        variance = _Summed.apply(centred.square().sum(dims)) / values
        with torch.no_grad():
            self.num_batches_tracked += 1
            factor = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, factor)
            self.running_var.lerp_(variance * values / (values - 1), factor)
        out = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(x.dtype)


def with_global_batch_norm(module: nn.Module, on_gpu: bool = False) -> nn.Module:
    """Replaces a module's batch norms in place by global ones; parameters and names stay the same. Those over groups of
    a batch stay, since every process has whole groups."""
    for name, child in module.named_children():
        if _groups_of(child):
            continue
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and on_gpu:
            setattr(module, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
        elif isinstance(child, nn.modules.batchnorm._BatchNorm):
            norm = GlobalBatchNorm(child.num_features, child.eps, child.momentum, affine=child.affine)
            norm.weight, norm.bias = child.weight, child.bias
            norm.running_mean, norm.running_var = child.running_mean, child.running_var
            norm.num_batches_tracked = child.num_batches_tracked
            norm.train(child.training)
            setattr(module, name, norm)
        else:
            with_global_batch_norm(child, on_gpu)
    return module


def _groups_of(module: nn.Module) -> int:
    """The number of groups into which a batch norm splits a batch; 0 for none, and for other modules."""
    return getattr(module, "splits", 0) if isinstance(module, nn.modules.batchnorm._BatchNorm) else 0


class _Whole(nn.Module):
    """A module whose forward pass is the objective, for `DistributedDataParallel`."""

    def __init__(self, learner: nn.Module, objective: Callable):
        super().__init__()
        self.learner, self.objective = learner, objective

    def forward(self, *batch) -> tuple[Tensor, dict[str, Tensor]]:
        return self.objective(self.learner, *batch)


def parallel(learner: nn.Module, objective: Callable, batch: int) -> Callable:
    """The objective; in a group with batch norm over all processes, and with gradients averaged during the backward
    pass.

    batch: of all processes. Raises InvalidSpec if batch norm splits it into groups that lie in two processes.
    """
    if count() == 1:
        return objective
    for splits in set(map(_groups_of, learner.modules())) - {0}:
        if splits % count() or batch % splits:
            raise InvalidSpec(
                f"{type(learner).__name__} splits a batch into {splits} groups for its batch norms. They must be equal "
                f"and a multiple of the number of processes, but Optimization.batch is {batch} and there are {count()} "
                f"processes. Write splits={count()} and a multiple of it for the batch, or splits=0 for batch norms "
                "that see the whole batch."
            )
    learner = with_global_batch_norm(learner, next(learner.parameters()).device.type == "cuda")
    with warnings.catch_warnings():  # torch 2.13 renamed this argument; earlier versions do not know the new name
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
        whole = DistributedDataParallel(_Whole(learner, objective), broadcast_buffers=False)
    return lambda learner, *batch: whole(*batch)
