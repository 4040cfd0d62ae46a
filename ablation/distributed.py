"""One training by several processes, a GPU each (`torchrun ... -m ablation.cli run NAME`).

The processes together compute what one would, but for the rounding of sums: each has its share of every global batch
(the draws are the global batch's), batch norm sees all of it, and so do the objectives, on z gathered from all with
gradients. Every process computes the whole loss, so the gradient of a weight before the gather is their sum over
processes divided by their number, which is what `DistributedDataParallel` does, and that of a weight behind it is
the same on all.
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

from ablation.specs import InvalidSpec

LATE = timedelta(hours=6)  # of a process that decodes images or evaluates while the others wait within a training
WAIT = timedelta(days=30)  # of the others, while one evaluates and writes


def asked_for() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def count() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def devices(device: str) -> float:
    """How many devices the processes have together: a GPU each, or the machines whose CPUs they share."""
    return count() if device.startswith("cuda") else count() / int(os.environ.get("LOCAL_WORLD_SIZE", count()))


_messages: list[distributed.ProcessGroup] = []  # of the group that is joined: through gloo, also between GPUs


@contextmanager
def together(device: str) -> Iterator[None]:
    """Joins the other processes that torchrun started; within, `rank` and `count` are theirs."""
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=LATE)
    _messages.append(distributed.new_group(backend="gloo", timeout=WAIT))
    try:
        yield
    finally:
        _messages.clear()
        distributed.destroy_process_group()


def tell(message: Any) -> Any:
    """What process 0 says, to all; the message itself where there is one process."""
    if count() == 1:
        return message
    box = [message]
    distributed.broadcast_object_list(box, src=0, group=_messages[0])
    return box[0]


def share(batch: Tensor) -> Tensor:
    """This process's rows of a global batch."""
    return batch.chunk(count())[rank()]


def check_batch(batch: int) -> None:
    if batch % count():
        raise InvalidSpec(
            f"Optimization.batch must be a multiple of the number of processes, {count()}, but got {batch}. Start "
            "another number with torchrun --nproc-per-node."
        )


def gather(z: Tensor) -> Tensor:
    """The global batch's z from each process's, in order; gradients flow back to where each row is from."""
    return z if count() == 1 else _Gathered.apply(z)


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z: Tensor) -> Tensor:
        parts = [torch.empty_like(z) for _ in range(count())]
        distributed.all_gather(parts, z.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return share(_sum(gradient))


class _Summed(torch.autograd.Function):
    """The sum over processes; so is the gradient, for each has a loss of its own that depends on it."""

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
    """Batch norm over the batches of all processes, for a CPU; `nn.SyncBatchNorm` is for GPUs only."""

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
        return (out * self.weight.view(shape) + self.bias.view(shape)).to(x.dtype)


def with_global_batch_norm(module: nn.Module) -> nn.Module:
    """The module, its batch norms exchanged in place for ones over all processes; parameters and names stay."""
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            norm = GlobalBatchNorm(child.num_features, child.eps, child.momentum)
            norm.weight, norm.bias = child.weight, child.bias
            norm.running_mean, norm.running_var = child.running_mean, child.running_var
            norm.num_batches_tracked = child.num_batches_tracked
            norm.train(child.training)
            setattr(module, name, norm)
        else:
            with_global_batch_norm(child)
    return module


class _Whole(nn.Module):
    """The objective as the forward pass of a module, as `DistributedDataParallel` needs it."""

    def __init__(self, learner: nn.Module, objective: Callable):
        super().__init__()
        self.learner, self.objective = learner, objective

    def forward(self, views: list[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.objective(self.learner, views, labels)


def parallel(learner: nn.Module, objective: Callable) -> Callable:
    """The objective; in a group, with batch norm over all processes and gradients averaged while they are computed."""
    if count() == 1:
        return objective
    on_gpu = next(learner.parameters()).device.type == "cuda"
    learner = (nn.SyncBatchNorm.convert_sync_batchnorm if on_gpu else with_global_batch_norm)(learner)
    with warnings.catch_warnings():  # torch 2.13 has another name for this, which earlier ones do not know
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
        whole = DistributedDataParallel(_Whole(learner, objective), broadcast_buffers=False)
    return lambda learner, views, labels: whole(views, labels)
