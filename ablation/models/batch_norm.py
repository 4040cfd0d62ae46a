"""Batch norm: recalibrated statistics, and statistics over parts of a batch."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from ablation.system.distributed import count, mean


def recalibrate_batch_norm(encoder: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replaces the running statistics by the mean over `batches` (one pass, equal weights).

    The running statistics come from augmented images, which penalizes operators that change the images' statistics
    (Sobel, noise, grey) for a reason other than the representation.
    """
    norms = [m for m in encoder.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    training = encoder.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
    encoder.train()
    with torch.no_grad():
        for images in batches:
            encoder(images)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    encoder.train(training)


class SplitBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over `splits` separate groups of a batch, each of neighbours in it (MoCo's CIFAR-10 code, where every
    eighth image belongs to a group, replaces shuffling between GPUs by this; batches are in random order, and
    neighbours lie side by side in memory). The running statistics are means over the groups.

    Each of several processes has its part of the batch, and so of the groups; its running statistics are those of its
    own groups until `average_statistics`.
    """

    splits = 8

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        self.num_batches_tracked += 1
        factor = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        groups = self.splits // count()
        share = factor / groups
        out = []
        for later, group in zip(reversed(range(groups)), _parts(x, groups), strict=True):
            # With the later groups' updates, each group ends with the same share of the running statistics.
            own = share / (1 - later * share)
            statistics = (self.running_mean, self.running_var)
            out.append(batch_norm(group, *statistics, self.weight, self.bias, True, own, self.eps))
        return torch.cat(out)


def _parts(x: Tensor, parts: int) -> tuple[Tensor, ...]:
    """`x.tensor_split(parts)`, whose gradient is one tensor; that of each part alone would be as large as x's."""
    sizes = [len(x) // parts + (number < len(x) % parts) for number in range(parts)]
    return x.split(sizes)


@torch.no_grad()
def average_statistics(module: nn.Module) -> None:
    """Sets the running statistics of split batch norms to their means over all processes. They are linear in the
    groups' statistics, so they may be averaged at any time after a step, all at once."""
    norms = [norm for norm in module.modules() if isinstance(norm, SplitBatchNorm)]
    if count() == 1 or not norms:
        return
    own = [statistics for norm in norms for statistics in (norm.running_mean, norm.running_var)]
    everywhere = mean(torch.cat(own)).split([len(each) for each in own])
    torch._foreach_copy_(own, everywhere)


def with_split_batch_norm(module: nn.Module, splits: int) -> nn.Module:
    """Replaces the module's batch norms in place by ones of `splits` groups; parameters and names stay."""
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            norm = SplitBatchNorm(child.num_features, child.eps, child.momentum)
            norm.load_state_dict(child.state_dict())
            norm.splits = splits
            setattr(module, name, norm)
        else:
            with_split_batch_norm(child, splits)
    return module
