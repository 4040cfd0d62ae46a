"""One training by several processes, a GPU each (`torchrun ... -m ablation.cli run NAME`).

The processes together compute what one would, but for the rounding of sums: each has its share of every global batch
(the draws are the global batch's), batch norm sees all of it, and so do the objectives, on z gathered from all with
gradients. Every process computes the whole loss, so the gradient of a weight before the gather is their sum over
processes divided by their number, which is what `DistributedDataParallel` does, and that of a weight behind it is
the same on all.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_gather, all_reduce

from ablation.specs import InvalidSpec

WAIT = timedelta(days=30)  # of the others, while one evaluates and writes


def asked_for() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def count() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


@contextmanager
def together(device: str):
    """Joins the other processes; within, `rank` and `count` are theirs. Messages go through gloo, also between GPUs."""
    kind = "nccl" if device.startswith("cuda") else "gloo"
    distributed.init_process_group(kind)
    messages = distributed.new_group(backend="gloo", timeout=WAIT)
    try:
        yield messages
    finally:
        distributed.destroy_process_group()


def tell(message: Any, group) -> Any:
    """What process 0 says, to all."""
    box = [message]
    distributed.broadcast_object_list(box, src=0, group=group)
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
    return z if count() == 1 else torch.cat(all_gather(z))


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
        mean = all_reduce(wide.sum(dims)) / values
        centred = wide - mean.view(shape)
        variance = all_reduce(centred.square().sum(dims)) / values
        with torch.no_grad():
            self.num_batches_tracked += 1
            factor = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, factor)
            self.running_var.lerp_(variance * values / (values - 1), factor)
        out = centred * (variance + self.eps).rsqrt().view(shape)
        return (out * self.weight.view(shape) + self.bias.view(shape)).to(x.dtype)


def with_global_batch_norm(module: nn.Module) -> nn.Module:
    """The module, its batch norms exchanged in place for ones over all processes; parameters and names stay."""
    if next(module.parameters()).device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
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
