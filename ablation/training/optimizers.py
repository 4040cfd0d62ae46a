"""Optimizers as specs, and LARS."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ablation.spec import Spec, added_later


@dataclass(frozen=True, kw_only=True)
class SGD(Spec):
    """Stochastic gradient descent with momentum. decays_all: weight decay on all parameters, as in most CIFAR recipes;
    False: none on biases and norms."""

    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    nesterov: bool = False
    decays_all: bool = added_later(default=True)

    def __post_init__(self):
        _check(self)
        self.require("nesterov", not self.nesterov or self.momentum > 0, "be False without momentum")
        self.require("decays_all", isinstance(self.decays_all, bool), "be True or False")

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(
            module.parameters() if self.decays_all else parameter_groups(module, self.weight_decay),
            lr=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
            fused=True,
        )
        # The fused kernel fails on parameters whose first gradient comes later than the others' (torch 2.13).
        if self.momentum:
            for parameter in module.parameters():
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer


@dataclass(frozen=True, kw_only=True)
class AdamW(Spec):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019); no decay on biases and norms."""

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-4

    def __post_init__(self):
        _check(self)

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        groups = parameter_groups(module, self.weight_decay)
        return torch.optim.AdamW(groups, lr=self.learning_rate, betas=self.betas, fused=True)


@dataclass(frozen=True, kw_only=True)
class Adam(Spec):
    """Adam (Kingma and Ba 2015); weight decay is part of the gradient, of all parameters, as in SwAV's CIFAR recipe."""

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0

    def __post_init__(self):
        _check(self)

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            module.parameters(), lr=self.learning_rate, betas=self.betas, weight_decay=self.weight_decay, fused=True
        )


@dataclass(frozen=True, kw_only=True)
class LARS(Spec):
    """Layer-wise adaptive rates (You et al. 2017); no adaptation or decay on biases and norms.

    Chen et al. 2020 use rate 0.3 x batch / 256, weight decay 1e-6, trust coefficient 0.001.

    adapts_all: adaptation and decay of biases and norms, too. exempt_rate: if not, their rate as a fraction of the
    others' (Barlow Twins' authors: 0.024). clips: the adapted rate of a layer is at most the plain one (LARC, as in
    solo-learn). nesterov: Nesterov's momentum.
    """

    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 1e-6
    trust: float = 0.001
    adapts_all: bool = added_later(default=False)
    exempt_rate: float = added_later(default=1.0)
    clips: bool = added_later(default=False)
    nesterov: bool = added_later(default=False)

    def __post_init__(self):
        _check(self)
        self.require_number("trust", 0, above=True)
        self.require_number("exempt_rate", 0)
        for name in ("adapts_all", "clips", "nesterov"):
            self.require(name, isinstance(getattr(self, name), bool), "be True or False")
        self.require("nesterov", not self.nesterov or self.momentum > 0, "be False without momentum")
        self.require(
            "exempt_rate", not self.adapts_all or self.exempt_rate == 1, "be 1 with adapts_all, which exempts nothing"
        )

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        groups = parameter_groups(module, self.weight_decay, vectors=self.adapts_all)
        groups[1]["lr"] = self.exempt_rate * self.learning_rate
        return LARSOptimizer(groups, self)


def _check(spec) -> None:
    spec.require_number("learning_rate", 0, above=True)
    spec.require_number("weight_decay", 0)
    if hasattr(spec, "momentum"):
        spec.require_number("momentum", 0, 1)
    if hasattr(spec, "betas"):
        good = isinstance(spec.betas, tuple) and len(spec.betas) == 2 and all(0 <= b < 1 for b in spec.betas)
        spec.require("betas", good, "be two numbers in [0, 1)")


def parameter_groups(module: nn.Module, weight_decay: float, vectors: bool = False) -> list[dict]:
    """Two groups: matrices and kernels with weight decay and adaptation; without them biases and norms (one dimension,
    unless `vectors` have them, too), and parameters whose attribute `decays` is False."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    decaying = {p for p in parameters if (vectors or p.ndim > 1) and getattr(p, "decays", True)}
    return [
        {"params": [p for p in parameters if p in decaying], "weight_decay": weight_decay, "adapt": True},
        {"params": [p for p in parameters if p not in decaying], "weight_decay": 0.0, "adapt": False},
    ]


class LARSOptimizer(torch.optim.Optimizer):
    """v <- m v + lr * r u, u = g + wd w, w <- w - v, with r = trust |w| / |u|, 1 where either is zero.

    r uses the norm of the decayed gradient, as in SimCLR's code (lars_optimizer.py); the rate is inside the
    momentum, so changing the rate does not rescale old updates. If it clips, r is min(1, trust |w| / (lr |u|)); with
    Nesterov's momentum w <- w - m v - lr * r u, with the new v.
    """

    def __init__(self, groups, spec: LARS):
        super().__init__(groups, {"lr": spec.learning_rate, "momentum": spec.momentum, "adapt": True})
        self.trust, self.clips, self.nesterov = spec.trust, spec.clips, spec.nesterov

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            # All tensors of the group at once: separate launches would make a GPU wait for the host.
            updates = torch._foreach_add([p.grad for p in parameters], parameters, alpha=group["weight_decay"])
            if group["adapt"]:
                weight_norm = torch.stack(torch._foreach_norm(parameters))
                update_norm = torch.stack(torch._foreach_norm(updates))
                ratio = self.trust * weight_norm / update_norm
                ratio = (ratio / group["lr"]).clamp(max=1) if self.clips else ratio
                ratio = torch.where((weight_norm > 0) & (update_norm > 0), ratio, torch.ones_like(ratio))
                torch._foreach_mul_(updates, ratio.unbind())
            for parameter in parameters:
                if "velocity" not in self.state[parameter]:
                    self.state[parameter]["velocity"] = torch.zeros_like(parameter)
            velocities = [self.state[p]["velocity"] for p in parameters]
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_add_(velocities, updates, alpha=group["lr"])
            if self.nesterov:
                torch._foreach_add_(parameters, velocities, alpha=-group["momentum"])
                torch._foreach_add_(parameters, updates, alpha=-group["lr"])
            else:
                torch._foreach_sub_(parameters, velocities)
